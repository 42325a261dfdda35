//! Lists of all channels, shard by shard and page by page, one at a time.

use super::{Desk, Here, Output, Told};
use crate::budget::{Claim, Rank, Use, is_short};
use crate::engine::command::Command;
use crate::engine::ids::{ShardId, Ticket};
use crate::engine::name::{Name, Space};

/// A list that is being made.
#[derive(Debug)]
pub(super) struct Listing {
    /// For whom.
    question: Ticket,
    /// The page that was asked for, and of whom.
    page: Ticket,
    shard: ShardId,
    channels: Vec<(Name, u64)>,
}

impl Desk {
    /// Begins the next list if none is being made.
    pub(super) fn go_on_listing(&mut self) {
        while self.listing.is_none()
            && let Some(question) = self.waiting.pop_front()
        {
            if is_short(Rank::Answer) {
                let refused = self.questions.remove(&question);
                self.outputs
                    .extend(refused.map(|asked| Output::Answer(asked.caller, Told::NoRoom)));
                continue;
            }
            let listing = Listing {
                question,
                page: question,
                shard: ShardId(0),
                channels: Vec::new(),
            };
            self.ask_page(listing, 0);
        }
    }

    fn ask_page(&mut self, mut listing: Listing, cursor: u32) {
        let ticket = self.tickets.issue();
        listing.page = ticket;
        self.post(listing.shard, Command::Census { cursor, ticket });
        self.listing = Some(listing);
    }

    /// A page has come.
    pub(super) fn on_page(&mut self, ticket: Ticket, channels: Vec<(Name, u32)>, next: Option<u32>) {
        let Some(mut listing) = self.listing.take_if(|listing| listing.page == ticket) else {
            return;
        };
        let named = channels.into_iter().filter(|(name, _)| name.space() == Space::CHANNEL);
        listing
            .channels
            .extend(named.map(|(name, members)| (name, u64::from(members))));
        match next {
            Some(cursor) => self.ask_page(listing, cursor),
            None if listing.shard.0 + 1 < self.shards => {
                listing.shard.0 += 1;
                self.ask_page(listing, 0);
            }
            None => self.end_listing(listing),
        }
    }

    fn end_listing(&mut self, listing: Listing) {
        if let Some(asked) = self.questions.get_mut(&listing.question) {
            let mut claim = Claim::new(Use::Answers);
            claim.set(size_of_val(listing.channels.as_slice()));
            asked.here = Here::Listed {
                channels: listing.channels,
                _claim: claim,
            };
            self.end_question(listing.question);
        }
        self.go_on_listing();
    }
}
