//! Channels of this shard: who is in them, and — for channels at home here — which shards have members.

use std::sync::Arc;

use bytes::Bytes;

use super::client::Client;
use super::{Shard, context};
use crate::config::Config;
use crate::engine::command::{Any, Command, Done, Edit, Publish, Report, Target, Tell, Why};
use crate::engine::ids::{ClientId, ShardId, Ticket};
use crate::engine::name::{Name, Space};
use crate::engine::registry::{Join, Leave, Presence};
use crate::limits::SHARDS_MAX;
use crate::metrics::Metric;
use crate::protocol::Note;
use crate::time::Instant;

impl Shard {
    /// This shard distributes ([`Target::distributor`]): hands the publish to every shard with members, in one order for all.
    pub(super) fn distribute(&mut self, publish: Arc<Publish>) {
        self.metrics.add(Metric::Publishes, 1);
        let reach = match &publish.to {
            Target::Set(name) => self.interest.shards(name),
            Target::Any(any) => self.reach(any),
        };
        let shards = reach.count_ones();
        for shard in shards_of(reach) {
            if shard == self.id {
                self.fanout.collect(publish.clone(), shards);
            } else {
                self.commands.push((shard, Command::Deliver(publish.clone(), shards)));
            }
        }
        if publish.tell == Tell::Published || (shards == 0 && publish.tell != Tell::Nobody) {
            self.report(Report::Published {
                ticket: publish.ticket,
                shards,
            });
        }
    }

    /// Shards that may have somebody in any of several sets, and those of the clients. Who is in a set is known at its home
    /// alone: one that is at home elsewhere may have members everywhere.
    fn reach(&self, any: &Any) -> u64 {
        let of_name = |name| match self.home.home_of(name) == self.id {
            true => self.interest.shards(name),
            false => u64::MAX,
        };
        let of_client = |client: ClientId| 1u64.checked_shl(u32::from(client.shard.0)).unwrap_or(0);
        let names = any.names().iter().map(of_name);
        let reach = names
            .chain(any.clients().iter().map(of_client))
            .fold(0, |all, one| all | one);
        reach & (u64::MAX >> (u64::BITS as usize - self.shards.clamp(1, SHARDS_MAX)))
    }

    /// A client sends to others, by the shard that distributes it. While large fan-outs hold all they may it is not read for a
    /// while, as the shard takes no mail then.
    pub(super) fn publish(&mut self, id: ClientId, publish: Arc<Publish>, now: Instant) {
        match publish.to.distributor(&self.home) {
            Some(shard) if shard == self.id => self.distribute(publish),
            Some(shard) => self.commands.push((shard, Command::Publish(publish))),
            None => {}
        }
        if self.fanout.is_full() {
            self.pause_for_a_while(id, now);
        }
    }

    /// Puts an admitted client into a set. Of a single-valued space it leaves the one it is in, and that does not count as a
    /// channel.
    pub(super) fn join(&mut self, id: ClientId, name: Name, now: Instant) -> Done {
        if !self.is_open(id) {
            return Done::NoClient;
        }
        let mut other = None;
        if name.space().is_single() {
            other = self.leave_other(id, &name);
        } else if self.is_in_too_many(id, &name) {
            self.note(&too_many(), now);
            return Done::Refused(Why::TooManyChannels);
        }
        match self.members.join(id.slot, &name) {
            Join::Already => return Done::Unchanged,
            Join::New { first: true } => self.tell_interest(name, true),
            Join::New { first: false } => {}
        }
        other.map_or(Done::Changed, Done::Replaced)
    }

    fn is_in_too_many(&self, id: ClientId, name: &Name) -> bool {
        let (joined, max) = (self.members.channels_of(id.slot), self.config.channels_max);
        // Names that do not count are only counted where they matter.
        joined.len() >= max
            && joined.filter(|name| !name.space().is_single()).count() >= max
            && !self.members.contains(id.slot, name)
    }

    /// Of a single-valued space a client keeps no other name; the one it had.
    fn leave_other(&mut self, id: ClientId, name: &Name) -> Option<Name> {
        let other = self.name_in(id, name.space()).filter(|other| other != name)?;
        self.leave(id, &other);
        Some(other)
    }

    /// Takes a client out of the set it is in of a single-valued space.
    pub(super) fn unbind(&mut self, id: ClientId, space: Space) -> Done {
        if !self.is_open(id) {
            return Done::NoClient;
        }
        let name = self.name_in(id, space).filter(|_| space.is_single());
        name.map_or(Done::Unchanged, |name| {
            self.leave(id, &name);
            Done::Replaced(name)
        })
    }

    /// The first name of a space that a client has.
    fn name_in(&self, id: ClientId, space: Space) -> Option<Name> {
        let mut names = self.members.channels_of(id.slot);
        names.find(|name| name.space() == space).cloned()
    }

    /// The same as [`Shard::join`], and the client is online on `platform` until it is gone.
    pub(super) fn bind(&mut self, id: ClientId, name: Name, platform: Bytes, now: Instant) {
        if self.join(id, name, now).is_so() {
            let since = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
            self.online.insert(id.slot, Presence { since, platform });
        }
    }

    /// Takes a client out of a channel.
    pub(super) fn leave(&mut self, id: ClientId, channel: &Name) -> Done {
        if !self.is_open(id) {
            return Done::NoClient;
        }
        match self.members.leave(id.slot, channel) {
            Leave::No => return Done::Unchanged,
            Leave::Left { emptied: true } => self.tell_interest(channel.clone(), false),
            Leave::Left { emptied: false } => {}
        }
        Done::Changed
    }

    /// Changes what a client's session keeps.
    pub(super) fn edit(&mut self, id: ClientId, edit: &Edit, now: Instant) -> Done {
        let context = context!(self, id, now);
        let Some(open) = self.clients.get_mut(id.slot, id.generation).and_then(Client::open) else {
            return Done::NoClient;
        };
        match open.session.on_edit(context, edit) {
            Ok(kept) => Done::Edited(kept),
            Err(why) => Done::Refused(why),
        }
    }

    /// This shard is the home of the channel: empties it on all shards, then puts `client` in. Publishes pass through here
    /// too, so every shard sees the three in one order.
    pub(super) fn occupy(&mut self, channel: Name, client: Option<ClientId>, ticket: Ticket, now: Instant) {
        for shard in shards_of(self.interest.shards(&channel)) {
            if shard == self.id {
                self.vacate(&channel);
            } else {
                self.commands.push((
                    shard,
                    Command::Vacate {
                        channel: channel.clone(),
                    },
                ));
            }
        }
        match client {
            None => self.report(Report::Done {
                ticket,
                done: Done::NoClient,
            }),
            Some(client) if client.shard == self.id => {
                let done = self.join(client, channel, now);
                self.report(Report::Done { ticket, done });
            }
            Some(client) => self.commands.push((
                client.shard,
                Command::Join {
                    client,
                    channel,
                    ticket,
                },
            )),
        }
    }

    /// All members of this shard leave the channel.
    pub(super) fn vacate(&mut self, channel: &Name) {
        if self.members.vacate(channel) > 0 {
            self.tell_interest(channel.clone(), false);
        }
    }

    pub(super) fn is_open(&mut self, id: ClientId) -> bool {
        id.shard == self.id
            && self
                .clients
                .get_mut(id.slot, id.generation)
                .and_then(Client::open)
                .is_some()
    }
}

/// The shards of an interest set.
fn shards_of(mut set: u64) -> impl Iterator<Item = ShardId> {
    std::iter::from_fn(move || {
        let shard = set.trailing_zeros();
        set &= set.checked_sub(1)?;
        Some(ShardId(shard as u16))
    })
}

/// A subscription was refused. Whoever asks for one can bring it about as often as it likes.
fn too_many() -> Note {
    Note {
        metric: Metric::ChannelsRefused,
        detail: String::new(),
        say: say_too_many,
    }
}

fn say_too_many(_: &str, more: u64, config: &Config) {
    tracing::warn!(
        channels_max = config.channels_max,
        more,
        "a client is in too many channels, subscription refused"
    );
}
