//! The far ends: sockets between shards and clients, and when clients read, write and leave.

use rainbow_server::close::CloseCause;
use rainbow_server::engine::ids::ClientId;
use rainbow_server::protocol::ListenerId;
use rainbow_server::shard::Input;
use rainbow_server::time::Duration;

use crate::bugs::Bug;
use crate::byzantine;
use crate::conn::{End, Reaction};
use crate::net::Socket;
use crate::wire;
use crate::world::{Event, World};

/// What a client says may cross what the server says on its way.
pub const JUST_NOW: Duration = Duration::from_secs(1);

impl World {
    pub fn accept(&mut self, number: usize) {
        let (now, shard) = (self.now, self.conns[number].shard);
        let accepted = self.shards[shard].on_accept(ListenerId::MAIN, now);
        self.plan_tick(shard);
        let delay = self.rng.within(100_000, 3_000_000);
        self.plan_in(delay, Event::Act(number));
        let Some(id) = accepted else {
            self.conns[number].over = true;
            return;
        };
        if self.by_client.insert(id, number).is_some() {
            self.blame(format!("{id:?} was given out twice"));
        }
        let conn = &mut self.conns[number];
        conn.id = Some(id);
        let room = conn.pace().window;
        let request = conn.request();
        self.nets[shard].sockets.insert(
            id,
            Socket {
                room,
                ..Socket::default()
            },
        );
        let early = self.rng.chance(10) && !self.calm && self.conns[number].upgrades;
        self.write_up(number, &request);
        if early {
            let message = self.conns[number].message(&mut self.rng);
            self.write_up(number, &message);
        }
        if self.rng.chance(8) {
            let delay = self.rng.within(0, 2_000_000);
            let reset = self.rng.chance(50);
            self.plan_in(delay, Event::Leave(number, reset));
        }
    }

    /// The client writes.
    pub fn write_up(&mut self, number: usize, bytes: &[u8]) {
        let conn = &mut self.conns[number];
        if conn.up_end.is_none() && !conn.over && !bytes.is_empty() {
            conn.up.extend_from_slice(bytes);
            if self.now.since(conn.said_at) > JUST_NOW {
                conn.silent_since = conn.said_at;
            }
            conn.said_at = self.now;
            self.plan_readable(number);
        }
    }

    pub fn leave(&mut self, number: usize, end: End) {
        let conn = &mut self.conns[number];
        conn.leaving = true;
        if conn.over || conn.up_end.is_some() {
            return;
        }
        conn.up_end = Some(end);
        conn.ended_at = Some(self.now);
        if end == End::Reset {
            conn.up.clear();
            if let Some(id) = conn.id {
                self.socket(id).broken = true;
            }
        }
        self.plan_readable(number);
    }

    fn socket(&mut self, id: ClientId) -> &mut Socket {
        self.nets[id.shard.index()]
            .sockets
            .get_mut(&id)
            .expect("a socket for every accepted client")
    }

    fn plan_readable(&mut self, number: usize) {
        if !std::mem::replace(&mut self.conns[number].readable_planned, true) {
            let delay = self.rng.within(1, 3_000);
            self.plan_in(delay, Event::Readable(number));
        }
    }

    pub fn readable(&mut self, number: usize) {
        let shard = self.conns[number].shard;
        if self.is_stalled(shard, Event::Readable(number)) {
            return;
        }
        if self.is_congested(shard, Event::Readable(number)) {
            return;
        }
        let eaten = self.conns[number].up_end.is_some() && self.strikes(Bug::EatEnd, 20);
        let conn = &mut self.conns[number];
        conn.readable_planned = false;
        let Some(id) = conn.id.filter(|_| conn.reading && !conn.over) else {
            return;
        };
        if conn.up.is_empty() {
            let cause = match conn.up_end {
                None => return,
                Some(End::Fin) => CloseCause::ClientGone,
                Some(End::Reset) => CloseCause::SocketError,
            };
            if eaten {
                conn.reading = false;
                return;
            }
            conn.over = true;
            return self.turn(id.shard.index(), |shard, net, now| shard.on_end(id, cause, now, net));
        }
        let most = if self.rng.chance(70) {
            conn.up.len()
        } else {
            1 + self.rng.index(conn.up.len())
        };
        let mut bytes: Vec<u8> = conn.up.drain(..most).collect();
        let input = self.turn(id.shard.index(), |shard, net, now| {
            shard.on_bytes(id, &mut bytes, now, net)
        });
        let conn = &mut self.conns[number];
        match input {
            Input::Continue => {}
            // The turn may have resumed it already.
            Input::Pause => conn.was_paused = true,
            Input::Gone | Input::HandOver(..) => conn.over = true,
        }
        if input == Input::Pause {
            let resumed = std::mem::take(&mut self.socket(id).resumed);
            self.conns[number].reading = resumed;
        }
        let conn = &self.conns[number];
        if conn.reading && !conn.over && !(conn.up.is_empty() && conn.up_end.is_none()) {
            self.plan_readable(number);
        }
    }

    pub fn writable(&mut self, number: usize) {
        let shard = self.conns[number].shard;
        if self.is_stalled(shard, Event::Writable(number)) {
            return;
        }
        self.conns[number].writable_planned = false;
        let Some(id) = self.conns[number].id else { return };
        let socket = self.socket(id);
        if socket.closed || !std::mem::take(&mut socket.want_write) {
            return;
        }
        self.turn(id.shard.index(), |shard, _, _| shard.on_writable(id));
    }

    /// After a turn: which far ends have something to read, which sockets wait for room.
    pub fn look_at_sockets(&mut self, shard: usize) {
        let touched = std::mem::take(&mut self.nets[shard].touched);
        for id in touched {
            let Some(&number) = self.by_client.get(&id) else {
                continue;
            };
            let short = if self.rng.chance(10) {
                1 + self.rng.index(20)
            } else {
                usize::MAX
            };
            let socket = self.nets[shard].sockets.get_mut(&id).expect("touched");
            socket.write_max = short;
            let (readable, wants) = (
                !socket.out.is_empty() || socket.finished || socket.closed,
                socket.want_write,
            );
            let wakes = wants && (socket.room > 0 || socket.broken);
            let conn = &mut self.conns[number];
            conn.over |= socket.closed;
            conn.clogged |= wants;
            let conn = &mut self.conns[number];
            if readable && !std::mem::replace(&mut conn.read_planned, true) {
                let delay = 1 + conn.pace().delay;
                let delay = self.rng.within(delay / 2, delay);
                self.plan_in(delay, Event::Read(number));
            }
            if wakes && !std::mem::replace(&mut self.conns[number].writable_planned, true) {
                if self.strikes(Bug::EatWritable, 30) {
                    continue; // planned, it thinks, and never comes
                }
                let delay = self.rng.within(1, 2_000);
                self.plan_in(delay, Event::Writable(number));
            }
            let conn = &mut self.conns[number];
            if !conn.reading && !conn.over && std::mem::take(&mut self.socket(id).resumed) {
                self.conns[number].reading = true;
                self.plan_readable(number);
            }
        }
    }

    // Clients.

    /// Everybody who is there reads at once from now on, or as it likes again.
    pub fn hurry(&mut self, hurries: bool) {
        for number in 0..self.conns.len() {
            let conn = &mut self.conns[number];
            let Some(id) = conn.id.filter(|_| !conn.over) else {
                continue;
            };
            conn.hurries = hurries;
            let window = conn.pace().window;
            let socket = self.socket(id);
            let is_behind = socket.want_write;
            socket.room = window.saturating_sub(socket.out.len());
            self.records.hurried += u64::from(hurries && is_behind);
            self.plan_in(1, Event::Read(number));
        }
    }

    pub fn client_reads(&mut self, number: usize) {
        self.conns[number].read_planned = false;
        let Some(id) = self.conns[number].id else { return };
        let most = self.conns[number].pace().bytes;
        let corrupt = self.strikes(Bug::Corrupt, 2);
        self.conns[number].late_farewell |= self.strikes(Bug::LateFarewell, 20);
        self.conns[number].reuse_id |= self.strikes(Bug::ReuseId, 5);
        let socket = self.socket(id);
        let count = most.min(socket.out.len());
        let mut bytes: Vec<u8> = socket.out.drain(..count).collect();
        socket.room += count;
        let (left, ended) = (socket.out.len(), socket.finished || socket.closed);
        if let Some(byte) = bytes.first_mut().filter(|_| corrupt) {
            *byte ^= 0x31;
        }
        if self.conns[number].up_end == Some(End::Reset) {
            return;
        }
        self.hash(&bytes);
        let (now, rng) = (self.now, &mut self.rng);
        let said_farewell = self.conns[number].close.is_some();
        let reactions = self.conns[number].read(&bytes, now, rng);
        let promised = std::mem::take(&mut self.conns[number].promised);
        self.note_made(&promised);
        if !self.plan.crowd && !self.calm {
            // Who has seen its 101, or the answer to a message, may make somebody publish.
            for change in promised {
                let change = &self.records.changes[change];
                let (join, channel) = (change.join, change.channel);
                if join {
                    self.publish(channel);
                }
            }
        }
        if let Some(fault) = self.conns[number].fault.take() {
            self.blame(fault);
        }
        if !said_farewell {
            self.check_ordered(number);
        }
        if !said_farewell && (self.conns[number].close.is_some() || left == 0 && ended) {
            self.check_farewell(number);
        }
        for reaction in reactions {
            self.react(number, reaction);
        }
        let socket = self.socket(id);
        let wakes = socket.want_write && socket.room > 0 && !socket.closed;
        if wakes && !std::mem::replace(&mut self.conns[number].writable_planned, true) {
            let is_slow = self.conns[number].habits.read_bytes < 100;
            if !(is_slow && self.strikes(Bug::ForgetSlow, 20)) {
                self.plan_in(500, Event::Writable(number));
            }
        }
        if left > 0 && !std::mem::replace(&mut self.conns[number].read_planned, true) {
            let delay = self.conns[number].pace().delay;
            self.plan_in(delay, Event::Read(number));
        } else if left == 0 && ended {
            self.leave(number, End::Fin);
        }
    }

    fn react(&mut self, number: usize, reaction: Reaction) {
        match reaction {
            Reaction::Say(after_ms, bytes) => self.say(number, after_ms, bytes),
            Reaction::Acknowledge {
                publish,
                after_ms,
                mut bytes,
            } => {
                if self.strikes(Bug::EatPacket, 20) {
                    bytes.clear();
                }
                self.say(number, after_ms, bytes);
                let at = self.now + Duration::from_millis(after_ms);
                match self.records.publishes.get_mut(publish) {
                    Some(record) => drop(record.acks.entry(number).or_insert(at)),
                    None => self.blame(format!("client {number}: a payload nobody published")),
                }
            }
            Reaction::Leave(after_ms, end) => self.plan_in(after_ms * 1000, Event::Leave(number, end == End::Reset)),
        }
    }

    fn say(&mut self, number: usize, after_ms: u64, bytes: Vec<u8>) {
        self.planned += 1;
        let what = self.planned;
        self.said.insert(what, bytes);
        self.plan_in(after_ms * 1000, Event::Say(number, what));
    }

    /// A client does something of its own accord.
    pub fn client_acts(&mut self, number: usize) {
        let conn = &self.conns[number];
        if self.calm || conn.over || conn.leaving || conn.up_end.is_some() {
            return self.come_again(number);
        }
        self.plant_close();
        let dup = !self.strikes(Bug::EatDup, 100);
        let (conn, rng) = (&mut self.conns[number], &mut self.rng);
        if conn.status == Some(101) {
            let mut bytes = Vec::new();
            if (conn.sent.len() as u32) < conn.habits.messages {
                (0..rng.within(1, conn.habits.burst)).for_each(|_| bytes.extend(conn.message(rng)));
            }
            if rng.chance(conn.habits.repeats) {
                bytes.extend(conn.repetition(self.now, dup, rng).unwrap_or_default());
            }
            if rng.chance(conn.habits.nonsense) {
                bytes.extend(wire::frame(2, &[0xf0, 1, 2]));
                bytes.extend(wire::ping(b"?"));
                bytes.extend(wire::ack(60_000, b"for nothing"));
            }
            if rng.chance(conn.habits.garbage) {
                bytes.extend([0xff, 0xff, 0, 1, 2]);
                conn.leaving = true;
            }
            if conn.habits.byzantine {
                bytes.extend(byzantine::nonsense(conn, rng));
            }
            let leaves = rng.chance(conn.habits.leaves);
            let manner = rng.index(3);
            if leaves && manner == 0 {
                bytes.extend(wire::close(Some(1000)));
                conn.leaving = true;
            }
            self.write_up(number, &bytes);
            if leaves && manner > 0 {
                self.leave(number, if manner == 1 { End::Fin } else { End::Reset });
            }
        }
        let delay = self.rng.within(50_000, 4_000_000);
        self.plan_in(delay, Event::Act(number));
    }

    /// A client whose connection has ended connects again, on any shard.
    fn come_again(&mut self, number: usize) {
        let conn = &mut self.conns[number];
        if self.calm || conn.habits.reconnects == 0 || std::mem::replace(&mut conn.replaced, true) {
            return;
        }
        let (next, shard) = (self.conns.len(), self.rng.index(self.plan.shards));
        let again = self.conns[number].again(next, shard, &mut self.rng);
        self.conns.push(again);
        let delay = self.rng.within(1_000, 2_000_000);
        self.plan_in(delay, Event::Accept(next));
    }
}
