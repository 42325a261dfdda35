//! Rainbow packets for the tests, written from the specification (§6) and independent of the crate's codec.

/// One packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    Send {
        dup: bool,
        qos: u8,
        kind: u16,
        id: Option<u16>,
        payload: Vec<u8>,
    },
    Ack {
        id: u16,
        data: Vec<u8>,
    },
    Rec {
        id: u16,
        data: Vec<u8>,
    },
    Rel {
        id: u16,
    },
    Com {
        id: u16,
    },
}

/// A first SEND; `id` is ignored for QoS 0.
pub fn send(qos: u8, kind: u16, id: u16, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let id = (qos > 0).then_some(id);
    Packet::Send {
        dup: false,
        qos,
        kind,
        id,
        payload: payload.as_ref().to_vec(),
    }
    .encode()
}

/// An ACK with data (may be empty).
pub fn ack(id: u16, data: impl AsRef<[u8]>) -> Vec<u8> {
    Packet::Ack {
        id,
        data: data.as_ref().to_vec(),
    }
    .encode()
}

/// A REC with data (may be empty).
pub fn rec(id: u16, data: impl AsRef<[u8]>) -> Vec<u8> {
    Packet::Rec {
        id,
        data: data.as_ref().to_vec(),
    }
    .encode()
}

/// A REL.
pub fn rel(id: u16) -> Vec<u8> {
    Packet::Rel { id }.encode()
}

/// A COM.
pub fn com(id: u16) -> Vec<u8> {
    Packet::Com { id }.encode()
}

impl Packet {
    /// Wire form.
    pub fn encode(&self) -> Vec<u8> {
        let with_id = |first: u8, id: u16, data: &[u8]| [&[first], &id.to_be_bytes()[..], data].concat();
        match self {
            Packet::Send {
                dup,
                qos,
                kind,
                id,
                payload,
            } => {
                let first = 0x10 | (u8::from(*dup) << 3) | (qos << 1);
                let id = id.map(|i| i.to_be_bytes().to_vec()).unwrap_or_default();
                [&[first], &kind.to_be_bytes()[..], &id, payload].concat()
            }
            Packet::Ack { id, data } => with_id(0x20, *id, data),
            Packet::Rec { id, data } => with_id(0x30, *id, data),
            Packet::Rel { id } => with_id(0x40, *id, &[]),
            Packet::Com { id } => with_id(0x50, *id, &[]),
        }
    }

    /// Reads a packet of the server, strictly: nothing the server never sends is accepted.
    pub fn decode(bytes: &[u8]) -> Option<Packet> {
        let (first, rest) = bytes.split_first()?;
        let word = |from: usize| Some(u16::from_be_bytes([*rest.get(from)?, *rest.get(from + 1)?]));
        if first >> 4 == 1 {
            let (dup, qos) = (first & 8 != 0, (first >> 1) & 3);
            let id = if qos > 0 { Some(word(2)?) } else { None };
            let payload = rest.get(if qos > 0 { 4 } else { 2 }..)?.to_vec();
            return (first & 1 == 0 && qos < 3).then_some(Packet::Send {
                dup,
                qos,
                kind: word(0)?,
                id,
                payload,
            });
        }
        let (id, data) = (word(0)?, rest.get(2..)?.to_vec());
        match first {
            0x20 => Some(Packet::Ack { id, data }),
            0x30 => Some(Packet::Rec { id, data }),
            0x40 if data.is_empty() => Some(Packet::Rel { id }),
            0x50 if data.is_empty() => Some(Packet::Com { id }),
            _ => None,
        }
    }
}

#[test]
fn packets_of_the_goldens() {
    assert_eq!(super::hex(&send(1, 7, 1, "hi")), "12000700016869");
    assert_eq!(super::hex(&send(0, 1, 9, "x")), "10000178");
    assert_eq!(super::hex(&ack(1, "ok")), "2000016f6b");
    assert_eq!(super::hex(&rec(5, "")), "300005");
    for bytes in [
        send(2, 65535, 65534, "a"),
        send(0, 0, 0, ""),
        ack(1, ""),
        rec(2, "x"),
        rel(3),
        com(4),
    ] {
        assert_eq!(Packet::decode(&bytes).map(|p| p.encode()), Some(bytes));
    }
    assert_eq!(Packet::decode(&[0x12, 0, 7, 0]), None);
}
