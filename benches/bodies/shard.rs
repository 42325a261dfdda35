//! A whole shard over sockets that take everything at once: what the server itself adds to the system calls.

use std::cell::RefCell;
use std::hint::black_box;
use std::io::IoSlice;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use rainbow_server::close::CloseCause;
use rainbow_server::engine::command::{
    AtDeadline, CallbackOutcome, CallbackReply, Command, Publish, Qos, Report, Target,
};
use rainbow_server::engine::ids::{ClientId, IdentityKey, ShardId};
use rainbow_server::engine::name::Name;
use rainbow_server::engine::receipt::Tickets;
use rainbow_server::engine::registry::HomeHash;
use rainbow_server::metrics::{CoreMetrics, Labels};
use rainbow_server::protocol::ListenerId;
use rainbow_server::protocol::rainbow::packet::{Form, Packet};
use rainbow_server::shard::turn::{self, Length, Shell};
use rainbow_server::shard::{Sent, Setup, Shard, Sockets};
use rainbow_server::time::{Duration, Instant};
use rainbow_server::wire::ws::{Opcode, client_frame};

use super::{Body, Sizes};

const NOW: Instant = Instant::from_micros(1_000_000);
const CHANNEL: &[u8] = b"bench";
/// Takes everything, remembers the last bytes per kind of use.
#[derive(Default)]
struct Sink {
    bytes: usize,
    /// Ids of QoS 1 messages by slot, to be acknowledged.
    ids: Vec<(u32, u16)>,
    wants_ids: bool,
}

impl Sockets for Sink {
    fn send(&mut self, client: ClientId, parts: &[IoSlice<'_>]) -> Sent {
        let sum = parts.iter().map(|part| part.len()).sum();
        self.bytes += sum;
        if self.wants_ids
            && let Some(Ok(Packet::Send { id, .. })) =
                parts[0].get(2..).map(|packet| Packet::decode(packet, Form::Binary))
        {
            self.ids.push((client.slot, id));
        }
        Sent::Taken(sum)
    }
    fn want_write(&mut self, _: ClientId) {}
    fn resume(&mut self, _: ClientId) {}
    fn finish(&mut self, _: ClientId) {}
    fn close(&mut self, _: ClientId) {}
}

impl Shell for World {
    type Sockets = Sink;

    fn shard(&mut self) -> (&mut Shard, &mut Sink) {
        (&mut self.shard, &mut self.sink)
    }

    fn post(&mut self) {
        self.reports.append(self.shard.mail().reports);
    }

    fn is_congested(&self) -> bool {
        false
    }
}

/// A shard with open clients in one channel.
struct World {
    shard: Shard,
    sink: Sink,
    clients: Vec<ClientId>,
    tickets: Tickets,
    reports: Vec<Report>,
}

impl World {
    fn new(members: u32) -> Self {
        let labels = Labels {
            close_causes: &CloseCause::LABELS,
            api_routes: &[],
        };
        let setup = Setup {
            id: ShardId(0),
            shards: 1,
            home: HomeHash::new(1, 1),
            identities: IdentityKey::new(7, [3; 32]),
            started_unix_micros: 1_700_000_000_000_000,
            seed: 1,
            config: Arc::new(super::config()),
            metrics: Arc::new(CoreMetrics::new("0", labels)),
        };
        let mut world = Self {
            shard: Shard::new(setup),
            sink: Sink::default(),
            clients: Vec::new(),
            tickets: Tickets::default(),
            reports: Vec::new(),
        };
        (0..members).for_each(|_| world.open());
        world
    }

    fn turn(&mut self) {
        while turn::turn(self, Length::Long, NOW, |_, _, _| ()).more {}
    }

    fn reports(&mut self) -> std::vec::Drain<'_, Report> {
        self.reports.drain(..)
    }

    fn open(&mut self) {
        let mut head = b"GET /connect/ HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nX-DEVICEID: d\r\nX-CLIENT-OS: o\r\n\r\n"
            .to_vec();
        let Some(client) = self.shard.on_accept(ListenerId::MAIN, NOW) else {
            panic!("the shard has room");
        };
        self.shard.on_bytes(client, &mut head, NOW, &mut self.sink);
        self.turn();
        let token = self.reports().find_map(|report| match report {
            Report::Callback(request) => Some(request.token),
            _ => None,
        });
        let reply = CallbackReply {
            status: 200,
            headers: vec![(Bytes::from_static(b"rainbowclientchannel"), Bytes::from_static(CHANNEL))],
            body: Bytes::from_static(b"{\"status\": \"success\"}"),
        };
        let done = Command::CallbackDone {
            client,
            token: token.unwrap_or_default(),
            outcome: CallbackOutcome::Answered(reply),
        };
        self.shard.on_command(done, NOW, &mut self.sink);
        self.turn();
        self.clients.push(client);
    }

    /// Puts half of the clients into another channel too.
    fn join_half(&mut self, channel: &Name) {
        for client in self.clients.iter().step_by(2) {
            let (client, channel, ticket) = (*client, channel.clone(), self.tickets.issue());
            let join = Command::Join {
                client,
                channel,
                ticket,
            };
            self.shard.on_command(join, NOW, &mut self.sink);
        }
        self.turn();
        self.reports().for_each(drop);
    }

    fn publish(&mut self, qos: Qos) {
        self.publish_to(Name::channel(CHANNEL), qos);
    }

    fn publish_to(&mut self, to: impl Into<Target>, qos: Qos) {
        self.publish_but(to, Vec::new(), qos);
    }

    fn publish_but(&mut self, to: impl Into<Target>, except: Vec<ClientId>, qos: Qos) {
        let publish = Publish {
            ticket: self.tickets.issue(),
            to: to.into(),
            except: except.into(),
            tag: 1,
            qos,
            tell: qos.tell(),
            payload: Bytes::from_static(&[b'x'; 64]),
            retries: 3,
            retry_interval: Duration::from_secs(3),
            deadline: Instant::from_micros(11_000_000),
            at_deadline: AtDeadline::TimedOut,
            tells_online: false,
        };
        self.shard
            .on_command(Command::Deliver(Arc::new(publish), 1), NOW, &mut self.sink);
    }
}

pub fn bodies(sizes: Sizes) -> Vec<Body> {
    let world = Rc::new(RefCell::new(World::new(sizes.members)));
    let (fanout, burst, many) = (world.clone(), world.clone(), world.clone());
    let but = world.clone();
    let both = [Name::channel(CHANNEL), Name::channel(b"also")];
    let twice = Rc::new(RefCell::new(World::new(sizes.members)));
    twice.borrow_mut().join_half(&both[1]);
    twice.borrow_mut().sink.bytes = 0;
    let (connect, acked, echo) = (world.clone(), world.clone(), world);
    let channels: Vec<_> = (100..228)
        .map(|number| Name::channel(format!("room {number}").as_bytes()))
        .collect();
    let mut rel = Vec::new();
    client_frame(&mut rel, true, Opcode::Binary, [1, 2, 3, 4], &[0x40, 0, 1]);
    vec![
        Body::new("shard fanout 1000", move || {
            let world = &mut *fanout.borrow_mut();
            world.publish(Qos::AtMostOnce);
            world.turn();
            assert!(std::mem::take(&mut world.sink.bytes) >= 67 * world.clients.len());
            world.reports().for_each(drop);
        }),
        Body::new("shard fanout 1000, burst of 10", move || {
            let world = &mut *burst.borrow_mut();
            (0..10).for_each(|_| world.publish(Qos::AtMostOnce));
            world.turn();
            assert!(std::mem::take(&mut world.sink.bytes) >= 670 * world.clients.len());
            world.reports().for_each(drop);
        }),
        Body::new("shard fanout 1000, but for 10", move || {
            let world = &mut *but.borrow_mut();
            let except = world.clients.iter().copied().step_by(100).collect();
            world.publish_but(Name::channel(CHANNEL), except, Qos::AtMostOnce);
            world.turn();
            assert!(std::mem::take(&mut world.sink.bytes) >= 67 * (world.clients.len() - 10));
            world.reports().for_each(drop);
        }),
        Body::new("shard fanout 1000 of two channels", move || {
            let world = &mut *twice.borrow_mut();
            world.publish_to(Target::any(both.to_vec(), Vec::new()), Qos::AtMostOnce);
            world.turn();
            assert_eq!(
                std::mem::take(&mut world.sink.bytes) / world.clients.len() / 10,
                6,
                "each once"
            );
            world.reports().for_each(drop);
        }),
        Body::new("shard 128 publishes to 128 channels", move || {
            let world = &mut *many.borrow_mut();
            for channel in &channels {
                world.publish_to(channel.clone(), Qos::AtMostOnce);
            }
            world.turn();
            world.reports().for_each(drop);
        }),
        Body::new("shard connect and leave", move || {
            let world = &mut *connect.borrow_mut();
            world.open();
            let client = world.clients.pop().expect("it was opened");
            world.shard.on_end(client, CloseCause::ClientGone, NOW, &mut world.sink);
            world.turn();
            world.reports().for_each(drop);
        }),
        Body::new("shard acked 1000", move || acknowledge(&mut acked.borrow_mut())),
        Body::new("shard echo", move || {
            let world = &mut *echo.borrow_mut();
            let mut bytes = [0; 9];
            bytes.copy_from_slice(&rel);
            let client = world.clients[0];
            black_box(world.shard.on_bytes(client, &mut bytes, NOW, &mut world.sink));
            world.turn();
            assert_eq!(std::mem::take(&mut world.sink.bytes), 5);
        }),
    ]
}

/// One QoS 1 publish, acknowledged by everybody.
fn acknowledge(world: &mut World) {
    world.sink.wants_ids = true;
    world.publish(Qos::AtLeastOnce);
    world.turn();
    world.sink.wants_ids = false;
    let ids = std::mem::take(&mut world.sink.ids);
    assert_eq!(ids.len(), world.clients.len());
    for (slot, id) in &ids {
        let [high, low] = id.to_be_bytes();
        // Masked with zeros.
        let mut ack = [0x82, 0x83, 0, 0, 0, 0, 0x20, high, low];
        let client = world.clients[*slot as usize];
        world.shard.on_bytes(client, &mut ack, NOW, &mut world.sink);
        let _ = turn::turn(world, Length::Long, NOW, |_, _, _| ());
    }
    world.sink.ids = ids;
    world.sink.ids.clear();
    world.sink.bytes = 0;
    let answered = world
        .reports()
        .filter(|report| matches!(report, Report::Part(part) if part.done > 0))
        .count();
    assert_eq!(answered, 1);
}
