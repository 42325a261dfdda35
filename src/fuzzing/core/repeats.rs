//! Repetitions in what a client has read. A message is repeated when its acknowledgement is late, but not while it has not
//! left, so how many there are depends on the kernel.

/// Whether there is a SEND packet with DUP. Only what a websocket was sent is looked at.
pub(super) fn are_in(bytes: &[u8]) -> bool {
    let head = bytes.windows(4).position(|end| end == b"\r\n\r\n").map(|at| at + 4);
    let Some(head) = head.filter(|_| bytes.starts_with(b"HTTP/1.1 101")) else {
        return false;
    };
    let mut rest = &bytes[head..];
    while !rest.is_empty() {
        let (header, payload) = match rest {
            [_, 126, high, low, ..] => (4, usize::from(*high) << 8 | usize::from(*low)),
            [_, len @ 0..126, ..] => (2, usize::from(*len)),
            _ => return false, // cut off, or longer than any message of these scripts
        };
        if rest[0] == 0x82 && rest.get(header).is_some_and(|first| first & 0xF8 == 0x18) {
            return true;
        }
        rest = rest.get(header + payload..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::are_in;

    #[test]
    fn repetitions_are_found_among_frames() {
        let head = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";
        let (send, repeated, ping) = (
            b"\x82\x05\x12\x00\x07\x00\x1a",
            b"\x82\x05\x1a\x00\x07\x00\x01",
            b"\x89\x00",
        );
        assert!(!are_in(&[&head[..], send, ping, send].concat()));
        assert!(are_in(&[&head[..], send, ping, repeated].concat()));
        assert!(are_in(&[&head[..], send, &repeated[..3]].concat()), "cut off");
        assert!(!are_in(
            &[&head[..], b"\x82\x7e\x00\x80\x12", &[0x1a; 127], ping].concat()
        ));
        assert!(!are_in(b"HTTP/1.1 200 OK\r\n\r\n\x82\x01\x1a"));
    }
}
