//! The arguments of one call, by the parameters of its function, and how each is checked. Nothing is converted that is of
//! another type, and every refusal names the parameter.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value};

use super::call::{ClientText, Exclusive, Farewell, Message, Page, Targets};
use super::error::quoted;
use super::json::compact;
use super::parameter::{Kind, Parameter};
use super::table::Function;
use super::{ApiError, BATCH_MAX, Context, LIST_MAX, NAME_BYTES_MAX, PAGE_MAX, Request, read};
use crate::engine::name::{Name, Space};
use crate::protocol::gateway::names::{GROUP, UID};

/// Arguments that were given for a function.
pub struct Arguments<'a> {
    function: &'static Function,
    context: &'a Context,
    /// By the function's parameters.
    values: Vec<Option<Value>>,
}

impl<'a> Arguments<'a> {
    /// None yet.
    pub(super) fn new(function: &'static Function, context: &'a Context) -> Self {
        Self {
            function,
            context,
            values: function.parameters.iter().map(|_| None).collect(),
        }
    }

    /// Gives a parameter its value, once. What languages without named arguments give for one that is left out, `null`, is no
    /// value; but it is where any JSON is one.
    pub(super) fn give_or_null(&mut self, parameter: &'static Parameter, value: Value) -> Result<(), ApiError> {
        match value {
            Value::Null if parameter.kind != Kind::Json => Ok(()),
            value => self.give(parameter, value),
        }
    }

    /// Gives a parameter its value, once.
    pub(super) fn give(&mut self, parameter: &'static Parameter, value: Value) -> Result<(), ApiError> {
        let at = self.function.parameters.iter().position(|is| is.name == parameter.name);
        let Some(place) = at.and_then(|at| self.values.get_mut(at)) else {
            return Err(ApiError::bad_request(format!("{}: unknown", parameter.name)));
        };
        if place.is_some() {
            return Err(ApiError::bad_request(format!("{} is given twice", parameter.name)));
        }
        *place = Some(value);
        Ok(())
    }

    /// Reads a parameter that is not looked at otherwise.
    pub(super) fn ignore(&mut self, name: &str) {
        drop(self.take(name));
    }

    /// Whether the caller does not mind clients that are not there.
    pub(super) fn is_lenient(&mut self) -> Result<bool, ApiError> {
        Ok(self.flag("lenient")? || self.context.lenient)
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        let at = self.function.parameters.iter().position(|is| is.name == name)?;
        self.values.get_mut(at)?.take()
    }

    /// Whether the caller does not mind, as far as it is known before all arguments are read.
    fn seems_lenient(&self) -> bool {
        let at = self.function.parameters.iter().position(|is| is.name == "lenient");
        let given = at.and_then(|at| self.values.get(at)).and_then(Option::as_ref);
        self.context.lenient || given == Some(&Value::Bool(true))
    }

    /// The client the call is about.
    pub(super) fn client(&mut self) -> Result<ClientText, ApiError> {
        let is_lenient = self.seems_lenient();
        match self.take("client_id") {
            Some(Value::String(text)) => match ClientText::new(&text) {
                None if is_lenient => Ok(ClientText::NOBODY),
                None => Err(malformed("client_id", &text)),
                Some(client) => Ok(client),
            },
            Some(_) => Err(wrong("client_id", "a string")),
            None => Err(missing("client_id")),
        }
    }

    /// The client of the event that is being answered.
    pub(super) fn current(&self) -> Result<ClientText, ApiError> {
        let none = || ApiError::bad_request("there is no current client: only the answer to an event has one");
        self.context.current.ok_or_else(none)
    }

    /// Clients; malformed ids are left out if the caller does not mind. `None`: not given.
    pub(super) fn clients(&mut self, name: &str) -> Result<Option<Vec<ClientText>>, ApiError> {
        let is_lenient = self.seems_lenient();
        self.take(name)
            .map(|value| clients(name, value, is_lenient))
            .transpose()
    }

    /// A uid.
    pub(super) fn uid(&mut self) -> Result<Name, ApiError> {
        let value = self.take("uid").ok_or_else(|| missing("uid"))?;
        self::name("uid", UID, value)
    }

    /// A group.
    pub(super) fn group(&mut self) -> Result<Name, ApiError> {
        let value = self.take("group").ok_or_else(|| missing("group"))?;
        self::name("group", GROUP, value)
    }

    /// A group, or none for everybody.
    pub(super) fn group_or_all(&mut self) -> Result<Option<Name>, ApiError> {
        match self.take("group") {
            None => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(value) => self::name("group", GROUP, value).map(Some),
        }
    }

    /// Uids: one or a list, as the parameter allows.
    pub(super) fn uids(&mut self, name: &str) -> Result<Vec<Name>, ApiError> {
        self.names(name, UID)
    }

    /// Groups: one or a list, as the parameter allows.
    pub(super) fn groups(&mut self, name: &str) -> Result<Vec<Name>, ApiError> {
        self.names(name, GROUP)
    }

    fn names(&mut self, name: &str, space: Space) -> Result<Vec<Name>, ApiError> {
        let value = self.take(name).ok_or_else(|| missing(name))?;
        let kind = self.function.parameters.iter().find(|is| is.name == name);
        match value {
            Value::String(_) if kind.is_some_and(|is| is.kind == Kind::NameOrNames) => {
                Ok(vec![self::name(name, space, value)?])
            }
            value => names(name, space, value),
        }
    }

    /// A flag; not given: no.
    pub(super) fn flag(&mut self, name: &str) -> Result<bool, ApiError> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(is)) => Ok(is),
            Some(_) => Err(wrong(name, "true or false")),
        }
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(wrong(name, "a string")),
        }
    }

    fn number(&mut self, name: &str) -> Result<Option<u64>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => value.as_u64().map(Some).ok_or_else(|| wrong(name, "a whole number")),
        }
    }

    /// Which part of a list.
    pub(super) fn page(&mut self) -> Result<Page, ApiError> {
        let limit = match self.number("limit")? {
            None => None,
            Some(limit) => match usize::try_from(limit) {
                Ok(limit @ 1..=PAGE_MAX) => Some(limit),
                _ => return Err(wrong("limit", &format!("1 to {PAGE_MAX}"))),
            },
        };
        let cursor = self.text("cursor")?;
        if cursor.is_some() && limit.is_none() {
            return Err(ApiError::bad_request("cursor is given without limit"));
        }
        Ok(Page { limit, cursor })
    }

    /// What to do with other clients of a uid.
    pub(super) fn exclusive(&mut self) -> Result<Exclusive, ApiError> {
        match self.text("exclusive")?.as_deref() {
            None => Ok(Exclusive::No),
            Some("kick") => Ok(Exclusive::Kick),
            Some("reject") => Ok(Exclusive::Reject),
            Some(_) => Err(wrong("exclusive", "\"kick\" or \"reject\"")),
        }
    }

    /// A JSON object, compact.
    pub(super) fn object(&mut self, name: &str) -> Result<Bytes, ApiError> {
        match self.take(name) {
            None => Err(missing(name)),
            Some(value @ Value::Object(_)) => Ok(compact(&value).into()),
            // What an empty array of PHP is written as.
            Some(Value::Array(list)) if list.is_empty() => Ok(Bytes::from_static(b"{}")),
            Some(_) => Err(wrong(name, "an object")),
        }
    }

    /// The message.
    pub(super) fn message(&mut self) -> Result<Message, ApiError> {
        let none = || ApiError::bad_request("message, json or message_base64 is missing");
        self.optional_message()?.ok_or_else(none)
    }

    fn optional_message(&mut self) -> Result<Option<Message>, ApiError> {
        let (text, json) = (self.text("message")?, self.take("json"));
        let (base64, binary) = (self.text("message_base64")?, self.flag("binary")?);
        self.ignore("raw");
        let payload = match (text, json, base64) {
            (Some(text), None, None) => text.into_bytes(),
            (None, Some(value), None) => compact(&value),
            (None, None, Some(base64)) => STANDARD
                .decode(base64)
                .map_err(|error| wrong("message_base64", &format!("base64 ({error})")))?,
            (None, None, None) if binary => return Err(ApiError::bad_request("binary is given without a message")),
            (None, None, None) => return Ok(None),
            _ => return Err(ApiError::bad_request("only one of message, json and message_base64")),
        };
        if !binary && simdutf8::basic::from_utf8(&payload).is_err() {
            return Err(ApiError::bad_request(
                "message_base64: no UTF-8, which only binary messages may be",
            ));
        }
        Ok(Some(Message {
            payload: payload.into(),
            binary,
        }))
    }

    /// How to close.
    pub(super) fn farewell(&mut self) -> Result<Farewell, ApiError> {
        let message = self.optional_message()?;
        let code = self.number("code")?.unwrap_or(1000);
        let farewell = Farewell {
            message,
            // What is no u16 is no code either.
            code: code.try_into().unwrap_or_default(),
            reason: self.text("reason")?.unwrap_or_default(),
            force: self.flag("force")?,
        };
        farewell.checked()
    }

    /// Receivers of different kinds.
    pub(super) fn targets(&mut self) -> Result<Targets, ApiError> {
        let is_lenient = self.seems_lenient();
        let fields = match self.take("targets") {
            None => return Err(missing("targets")),
            Some(Value::Object(fields)) => fields,
            Some(_) => return Err(wrong("targets", "an object")),
        };
        targets(fields, is_lenient).map_err(|error| error.within("targets"))
    }

    /// The calls of a batch. All of them are read before the first is carried out.
    pub(super) fn calls(&mut self) -> Result<Vec<Request>, ApiError> {
        let calls = match self.take("calls") {
            None => return Err(missing("calls")),
            Some(Value::Array(calls)) => calls,
            Some(_) => return Err(wrong("calls", "a list")),
        };
        if calls.len() > BATCH_MAX {
            return Err(too_long("calls", BATCH_MAX));
        }
        let context = Context {
            lenient: self.seems_lenient(),
            is_batch: true,
            ..self.context.clone()
        };
        let call = |(at, item)| read::item(item, &context).map_err(|error| error.within(&format!("calls[{at}]")));
        calls.into_iter().enumerate().map(call).collect()
    }

    /// Whether it is a call of a batch.
    pub(super) fn is_in_batch(&self) -> bool {
        self.context.is_batch
    }
}

fn missing(name: &str) -> ApiError {
    ApiError::bad_request(format!("{name} is missing"))
}

pub(super) fn wrong(name: &str, expected: &str) -> ApiError {
    ApiError::bad_request(format!("{name}: {expected} expected"))
}

fn too_long(name: &str, most: usize) -> ApiError {
    ApiError::too_large(format!("{name}: more than {most} items"))
}

fn malformed(name: &str, text: &str) -> ApiError {
    ApiError::bad_request(format!("{name}: {} is not 20 lower-case hex digits", quoted(text)))
}

fn clients(name: &str, value: Value, is_lenient: bool) -> Result<Vec<ClientText>, ApiError> {
    let list = match value {
        Value::Array(list) => list,
        text @ Value::String(_) => vec![text],
        _ => return Err(wrong(name, "a list of strings")),
    };
    if list.len() > LIST_MAX {
        return Err(too_long(name, LIST_MAX));
    }
    let mut clients = Vec::with_capacity(list.len());
    for value in &list {
        let text = value.as_str().ok_or_else(|| wrong(name, "a list of strings"))?;
        match ClientText::new(text) {
            Some(client) => clients.push(client),
            None if is_lenient => {}
            None => return Err(malformed(name, text)),
        }
    }
    Ok(clients)
}

fn name(parameter: &str, space: Space, value: Value) -> Result<Name, ApiError> {
    let Value::String(text) = value else {
        return Err(wrong(parameter, "a string"));
    };
    checked_name(parameter, space, &text)
}

/// The uid or group called `text`, given as `parameter`; refused if it is empty or too long.
pub fn checked_name(parameter: &str, space: Space, text: &str) -> Result<Name, ApiError> {
    match text.len() {
        0 => Err(ApiError::bad_request(format!("{parameter}: must not be empty"))),
        1..=NAME_BYTES_MAX => Ok(Name::new(space, text.as_bytes())),
        _ => Err(wrong(parameter, &format!("at most {NAME_BYTES_MAX} bytes"))),
    }
}

fn names(parameter: &str, space: Space, value: Value) -> Result<Vec<Name>, ApiError> {
    let Value::Array(list) = value else {
        return Err(wrong(parameter, "a list of strings"));
    };
    if list.len() > LIST_MAX {
        return Err(too_long(parameter, LIST_MAX));
    }
    list.into_iter().map(|value| name(parameter, space, value)).collect()
}

fn targets(fields: Map<String, Value>, is_lenient: bool) -> Result<Targets, ApiError> {
    let (mut all, mut uids, mut groups, mut listed) = (false, Vec::new(), Vec::new(), Vec::new());
    for (field, value) in fields {
        match (&field[..], value) {
            ("all", Value::Bool(is)) => all = is,
            ("all", _) => return Err(wrong("all", "true or false")),
            ("clients", value) => listed = clients("clients", value, is_lenient)?,
            ("uids", value) => uids = names("uids", UID, value)?,
            ("groups", value) => groups = names("groups", GROUP, value)?,
            _ => return Err(ApiError::bad_request(format!("{}: unknown", quoted(&field)))),
        }
    }
    Ok(if all {
        Targets::Everybody
    } else {
        uids.append(&mut groups);
        Targets::Any {
            names: uids,
            clients: listed,
        }
    })
}
