//! The table of functions: names, routes, parameters, answers. Dispatch, the OpenAPI description and the table in the
//! documentation are made from it, so they cannot disagree.
//!
//! A row is one thing that can be asked. Its first name is the one of bin-x/websocket where it has the function, else the one
//! of GatewayWorker; names are compared without regard to case, as PHP does. Another name may stand for the row with a flag set.

use http::Method;

use super::ApiError;
use super::arguments::Arguments;
use super::call::{Call, GroupDetail, Send, Targets};
use super::parameter::{Kind, Parameter, Place};
use super::shape::Shape;

/// One row.
#[derive(Debug)]
pub struct Function {
    /// Its name in `/v1/call/`, batches and actions.
    pub name: &'static str,
    /// Other names.
    pub aliases: &'static [Alias],
    /// Its REST request; none: it has no meaning there.
    pub route: Option<Route>,
    /// What it takes, those first that may be given by position, in that order.
    pub parameters: &'static [Parameter],
    /// How many of them may be given by position.
    pub positional: usize,
    /// What its answer looks like.
    pub answer: Shape,
    /// For people.
    pub about: &'static str,
    /// Reads the arguments.
    pub read: fn(&mut Arguments<'_>) -> Result<Call, ApiError>,
}

/// Another name of a function.
#[derive(Clone, Copy, Debug)]
pub struct Alias {
    /// The name.
    pub name: &'static str,
    /// Parameters that are set by using it.
    pub sets: &'static [&'static str],
}

/// A method and a path with parameters in braces.
#[derive(Clone, Debug)]
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path.
    pub path: &'static str,
}

const fn route(method: Method, path: &'static str) -> Option<Route> {
    Some(Route { method, path })
}

const fn alias(name: &'static str) -> Alias {
    Alias { name, sets: &[] }
}

const fn setting(name: &'static str, sets: &'static [&'static str]) -> Alias {
    Alias { name, sets }
}

impl Function {
    /// The function called `name`, and what that name sets.
    pub fn named(name: &str) -> Option<(&'static Function, &'static [&'static str])> {
        FUNCTIONS.iter().find_map(|function| {
            if function.name.eq_ignore_ascii_case(name) {
                return Some((function, &[][..]));
            }
            let alias = function
                .aliases
                .iter()
                .find(|alias| alias.name.eq_ignore_ascii_case(name))?;
            Some((function, alias.sets))
        })
    }

    /// All its names.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name).chain(self.aliases.iter().map(|alias| alias.name))
    }

    /// Where a parameter is in its REST request; `None`: nowhere.
    pub fn sources(&self, parameter: &Parameter) -> Sources {
        let Some(route) = &self.route else {
            return Sources::default();
        };
        let in_path = route.path.contains(&format!("{{{}}}", parameter.name));
        match parameter.place {
            Place::CallOnly => Sources::default(),
            Place::Usual if in_path => Sources {
                path: true,
                ..Sources::default()
            },
            Place::Query => Sources {
                query: true,
                ..Sources::default()
            },
            Place::Body => Sources {
                whole: true,
                ..Sources::default()
            },
            Place::Usual => Sources {
                query: route.method == Method::GET || route.method == Method::DELETE,
                body: route.method != Method::GET,
                ..Sources::default()
            },
        }
    }
}

/// The places of a REST request where a parameter may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// A part of the path.
    pub path: bool,
    /// The query.
    pub query: bool,
    /// A field of the body.
    pub body: bool,
    /// The body as a whole.
    pub whole: bool,
}

const CLIENT: Parameter = Parameter::new("client_id", Kind::Client, "The client.")
    .required()
    .also(&["clientId", "id"]);
const UID: Parameter = Parameter::new("uid", Kind::Name, "The uid.").required();
const UIDS: Parameter = Parameter::new("uids", Kind::Names, "The uids.").required();
const UID_OR_UIDS: Parameter = Parameter {
    kind: Kind::NameOrNames,
    ..UID
};
const GROUP: Parameter = Parameter::new("group", Kind::Name, "The group.").required();
const GROUPS: Parameter = Parameter::new("groups", Kind::Names, "The groups.").required();
const GROUP_OR_GROUPS: Parameter = Parameter {
    kind: Kind::NameOrNames,
    ..GROUP
};
const MESSAGE: Parameter = Parameter::new("message", Kind::Text, "The message as text.");
const JSON: Parameter = Parameter::new("json", Kind::Json, "The message as JSON, which is sent compact.");
const BASE64: Parameter = Parameter::new("message_base64", Kind::Base64, "The message as bytes in base64.");
const BINARY: Parameter = Parameter::new("binary", Kind::Flag, "Send it in a binary frame.");
const RAW: Parameter = Parameter::new("raw", Kind::Flag, "Of GatewayWorker, without effect.").place(Place::CallOnly);
const EXCLUDE: Parameter = Parameter::new("exclude", Kind::Clients, "Clients that do not get it.").also(&[
    "exclude_ids",
    "exclude_client_id",
    "exclude_client_ids",
]);
const LENIENT: Parameter =
    Parameter::new("lenient", Kind::Flag, "A client that is not there is no error.").place(Place::Query);
const LIMIT: Parameter = Parameter::new("limit", Kind::Limit, "Most items of the answer.");
const CURSOR: Parameter = Parameter::new(
    "cursor",
    Kind::Cursor,
    "Goes on where an answer with this `next` ended.",
);
const SESSION: Parameter =
    Parameter::new("session", Kind::Flag, "With the sessions of the clients.").place(Place::Query);
const OBJECT: Parameter = Parameter::new("session", Kind::Object, "The session.")
    .required()
    .also(&["info"])
    .place(Place::Body);
const CODE: Parameter = Parameter::new("code", Kind::CloseCode, "Code of the close frame, else 1000.");
const REASON: Parameter = Parameter::new("reason", Kind::Reason, "Reason in the close frame.");
const FORCE: Parameter = Parameter::new(
    "force",
    Kind::Flag,
    "At once, without a close frame; what waits for the client is thrown away.",
);

/// Every function.
pub static FUNCTIONS: [Function; 40] = [
    Function {
        name: "SendToAll",
        aliases: &[],
        route: route(Method::POST, "/v1/messages"),
        parameters: &[
            MESSAGE,
            Parameter::new("clients", Kind::Clients, "Only to these; unknown ones are left out.")
                .also(&["client_ids", "client_id_array"]),
            EXCLUDE,
            RAW,
            JSON,
            BASE64,
            BINARY,
            LENIENT,
        ],
        positional: 4,
        answer: Shape::Sent,
        about: "Sends to every client, or to those listed.",
        read: |given| {
            let to = match given.clients("clients")? {
                Some(clients) => Targets::Any {
                    names: Vec::new(),
                    clients,
                },
                None => Targets::Everybody,
            };
            send(given, to)
        },
    },
    Function {
        name: "SendToClient",
        aliases: &[],
        route: route(Method::POST, "/v1/clients/{client_id}/messages"),
        parameters: &[CLIENT, MESSAGE, RAW, JSON, BASE64, BINARY, LENIENT],
        positional: 3,
        answer: Shape::Sent,
        about: "Sends to one client.",
        read: |given| {
            let to = Targets::Client(given.client()?);
            send(given, to)
        },
    },
    Function {
        name: "sendToCurrentClient",
        aliases: &[],
        route: None,
        parameters: &[MESSAGE, RAW, JSON, BASE64, BINARY, LENIENT],
        positional: 2,
        answer: Shape::Sent,
        about: "Sends to the client of the event that is being answered.",
        read: |given| {
            let to = Targets::Client(given.current()?);
            send(given, to)
        },
    },
    Function {
        name: "SendToUid",
        aliases: &[],
        route: route(Method::POST, "/v1/uids/{uid}/messages"),
        parameters: &[UID_OR_UIDS, MESSAGE, RAW, EXCLUDE, JSON, BASE64, BINARY, LENIENT],
        positional: 3,
        answer: Shape::Sent,
        about: "Sends to every client of a uid.",
        read: |given| {
            let to = any(given.uids("uid")?);
            send(given, to)
        },
    },
    Function {
        name: "sendToUids",
        aliases: &[],
        route: route(Method::POST, "/v1/uids/messages"),
        parameters: &[UIDS, MESSAGE, EXCLUDE, JSON, BASE64, BINARY, LENIENT],
        positional: 3,
        answer: Shape::Sent,
        about: "Sends to every client of several uids.",
        read: |given| {
            let to = any(given.uids("uids")?);
            send(given, to)
        },
    },
    Function {
        name: "SendToGroup",
        aliases: &[],
        route: route(Method::POST, "/v1/groups/{group}/messages"),
        parameters: &[GROUP_OR_GROUPS, MESSAGE, EXCLUDE, RAW, JSON, BASE64, BINARY, LENIENT],
        positional: 4,
        answer: Shape::Sent,
        about: "Sends to every client in a group.",
        read: |given| {
            let to = any(given.groups("group")?);
            send(given, to)
        },
    },
    Function {
        name: "sendToGroups",
        aliases: &[],
        route: route(Method::POST, "/v1/groups/messages"),
        parameters: &[GROUPS, MESSAGE, EXCLUDE, JSON, BASE64, BINARY, LENIENT],
        positional: 3,
        answer: Shape::Sent,
        about: "Sends to every client in any of several groups, once to each.",
        read: |given| {
            let to = any(given.groups("groups")?);
            send(given, to)
        },
    },
    Function {
        name: "sendToTargets",
        aliases: &[],
        route: route(Method::POST, "/v1/messages:multi"),
        parameters: &[
            Parameter::new("targets", Kind::Targets, "Receivers of different kinds.").required(),
            MESSAGE,
            EXCLUDE,
            JSON,
            BASE64,
            BINARY,
            LENIENT,
        ],
        positional: 3,
        answer: Shape::Sent,
        about: "Sends to clients, uids and groups at once, once to each client.",
        read: |given| {
            let to = given.targets()?;
            send(given, to)
        },
    },
    Function {
        name: "BindUid",
        aliases: &[],
        route: route(Method::PUT, "/v1/clients/{client_id}/uid"),
        parameters: &[
            CLIENT,
            UID,
            Parameter::new(
                "exclusive",
                Kind::Exclusive,
                "What becomes of other clients with this uid: `kick` closes them, `reject` refuses the binding.",
            ),
            LENIENT,
        ],
        positional: 2,
        answer: Shape::PreviousUid,
        about: "Binds a client to a uid, in place of the one it has.",
        read: |given| {
            Ok(Call::BindUid {
                client: given.client()?,
                uid: given.uid()?,
                exclusive: given.exclusive()?,
            })
        },
    },
    Function {
        name: "UnbindUid",
        aliases: &[],
        route: route(Method::DELETE, "/v1/clients/{client_id}/uid"),
        parameters: &[
            CLIENT,
            Parameter::new("uid", Kind::Text, "Of GatewayWorker, without effect.").place(Place::CallOnly),
            LENIENT,
        ],
        positional: 2,
        answer: Shape::PreviousUid,
        about: "Takes a client's uid away.",
        read: |given| {
            given.ignore("uid");
            Ok(Call::UnbindUid {
                client: given.client()?,
            })
        },
    },
    Function {
        name: "IsUidOnline",
        aliases: &[],
        route: route(Method::GET, "/v1/uids/{uid}"),
        parameters: &[UID],
        positional: 1,
        answer: Shape::UidOnline,
        about: "Whether a uid has clients, and how many.",
        read: |given| Ok(Call::IsUidOnline { uid: given.uid()? }),
    },
    Function {
        name: "isUidsOnline",
        aliases: &[alias("areUidsOnline")],
        route: route(Method::POST, "/v1/uids:online"),
        parameters: &[UIDS],
        positional: 1,
        answer: Shape::OnlineByName,
        about: "Which of several uids have clients.",
        read: |given| {
            Ok(Call::AreUidsOnline {
                uids: given.uids("uids")?,
            })
        },
    },
    Function {
        name: "GetUidByClientId",
        aliases: &[],
        route: route(Method::GET, "/v1/clients/{client_id}/uid"),
        parameters: &[CLIENT, LENIENT],
        positional: 1,
        answer: Shape::Uid,
        about: "The uid of a client, or null.",
        read: |given| {
            Ok(Call::UidOf {
                client: given.client()?,
            })
        },
    },
    Function {
        name: "GetClientIdsByUid",
        aliases: &[alias("getClientIdByUid")],
        route: route(Method::GET, "/v1/uids/{uid}/clients"),
        parameters: &[UID, LIMIT, CURSOR],
        positional: 1,
        answer: Shape::Clients,
        about: "The clients of a uid.",
        read: |given| {
            Ok(Call::ClientsOfUid {
                uid: given.uid()?,
                page: given.page()?,
            })
        },
    },
    Function {
        name: "batchGetClientIdByUid",
        aliases: &[],
        route: route(Method::POST, "/v1/uids:clients"),
        parameters: &[UIDS],
        positional: 1,
        answer: Shape::ClientsByName,
        about: "The clients of each of several uids.",
        read: |given| {
            Ok(Call::ClientsOfUids {
                uids: given.uids("uids")?,
            })
        },
    },
    Function {
        name: "GetAllUid",
        aliases: &[alias("getAllUidList")],
        route: route(Method::GET, "/v1/uids"),
        parameters: &[LIMIT, CURSOR],
        positional: 0,
        answer: Shape::Uids,
        about: "All uids that have clients.",
        read: |given| Ok(Call::AllUids { page: given.page()? }),
    },
    Function {
        name: "getAllUidCount",
        aliases: &[],
        route: route(Method::GET, "/v1/uids:count"),
        parameters: &[],
        positional: 0,
        answer: Shape::Count,
        about: "How many uids have clients.",
        read: |_| Ok(Call::UidCount),
    },
    Function {
        name: "JoinGroup",
        aliases: &[],
        route: route(Method::PUT, "/v1/groups/{group}/clients/{client_id}"),
        parameters: &[CLIENT, GROUP, LENIENT],
        positional: 2,
        answer: Shape::Changed,
        about: "Puts a client into a group.",
        read: |given| {
            Ok(Call::JoinGroup {
                client: given.client()?,
                group: given.group()?,
            })
        },
    },
    Function {
        name: "LeaveGroup",
        aliases: &[],
        route: route(Method::DELETE, "/v1/groups/{group}/clients/{client_id}"),
        parameters: &[CLIENT, GROUP, LENIENT],
        positional: 2,
        answer: Shape::Changed,
        about: "Takes a client out of a group.",
        read: |given| {
            Ok(Call::LeaveGroup {
                client: given.client()?,
                group: given.group()?,
            })
        },
    },
    Function {
        name: "changeGroup",
        aliases: &[],
        route: route(Method::POST, "/v1/groups/{group}/clients"),
        parameters: &[
            GROUP,
            Parameter::new("add", Kind::Clients, "Clients that come."),
            Parameter::new("remove", Kind::Clients, "Clients that go."),
            LENIENT,
        ],
        positional: 3,
        answer: Shape::GroupChanged,
        about: "Puts clients into a group and takes others out of it; clients that are not there are listed.",
        read: |given| {
            Ok(Call::ChangeGroup {
                group: given.group()?,
                add: given.clients("add")?.unwrap_or_default(),
                remove: given.clients("remove")?.unwrap_or_default(),
            })
        },
    },
    Function {
        name: "ungroup",
        aliases: &[],
        route: route(Method::DELETE, "/v1/groups/{group}"),
        parameters: &[GROUP],
        positional: 1,
        answer: Shape::Removed,
        about: "Everybody leaves a group.",
        read: |given| Ok(Call::Ungroup { group: given.group()? }),
    },
    Function {
        name: "GetClientCountByGroup",
        aliases: &[alias("getClientIdCountByGroup")],
        route: route(Method::GET, "/v1/groups/{group}"),
        parameters: &[Parameter {
            kind: Kind::GroupOrAll,
            required: false,
            about: "The group; in `/v1/call/`, none or an empty one is everybody.",
            ..GROUP
        }],
        positional: 1,
        answer: Shape::GroupCount,
        about: "How many clients and uids are in a group.",
        read: |given| {
            Ok(Call::GroupCount {
                group: given.group_or_all()?,
            })
        },
    },
    Function {
        name: "batchGetClientIdCountByGroup",
        aliases: &[],
        route: route(Method::POST, "/v1/groups:count"),
        parameters: &[GROUPS],
        positional: 1,
        answer: Shape::CountByName,
        about: "How many clients are in each of several groups.",
        read: |given| {
            Ok(Call::GroupCounts {
                groups: given.groups("groups")?,
            })
        },
    },
    Function {
        name: "GetClientIdsByGroup",
        aliases: &[
            alias("getClientIdListByGroup"),
            setting("getClientSessionsByGroup", &["session"]),
            setting("getClientInfoByGroup", &["session"]),
        ],
        route: route(Method::GET, "/v1/groups/{group}/clients"),
        parameters: &[GROUP_OR_GROUPS, SESSION, LIMIT, CURSOR],
        positional: 1,
        answer: Shape::Clients,
        about: "The clients in a group.",
        read: |given| {
            Ok(Call::GroupClients {
                groups: given.groups("group")?,
                sessions: given.flag("session")?,
                page: given.page()?,
            })
        },
    },
    Function {
        name: "GetUidsByGroup",
        aliases: &[alias("getUidListByGroup"), alias("GetUidCountByGroup")],
        route: route(Method::GET, "/v1/groups/{group}/uids"),
        parameters: &[GROUP_OR_GROUPS],
        positional: 1,
        answer: Shape::UidsCounted,
        about: "The uids of clients in a group, each once, and how many; clients without a uid do not count.",
        read: |given| {
            Ok(Call::GroupUids {
                groups: given.groups("group")?,
            })
        },
    },
    Function {
        name: "GetAllGroups",
        aliases: &[
            alias("getAllGroupIdList"),
            setting("getAllGroupClientIdCount", &["counts"]),
            setting("getAllGroupClientIdList", &["clients"]),
            setting("getAllGroupUidCount", &["uids", "counts"]),
            setting("getAllGroupUidList", &["uids"]),
        ],
        route: route(Method::GET, "/v1/groups"),
        parameters: &[
            Parameter::new("clients", Kind::Flag, "With the clients of each."),
            Parameter::new("uids", Kind::Flag, "With the uids of each."),
            Parameter::new(
                "counts",
                Kind::Flag,
                "With how many clients each has, or uids if `uids` is set too.",
            ),
            LIMIT,
            CURSOR,
        ],
        positional: 0,
        answer: Shape::Groups,
        about: "All groups.",
        read: |given| {
            let (clients, uids, counts) = (given.flag("clients")?, given.flag("uids")?, given.flag("counts")?);
            let detail = match (clients, uids, counts) {
                (true, true, _) => return Err(ApiError::bad_request("only one of clients and uids")),
                (_, true, true) => GroupDetail::UidCounts,
                (_, true, false) => GroupDetail::Uids,
                (_, false, true) => GroupDetail::ClientCounts,
                (true, false, false) => GroupDetail::Clients,
                (false, false, false) => GroupDetail::Names,
            };
            Ok(Call::AllGroups {
                detail,
                page: given.page()?,
            })
        },
    },
    Function {
        name: "getGroupsByClientId",
        aliases: &[],
        route: route(Method::GET, "/v1/clients/{client_id}/groups"),
        parameters: &[CLIENT, LENIENT],
        positional: 1,
        answer: Shape::Groups,
        about: "The groups a client is in.",
        read: |given| {
            Ok(Call::GroupsOf {
                client: given.client()?,
            })
        },
    },
    Function {
        name: "CloseClient",
        aliases: &[
            setting("destoryClient", &["force"]),
            setting("destroyClient", &["force"]),
        ],
        route: route(Method::DELETE, "/v1/clients/{client_id}"),
        parameters: &[CLIENT, MESSAGE, CODE, REASON, FORCE, JSON, BASE64, BINARY, LENIENT],
        positional: 4,
        answer: Shape::Closed,
        about: "Closes a connection, after a last message if there is one.",
        read: |given| {
            Ok(Call::Close {
                client: given.client()?,
                farewell: given.farewell()?,
            })
        },
    },
    Function {
        name: "closeCurrentClient",
        aliases: &[
            setting("destoryCurrentClient", &["force"]),
            setting("destroyCurrentClient", &["force"]),
        ],
        route: None,
        parameters: &[MESSAGE, CODE, REASON, FORCE, JSON, BASE64, BINARY, LENIENT],
        positional: 3,
        answer: Shape::Closed,
        about: "Closes the connection of the client of the event that is being answered.",
        read: |given| {
            Ok(Call::Close {
                client: given.current()?,
                farewell: given.farewell()?,
            })
        },
    },
    Function {
        name: "closeUid",
        aliases: &[],
        route: route(Method::DELETE, "/v1/uids/{uid}/clients"),
        parameters: &[UID, MESSAGE, CODE, REASON, FORCE, JSON, BASE64, BINARY],
        positional: 4,
        answer: Shape::ClosedCount,
        about: "Closes all connections of a uid.",
        read: |given| {
            Ok(Call::CloseAll {
                of: given.uid()?,
                farewell: given.farewell()?,
            })
        },
    },
    Function {
        name: "closeGroup",
        aliases: &[],
        route: route(Method::DELETE, "/v1/groups/{group}/clients"),
        parameters: &[GROUP, MESSAGE, CODE, REASON, FORCE, JSON, BASE64, BINARY],
        positional: 4,
        answer: Shape::ClosedCount,
        about: "Closes the connections of all clients in a group.",
        read: |given| {
            Ok(Call::CloseAll {
                of: given.group()?,
                farewell: given.farewell()?,
            })
        },
    },
    Function {
        name: "IsOnline",
        aliases: &[],
        route: route(Method::GET, "/v1/clients/{client_id}/online"),
        parameters: &[CLIENT, LENIENT],
        positional: 1,
        answer: Shape::Online,
        about: "Whether a client is connected.",
        read: |given| {
            Ok(Call::IsOnline {
                client: given.client()?,
            })
        },
    },
    Function {
        name: "getClient",
        aliases: &[],
        route: route(Method::GET, "/v1/clients/{client_id}"),
        parameters: &[CLIENT, LENIENT],
        positional: 1,
        answer: Shape::Online,
        about: "Whether a client is connected; 404 if not.",
        read: |given| {
            Ok(Call::Client {
                client: given.client()?,
            })
        },
    },
    Function {
        name: "GetAllClientCount",
        aliases: &[alias("getAllClientIdCount")],
        route: route(Method::GET, "/v1/clients:count"),
        parameters: &[],
        positional: 0,
        answer: Shape::ClientCount,
        about: "How many clients are connected.",
        read: |_| Ok(Call::ClientCount),
    },
    Function {
        name: "getAllClientIdList",
        aliases: &[
            setting("getAllClientSessions", &["session"]),
            setting("getAllClientInfo", &["session"]),
        ],
        route: route(Method::GET, "/v1/clients"),
        parameters: &[
            Parameter {
                kind: Kind::GroupOrAll,
                required: false,
                about: "Only those in this group.",
                place: Place::CallOnly,
                ..GROUP
            },
            SESSION,
            LIMIT,
            CURSOR,
        ],
        positional: 1,
        answer: Shape::Clients,
        about: "All clients.",
        read: |given| {
            Ok(Call::GroupClients {
                groups: given.group_or_all()?.into_iter().collect(),
                sessions: given.flag("session")?,
                page: given.page()?,
            })
        },
    },
    Function {
        name: "GetInfo",
        aliases: &[alias("getSession")],
        route: route(Method::GET, "/v1/clients/{client_id}/session"),
        parameters: &[CLIENT, LENIENT],
        positional: 1,
        answer: Shape::Session,
        about: "The session of a client, `{}` if it has none.",
        read: |given| {
            Ok(Call::Session {
                client: given.client()?,
            })
        },
    },
    Function {
        name: "SetInfo",
        aliases: &[alias("setSession")],
        route: route(Method::PUT, "/v1/clients/{client_id}/session"),
        parameters: &[CLIENT, OBJECT, LENIENT],
        positional: 2,
        answer: Shape::Nothing,
        about: "Puts a session in place of the one a client has.",
        read: |given| {
            Ok(Call::SetSession {
                client: given.client()?,
                session: given.object("session")?,
            })
        },
    },
    Function {
        name: "UpdateInfo",
        aliases: &[alias("updateSession")],
        route: route(Method::PATCH, "/v1/clients/{client_id}/session"),
        parameters: &[CLIENT, OBJECT, LENIENT],
        positional: 2,
        answer: Shape::Session,
        about: "Merges into a client's session (RFC 7396: recursively, null deletes) and answers with the whole.",
        read: |given| {
            Ok(Call::UpdateSession {
                client: given.client()?,
                patch: given.object("session")?,
            })
        },
    },
    Function {
        name: "batch",
        aliases: &[],
        route: route(Method::POST, "/v1/batch"),
        parameters: &[
            Parameter::new("calls", Kind::Calls, "The calls, carried out in this order.").required(),
            LENIENT,
        ],
        positional: 1,
        answer: Shape::Results,
        about: "Several calls in one request. If one of them cannot be read, none is carried out.",
        read: |given| {
            if given.is_in_batch() {
                return Err(ApiError::bad_request("a batch cannot be part of a batch"));
            }
            Ok(Call::Batch(given.calls()?))
        },
    },
    Function {
        name: "getNodes",
        aliases: &[],
        route: route(Method::GET, "/v1/nodes"),
        parameters: &[],
        positional: 0,
        answer: Shape::Nodes,
        about: "The nodes of the cluster.",
        read: |_| Ok(Call::Nodes),
    },
];

fn send(given: &mut Arguments<'_>, to: Targets) -> Result<Call, ApiError> {
    let exclude = given.clients("exclude")?.unwrap_or_default();
    Ok(Call::Send(Send {
        message: given.message()?,
        to,
        exclude,
    }))
}

fn any(names: Vec<crate::engine::name::Name>) -> Targets {
    Targets::Any {
        names,
        clients: Vec::new(),
    }
}
