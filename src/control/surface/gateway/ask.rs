//! Questions to the desk and changes through it, in the words of this interface: ids as callers write them, errors as they are
//! answered.
//!
//! Bounds: an answer has [`ITEMS_MAX`] items at most; whoever wants more asks for parts of the list. Answers are charged to the
//! memory that waits for as long as they are [`Kept`].

use std::ops::Deref;
use std::rc::Rc;

use crate::budget::{CHUNK, Claim, Rank, Use, is_short};
use crate::control::Control;
use crate::engine::command::{Done, Why};
use crate::engine::desk::{Caller, Desk, Told};
use crate::engine::ids::ClientId;
use crate::engine::name::{Name, Space};
use crate::engine::query::{ClientInfo, Cursor, Detail, Items, Query};
use crate::protocol::gateway::api::{ApiError, ClientText, ErrorCode, Page};
use crate::protocol::gateway::names;

/// Items of an answer that is not asked for in parts: 100 000 clients and some, a few megabytes.
pub const ITEMS_MAX: usize = 1 << 17;

/// What an answer that is put together of several may still take.
pub struct Room {
    items: usize,
    bytes: usize,
    claim: Claim,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            items: 0,
            bytes: 0,
            claim: Claim::new(Use::Answers),
        }
    }
}

impl Room {
    /// Takes room for so many items of so many bytes together.
    pub fn take(&mut self, items: usize, bytes: usize) -> Result<(), ApiError> {
        self.items += items;
        self.bytes += bytes;
        self.claim.set(self.bytes);
        match self.bytes >= CHUNK && is_short(Rank::Answer) {
            true => Err(overloaded()),
            false if self.items > ITEMS_MAX => Err(too_many()),
            false => Ok(()),
        }
    }
}

/// An answer, charged while it is kept.
pub struct Kept<T> {
    /// The answer.
    pub items: T,
    /// Where a list goes on.
    pub next: Option<String>,
    _claim: Claim,
}

impl<T> Kept<T> {
    /// The items in another form, unless they are too many.
    fn map<U>(self, make: impl FnOnce(T) -> Option<U>) -> Result<Kept<U>, ApiError> {
        Ok(Kept {
            items: make(self.items).ok_or_else(too_many)?,
            next: self.next,
            _claim: self._claim,
        })
    }
}

impl<T> Deref for Kept<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.items
    }
}

/// The client an id names, if it may be one of this node's: whether it is there, only its shard knows.
pub async fn known(control: &Rc<Control>, text: &ClientText) -> Result<Option<ClientId>, ApiError> {
    let shards = control.outlets.borrow().shards();
    let client = control.identities.short().client(&text.0);
    let client = client.filter(|client| client.shard.index() < shards);
    match client {
        // An id of GatewayWorker's form does not say all, and may be made up.
        Some(client) if client.is_guess() => match info(control, client).await {
            Ok(info) if info.names.contains(&names::everybody()) => Ok(Some(info.client)),
            Ok(_) => Ok(None),
            Err(error) if error.code == ErrorCode::ClientNotFound => Ok(None),
            Err(error) => Err(error),
        },
        client => Ok(client),
    }
}

/// The client an id names.
pub async fn client(control: &Rc<Control>, text: &ClientText) -> Result<ClientId, ApiError> {
    known(control, text).await?.ok_or_else(ApiError::client_not_found)
}

/// Those of these clients that may be there.
pub async fn clients(control: &Rc<Control>, texts: &[ClientText]) -> Result<Vec<ClientId>, ApiError> {
    let mut clients = Vec::with_capacity(texts.len());
    for text in texts {
        clients.extend(known(control, text).await?);
    }
    Ok(clients)
}

/// The id of a client.
pub fn text(control: &Control, client: ClientId) -> ClientText {
    ClientText(control.identities.short().id(client))
}

/// The ids of clients.
pub fn texts(control: &Control, clients: &[ClientInfo]) -> Vec<ClientText> {
    clients.iter().map(|info| text(control, info.client)).collect()
}

/// What is known of a client.
pub async fn info(control: &Rc<Control>, client: ClientId) -> Result<ClientInfo, ApiError> {
    let kept = query(control, Query::Client { client }, None, usize::MAX).await?;
    match kept.items {
        Items::Client(Some(info)) => Ok(info),
        _ => Err(ApiError::client_not_found()),
    }
}

/// Everybody in a set, each once.
pub async fn members(control: &Rc<Control>, name: &Name, detail: Detail) -> Result<Kept<Vec<ClientInfo>>, ApiError> {
    members_of_page(control, name, detail, &Page::default()).await
}

/// A part of who is in a set.
pub async fn members_of_page(
    control: &Rc<Control>,
    name: &Name,
    detail: Detail,
    page: &Page,
) -> Result<Kept<Vec<ClientInfo>>, ApiError> {
    let name = name.clone();
    let kept = part(control, Query::Members { name, detail }, page).await?;
    kept.map(|items| match items {
        Items::Members(members) => Some(members).filter(|members| members.len() <= ITEMS_MAX),
        _ => None,
    })
}

/// A part of the names of a space, with their numbers of members.
pub async fn names_of(control: &Rc<Control>, space: Space, page: &Page) -> Result<Kept<Vec<(Name, u64)>>, ApiError> {
    let kept = part(control, Query::Names { space }, page).await?;
    kept.map(|items| match items {
        Items::Names(names) => Some(names).filter(|names| names.len() <= ITEMS_MAX),
        _ => None,
    })
}

/// How many members each of these sets has.
pub async fn counts(control: &Rc<Control>, names: Vec<Name>) -> Result<Vec<u64>, ApiError> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let kept = query(control, Query::Count { names }, None, usize::MAX).await?;
    match kept.items {
        Items::Counts(counts) => Ok(counts),
        _ => Err(overloaded()),
    }
}

/// How many members a set has.
pub async fn count(control: &Rc<Control>, name: &Name) -> Result<u64, ApiError> {
    let counts = counts(control, vec![name.clone()]).await?;
    Ok(counts.first().copied().unwrap_or_default())
}

/// A list as the page says.
async fn part(control: &Rc<Control>, question: Query, page: &Page) -> Result<Kept<Items>, ApiError> {
    let unknown = |_| ApiError::bad_request("cursor: unknown");
    let from = page
        .cursor
        .as_deref()
        .map(|text| text.parse::<Cursor>().map_err(unknown))
        .transpose()?;
    query(control, question, from, page.limit.unwrap_or(usize::MAX)).await
}

async fn query(
    control: &Rc<Control>,
    query: Query,
    from: Option<Cursor>,
    limit: usize,
) -> Result<Kept<Items>, ApiError> {
    match control
        .ask(&[], |desk, caller| desk.query(caller, query, from, limit))
        .await
    {
        Told::Page { items, next, claim, .. } => Ok(Kept {
            items,
            next: next.map(|next| next.to_string()),
            _claim: claim,
        }),
        _ => Err(overloaded()),
    }
}

/// Asks for a change, and says what became of it where it was made or was so already.
pub async fn change<R>(control: &Rc<Control>, verb: impl FnOnce(&mut Desk, Caller) -> R) -> Result<Done, ApiError> {
    let done = match control.ask(&[], verb).await {
        Told::Done { done, .. } => done,
        _ => return Err(overloaded()),
    };
    match done {
        Done::NoClient => Err(ApiError::client_not_found()),
        Done::Refused(Why::TooManyChannels) => {
            let message = "the client is in channels_max groups";
            Err(ApiError::new(ErrorCode::TooManyGroups, message))
        }
        Done::Refused(Why::Full) => Err(ApiError::too_large(
            "the session would be longer than session_max, or all of them than sessions_max",
        )),
        Done::Refused(Why::Invalid(what)) => Err(ApiError::bad_request(what)),
        done => Ok(done),
    }
}

/// There is no room for one more question.
pub fn overloaded() -> ApiError {
    ApiError::new(ErrorCode::Overloaded, "too many calls wait, or memory is short")
}

/// An answer would be too long.
pub fn too_many() -> ApiError {
    ApiError::too_large(format!(
        "more than {ITEMS_MAX} items: ask for parts of the list with limit and cursor"
    ))
}
