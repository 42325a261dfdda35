//! What the `data` of an answer looks like, as JSON schema. `outcome.rs` writes it; the tests hold each to the other.

use serde_json::{Value, json};

/// The shape of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// How far a message got.
    Sent,
    /// `{previous_uid}`
    PreviousUid,
    /// `{online, clients}`
    UidOnline,
    /// `{online: {name: bool}}`
    OnlineByName,
    /// `{uid}`
    Uid,
    /// `{client_ids}` or `{sessions}`, and `next`
    Clients,
    /// `{client_ids: {name: […]}}`
    ClientsByName,
    /// `{uids}` and `next`
    Uids,
    /// `{uids, count}`
    UidsCounted,
    /// `{count}`
    Count,
    /// `{changed}`
    Changed,
    /// `{changed, not_found}`
    GroupChanged,
    /// `{removed}`
    Removed,
    /// `{clients, uids}`
    GroupCount,
    /// `{clients: {name: n}}`
    CountByName,
    /// `{groups}`, a list or a map, and `next`
    Groups,
    /// `{closed}`
    Closed,
    /// `{closed: n}`
    ClosedCount,
    /// `{online}`
    Online,
    /// `{count, per_node}`
    ClientCount,
    /// The session itself
    Session,
    /// `{}`
    Nothing,
    /// `{results}`
    Results,
    /// `{nodes}`
    Nodes,
}

impl Shape {
    /// All of them.
    pub const ALL: [Shape; 24] = [
        Shape::Sent,
        Shape::PreviousUid,
        Shape::UidOnline,
        Shape::OnlineByName,
        Shape::Uid,
        Shape::Clients,
        Shape::ClientsByName,
        Shape::Uids,
        Shape::UidsCounted,
        Shape::Count,
        Shape::Changed,
        Shape::GroupChanged,
        Shape::Removed,
        Shape::GroupCount,
        Shape::CountByName,
        Shape::Groups,
        Shape::Closed,
        Shape::ClosedCount,
        Shape::Online,
        Shape::ClientCount,
        Shape::Session,
        Shape::Nothing,
        Shape::Results,
        Shape::Nodes,
    ];

    /// Its name in the description of the interface.
    pub fn name(self) -> String {
        format!("{self:?}")
    }

    /// How the documentation writes it.
    pub const fn short(self) -> &'static str {
        match self {
            Shape::Sent => "`{matched, queued, dropped, nodes}`",
            Shape::PreviousUid => "`{previous_uid}`",
            Shape::UidOnline => "`{online, clients}`",
            Shape::OnlineByName => "`{online: {uid: bool}}`",
            Shape::Uid => "`{uid}`",
            Shape::Clients => "`{client_ids}` or `{sessions: {id: session}}`, `next`",
            Shape::ClientsByName => "`{client_ids: {uid: [id]}}`",
            Shape::Uids => "`{uids}`, `next`",
            Shape::UidsCounted => "`{uids, count}`",
            Shape::Count => "`{count}`",
            Shape::Changed => "`{changed}`",
            Shape::GroupChanged => "`{changed, not_found}`",
            Shape::Removed => "`{removed}`",
            Shape::GroupCount => "`{clients, uids}`",
            Shape::CountByName => "`{clients: {group: n}}`",
            Shape::Groups => "`{groups}`: a list, or a map; `next`",
            Shape::Closed => "`{closed}`",
            Shape::ClosedCount => "`{closed: n}`",
            Shape::Online => "`{online}`",
            Shape::ClientCount => "`{count, per_node}`",
            Shape::Session => "the session",
            Shape::Nothing => "`{}`",
            Shape::Results => "`{results}`",
            Shape::Nodes => "`{nodes: [{node, clients, self}]}`",
        }
    }

    /// Its schema.
    pub fn schema(self) -> Value {
        let count = || json!({"type": "integer", "minimum": 0});
        let flag = || json!({"type": "boolean"});
        let name = || json!({"$ref": "#/components/schemas/Name"});
        let client = || json!({"$ref": "#/components/schemas/ClientId"});
        let list = |of: Value| json!({"type": "array", "items": of});
        let map = |of: Value| json!({"type": "object", "additionalProperties": of});
        let nullable = || json!({"anyOf": [name(), {"type": "null"}]});
        let session = || json!({"type": "object"});
        match self {
            Shape::Sent => object(&[
                ("matched", count()),
                ("queued", count()),
                ("dropped", count()),
                ("nodes", count()),
            ]),
            Shape::PreviousUid => object(&[("previous_uid", nullable())]),
            Shape::UidOnline => object(&[("online", flag()), ("clients", count())]),
            Shape::OnlineByName => object(&[("online", map(flag()))]),
            Shape::Uid => object(&[("uid", nullable())]),
            Shape::Clients => json!({"anyOf": [
                listed("client_ids", list(client())), listed("sessions", map(session())),
            ]}),
            Shape::ClientsByName => object(&[("client_ids", map(list(client())))]),
            Shape::Uids => listed("uids", list(name())),
            Shape::UidsCounted => object(&[("uids", list(name())), ("count", count())]),
            Shape::Count => object(&[("count", count())]),
            Shape::Changed => object(&[("changed", flag())]),
            Shape::GroupChanged => object(&[("changed", count()), ("not_found", list(client()))]),
            Shape::Removed => object(&[("removed", count())]),
            Shape::GroupCount => object(&[("clients", count()), ("uids", count())]),
            Shape::CountByName => object(&[("clients", map(count()))]),
            Shape::Groups => listed(
                "groups",
                json!({"anyOf": [list(name()), map(json!({"anyOf": [count(), list(json!({"type": "string"}))]}))]}),
            ),
            Shape::Closed => object(&[("closed", flag())]),
            Shape::ClosedCount => object(&[("closed", count())]),
            Shape::Online => object(&[("online", flag())]),
            Shape::ClientCount => object(&[("count", count()), ("per_node", map(count()))]),
            Shape::Session => session(),
            Shape::Nothing => object(&[]),
            Shape::Results => object(&[(
                "results",
                list(json!({"anyOf": [
                    object(&[("ok", json!({"const": true})), ("data", json!({"type": "object"}))]),
                    {"$ref": "#/components/schemas/Error"},
                ]})),
            )]),
            Shape::Nodes => object(&[(
                "nodes",
                list(object(&[
                    ("node", json!({"type": "string"})),
                    ("clients", count()),
                    ("self", flag()),
                ])),
            )]),
        }
    }
}

/// An object that has these fields, and no others.
pub(super) fn object(fields: &[(&str, Value)]) -> Value {
    let names: Vec<_> = fields.iter().map(|(name, _)| *name).collect();
    let properties: serde_json::Map<_, _> = fields
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect();
    json!({"type": "object", "properties": properties, "required": names, "additionalProperties": false})
}

/// A list that may go on.
fn listed(name: &str, items: Value) -> Value {
    let properties = json!({name: items, "next": {"type": "string"}});
    json!({"type": "object", "properties": properties, "required": [name], "additionalProperties": false})
}
