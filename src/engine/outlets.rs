//! One core's way to all others: its mail keeps its order over all receivers. Callers: the core loops of `io` and `control`,
//! and the simulator.
//!
//! Order: once one mailbox is full, everything posted later waits behind, whoever it is for. Otherwise an answer could
//! overtake the effect it speaks of.
//!
//! Bound and policy: those of [`super::mailbox`]. While [`Outlets::overflow`] is not 0 a core takes no new work from its
//! sockets, and calls [`Outlets::kick`] again.

use std::collections::VecDeque;
use std::sync::Arc;

use super::ids::ShardId;
use super::mailbox::{Entrance, Sender, SenderCounts, Wake};
use crate::metrics::{CoreMetrics, Metric};

/// One core's senders to all cores: `S` is mail to a shard, `C` mail to the control core, `W` wakes a core. Posted mail is
/// seen after [`Outlets::kick`].
pub struct Outlets<S, C, W: Wake> {
    shards: Vec<Sender<S, W>>,
    control: Sender<C, W>,
    /// Counters of the core whose outlets these are.
    metrics: Option<Arc<CoreMetrics>>,
    /// A mailbox was full, and its mail is still here.
    stuck: bool,
    /// What waits behind a full mailbox.
    behind: VecDeque<Parcel<S, C>>,
    /// Wakes the core these are the outlets of, which then tries again.
    own: Option<W>,
}

/// Mail on its way.
enum Parcel<S, C> {
    Shard(ShardId, S),
    Control(C),
}

impl<S, C, W: Wake + Clone> Clone for Outlets<S, C, W> {
    /// Outlets of another core: nothing waits in them.
    fn clone(&self) -> Self {
        Self {
            shards: self.shards.clone(),
            control: self.control.clone(),
            metrics: self.metrics.clone(),
            stuck: false,
            behind: VecDeque::new(),
            own: self.own.clone(),
        }
    }
}

impl<S, C, W: Wake> Outlets<S, C, W> {
    /// From the senders of all mailboxes, shards by number.
    pub fn new(shards: Vec<Sender<S, W>>, control: Sender<C, W>) -> Self {
        Self {
            shards,
            control,
            metrics: None,
            stuck: false,
            behind: VecDeque::new(),
            own: None,
        }
    }

    /// The outlets of the core that `waker` wakes: while mail waits here its mailbox loop is kept awake.
    pub fn of_core(self, waker: W) -> Self {
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

    /// A way to the control core for threads that are no core.
    pub fn entrance(&self) -> Entrance<C, W>
    where
        W: Clone,
    {
        self.control.entrance()
    }

    /// Number of shards.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Posts to a shard; a shard that does not exist gets nothing.
    pub fn post_shard(&mut self, shard: ShardId, mail: S) {
        self.post(Parcel::Shard(shard, mail));
    }

    /// Posts to the control core.
    pub fn post_control(&mut self, mail: C) {
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
                && let Some(parcel) = self.behind.pop_front()
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
            self.sender_overflow() + self.behind.len()
        } else {
            0
        }
    }

    fn post(&mut self, parcel: Parcel<S, C>) {
        if self.stuck {
            self.behind.push_back(parcel);
        } else {
            self.pass(parcel);
        }
    }

    fn pass(&mut self, parcel: Parcel<S, C>) {
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::mailbox::{Receiver, mailbox};
    use super::*;

    #[derive(Clone)]
    struct Ignored;

    impl Wake for Ignored {
        fn wake(&self) {}
    }

    fn received(mailbox: &Receiver<u64>) -> Vec<u64> {
        let mut numbers = Vec::new();
        mailbox.drain(usize::MAX, |mail| numbers.push(mail));
        numbers
    }

    #[test]
    fn mail_waits_behind_a_full_mailbox_whoever_it_is_for() {
        let (small, full) = mailbox(2, Ignored);
        let (large, other) = mailbox(100, Ignored);
        let (control, told) = mailbox(100, Ignored);
        let mut outlets = Outlets::new(vec![small, large], control);
        for number in 0..4 {
            outlets.post_shard(ShardId(0), number);
        }
        outlets.post_shard(ShardId(1), 4);
        outlets.post_control(5);
        outlets.kick();
        assert_eq!(outlets.overflow(), 4);
        assert_eq!(received(&other), Vec::<u64>::new(), "4 would overtake 2 and 3");
        assert_eq!(received(&told), Vec::<u64>::new(), "5 too");
        assert_eq!(received(&full), [0, 1]);
        outlets.kick();
        assert_eq!(outlets.overflow(), 0);
        assert_eq!((received(&full), received(&other)), (vec![2, 3], vec![4]));
        assert_eq!(received(&told), [5]);
    }
}
