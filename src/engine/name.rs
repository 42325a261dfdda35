//! Names of sets of clients. Every kind of set has a space of its own in the one registry: a channel "x" and a user "x"
//! never meet.
//!
//! Invariant: the first byte says the space and is written here only, from [`Space`]; whatever bytes a client, a backend or a
//! caller sends become the text behind it. So nobody reaches another space by what they send.
//!
//! Built by the doors, which know what a text stands for; everybody else passes names on, compares and hashes them whole.

use std::fmt;
use std::sync::Arc;

/// What kind of set a name is of. The engine need not know which there are: a door has spaces of its own, which no other
/// door has. All it has to know of one is whether a client may be in several of its sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space(u8);

/// The bit of a space whose sets exclude each other.
const SINGLE: u8 = 0x80;

impl Space {
    /// Channels: clients join and leave them.
    pub const CHANNEL: Space = Space::many(0);
    /// Users: all clients of one.
    pub const USER: Space = Space::single(1);

    /// A kind of set of which a client may be in many; `number` is below 128.
    pub const fn many(number: u8) -> Self {
        assert!(number < SINGLE);
        Self(number)
    }

    /// A kind of set of which a client is in one at most: whoever is put into another one leaves it. `number` is below 128.
    pub const fn single(number: u8) -> Self {
        assert!(number < SINGLE);
        Self(number | SINGLE)
    }

    /// Whether a client is in one of its sets at most.
    pub const fn is_single(self) -> bool {
        self.0 & SINGLE != 0
    }
}

/// A name with its space. Shared, because registry, commands and answers all hold it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<[u8]>);

impl Name {
    /// The channel called `text`: any bytes.
    pub fn channel(text: &[u8]) -> Self {
        Self::new(Space::CHANNEL, text)
    }

    /// The user called `text`: any bytes.
    pub fn user(text: &[u8]) -> Self {
        Self::new(Space::USER, text)
    }

    /// What is called `text` in `space`: any bytes.
    pub fn new(space: Space, text: &[u8]) -> Self {
        // Short names, nearly all, are put together without an allocation of their own, and copied in one piece.
        let mut short = [space.0; 64];
        let Some(place) = short.get_mut(1..=text.len()) else {
            return Self([&[space.0], text].concat().into());
        };
        place.copy_from_slice(text);
        Self(short.get(..=text.len()).unwrap_or_default().into())
    }

    /// The kind of set.
    pub fn space(&self) -> Space {
        Space(self.0.first().copied().unwrap_or_default())
    }

    /// Its bytes as they were given, without the space.
    pub fn text(&self) -> &[u8] {
        self.0.get(1..).unwrap_or_default()
    }
}

/// For tables that look a name up before they keep it.
impl From<&Name> for Name {
    fn from(name: &Name) -> Self {
        name.clone()
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.space(), String::from_utf8_lossy(self.text()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn spaces_never_meet(one in prop::collection::vec(0..4u8, 0..5), other in prop::collection::vec(0..4u8, 0..5)) {
            prop_assert_ne!(Name::channel(&one), Name::user(&other));
            prop_assert_eq!(Name::channel(&one) == Name::channel(&other), one == other);
            prop_assert_eq!(Name::user(&one) == Name::user(&other), one == other);
        }

        #[test]
        fn a_name_is_what_it_was_made_of(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let (channel, user) = (Name::channel(&text), Name::user(&text));
            prop_assert_eq!((channel.space(), channel.text()), (Space::CHANNEL, &text[..]));
            prop_assert_eq!((user.space(), user.text()), (Space::USER, &text[..]));
        }
    }
}
