//! A message, as clients and handlers send it.

use bytes::Bytes;

use crate::protocol::gateway::api;

/// A message of a client, or to one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A text frame.
    Text(String),
    /// A binary frame.
    Binary(Bytes),
}

impl Message {
    /// Its text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Message::Text(text) => Some(text),
            Message::Binary(_) => None,
        }
    }

    /// Its bytes, whatever it is.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Message::Text(text) => text.as_bytes(),
            Message::Binary(bytes) => bytes,
        }
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Message::Text(text.to_owned())
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Message::Text(text)
    }
}

/// As compact text.
impl From<serde_json::Value> for Message {
    fn from(value: serde_json::Value) -> Self {
        Message::Text(value.to_string())
    }
}

impl From<Bytes> for Message {
    fn from(bytes: Bytes) -> Self {
        Message::Binary(bytes)
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Message::Binary(bytes.into())
    }
}

impl From<&[u8]> for Message {
    fn from(bytes: &[u8]) -> Self {
        Message::Binary(Bytes::copy_from_slice(bytes))
    }
}

impl From<Message> for api::Message {
    fn from(message: Message) -> Self {
        let (payload, binary) = match message {
            Message::Text(text) => (text.into(), false),
            Message::Binary(bytes) => (bytes, true),
        };
        Self { payload, binary }
    }
}
