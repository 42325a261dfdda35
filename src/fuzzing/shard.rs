//! Sequences of operations on two shards: clients that say anything, callers that ask anything, a business that answers
//! anything, sockets that take what they like, in any order. Whatever happened, when all is over nothing is left and
//! everybody was answered exactly once.

mod publishing;

use std::collections::{HashMap, VecDeque};
use std::io::IoSlice;
use std::sync::Arc;

use bytes::Bytes;

use self::publishing::Published;
use super::Input8;
use crate::close::CloseCause;
use crate::config::{Config, Overrides};
use crate::engine::command::{
    CallbackFailure, CallbackOutcome, CallbackReply, CallbackRequest, CloseOrder, Command, Edit, Report,
};
use crate::engine::hook::Event;
use crate::engine::ids::{ClientId, IdentityKey, ShardId, Ticket};
use crate::engine::name::{Name, Space};
use crate::engine::query::{Detail, Page, Query};
use crate::engine::registry::HomeHash;
use crate::metrics::{CoreMetrics, Labels};
use crate::protocol::ListenerId;
use crate::shard::turn::{self, Length, Mail, Shell};
use crate::shard::{Input, Sent, Setup, Shard, Sockets};
use crate::time::{Duration, Instant};
use crate::wire::ws;

/// Operations looked at of one input.
const OPERATIONS_MAX: usize = 400;
pub(super) const CHANNELS: [&str; 3] = ["a", "b", "c"];
const CONNECT: &[u8] = b"GET /connect/?X-DEVICEID=d&X-CLIENT-OS=o HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\
Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
/// A client that speaks to clients, the last time when it goes.
const ENTER: &[u8] =
    b"GET /echo/?room=r&farewell=bye HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: a\r\n\r\n";

/// Runs the operations `data` stands for, ends everything, and looks at what is left.
pub fn shard_ops(data: &[u8]) {
    let mut world = World::new(data.first().copied().unwrap_or_default());
    let mut input = Input8(data.get(1..).unwrap_or_default());
    for _ in 0..OPERATIONS_MAX {
        let Some(operation) = input.byte() else { break };
        world.operate(operation, &mut input);
    }
    world.end();
}

/// Sockets whose far end reads as told.
#[derive(Default)]
struct Net {
    room: HashMap<ClientId, usize>,
    want_write: Vec<ClientId>,
    resumed: Vec<ClientId>,
}

impl Sockets for Net {
    fn send(&mut self, client: ClientId, parts: &[IoSlice<'_>]) -> Sent {
        let offered: usize = parts.iter().map(|part| part.len()).sum();
        let Some(room) = self.room.get_mut(&client) else {
            panic!("written after close")
        };
        let taken = offered.min(*room);
        *room -= taken;
        Sent::Taken(taken)
    }

    fn want_write(&mut self, client: ClientId) {
        self.want_write.push(client);
    }

    fn resume(&mut self, client: ClientId) {
        self.resumed.push(client);
    }

    fn finish(&mut self, client: ClientId) {
        assert!(self.room.contains_key(&client), "finished after close");
    }

    fn close(&mut self, client: ClientId) {
        assert!(self.room.remove(&client).is_some(), "closed twice");
    }
}

/// A shard of the world in its turn.
struct Turning<'a> {
    world: &'a mut World,
    shard: usize,
}

impl Shell for Turning<'_> {
    type Sockets = Net;

    fn shard(&mut self) -> (&mut Shard, &mut Net) {
        (&mut self.world.shards[self.shard], &mut self.world.nets[self.shard])
    }

    fn post(&mut self) {
        let Mail { commands, reports } = self.world.shards[self.shard].mail();
        let (commands, reports) = (std::mem::take(commands), std::mem::take(reports));
        for (target, command) in commands {
            self.world.post(target, command);
        }
        reports.into_iter().for_each(|report| self.world.on_report(report));
    }

    fn is_congested(&self) -> bool {
        false
    }
}

struct World {
    now: Instant,
    shards: Vec<Shard>,
    nets: Vec<Net>,
    mail: Vec<VecDeque<Command>>,
    clients: Vec<ClientId>,
    callbacks: VecDeque<CallbackRequest>,
    publishes: HashMap<Ticket, Published>,
    questions: HashMap<Ticket, u32>,
    admitted: HashMap<ClientId, u32>,
    closed: HashMap<ClientId, u32>,
    tickets: u64,
    drained: usize,
    home: HomeHash,
}

impl World {
    fn new(kind: u8) -> Self {
        let order = if kind & 1 == 0 { "none" } else { "client" };
        let text = format!(
            "[main]\nconnect_url=http://b/c\nforward_url=http://b/m/{{message_type}}\nclose_url=http://b/x\n\
             security_token=t\nworkers=2\nconnections_max=64\nforward_order={order}\nforward_queue=4\noutbox_bytes=64k\n\
             inflight_max=4\nchannels_max=2\necho=yes\n"
        );
        let (config, _) = Config::from_file_text("fuzz", &text, &Overrides::default()).expect("valid");
        let home = HomeHash::new(1, 2);
        let labels = Labels {
            close_causes: &CloseCause::LABELS,
            api_routes: &[],
        };
        let setup = |id: u16| Setup {
            id: ShardId(id),
            shards: 2,
            home: home.clone(),
            identities: IdentityKey::new(1, [1; 32]),
            started_unix_micros: 0,
            seed: 1,
            config: Arc::new(config.clone()),
            metrics: Arc::new(CoreMetrics::new(id.to_string(), labels)),
        };
        Self {
            now: Instant::from_micros(1),
            shards: (0..2).map(|id| Shard::new(setup(id))).collect(),
            nets: vec![Net::default(), Net::default()],
            mail: vec![VecDeque::new(), VecDeque::new()],
            clients: Vec::new(),
            callbacks: VecDeque::new(),
            publishes: HashMap::new(),
            questions: HashMap::new(),
            admitted: HashMap::new(),
            closed: HashMap::new(),
            tickets: 0,
            drained: 0,
            home,
        }
    }

    fn operate(&mut self, operation: u8, input: &mut Input8<'_>) {
        match operation % 14 {
            0 => self.accept(input.pick(2)),
            1..=4 => self.say(input),
            5 => {
                if let Some(id) = self.client(input) {
                    self.gone(id);
                }
            }
            6 | 7 => self.answer(input),
            8 => self.publish(input),
            9 => self.change_membership(input),
            10 => self.pass(Duration::from_millis(40 * input.pick(256) as u64)),
            11 => {
                if let Some(id) = self.client(input) {
                    let room = [0, 1, 10, 200, usize::MAX][input.pick(5)];
                    self.nets[id.shard.index()]
                        .room
                        .entry(id)
                        .and_modify(|left| *left = room);
                    self.writable(id.shard.index());
                }
            }
            12 => self.change_or_ask(input),
            _ => self.deliver(input.pick(2), 1 + input.pick(4)),
        }
    }

    fn accept(&mut self, shard: usize) {
        let now = self.now;
        if let Some(id) = self.shards[shard].on_accept(ListenerId::MAIN, now) {
            self.nets[shard].room.insert(id, usize::MAX);
            self.clients.push(id);
        }
    }

    fn client(&mut self, input: &mut Input8<'_>) -> Option<ClientId> {
        let at = input.pick(self.clients.len());
        self.clients.get(at).copied()
    }

    fn say(&mut self, input: &mut Input8<'_>) {
        let Some(id) = self.client(input) else { return };
        let key = [1, 2, 3, 4];
        let mut bytes = Vec::new();
        let message_id = input.byte().unwrap_or_default();
        match input.pick(10) {
            0 if message_id % 4 == 3 => bytes.extend_from_slice(ENTER),
            0 => bytes.extend_from_slice(CONNECT),
            1 => ws::client_frame(&mut bytes, true, ws::Opcode::Binary, key, &[0x10, 0, 7, b'p']),
            2 => ws::client_frame(
                &mut bytes,
                true,
                ws::Opcode::Binary,
                key,
                &[0x12, 0, 7, 0, message_id, b'p'],
            ),
            3 => ws::client_frame(
                &mut bytes,
                true,
                ws::Opcode::Binary,
                key,
                &[0x1c, 0, 7, 0, message_id, b'p'],
            ),
            4 => ws::client_frame(&mut bytes, true, ws::Opcode::Binary, key, &[0x20, 0, message_id, b'd']),
            5 => ws::client_frame(&mut bytes, true, ws::Opcode::Binary, key, &[0x30, 0, message_id]),
            6 => ws::client_frame(&mut bytes, true, ws::Opcode::Binary, key, &[0x40, 0, message_id]),
            7 => ws::client_frame(&mut bytes, true, ws::Opcode::Pong, key, b""),
            8 => ws::client_frame(&mut bytes, true, ws::Opcode::Close, key, &[3, 232]),
            _ => bytes = input.bytes(),
        }
        self.bytes(id, &mut bytes);
    }

    fn bytes(&mut self, id: ClientId, bytes: &mut [u8]) {
        let shard = id.shard.index();
        if !self.nets[shard].room.contains_key(&id) {
            return;
        }
        self.turn(shard, |shard, net, now| {
            if let Input::HandOver(..) = shard.on_bytes(id, bytes, now, net) {
                net.room.remove(&id);
            }
        });
    }

    fn gone(&mut self, id: ClientId) {
        let shard = id.shard.index();
        if self.nets[shard].room.contains_key(&id) {
            self.turn(shard, |shard, net, now| {
                shard.on_end(id, CloseCause::ClientGone, now, net)
            });
        }
    }

    fn answer(&mut self, input: &mut Input8<'_>) {
        let at = input.pick(self.callbacks.len());
        let Some(request) = self.callbacks.remove(at) else {
            return;
        };
        self.answered(request, outcome(input));
    }

    fn answered(&mut self, request: CallbackRequest, outcome: CallbackOutcome) {
        let CallbackRequest {
            client, token, hook, ..
        } = request;
        let yes = matches!(&outcome, CallbackOutcome::Answered(reply) if reply.is_success());
        if hook.event == Event::Connect && yes {
            *self.admitted.entry(client).or_default() += 1;
        }
        if hook.event != Event::Close {
            self.post(client.shard, Command::CallbackDone { client, token, outcome });
        }
    }

    fn change_membership(&mut self, input: &mut Input8<'_>) {
        let channel = Name::channel(CHANNELS[input.pick(3)].as_bytes());
        let Some(client) = self.client(input) else { return };
        let ticket = self.question();
        let home = self.home.home_of(&channel);
        match input.pick(3) {
            0 => self.post(
                client.shard,
                Command::Join {
                    client,
                    channel,
                    ticket,
                },
            ),
            1 => self.post(
                client.shard,
                Command::Leave {
                    client,
                    channel,
                    ticket,
                },
            ),
            _ => self.post(
                home,
                Command::Occupy {
                    channel,
                    client: Some(client),
                    ticket,
                },
            ),
        }
    }

    /// A caller closes a client, changes it, or asks about it.
    fn change_or_ask(&mut self, input: &mut Input8<'_>) {
        let Some(client) = self.client(input) else { return };
        let (shard, ticket) = (client.shard, self.question());
        let command = match input.pick(6) {
            0 => Command::Unbind {
                client,
                space: Space::USER,
                ticket,
            },
            1 => Command::Edit {
                client,
                edit: Edit {
                    verb: input.byte().unwrap_or_default(),
                    patch: input.bytes().into(),
                },
                ticket,
            },
            2 => Command::Close {
                client,
                order: Box::new(order(input)),
                ticket,
            },
            3 => Command::Close {
                client,
                order: Box::new(CloseOrder::new(CloseCause::Kicked)),
                ticket,
            },
            _ => Command::Query {
                query: Arc::new(query(client, input)),
                cursor: [0, 1, 2, u64::MAX][input.pick(4)],
                max: [0, 1, u32::MAX][input.pick(3)],
                ticket,
            },
        };
        self.post(shard, command);
    }

    fn question(&mut self) -> Ticket {
        let ticket = self.ticket();
        self.questions.insert(ticket, 0);
        ticket
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket {
            serial: self.tickets,
            ..Ticket::default()
        }
    }

    fn post(&mut self, shard: ShardId, command: Command) {
        self.mail[shard.index()].push_back(command);
    }

    fn deliver(&mut self, shard: usize, count: usize) {
        let count = count.min(self.mail[shard].len());
        let mail: Vec<_> = self.mail[shard].drain(..count).collect();
        self.turn(shard, |shard, net, now| {
            mail.into_iter().for_each(|command| shard.on_command(command, now, net));
        });
    }

    fn writable(&mut self, shard: usize) {
        for id in std::mem::take(&mut self.nets[shard].want_write) {
            match self.nets[shard].room.get(&id) {
                Some(0) => self.nets[shard].want_write.push(id),
                Some(_) => self.shards[shard].on_writable(id),
                None => {}
            }
        }
        self.turn(shard, |_, _, _| ());
    }

    fn pass(&mut self, span: Duration) {
        self.now = self.now + span;
        for shard in 0..self.shards.len() {
            self.turn(shard, |shard, net, now| while shard.on_tick(now, net) {});
        }
    }

    /// A turn, and those that follow from it at once.
    fn turn(&mut self, shard: usize, call: impl FnOnce(&mut Shard, &mut Net, Instant)) {
        let now = self.now;
        let mut more = turn::turn(&mut Turning { world: self, shard }, Length::Long, now, call).more;
        while more {
            more = turn::turn(&mut Turning { world: self, shard }, Length::Long, now, |_, _, _| ()).more;
        }
    }

    fn on_report(&mut self, report: Report) {
        match report {
            Report::Published { ticket, shards } => {
                let publish = self.publishes.get_mut(&ticket).expect("a publish of ours");
                publish.on_published(shards);
            }
            Report::Part(part) => {
                let publish = self.publishes.get_mut(&part.ticket).expect("a publish of ours");
                publish.on_part(&part, self.clients.len());
            }
            Report::Online { .. } => panic!("nobody asked"),
            Report::Done { ticket, .. } => *self.questions.get_mut(&ticket).expect("a question of ours") += 1,
            Report::Callback(request) => {
                if request.hook.event == Event::Close {
                    *self.closed.entry(request.client).or_default() += 1;
                }
                self.callbacks.push_back(request);
            }
            Report::Told { ticket, page, next } => {
                let is_empty = matches!(&page, Page::Members(members) if members.is_empty());
                assert!(!is_empty || next.is_none(), "a walk that stands still");
                *self.questions.get_mut(&ticket).expect("a question of ours") += 1;
            }
            Report::Drained { .. } => self.drained += 1,
        }
    }

    /// Ends everything and checks that nothing is left.
    fn end(mut self) {
        for shard in 0..2 {
            self.post(ShardId(shard), Command::Drain);
        }
        for _ in 0..200 {
            for shard in 0..2 {
                self.nets[shard].room.values_mut().for_each(|room| *room = usize::MAX);
                self.deliver(shard, usize::MAX);
                self.writable(shard);
            }
            while let Some(request) = self.callbacks.pop_front() {
                self.answered(request, reply(500, None));
            }
            self.pass(Duration::from_secs(1));
        }
        assert_eq!(self.drained, 2, "a shard is not empty");
        for shard in &self.shards {
            assert_eq!(shard.debug_panics(), 0, "a panic was contained");
            let counts = shard.debug_counts();
            assert_eq!((counts.clients, counts.deliveries, counts.memberships), (0, 0, 0));
            assert_eq!((counts.interests, counts.timers), (0, 0));
        }
        assert_eq!(
            self.admitted, self.closed,
            "one close callback for each admitted client"
        );
        for (ticket, publish) in &self.publishes {
            publish.check(*ticket);
        }
        assert!(
            self.questions.values().all(|answers| *answers == 1),
            "one answer for each question"
        );
        assert!(
            self.nets.iter().all(|net| net.room.is_empty()),
            "a socket was left open"
        );
    }
}

/// Any order to close, also what no caller should ask for.
fn order(input: &mut Input8<'_>) -> CloseOrder {
    let code = [1000, 1006, 4001, 0][input.pick(4)];
    CloseOrder {
        code: Some(code),
        reason: input.bytes().into(),
        farewell: (input.pick(2) == 0).then(|| (7, vec![b'f'; input.pick(256) * 300].into())),
        force: input.pick(4) == 0,
        ..CloseOrder::new(CloseCause::ALL[input.pick(CloseCause::ALL.len())])
    }
}

fn query(client: ClientId, input: &mut Input8<'_>) -> Query {
    let name = Name::channel(CHANNELS[input.pick(3)].as_bytes());
    match input.pick(4) {
        0 => Query::Client { client },
        1 => Query::Members {
            name,
            detail: Detail {
                data: true,
                names: Some(Space::CHANNEL),
            },
        },
        2 => Query::Names { space: Space::CHANNEL },
        _ => Query::Count { names: vec![name] },
    }
}

/// What a call to the business server comes to.
pub(super) fn outcome(input: &mut Input8<'_>) -> CallbackOutcome {
    match input.pick(6) {
        0 => CallbackOutcome::Failed(CallbackFailure::TimedOut),
        1 => reply(500, None),
        2 => reply(200, None),
        channel => reply(200, CHANNELS.get(channel - 3).copied()),
    }
}

pub(super) fn reply(status: u16, channel: Option<&str>) -> CallbackOutcome {
    let header = |name: &str| {
        (
            Bytes::from("rainbowclientchannel"),
            Bytes::copy_from_slice(name.as_bytes()),
        )
    };
    CallbackOutcome::Answered(CallbackReply {
        status,
        headers: channel.map(header).into_iter().collect(),
        body: Bytes::from_static(b"{\"status\": \"success\"}"),
    })
}
