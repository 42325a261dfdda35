//! Parameters of functions: their names, what they may be, and how the description of the interface says it.

use serde_json::{Value, json};

use super::call::REASON_BYTES_MAX;
use super::json;
use super::{ApiError, LIST_MAX, NAME_BYTES_MAX, PAGE_MAX};

/// What a parameter may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The id of a client.
    Client,
    /// Ids of clients; a single one stands for a list of it.
    Clients,
    /// A uid or group.
    Name,
    /// Uids or groups.
    Names,
    /// One name, or a list of names.
    NameOrNames,
    /// A group; empty: everybody.
    GroupOrAll,
    /// Text.
    Text,
    /// Any JSON.
    Json,
    /// Bytes in base64.
    Base64,
    /// Yes or no.
    Flag,
    /// A JSON object.
    Object,
    /// Code of a close frame that may be sent.
    CloseCode,
    /// Reason of a close frame.
    Reason,
    /// `kick` or `reject`.
    Exclusive,
    /// Most items of a list.
    Limit,
    /// Where the last part of a list ended.
    Cursor,
    /// Receivers of a message.
    Targets,
    /// Calls with their arguments.
    Calls,
}

/// Where a parameter of a REST request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the path, if the path has it; in the query of a GET; in query or body of a DELETE; else in the body.
    Usual,
    /// In the query, whatever the method.
    Query,
    /// It is the body.
    Body,
    /// Nowhere: `/v1/call/` only.
    CallOnly,
}

/// One parameter.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// Other names in `/v1/call/`: those of the originals.
    pub aliases: &'static [&'static str],
    /// What it may be.
    pub kind: Kind,
    /// Where it is.
    pub place: Place,
    /// It has to be given.
    pub required: bool,
    /// For people.
    pub about: &'static str,
}

impl Parameter {
    /// An optional parameter in the usual place.
    pub const fn new(name: &'static str, kind: Kind, about: &'static str) -> Self {
        Self {
            name,
            aliases: &[],
            kind,
            place: Place::Usual,
            required: false,
            about,
        }
    }

    /// It has to be given.
    pub const fn required(self) -> Self {
        Self { required: true, ..self }
    }

    /// Its other names.
    pub const fn also(self, aliases: &'static [&'static str]) -> Self {
        Self { aliases, ..self }
    }

    /// It is in another place.
    pub const fn place(self, place: Place) -> Self {
        Self { place, ..self }
    }

    /// Whether it is called `name` in `/v1/call/`.
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.aliases.contains(&name)
    }

    /// Its value from the text of a query.
    pub(super) fn of_text(&self, text: &str) -> Result<Value, ApiError> {
        let bad = |what: &str| Err(ApiError::bad_request(format!("{}: {what}", self.name)));
        match self.kind {
            Kind::Flag => match text {
                "1" | "true" => Ok(Value::Bool(true)),
                "0" | "false" => Ok(Value::Bool(false)),
                _ => bad("1, 0, true or false expected"),
            },
            Kind::Limit | Kind::CloseCode => match text.parse::<u32>() {
                Ok(number) if text.bytes().all(|digit| digit.is_ascii_digit()) => Ok(number.into()),
                _ => bad("a number expected"),
            },
            Kind::Json => json::read(text.as_bytes()).map_err(|error| error.within(self.name)),
            _ => Ok(Value::String(text.to_owned())),
        }
    }
}

impl Kind {
    /// Its JSON schema.
    pub fn schema(self) -> Value {
        let client = || json!({"$ref": "#/components/schemas/AnyClientId"});
        let name = || json!({"$ref": "#/components/schemas/Name"});
        let list = |of: Value| json!({"type": "array", "items": of, "maxItems": LIST_MAX});
        match self {
            Kind::Client => client(),
            Kind::Clients => json!({"anyOf": [list(client()), client()]}),
            Kind::Name => name(),
            Kind::Names => list(name()),
            Kind::NameOrNames => json!({"anyOf": [name(), list(name())]}),
            Kind::GroupOrAll => json!({"type": "string", "maxLength": NAME_BYTES_MAX}),
            Kind::Text => json!({"type": "string"}),
            Kind::Json => json!({}),
            Kind::Base64 => json!({"type": "string", "contentEncoding": "base64"}),
            Kind::Flag => json!({"type": "boolean"}),
            Kind::Object => json!({"type": "object"}),
            Kind::CloseCode => json!({"type": "integer", "anyOf": [
                {"minimum": 1000, "maximum": 1003}, {"minimum": 1007, "maximum": 1014}, {"minimum": 3000, "maximum": 4999},
            ]}),
            Kind::Reason => json!({"type": "string", "maxLength": REASON_BYTES_MAX}),
            Kind::Exclusive => json!({"type": "string", "enum": ["kick", "reject"]}),
            Kind::Limit => json!({"type": "integer", "minimum": 1, "maximum": PAGE_MAX}),
            Kind::Cursor => json!({"type": "string", "minLength": 1, "maxLength": 256}),
            Kind::Targets => json!({"$ref": "#/components/schemas/Targets"}),
            Kind::Calls => json!({
                "type": "array", "items": {"$ref": "#/components/schemas/Call"}, "maxItems": super::BATCH_MAX
            }),
        }
    }
}
