//! Connections kept open between calls, and what each origin has shown about them. Per origin a stack: the one used last goes
//! out first, so that under little load the others get old and are closed.
//!
//! Invariants: at most `idle_max` connections and [`ORIGINS_MAX`] origins; a connection is handed out only if it is younger
//! than `age_max`, has been unused for less than the origin is known to bear (`habit.rs`), and a look at its socket finds
//! neither an end nor bytes nobody asked for. Whoever returns a connection promises that its last answer was framed and read to the end.

use std::rc::Rc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;

use super::Options;
use super::conn::Conn;
use super::habit::{Fate, Habit};
use super::url::Origin;

/// Origins whose habits are remembered. Beyond it those go that nothing is going on with; if there are none, a new origin has no
/// kept connections. They come from the configuration, the cluster and redirects, so there are few.
const ORIGINS_MAX: usize = 256;
/// Kept connections are looked at four times as often as their time is long, but within these bounds. While none is kept,
/// nobody looks. (A call looks at the one it takes.)
const SWEEP_INTERVAL: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];
/// A watched connection is taken for what holds a server up when calls are waiting and none was answered for this long.
const STALLED_AFTER: Duration = Duration::from_secs(1);
/// How often a watched connection is looked at in its first second, and later: an idle process sleeps.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_millis(100);
const LOOK_INTERVAL_LATER: Duration = Duration::from_secs(1);

pub(super) struct Pool {
    origins: HashMap<Rc<Origin>, Entry>,
    count: usize,
    idle: Duration,
    idle_max: usize,
    age_max: Duration,
    proof: Duration,
    /// Of everything that is kept: one that was opened under an earlier one is not kept any more.
    epoch: u64,
}

struct Entry {
    stack: Vec<Idle>,
    habit: Habit,
    /// Calls under way, and when the first of them began or one was last answered.
    calls: usize,
    progress: Instant,
}

struct Idle {
    conn: Conn,
    since: Instant,
}

/// What is to be done with a connection that has been returned.
pub(super) enum Returned {
    /// It is in the pool, or closed.
    Done,
    /// To be looked at, see [`Pool::look`].
    Watch(Conn),
}

/// What a look at a watched connection says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// After this pause.
    Again(Duration),
    /// It has shown what it can; close it.
    Over,
}

impl Pool {
    pub(super) fn new(options: &Options) -> Pool {
        Pool {
            origins: HashMap::new(),
            count: 0,
            idle: options.idle,
            idle_max: options.idle_max,
            age_max: options.age_max,
            proof: options.proof,
            epoch: 0,
        }
    }

    /// Changes the bounds and forgets every connection: they were opened under the old settings.
    pub(super) fn reconfigure(&mut self, options: &Options) {
        (self.idle, self.idle_max) = (options.idle, options.idle_max);
        (self.age_max, self.proof) = (options.age_max, options.proof);
        self.clear();
    }

    /// Forgets every connection, watched ones included; habits stay known.
    pub(super) fn clear(&mut self) {
        self.origins.values_mut().for_each(|entry| entry.stack.clear());
        self.count = 0;
        self.epoch += 1;
    }

    /// What [`Pool::look`] wants to be told.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Pause between two calls of [`Pool::sweep`].
    pub(super) fn sweep_interval(&self) -> Duration {
        let [min, max] = SWEEP_INTERVAL;
        (self.idle / 4).clamp(min, max)
    }

    /// Connections waiting.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// A call to `origin` begins: a kept connection that was alive a moment ago. Each is followed by one [`Pool::end`].
    pub(super) fn begin(&mut self, origin: &Rc<Origin>, now: Instant) -> Option<Conn> {
        if !self.origins.contains_key(origin) && !self.make_room() {
            return None;
        }
        let entry = self.origins.entry_ref(origin).or_insert_with(|| Entry {
            stack: Vec::new(),
            habit: Habit::new(self.proof),
            calls: 0,
            progress: now,
        });
        if entry.calls == 0 {
            entry.progress = now;
        }
        entry.calls += 1;
        let usable = self.idle.min(entry.habit.usable());
        while let Some(idle) = entry.stack.pop() {
            self.count -= 1;
            let unused = now.duration_since(idle.since);
            if unused >= usable || idle.conn.age(now) >= self.age_max {
                continue;
            }
            if !idle.conn.is_stale() {
                return Some(idle.conn);
            }
            entry.habit.on_caught(now);
            self.count -= entry.stack.len();
            entry.stack.clear();
        }
        None
    }

    fn make_room(&mut self) -> bool {
        if self.origins.len() >= ORIGINS_MAX {
            self.origins
                .retain(|_, entry| entry.calls > 0 || !entry.stack.is_empty());
        }
        self.origins.len() < ORIGINS_MAX
    }

    /// A call has ended. `answered`: by the server.
    pub(super) fn end(&mut self, origin: &Origin, answered: bool, now: Instant) {
        if let Some(entry) = self.origins.get_mut(origin) {
            entry.calls = entry.calls.saturating_sub(1);
            if answered {
                entry.progress = now;
            }
        }
    }

    /// A call opens a connection: whether the server is to keep it.
    pub(super) fn may_keep(&mut self, origin: &Origin, now: Instant) -> bool {
        let (proof, none) = (self.proof, self.idle.is_zero() || self.idle_max == 0);
        let entry = self.origins.get_mut(origin).filter(|_| !none);
        entry.is_some_and(|entry| entry.habit.may_keep(proof, now))
    }

    /// A kept connection ended when the next request was sent: the others are no better.
    pub(super) fn on_caught(&mut self, origin: &Origin, now: Instant) {
        if let Some(entry) = self.origins.get_mut(origin) {
            entry.habit.on_caught(now);
            self.count -= entry.stack.len();
            entry.stack.clear();
        }
    }

    /// Takes `conn` back after an answer that allows another request. `announced`: its `Keep-Alive: timeout=`.
    pub(super) fn give_back(
        &mut self,
        origin: &Origin,
        conn: Conn,
        announced: Option<Duration>,
        now: Instant,
    ) -> Returned {
        let Some(entry) = self.origins.get_mut(origin) else {
            return Returned::Done;
        };
        if conn.age(now) >= self.age_max {
            return Returned::Done;
        }
        match entry.habit.on_answer(announced) {
            Fate::Watch => return Returned::Watch(conn),
            Fate::Keep if self.count < self.idle_max && !self.idle.is_zero() => {
                entry.stack.push(Idle { conn, since: now });
                self.count += 1;
            }
            Fate::Keep | Fate::Close => {}
        }
        Returned::Done
    }

    /// Looks at a watched connection that has been unused for `unused`, and was given out under `epoch`.
    pub(super) fn look(&mut self, origin: &Origin, conn: &Conn, unused: Duration, epoch: u64, now: Instant) -> Look {
        let (idle, proof, cleared) = (self.idle, self.proof, self.epoch != epoch);
        let Some(Entry {
            habit, calls, progress, ..
        }) = self.origins.get_mut(origin)
        else {
            return Look::Over;
        };
        let stalled = *calls > 0 && now.duration_since(*progress) >= STALLED_AFTER;
        if cleared || stalled {
            habit.on_abandoned(stalled, now);
        } else if conn.is_stale() {
            habit.on_ended(now);
        } else if habit.on_open(unused, proof, idle) {
            return Look::Again(pause(unused, proof));
        }
        Look::Over
    }

    /// Closes what is too old or has been closed by the peer. One system call per connection.
    pub(super) fn sweep(&mut self, now: Instant) {
        let mut room = self.idle_max;
        for entry in self.origins.values_mut() {
            let usable = self.idle.min(entry.habit.usable());
            let mut caught = false;
            entry.stack.retain(|idle| {
                if room == 0 || now.duration_since(idle.since) >= usable || idle.conn.age(now) >= self.age_max {
                    return false;
                }
                caught = caught || idle.conn.is_stale();
                room -= usize::from(!caught);
                !caught
            });
            if caught {
                entry.habit.on_caught(now);
                room += entry.stack.len();
                entry.stack.clear();
            }
        }
        self.count = self.idle_max - room;
    }
}

/// Pause before the next look at a connection that has been unused for `unused`; one look is at `proof`.
fn pause(unused: Duration, proof: Duration) -> Duration {
    let usual = if unused < LOOK_INTERVAL_LATER {
        LOOK_INTERVAL
    } else {
        LOOK_INTERVAL_LATER
    };
    match proof.checked_sub(unused) {
        Some(left) if !left.is_zero() => usual.min(left),
        _ => usual,
    }
}
