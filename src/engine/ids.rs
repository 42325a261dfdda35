//! Typed handles. A slot number is reused as soon as it is free, so every handle carries the generation of its slot: a
//! late acknowledgement, reply or timer for a dead client is a no-op. The identity a business sees encodes the handle
//! plus a keyed check, so that `/sub/` reaches the owning shard without a directory and nobody can forge or guess one.
//! Shorter ones of 20 digits, for doors whose backends expect that, do it in 80 bits (`short.rs`).

mod short;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::net::Ipv4Addr;

pub use self::short::{SHORT_ID_LEN, ShortId, ShortKey};

/// Number of a shard, 0..[`crate::limits::SHARDS_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

impl ShardId {
    /// As an index into a table of shards.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// One client of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId {
    /// The shard that owns the client for life.
    pub shard: ShardId,
    /// Its slot there.
    pub slot: u32,
    /// How often that slot had been used before.
    pub generation: u32,
}

/// One run of one node of a cluster: after a restart it is another one. Random.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeEpoch(pub u32);

/// One of the desks of a node: each control core has one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeskId(pub u16);

/// A question that waits for its answer, and where: whoever answers need not know who asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    /// Number of the question at its desk, each used once: 2^64 outlive every process.
    pub serial: u64,
    /// The node that asks.
    pub node: NodeEpoch,
    /// Which of its desks.
    pub desk: DeskId,
}

// Every publish, part and record of a delivery carries one.
const _: () = assert!(size_of::<Ticket>() == 16);

impl Ticket {
    /// Nobody waits for an answer: no desk gives out serial 0.
    pub const NOBODY: Ticket = Ticket {
        serial: 0,
        node: NodeEpoch(0),
        desk: DeskId(0),
    };
}

/// One publish on its way through one shard, from fan-out until every member is done or failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryKey {
    /// Slot in the shard's table of deliveries.
    pub slot: u32,
    /// How often that slot had been used before.
    pub generation: u32,
}

/// Bytes of the keyed check inside an identity.
pub const CHECK_BYTES: usize = 16;

/// Length of an identity on the wire: lower-case hex digits (spec: section 3).
pub const IDENTITY_LEN: usize = 64;

/// The wire identity of one client: 64 lower-case hex digits, opaque to everyone but [`IdentityKey`].
pub type Identity = [u8; IDENTITY_LEN];

/// Secret of this process that makes identities unguessable. Fresh per start, so identities of an earlier run are unknown.
#[derive(Clone)]
pub struct IdentityKey {
    node: NodeEpoch,
    keyed: Hmac<Sha256>,
    short: ShortKey,
}

impl IdentityKey {
    /// `node` tells servers of one cluster apart, `secret` keys the check and short ids; both random per start.
    pub fn new(node: u32, secret: [u8; 32]) -> Self {
        let mut block = [0; 64]; // a key of one block, zero-padded as RFC 2104 does it
        block[..32].copy_from_slice(&secret);
        let keyed = <Hmac<Sha256> as KeyInit>::new(&block.into());
        let node = NodeEpoch(node);
        let mut mac = keyed.clone();
        mac.update(b"short ids");
        let mut key = [0; 16];
        key.copy_from_slice(&mac.finalize().into_bytes()[..16]);
        let short = ShortKey::random(node, key);
        Self { node, keyed, short }
    }

    /// The same, with short ids of GatewayWorker's layout: this address, and numbers for so many shards with so many clients
    /// each.
    pub fn with_address(mut self, (ip, port): (Ipv4Addr, u16), shards: usize, clients: usize) -> Self {
        self.short = ShortKey::address(ip, port, shards, clients);
        self
    }

    /// Makes and reads short ids.
    pub const fn short(&self) -> &ShortKey {
        &self.short
    }

    /// The node whose clients it names.
    pub const fn node(&self) -> NodeEpoch {
        self.node
    }

    /// The keyed check of `client`, 16 bytes; kept with the client so that the identity can be written without hashing.
    pub fn check(&self, client: ClientId) -> [u8; CHECK_BYTES] {
        let mut mac = self.keyed.clone();
        mac.update(&self.plain(client));
        let full = mac.finalize().into_bytes();
        let mut check = [0; CHECK_BYTES];
        check.copy_from_slice(&full[..CHECK_BYTES]);
        check
    }

    /// The identity of `client` from the check computed for it by [`IdentityKey::check`].
    pub fn identity(&self, client: ClientId, check: &[u8; CHECK_BYTES]) -> Identity {
        let mut text = [0; IDENTITY_LEN];
        let (left, right) = text.split_at_mut(IDENTITY_LEN - 2 * CHECK_BYTES);
        hex(&self.plain(client), left);
        hex(check, right);
        text
    }

    /// The client an identity names, or `None` if it is not one of this process. Constant time in the check.
    pub fn client(&self, identity: &[u8]) -> Option<ClientId> {
        let mut raw = [0; IDENTITY_LEN / 2];
        unhex(identity, &mut raw)?;
        let (plain, check) = raw.split_at(raw.len() - CHECK_BYTES);
        let mut mac = self.keyed.clone();
        mac.update(plain);
        mac.verify_truncated_left(check).ok()?;
        let word = |at: usize| Some(u32::from_be_bytes(plain.get(at..at + 4)?.try_into().ok()?));
        if word(0)? != self.node.0 {
            return None;
        }
        Some(ClientId {
            shard: ShardId(u16::try_from(word(4)?).ok()?),
            slot: word(8)?,
            generation: word(12)?,
        })
    }

    fn plain(&self, client: ClientId) -> [u8; 16] {
        let mut plain = [0; 16];
        plain[0..4].copy_from_slice(&self.node.0.to_be_bytes());
        plain[4..8].copy_from_slice(&u32::from(client.shard.0).to_be_bytes());
        plain[8..12].copy_from_slice(&client.slot.to_be_bytes());
        plain[12..16].copy_from_slice(&client.generation.to_be_bytes());
        plain
    }
}

impl std::fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IdentityKey(node {:08x})", self.node.0)
    }
}

/// Writes `bytes` as lower-case hex into `text`, which is twice as long.
fn hex(bytes: &[u8], text: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, pair) in bytes.iter().zip(text.chunks_exact_mut(2)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

/// Reads lower-case hex; `None` unless `text` is exactly twice as long as `bytes`.
fn unhex(text: &[u8], bytes: &mut [u8]) -> Option<()> {
    if text.len() != bytes.len() * 2 {
        return None;
    }
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> ClientId {
        ClientId {
            shard: ShardId(3),
            slot: 70_000,
            generation: 9,
        }
    }

    #[test]
    fn identity_round_trips() {
        let key = IdentityKey::new(7, [1; 32]);
        let identity = key.identity(client(), &key.check(client()));
        assert!(identity.iter().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(c)));
        assert_eq!(key.client(&identity), Some(client()));
    }

    #[test]
    fn forged_identities_are_unknown() {
        let key = IdentityKey::new(7, [1; 32]);
        let identity = key.identity(client(), &key.check(client()));
        for at in 0..IDENTITY_LEN {
            let mut forged = identity;
            forged[at] = if forged[at] == b'0' { b'1' } else { b'0' };
            assert_eq!(key.client(&forged), None, "digit {at}");
        }
        assert_eq!(IdentityKey::new(7, [2; 32]).client(&identity), None);
        assert_eq!(IdentityKey::new(8, [1; 32]).client(&identity), None);
        assert_eq!(key.client(&identity[..63]), None);
        assert_eq!(key.client(b""), None);
        assert_eq!(key.client(&identity.to_ascii_uppercase()), None);
    }
}
