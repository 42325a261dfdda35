//! Messages on their way out: from whom to whom.

use std::future::IntoFuture;

use super::api::{Api, ClientId, Pending, list, name, names, taken};
use super::message::Message;
use crate::engine::name::Name;
use crate::protocol::gateway::api::{ApiError, Call, Outcome, Send, Sent, Targets};
use crate::protocol::gateway::names::{GROUP, UID};

impl Api {
    /// Sends to every client. [`Sending`] can leave clients out, or name them.
    pub fn send_to_all(&self, message: impl Into<Message>) -> Sending {
        self.sending(message, Ok(Targets::Everybody))
    }

    /// Sends to one client, whose absence is an error.
    pub fn send_to_client(&self, client: ClientId, message: impl Into<Message>) -> Sending {
        self.sending(message, Ok(Targets::Client(client)))
    }

    /// Sends to these clients; those who are gone are left out.
    pub fn send_to_clients(&self, clients: impl IntoIterator<Item = ClientId>, message: impl Into<Message>) -> Sending {
        self.sending(message, any([], clients))
    }

    /// Sends to every client of a uid.
    pub fn send_to_uid(&self, uid: &str, message: impl Into<Message>) -> Sending {
        let uid = name("uid", UID, uid);
        self.sending(message, uid.and_then(|uid| any([uid], [])))
    }

    /// Sends to every client of these uids.
    pub fn send_to_uids(
        &self,
        uids: impl IntoIterator<Item = impl AsRef<str>>,
        message: impl Into<Message>,
    ) -> Sending {
        self.sending(message, names("uids", UID, uids).and_then(|uids| any(uids, [])))
    }

    /// Sends to every client in a group.
    pub fn send_to_group(&self, group: &str, message: impl Into<Message>) -> Sending {
        let group = name("group", GROUP, group);
        self.sending(message, group.and_then(|group| any([group], [])))
    }

    /// Sends to every client in any of these groups, each once.
    pub fn send_to_groups(
        &self,
        groups: impl IntoIterator<Item = impl AsRef<str>>,
        message: impl Into<Message>,
    ) -> Sending {
        let groups = names("groups", GROUP, groups);
        self.sending(message, groups.and_then(|groups| any(groups, [])))
    }

    /// Sends to receivers of different kinds; each client gets the message once.
    pub fn send_to<'a>(
        &self,
        uids: impl IntoIterator<Item = &'a str>,
        groups: impl IntoIterator<Item = &'a str>,
        clients: impl IntoIterator<Item = ClientId>,
        message: impl Into<Message>,
    ) -> Sending {
        let uids = names("uids", UID, uids);
        let both = uids.and_then(|uids| Ok((uids, names("groups", GROUP, groups)?)));
        self.sending(
            message,
            both.and_then(|(uids, groups)| any(uids.into_iter().chain(groups), clients)),
        )
    }

    fn sending(&self, message: impl Into<Message>, to: Result<Targets, ApiError>) -> Sending {
        Sending::new(self.clone(), message.into(), to)
    }
}

/// A message and whom it is for. It is sent when it is awaited; its outcome says to how many clients, and does not wait until
/// they have read it.
#[derive(Debug)]
#[must_use = "nothing is sent before it is awaited"]
pub struct Sending {
    api: Api,
    message: Message,
    to: Result<Targets, ApiError>,
    exclude: Result<Vec<ClientId>, ApiError>,
}

impl Sending {
    pub(super) fn new(api: Api, message: Message, to: Result<Targets, ApiError>) -> Self {
        Self {
            api,
            message,
            to,
            exclude: Ok(Vec::new()),
        }
    }

    /// Not to these clients.
    pub fn exclude(mut self, clients: impl IntoIterator<Item = ClientId>) -> Self {
        self.exclude = list("exclude", clients);
        self
    }

    /// Only to these clients, in place of the receivers named before; to nobody if there are none.
    pub fn only(mut self, clients: impl IntoIterator<Item = ClientId>) -> Self {
        let clients = list("clients", clients);
        self.to = clients.map(|clients| Targets::Any {
            names: Vec::new(),
            clients,
        });
        self
    }
}

impl IntoFuture for Sending {
    type Output = Result<Sent, ApiError>;
    type IntoFuture = Pending<Sent>;

    fn into_future(self) -> Pending<Sent> {
        Box::pin(async move {
            let send = Send {
                message: self.message.into(),
                to: self.to?,
                exclude: self.exclude?,
            };
            taken!(self.api.ask(Call::Send(send)).await?, Outcome::Sent(sent) => sent)
        })
    }
}

fn any(
    names: impl IntoIterator<Item = Name>,
    clients: impl IntoIterator<Item = ClientId>,
) -> Result<Targets, ApiError> {
    let (names, clients) = (names.into_iter().collect(), list("clients", clients)?);
    Ok(Targets::Any { names, clients })
}
