//! What is published: to whom, for whom not, and what is told about it. Part of the vocabulary of [`super::command`].
//!
//! ```text
//!   Set(name) ──────────▶ home of the name ─────────┐
//!   Any(names, clients) ▶ home of the first name, ──┼─▶ Deliver to every shard that may have somebody
//!                         or owner of the clients ──┘
//! ```
//! Bounds: as many names and clients as whoever publishes has named. A shard looks each of them up once.

use bytes::Bytes;

use super::ids::{ClientId, ShardId, Ticket};
use super::name::Name;
use super::registry::HomeHash;
use crate::time::{Duration, Instant};

/// Delivery guarantee of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Qos {
    /// At most once, not acknowledged.
    AtMostOnce = 0,
    /// At least once.
    AtLeastOnce = 1,
    /// Exactly once.
    ExactlyOnce = 2,
}

impl Qos {
    /// What a caller can wait for that says most about the guarantee: that it was passed on, or who acknowledged.
    pub const fn tell(self) -> Tell {
        match self {
            Self::AtMostOnce => Tell::Published,
            Self::AtLeastOnce | Self::ExactlyOnce => Tell::Acknowledged,
        }
    }
}

/// Whom a message is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Everybody in a set. It goes by the home of its name, so all members see one order.
    Set(Name),
    /// Everybody in any of several sets, and some clients, each once. Made by [`Target::any`].
    Any(Box<Any>),
}

/// Several sets, and clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Any {
    names: Vec<Name>,
    clients: ClientSet,
}

/// Clients, each once. Whether one is among them is a binary search. Most sets are empty: those cost a word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientSet(Option<Box<Sorted>>);

/// In order, each once; never none.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sorted(Vec<ClientId>);

/// What whoever publishes is told, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tell {
    /// Nothing.
    Nobody,
    /// That the home has passed it on ([`super::command::Report::Published`]).
    Published,
    /// How many members it was written to or queued for, and how many it was dropped for since they are too slow or gone:
    /// every shard with members sends a [`super::command::Part`].
    Counted,
    /// How many members acknowledged: every shard with members sends a [`super::command::Part`]. For guarantees that have
    /// acknowledgements; at most once it is the same as [`Tell::Counted`].
    Acknowledged,
}

/// How the deadline of a publish is told to its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtDeadline {
    /// As a timeout.
    TimedOut,
    /// As failed members: their last retry ran out at the same moment (spec: section 8, T divisible by 3).
    Failed,
}

/// What is to be sent; shared by every shard that delivers it.
#[derive(Clone, Debug)]
pub struct Publish {
    /// Whom to answer; unused with [`Tell::Nobody`].
    pub ticket: Ticket,
    /// Where to.
    pub to: Target,
    /// Who does not get it, though it is for them too.
    pub except: ClientSet,
    /// The door's own mark of the message: its type, or its opcode.
    pub tag: u16,
    /// Guarantee.
    pub qos: Qos,
    /// Payload, byte for byte.
    pub payload: Bytes,
    /// What is told.
    pub tell: Tell,
    /// Repetitions after the first transmission.
    pub retries: u32,
    /// Time between two transmissions.
    pub retry_interval: Duration,
    /// When the caller is answered at the latest.
    pub deadline: Instant,
    /// What members that did not answer by the deadline count as.
    pub at_deadline: AtDeadline,
    /// Every shard with members sends a [`super::command::Report::Online`] too, whatever the guarantee.
    pub tells_online: bool,
}

impl Publish {
    /// To be delivered once at most, and nobody is told what became of it.
    pub fn untold(to: impl Into<Target>, tag: u16, payload: Bytes) -> Self {
        Self::once(Ticket::NOBODY, to, tag, payload, Tell::Nobody, Instant::ZERO)
    }

    /// To be delivered once at most; whoever waits for `ticket` is told by the deadline.
    pub fn once(
        ticket: Ticket,
        to: impl Into<Target>,
        tag: u16,
        payload: Bytes,
        tell: Tell,
        deadline: Instant,
    ) -> Self {
        Self {
            ticket,
            to: to.into(),
            except: ClientSet::default(),
            tag,
            qos: Qos::AtMostOnce,
            payload,
            tell,
            retries: 0,
            retry_interval: Duration::ZERO,
            deadline,
            at_deadline: AtDeadline::TimedOut,
            tells_online: false,
        }
    }

    /// The same, but not for these.
    #[must_use]
    pub fn except(mut self, clients: impl Into<ClientSet>) -> Self {
        self.except = clients.into();
        self
    }

    /// Whether its members are counted at the moment of writing to them.
    pub fn is_counted(&self) -> bool {
        self.qos == Qos::AtMostOnce && self.tell.has_parts()
    }
}

impl Tell {
    /// Whether every shard that delivers it says what became of it there.
    pub const fn has_parts(self) -> bool {
        matches!(self, Self::Counted | Self::Acknowledged)
    }
}

impl Target {
    /// Everybody in any of these sets, and these clients.
    pub fn any(names: Vec<Name>, clients: impl Into<ClientSet>) -> Self {
        let (mut names, clients) = (names, clients.into());
        // The first one decides where it goes by; the order of the others does not matter.
        if let Some((first, others)) = names.split_first_mut() {
            others.sort_unstable();
            let first = first.clone();
            let mut at = 0;
            names.retain(|name| std::mem::replace(&mut at, 1) == 0 || *name != first);
            names.dedup();
        }
        match names.pop() {
            Some(only) if names.is_empty() && clients.is_empty() => Self::Set(only),
            last => {
                names.extend(last);
                Self::Any(Box::new(Any { names, clients }))
            }
        }
    }

    /// One client.
    pub fn client(client: ClientId) -> Self {
        Self::any(Vec::new(), vec![client])
    }

    /// The shard that distributes it; `None` if it is for nobody.
    pub fn distributor(&self, home: &HomeHash) -> Option<ShardId> {
        let any = match self {
            Self::Set(name) => return Some(home.home_of(name)),
            Self::Any(any) => any,
        };
        let owner = || {
            any.clients
                .iter()
                .map(|client| client.shard)
                .find(|shard| home.has(*shard))
        };
        any.names.first().map(|name| home.home_of(name)).or_else(owner)
    }
}

impl From<Name> for Target {
    fn from(name: Name) -> Self {
        Self::Set(name)
    }
}

impl Any {
    /// The sets, each once. The home of the first one distributes.
    pub fn names(&self) -> &[Name] {
        &self.names
    }

    /// The clients.
    pub fn clients(&self) -> &ClientSet {
        &self.clients
    }
}

impl ClientSet {
    /// Whether `client` is among them.
    #[inline]
    pub fn contains(&self, client: ClientId) -> bool {
        !self.is_empty() && self.as_slice().binary_search(&client).is_ok()
    }

    /// Those of one shard.
    pub fn of_shard(&self, shard: ShardId) -> &[ClientId] {
        let all = self.as_slice();
        let start = all.partition_point(|client| client.shard < shard);
        let rest = all.get(start..).unwrap_or_default();
        let len = rest.partition_point(|client| client.shard == shard);
        rest.get(..len).unwrap_or_default()
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = ClientId> {
        self.as_slice().iter().copied()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Whether there is none.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn as_slice(&self) -> &[ClientId] {
        self.0.as_ref().map_or(&[], |sorted| &sorted.0)
    }
}

impl From<Vec<ClientId>> for ClientSet {
    fn from(mut clients: Vec<ClientId>) -> Self {
        clients.sort_unstable();
        clients.dedup();
        Self((!clients.is_empty()).then(|| Box::new(Sorted(clients))))
    }
}

impl FromIterator<ClientId> for ClientSet {
    fn from_iter<I: IntoIterator<Item = ClientId>>(clients: I) -> Self {
        clients.into_iter().collect::<Vec<_>>().into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(number: u8) -> Name {
        Name::channel(&[number])
    }

    fn client(number: u16) -> ClientId {
        ClientId {
            shard: ShardId(number % 4),
            slot: u32::from(number / 4),
            generation: 0,
        }
    }

    #[test]
    fn one_set_is_one_set() {
        assert_eq!(Target::any(vec![name(1), name(1)], vec![]), Target::Set(name(1)));
        let both = Target::any(vec![name(1)], vec![client(1)]);
        assert!(matches!(both, Target::Any(_)));
    }

    #[test]
    fn it_goes_by_the_first_name_or_the_owner_of_a_client() {
        let home = HomeHash::new(1, 3);
        let first = Target::any(vec![name(2), name(1)], vec![client(0)]);
        assert_eq!(first.distributor(&home), Some(home.home_of(&name(2))));
        assert_eq!(Target::client(client(2)).distributor(&home), Some(ShardId(2)));
        assert_eq!(Target::client(client(3)).distributor(&home), None, "no such shard");
        assert_eq!(Target::any(vec![], vec![]).distributor(&home), None);
    }

    proptest! {
        #[test]
        fn names_are_each_there_once_and_the_first_stays(numbers in prop::collection::vec(0..6u8, 1..12)) {
            let target = Target::any(numbers.iter().copied().map(name).collect(), vec![client(1)]);
            let Target::Any(any) = target else { panic!() };
            prop_assert_eq!(any.names().first(), Some(&name(numbers[0])));
            for number in 0..6 {
                let times = any.names().iter().filter(|known| **known == name(number)).count();
                prop_assert_eq!(times, usize::from(numbers.contains(&number)));
            }
        }

        #[test]
        fn clients_are_a_set(numbers in prop::collection::vec(0..40u16, 0..40)) {
            let set: ClientSet = numbers.iter().copied().map(client).collect();
            for number in 0..40 {
                prop_assert_eq!(set.contains(client(number)), numbers.contains(&number));
            }
            let by_shard: usize = (0..5).map(|shard| set.of_shard(ShardId(shard)).len()).sum();
            prop_assert_eq!(by_shard, set.len());
            for shard in 0..5 {
                prop_assert!(set.of_shard(ShardId(shard)).iter().all(|client| client.shard.0 == shard));
            }
        }
    }
}
