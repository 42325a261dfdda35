//! What is asked about groups.

use super::{Api, ClientId, by_text, list, name, names, taken, texts};
use crate::application::closing::Closing;
use crate::application::lists::{Listing, Read};
use crate::engine::name::Name;
use crate::protocol::gateway::api::{ApiError, Call, GroupDetail, Outcome};
use crate::protocol::gateway::names::GROUP;

impl Api {
    /// Puts a client into a group; false: it was in there.
    pub async fn join_group(&self, client: ClientId, group: &str) -> Result<bool, ApiError> {
        let group = name("group", GROUP, group)?;
        let outcome = self.ask(Call::JoinGroup { client, group }).await?;
        taken!(outcome, Outcome::Changed(is) => is)
    }

    /// Takes a client out of a group; false: it was not in there.
    pub async fn leave_group(&self, client: ClientId, group: &str) -> Result<bool, ApiError> {
        let group = name("group", GROUP, group)?;
        let outcome = self.ask(Call::LeaveGroup { client, group }).await?;
        taken!(outcome, Outcome::Changed(is) => is)
    }

    /// Puts clients into a group and takes others out of it. How many came and went, and who was not there.
    pub async fn change_group(
        &self,
        group: &str,
        add: impl IntoIterator<Item = ClientId>,
        remove: impl IntoIterator<Item = ClientId>,
    ) -> Result<(u64, Vec<ClientId>), ApiError> {
        let group = name("group", GROUP, group)?;
        let (add, remove) = (list("add", add)?, list("remove", remove)?);
        let outcome = self.ask(Call::ChangeGroup { group, add, remove }).await?;
        taken!(outcome, Outcome::GroupChanged { changed, not_found } => (changed, not_found))
    }

    /// Everybody leaves a group. How many did.
    pub async fn ungroup(&self, group: &str) -> Result<u64, ApiError> {
        let group = name("group", GROUP, group)?;
        taken!(self.ask(Call::Ungroup { group }).await?, Outcome::Removed(removed) => removed)
    }

    /// How many clients a group has.
    pub async fn group_count(&self, group: &str) -> Result<u64, ApiError> {
        let group = Some(name("group", GROUP, group)?);
        let outcome = self.ask(Call::GroupCount { group }).await?;
        taken!(outcome, Outcome::GroupCount { clients, .. } => clients)
    }

    /// How many clients each of these groups has.
    pub async fn group_counts(
        &self,
        groups: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Vec<(String, u64)>, ApiError> {
        let groups = names("groups", GROUP, groups)?;
        let outcome = self.ask(Call::GroupCounts { groups }).await?;
        taken!(outcome, Outcome::CountByName(groups) => by_text(groups, |count| count))
    }

    /// The clients in a group.
    pub fn group_clients(&self, group: &str) -> Listing<ClientId> {
        self.groups_clients([group])
    }

    /// The clients in any of these groups, each once.
    pub fn groups_clients(&self, groups: impl IntoIterator<Item = impl AsRef<str>>) -> Listing<ClientId> {
        let groups = names("groups", GROUP, groups).and_then(not_empty);
        self.clients_in(groups)
    }

    pub(super) fn clients_in(&self, groups: Result<Vec<Name>, ApiError>) -> Listing<ClientId> {
        let call = move |page| {
            let (groups, sessions) = (groups?, false);
            Ok(Call::GroupClients { groups, sessions, page })
        };
        Listing::new(
            self,
            call,
            |outcome| taken!(outcome, Outcome::Clients { clients, next } => (clients, next)),
        )
    }

    /// The uids of the clients in a group, each once. Clients without one do not count.
    pub async fn group_uids(&self, group: &str) -> Result<Vec<String>, ApiError> {
        self.groups_uids([group]).await
    }

    /// The uids of the clients in any of these groups, each once.
    pub async fn groups_uids(
        &self,
        groups: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Vec<String>, ApiError> {
        let groups = names("groups", GROUP, groups).and_then(not_empty)?;
        taken!(self.ask(Call::GroupUids { groups }).await?, Outcome::UidsCounted(uids) => texts(&uids))
    }

    /// How many uids the clients in a group have.
    pub async fn group_uid_count(&self, group: &str) -> Result<u64, ApiError> {
        let group = Some(name("group", GROUP, group)?);
        let outcome = self.ask(Call::GroupCount { group }).await?;
        taken!(outcome, Outcome::GroupCount { uids, .. } => uids)
    }

    /// All groups with clients.
    pub fn all_groups(&self) -> Listing<String> {
        self.groups(
            GroupDetail::Names,
            |outcome| taken!(outcome, Outcome::Groups { groups, next } => (texts(&groups), next)),
        )
    }

    /// All groups, with how many clients each has.
    pub fn group_stats(&self) -> Listing<(String, u64)> {
        self.groups(
            GroupDetail::ClientCounts,
            |outcome| taken!(outcome, Outcome::GroupCounts { groups, next } => (by_text(groups, |count| count), next)),
        )
    }

    /// All groups, with how many uids the clients in each have.
    pub fn group_uid_stats(&self) -> Listing<(String, u64)> {
        self.groups(
            GroupDetail::UidCounts,
            |outcome| taken!(outcome, Outcome::GroupCounts { groups, next } => (by_text(groups, |count| count), next)),
        )
    }

    /// All groups, with the clients in each.
    pub fn all_groups_clients(&self) -> Listing<(String, Vec<ClientId>)> {
        self.groups(GroupDetail::Clients, |outcome| {
            taken!(outcome, Outcome::GroupClients { groups, next } => (by_text(groups, |clients| clients), next))
        })
    }

    /// All groups, with the uids of the clients in each.
    pub fn all_groups_uids(&self) -> Listing<(String, Vec<String>)> {
        self.groups(GroupDetail::Uids, |outcome| {
            taken!(outcome, Outcome::GroupUids { groups, next } => (by_text(groups, |uids| texts(&uids)), next))
        })
    }

    fn groups<T>(&self, detail: GroupDetail, read: Read<T>) -> Listing<T> {
        Listing::new(self, move |page| Ok(Call::AllGroups { detail, page }), read)
    }

    /// The groups of a client.
    pub async fn groups_of(&self, client: ClientId) -> Result<Vec<String>, ApiError> {
        let outcome = self.ask(Call::GroupsOf { client }).await?;
        taken!(outcome, Outcome::Groups { groups, .. } => texts(&groups))
    }

    /// Closes the connections of all clients in a group.
    pub fn close_group(&self, group: &str) -> Closing {
        let of = name("group", GROUP, group);
        Closing::new(self.clone(), move |farewell| Ok(Call::CloseAll { of: of?, farewell }))
    }
}

/// No group is nobody here; to the control core it is everybody.
fn not_empty(groups: Vec<Name>) -> Result<Vec<Name>, ApiError> {
    if groups.is_empty() {
        return Err(ApiError::bad_request("groups: must not be empty"));
    }
    Ok(groups)
}
