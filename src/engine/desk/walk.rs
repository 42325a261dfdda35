//! Questions about clients and sets, asked shard by shard and page by page, and put together to one answer.
//!
//! A list with a limit ends when there is enough, or [`QUERY_ANSWER_BYTES_MAX`] are in it, and says where it goes on. One
//! without is as long as it is: beyond [`QUERY_SMALL_BYTES`] such lists grow one at a time, the others wait in the order in
//! which they came so far; whoever grows while memory is short is refused. All are charged to the memory that waits.
//!
//! Counts are asked of all shards at once, everything else of one after the other.

use std::collections::VecDeque;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};

use super::{Desk, Here, Told};
use crate::budget::{Claim, Rank, Use, is_short};
use crate::engine::command::Command;
use crate::engine::ids::{ClientId, ShardId, Ticket};
use crate::engine::name::Name;
use crate::engine::query::{ClientInfo, Cursor, Items, Page, Query};
use crate::limits::{QUERY_ANSWER_BYTES_MAX, QUERY_SMALL_BYTES};

/// Answers that are being put together.
#[derive(Debug, Default)]
pub(super) struct Walks {
    /// By question.
    open: HashMap<Ticket, Walk, RandomState>,
    /// Of each page that was asked for: the question, and where it begins.
    pages: HashMap<Ticket, (Ticket, Cursor), RandomState>,
    /// The one that may grow.
    growing: Option<Ticket>,
    /// Those that want to, and where they go on.
    waiting: VecDeque<(Ticket, Cursor)>,
}

impl Walks {
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.pages.is_empty() && self.growing.is_none() && self.waiting.is_empty()
    }
}

#[derive(Debug)]
struct Walk {
    query: Arc<Query>,
    limit: usize,
    items: Items,
    bytes: usize,
    claim: Claim,
    /// Members of a shard that needs several pages.
    seen: HashSet<ClientId, RandomState>,
    /// Where the names of the shard begin.
    segment: usize,
    /// Pages under way.
    pages: usize,
}

/// What comes next.
enum Next {
    Ask(Cursor),
    Wait(Cursor),
    /// There is enough; where the rest begins.
    End(Option<Cursor>),
    Refuse,
}

impl Walk {
    fn new(query: Query, limit: usize) -> Self {
        let items = match &query {
            Query::Client { .. } => Items::Client(None),
            Query::Members { .. } => Items::Members(Vec::new()),
            Query::Names { .. } => Items::Names(Vec::new()),
            Query::Count { names } => Items::Counts(vec![0; names.len()]),
        };
        Self {
            query: Arc::new(query),
            limit: limit.max(1),
            items,
            bytes: 0,
            claim: Claim::new(Use::Answers),
            seen: HashSet::default(),
            segment: 0,
            pages: 0,
        }
    }

    fn len(&self) -> usize {
        match &self.items {
            Items::Client(info) => info.as_ref().map_or(0, |info| info.names.len()),
            Items::Members(members) => members.len(),
            Items::Names(names) => names.len(),
            Items::Counts(counts) => counts.len(),
        }
    }

    fn add(&mut self, page: Page, at: Cursor, has_more: bool) {
        match (&mut self.items, page) {
            (Items::Client(whole), Page::Client(page)) => {
                let names = whole
                    .take()
                    .filter(|_| at.position > 0)
                    .map(|whole| (whole.names, whole.data));
                *whole = page.map(|page| match names {
                    Some((mut names, data)) => {
                        names.extend(page.names);
                        ClientInfo { names, data, ..page }
                    }
                    None => page,
                });
                self.bytes = whole.as_ref().map_or(0, cost);
            }
            (Items::Members(members), Page::Members(page)) => {
                let before = members.len();
                if self.seen.is_empty() && !has_more {
                    members.extend(page);
                } else {
                    let seen = &mut self.seen;
                    members.extend(page.into_iter().filter(|info| seen.insert(info.client)));
                }
                self.bytes += members.iter().skip(before).map(cost).sum::<usize>();
                if !has_more {
                    self.seen.clear();
                }
            }
            (Items::Names(names), Page::Names(page)) => {
                names.extend(page.into_iter().map(|(name, members)| (name, u64::from(members))));
                if !has_more {
                    self.segment = settle(names, self.segment);
                }
                self.bytes = size_of_val(names.as_slice());
            }
            (Items::Counts(counts), Page::Counts(page)) => {
                let begin = usize::try_from(at.position).unwrap_or(usize::MAX);
                let sums = counts.iter_mut().skip(begin);
                sums.zip(page).for_each(|(sum, count)| *sum += u64::from(count));
            }
            _ => debug_assert!(false, "shards answer what they are asked"),
        }
        self.claim.set(self.bytes);
    }

    /// What follows a page, if `rest` is where the next one would begin.
    fn next(&self, rest: Option<Cursor>, may_grow: bool) -> Next {
        let Some(rest) = rest else { return Next::End(None) };
        let is_limited = self.limit != usize::MAX;
        if self.len() >= self.limit || is_limited && self.bytes >= QUERY_ANSWER_BYTES_MAX {
            return Next::End(Some(rest));
        }
        if self.bytes < QUERY_SMALL_BYTES {
            return Next::Ask(rest);
        }
        match (is_limited, is_short(Rank::Answer)) {
            (true, true) => Next::End(Some(rest)),
            (false, true) => Next::Refuse,
            (false, false) if !may_grow => Next::Wait(rest),
            _ => Next::Ask(rest),
        }
    }

    fn into_items(mut self) -> (Items, Claim) {
        if let Items::Names(names) = &mut self.items {
            settle(names, self.segment);
            names.sort_by(|one, other| one.0.cmp(&other.0));
            names.dedup_by(|next, kept| {
                let is_same = next.0 == kept.0;
                kept.1 += if is_same { next.1 } else { 0 };
                is_same
            });
        }
        (self.items, self.claim)
    }
}

/// Names of one shard from `segment` on: one that was emptied and filled again between two pages came twice, the later count
/// holds. Where those of the next shard begin.
fn settle(names: &mut Vec<(Name, u64)>, segment: usize) -> usize {
    let mut own = names.split_off(segment.min(names.len()));
    own.sort_by(|one, other| one.0.cmp(&other.0));
    own.dedup_by(|next, kept| {
        let is_same = next.0 == kept.0;
        kept.1 = if is_same { next.1 } else { kept.1 };
        is_same
    });
    names.append(&mut own);
    names.len()
}

/// Bytes an item is charged as.
fn cost(info: &ClientInfo) -> usize {
    size_of::<ClientInfo>() + size_of_val(info.names.as_slice()) + info.data.len()
}

impl Desk {
    /// Begins to answer a question, whose ticket is open.
    pub(super) fn walk(&mut self, question: Ticket, query: Query, from: Cursor, limit: usize) {
        let walk = Walk::new(query, limit);
        let (first, shards) = match &*walk.query {
            Query::Client { client } => (client.shard, 1),
            Query::Members { .. } | Query::Names { .. } => (from.shard, 1),
            Query::Count { .. } => (ShardId(0), self.shards),
        };
        let position = match &*walk.query {
            Query::Count { .. } => 0,
            _ => from.position,
        };
        self.walks.open.insert(question, walk);
        // No shard has such a client, or the list is over.
        if first.0 >= self.shards
            || matches!(self.walks.open[&question].items, Items::Counts(ref counts) if counts.is_empty())
        {
            return self.end_walk(question, None);
        }
        for shard in (first.0..first.0 + shards).map(ShardId) {
            self.ask_page(question, Cursor { shard, position });
        }
    }

    fn ask_page(&mut self, question: Ticket, at: Cursor) {
        let Some(walk) = self.walks.open.get_mut(&question) else {
            return;
        };
        let wanted = walk.limit.saturating_sub(walk.len());
        let (query, max) = (walk.query.clone(), u32::try_from(wanted).unwrap_or(u32::MAX));
        walk.pages += 1;
        let ticket = self.tickets.issue();
        self.walks.pages.insert(ticket, (question, at));
        let cursor = at.position;
        self.post(
            at.shard,
            Command::Query {
                query,
                cursor,
                max,
                ticket,
            },
        );
    }

    /// A page has come.
    pub(super) fn on_page(&mut self, ticket: Ticket, page: Page, next: Option<u64>) {
        let Some((question, at)) = self.walks.pages.remove(&ticket) else {
            return;
        };
        let Some(walk) = self.walks.open.get_mut(&question) else {
            return;
        };
        walk.pages -= 1;
        walk.add(page, at, next.is_some());
        let shard = at.shard;
        let rest = next.map(|position| Cursor { shard, position });
        if let Query::Count { .. } = &*walk.query {
            return match rest {
                Some(rest) => self.ask_page(question, rest),
                None if walk.pages > 0 => {}
                None => self.end_walk(question, None),
            };
        }
        let is_over = matches!(&*walk.query, Query::Client { .. }) || shard.0 + 1 >= self.shards;
        let rest = rest.or((!is_over).then_some(Cursor {
            shard: ShardId(shard.0 + 1),
            position: 0,
        }));
        let may_grow = self.walks.growing.is_none_or(|growing| growing == question);
        match walk.next(rest, may_grow) {
            Next::Ask(rest) => {
                if walk.limit == usize::MAX && walk.bytes >= QUERY_SMALL_BYTES {
                    self.walks.growing = Some(question);
                }
                self.ask_page(question, rest);
            }
            Next::Wait(rest) => self.walks.waiting.push_back((question, rest)),
            Next::End(rest) => self.end_walk(question, rest),
            Next::Refuse => self.refuse_walk(question),
        }
    }

    fn end_walk(&mut self, question: Ticket, next: Option<Cursor>) {
        let Some(walk) = self.walks.open.remove(&question) else {
            return;
        };
        let (items, claim) = walk.into_items();
        if let Some(asked) = self.questions.get_mut(&question) {
            asked.here = Here::Page { items, next, claim };
            self.end_question(question);
        }
        self.let_grow(question);
    }

    fn refuse_walk(&mut self, question: Ticket) {
        self.walks.open.remove(&question);
        if let Some(asked) = self.questions.remove(&question) {
            self.answer(asked.caller, Told::NoRoom);
        }
        self.let_grow(question);
    }

    /// A walk has ended: if it was the one that grew, the next one may.
    fn let_grow(&mut self, ended: Ticket) {
        if self.walks.growing != Some(ended) {
            return;
        }
        self.walks.growing = None;
        while self.walks.growing.is_none()
            && let Some((question, rest)) = self.walks.waiting.pop_front()
        {
            if is_short(Rank::Answer) {
                self.walks.open.remove(&question);
                let refused = self.questions.remove(&question);
                refused
                    .into_iter()
                    .for_each(|asked| self.answer(asked.caller, Told::NoRoom));
                continue;
            }
            self.walks.growing = Some(question);
            self.ask_page(question, rest);
        }
    }
}
