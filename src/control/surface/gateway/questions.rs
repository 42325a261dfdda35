//! Calls that change nothing.

use std::collections::HashSet;
use std::rc::Rc;

use foldhash::fast::RandomState;

use super::ask::{self, Room};
use crate::control::Control;
use crate::engine::ids::ClientId;
use crate::engine::name::Name;
use crate::engine::query::{ClientInfo, Detail};
use crate::protocol::gateway::api::{
    ApiError, Call, ClientText, ErrorCode, GroupDetail, Listed, NodeInfo, Outcome, Page,
};
use crate::protocol::gateway::names;

/// The uids of clients.
const UIDS: Detail = Detail {
    data: false,
    names: Some(names::UID),
};

/// Nothing but the clients.
pub const IDS: Detail = Detail {
    data: false,
    names: None,
};

/// The clients with their sessions.
const SESSIONS: Detail = Detail {
    data: true,
    names: None,
};

/// Answers a question.
pub async fn answer(control: &Rc<Control>, call: &Call) -> Result<Outcome, ApiError> {
    match call {
        Call::IsUidOnline { uid } => Ok(Outcome::UidOnline(ask::count(control, uid).await?)),
        Call::AreUidsOnline { uids } => {
            let counts = ask::counts(control, uids.clone()).await?;
            let online = counts.into_iter().map(|count| count > 0);
            Ok(Outcome::OnlineByName(by_name(uids, online)))
        }
        Call::UidOf { client } => {
            let info = ask::info(control, ask::client(control, client).await?).await?;
            Ok(Outcome::Uid(uid_of(&info).cloned()))
        }
        Call::ClientsOfUid { uid, page } => clients(control, uid, false, page).await,
        Call::ClientsOfUids { uids } => {
            let (mut lists, mut room) = (Vec::with_capacity(uids.len()), Room::default());
            for uid in uids {
                let members = ask::members(control, uid, IDS).await?;
                room.take(members.len(), members.len() * size_of::<ClientText>())?;
                lists.push(ask::texts(control, &members));
            }
            Ok(Outcome::ClientsByName(by_name(uids, lists)))
        }
        Call::AllUids { page } => {
            let kept = ask::names_of(control, names::UID, page).await?;
            let uids = kept.items.into_iter().map(|(uid, _)| uid).collect();
            Ok(Outcome::Uids { uids, next: kept.next })
        }
        Call::UidCount => {
            let uids = ask::names_of(control, names::UID, &Page::default()).await?;
            Ok(Outcome::Count(uids.len() as u64))
        }
        Call::GroupCount { group } => {
            let group = group.clone().unwrap_or_else(names::everybody);
            let members = ask::members(control, &group, UIDS).await?;
            Ok(Outcome::GroupCount {
                clients: members.len() as u64,
                uids: distinct_uids(&members).len() as u64,
            })
        }
        Call::GroupCounts { groups } => {
            let counts = ask::counts(control, groups.clone()).await?;
            Ok(Outcome::CountByName(by_name(groups, counts)))
        }
        Call::GroupClients { groups, sessions, page } => group_clients(control, groups, *sessions, page).await,
        Call::GroupUids { groups } => {
            let members = union(control, groups, UIDS).await?;
            Ok(Outcome::UidsCounted(distinct_uids(&members)))
        }
        Call::AllGroups { detail, page } => all_groups(control, *detail, page).await,
        Call::GroupsOf { client } => {
            let info = ask::info(control, ask::client(control, client).await?).await?;
            let groups = info
                .names
                .into_iter()
                .filter(|name| name.space() == names::GROUP)
                .collect();
            Ok(Outcome::Groups { groups, next: None })
        }
        Call::IsOnline { client } => {
            let is = match ask::known(control, client).await? {
                Some(client) => is_there(control, client).await?,
                None => false,
            };
            Ok(Outcome::Online(is))
        }
        Call::Client { client } => {
            ask::info(control, ask::client(control, client).await?).await?;
            Ok(Outcome::Online(true))
        }
        Call::ClientCount => {
            let clients = ask::count(control, &names::everybody()).await?;
            Ok(Outcome::ClientCount(vec![(node(control), clients)]))
        }
        Call::Session { client } => {
            let info = ask::info(control, ask::client(control, client).await?).await?;
            Ok(Outcome::Session(info.data))
        }
        Call::Nodes => {
            let clients = ask::count(control, &names::everybody()).await?;
            let node = node(control);
            Ok(Outcome::Nodes(vec![NodeInfo {
                node,
                clients,
                is_self: true,
            }]))
        }
        _ => Err(ApiError::bad_request("this is no question")),
    }
}

async fn is_there(control: &Rc<Control>, client: ClientId) -> Result<bool, ApiError> {
    match ask::info(control, client).await {
        Ok(_) => Ok(true),
        Err(error) if error.code == ErrorCode::ClientNotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// What this node is called.
fn node(control: &Control) -> String {
    format!("{:08x}", control.identities.node().0)
}

/// Each name with what belongs to it; a name that is there twice counts once.
fn by_name<T>(names: &[Name], values: impl IntoIterator<Item = T>) -> Vec<(Name, T)> {
    let mut seen: HashSet<&Name, RandomState> = HashSet::default();
    let pairs = names.iter().zip(values);
    pairs
        .filter(|(name, _)| seen.insert(name))
        .map(|(name, value)| (name.clone(), value))
        .collect()
}

fn uid_of(info: &ClientInfo) -> Option<&Name> {
    info.names.iter().find(|name| name.space() == names::UID)
}

/// The uids of clients, each once, in the order of the clients. Clients without one do not count.
fn distinct_uids(members: &[ClientInfo]) -> Vec<Name> {
    let mut seen: HashSet<&Name, RandomState> = HashSet::default();
    let uids = members.iter().filter_map(uid_of);
    uids.filter(|uid| seen.insert(uid)).cloned().collect()
}

/// Everybody in any of several sets, each once.
async fn union(control: &Rc<Control>, groups: &[Name], detail: Detail) -> Result<Vec<ClientInfo>, ApiError> {
    let (mut all, mut room) = (Vec::new(), Room::default());
    let mut seen: HashSet<ClientId, RandomState> = HashSet::default();
    for group in groups {
        let members = ask::members(control, group, detail).await?.items;
        let before = all.len();
        all.extend(members.into_iter().filter(|info| seen.insert(info.client)));
        let new = all.get(before..).unwrap_or_default();
        room.take(
            new.len(),
            new.iter().map(|info| size_of::<ClientInfo>() + info.data.len()).sum(),
        )?;
    }
    Ok(all)
}

async fn group_clients(
    control: &Rc<Control>,
    groups: &[Name],
    sessions: bool,
    page: &Page,
) -> Result<Outcome, ApiError> {
    let detail = if sessions { SESSIONS } else { IDS };
    match groups {
        [] => clients(control, &names::everybody(), sessions, page).await,
        [group] => clients(control, group, sessions, page).await,
        _ if page.limit.is_some() => Err(ApiError::bad_request("limit: only with a single group")),
        groups => Ok(listed(control, union(control, groups, detail).await?, sessions, None)),
    }
}

/// A part of the clients in a set.
async fn clients(control: &Rc<Control>, of: &Name, sessions: bool, page: &Page) -> Result<Outcome, ApiError> {
    let detail = if sessions { SESSIONS } else { IDS };
    let kept = ask::members_of_page(control, of, detail, page).await?;
    Ok(listed(control, kept.items, sessions, kept.next))
}

fn listed(control: &Control, members: Vec<ClientInfo>, sessions: bool, next: Option<String>) -> Outcome {
    if !sessions {
        let clients = ask::texts(control, &members);
        return Outcome::Clients { clients, next };
    }
    let with_session = |info: ClientInfo| Listed {
        client: ask::text(control, info.client),
        session: info.data,
    };
    let clients = members.into_iter().map(with_session).collect();
    Outcome::Sessions { clients, next }
}

async fn all_groups(control: &Rc<Control>, detail: GroupDetail, page: &Page) -> Result<Outcome, ApiError> {
    let kept = ask::names_of(control, names::GROUP, page).await?;
    let next = kept.next.clone();
    let groups = kept.iter().map(|(group, _)| group.clone());
    match detail {
        GroupDetail::Names => {
            let groups = groups.collect();
            Ok(Outcome::Groups { groups, next })
        }
        // A part of the list counts what one shard has.
        GroupDetail::ClientCounts => {
            let groups: Vec<_> = groups.collect();
            let counts = ask::counts(control, groups.clone()).await?;
            let groups = groups.into_iter().zip(counts).filter(|(_, count)| *count > 0).collect();
            Ok(Outcome::GroupCounts { groups, next })
        }
        GroupDetail::Clients => {
            let groups = of_groups(control, groups, IDS, |members| ask::texts(control, members)).await?;
            Ok(Outcome::GroupClients { groups, next })
        }
        GroupDetail::UidCounts => {
            let count = |members: &[ClientInfo]| distinct_uids(members).len() as u64;
            let groups = of_groups(control, groups, UIDS, count).await?;
            Ok(Outcome::GroupCounts { groups, next })
        }
        GroupDetail::Uids => {
            let groups = of_groups(control, groups, UIDS, distinct_uids).await?;
            Ok(Outcome::GroupUids { groups, next })
        }
    }
}

/// Groups with what is made of the members of each.
async fn of_groups<T>(
    control: &Rc<Control>,
    groups: impl Iterator<Item = Name>,
    detail: Detail,
    make: impl Fn(&[ClientInfo]) -> T,
) -> Result<Vec<(Name, T)>, ApiError> {
    let (mut all, mut room) = (Vec::new(), Room::default());
    for group in groups {
        let members = ask::members(control, &group, detail).await?;
        room.take(members.len(), size_of_val(members.as_slice()))?;
        // One that ended meanwhile is none.
        if !members.is_empty() {
            all.push((group, make(&members)));
        }
    }
    Ok(all)
}
