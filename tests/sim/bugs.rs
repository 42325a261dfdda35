//! Bugs planted into the surroundings of the shards, to see that the oracle notices.

use rainbow_server::engine::command::{Command, Endpoint, Report};

use crate::world::{Mail, World};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A shard's share of a receipt is lost.
    DropPart,
    /// A close callback is asked for twice.
    DuplicateClose,
    /// A close callback is lost.
    DropClose,
    /// A message is forwarded twice.
    DuplicateForward,
    /// Two neighbours in a mailbox change places.
    Reorder,
    /// A shard delivers a publish twice.
    DuplicateDeliver,
    /// A shard never hears of a publish.
    DropDeliver,
    /// The home never hears of a first member.
    DropInterest,
    /// A join is answered before it was done.
    EarlyAnswer,
    /// The answer of the business is lost.
    DropCallbackDone,
    /// A byte on its way to a client changes.
    Corrupt,
    /// A socket that has room again is forgotten.
    EatWritable,
    /// A leave is lost, and answered all the same.
    IgnoreLeave,
    /// A full mailbox keeps some mail of a shard back while its other mail goes out: an answer overtakes its effects.
    Overtake,
}

impl Bug {
    pub const ALL: [Bug; 14] = [
        Bug::DropPart,
        Bug::DuplicateClose,
        Bug::DropClose,
        Bug::DuplicateForward,
        Bug::Reorder,
        Bug::DuplicateDeliver,
        Bug::DropDeliver,
        Bug::DropInterest,
        Bug::EarlyAnswer,
        Bug::DropCallbackDone,
        Bug::Corrupt,
        Bug::EatWritable,
        Bug::IgnoreLeave,
        Bug::Overtake,
    ];

    /// What becomes of a command on its way into a mailbox.
    pub fn tamper_command(world: &mut World, mail: Mail) -> Vec<Mail> {
        let (drops, copies) = match &mail.command {
            Command::Deliver(publish, shards) if world.strikes(Bug::DuplicateDeliver, 20) => {
                (false, Some(Command::Deliver(publish.clone(), *shards)))
            }
            Command::Deliver(..) => (world.strikes(Bug::DropDeliver, 20), None),
            Command::Interest { joined: true, .. } => (world.strikes(Bug::DropInterest, 20), None),
            Command::CallbackDone { .. } => (world.strikes(Bug::DropCallbackDone, 5), None),
            Command::Leave {
                client,
                channel,
                ticket,
            } if world.strikes(Bug::IgnoreLeave, 50) => {
                let client = *client;
                // Asks about another channel instead.
                let channel = [b"not ", &channel[..]].concat().into();
                let command = Command::Leave {
                    client,
                    channel,
                    ticket: *ticket,
                };
                return vec![Mail {
                    command,
                    changes: mail.changes,
                }];
            }
            _ => (false, None),
        };
        let copy = copies.map(|command| Mail {
            command,
            changes: Vec::new(),
        });
        (!drops).then_some(mail).into_iter().chain(copy).collect()
    }

    /// What becomes of a report on its way to the control core.
    pub fn tamper_report(world: &mut World, report: Report) -> Vec<Report> {
        match &report {
            Report::Part(_) if world.strikes(Bug::DropPart, 10) => vec![],
            Report::Callback(request) => {
                let (twice, never) = match request.endpoint {
                    Endpoint::Close => (
                        world.strikes(Bug::DuplicateClose, 20),
                        world.strikes(Bug::DropClose, 20),
                    ),
                    Endpoint::Message => (world.strikes(Bug::DuplicateForward, 10), false),
                    Endpoint::Connect => (false, false),
                };
                let copy = twice.then(|| {
                    let copy = rainbow_server::engine::command::CallbackRequest {
                        query: request.query.clone(),
                        headers: request.headers.clone(),
                        body: request.body.clone(),
                        ..*request
                    };
                    Report::Callback(copy)
                });
                (!never).then_some(report).into_iter().chain(copy).collect()
            }
            _ => vec![report],
        }
    }
}

impl World {
    /// Whether the planted bug is `bug` and strikes now.
    pub fn strikes(&mut self, bug: Bug, percent: u64) -> bool {
        let strikes = self.bug == Some(bug) && self.rng.chance(percent);
        self.bug_struck += u32::from(strikes);
        strikes
    }
}
