//! Client ids of 20 hex digits: 80 bits that say which client of which shard, without a table.
//!
//! - Random: 24 bits of the node's epoch, 6 of the shard, 20 of the slot, 30 of its generation, through a keyed permutation of
//!   80 bits (a Feistel network of two halves whose rounds are SipHash-2-4). Whoever does not know the key sees random numbers.
//!   One that is made up has the right epoch once in 2^24 times, and then still has to meet a client that is there. None names
//!   two clients: a slot retires before its generation repeats (`slots.rs`).
//! - Of an address: GatewayWorker's layout, an IPv4 address, a port, and 32 bits, which are shard, slot and as many bits of the
//!   generation as are left. Such an id can be guessed, and names another client once the slot has been used often enough.
//!   The generation is not whole in it: what is read from it is a guess ([`ClientId::is_guess`]) that only the owning shard can
//!   settle ([`ShortKey::settle`]).

use std::net::Ipv4Addr;

use siphasher::sip::SipHasher24;

use super::{ClientId, NodeEpoch, ShardId, hex, unhex};
use crate::engine::slots::GENERATION_BITS;
use crate::limits::SHARDS_MAX;

/// Length of a short id: lower-case hex digits.
pub const SHORT_ID_LEN: usize = 20;

/// A short id.
pub type ShortId = [u8; SHORT_ID_LEN];

const EPOCH_BITS: u32 = 24;
const SHARD_BITS: u32 = 6;
const SLOT_BITS: u32 = 20;
const HALF_BITS: u32 = 40;
const HALF: u64 = low(HALF_BITS);
/// Rounds of the permutation. Four make a strong one of two random functions' halves (Luby and Rackoff); with halves as short
/// as these more are wanted, and each is a few nanoseconds.
const ROUNDS: u8 = 8;
/// In the generation of a [`ClientId`]: it is a guess. No slot has such a generation.
const GUESS: u32 = 1 << 31;

const _: () = assert!(EPOCH_BITS + SHARD_BITS + SLOT_BITS + GENERATION_BITS == 2 * HALF_BITS);
const _: () = assert!(SHARDS_MAX <= 1 << SHARD_BITS && GENERATION_BITS < 31);

/// So many bits set.
const fn low(bits: u32) -> u64 {
    (1 << bits) - 1
}

/// Makes and reads short ids.
#[derive(Clone)]
pub struct ShortKey(Form);

#[derive(Clone)]
enum Form {
    Random { rounds: SipHasher24, epoch: u64 },
    Address(Address),
}

/// What ids of GatewayWorker's layout are made with.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Address {
    prefix: [u8; 6],
    shard_bits: u32,
    slot_bits: u32,
}

impl ShortKey {
    /// Ids that cannot be guessed without `key`.
    pub(super) fn random(node: NodeEpoch, key: [u8; 16]) -> Self {
        Self(Form::Random {
            rounds: SipHasher24::new_with_key(&key),
            epoch: u64::from(node.0) & low(EPOCH_BITS),
        })
    }

    /// Ids of GatewayWorker's layout, for so many shards with so many clients each.
    pub(super) fn address(ip: Ipv4Addr, port: u16, shards: usize, clients: usize) -> Self {
        let bits = |count: usize| count.max(1).next_power_of_two().trailing_zeros();
        let [a, b, c, d] = ip.octets();
        let [e, f] = port.to_be_bytes();
        Self(Form::Address(Address {
            prefix: [a, b, c, d, e, f],
            shard_bits: bits(shards).min(SHARD_BITS),
            slot_bits: bits(clients).min(SLOT_BITS),
        }))
    }

    /// Whether there is an id for this client. A door that has them admits no other.
    pub fn has_room(&self, client: ClientId) -> bool {
        let (shard_bits, slot_bits) = match &self.0 {
            Form::Random { .. } => (SHARD_BITS, SLOT_BITS),
            Form::Address(address) => (address.shard_bits, address.slot_bits),
        };
        u64::from(client.shard.0) <= low(shard_bits) && u64::from(client.slot) <= low(slot_bits)
    }

    /// The id of a client that it has room for.
    pub fn id(&self, client: ClientId) -> ShortId {
        debug_assert!(self.has_room(client) && !client.is_guess());
        let mut id = [0; SHORT_ID_LEN];
        match &self.0 {
            Form::Random { rounds, epoch } => {
                let bits = pack(*epoch, client);
                hex(&permuted(rounds, bits).to_be_bytes()[6..], &mut id);
            }
            Form::Address(address) => hex(&address.bytes(client), &mut id),
        }
        id
    }

    /// The client an id names; `None` if it is no id of this process.
    pub fn client(&self, id: &[u8]) -> Option<ClientId> {
        let mut bytes = [0; SHORT_ID_LEN / 2];
        unhex(id, &mut bytes)?;
        match &self.0 {
            Form::Random { rounds, epoch } => {
                let mut bits = [0; 16];
                bits[6..].copy_from_slice(&bytes);
                unpack(*epoch, restored(rounds, u128::from_be_bytes(bits)))
            }
            Form::Address(address) => address.client(&bytes),
        }
    }

    /// A guess that the slot's generation of now agrees with becomes the client that is there; every other handle stays.
    pub fn settle(&self, client: ClientId, generation: u32) -> ClientId {
        match &self.0 {
            Form::Address(address) if client.is_guess() && address.guess(generation) == client.generation => {
                ClientId { generation, ..client }
            }
            _ => client,
        }
    }
}

impl ClientId {
    /// Its generation is not known to the last bit: it finds nobody until its shard has settled it.
    pub const fn is_guess(self) -> bool {
        self.generation & GUESS != 0
    }
}

impl Address {
    fn generation_bits(&self) -> u32 {
        (32 - self.shard_bits - self.slot_bits).min(GENERATION_BITS)
    }

    /// What an id tells of a generation.
    fn guess(&self, generation: u32) -> u32 {
        GUESS | generation & low(self.generation_bits()) as u32
    }

    fn bytes(&self, client: ClientId) -> [u8; SHORT_ID_LEN / 2] {
        let generation = u64::from(self.guess(client.generation) & !GUESS);
        let number =
            (generation << self.shard_bits | u64::from(client.shard.0)) << self.slot_bits | u64::from(client.slot);
        let mut bytes = [0; SHORT_ID_LEN / 2];
        bytes[..6].copy_from_slice(&self.prefix);
        bytes[6..].copy_from_slice(&(number as u32).to_be_bytes());
        bytes
    }

    fn client(&self, bytes: &[u8; SHORT_ID_LEN / 2]) -> Option<ClientId> {
        let (prefix, number) = bytes.split_at(6);
        if prefix != self.prefix {
            return None;
        }
        let number = u64::from(u32::from_be_bytes(number.try_into().ok()?));
        let shard = number >> self.slot_bits & low(self.shard_bits);
        let generation = number >> (self.slot_bits + self.shard_bits);
        (generation <= low(self.generation_bits())).then_some(ClientId {
            shard: ShardId(shard as u16),
            slot: (number & low(self.slot_bits)) as u32,
            generation: GUESS | generation as u32,
        })
    }
}

fn pack(epoch: u64, client: ClientId) -> u128 {
    let shard = u128::from(u64::from(client.shard.0) & low(SHARD_BITS));
    let slot = u128::from(u64::from(client.slot) & low(SLOT_BITS));
    let generation = u128::from(u64::from(client.generation) & low(GENERATION_BITS));
    ((u128::from(epoch) << SHARD_BITS | shard) << SLOT_BITS | slot) << GENERATION_BITS | generation
}

fn unpack(own: u64, bits: u128) -> Option<ClientId> {
    let part = |at: u32, bits_of: u32| (bits >> at) as u64 & low(bits_of);
    let epoch = part(GENERATION_BITS + SLOT_BITS + SHARD_BITS, EPOCH_BITS);
    (epoch == own).then(|| ClientId {
        shard: ShardId(part(GENERATION_BITS + SLOT_BITS, SHARD_BITS) as u16),
        slot: part(GENERATION_BITS, SLOT_BITS) as u32,
        generation: part(0, GENERATION_BITS) as u32,
    })
}

/// The permutation of 80 bits.
fn permuted(rounds: &SipHasher24, bits: u128) -> u128 {
    let (mut left, mut right) = ((bits >> HALF_BITS) as u64, bits as u64 & HALF);
    for round in 0..ROUNDS {
        (left, right) = (right, left ^ mixed(rounds, round, right));
    }
    u128::from(left) << HALF_BITS | u128::from(right)
}

/// Its inverse.
fn restored(rounds: &SipHasher24, bits: u128) -> u128 {
    let (mut left, mut right) = ((bits >> HALF_BITS) as u64 & HALF, bits as u64 & HALF);
    for round in (0..ROUNDS).rev() {
        (left, right) = (right ^ mixed(rounds, round, left), left);
    }
    u128::from(left) << HALF_BITS | u128::from(right)
}

fn mixed(rounds: &SipHasher24, round: u8, half: u64) -> u64 {
    rounds.hash(&(u64::from(round) << HALF_BITS | half).to_le_bytes()) & HALF
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn key(node: u32, key: u8) -> ShortKey {
        ShortKey::random(NodeEpoch(node), [key; 16])
    }

    fn client(shard: u16, slot: u32, generation: u32) -> ClientId {
        ClientId {
            shard: ShardId(shard),
            slot,
            generation,
        }
    }

    #[test]
    fn ids_are_their_keys_and_their_nodes() {
        let (one, id) = (key(7, 1), key(7, 1).id(client(3, 70_000, 9)));
        assert_eq!(one.client(&id), Some(client(3, 70_000, 9)));
        assert_eq!(key(7, 2).client(&id), None);
        assert_eq!(
            key(8, 1).client(&id),
            None,
            "another run of this server, or another server with the key"
        );
        assert_eq!(one.client(&id[..19]), None);
        assert_eq!(one.client(&[&id[..], b"0"].concat()), None);
        assert_eq!(one.client(b""), None);
        assert_eq!(one.client(b"GGGGGGGGGGGGGGGGGGGG"), None);
    }

    #[test]
    fn upper_case_is_no_id() {
        let one = key(7, 1);
        let ids = (0..32).map(|slot| one.id(client(0, slot, 0)));
        for id in ids.filter(|id| id.iter().any(u8::is_ascii_lowercase)) {
            assert_eq!(one.client(&id.to_ascii_uppercase()), None);
        }
    }

    /// Neighbours do not look alike, and no id comes twice.
    #[test]
    fn neighbours_differ_everywhere() {
        let one = key(7, 1);
        let ids: Vec<_> = (0..4096).map(|slot| one.id(client(0, slot, 0))).collect();
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
        let same: usize = ids
            .windows(2)
            .map(|pair| pair[0].iter().zip(&pair[1]).filter(|(a, b)| a == b).count())
            .sum();
        // One digit in sixteen is the same by chance.
        let per_pair = same as f64 / (ids.len() - 1) as f64;
        assert!((1.0..1.5).contains(&per_pair), "{per_pair} of 20 digits");
    }

    #[test]
    fn forged_ids_are_unknown() {
        let one = key(7, 1);
        let id = one.id(client(3, 70_000, 9));
        for at in 0..SHORT_ID_LEN {
            for digit in b"0123456789abcdef".iter().filter(|digit| **digit != id[at]) {
                let mut forged = id;
                forged[at] = *digit;
                assert_eq!(one.client(&forged), None, "digit {at}");
            }
        }
    }

    #[test]
    fn what_has_no_room_is_told() {
        let random = key(7, 1);
        assert!(random.has_room(client(63, (1 << 20) - 1, 0)));
        assert!(!random.has_room(client(64, 0, 0)) && !random.has_room(client(0, 1 << 20, 0)));
        let address = ShortKey::address(Ipv4Addr::LOCALHOST, 7272, 3, 1000);
        assert!(address.has_room(client(3, 1023, 0)));
        assert!(!address.has_room(client(4, 0, 0)) && !address.has_room(client(0, 1024, 0)));
    }

    #[test]
    fn ids_of_an_address_have_gatewayworkers_layout() {
        let key = ShortKey::address(Ipv4Addr::LOCALHOST, 27101, 2, 1 << 16);
        let id = key.id(client(1, 5, 3));
        assert_eq!(
            &id, b"7f00000169dd00070005",
            "15 bits of generation, 1 of shard, 16 of slot"
        );
        let guess = key.client(&id).expect("one of this server");
        assert!(guess.is_guess() && guess.shard == ShardId(1) && guess.slot == 5);
        assert_eq!(key.settle(guess, 3), client(1, 5, 3));
        assert_eq!(key.settle(guess, 4), guess, "another client has the slot");
        assert_eq!(
            key.settle(guess, 3 + (1 << 15)),
            client(1, 5, 3 + (1 << 15)),
            "what this layout gives up"
        );
        assert_eq!(key.settle(client(1, 5, 2), 3), client(1, 5, 2), "no guess");
        assert_eq!(key.client(b"7f00000169de00070005"), None, "another port");
        assert_eq!(key.client(b"7f00000269dd00070005"), None, "another address");
    }

    proptest! {
        #[test]
        fn every_client_has_one_id_and_every_id_one_client(
            node: u32, secret: u8, shard in 0u16..64, slot in 0u32..1 << 20, generation in 0u32..1 << 30,
        ) {
            let key = key(node, secret);
            let id = key.id(client(shard, slot, generation));
            prop_assert!(id.iter().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(c)));
            prop_assert_eq!(key.client(&id), Some(client(shard, slot, generation)));
        }

        /// It is a permutation of all 80 bits, not only of those that are ids.
        #[test]
        fn the_permutation_has_an_inverse(secret: [u8; 16], bits: u128) {
            let rounds = SipHasher24::new_with_key(&secret);
            let bits = bits >> 48;
            prop_assert_eq!(restored(&rounds, permuted(&rounds, bits)), bits);
            prop_assert_eq!(permuted(&rounds, restored(&rounds, bits)), bits);
            prop_assert!(permuted(&rounds, bits) >> 80 == 0);
        }

        #[test]
        fn ids_of_an_address_lead_back(
            shards in 1usize..=64, clients in 1usize..=1 << 20, shard: u16, slot: u32, generation in 0u32..1 << 30,
        ) {
            let key = ShortKey::address(Ipv4Addr::new(10, 0, 0, 1), 7272, shards, clients);
            let own = client(shard % shards as u16, slot % clients as u32, generation);
            prop_assert!(key.has_room(own));
            let guess = key.client(&key.id(own));
            prop_assert_eq!(guess.map(|guess| key.settle(guess, generation)), Some(own));
        }

        #[test]
        fn nothing_panics(text: Vec<u8>) {
            let _ = key(1, 2).client(&text);
            let _ = ShortKey::address(Ipv4Addr::LOCALHOST, 1, 64, 1 << 20).client(&text);
        }
    }
}
