//! The auditor: reads what both sides wrote down and says which promises of docs/reliability.md were broken. It knows
//! nothing of the server and nothing of what was done to it, except at which event it was killed ([`Event::Crash`]).
//!
//! Events of one log are in their order; nothing is concluded from the order between the two logs.

use super::events::{Event, Key};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;

/// Violations that are told in full.
const TOLD_MAX: usize = 20;

/// What was found.
#[derive(Debug, Default)]
pub struct Report {
    /// Broken promises, the first of them in words.
    pub violations: Vec<String>,
    /// How many.
    pub broken: u64,
    pub opened: u64,
    pub sent: u64,
    pub answered: u64,
    /// Messages the business server was given.
    pub forwards: u64,
    /// Of these, answered with 200.
    pub forwards_fine: u64,
    pub publishes: u64,
    /// Acknowledgements that callers were told of.
    pub acknowledged: u64,
    /// Publishes received by clients, without repetitions.
    pub received: u64,
    pub repeated: u64,
    /// Close callbacks the business server accepted.
    pub closes: u64,
    /// Close callbacks it had accepted before, told again because the answer was lost.
    pub closes_repeated: u64,
}

impl Report {
    fn broken(&mut self, what: impl fmt::Display) {
        self.broken += 1;
        if self.violations.len() < TOLD_MAX {
            self.violations.push(what.to_string());
        }
    }

    /// Fails the scenario when a promise was broken, prints the totals otherwise.
    pub fn expect_clean(&self, scenario: &str) {
        println!("    {scenario}: {self}");
        let told = self.violations.join("\n  ");
        assert_eq!(self.broken, 0, "{} violations:\n  {told}", self.broken);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} connections; {} messages up, {} acknowledged, {} handled; {} publishes, {} received, {} acknowledged, \
             {} repetitions; {} close callbacks, {} repeated",
            self.opened,
            self.sent,
            self.answered,
            self.forwards_fine,
            self.publishes,
            self.received,
            self.acknowledged,
            self.repeated,
            self.closes,
            self.closes_repeated,
        )
    }
}

/// A connection, as the client saw it.
#[derive(Default)]
struct Connection {
    open: bool,
    ended: bool,
    /// It began before the server was killed for the last time.
    before_crash: bool,
}

/// A message of a client: how often it was sent and what became of it.
#[derive(Default)]
struct Upward {
    qos: u8,
    sent: u64,
    answered: bool,
    forwards: u64,
    /// Process of the business server that handled it.
    handled_by: Option<u64>,
}

/// One publish.
struct Publish {
    channel: u64,
    /// Who was in the channel when it was sent, for certain.
    members: Vec<Key>,
    /// Who was not, for certain.
    strangers: BTreeSet<Key>,
    connections: u64,
    receivers: u64,
}

/// Compares what the clients and callers saw with what the business server saw.
pub fn audit(load: &[Event], business: &[Event]) -> Report {
    let mut report = Report::default();
    let mut connections: HashMap<Key, Connection> = HashMap::new();
    let mut upward: HashMap<(Key, u64), Upward> = HashMap::new();
    for event in load {
        match *event {
            Event::Open { key } => {
                report.opened += 1;
                connections.entry(key).or_default().open = true;
            }
            Event::Ended { key } => connections.entry(key).or_default().ended = true,
            Event::Crash => connections.values_mut().for_each(|c| c.before_crash = true),
            Event::Sent { key, seq, qos } => {
                let message = upward.entry((key, seq)).or_default();
                message.qos = qos;
                message.sent += 1;
                report.sent += u64::from(message.sent == 1);
            }
            Event::Answered { key, seq } => upward.entry((key, seq)).or_default().answered = true,
            _ => {}
        }
    }
    downward(load, &connections, &mut report);
    upward_and_closes(business, &connections, &mut upward, &mut report);
    report
}

/// Publishes: acknowledgements that were told are real, members miss nothing, strangers get nothing, one order per channel.
fn downward(load: &[Event], connections: &HashMap<Key, Connection>, report: &mut Report) {
    let mut publishes: BTreeMap<u64, Publish> = BTreeMap::new();
    // Per channel who is in (true) and who is not any more (false). Who is not listed may be either.
    let mut channels: HashMap<u64, BTreeMap<Key, bool>> = HashMap::new();
    let mut got: HashSet<(u64, Key)> = HashSet::new();
    let mut newest: HashMap<(Key, u64), u64> = HashMap::new();
    for event in load {
        match *event {
            Event::Joined { key, channel } => {
                channels.entry(channel).or_default().insert(key, true);
            }
            Event::Left { key, channel } => {
                channels.entry(channel).or_default().insert(key, false);
            }
            Event::Changing { key, channel } => {
                channels.entry(channel).or_default().remove(&key);
            }
            Event::Ended { key } => {
                for members in channels.values_mut() {
                    members.remove(&key);
                }
            }
            Event::Publish { id, channel, .. } => {
                let known = channels.entry(channel).or_default();
                let publish = Publish {
                    channel,
                    members: known.iter().filter(|(_, is_in)| **is_in).map(|(key, _)| *key).collect(),
                    strangers: known
                        .iter()
                        .filter(|(_, is_in)| !**is_in)
                        .map(|(key, _)| *key)
                        .collect(),
                    connections: 0,
                    receivers: 0,
                };
                publishes.insert(id, publish);
                report.publishes += 1;
            }
            Event::Published { id, connections } => {
                report.acknowledged += connections;
                match publishes.get_mut(&id) {
                    Some(publish) => publish.connections = connections,
                    None => report.broken(format_args!("publish {id} was answered and never sent")),
                }
            }
            Event::Got { key, id, repeated } => {
                let Some(publish) = publishes.get_mut(&id) else {
                    report.broken(format_args!("client {key} got publish {id}, which was never sent"));
                    continue;
                };
                if publish.strangers.contains(&key) {
                    report.broken(format_args!(
                        "client {key} got publish {id} after it had left the channel"
                    ));
                }
                if got.insert((id, key)) {
                    publish.receivers += 1;
                    report.received += 1;
                }
                if repeated {
                    report.repeated += 1;
                } else if let Some(last) = newest.insert((key, publish.channel), id).filter(|last| *last >= id) {
                    report.broken(format_args!("client {key} got publish {id} after {last}"));
                }
            }
            _ => {}
        }
    }
    for (id, publish) in &publishes {
        let (told, receivers) = (publish.connections, publish.receivers);
        if told > receivers {
            report.broken(format_args!(
                "publish {id}: {told} acknowledged, {receivers} received it"
            ));
        }
        for key in &publish.members {
            if connections.get(key).is_some_and(|c| !c.ended) && !got.contains(&(*id, *key)) {
                report.broken(format_args!(
                    "client {key}, in the channel and open to the end, missed publish {id}"
                ));
            }
        }
    }
}

/// Messages of clients: what was acknowledged was handled, nothing is handled more often than sent, QoS 2 once. Close
/// callbacks: one for each client, behind its last message.
fn upward_and_closes(
    business: &[Event],
    connections: &HashMap<Key, Connection>,
    upward: &mut HashMap<(Key, u64), Upward>,
    report: &mut Report,
) {
    let (mut process, mut doubt) = (0, false);
    let (mut asked, mut told) = (HashSet::new(), HashSet::new());
    let mut accepted: HashMap<Key, u64> = HashMap::new();
    let mut newest: HashMap<Key, u64> = HashMap::new();
    for event in business {
        match *event {
            Event::Started => process += 1,
            Event::Doubt => doubt = true,
            Event::Asked { key } => {
                asked.insert(key);
            }
            Event::Forward {
                key,
                owner,
                seq,
                qos,
                fine,
            } => {
                report.forwards += 1;
                report.forwards_fine += u64::from(fine);
                if key != owner {
                    report.broken(format_args!(
                        "message {seq} of client {owner} came with the cookie of {key}"
                    ));
                }
                if told.contains(&key) {
                    report.broken(format_args!(
                        "message {seq} of client {key} came after its close callback"
                    ));
                }
                let message = upward.entry((owner, seq)).or_default();
                message.forwards += 1;
                if message.forwards > message.sent {
                    let (forwards, sent) = (message.forwards, message.sent);
                    report.broken(format_args!(
                        "message {seq} of client {owner}: sent {sent} times, handed over {forwards} times"
                    ));
                }
                if qos == 2 && message.handled_by == Some(process) && !doubt {
                    report.broken(format_args!(
                        "QoS 2 message {seq} of client {owner} was handed over twice"
                    ));
                }
                if fine {
                    message.handled_by = Some(process);
                }
                if message.sent == 1
                    && let Some(last) = newest.insert(owner, seq).filter(|last| *last >= seq)
                {
                    report.broken(format_args!("message {seq} of client {owner} came after {last}"));
                }
            }
            Event::Close { key, fine } => {
                told.insert(key);
                match accepted.get(&key) {
                    Some(by) if *by == process && !doubt => {
                        report.broken(format_args!("two close callbacks for client {key}"));
                    }
                    Some(_) => report.closes_repeated += 1,
                    None => report.closes += u64::from(fine),
                }
                if fine {
                    accepted.insert(key, process);
                }
                if !asked.contains(&key) {
                    report.broken(format_args!(
                        "a close callback for client {key}, whom nobody had let in"
                    ));
                }
            }
            _ => {}
        }
    }
    for ((key, seq), message) in upward {
        report.answered += u64::from(message.answered);
        if message.answered && message.handled_by.is_none() {
            report.broken(format_args!(
                "message {seq} of client {key} was acknowledged, the business server never took it"
            ));
        }
    }
    for (key, connection) in connections {
        let is_told = accepted.contains_key(key);
        if connection.open && connection.ended && !is_told && !connection.before_crash {
            report.broken(format_args!("no close callback for client {key}"));
        }
        if connection.open && !connection.ended && is_told {
            report.broken(format_args!("a close callback for client {key}, which is still there"));
        }
    }
}
