//! Bugs planted into the surroundings of the shards, to see that the oracle notices.

use std::sync::Arc;

use bytes::Bytes;
use rainbow_server::close::CloseCause;
use rainbow_server::engine::command::{
    CallbackOutcome, CallbackRequest, CloseOrder, Command, Publish, Report, Target, Tell,
};
use rainbow_server::engine::hook::Event;
use rainbow_server::engine::ids::{ClientId, ShardId, Ticket};
use rainbow_server::engine::name::{Name, Space};
use rainbow_server::engine::query::{Page, Query};

use crate::cores::Mail;
use crate::rig;
use crate::world::World;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    // Between cores.
    /// Two neighbours in a mailbox change places.
    Reorder,
    /// Reports of a shard whose mail waits for room go past it: an answer overtakes its effects.
    Overtake,
    /// Clients are answered although mail of their shard waits for room.
    Uncork,
    /// What finds a full mailbox is lost.
    DropOverflow,
    /// A sleeping core does not wake up.
    SleepOn,
    /// A shard never hears of a publish.
    DropDeliver,
    /// A shard delivers a publish twice.
    DuplicateDeliver,
    /// The home never hears of a first member.
    DropInterest,
    /// The home never hears that the last member has left.
    KeepInterest,
    /// A client that is in two sets a publish is for gets it for each.
    OncePerSet,
    /// One of the sets a publish is for is forgotten.
    ForgetSet,
    /// One of the clients a publish is for is forgotten.
    ForgetAddressed,
    /// A client gets what is not for it.
    ForgetException,
    /// What is for several sets or for clients is overtaken by the next publish.
    FallBehind,
    /// A shard's share of a receipt is lost.
    DropPart,
    /// A shard never takes new settings.
    SkipReload,
    /// A shard never hears that the server stops.
    DropDrain,

    // Callers.
    /// A join is answered before it was done.
    EarlyAnswer,
    /// A leave is lost, and answered all the same.
    IgnoreLeave,
    /// What is meant for a client that is gone reaches the one that has its slot now.
    ForgetGeneration,
    /// An acknowledgement is counted that nobody sent.
    CountTooMany,
    /// A member that is only counted is counted twice.
    CountTwice,
    /// What is for a user goes to the channel of the same name.
    MixSpaces,
    /// A platform a user is online with is left out.
    ForgetPlatform,
    /// Platforms are told in the wrong order.
    SwapPlatforms,
    /// A caller is answered twice.
    AnswerTwice,
    /// A share of one publish is counted for another.
    MistakePart,
    /// What another node counted is counted twice.
    CountNodeTwice,

    // Questions and orders.
    /// A page of members begins one too far on: somebody is missed.
    SkipMember,
    /// A walk ends at the end of a page.
    EndWalk,
    /// A page is answered twice.
    PageTwice,
    /// What became of a change is told twice.
    DoneTwice,
    /// One too many is counted.
    CountWrong,
    /// A client is taken out of another set than its user.
    UnbindOther,
    /// An edit is lost, and answered all the same.
    LoseEdit,
    /// A farewell is lost.
    LoseFarewell,
    /// A client is closed by force that was to be told.
    ForceClose,
    /// An order to close is lost, and answered all the same.
    SpareClient,
    /// A farewell comes behind the close frame.
    LateFarewell,

    // The business.
    /// A message is forwarded twice.
    DuplicateForward,
    /// A message is forwarded after the close callback.
    ForwardAfterClose,
    /// The answer of the business is lost.
    DropCallbackDone,
    /// The answer of the business is heard twice.
    DuplicateCallbackDone,
    /// A failure is taken for an answer.
    FailureAsAnswer,
    /// The headers of a failed answer take effect.
    HeedFailure,
    /// A close callback is asked for twice.
    DuplicateClose,
    /// A close callback is lost.
    DropClose,

    // Clients.
    /// A byte on its way to a client changes.
    Corrupt,
    /// A socket that has room again is forgotten.
    EatWritable,
    /// The socket of a client that reads next to nothing is forgotten.
    ForgetSlow,
    /// The end of a connection is not noticed.
    EatEnd,
    /// A packet of a client is lost.
    EatPacket,
    /// The DUP of a client is not seen.
    EatDup,
    /// A client is closed although it did nothing.
    CloseInnocent,
    /// A client's outbox grows without bound.
    Hoard,
    /// The rate of a client is not limited.
    IgnoreRate,
    /// A message to a client has the id of the one before it.
    ReuseId,
}

impl Bug {
    pub const ALL: [Bug; 57] = [
        Bug::Reorder,
        Bug::Overtake,
        Bug::Uncork,
        Bug::DropOverflow,
        Bug::SleepOn,
        Bug::DropDeliver,
        Bug::DuplicateDeliver,
        Bug::DropInterest,
        Bug::KeepInterest,
        Bug::OncePerSet,
        Bug::ForgetSet,
        Bug::ForgetAddressed,
        Bug::ForgetException,
        Bug::FallBehind,
        Bug::DropPart,
        Bug::SkipReload,
        Bug::DropDrain,
        Bug::EarlyAnswer,
        Bug::IgnoreLeave,
        Bug::ForgetGeneration,
        Bug::CountTooMany,
        Bug::CountTwice,
        Bug::MixSpaces,
        Bug::ForgetPlatform,
        Bug::SwapPlatforms,
        Bug::AnswerTwice,
        Bug::MistakePart,
        Bug::CountNodeTwice,
        Bug::SkipMember,
        Bug::EndWalk,
        Bug::PageTwice,
        Bug::DoneTwice,
        Bug::CountWrong,
        Bug::UnbindOther,
        Bug::LoseEdit,
        Bug::LoseFarewell,
        Bug::ForceClose,
        Bug::SpareClient,
        Bug::LateFarewell,
        Bug::DuplicateForward,
        Bug::ForwardAfterClose,
        Bug::DropCallbackDone,
        Bug::DuplicateCallbackDone,
        Bug::FailureAsAnswer,
        Bug::HeedFailure,
        Bug::DuplicateClose,
        Bug::DropClose,
        Bug::Corrupt,
        Bug::EatWritable,
        Bug::ForgetSlow,
        Bug::EatEnd,
        Bug::EatPacket,
        Bug::EatDup,
        Bug::CloseInnocent,
        Bug::Hoard,
        Bug::IgnoreRate,
        Bug::ReuseId,
    ];

    /// What becomes of mail on its way to a shard.
    pub fn tamper_mail(world: &mut World, from: Option<usize>, target: ShardId, mail: Mail) -> Vec<Mail> {
        let Some(bug) = world.bug else { return vec![mail] };
        let outlets = match from {
            Some(shard) => &world.cores.shards[shard].outlets,
            None => &world.cores.control.outlets,
        };
        if outlets.overflow() > 0 && world.strikes(Bug::DropOverflow, 30) {
            return Vec::new();
        }
        let Mail::Command(mut command, changes) = mail else {
            return vec![mail];
        };
        let mut more = Vec::new();
        match &mut command {
            Command::Deliver(publish, shards) if world.strikes(Bug::DuplicateDeliver, 20) => {
                more.push(Command::Deliver(publish.clone(), *shards));
            }
            Command::Deliver(..) if world.strikes(Bug::DropDeliver, 20) => return Vec::new(),
            Command::Deliver(publish, shards) => more.extend(mistarget(world, publish, *shards)),
            Command::Interest { joined: true, .. } if world.strikes(Bug::DropInterest, 20) => return Vec::new(),
            Command::Interest { joined: false, .. } if world.strikes(Bug::KeepInterest, 20) => return Vec::new(),
            Command::CallbackDone { .. } if world.strikes(Bug::DropCallbackDone, 5) => return Vec::new(),
            Command::CallbackDone { client, token, outcome } => {
                let (client, token, fails) = (*client, *token, !is_success(outcome));
                if !fails && world.strikes(Bug::DuplicateCallbackDone, 5) {
                    let outcome = rig::reply(200, &[], "again");
                    more.push(Command::CallbackDone { client, token, outcome });
                }
                if fails && world.strikes(Bug::FailureAsAnswer, 20) {
                    *outcome = rig::reply(200, &[], "no answer at all");
                }
                if fails && world.strikes(Bug::HeedFailure, 50) {
                    let (channel, ticket) = (
                        rig::channel("channel 0"),
                        Ticket {
                            serial: u64::MAX,
                            ..Ticket::default()
                        },
                    );
                    more.push(Command::Join {
                        client,
                        channel,
                        ticket,
                    });
                }
            }
            Command::Drain if world.strikes(Bug::DropDrain, 100) => return Vec::new(),
            Command::Leave { channel, .. } if world.strikes(Bug::IgnoreLeave, 50) => {
                // Leaves another channel instead.
                *channel = Name::channel(&[b"not ", channel.text()].concat());
            }
            Command::Query { query, cursor, .. }
                if *cursor > 1 && matches!(**query, Query::Members { .. }) && world.strikes(Bug::SkipMember, 50) =>
            {
                *cursor -= 1;
            }
            Command::Query {
                query,
                cursor,
                max,
                ticket,
            } if world.strikes(Bug::PageTwice, 20) => more.push(Command::Query {
                query: query.clone(),
                cursor: *cursor,
                max: *max,
                ticket: *ticket,
            }),
            Command::Unbind { client, ticket, .. } if world.strikes(Bug::UnbindOther, 50) => {
                let (client, ticket, channel) = (*client, *ticket, rig::channel("channel 0"));
                command = Command::Leave {
                    client,
                    channel,
                    ticket,
                };
            }
            Command::Edit { edit, .. } if world.strikes(Bug::LoseEdit, 20) => {
                (edit.verb, edit.patch) = (1, Bytes::new());
            }
            Command::Close { order, .. } if order.farewell.is_some() && world.strikes(Bug::LoseFarewell, 50) => {
                order.farewell = None;
            }
            Command::Close { order, .. } if !order.force && world.strikes(Bug::ForceClose, 50) => order.force = true,
            Command::Close { client, ticket, .. } if world.strikes(Bug::SpareClient, 50) => {
                let (client, ticket, space) = (*client, *ticket, Space::CHANNEL);
                command = Command::Unbind { client, space, ticket };
            }
            Command::Join { client, .. } | Command::Leave { client, .. } if bug == Bug::ForgetGeneration => {
                let now = world.holder(target, client.slot);
                if let Some(now) = now.filter(|now| now != client) {
                    world.bug_struck += 1;
                    *client = now;
                }
            }
            _ => {}
        }
        let first = Mail::Command(command, changes);
        let more = more.into_iter().map(|command| Mail::Command(command, Vec::new()));
        std::iter::once(first).chain(more).collect()
    }

    /// What becomes of a report on its way to the control core.
    pub fn tamper_report(world: &mut World, mut report: Report) -> Vec<Report> {
        if world.bug.is_none() {
            return vec![report];
        }
        let mut more = None;
        match &mut report {
            Report::Part(_) if world.strikes(Bug::DropPart, 10) => return Vec::new(),
            Report::Told { page, next, .. }
                if next.is_some() && matches!(page, Page::Members(_)) && world.strikes(Bug::EndWalk, 50) =>
            {
                *next = None;
            }
            Report::Told {
                page: Page::Counts(counts),
                ..
            } if world.strikes(Bug::CountWrong, 20) => {
                counts.iter_mut().for_each(|count| *count += 1);
            }
            Report::Done { ticket, done } if world.strikes(Bug::DoneTwice, 20) => {
                let (ticket, done) = (*ticket, done.clone());
                return vec![report, Report::Done { ticket, done }];
            }
            Report::Part(part) if world.strikes(Bug::CountTooMany, 20) => part.done += 1,
            Report::Part(part)
                if part.done > 0 && world.is_counted(part.ticket) && world.strikes(Bug::CountTwice, 50) =>
            {
                part.done += 1;
            }
            Report::Online { platforms, .. } if !platforms.is_empty() && world.strikes(Bug::ForgetPlatform, 50) => {
                platforms.pop();
            }
            Report::Online { platforms, .. } if platforms.len() > 1 && world.strikes(Bug::SwapPlatforms, 50) => {
                let (first, last) = (platforms[0].since, platforms[platforms.len() - 1].since);
                platforms
                    .iter_mut()
                    .for_each(|presence| presence.since = first + last - presence.since);
            }
            Report::Callback(request) => match request.hook.event {
                Event::Close if world.strikes(Bug::DuplicateClose, 20) => more = Some(copy(request)),
                Event::Close if world.strikes(Bug::DropClose, 20) => return Vec::new(),
                Event::Close => {
                    let last = world.control.last_forward.remove(&request.client);
                    more = last.filter(|_| world.strikes(Bug::ForwardAfterClose, 20));
                }
                Event::Message if world.strikes(Bug::DuplicateForward, 10) => more = Some(copy(request)),
                Event::Message if world.bug == Some(Bug::ForwardAfterClose) => {
                    world.control.last_forward.insert(request.client, copy(request));
                }
                Event::Message | Event::Connect => {}
            },
            _ => {}
        }
        std::iter::once(report).chain(more.map(Report::Callback)).collect()
    }
}

/// What a shard gets in the place of a publish, and what it gets too.
fn mistarget(world: &mut World, publish: &mut Arc<Publish>, shards: u32) -> Option<Command> {
    let (names, clients) = match &publish.to {
        Target::Set(name) => (vec![name.clone()], Vec::new()),
        Target::Any(any) => (any.names().to_vec(), any.clients().iter().collect()),
    };
    let mut to = |names: &[Name], clients: &[ClientId]| {
        Arc::make_mut(publish).to = Target::any(names.to_vec(), clients.to_vec());
    };
    if names.len() > 1 && world.strikes(Bug::OncePerSet, 20) {
        to(&names[1..], &clients);
        let mut first = Publish::clone(publish);
        (first.to, first.tell) = (names[0].clone().into(), Tell::Nobody);
        return Some(Command::Deliver(Arc::new(first), shards));
    }
    if names.len() > 1 && world.strikes(Bug::ForgetSet, 20) {
        to(&names[..names.len() - 1], &clients);
    }
    if !clients.is_empty() && world.strikes(Bug::ForgetAddressed, 20) {
        to(&names, &clients[1..]);
    }
    if !publish.except.is_empty() && world.strikes(Bug::ForgetException, 20) {
        Arc::make_mut(publish).except = publish.except.iter().skip(1).collect();
    }
    None
}

fn copy(request: &CallbackRequest) -> CallbackRequest {
    CallbackRequest {
        query: request.query.clone(),
        headers: request.headers.clone(),
        body: request.body.clone(),
        ..*request
    }
}

fn is_success(outcome: &CallbackOutcome) -> bool {
    matches!(outcome, CallbackOutcome::Answered(reply) if reply.is_success())
}

impl World {
    /// Whether the planted bug is `bug` and strikes now.
    pub fn strikes(&mut self, bug: Bug, percent: u64) -> bool {
        let strikes = self.bug == Some(bug) && self.rng.chance(percent);
        self.bug_struck += u32::from(strikes);
        strikes
    }

    /// Whether the members of this publish are only counted.
    fn is_counted(&self, ticket: Ticket) -> bool {
        let publish = self
            .control
            .number_of(ticket)
            .map(|number| &self.records.publishes[number]);
        publish.is_some_and(|publish| publish.tell == Tell::Counted)
    }

    /// Who has a slot now, as far as the business knows.
    fn holder(&self, shard: ShardId, slot: u32) -> Option<ClientId> {
        let known = self.records.sessions.keys().rev();
        known.copied().find(|id| id.shard == shard && id.slot == slot)
    }

    /// [`Bug::CloseInnocent`]: some client is closed as if it had been silent.
    pub fn plant_close(&mut self) {
        if self.strikes(Bug::CloseInnocent, 5)
            && let Some(client) = self.some_client()
        {
            let (cause, ticket) = (
                CloseCause::PingTimeout,
                Ticket {
                    serial: u64::MAX,
                    ..Ticket::default()
                },
            );
            let order = Box::new(CloseOrder::new(cause));
            self.post(client.shard, Command::Close { client, order, ticket }, Vec::new());
        }
    }
}
