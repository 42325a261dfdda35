//! What came of a call, and how it is written: `{"ok": true, "data": …}`, or `{"ok": false, "error": {"code", "message"}}`.
//! Written straight into bytes, since a list may be long.

use bytes::Bytes;
use http::StatusCode;

use super::ApiError;
use super::call::ClientText;
use crate::engine::name::Name;
use crate::wire::http1::push_decimal;
use crate::wire::json::push_string;

/// How far a message got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Clients it was for.
    pub matched: u64,
    /// Clients it was written to, or waits for.
    pub queued: u64,
    /// Clients that could not take it.
    pub dropped: u64,
    /// Nodes that were asked.
    pub nodes: u64,
}

/// A client in a list, with its session if that was asked for: compact JSON, an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The client.
    pub client: ClientText,
    /// Its session.
    pub session: Bytes,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeInfo {
    /// Its name: hex digits, others after a restart.
    pub node: String,
    /// Clients it holds.
    pub clients: u64,
    /// It is the one that answers.
    pub is_self: bool,
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Of a send.
    Sent(Sent),
    /// The uid a client had before.
    PreviousUid(Option<Name>),
    /// How many clients a uid has.
    UidOnline(u64),
    /// Whether each of these uids has clients.
    OnlineByName(Vec<(Name, bool)>),
    /// The uid a client has.
    Uid(Option<Name>),
    /// Clients.
    Clients {
        /// Each once.
        clients: Vec<ClientText>,
        /// Where the list goes on.
        next: Option<String>,
    },
    /// Clients with their sessions.
    Sessions {
        /// Each once.
        clients: Vec<Listed>,
        /// Where the list goes on.
        next: Option<String>,
    },
    /// The clients of each of these names.
    ClientsByName(Vec<(Name, Vec<ClientText>)>),
    /// Uids.
    Uids {
        /// Each once.
        uids: Vec<Name>,
        /// Where the list goes on.
        next: Option<String>,
    },
    /// Uids and how many.
    UidsCounted(Vec<Name>),
    /// A number.
    Count(u64),
    /// Whether a client came or went.
    Changed(bool),
    /// How many came and went, and who was not there.
    GroupChanged {
        /// Who came or went.
        changed: u64,
        /// No clients.
        not_found: Vec<ClientText>,
    },
    /// How many left a group.
    Removed(u64),
    /// How many clients and uids a group has.
    GroupCount {
        /// Clients.
        clients: u64,
        /// Uids.
        uids: u64,
    },
    /// How many clients each of these groups has.
    CountByName(Vec<(Name, u64)>),
    /// Groups.
    Groups {
        /// Each once.
        groups: Vec<Name>,
        /// Where the list goes on.
        next: Option<String>,
    },
    /// Groups with a number of each.
    GroupCounts {
        /// Each once.
        groups: Vec<(Name, u64)>,
        /// Where the list goes on.
        next: Option<String>,
    },
    /// Groups with the clients in each.
    GroupClients {
        /// Each once.
        groups: Vec<(Name, Vec<ClientText>)>,
        /// Where the list goes on.
        next: Option<String>,
    },
    /// Groups with the uids in each.
    GroupUids {
        /// Each once.
        groups: Vec<(Name, Vec<Name>)>,
        /// Where the list goes on.
        next: Option<String>,
    },
    /// Whether a connection was closed.
    Closed(bool),
    /// How many connections were closed.
    ClosedCount(u64),
    /// Whether a client is connected.
    Online(bool),
    /// How many clients there are, in all and on each node.
    ClientCount(Vec<(String, u64)>),
    /// A session: compact JSON, an object.
    Session(Bytes),
    /// It is done, and there is nothing to say.
    Nothing,
    /// What came of each call of a batch.
    Results(Vec<Result<Outcome, ApiError>>),
    /// The nodes of the cluster.
    Nodes(Vec<NodeInfo>),
}

/// Status and body of an answer.
pub fn answer(result: &Result<Outcome, ApiError>) -> (StatusCode, Vec<u8>) {
    let mut out = Vec::with_capacity(96);
    write(&mut out, result);
    let status = result
        .as_ref()
        .err()
        .map_or(StatusCode::OK, |error| error.code.status());
    (status, out)
}

fn write(out: &mut Vec<u8>, result: &Result<Outcome, ApiError>) {
    match result {
        Ok(outcome) => {
            out.extend_from_slice(b"{\"ok\":true,\"data\":");
            outcome.write(out);
        }
        Err(error) => {
            out.extend_from_slice(b"{\"ok\":false,\"error\":{\"code\":");
            push_string(out, error.code.word().as_bytes());
            out.extend_from_slice(b",\"message\":");
            push_string(out, error.message.as_bytes());
            out.push(b'}');
        }
    }
    out.push(b'}');
}

impl Outcome {
    /// Appends `data`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut object = Object::new(out);
        match self {
            Outcome::Sent(sent) => {
                object.number("matched", sent.matched);
                object.number("queued", sent.queued);
                object.number("dropped", sent.dropped);
                object.number("nodes", sent.nodes);
            }
            Outcome::PreviousUid(uid) => object.name_or_null("previous_uid", uid),
            Outcome::UidOnline(clients) => {
                object.flag("online", *clients > 0);
                object.number("clients", *clients);
            }
            Outcome::OnlineByName(uids) => object.map("online", uids, |out, is| push_flag(out, *is)),
            Outcome::Uid(uid) => object.name_or_null("uid", uid),
            Outcome::Clients { clients, next } => {
                object.list("client_ids", clients, push_client);
                object.next(next);
            }
            Outcome::Sessions { clients, next } => {
                object.field("sessions");
                let mut sessions = Object::new(object.out);
                for listed in clients {
                    sessions.key(&listed.client.0);
                    push_session(sessions.out, &listed.session);
                }
                sessions.end();
                object.next(next);
            }
            Outcome::ClientsByName(names) => {
                object.map("client_ids", names, |out, clients| push_list(out, clients, push_client));
            }
            Outcome::Uids { uids, next } => {
                object.list("uids", uids, push_name);
                object.next(next);
            }
            Outcome::UidsCounted(uids) => {
                object.list("uids", uids, push_name);
                object.number("count", uids.len() as u64);
            }
            Outcome::Count(count) => object.number("count", *count),
            Outcome::Changed(is) => object.flag("changed", *is),
            Outcome::GroupChanged { changed, not_found } => {
                object.number("changed", *changed);
                object.list("not_found", not_found, push_client);
            }
            Outcome::Removed(removed) => object.number("removed", *removed),
            Outcome::GroupCount { clients, uids } => {
                object.number("clients", *clients);
                object.number("uids", *uids);
            }
            Outcome::CountByName(groups) => object.map("clients", groups, |out, count| push_decimal(out, *count)),
            Outcome::Groups { groups, next } => {
                object.list("groups", groups, push_name);
                object.next(next);
            }
            Outcome::GroupCounts { groups, next } => {
                object.map("groups", groups, |out, count| push_decimal(out, *count));
                object.next(next);
            }
            Outcome::GroupClients { groups, next } => {
                object.map("groups", groups, |out, clients| push_list(out, clients, push_client));
                object.next(next);
            }
            Outcome::GroupUids { groups, next } => {
                object.map("groups", groups, |out, uids| push_list(out, uids, push_name));
                object.next(next);
            }
            Outcome::Closed(is) => object.flag("closed", *is),
            Outcome::ClosedCount(closed) => object.number("closed", *closed),
            Outcome::Online(is) => object.flag("online", *is),
            Outcome::ClientCount(nodes) => {
                object.number("count", nodes.iter().map(|(_, clients)| clients).sum());
                object.field("per_node");
                let mut per_node = Object::new(object.out);
                for (node, clients) in nodes {
                    per_node.key(node.as_bytes());
                    push_decimal(per_node.out, *clients);
                }
                per_node.end();
            }
            Outcome::Session(session) => {
                object.out.pop(); // its brace: the session has its own
                push_session(object.out, session);
                return;
            }
            Outcome::Nothing => {}
            Outcome::Results(results) => object.list("results", results, write),
            Outcome::Nodes(nodes) => object.list("nodes", nodes, push_node),
        }
        object.end();
    }
}

fn push_flag(out: &mut Vec<u8>, is: bool) {
    out.extend_from_slice(if is { b"true" } else { b"false" });
}

fn push_client(out: &mut Vec<u8>, client: &ClientText) {
    push_string(out, &client.0);
}

fn push_name(out: &mut Vec<u8>, name: &Name) {
    push_string(out, name.text());
}

/// What is kept is JSON already; none is an empty object.
fn push_session(out: &mut Vec<u8>, session: &[u8]) {
    out.extend_from_slice(if session.is_empty() { b"{}" } else { session });
}

fn push_node(out: &mut Vec<u8>, node: &NodeInfo) {
    let mut object = Object::new(out);
    object.field("node");
    push_string(object.out, node.node.as_bytes());
    object.number("clients", node.clients);
    object.flag("self", node.is_self);
    object.end();
}

fn push_list<T>(out: &mut Vec<u8>, items: &[T], push: impl Fn(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        push(out, item);
    }
    out.push(b']');
}

/// An object being written.
struct Object<'a> {
    out: &'a mut Vec<u8>,
    is_empty: bool,
}

impl<'a> Object<'a> {
    fn new(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, is_empty: true }
    }

    fn end(self) {
        self.out.push(b'}');
    }

    /// A key that is any text.
    fn key(&mut self, key: &[u8]) {
        if !std::mem::take(&mut self.is_empty) {
            self.out.push(b',');
        }
        push_string(self.out, key);
        self.out.push(b':');
    }

    fn field(&mut self, name: &str) {
        self.key(name.as_bytes());
    }

    fn number(&mut self, name: &str, number: u64) {
        self.field(name);
        push_decimal(self.out, number);
    }

    fn flag(&mut self, name: &str, is: bool) {
        self.field(name);
        push_flag(self.out, is);
    }

    fn name_or_null(&mut self, field: &str, name: &Option<Name>) {
        self.field(field);
        match name {
            Some(name) => push_name(self.out, name),
            None => self.out.extend_from_slice(b"null"),
        }
    }

    fn next(&mut self, next: &Option<String>) {
        if let Some(next) = next {
            self.field("next");
            push_string(self.out, next.as_bytes());
        }
    }

    fn list<T>(&mut self, name: &str, items: &[T], push: impl Fn(&mut Vec<u8>, &T)) {
        self.field(name);
        push_list(self.out, items, push);
    }

    fn map<T>(&mut self, name: &str, items: &[(Name, T)], push: impl Fn(&mut Vec<u8>, &T)) {
        self.field(name);
        let mut map = Object::new(self.out);
        for (key, item) in items {
            map.key(key.text());
            push(map.out, item);
        }
        map.end();
    }
}
