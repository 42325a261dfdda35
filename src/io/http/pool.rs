//! Connections kept open between calls. Per origin a stack: the one used last goes out first, so that under little load
//! the others get old and are closed.
//!
//! Invariants: at most `idle_max` connections in all; one is handed out only if it is younger than `idle` and a look at
//! its socket finds neither an end nor bytes nobody asked for. Whoever returns a connection promises that its last
//! answer was framed and read to the end.

use std::rc::Rc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;

use super::conn::Conn;
use super::url::Origin;

pub(super) struct Pool {
    stacks: HashMap<Rc<Origin>, Vec<Idle>>,
    count: usize,
    idle: Duration,
    idle_max: usize,
}

struct Idle {
    conn: Conn,
    since: Instant,
}

impl Pool {
    pub(super) fn new(idle: Duration, idle_max: usize) -> Pool {
        Pool {
            stacks: HashMap::new(),
            count: 0,
            idle,
            idle_max,
        }
    }

    /// Changes the bounds; connections beyond them leave with the next sweep.
    pub(super) fn reconfigure(&mut self, idle: Duration, idle_max: usize) {
        (self.idle, self.idle_max) = (idle, idle_max);
    }

    /// Forgets every connection: what they were opened with is not valid any more.
    pub(super) fn clear(&mut self) {
        self.stacks.clear();
        self.count = 0;
    }

    /// Pause between two calls of [`Pool::sweep`].
    pub(super) fn sweep_interval(&self) -> Duration {
        let [min, max] = super::SWEEP_INTERVAL;
        (self.idle / 4).clamp(min, max)
    }

    /// Connections waiting.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// A connection to `origin` that was alive a moment ago.
    pub(super) fn checkout(&mut self, origin: &Origin, now: Instant) -> Option<(Conn, Duration)> {
        let stack = self.stacks.get_mut(origin)?;
        while let Some(idle) = stack.pop() {
            self.count -= 1;
            if now.duration_since(idle.since) < self.idle && !idle.conn.is_stale() {
                return Some((idle.conn, now.duration_since(idle.since)));
            }
        }
        None
    }

    /// Keeps `conn` for the next call, or closes it if there are enough.
    pub(super) fn checkin(&mut self, origin: &Rc<Origin>, conn: Conn, now: Instant) {
        if self.count < self.idle_max && !self.idle.is_zero() {
            self.stacks
                .entry_ref(origin)
                .or_default()
                .push(Idle { conn, since: now });
            self.count += 1;
        }
    }

    /// Closes what is too old or has been closed by the peer. One system call per connection.
    pub(super) fn sweep(&mut self, now: Instant) {
        let (idle, mut room) = (self.idle, self.idle_max);
        self.stacks.retain(|_, stack| {
            stack.retain(|entry| {
                let keep = room > 0 && now.duration_since(entry.since) < idle && !entry.conn.is_stale();
                room -= usize::from(keep);
                keep
            });
            !stack.is_empty()
        });
        self.count = self.idle_max - room;
    }
}
