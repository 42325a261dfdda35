//! Packets, message ids and signatures recorded from the original, byte for byte.

use rainbow_server::engine::command::Qos;
use rainbow_server::protocol::rainbow::packet::{self, Answer, Form, Packet};
use rainbow_server::protocol::rainbow::sign;
use serde_json::Value;

fn golden() -> Value {
    serde_json::from_str(include_str!("golden/rainbow_packets.json")).unwrap()
}

fn cases(of: &Value) -> &[Value] {
    of.as_array().unwrap()
}

fn text(of: &Value) -> &str {
    of.as_str().unwrap()
}

/// Bytes of a hex field; none for `null`.
fn bytes(of: &Value) -> Vec<u8> {
    let digits = of.as_str().unwrap_or_default().as_bytes();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn small(of: &Value) -> Option<u16> {
    of.as_u64().and_then(|number| u16::try_from(number).ok())
}

/// The packet a case describes, `None` if the types already rule it out.
fn described<'a>(fields: &Value, data: &'a [u8]) -> Option<Packet<'a>> {
    let id = small(&fields["message_id"]);
    Some(match text(&fields["name"]) {
        "SEND" => {
            let raw_qos = fields["qos"].as_u64().unwrap() as u8;
            let id = if raw_qos == 0 { 0 } else { id? };
            let dup = fields["dup"] == 1;
            Packet::Send {
                dup,
                raw_qos,
                msgtype: small(&fields["msgtype"])?,
                id,
                payload: data,
            }
        }
        "ACK" => Packet::Ack { id: id?, data },
        "REC" => Packet::Rec { id: id?, data },
        "REL" => Packet::Rel { id: id? },
        "COM" => Packet::Com { id: id? },
        name => panic!("unknown packet {name}"),
    })
}

#[test]
fn decoding() {
    let golden = golden();
    assert_eq!(cases(&golden["decode"]).len(), 75);
    for case in cases(&golden["decode"]) {
        let (message, id) = (bytes(&case["hex"]), &case["id"]);
        let decoded = Packet::decode(&message, Form::Binary);
        packet::roundtrip(&message);
        if case["result"] != "ok" {
            assert!(decoded.is_err(), "{id}: {decoded:?}");
            continue;
        }
        let data = bytes(&case["fields"]["data_hex"]);
        let expected = described(&case["fields"], &data).unwrap();
        assert_eq!(decoded, Ok(expected), "{id}");
        let mut again = Vec::new();
        expected.encode(&mut again);
        let mut reencoded = bytes(&case["reencoded_hex"]);
        if reencoded[0] >> 4 != 1 {
            reencoded[0] &= 0xf0; // the original keeps option bits of answers it never forwards
        }
        assert_eq!(again, reencoded, "{id}");
    }
}

/// What the running server answered at once, without asking the business.
#[test]
fn immediate_answers() {
    for case in cases(&golden()["decode"]) {
        let message = bytes(&case["hex"]);
        let reply = match Packet::decode(&message, Form::Binary) {
            Ok(Packet::Rec { id, .. }) => packet::answer(Answer::Rel, id),
            Ok(Packet::Rel { id }) => packet::answer(Answer::Com, id),
            Ok(Packet::Send { .. }) => continue,
            _ => {
                assert!(cases(&case["server"]["reply_frames_hex"]).is_empty(), "{}", case["id"]);
                continue;
            }
        };
        let recorded: Vec<_> = cases(&case["server"]["reply_frames_hex"]).iter().map(bytes).collect();
        assert_eq!(recorded, [reply], "{}", case["id"]);
    }
}

#[test]
fn encoding() {
    let golden = golden();
    assert_eq!(cases(&golden["encode"]).len(), 34);
    for case in cases(&golden["encode"]) {
        let (data, id) = (bytes(&case["fields"]["data_hex"]), &case["id"]);
        let described = described(&case["fields"], &data);
        if case["result"] == "error" {
            assert_eq!(described, None, "{id}");
            continue;
        }
        let packet = described.unwrap();
        let mut out = Vec::new();
        packet.encode(&mut out);
        assert_eq!(out, bytes(&case["hex"]), "{id}");
        if let (
            Packet::Send {
                msgtype,
                id: number,
                dup,
                payload,
                ..
            },
            Some(qos),
        ) = (packet, packet.qos())
        {
            assert_eq!(sent(msgtype, qos, number, dup, payload), bytes(&case["hex"]), "{id}");
            assert_eq!(
                sent(msgtype, qos, number, true, payload),
                bytes(&case["retry_hex"]),
                "{id}"
            );
        }
    }
}

fn sent(msgtype: u16, qos: Qos, id: u16, dup: bool, payload: &[u8]) -> Vec<u8> {
    let (header, len) = packet::send_header(msgtype, qos, id, dup);
    [&header[..len], payload].concat()
}

#[test]
fn message_ids() {
    let golden = &golden()["message_ids"];
    let ids: Vec<u16> = std::iter::successors(Some(1), |last| Some(packet::next_id(*last)))
        .take(65_600)
        .collect();
    assert_eq!(ids.iter().min().map(|id| u64::from(*id)), golden["min"].as_u64());
    assert_eq!(ids.iter().max().map(|id| u64::from(*id)), golden["max"].as_u64());
    for (at, id) in cases(&golden["first"]).iter().enumerate() {
        assert_eq!(Some(ids[at]), small(id));
    }
    for case in cases(&golden["around_wrap"]) {
        let index = case["index"].as_u64().unwrap() as usize;
        assert_eq!(Some(ids[index - 1]), small(&case["id"]), "{index}");
    }
}

#[test]
fn signatures() {
    let golden = golden();
    assert_eq!(cases(&golden["signatures"]).len(), 12);
    for case in cases(&golden["signatures"]) {
        let part = |name: &str| text(&case[name]).as_bytes();
        let signature = sign::signature(part("token"), part("timestamp"), part("nonce"));
        assert_eq!(str::from_utf8(&signature).unwrap(), text(&case["signature"]), "{case}");
    }
}
