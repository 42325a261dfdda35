//! Events of one client on their way to the backend, in the order in which they happened: at most a *window* of them is in
//! flight, the others wait here. With a window of one the next event leaves when the one before it has taken effect.
//!
//! Bound: the owner's, on number and bytes, in flight and waiting together ([`Serial::is_within`]). Policy: beyond it the
//! client's socket is not read; nothing is dropped. One frame more than the bound may be taken, since what has been read is
//! kept.
//!
//! Callers: sessions. An event is sent when [`Serial::push`] or [`Serial::finish`] returns it, exactly once; every one that was
//! is finished once.

use std::collections::VecDeque;

/// Events of one client.
#[derive(Debug)]
pub struct Serial<E> {
    in_flight: u32,
    /// Payload bytes in flight and waiting.
    bytes: usize,
    queue: VecDeque<E>,
}

impl<E> Default for Serial<E> {
    fn default() -> Self {
        Self {
            in_flight: 0,
            bytes: 0,
            queue: VecDeque::new(),
        }
    }
}

impl<E> Serial<E> {
    /// Takes an event of this many payload bytes. Returns it if it may be sent now.
    pub fn push(&mut self, event: E, bytes: usize, window: usize) -> Option<E> {
        self.bytes += bytes;
        // A reload may have widened the window while events wait: they keep their place.
        if self.queue.is_empty() && self.has_window(window) {
            self.in_flight += 1;
            return Some(event);
        }
        self.queue.push_back(event);
        None
    }

    /// Something that did not pass through here is in flight: until it is finished it counts like an event.
    pub fn begin(&mut self) {
        self.in_flight += 1;
    }

    /// An event of this many payload bytes has ended. Returns the next one to be sent, if one may.
    pub fn finish(&mut self, bytes: usize, window: usize) -> Option<E> {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        if !self.has_window(window) {
            return None;
        }
        let event = self.queue.pop_front()?;
        self.in_flight += 1;
        if self.queue.is_empty() {
            self.queue.shrink_to(0);
        }
        Some(event)
    }

    /// Events in flight and waiting.
    pub fn len(&self) -> usize {
        self.in_flight as usize + self.queue.len()
    }

    /// Whether nothing is in flight or waiting.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there is room for one more within these bounds.
    pub fn is_within(&self, events: usize, bytes: usize) -> bool {
        self.len() < events && self.bytes < bytes
    }

    fn has_window(&self, window: usize) -> bool {
        (self.in_flight as usize) < window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_in_order() {
        let mut serial = Serial::default();
        assert_eq!(serial.push(1, 10, 1), Some(1));
        assert_eq!((serial.push(2, 20, 1), serial.push(3, 30, 1)), (None, None));
        assert_eq!(serial.len(), 3);
        assert_eq!(serial.finish(10, 1), Some(2));
        assert_eq!(serial.finish(20, 1), Some(3));
        assert_eq!(serial.finish(30, 1), None);
        assert!(serial.is_empty() && serial.bytes == 0);
        assert_eq!(serial.push(4, 0, 1), Some(4), "and it goes on");
    }

    #[test]
    fn a_wider_window_lets_nobody_overtake() {
        let mut serial = Serial::default();
        assert_eq!((serial.push(1, 0, 1), serial.push(2, 0, 1)), (Some(1), None));
        assert_eq!(serial.push(3, 0, usize::MAX), None, "2 is before it");
        assert_eq!(serial.finish(0, usize::MAX), Some(2));
    }

    #[test]
    fn what_was_begun_elsewhere_holds_the_first_back() {
        let mut serial = Serial::default();
        serial.begin();
        assert_eq!((serial.push(1, 5, 1), serial.len()), (None, 2));
        assert_eq!(serial.finish(0, 1), Some(1));
    }

    #[test]
    fn both_bounds_count_what_is_in_flight_too() {
        let mut serial = Serial::default();
        serial.push((), 5, 1);
        serial.push((), 5, 1);
        assert!(serial.is_within(3, 11));
        assert!(!serial.is_within(2, 11) && !serial.is_within(3, 10));
    }
}
