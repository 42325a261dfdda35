//! What a backend answers to the events of `events.rs`.
//!
//! | field | answer to | meaning |
//! | --- | --- | --- |
//! | `allow` | connect | may the client come in? Yes, if it is not there |
//! | `status`, `reason` | connect | what a client that may not is answered: 400 to 599 (403), a text |
//! | `uid`, `groups`, `session` | connect | what the client is from its first moment on |
//! | `messages` | connect | what it receives first: texts, or objects like the arguments of sendToCurrentClient |
//! | `actions` | every event | `[{"fn": …, "args": …}]`, carried out in order before the next event of the client |
//!
//! An empty body is an answer without fields. A status from 200 to 299 is needed; 401 and 403 refuse a client whatever the body,
//! and any other status is no answer. What a field may be is what the function of the same purpose takes (`api/`), so that
//! each is checked in one place. An answer with a field of another type is not used at all: nobody is let in by it and nothing
//! is done. Fields that nobody knows are left out, and mentioned.
//!
//! Pure. Callers: `entry.rs` for who may come in, `control/surface/gateway/actions.rs` for the actions and the log.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::api::{self, Call, ClientText, Context, Message, Request};
use crate::engine::command::{CallbackOutcome, CallbackReply};
use crate::engine::hook::Event;
use crate::engine::name::Name;

/// Longest answer that is read, in bytes.
pub const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Actions of one answer; groups and messages of one client that comes in.
pub const ITEMS_MAX: usize = 1000;

/// What the answer to a connect event makes of a client.
#[derive(Debug, Default, PartialEq)]
pub struct Admitted {
    /// Its uid.
    pub uid: Option<Name>,
    /// Its groups.
    pub groups: Vec<Name>,
    /// JSON of its session, compact.
    pub session: Option<Bytes>,
    /// What it receives first.
    pub messages: Vec<Message>,
    /// What is done then.
    pub actions: Vec<Request>,
}

/// Whether a client may come in.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// It may.
    Admitted(Admitted),
    /// It may not, and what it is told.
    Denied(StatusCode, String),
    /// The backend did not say.
    Unavailable,
}

/// What is wrong with an answer, in words.
pub type Wrong = String;

/// Whether the client `current` may come in.
pub fn verdict(outcome: &CallbackOutcome, current: ClientText) -> Verdict {
    let CallbackOutcome::Answered(reply) = outcome else {
        return Verdict::Unavailable;
    };
    match refusal(reply.status) {
        Some(status) => {
            let reason = fields(&reply.body)
                .ok()
                .and_then(|mut fields| text(&mut fields, "reason").ok()?);
            Verdict::Denied(status, reason.unwrap_or_default())
        }
        None if reply.is_success() => fields(&reply.body)
            .and_then(|fields| admission(fields, current))
            .unwrap_or(Verdict::Unavailable),
        None => Verdict::Unavailable,
    }
}

/// What there is in an answer beside whether the client may come in.
#[derive(Debug, Default)]
pub struct Heard {
    /// What is to be done; nothing, if the answer cannot be used.
    pub actions: Vec<Request>,
    /// What the backend did wrong, though the answer may be usable.
    pub wrong: Option<Wrong>,
}

/// Reads an answer to `event`, which is about the client `current`. `session_max` is the longest session a client may have.
/// One whose status is not 2xx has said enough with that.
pub fn heard(event: Event, reply: &CallbackReply, current: ClientText, session_max: usize) -> Heard {
    // Nearly all.
    if reply.body.is_empty() || !reply.is_success() {
        return Heard::default();
    }
    let fields = match fields(&reply.body) {
        Ok(fields) => fields,
        Err(wrong) => return Heard::nothing(wrong),
    };
    let unknown = unknown(event, &fields);
    let actions = match event {
        Event::Connect => admission(fields, current).and_then(|verdict| actions_of(verdict, session_max)),
        Event::Message | Event::Close => listed(&mut { fields }, current),
    };
    match actions {
        Ok(actions) => Heard {
            actions,
            wrong: unknown,
        },
        Err(wrong) => Heard::nothing(wrong),
    }
}

impl Heard {
    fn nothing(wrong: Wrong) -> Self {
        Self {
            actions: Vec::new(),
            wrong: Some(wrong),
        }
    }
}

/// Nothing is done for those who stay outside.
fn actions_of(verdict: Verdict, session_max: usize) -> Result<Vec<Request>, Wrong> {
    let Verdict::Admitted(admitted) = verdict else {
        return Ok(Vec::new());
    };
    let session = admitted.session.unwrap_or_default();
    if session.len() > session_max {
        return Err(format!("session: longer than session_max = {session_max}"));
    }
    Ok(admitted.actions)
}

/// Whether a status says that the client is not wanted.
pub fn refuses(status: u16) -> bool {
    matches!(status, 401 | 403)
}

fn refusal(status: u16) -> Option<StatusCode> {
    StatusCode::from_u16(status).ok().filter(|_| refuses(status))
}

fn admission(mut fields: Map<String, Value>, current: ClientText) -> Result<Verdict, Wrong> {
    let allow = match fields.remove("allow") {
        None => true,
        Some(Value::Bool(allow)) => allow,
        Some(_) => return Err("allow: true or false expected".to_owned()),
    };
    let (status, reason) = (denial(&mut fields)?, text(&mut fields, "reason")?);
    let admitted = Admitted {
        uid: uid(&mut fields, current)?,
        groups: groups(&mut fields, current)?,
        session: session(&mut fields, current)?,
        messages: messages(&mut fields, current)?,
        actions: listed(&mut fields, current)?,
    };
    Ok(match allow {
        true => Verdict::Admitted(admitted),
        false => Verdict::Denied(status, reason.unwrap_or_default()),
    })
}

/// The first field that the answer to this event should not have.
fn unknown(event: Event, fields: &Map<String, Value>) -> Option<Wrong> {
    const OF_CONNECT: [&str; 8] = [
        "allow", "status", "reason", "uid", "groups", "session", "messages", "actions",
    ];
    let known = match event {
        Event::Connect => &OF_CONNECT[..],
        Event::Message | Event::Close => &["actions"],
    };
    let unknown = fields.keys().find(|name| !known.contains(&name.as_str()))?;
    Some(format!("the field {unknown:.64?} is not known, and was left out"))
}

fn fields(body: &[u8]) -> Result<Map<String, Value>, Wrong> {
    if body.trim_ascii().is_empty() {
        return Ok(Map::new());
    }
    if body.len() > ANSWER_BYTES_MAX {
        return Err(format!("longer than {ANSWER_BYTES_MAX} bytes"));
    }
    match api::read_json(body) {
        Ok(Value::Object(mut fields)) => {
            // As if they were not there.
            fields.retain(|_, value| !value.is_null());
            Ok(fields)
        }
        // What an empty array of PHP is written as.
        Ok(Value::Array(list)) if list.is_empty() => Ok(Map::new()),
        Ok(Value::Null) => Ok(Map::new()),
        Ok(_) => Err("a JSON object expected".to_owned()),
        Err(error) => Err(error.message.into_owned()),
    }
}

fn denial(fields: &mut Map<String, Value>) -> Result<StatusCode, Wrong> {
    let Some(value) = fields.remove("status") else {
        return Ok(StatusCode::FORBIDDEN);
    };
    let status = value.as_u64().filter(|status| (400..600).contains(status));
    let status = status.and_then(|status| StatusCode::from_u16(u16::try_from(status).ok()?).ok());
    status.ok_or_else(|| "status: 400 to 599 expected".to_owned())
}

fn text(fields: &mut Map<String, Value>, name: &str) -> Result<Option<String>, Wrong> {
    match fields.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("{name}: a string expected")),
    }
}

fn uid(fields: &mut Map<String, Value>, current: ClientText) -> Result<Option<Name>, Wrong> {
    let Some(uid) = fields.remove("uid") else {
        return Ok(None);
    };
    match called("BindUid", json!({"client_id": id(&current), "uid": uid}), current)? {
        Call::BindUid { uid, .. } => Ok(Some(uid)),
        _ => Ok(None),
    }
}

fn groups(fields: &mut Map<String, Value>, current: ClientText) -> Result<Vec<Name>, Wrong> {
    let mut groups = Vec::new();
    for group in list(fields, "groups")? {
        let joined = called("JoinGroup", json!({"client_id": id(&current), "group": group}), current);
        if let Call::JoinGroup { group, .. } = joined.map_err(|wrong| format!("groups: {wrong}"))? {
            groups.push(group);
        }
    }
    Ok(groups)
}

fn session(fields: &mut Map<String, Value>, current: ClientText) -> Result<Option<Bytes>, Wrong> {
    let Some(session) = fields.remove("session") else {
        return Ok(None);
    };
    match called(
        "SetInfo",
        json!({"client_id": id(&current), "session": session}),
        current,
    )? {
        Call::SetSession { session, .. } => Ok(Some(session)),
        _ => Ok(None),
    }
}

fn messages(fields: &mut Map<String, Value>, current: ClientText) -> Result<Vec<Message>, Wrong> {
    let mut messages = Vec::new();
    for message in list(fields, "messages")? {
        let arguments = match message {
            Value::String(_) => json!({"message": message}),
            other => other,
        };
        let sent = called("sendToCurrentClient", arguments, current);
        if let Call::Send(send) = sent.map_err(|wrong| format!("messages: {wrong}"))? {
            messages.push(send.message);
        }
    }
    Ok(messages)
}

fn listed(fields: &mut Map<String, Value>, current: ClientText) -> Result<Vec<Request>, Wrong> {
    let context = context(current);
    let items = list(fields, "actions")?
        .into_iter()
        .map(|item| api::item(item, &context));
    let items: Result<Vec<_>, _> = items.collect();
    items.map_err(|error| format!("actions: {}", error.message))
}

fn list(fields: &mut Map<String, Value>, name: &str) -> Result<Vec<Value>, Wrong> {
    match fields.remove(name) {
        None => Ok(Vec::new()),
        Some(Value::Array(items)) if items.len() <= ITEMS_MAX => Ok(items),
        Some(Value::Array(_)) => Err(format!("{name}: more than {ITEMS_MAX}")),
        Some(_) => Err(format!("{name}: a list expected")),
    }
}

/// The call that stands for a field: it is read as the function would be.
fn called(function: &str, arguments: Value, current: ClientText) -> Result<Call, Wrong> {
    let request = Request::from_function(function, arguments, &context(current));
    request
        .map(|request| request.call)
        .map_err(|error| error.message.into_owned())
}

/// Clients come and go while the backend thinks: that one is not there any more is no error of an action.
fn context(current: ClientText) -> Context {
    Context {
        current: Some(current),
        lenient: true,
        is_batch: true,
    }
}

fn id(current: &ClientText) -> &str {
    str::from_utf8(&current.0).unwrap_or_default()
}

#[cfg(test)]
#[path = "answers_tests.rs"]
mod tests;
