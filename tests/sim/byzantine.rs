//! Clients that do what no client should. What they get is their own business; the oracle looks at what the business server
//! and everybody else see of it.

use crate::conn::Conn;
use crate::rng::Rng;
use crate::wire::{self, Packet};

/// A payload that was sent behind a close frame: nobody may ever see it.
pub const TOO_LATE: &[u8] = b"too late";

/// Something to send. Sets [`Conn::leaving`] if the server may end the connection for it.
pub fn nonsense(conn: &mut Conn, rng: &mut Rng) -> Vec<u8> {
    let id = rng.within(0, 40) as u16;
    match rng.index(20) {
        // Acknowledgements of what it was not sent, or of something else than it got.
        0..3 => wire::ack(id, b"not mine"),
        3..5 => wire::rec(id, b"not mine"),
        5 => wire::rel(id),
        6 => Packet::Com { id }.framed(),
        // The same id for everything, with and without DUP.
        7..9 => wire::send(rng.chance(50), rng.within(0, 3) as u8, id, 7, b"the same again"),
        9 => wire::frame(1, b"text, and no packet"),
        10 => wire::fragments(&Packet::Rel { id }.bytes(), 2),
        11 => wire::frame(2, &random_bytes(rng, 40)),
        12 => (0..rng.within(1, 60)).flat_map(|_| wire::ping(b"!")).collect(),
        13 => (0..rng.within(1, 30)).flat_map(|_| wire::rec(id, b"")).collect(),
        other => {
            conn.leaving = true;
            match other {
                14 => [wire::close(Some(1000)), wire::send(false, 1, 1, 9, TOO_LATE)].concat(),
                // Longer than any message may be.
                15 => [&[0x82, 0xff], &(1u64 << 40).to_be_bytes()[..], &[1, 2, 3, 4]].concat(),
                16 => random_bytes(rng, 200),
                // Not masked; a fragmented ping; a fragment of nothing.
                17 => vec![0x82, 0x03, 0x40, 0, 1],
                18 => wire::masked(0x09, b"ping"),
                _ => wire::masked(0x80, b"the rest of nothing"),
            }
        }
    }
}

fn random_bytes(rng: &mut Rng, most: u64) -> Vec<u8> {
    (0..rng.within(1, most)).map(|_| rng.within(0, 255) as u8).collect()
}
