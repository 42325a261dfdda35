//! Publishes of any kind, and what has to be told of each.

use std::sync::Arc;

use bytes::Bytes;

use super::{CHANNELS, World};
use crate::engine::command::{AtDeadline, Command, Part, Publish, Qos, Target, Tell};
use crate::engine::ids::{ClientId, Ticket};
use crate::engine::name::Name;
use crate::fuzzing::Input8;
use crate::protocol::rainbow::api;

/// One publish, and what it was answered with.
pub(super) struct Published {
    tell: Tell,
    /// Whether it is for anybody at all.
    is_posted: bool,
    shards: Option<u32>,
    parts: u32,
}

impl Published {
    pub fn on_published(&mut self, shards: u32) {
        assert_ne!(self.tell, Tell::Nobody, "nobody asked");
        assert!(self.shards.replace(shards).is_none(), "published twice");
    }

    pub fn on_part(&mut self, part: &Part, clients: usize) {
        assert!(self.tell.has_parts(), "nobody asked");
        assert_eq!(*self.shards.get_or_insert(part.shards), part.shards);
        self.parts += 1;
        let members = part.done + part.failed + part.silent;
        assert!(members as usize <= clients, "{members} members of {clients} clients");
    }

    /// It has been told what was asked for, once.
    pub fn check(&self, ticket: Ticket) {
        if self.tell == Tell::Nobody || !self.is_posted {
            return assert!(self.shards.is_none() && self.parts == 0, "nobody asked");
        }
        let shards = self.shards.expect("a publish was not answered");
        let expected = if self.tell.has_parts() { shards } else { 0 };
        assert_eq!(self.parts, expected, "{ticket:?}");
    }
}

impl World {
    pub(super) fn publish(&mut self, input: &mut Input8<'_>) {
        let (to, except) = self.target(input);
        let qos = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce][input.pick(3)];
        let tell = [qos.tell(), qos.tell(), Tell::Counted, Tell::Published, Tell::Nobody][input.pick(5)];
        let retries = input.pick(3) as u32;
        let ticket = self.ticket();
        let distributor = to.distributor(&self.home);
        let published = Published {
            tell,
            is_posted: distributor.is_some(),
            shards: None,
            parts: 0,
        };
        self.publishes.insert(ticket, published);
        let publish = Publish {
            ticket,
            to,
            except: except.into(),
            tag: 7,
            qos,
            tell,
            payload: Bytes::from(vec![b'x'; input.pick(256) * 64]),
            retries,
            retry_interval: api::RETRY_INTERVAL,
            deadline: self.now + api::exhausted_after(retries),
            at_deadline: AtDeadline::TimedOut,
            tells_online: false,
        };
        if let Some(shard) = distributor {
            self.post(shard, Command::Publish(Arc::new(publish)));
        }
    }

    /// Mostly one channel; else any of them, and of the clients there ever were, and who is left out.
    fn target(&mut self, input: &mut Input8<'_>) -> (Target, Vec<ClientId>) {
        let name = |number: usize| Name::channel(CHANNELS[number % 3].as_bytes());
        match input.pick(8) {
            kind @ 0..=3 => (name(kind).into(), Vec::new()),
            4 => (name(input.pick(3)).into(), self.some(input)),
            _ => {
                let names = (0..input.pick(4)).map(|_| name(input.pick(3))).collect();
                let clients = self.some(input);
                (Target::any(names, clients), self.some(input))
            }
        }
    }

    fn some(&mut self, input: &mut Input8<'_>) -> Vec<ClientId> {
        (0..input.pick(4)).filter_map(|_| self.client(input)).collect()
    }
}
