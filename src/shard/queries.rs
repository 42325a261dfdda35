//! What callers ask about clients and sets ([`Query`]), answered page by page.
//!
//! Questions wait in the order they came in; each turn answers as many as [`QUERY_STEPS_PER_TURN`] allows, which is one page of
//! a large set or hundreds of small answers. So a set of any size takes a turn like a slice of a large fan-out, and clients
//! and mail have theirs between two. Bound: what waits here is questions of desks, which have one page each under way
//! ([`crate::limits::DESK_QUESTIONS_MAX`]).
//!
//! Who is missed and who is not: [`crate::engine::query`].

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::Shard;
use super::client::Phase;
use super::sockets::Sockets;
use crate::engine::command::Report;
use crate::engine::ids::{ClientId, Ticket};
use crate::engine::name::{Name, Space};
use crate::engine::query::{ClientInfo, Detail, Page, Query};
use crate::limits::{QUERY_ITEM_STEPS, QUERY_PAGE_BYTES, QUERY_PAGE_ITEMS, QUERY_STEPS_PER_TURN};
use crate::time::Instant;

/// Questions that wait for their turn.
#[derive(Debug, Default)]
pub(super) struct Queries(VecDeque<Asked>);

#[derive(Debug)]
struct Asked {
    query: Arc<Query>,
    cursor: u64,
    max: u32,
    ticket: Ticket,
}

impl Queries {
    pub(super) fn push(&mut self, query: Arc<Query>, cursor: u64, max: u32, ticket: Ticket) {
        self.0.push_back(Asked {
            query,
            cursor,
            max,
            ticket,
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Where a page begins in an array that is walked from its end: behind this many entries.
fn end_of(cursor: u64, len: usize) -> usize {
    match usize::try_from(cursor) {
        Ok(0) | Err(_) => len,
        Ok(cursor) => cursor.min(len),
    }
}

/// Where the next page begins, if `left` entries have not been looked at.
fn next_of(left: usize) -> Option<u64> {
    (left > 0).then_some(left as u64)
}

impl Shard {
    /// Answers what waits, as far as this turn goes.
    pub(super) fn answer_queries(&mut self, now: Instant, sockets: &mut dyn Sockets) {
        let mut steps = QUERY_STEPS_PER_TURN;
        while steps > 0
            && let Some(asked) = self.queries.0.pop_front()
        {
            let max = (asked.max.max(1) as usize).min(QUERY_PAGE_ITEMS);
            let (page, next) = match &*asked.query {
                Query::Client { client } => self.client_page(*client, asked.cursor, max, &mut steps, now, sockets),
                Query::Members { name, detail } => {
                    self.members_page(name, *detail, asked.cursor, max, &mut steps, now, sockets)
                }
                Query::Names { space } => self.names_page(*space, asked.cursor, max, &mut steps),
                Query::Count { names } => self.counts_page(names, asked.cursor, &mut steps),
            };
            let ticket = asked.ticket;
            self.report(Report::Told { ticket, page, next });
        }
    }

    /// A client and as many of its names as fit; what its session keeps is on the first page.
    fn client_page(
        &mut self,
        id: ClientId,
        cursor: u64,
        max: usize,
        steps: &mut usize,
        now: Instant,
        sockets: &mut dyn Sockets,
    ) -> (Page, Option<u64>) {
        // Ids that do not say the whole generation are settled here, where it is known.
        let id = self.identities.short().settle(id, self.clients.generation(id.slot));
        let detail = Detail {
            data: cursor == 0,
            names: None,
        };
        let info = self.info(id, detail, steps, now, sockets);
        let Some(mut info) = info else {
            return (Page::Client(None), None);
        };
        let names = self.members.channels_of(id.slot);
        let (len, end) = (names.len(), end_of(cursor, names.len()));
        let count = max.min(end);
        info.names = names.rev().skip(len - end).take(count).cloned().collect();
        *steps = steps.saturating_sub(count);
        (Page::Client(Some(info)), next_of(end - count))
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the place in the walk, and what a step of a client takes"
    )]
    fn members_page(
        &mut self,
        name: &Name,
        detail: Detail,
        cursor: u64,
        max: usize,
        steps: &mut usize,
        now: Instant,
        sockets: &mut dyn Sockets,
    ) -> (Page, Option<u64>) {
        let members = self.members.members(name).unwrap_or_default();
        let end = end_of(cursor, members.len());
        let walked = members.get(end - max.min(end)..end).unwrap_or_default();
        // A copy: a client that panics is closed, and leaves.
        let slots: Vec<u32> = walked.iter().rev().map(|member| member.slot()).collect();
        let (mut infos, mut bytes, mut left) = (Vec::with_capacity(slots.len()), 0, end);
        *steps = steps.saturating_sub(QUERY_ITEM_STEPS);
        for slot in slots {
            if left < end && (bytes >= QUERY_PAGE_BYTES || *steps == 0) {
                break;
            }
            left -= 1;
            let id = self.client_id(slot, self.clients.generation(slot));
            let info = self.info(id, detail, steps, now, sockets);
            bytes += info.as_ref().map_or(0, |info| info.data.len());
            infos.extend(info);
        }
        (Page::Members(infos), next_of(left))
    }

    fn names_page(&self, space: Space, cursor: u64, max: usize, steps: &mut usize) -> (Page, Option<u64>) {
        let cursor = usize::try_from(cursor).unwrap_or(usize::MAX);
        let (names, next) = self.members.page(space, cursor, max, steps);
        (Page::Names(names), next.map(|next| next as u64))
    }

    fn counts_page(&self, names: &[Name], cursor: u64, steps: &mut usize) -> (Page, Option<u64>) {
        let begin = usize::try_from(cursor).unwrap_or(usize::MAX);
        let asked = names.get(begin..).unwrap_or_default();
        let most = (*steps / QUERY_ITEM_STEPS).clamp(1, QUERY_PAGE_ITEMS);
        let count = asked.len().min(most);
        *steps = steps.saturating_sub(count.max(1) * QUERY_ITEM_STEPS);
        let counts = asked.iter().take(count);
        let counts = counts.map(|name| self.members.members(name).map_or(0, |members| members.len() as u32));
        let page = Page::Counts(counts.collect());
        (page, (count < asked.len()).then_some((begin + count) as u64))
    }

    /// What is known of one client; `None` if it is not there.
    fn info(
        &mut self,
        id: ClientId,
        detail: Detail,
        steps: &mut usize,
        now: Instant,
        sockets: &mut dyn Sockets,
    ) -> Option<ClientInfo> {
        *steps = steps.saturating_sub(QUERY_ITEM_STEPS);
        if !self.is_open(id) {
            return None;
        }
        let data = if detail.data {
            self.contained(id, now, sockets, |shard, _| shard.session_data(id))??
        } else {
            Bytes::new()
        };
        let names = detail.names.map(|space| self.names_in(id, space, steps));
        Some(ClientInfo {
            client: id,
            names: names.unwrap_or_default(),
            data,
        })
    }

    fn session_data(&self, id: ClientId) -> Option<Bytes> {
        match &self.clients.get(id.slot, id.generation)?.phase {
            Phase::Open(open) => Some(open.session.data()),
            _ => None,
        }
    }

    /// The names of a space that a client has; of a single-valued one it is looked for no longer than until it is found.
    fn names_in(&self, id: ClientId, space: Space, steps: &mut usize) -> Vec<Name> {
        let most = if space.is_single() { 1 } else { usize::MAX };
        let looked_at = self
            .members
            .channels_of(id.slot)
            .inspect(|_| *steps = steps.saturating_sub(1));
        looked_at
            .filter(|name| name.space() == space)
            .take(most)
            .cloned()
            .collect()
    }
}
