//! `send --as`: one message of a client to the backend, and its answer.

use std::time::Duration;

use super::output::{Object, Output};
use super::place::{Place, SOON};
use super::websocket::{Event, Socket, Visitor, failure};
use super::{End, Failure, send};
use crate::cli::given::Given;
use crate::io::clock;
use crate::protocol::rainbow::packet::{Answer, Packet, answer};

/// The only message of its connection.
const ID: u16 = 1;

/// Connects, sends, waits for the answer.
pub fn run(given: &Given) -> Result<End, Failure> {
    let output = Output::of(given);
    if given.has("uid") || given.has("lines") || given.has("expect") || given.operands.len() > 1 {
        let text = "--as takes one message and nothing of the other forms; quote the message";
        return Err(given.refusal(text).into());
    }
    let place = Place::of(given)?;
    let visitor = Visitor::of(given, given.text("as").unwrap_or_default())?;
    let qos = given.number("qos", 0..=2u8)?.unwrap_or(1);
    let timeout = Duration::from_secs(given.number("timeout", 1..=3600u64)?.unwrap_or(10));
    let payload = send::message(given.operand(0)?)?;
    let mut packet = Vec::new();
    let message = Packet::Send {
        dup: false,
        raw_qos: qos,
        msgtype: given.number("type", 0..=u16::MAX)?.unwrap_or(1),
        id: ID,
        payload: &payload,
    };
    message.encode(&mut packet);
    let mut socket = Socket::open(&place, &visitor).map_err(|no| failure(&place, no))?;
    let lost = |error: std::io::Error| place.unreachable(&error);
    socket.send(&packet).map_err(lost)?;
    if qos == 0 {
        // Behind the message: the server reads it first.
        socket.close();
        output.note("sent");
        return Ok(End::Done);
    }
    let until = clock::instant() + timeout;
    let reply = loop {
        match socket.next(until).map_err(lost)? {
            Event::Quiet => {
                let text = "the backend did not answer in time, or with a failure (the log of the server says which)";
                return Err(Failure::new(End::InVain, text));
            }
            Event::Closed(why) => return Err(lost(ended(why))),
            Event::Message(message, form) => {
                let packet = Packet::decode(&message, form);
                if let Ok(Packet::Ack { id: ID, data } | Packet::Rec { id: ID, data }) = packet {
                    break data.to_vec();
                }
            }
        }
    };
    if qos == 2 {
        release(&mut socket).map_err(lost)?;
    }
    socket.close();
    if output.json {
        output.result(&Object::new().text("event", "answer").text("data", reply).end())?;
    } else {
        output.result(&reply)?;
    }
    Ok(End::Done)
}

/// The second half of QoS 2. The message has arrived: a server that does not answer any more is no failure.
fn release(socket: &mut Socket) -> std::io::Result<()> {
    socket.send(&answer(Answer::Rel, ID))?;
    let until = clock::instant() + SOON;
    while let Event::Message(message, form) = socket.next(until)? {
        if Packet::decode(&message, form) == Ok(Packet::Com { id: ID }) {
            break;
        }
    }
    Ok(())
}

/// The connection came to its end.
pub fn ended(why: Option<(u16, String)>) -> std::io::Error {
    std::io::Error::other(match why {
        Some((code, reason)) if reason.is_empty() => format!("closed with code {code}"),
        Some((code, reason)) => format!("closed with code {code}, {reason}"),
        None => "the connection ended".to_owned(),
    })
}
