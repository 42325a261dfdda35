//! What must hold when a script is over.

use super::frames::frames;
use super::{Outcome, Read, World};
use crate::engine::command::Command;
use crate::fuzzing::shard::reply;
use crate::time::Duration;

impl World {
    /// What every client has read makes sense, and has the answers it was promised.
    pub(super) fn check_streams(&self, overlapping: bool) {
        for (wire, known) in self.known.iter().enumerate() {
            self.net.wire(wire, |wire| {
                let whole = !(wire.stalled || wire.reset || wire.closed || wire.finished || overlapping);
                let Some(frames) = frames(&wire.out) else { return };
                assert!(frames.rest.is_empty() || !whole, "half a frame: {:?}", frames.rest);
                if !whole || known.wild || self.compressed || frames.closed {
                    return;
                }
                for (id, promised) in &known.promised {
                    let answered = frames.answered.get(id).copied().unwrap_or_default();
                    assert_eq!(answered, *promised, "answers to message {id}");
                }
            });
        }
    }

    /// Ends everything and checks that nothing is left.
    pub(super) fn end(mut self) -> Outcome {
        for wire in 0..self.net.wires() {
            self.net.wire(wire, |wire| wire.stalled = false);
        }
        self.post(Command::Drain);
        for _ in 0..200 {
            self.settle();
            while let Some(request) = self.callbacks.pop_front() {
                self.answered(request, reply(500, None));
            }
            self.known.iter_mut().for_each(|known| drop(known.away.take()));
            self.pass(Duration::from_secs(1));
            if self.drained > 0 && self.net.is_empty() && self.core.next_deadline().is_none() {
                break;
            }
        }
        assert_eq!(self.drained, 1, "the shard is not empty");
        let (counts, panics) = self.core.debug_counts();
        assert_eq!(panics, 0, "a panic was contained");
        assert_eq!((counts.clients, counts.deliveries, counts.memberships), (0, 0, 0));
        assert_eq!((counts.interests, counts.timers), (0, 0));
        assert!(self.net.is_empty(), "a descriptor was left open");
        for (client, admitted) in &self.admitted {
            let closed = self.closed.remove(client).unwrap_or_default();
            // Without one: those that could become no websocket. They may ask again.
            let expected = if self.net.is_welcomed(*client) {
                1
            } else {
                closed.min(*admitted).min(1)
            };
            assert_eq!(closed, expected, "close callbacks of {client:?}");
        }
        assert!(
            self.closed.is_empty(),
            "close callbacks of strangers: {:?}",
            self.closed
        );
        for (ticket, answers) in &self.publishes {
            assert_eq!(*answers, 1, "answers to {ticket:?}");
        }
        let read = |at| {
            self.net.wire(at, |wire| Read {
                bytes: std::mem::take(&mut wire.out),
                cut: wire.cut,
                ended: wire.ended.is_some(),
                handed: self.known.get(at).map_or(0, |known| known.handed),
            })
        };
        Outcome {
            read: (0..self.net.wires()).map(read).collect(),
            events: std::mem::take(&mut self.events),
        }
    }
}
