//! Events as handlers see them, read from what the door tells: clients that come and go as JSON, as a backend is told; messages,
//! which are many, in parts ([`Parts`]).

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::api::{Api, ClientId};
use super::client::{Client, ClosedClient, Fields, Handshake};
use super::message::Message;
use crate::engine::command::CallbackRequest;
use crate::engine::hook;
use crate::protocol::gateway::events::Parts;
use crate::protocol::gateway::session::ADMISSION;
use crate::wire::ws;

/// One event.
pub(super) enum Event {
    Handshake(Handshake),
    Connected(Client),
    Message(Client, Message),
    Closed(ClosedClient),
}

impl Event {
    /// `None`: it is none of these, which the door does not do.
    pub(super) fn read(request: &CallbackRequest, api: &Api) -> Option<Self> {
        match request.hook.event {
            hook::Event::Connect => Some(Self::Handshake(handshake(fields(&request.body)?)?)),
            hook::Event::Close => Some(Self::Closed(closed(fields(&request.body)?)?)),
            hook::Event::Message => {
                let parts = Parts::of(request)?;
                let client = Client {
                    id: parts.client,
                    uid: parts.uid.map(|uid| String::from_utf8_lossy(uid).into()),
                    session: parts.session.clone(),
                    api: api.clone(),
                };
                Some(match request.token {
                    ADMISSION => Self::Connected(client),
                    _ => Self::Message(client, message(&parts)),
                })
            }
        }
    }
}

fn message(parts: &Parts<'_>) -> Message {
    match parts.kind {
        ws::Kind::Binary => Message::Binary(parts.payload.clone()),
        // The shard has checked it.
        ws::Kind::Text => Message::Text(String::from_utf8_lossy(parts.payload).into_owned()),
    }
}

fn handshake(mut fields: Map<String, Value>) -> Option<Handshake> {
    let subprotocols = list(&mut fields, "subprotocols");
    let mut object = |name: &str| match fields.remove(name) {
        Some(Value::Object(fields)) => Fields(fields),
        _ => Fields::default(),
    };
    let (query, headers, cookies) = (object("query"), object("headers"), object("cookies"));
    Some(Handshake {
        id: id(&fields)?,
        ip: fields.get("ip").and_then(Value::as_str).and_then(|ip| ip.parse().ok()),
        port: number(&fields, "port").and_then(|port| port.try_into().ok()),
        path: string(&mut fields, "path").unwrap_or_default(),
        query,
        headers,
        cookies,
        subprotocols,
    })
}

fn closed(mut fields: Map<String, Value>) -> Option<ClosedClient> {
    Some(ClosedClient {
        id: id(&fields)?,
        uid: string(&mut fields, "uid"),
        groups: list(&mut fields, "groups"),
        session: match fields.remove("session") {
            Some(Value::Object(session)) => session,
            _ => Map::new(),
        },
        code: number(&fields, "code")
            .and_then(|code| code.try_into().ok())
            .unwrap_or(1006),
        reason: string(&mut fields, "reason").unwrap_or_default(),
        cause: string(&mut fields, "cause").unwrap_or_default(),
        duration: Duration::from_millis(number(&fields, "duration_ms").unwrap_or_default()),
    })
}

fn fields(body: &Bytes) -> Option<Map<String, Value>> {
    serde_json::from_slice(body).ok()
}

fn id(fields: &Map<String, Value>) -> Option<ClientId> {
    ClientId::new(fields.get("client_id")?.as_str()?)
}

fn number(fields: &Map<String, Value>, name: &str) -> Option<u64> {
    fields.get(name)?.as_u64()
}

fn string(fields: &mut Map<String, Value>, name: &str) -> Option<String> {
    match fields.remove(name) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

fn list(fields: &mut Map<String, Value>, name: &str) -> Vec<String> {
    let Some(Value::Array(items)) = fields.remove(name) else {
        return Vec::new();
    };
    items
        .into_iter()
        .filter_map(|item| Some(item.as_str()?.to_owned()))
        .collect()
}
