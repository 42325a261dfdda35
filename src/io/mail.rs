//! What travels between cores, and each core's way to all others.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::takeover::{Offer, Successor};
use super::tls::{Identity, Session};
use super::wake::Waker;
use crate::config::Config;
use crate::engine::command::{Command, Report};
use crate::engine::ids::ShardId;
use crate::engine::mailbox::{Sender, SenderCounts, Wake};
use crate::metrics::{CoreMetrics, Metric};

/// To a shard.
#[derive(Debug)]
pub enum ShardMail {
    /// For the engine.
    Command(Command),
    /// A connection that turned out to belong here.
    Adopt(Handover),
    /// Settings changed.
    Reload(Arc<Config>),
    /// Certificates of new TLS connections changed.
    Identity(Identity),
}

/// To the control core.
#[derive(Debug)]
pub enum ControlMail {
    /// From a shard's engine.
    Report(Report),
    /// A connection that turned out to be an API call.
    Handover(Handover),
    /// From the signal thread.
    Signal(Signal),
    /// This server may be replaced.
    Offer(Offer),
    /// It has been: stop gracefully, its listening sockets live on there.
    Replaced(Successor),
    /// The server this one has replaced serves calls for its last clients there; none: it has ended.
    Predecessor(Option<SocketAddr>),
}

/// A connection on its way to another core.
#[derive(Debug)]
pub struct Handover {
    /// The socket.
    pub socket: OwnedFd,
    /// What was read from it already.
    pub bytes: Vec<u8>,
    /// With TLS: its session.
    pub tls: Option<Box<Session>>,
    /// The client's address, if a PROXY header told it.
    pub told: Option<IpAddr>,
}

/// What the operator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM, SIGINT: stop gracefully.
    Stop,
    /// SIGHUP: read the configuration again.
    Reload,
}

/// One core's senders to all cores. Posted mail is seen after [`Outlets::kick`].
///
/// Mail keeps its order also across receivers: once one mailbox is full, everything posted later waits behind, whoever it is
/// for. Otherwise an answer could overtake the effect it speaks of.
#[derive(Clone)]
pub struct Outlets {
    shards: Vec<Sender<ShardMail, Waker>>,
    control: Sender<ControlMail, Waker>,
    /// Counters of the core whose outlets these are.
    metrics: Option<Arc<CoreMetrics>>,
    /// A mailbox was full, and its mail is still here.
    stuck: bool,
    behind: Behind,
    /// Wakes the core these are the outlets of, which then tries again.
    own: Option<Waker>,
}

/// Mail on its way.
enum Parcel {
    Shard(ShardId, ShardMail),
    Control(ControlMail),
}

/// What waits behind a full mailbox; a clone starts without.
#[derive(Default)]
struct Behind(VecDeque<Parcel>);

impl Clone for Behind {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Outlets {
    /// From the senders of all mailboxes, shards by number.
    pub fn new(shards: Vec<Sender<ShardMail, Waker>>, control: Sender<ControlMail, Waker>) -> Self {
        Self {
            shards,
            control,
            metrics: None,
            stuck: false,
            behind: Behind::default(),
            own: None,
        }
    }

    /// The outlets of the core that `waker` wakes: while mail waits here its mailbox loop is kept awake.
    pub fn of_core(self, waker: Waker) -> Self {
        Self {
            own: Some(waker),
            ..self
        }
    }

    /// The same for one core, which counts what it does.
    pub fn counted(mut self, metrics: Arc<CoreMetrics>) -> Self {
        self.metrics = Some(metrics);
        self
    }

    /// Number of shards.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Posts to a shard; a shard that does not exist gets nothing.
    pub fn post_shard(&mut self, shard: ShardId, mail: ShardMail) {
        self.post(Parcel::Shard(shard, mail));
    }

    /// Posts to the control core.
    pub fn post_control(&mut self, mail: ControlMail) {
        self.post(Parcel::Control(mail));
    }

    /// Wakes every core something was posted to; tries again what had found no room.
    pub fn kick(&mut self) {
        let metrics = self.metrics.as_deref();
        self.shards.iter_mut().for_each(|sender| kick(sender, metrics));
        kick(&mut self.control, metrics);
        if self.stuck && self.sender_overflow() == 0 {
            self.stuck = false;
            while !self.stuck
                && let Some(parcel) = self.behind.0.pop_front()
            {
                self.pass(parcel);
            }
            self.kick();
        } else if self.stuck
            && let Some(own) = &self.own
        {
            own.wake();
        }
    }

    /// Messages that found no room and wait here. While there are any, take no new work from sockets.
    pub fn overflow(&self) -> usize {
        if self.stuck {
            self.sender_overflow() + self.behind.0.len()
        } else {
            0
        }
    }

    fn post(&mut self, parcel: Parcel) {
        if self.stuck {
            self.behind.0.push_back(parcel);
        } else {
            self.pass(parcel);
        }
    }

    fn pass(&mut self, parcel: Parcel) {
        self.stuck = match parcel {
            Parcel::Shard(shard, mail) => self.shards.get_mut(shard.index()).is_some_and(|sender| {
                sender.post(mail);
                sender.overflow_len() > 0
            }),
            Parcel::Control(mail) => {
                self.control.post(mail);
                self.control.overflow_len() > 0
            }
        };
    }

    fn sender_overflow(&self) -> usize {
        self.shards.iter().map(Sender::overflow_len).sum::<usize>() + self.control.overflow_len()
    }
}

fn kick<T, W: Wake>(sender: &mut Sender<T, W>, metrics: Option<&CoreMetrics>) {
    sender.kick();
    let done = sender.take_counts();
    if let Some(metrics) = metrics.filter(|_| done != SenderCounts::default()) {
        metrics.add(Metric::MailboxKicks, done.kicks);
        metrics.add(Metric::MailboxOverflows, done.overflows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::command::Command;
    use crate::engine::ids::Ticket;
    use crate::engine::mailbox::{Receiver, mailbox};

    fn census(number: u64) -> ShardMail {
        ShardMail::Command(Command::Census {
            cursor: 0,
            ticket: Ticket(number),
        })
    }

    fn received(mailbox: &Receiver<ShardMail>) -> Vec<u64> {
        let mut numbers = Vec::new();
        mailbox.drain(usize::MAX, |mail| match mail {
            ShardMail::Command(Command::Census { ticket, .. }) => numbers.push(ticket.0),
            other => panic!("{other:?}"),
        });
        numbers
    }

    #[test]
    fn mail_waits_behind_a_full_mailbox_whoever_it_is_for() {
        let waker = Waker::new().unwrap();
        let (small, full) = mailbox(2, waker.clone());
        let (large, other) = mailbox(100, waker.clone());
        let (control, _control) = mailbox(100, waker);
        let mut outlets = Outlets::new(vec![small, large], control);
        for number in 0..4 {
            outlets.post_shard(ShardId(0), census(number));
        }
        outlets.post_shard(ShardId(1), census(4));
        outlets.kick();
        assert_eq!(outlets.overflow(), 3);
        assert_eq!(received(&other), Vec::<u64>::new(), "4 would overtake 2 and 3");
        assert_eq!(received(&full), [0, 1]);
        outlets.kick();
        assert_eq!(outlets.overflow(), 0);
        assert_eq!((received(&full), received(&other)), (vec![2, 3], vec![4]));
    }
}
