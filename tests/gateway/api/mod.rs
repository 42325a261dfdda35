//! The HTTP interface from outside: every function by every way, the cases of the conformance list, what is refused, random
//! operations beside a model, its description, its documentation, and the PHP class.

mod cases;
mod described;
mod documents;
mod functions;
mod model;
mod php;
mod refusals;

use std::cell::Cell;

use serde_json::{Value, json};

use super::common::client::Op;
use super::common::eventually;
use super::common::http::{Connection, Request, Response};
use super::*;

/// The token of these tests.
const TOKEN: &str = "a-token-of-the-tests";
/// An id no client has.
const GONE: &str = "0123456789abcdef0123";

/// A server with tokens, and who calls it.
struct Gateway {
    server: Server,
    connection: std::cell::RefCell<Connection>,
    markers: Cell<u32>,
}

impl Gateway {
    fn start(builder: Builder) -> Self {
        let server = builder.of_gateway("api_tokens", format!("another, {TOKEN}")).start();
        let connection = Connection::open(server.port()).expect("connect").into();
        Self {
            server,
            connection,
            markers: Cell::new(0),
        }
    }

    /// On several shards, so that what is in one set is in different places.
    fn on(on: &impl Fn(Builder) -> Builder) -> Self {
        Self::start(on(Builder::gateway().set("workers", 3)))
    }

    /// `METHOD /v1/…` with a body (null: none), over one connection.
    fn http(&self, request: &str, body: &Value) -> Response {
        let text = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        self.send(request, text.as_bytes())
    }

    fn send(&self, request: &str, body: &[u8]) -> Response {
        let (method, target) = request.split_once(' ').expect("method and target");
        let request = Request {
            method: method.into(),
            path: target.into(),
            body: body.to_vec(),
            ..Request::default()
        };
        let request = request.header("Authorization", &format!("Bearer {TOKEN}"));
        let port = self.server.port();
        let answer = self.connection.borrow_mut().exchange(port, &request, SOON);
        answer.unwrap_or_else(|error| panic!("{} {}: {error}", request.method, request.path))
    }

    /// Status and the answer as JSON, which every answer is.
    fn rest(&self, request: &str, body: Value) -> (u16, Value) {
        let answer = self.http(request, &body);
        assert_eq!(answer.header("content-type"), Some("application/json"), "{request}");
        let value = answer.json().unwrap_or_else(|| panic!("{request}: {}", answer.text()));
        assert_eq!(value["ok"], answer.status == 200, "{request}: {value}");
        (answer.status, value)
    }

    /// `data` of a request that has to be done.
    fn done(&self, request: &str, body: Value) -> Value {
        match self.rest(request, body) {
            (200, mut value) => value["data"].take(),
            (status, value) => panic!("{request}: {status} {value}"),
        }
    }

    fn get(&self, path: &str) -> Value {
        self.done(&format!("GET {path}"), Value::Null)
    }

    /// Status and code of a request that has to be refused.
    fn refused(&self, request: &str, body: Value) -> (u16, String) {
        match self.rest(request, body) {
            (200, value) => panic!("{request} was done: {value}"),
            (status, value) => (status, value["error"]["code"].as_str().expect("a code").to_owned()),
        }
    }

    /// Calls a function.
    fn call(&self, name: &str, arguments: Value) -> Value {
        self.done(&format!("POST /v1/call/{name}"), arguments)
    }

    /// A client that is registered, and its id.
    fn connect(&self) -> (Client, String) {
        let ids = || strings(&self.get("/v1/clients")["client_ids"]);
        let before = ids();
        let client = client(&self.server);
        let mut id = None;
        let found = eventually(SOON, || {
            id = ids().into_iter().find(|id| !before.contains(id));
            id.is_some()
        });
        assert!(found, "the client is listed");
        (client, id.expect("found"))
    }

    fn connect_many<const N: usize>(&self) -> ([Client; N], [String; N]) {
        let mut ids = Vec::new();
        let clients = std::array::from_fn(|_| {
            let (client, id) = self.connect();
            ids.push(id);
            client
        });
        (clients, ids.try_into().expect("as many"))
    }

    /// The texts each client got, up to a marker that is sent to everybody now, or up to the end.
    fn received(&self, clients: &[&Client]) -> Vec<Vec<String>> {
        self.markers.set(self.markers.get() + 1);
        let marker = format!("marker {}", self.markers.get());
        self.done("POST /v1/messages", json!({"message": marker}));
        let texts = |client: &&Client| {
            let mut texts = Vec::new();
            loop {
                let frame = client
                    .next(SOON)
                    .unwrap_or_else(|| panic!("{marker} comes, behind {texts:?}"));
                let text = String::from_utf8_lossy(&frame.payload).into_owned();
                match frame.op {
                    Op::Text if text == marker => return texts,
                    Op::Text => texts.push(text),
                    Op::Binary => texts.push(format!("binary {text}")),
                    Op::Close | Op::Eof => {
                        texts.push(format!("{:?} {}", frame.op, frame.payload.escape_ascii()));
                        return texts;
                    }
                    _ => {}
                }
            }
        };
        clients.iter().map(texts).collect()
    }
}

/// A list of texts, sorted.
fn strings(list: &Value) -> Vec<String> {
    let items = list.as_array().unwrap_or_else(|| panic!("{list} is no list"));
    let mut texts: Vec<_> = items
        .iter()
        .map(|item| item.as_str().expect("a text").to_owned())
        .collect();
    texts.sort();
    texts
}

fn sorted<const N: usize>(texts: [&str; N]) -> Vec<String> {
    let mut texts: Vec<_> = texts.iter().map(|text| (*text).to_owned()).collect();
    texts.sort();
    texts
}

/// The same with lists of texts in order, and fields too.
fn normal(value: &Value) -> Value {
    match value {
        Value::Array(list) => {
            let mut list: Vec<_> = list.iter().map(normal).collect();
            if list.iter().all(Value::is_string) {
                list.sort_by_key(ToString::to_string);
            }
            list.into()
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields
                .iter()
                .map(|(name, value)| (name.clone(), normal(value)))
                .collect();
            fields.sort_by(|one, other| one.0.cmp(&other.0));
            Value::Object(fields.into_iter().collect())
        }
        value => value.clone(),
    }
}
