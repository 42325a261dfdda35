//! One caller of the HTTP interface. It has a channel of its own and does one thing after the other, so whoever is in its
//! channel is known whenever it sends: it publishes, and now and then puts a client into the channel or takes one out.

use super::client::Client;
use super::{Load, SLOW_CHANNEL, Task, Who};
use crate::common::http::Request;
use crate::common::server::TOKEN;
use crate::events::{Event, Key};
use crate::net::Message;
use serde_json::{Value, json};

/// Clients it puts into its channel beside those that asked for it.
const GUESTS_MAX: usize = 6;
/// Bytes of a message to those who read slowly.
const LARGE_BYTES: usize = 128 * 1024;

pub struct Caller {
    channel: u64,
    token: Option<usize>,
    busy: Option<Call>,
    guests: Vec<(Key, String)>,
}

/// What is not answered yet.
enum Call {
    Publish(u64),
    Join(Key, String),
    Leave(Key),
}

impl Caller {
    pub fn new(channel: u64) -> Self {
        Self {
            channel,
            token: None,
            busy: None,
            guests: Vec::new(),
        }
    }

    pub fn is_busy(&self) -> bool {
        self.busy.is_some()
    }

    /// Calls again after a pause.
    pub fn plan(&self, load: &mut Load) {
        if load.publish > 0 {
            let pause = load.some(load.publish);
            load.after(pause, Task::Call(self.channel));
        }
    }

    pub fn on_time(&mut self, clients: &[Client], load: &mut Load) {
        if load.publish == 0 || self.busy.is_some() {
            return;
        }
        let token = match self.token {
            Some(token) => token,
            None => match load.net.connect(load.server, None) {
                Ok(token) => {
                    load.who.insert(token, Who::Caller(self.channel));
                    *self.token.insert(token)
                }
                Err(_) => return self.plan(load),
            },
        };
        let request = self.next(clients, load).signed(TOKEN);
        load.net.send(token, &request.bytes(load.server.port(), false));
    }

    /// Chooses what to do.
    fn next(&mut self, clients: &[Client], load: &mut Load) -> Request {
        let channel = self.channel;
        if channel != SLOW_CHANNEL && !clients.is_empty() && load.rng.chance(10) {
            if self.guests.len() < GUESTS_MAX && load.rng.chance(50) {
                let client = load.rng.pick(clients);
                let is_guest = |key| self.guests.iter().any(|(guest, _)| *guest == key);
                if let Some((key, identity)) = client.identity()
                    && !client.is_slow()
                    && client.channel() != channel
                    && !is_guest(key)
                {
                    load.log.note(Event::Changing { key, channel });
                    self.busy = Some(Call::Join(key, identity.to_owned()));
                    return membership("/sub/", identity, channel);
                }
            } else if !self.guests.is_empty() {
                let (key, identity) = self.guests.swap_remove(load.rng.index(self.guests.len()));
                load.log.note(Event::Changing { key, channel });
                self.busy = Some(Call::Leave(key));
                return membership("/unsub/", &identity, channel);
            }
        }
        self.publish(load)
    }

    fn publish(&mut self, load: &mut Load) -> Request {
        let (id, channel) = (load.next_publish, self.channel);
        load.next_publish += 1;
        let slow = channel == SLOW_CHANNEL;
        let qos = if slow { 0 } else { load.rng.within(0, 2) as u8 };
        let padding = "y".repeat(if slow { LARGE_BYTES } else { load.rng.index(300) });
        load.log.note(Event::Publish { id, channel, qos });
        self.busy = Some(Call::Publish(id));
        Request::post("/send/", format!("{id} {padding}"))
            .query("channel", channel)
            .query("qos", qos)
    }

    pub fn on_input(&mut self, load: &mut Load) {
        let Some(token) = self.token else { return };
        let Some(answer) = load.net.get(token).and_then(|conn| Message::take(&mut conn.input)) else {
            return;
        };
        let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let (fine, channel) = (said["status"] == 0, self.channel);
        let timeout = said["msg"] == "timeout";
        match self.busy.take().expect("an answer to a call") {
            Call::Publish(id) if fine || timeout => {
                load.counters.published += 1;
                load.counters.timeouts += u64::from(timeout);
                let connections = said["connections"].as_u64().unwrap_or(0);
                load.log.note(Event::Published { id, connections });
            }
            Call::Join(key, identity) if fine => {
                load.log.note(Event::Joined { key, channel });
                self.guests.push((key, identity));
            }
            Call::Leave(key) if fine => load.log.note(Event::Left { key, channel }),
            // The client may have left meanwhile; a server that stops or is full answers 503.
            Call::Join(..) if said["msg"] == "no such connection" => {}
            _ => load.counters.failed_calls += 1,
        }
        if answer.field("connection").is_some_and(|value| value == "close") {
            load.net.close(token);
            load.who.remove(&token);
            self.token = None;
        }
        self.plan(load);
    }

    /// Nobody knows what became of the call.
    pub fn on_end(&mut self, ended: usize, load: &mut Load) {
        if self.token == Some(ended) {
            self.token = None;
            if self.busy.take().is_some() {
                load.counters.failed_calls += 1;
                self.plan(load);
            }
        }
    }
}

fn membership(path: &str, identity: &str, channel: u64) -> Request {
    Request::post(
        path,
        json!({"identity": identity, "channel": channel.to_string()}).to_string(),
    )
}
