//! A realistic hour in a minute, open loop: clients in rooms of ten and in one channel for all, publishes to rooms with and
//! without acknowledgement, now and then one to everybody, messages of clients, clients that leave and come back. One
//! operation is one event of the timetable; latencies are those of the acknowledged publishes, from when they were due.

use std::time::{Duration, Instant};

use rainbow_server::protocol::rainbow::packet::Packet;

use super::calls::Calling;
use super::{Case, Work};
use crate::Failure;
use crate::net::{Lane, Load};
use crate::options::Options;
use crate::results::{Round, histogram};
use crate::rig::Rig;
use crate::wire::{self, Send, push_packet};

const CALLERS: usize = 32;
const ROOM: usize = 10;
/// Events per second.
const RATE: f64 = 2000.0;

/// Parameters.
#[derive(Clone, Copy, Debug)]
pub struct Mixed {
    /// Clients.
    pub clients: usize,
}

/// The standard case.
pub fn cases(options: &Options) -> Vec<Case> {
    let clients = options.clients.unwrap_or(if options.quick { 200 } else { 2000 });
    let rate = options.rate.unwrap_or(RATE);
    vec![Case::new(
        format!("mixed {clients} clients, {rate:.0} events/s"),
        None,
        Mixed { clients },
    )]
}

struct Everything {
    calling: Calling,
    forwarded: u64,
}

impl Load for Everything {
    fn on_packet(&mut self, client: usize, packet: &[u8], reply: &mut Vec<u8>) {
        // An ACK for a message of ours, or a message to be acknowledged.
        if packet.first().is_some_and(|first| first >> 4 == 2) {
            self.forwarded += 1;
        } else {
            self.calling.on_packet(client, packet, reply);
        }
    }

    fn on_answer(&mut self, caller: usize, status: u16, body: &[u8], reply: &mut Vec<u8>) {
        self.calling.on_answer(caller, status, body, reply);
    }
}

impl Work for Mixed {
    fn unit(&self) -> &'static str {
        "event"
    }

    fn round(&self, rig: &mut Rig<'_>) -> Result<Round, Failure> {
        rig.open_clients(self.clients, Lane::Fast, |number| format!("room-{}", number / ROOM))?;
        rig.earn_trust()?;
        rig.open_callers(CALLERS)?;
        let mut load = Everything {
            calling: Calling::new(CALLERS, b"\"status\": 0"),
            forwarded: 0,
        };
        let mut timetable = Timetable::new(self.clients);
        timetable.run(rig, &mut load, rig.warm_up())?;
        load.calling.latency = histogram();
        let mark = rig.mark()?;
        let (packets, forwarded) = (load.calling.packets, load.forwarded);
        let events = timetable.run(rig, &mut load, rig.span())?;
        let latency = std::mem::replace(&mut load.calling.latency, histogram());
        let mut round = rig.round(mark, events, latency)?;
        round
            .extra
            .push(("deliveries", (load.calling.packets - packets) as f64));
        round
            .extra
            .push(("messages of clients", (load.forwarded - forwarded) as f64));
        Ok(round)
    }
}

/// What is due next.
struct Timetable {
    clients: usize,
    rooms: Vec<Send>,
    acked: Vec<Send>,
    message: Vec<u8>,
    number: usize,
}

impl Timetable {
    fn new(clients: usize) -> Self {
        let rooms = clients.div_ceil(ROOM);
        let mut message = Vec::new();
        let packet = Packet::Send {
            dup: false,
            raw_qos: 1,
            msgtype: 3,
            id: 1,
            payload: &[b'x'; 64],
        };
        push_packet(&mut message, &packet);
        Self {
            clients,
            rooms: (0..rooms)
                .map(|room| Send::new(&format!("room-{room}"), 0, 200))
                .collect(),
            acked: (0..rooms)
                .map(|room| Send::new(&format!("room-{room}"), 1, 200))
                .collect(),
            message,
            number: 0,
        }
    }

    fn run(&mut self, rig: &mut Rig<'_>, load: &mut Everything, span: Duration) -> Result<u64, Failure> {
        let rate = rig.options.rate.unwrap_or(RATE);
        let (start, events, mut begun) = (Instant::now(), (rate * span.as_secs_f64()) as u64, 0);
        while begun < events || load.calling.busy() > 0 {
            let now = Instant::now();
            while begun < events {
                let due = start + Duration::from_secs_f64(begun as f64 / rate);
                if due > now || !self.event(rig, &mut load.calling, due)? {
                    break;
                }
                begun += 1;
            }
            rig.net.poll(load, 0)?;
            if now > start + span + Duration::from_secs(20) {
                return Err(format!("the server does not keep up with {rate} events per second").into());
            }
        }
        load.calling.check()?;
        Ok(events)
    }

    /// Of ten events four are messages of clients, three publishes to a room, two acknowledged ones, one a client that leaves
    /// and comes back. False: no caller is free.
    fn event(&mut self, rig: &mut Rig<'_>, calling: &mut Calling, due: Instant) -> Result<bool, Failure> {
        let at = self.number.wrapping_mul(7919);
        let (client, room) = (at % self.clients, at % self.rooms.len());
        match self.number % 10 {
            0..4 => rig.net.send(rig.clients[client], &self.message),
            kind @ 4..9 => {
                let Some(caller) = calling.free() else {
                    return Ok(false);
                };
                let sends = if kind < 7 { &mut self.rooms } else { &mut self.acked };
                calling.begin(caller, due);
                rig.net.send(rig.callers[caller], sends[room].bytes(Instant::now()));
            }
            _ => {
                rig.net.close(rig.clients[client]);
                let head = wire::connect_head(rig.server.port, client, &format!("room-{}", client / ROOM));
                rig.clients[client] = rig.net.client(client, rig.server.port, &head, Lane::Fast)?;
            }
        }
        self.number += 1;
        Ok(true)
    }
}
