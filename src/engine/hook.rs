//! Hooks: the events of clients that a backend is asked or told about. The engine knows what an event's policy is and which
//! doors' hooks share nothing; what a request looks like and where it goes is the door's business.
//!
//! | event | while the backend does not answer |
//! | --- | --- |
//! | connect | refused at once: the client is told so, and comes back |
//! | message | waits, at most until its deadline |
//! | close | repeated until it is accepted, or its time is over |

/// The number of a door among those that have hooks, counted from 0 without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HookDoor(pub u8);

/// What happens to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// May this client come in?
    Connect,
    /// A client said something.
    Message,
    /// A client is gone.
    Close,
}

/// One event of the clients of one door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hook {
    /// Whose clients.
    pub door: HookDoor,
    /// What happens to them.
    pub event: Event,
}

impl Event {
    /// All of them, in the order of their numbers.
    pub const ALL: [Event; 3] = [Event::Connect, Event::Message, Event::Close];

    /// Its name in metrics and log.
    pub fn label(self) -> &'static str {
        match self {
            Event::Connect => "connect",
            Event::Message => "message",
            Event::Close => "close",
        }
    }
}

impl HookDoor {
    /// The hook of one of its events.
    pub const fn on(self, event: Event) -> Hook {
        Hook { door: self, event }
    }
}

/// One `T` for every hook.
#[derive(Debug)]
pub struct HookTable<T>(Vec<[T; Event::ALL.len()]>);

impl<T: Default> HookTable<T> {
    /// For this many doors.
    pub fn new(doors: usize) -> Self {
        Self((0..doors).map(|_| Default::default()).collect())
    }
}

impl<T> HookTable<T> {
    /// The entry of a hook; `None`: the table was not made for its door.
    pub fn get(&self, hook: Hook) -> Option<&T> {
        Some(&self.0.get(usize::from(hook.door.0))?[hook.event as usize])
    }

    /// All entries, by door and event.
    pub fn iter(&self) -> impl Iterator<Item = (Hook, &T)> {
        let rows = (0..=u8::MAX).map(HookDoor).zip(&self.0);
        rows.flat_map(|(door, row)| Event::ALL.map(|event| door.on(event)).into_iter().zip(row))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn every_hook_has_an_entry_of_its_own() {
        let table = HookTable::<Cell<u32>>::new(2);
        let hooks: Vec<_> = table.iter().map(|(hook, _)| hook).collect();
        assert_eq!(hooks.len(), 6);
        for (at, hook) in hooks.iter().enumerate() {
            table.get(*hook).unwrap().set(at as u32);
        }
        let entries: Vec<_> = table.iter().map(|(_, entry)| entry.get()).collect();
        assert_eq!(entries, [0, 1, 2, 3, 4, 5]);
        assert!(table.get(HookDoor(2).on(Event::Connect)).is_none());
    }
}
