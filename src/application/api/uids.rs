//! What is asked about uids.

use super::{Api, ClientId, by_text, name, names, taken, text, texts};
use crate::application::closing::Closing;
use crate::application::lists::Listing;
use crate::protocol::gateway::api::{ApiError, Call, Exclusive, Outcome};
use crate::protocol::gateway::names::UID;

impl Api {
    /// Binds a client to a uid, in place of the one it has, which is returned.
    pub async fn bind_uid(&self, client: ClientId, uid: &str) -> Result<Option<String>, ApiError> {
        self.bind_uid_with(client, uid, Exclusive::No).await
    }

    /// The same, and says what becomes of other clients of this uid.
    pub async fn bind_uid_with(
        &self,
        client: ClientId,
        uid: &str,
        exclusive: Exclusive,
    ) -> Result<Option<String>, ApiError> {
        let uid = name("uid", UID, uid)?;
        let outcome = self.ask(Call::BindUid { client, uid, exclusive }).await?;
        taken!(outcome, Outcome::PreviousUid(uid) => uid.as_ref().map(text))
    }

    /// Takes a client's uid away, and returns it.
    pub async fn unbind_uid(&self, client: ClientId) -> Result<Option<String>, ApiError> {
        let outcome = self.ask(Call::UnbindUid { client }).await?;
        taken!(outcome, Outcome::PreviousUid(uid) => uid.as_ref().map(text))
    }

    /// Whether a uid has clients.
    pub async fn is_uid_online(&self, uid: &str) -> Result<bool, ApiError> {
        let uid = name("uid", UID, uid)?;
        let outcome = self.ask(Call::IsUidOnline { uid }).await?;
        taken!(outcome, Outcome::UidOnline(clients) => clients > 0)
    }

    /// Which of these uids have clients.
    pub async fn uids_online(
        &self,
        uids: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Vec<(String, bool)>, ApiError> {
        let uids = names("uids", UID, uids)?;
        let outcome = self.ask(Call::AreUidsOnline { uids }).await?;
        taken!(outcome, Outcome::OnlineByName(uids) => by_text(uids, |is| is))
    }

    /// The uid of a client.
    pub async fn uid_of(&self, client: ClientId) -> Result<Option<String>, ApiError> {
        let outcome = self.ask(Call::UidOf { client }).await?;
        taken!(outcome, Outcome::Uid(uid) => uid.as_ref().map(text))
    }

    /// The clients of a uid.
    pub fn clients_of_uid(&self, uid: &str) -> Listing<ClientId> {
        let uid = name("uid", UID, uid);
        Listing::new(
            self,
            move |page| Ok(Call::ClientsOfUid { uid: uid?, page }),
            |outcome| taken!(outcome, Outcome::Clients { clients, next } => (clients, next)),
        )
    }

    /// The clients of each of these uids.
    pub async fn clients_of_uids(
        &self,
        uids: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Vec<(String, Vec<ClientId>)>, ApiError> {
        let uids = names("uids", UID, uids)?;
        let outcome = self.ask(Call::ClientsOfUids { uids }).await?;
        taken!(outcome, Outcome::ClientsByName(uids) => by_text(uids, |clients| clients))
    }

    /// All uids with clients.
    pub fn all_uids(&self) -> Listing<String> {
        Listing::new(
            self,
            |page| Ok(Call::AllUids { page }),
            |outcome| taken!(outcome, Outcome::Uids { uids, next } => (texts(&uids), next)),
        )
    }

    /// How many uids have clients.
    pub async fn all_uid_count(&self) -> Result<u64, ApiError> {
        taken!(self.ask(Call::UidCount).await?, Outcome::Count(count) => count)
    }

    /// Closes the connections of all clients of a uid.
    pub fn close_uid(&self, uid: &str) -> Closing {
        let of = name("uid", UID, uid);
        Closing::new(self.clone(), move |farewell| Ok(Call::CloseAll { of: of?, farewell }))
    }
}
