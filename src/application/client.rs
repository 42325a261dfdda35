//! Whom an event is about: clients that want in, that are here, that are gone.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::api::{Api, ClientId, Session, read_session};
use super::closing::Closing;
use super::message::Message;
use super::sending::Sending;

/// A client that is connected: a cheap handle, and what was known of it when its event began.
#[derive(Clone, Debug)]
pub struct Client {
    pub(super) id: ClientId,
    pub(super) uid: Option<Arc<str>>,
    pub(super) session: Bytes,
    pub(super) api: Api,
}

impl Client {
    /// Its id.
    pub fn id(&self) -> ClientId {
        self.id
    }

    /// The uid it had when the event began.
    pub fn uid(&self) -> Option<&str> {
        self.uid.as_deref()
    }

    /// The session it had when the event began, read anew at each call.
    pub fn session(&self) -> Session {
        read_session(&self.session)
    }

    /// Sends it a message.
    pub fn send(&self, message: impl Into<Message>) -> Sending {
        self.api.send_to_client(self.id, message)
    }

    /// Closes its connection.
    pub fn close(&self) -> Closing {
        self.api.close_client(self.id)
    }
}

/// A client that wants in, and what its request says.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Handshake {
    /// The id it will have.
    pub id: ClientId,
    /// Where it comes from, or what a trusted proxy says of that.
    pub ip: Option<IpAddr>,
    /// Its port; `None` where only a proxy knows it.
    pub port: Option<u16>,
    /// The path.
    pub path: String,
    /// Parameters of the query, decoded.
    pub query: Fields,
    /// Headers, their names in lower case.
    pub headers: Fields,
    /// Cookies.
    pub cookies: Fields,
    /// Subprotocols it speaks.
    pub subprotocols: Vec<String>,
}

/// Names with a text each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(pub(super) Map<String, Value>);

impl Fields {
    /// The text of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .filter_map(|(name, text)| Some((&name[..], text.as_str()?)))
    }
}

/// What becomes of a client that wants in.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Admit(Map<String, Value>);

impl Admit {
    /// It may come in.
    pub fn accept() -> Self {
        Self(Map::from_iter([("allow".to_owned(), json!(true))]))
    }

    /// It may not, and is answered with this HTTP status: 403, for example.
    pub fn reject(status: u16) -> Self {
        let fields = [("allow".to_owned(), json!(false)), ("status".to_owned(), json!(status))];
        Self(Map::from_iter(fields))
    }

    /// With this uid from the start.
    pub fn uid(self, uid: impl Into<String>) -> Self {
        self.with("uid", json!(uid.into()))
    }

    /// In these groups from the start.
    pub fn groups(self, groups: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let groups: Vec<String> = groups.into_iter().map(Into::into).collect();
        self.with("groups", json!(groups))
    }

    /// With this session, a JSON object.
    pub fn session(self, session: Value) -> Self {
        self.with("session", session)
    }

    /// Why it may not; a word that its answer ends with.
    pub fn reason(self, reason: impl Into<String>) -> Self {
        self.with("reason", json!(reason.into()))
    }

    fn with(mut self, field: &str, value: Value) -> Self {
        self.0.insert(field.to_owned(), value);
        self
    }

    /// As a backend answers.
    pub(super) fn answer(self) -> Bytes {
        Value::Object(self.0).to_string().into()
    }
}

/// A client that is gone, and what it left.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClosedClient {
    /// Its id, which no other client will have, and which is offline.
    pub id: ClientId,
    /// The uid it had at the end.
    pub uid: Option<String>,
    /// The groups it was in at the end.
    pub groups: Vec<String>,
    /// Its session at the end.
    pub session: Session,
    /// Code of the close frame; 1005: it had none, 1006: there was none.
    pub code: u16,
    /// Reason in the close frame.
    pub reason: String,
    /// Why the connection ended: the word in the log and in metrics, such as `client_closed`.
    pub cause: String,
    /// How long it was connected.
    pub duration: Duration,
}
