//! The bench of the frame scripts: shards whose mailboxes deliver at once and in order, a clock the script moves, a
//! business the script answers for.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use rainbow_server::close::CloseCause;
use rainbow_server::config::{Config, Overrides};
use rainbow_server::engine::command::{
    AtDeadline, CallbackFailure, CallbackOutcome, CallbackReply, CallbackRequest, ClientSet, Command, Done, Part,
    Publish, Qos, Report,
};
use rainbow_server::engine::hook::Event;
use rainbow_server::engine::ids::{ClientId, IdentityKey, ShardId, Ticket};
use rainbow_server::engine::name::Name;
use rainbow_server::engine::query::Page;
use rainbow_server::engine::registry::{HomeHash, Presence};
use rainbow_server::metrics::{CoreMetrics, Labels};
use rainbow_server::protocol::ListenerId;
use rainbow_server::shard::turn::{self, Length, Mail, Shell, Turned};
use rainbow_server::shard::{Input, Setup, Shard};
use rainbow_server::time::{Duration, Instant};

use super::net::{Net, Socket};
use super::wire::{self, Frame, Packet};

pub fn config(lines: &str) -> Config {
    let text = format!(
        "[main]\nconnect_url=http://b/connect/\nforward_url=http://b/message/{{message_type}}/\nclose_url=http://b/close/\n\
         security_token=t\nworkers=1\nconnections_max=100000\n{lines}\n"
    );
    Config::from_file_text("sim", &text, &Overrides::default())
        .expect("the settings are valid")
        .0
}

pub fn metrics(count: usize) -> Vec<Arc<CoreMetrics>> {
    let labels = Labels {
        close_causes: &CloseCause::LABELS,
        api_routes: &[],
    };
    (0..count)
        .map(|id| Arc::new(CoreMetrics::new(id.to_string(), labels)))
        .collect()
}

pub fn shards(metrics: &[Arc<CoreMetrics>], seed: u64, config: &Config) -> Vec<Shard> {
    let count = metrics.len();
    let setup = |id: usize| Setup {
        id: ShardId(id as u16),
        shards: count,
        home: HomeHash::new(seed, count),
        identities: IdentityKey::new(7, [3; 32]),
        started_unix_micros: 1_700_000_000_000_000,
        seed,
        config: Arc::new(config.clone()),
        metrics: metrics[id].clone(),
    };
    (0..count).map(|id| Shard::new(setup(id))).collect()
}

pub fn channel(name: &str) -> Name {
    Name::channel(name.as_bytes())
}

/// The rules of spec section 8, from the table.
pub fn retries_of(timeout_secs: u64) -> (u32, AtDeadline) {
    let retries = timeout_secs.saturating_sub(1) / 3;
    (
        retries as u32,
        if timeout_secs.is_multiple_of(3) {
            AtDeadline::Failed
        } else {
            AtDeadline::TimedOut
        },
    )
}

pub fn reply(status: u16, headers: &[(&'static str, &str)], body: &str) -> CallbackOutcome {
    let header = |(name, value): &(&'static str, &str)| (Bytes::from_static(name.as_bytes()), value.to_string().into());
    CallbackOutcome::Answered(CallbackReply {
        status,
        headers: headers.iter().map(header).collect(),
        body: body.to_string().into(),
    })
}

pub const ADMITTED: &str = "{\"status\": \"success\"}";

pub struct Rig {
    pub now: Instant,
    pub shards: Vec<Shard>,
    pub nets: Vec<Net>,
    pub callbacks: VecDeque<CallbackRequest>,
    pub parts: Vec<Part>,
    pub published: HashMap<Ticket, u32>,
    pub done: HashMap<Ticket, Done>,
    pub told: Vec<(Page, Option<u64>)>,
    pub online: Vec<(Ticket, Vec<Presence>)>,
    pub drained: usize,
    pub home: HomeHash,
    mail: Vec<VecDeque<Command>>,
    more: Vec<bool>,
    tickets: u64,
    /// Panics planted so far.
    pub panics: u64,
    /// Mail of the shards waits for room.
    pub corked: bool,
}

/// A shard of the rig in its turn.
struct Turning<'a> {
    rig: &'a mut Rig,
    index: usize,
}

impl Shell for Turning<'_> {
    type Sockets = Net;

    fn shard(&mut self) -> (&mut Shard, &mut Net) {
        (&mut self.rig.shards[self.index], &mut self.rig.nets[self.index])
    }

    fn post(&mut self) {
        self.rig.collect(self.index);
    }

    fn is_congested(&self) -> bool {
        self.rig.corked
    }
}

impl Rig {
    pub fn new(count: usize) -> Self {
        Self::with(count, "")
    }

    pub fn with(count: usize, lines: &str) -> Self {
        Self {
            now: Instant::from_micros(1_000_000),
            shards: shards(&metrics(count), 5, &config(lines)),
            nets: (0..count).map(|_| Net::default()).collect(),
            callbacks: VecDeque::new(),
            parts: Vec::new(),
            published: HashMap::new(),
            done: HashMap::new(),
            told: Vec::new(),
            online: Vec::new(),
            drained: 0,
            home: HomeHash::new(5, count),
            mail: (0..count).map(|_| VecDeque::new()).collect(),
            more: vec![false; count],
            tickets: 0,
            panics: 0,
            corked: false,
        }
    }

    /// A channel whose home is `shard`.
    pub fn channel_at(&self, shard: usize) -> String {
        let names = (0..).map(|n| format!("at-{shard}-{n}"));
        names
            .into_iter()
            .find(|name| self.home.home_of(&channel(name)) == ShardId(shard as u16))
            .unwrap()
    }

    /// A long turn of one shard, as in the shell.
    pub fn turn<R>(&mut self, at: ShardId, call: impl FnOnce(&mut Shard, &mut Net, Instant) -> R) -> R {
        self.turn_of(Length::Long, at, call)
    }

    pub fn turn_of<R>(
        &mut self,
        length: Length,
        at: ShardId,
        call: impl FnOnce(&mut Shard, &mut Net, Instant) -> R,
    ) -> R {
        let (index, now) = (at.index(), self.now);
        let Turned { result, more } = turn::turn(&mut Turning { rig: self, index }, length, now, call);
        self.more[index] = more;
        assert!(
            self.shards[index].debug_panics() <= self.panics,
            "a panic that no script planted"
        );
        result
    }

    fn collect(&mut self, index: usize) {
        let Mail { commands, reports } = self.shards[index].mail();
        let (commands, reports) = (std::mem::take(commands), std::mem::take(reports));
        for (target, command) in commands {
            self.mail[target.index()].push_back(command);
        }
        for report in reports {
            match report {
                Report::Callback(request) => self.callbacks.push_back(request),
                Report::Part(part) => {
                    let told = self.published.entry(part.ticket).or_insert(part.shards);
                    assert_eq!(*told, part.shards, "every part tells the same number of shards");
                    self.parts.push(part);
                }
                Report::Published { ticket, shards } => {
                    assert!(self.published.insert(ticket, shards).is_none());
                }
                Report::Online { ticket, platforms, .. } => self.online.push((ticket, platforms)),
                Report::Done { ticket, done } => assert!(self.done.insert(ticket, done).is_none()),
                Report::Told { page, next, .. } => self.told.push((page, next)),
                Report::Drained { .. } => self.drained += 1,
            }
        }
    }

    /// Runs until no mail is left and no shard has more to do.
    pub fn settle(&mut self) {
        loop {
            let busy = |index: &usize| self.more[*index] || !self.mail[*index].is_empty();
            let Some(index) = (0..self.shards.len()).find(busy) else {
                return;
            };
            self.step(index);
        }
    }

    /// One turn with all the mail of one shard.
    pub fn step(&mut self, index: usize) {
        let mail = std::mem::take(&mut self.mail[index]);
        self.batch(index, mail);
    }

    pub fn batch(&mut self, index: usize, mail: impl IntoIterator<Item = Command>) {
        self.turn(ShardId(index as u16), |shard, net, now| {
            mail.into_iter().for_each(|command| shard.on_command(command, now, net));
        });
    }

    /// Whether a shard asked to be called again.
    pub fn has_more(&self, index: usize) -> bool {
        self.more[index]
    }

    /// Puts a command into a mailbox without running anything.
    pub fn post(&mut self, shard: ShardId, command: Command) {
        self.mail[shard.index()].push_back(command);
    }

    pub fn run(&mut self, shard: ShardId, command: Command) {
        self.post(shard, command);
        self.settle();
    }

    pub fn advance(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let due = self
                .shards
                .iter()
                .filter_map(Shard::next_deadline)
                .min()
                .filter(|due| *due <= end);
            let Some(due) = due else { break };
            self.now = self.now.max(due);
            for index in 0..self.shards.len() {
                while self.turn(ShardId(index as u16), |shard, net, now| shard.on_tick(now, net)) {}
            }
            self.settle();
        }
        self.now = end;
    }

    pub fn secs(&mut self, secs: u64) {
        self.advance(Duration::from_secs(secs));
    }

    // Clients.

    pub fn accept(&mut self, shard: u16) -> ClientId {
        self.accept_at(ListenerId::MAIN, shard)
    }

    pub fn accept_at(&mut self, listener: ListenerId, shard: u16) -> ClientId {
        let now = self.now;
        let id = self.shards[usize::from(shard)]
            .on_accept(listener, now)
            .expect("accepted");
        self.nets[usize::from(shard)].sockets.insert(id, Socket::default());
        id
    }

    pub fn bytes(&mut self, id: ClientId, bytes: &[u8]) -> Input {
        let mut bytes = bytes.to_vec();
        let input = self.turn(id.shard, |shard, net, now| shard.on_bytes(id, &mut bytes, now, net));
        self.settle();
        input
    }

    pub fn end(&mut self, id: ClientId) {
        self.turn(id.shard, |shard, net, now| {
            shard.on_end(id, CloseCause::ClientGone, now, net)
        });
        self.settle();
    }

    /// Gives a socket room and tells the shard, if it waits.
    pub fn make_room(&mut self, id: ClientId, room: usize) {
        self.socket(id).room = room;
        if std::mem::take(&mut self.socket(id).want_write) {
            self.turn(id.shard, |shard, _, _| shard.on_writable(id));
            self.settle();
        }
    }

    pub fn socket(&mut self, id: ClientId) -> &mut Socket {
        self.nets[id.shard.index()]
            .sockets
            .get_mut(&id)
            .expect("a known client")
    }

    /// Connects and admits a client into `channels`.
    pub fn connect(&mut self, shard: u16, channels: &[&str]) -> ClientId {
        let id = self.accept(shard);
        assert_eq!(self.bytes(id, &wire::connect_request("d")), Input::Continue);
        let request = self.callback(Event::Connect);
        assert_eq!(request.client, id);
        self.answer(
            &request,
            reply(200, &[("rainbowclientchannel", &channels.join(";;"))], ADMITTED),
        );
        assert_eq!(self.status(id), 101);
        id
    }

    /// The status of the HTTP answer a client got.
    pub fn status(&mut self, id: ClientId) -> u16 {
        wire::take_answer(&mut self.socket(id).out).expect("an answer").0
    }

    /// The frames a client got since the last look.
    pub fn frames(&mut self, id: ClientId) -> Vec<Frame> {
        wire::take_frames(&mut self.socket(id).out).expect("valid frames")
    }

    pub fn packets(&mut self, id: ClientId) -> Vec<Packet> {
        let packet = |frame| match frame {
            Frame::Packet(packet) => packet,
            other => panic!("{other:?} instead of a packet"),
        };
        self.frames(id).into_iter().map(packet).collect()
    }

    // The business.

    /// The next callback, which has to be one about `event`.
    pub fn callback(&mut self, event: Event) -> CallbackRequest {
        let request = self
            .callbacks
            .pop_front()
            .unwrap_or_else(|| panic!("no {event:?} callback"));
        assert_eq!(request.hook.event, event);
        request
    }

    pub fn message(&mut self) -> CallbackRequest {
        self.callback(Event::Message)
    }

    pub fn answer(&mut self, request: &CallbackRequest, outcome: CallbackOutcome) {
        let command = Command::CallbackDone {
            client: request.client,
            token: request.token,
            outcome,
        };
        self.run(request.client.shard, command);
    }

    pub fn answer_ok(&mut self, request: &CallbackRequest, body: &str) {
        self.answer(request, reply(200, &[], body));
    }

    pub fn answer_failed(&mut self, request: &CallbackRequest) {
        self.answer(request, CallbackOutcome::Failed(CallbackFailure::TimedOut));
    }

    // The API.

    pub fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket {
            serial: self.tickets,
            ..Ticket::default()
        }
    }

    pub fn publish_command(&mut self, name: &str, qos: Qos, payload: &[u8], timeout_secs: u64) -> (Ticket, Command) {
        let ticket = self.ticket();
        let (retries, at_deadline) = retries_of(timeout_secs);
        let publish = Publish {
            ticket,
            to: channel(name).into(),
            except: ClientSet::default(),
            tag: 1,
            qos,
            tell: qos.tell(),
            payload: Bytes::copy_from_slice(payload),
            retries,
            retry_interval: Duration::from_secs(3),
            deadline: self.now + Duration::from_secs(timeout_secs),
            at_deadline,
            tells_online: false,
        };
        (ticket, Command::Publish(Arc::new(publish)))
    }

    pub fn publish(&mut self, name: &str, qos: Qos, payload: &[u8], timeout_secs: u64) -> Ticket {
        let (ticket, command) = self.publish_command(name, qos, payload, timeout_secs);
        self.run(self.home.home_of(&channel(name)), command);
        ticket
    }

    pub fn ask(&mut self, shard: ShardId, command: impl FnOnce(Ticket) -> Command) -> bool {
        self.change(shard, command).is_so()
    }

    pub fn change(&mut self, shard: ShardId, command: impl FnOnce(Ticket) -> Command) -> Done {
        let ticket = self.ticket();
        self.run(shard, command(ticket));
        self.done.remove(&ticket).expect("an answer")
    }

    pub fn join(&mut self, client: ClientId, name: &str) -> bool {
        self.ask(client.shard, |ticket| Command::Join {
            client,
            channel: channel(name),
            ticket,
        })
    }

    pub fn leave(&mut self, client: ClientId, name: &str) -> bool {
        self.ask(client.shard, |ticket| Command::Leave {
            client,
            channel: channel(name),
            ticket,
        })
    }

    pub fn occupy(&mut self, name: &str, client: Option<ClientId>) -> bool {
        let home = self.home.home_of(&channel(name));
        self.ask(home, |ticket| Command::Occupy {
            channel: channel(name),
            client,
            ticket,
        })
    }

    /// The only part of a publish, as (done, failed, silent, data).
    pub fn part(&mut self, ticket: Ticket) -> Option<(u32, u32, u32, String)> {
        let of_ticket: Vec<_> = self.parts.iter().filter(|part| part.ticket == ticket).collect();
        assert!(of_ticket.len() <= 1, "one part per shard: {of_ticket:?}");
        of_ticket.first().map(|part| {
            let data = part
                .data
                .as_ref()
                .map_or("", |(_, data)| std::str::from_utf8(data).unwrap());
            (part.done, part.failed, part.silent, data.to_string())
        })
    }
}
