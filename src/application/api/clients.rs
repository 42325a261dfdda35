//! What is asked about single clients, all of them, and nodes.

use bytes::Bytes;
use serde_json::Value;

use super::{Api, ClientId, Session, name, read_session, taken};
use crate::application::closing::Closing;
use crate::application::lists::Listing;
use crate::engine::name::Name;
use crate::protocol::gateway::api::{self, ApiError, Call, NodeInfo, Outcome};
use crate::protocol::gateway::names::GROUP;

impl Api {
    /// Closes the connection of a client, after what it has been sent.
    pub fn close_client(&self, client: ClientId) -> Closing {
        Closing::new(self.clone(), move |farewell| Ok(Call::Close { client, farewell }))
    }

    /// Ends the connection of a client at once: without a close frame, and what still waits for it is thrown away.
    pub async fn destroy_client(&self, client: ClientId) -> Result<(), ApiError> {
        self.close_client(client).at_once().await.map(drop)
    }

    /// Whether a client is connected.
    pub async fn is_online(&self, client: ClientId) -> Result<bool, ApiError> {
        taken!(self.ask(Call::IsOnline { client }).await?, Outcome::Online(is) => is)
    }

    /// How many clients are connected.
    pub async fn client_count(&self) -> Result<u64, ApiError> {
        let outcome = self.ask(Call::ClientCount).await?;
        taken!(outcome, Outcome::ClientCount(nodes) => nodes.iter().map(|(_, clients)| clients).sum())
    }

    /// All clients.
    pub fn client_ids(&self) -> Listing<ClientId> {
        self.clients_in(Ok(Vec::new()))
    }

    /// The session of a client; empty if it was never set.
    pub async fn session(&self, client: ClientId) -> Result<Session, ApiError> {
        let outcome = self.ask(Call::Session { client }).await?;
        taken!(outcome, Outcome::Session(session) => read_session(&session))
    }

    /// Puts a session in place of the one a client has. It is a JSON object.
    pub async fn set_session(&self, client: ClientId, session: Value) -> Result<(), ApiError> {
        let session = object(session)?;
        let outcome = self.ask(Call::SetSession { client, session }).await?;
        taken!(outcome, Outcome::Nothing => ())
    }

    /// Merges a JSON object into a client's session (RFC 7396): recursively, null deletes. Returns the session then.
    pub async fn update_session(&self, client: ClientId, patch: Value) -> Result<Session, ApiError> {
        let patch = object(patch)?;
        let outcome = self.ask(Call::UpdateSession { client, patch }).await?;
        taken!(outcome, Outcome::Session(session) => read_session(&session))
    }

    /// The clients of a group, or all of them, with their sessions.
    pub fn sessions(&self, group: Option<&str>) -> Listing<(ClientId, Session)> {
        let groups = group.map(|group| name("group", GROUP, group)).into_iter().collect();
        let call = move |page| {
            let (groups, sessions): (Result<Vec<Name>, ApiError>, _) = (groups, true);
            let groups = groups?;
            Ok(Call::GroupClients { groups, sessions, page })
        };
        Listing::new(self, call, |outcome| {
            let read = |listed: api::Listed| (listed.client, read_session(&listed.session));
            taken!(outcome, Outcome::Sessions { clients, next } => (clients.into_iter().map(read).collect(), next))
        })
    }

    /// The nodes of the cluster.
    pub async fn nodes(&self) -> Result<Vec<NodeInfo>, ApiError> {
        taken!(self.ask(Call::Nodes).await?, Outcome::Nodes(nodes) => nodes)
    }
}

fn object(value: Value) -> Result<Bytes, ApiError> {
    match value {
        Value::Object(_) => Ok(api::compact(&value).into()),
        _ => Err(ApiError::bad_request("session: an object expected")),
    }
}
