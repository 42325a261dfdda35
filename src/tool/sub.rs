//! `sub`: `/sub/` and `/unsub/` of the HTTP interface.

use super::output::{Object, Output};
use super::place::{Place, SOON};
use super::send::{said_no, settled};
use super::{End, Failure};
use crate::cli::given::Given;
use crate::wire::json;

/// Subscribes, one channel after the other; stops at the first that is refused.
pub fn run(given: &Given) -> Result<End, Failure> {
    let output = Output::of(given);
    let (Some(identity), true) = (given.operand(0)?, given.operands.len() > 1) else {
        return Err(given
            .refusal(
                "name the identity of the client (the header RAINBOWCLIENTIDENTITY of its callbacks) and a channel",
            )
            .into());
    };
    let place = Place::of(given)?;
    let removes = given.has("remove");
    if removes && given.has("occupy") {
        return Err(given
            .refusal("--occupy is not for --remove: leave one of them out")
            .into());
    }
    for at in 1..given.operands.len() {
        let channel = given.operand(at)?.unwrap_or_default();
        let occupy = given.has("occupy").then_some(true);
        let body = Object::new().text("identity", identity).text("channel", channel);
        let body = body.plain_if("occupy", occupy).end();
        let path = if removes { "/unsub/" } else { "/sub/" };
        let answer = settled(place.post(path.into(), &body, SOON)?)?;
        if output.json {
            output.result(&answer)?;
        }
        let [status, msg] = json::fields(&answer, ["status", "msg"]).unwrap_or_default();
        if status.and_then(|status| status.count()) != Some(0) {
            return Err(said_no(channel, msg.as_ref()));
        }
        output.note(&format!("{channel}: {}", if removes { "left" } else { "joined" }));
    }
    Ok(End::Done)
}
