//! Bodies packed with gzip (RFC 1952), as backends really send them.
//!
//! What is bent but clear is read, as 0.05 did: bytes behind the last member (a newline of a template, zeros of a block) are
//! ignored, and the check sum and length at its end may be missing. A check sum that is there has to be right, and data that end
//! in the middle are no answer. Caller: the outgoing HTTP client.
//!
//! Invariants: memory is what was unpacked, at most `max` bytes and one step more, whatever the input claims; members are
//! counted, since each of them costs a reset of the decompressor.

use flate2::{Crc, Decompress, FlushDecompress, Status};

/// What a member begins with: the format's mark, and deflate, the only method there is.
const START: [u8; 3] = [0x1f, 0x8b, 8];
/// The mark, flags, time, extra flags and system.
const HEADER_BYTES: usize = 10;
/// Check sum and length.
const TRAILER_BYTES: usize = 8;
/// Flags that announce something more in the header (§2.3.1).
const CHECKED: u8 = 2;
const EXTRA: u8 = 4;
const NAME: u8 = 8;
const COMMENT: u8 = 16;
/// Members of one body. Packers that work in blocks make one of each 64 KiB.
const MEMBERS_MAX: usize = 1024;
/// Room for unpacked bytes grows by this.
const STEP: usize = 16 * 1024;

/// Unpacks all members of `packed`. `None` if it is not gzip, is broken or cut off, or has more than `max` bytes inside.
pub fn unpack(packed: &[u8], max: usize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut inflater = Decompress::new(false);
    let mut rest = packed;
    for _ in 0..MEMBERS_MAX {
        rest = member(rest, &mut inflater, &mut out, max)?;
        if !rest.starts_with(&START) {
            return Some(out);
        }
        inflater.reset(false);
    }
    None
}

/// Unpacks one member to the end of `out`; returns what follows it.
fn member<'a>(input: &'a [u8], inflater: &mut Decompress, out: &mut Vec<u8>, max: usize) -> Option<&'a [u8]> {
    let start = out.len();
    let rest = inflate(behind_header(input)?, inflater, out, max)?;
    let Some((trailer, rest)) = rest.split_at_checked(TRAILER_BYTES) else {
        return Some(&[]); // it was cut off behind the data
    };
    let mut crc = Crc::new();
    crc.update(out.get(start..)?);
    let expected = [crc.sum().to_le_bytes(), crc.amount().to_le_bytes()].concat();
    (trailer == expected).then_some(rest)
}

fn behind_header(input: &[u8]) -> Option<&[u8]> {
    let (header, mut rest) = input.split_at_checked(HEADER_BYTES)?;
    let flags = *header.get(START.len()).filter(|_| header.starts_with(&START))?;
    if flags & EXTRA != 0 {
        let (length, behind) = rest.split_first_chunk()?;
        rest = behind.get(usize::from(u16::from_le_bytes(*length))..)?;
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            let end = rest.iter().position(|&byte| byte == 0)?;
            rest = rest.get(end + 1..)?;
        }
    }
    if flags & CHECKED != 0 {
        rest.get(2..)
    } else {
        Some(rest)
    }
}

fn inflate<'a>(mut input: &'a [u8], inflater: &mut Decompress, out: &mut Vec<u8>, max: usize) -> Option<&'a [u8]> {
    loop {
        out.reserve(STEP);
        let (taken, given) = (inflater.total_in(), out.len());
        let status = inflater.decompress_vec(input, out, FlushDecompress::None).ok()?;
        let taken = usize::try_from(inflater.total_in() - taken).ok()?;
        input = input.get(taken..)?;
        if out.len() > max {
            return None;
        }
        match status {
            Status::StreamEnd => return Some(input),
            _ if taken == 0 && out.len() == given => return None, // it ends in the middle
            Status::Ok | Status::BufError => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, GzBuilder};

    use super::*;

    const MAX: usize = 1 << 20;

    fn pack(body: &[u8]) -> Vec<u8> {
        let mut encoder = GzBuilder::new().write(Vec::new(), Compression::best());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    fn text() -> Vec<u8> {
        (0..50_000u32).flat_map(|n| n.to_string().into_bytes()).collect()
    }

    #[test]
    fn what_was_packed_is_unpacked() {
        for body in [b"".to_vec(), b"squeezed".to_vec(), text()] {
            assert_eq!(unpack(&pack(&body), MAX), Some(body));
        }
        let mut encoder = GzBuilder::new()
            .extra(b"extra".to_vec())
            .filename("name")
            .comment("comment")
            .write(Vec::new(), Compression::fast());
        encoder.write_all(b"with everything").unwrap();
        assert_eq!(unpack(&encoder.finish().unwrap(), MAX).unwrap(), b"with everything");
        assert_eq!(
            unpack(&[pack(b"two "), pack(b"members")].concat(), MAX).unwrap(),
            b"two members"
        );
    }

    #[test]
    fn what_is_clear_is_read() {
        let packed = pack(b"clear");
        for behind in [&b"\n"[..], b"\r\n", &[0; 512], b"\x1f", b"\x1f\x8b", b"anything else"] {
            assert_eq!(
                unpack(&[&packed, behind].concat(), MAX).unwrap(),
                b"clear",
                "{behind:?}"
            );
        }
        for cut in 1..=TRAILER_BYTES {
            assert_eq!(unpack(&packed[..packed.len() - cut], MAX).unwrap(), b"clear", "{cut}");
        }
    }

    #[test]
    fn what_is_not_clear_is_not() {
        let (packed, long) = (pack(b"clear"), pack(&text()));
        for cut in TRAILER_BYTES + 1..packed.len() {
            assert_eq!(unpack(&packed[..packed.len() - cut], MAX), None, "{cut}");
        }
        assert_eq!(unpack(&long[..long.len() / 2], MAX), None);
        for at in [0, 1, 2, packed.len() - 1, packed.len() - 8] {
            let mut broken = packed.clone();
            broken[at] ^= 1;
            assert_eq!(unpack(&broken, MAX), None, "byte {at}");
        }
        assert_eq!(unpack(b"nope", MAX), None);
        assert_eq!(unpack(b"", MAX), None);
    }

    #[test]
    fn memory_and_work_are_bounded() {
        assert_eq!(unpack(&pack(&vec![0; MAX]), MAX).map(|body| body.len()), Some(MAX));
        assert_eq!(unpack(&pack(&vec![0; MAX + 1]), MAX), None);
        assert_eq!(unpack(&pack(b"").repeat(MEMBERS_MAX + 1), MAX), None);
    }
}
