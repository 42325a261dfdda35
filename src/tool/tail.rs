//! `tail`: a client that shows and acknowledges what comes, and comes back as `docs/client.md` says.

use std::collections::HashSet;
use std::io;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::output::{Object, Output};
use super::place::{Place, random};
use super::say::ended;
use super::websocket::{Event, NoEntry, Socket, Visitor, failure};
use super::{End, Failure};
use crate::cli::given::Given;
use crate::io::clock;
use crate::protocol::rainbow::packet::{Answer, Form, Packet, answer};

/// The first pause before another attempt, and the longest; each is varied by half of itself.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(15)];
/// Without `--seconds`: longer than anybody watches, and no overflow.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// One listener, over all its connections.
struct Tail<'a> {
    place: Place,
    visitor: Visitor<'a>,
    output: Output,
    ack: &'a str,
    once: bool,
    /// Messages still to come; `None`: any number.
    left: Option<u64>,
    until: Instant,
}

/// How a connection came to its end.
enum Over {
    /// All that was asked for has come, or the time is over.
    Enough(End),
    /// The server, or what lies between.
    Lost(Why),
}

/// Why the server has closed.
enum Why {
    /// It said so.
    Closed(Option<(u16, String)>),
    /// It did not.
    Failed(io::Error),
}

/// Listens.
pub fn run(given: &Given) -> Result<End, Failure> {
    if !given.operands.is_empty() {
        return Err(given
            .refusal("it has no operands: the backend decides which channels a client is in")
            .into());
    }
    let device = given.text("device").unwrap_or("rainbow-server-tail");
    let seconds = given.number("seconds", 0..=FOR_EVER.as_secs())?;
    let mut tail = Tail {
        place: Place::of(given)?,
        visitor: Visitor::of(given, device)?,
        output: Output::of(given),
        ack: given.text("ack").unwrap_or_default(),
        once: given.has("once"),
        left: given.number("count", 1..=u64::MAX)?,
        until: clock::instant() + seconds.map_or(FOR_EVER, Duration::from_secs),
    };
    tail.listen()
}

impl Tail<'_> {
    fn listen(&mut self) -> Result<End, Failure> {
        let mut failures = 0;
        loop {
            let pause = match Socket::open(&self.place, &self.visitor) {
                Ok(socket) => {
                    failures = 0;
                    self.event("connected", &format!("{}: connected", self.place.url.authority), None)?;
                    match self.follow(socket)? {
                        Over::Enough(end) => return Ok(end),
                        Over::Lost(why) => self.lost(why)?,
                    }
                }
                Err(no) if self.once || matches!(no, NoEntry::Refused(_)) => return Err(failure(&self.place, no)),
                Err(NoEntry::Later(after)) => {
                    self.output.note("503: no room, or the backend cannot be asked");
                    after
                }
                Err(no) => {
                    self.output.note(&failure(&self.place, no).text);
                    None
                }
            };
            let pause = match pause {
                Some(pause) => pause,
                None => self.varied(failures)?,
            };
            failures += 1;
            let left = self.until.saturating_duration_since(clock::instant());
            if left <= pause {
                std::thread::sleep(left);
                return Ok(self.at_the_end());
            }
            self.output
                .note(&format!("connects again in {:.1} s", pause.as_secs_f32()));
            std::thread::sleep(pause);
        }
    }

    /// Shows one connection to its end.
    fn follow(&mut self, mut socket: Socket) -> Result<Over, Failure> {
        let mut handled = HashSet::new();
        loop {
            match socket.next(self.until) {
                Ok(Event::Quiet) => {
                    socket.close();
                    return Ok(Over::Enough(self.at_the_end()));
                }
                Ok(Event::Closed(why)) => return Ok(Over::Lost(Why::Closed(why))),
                Err(error) => return Ok(Over::Lost(Why::Failed(error))),
                Ok(Event::Message(message, form)) => {
                    if let Err(error) = self.handle(&mut socket, &mut handled, &message, form)? {
                        return Ok(Over::Lost(Why::Failed(error)));
                    }
                    if self.left == Some(0) {
                        socket.close();
                        return Ok(Over::Enough(End::Done));
                    }
                }
            }
        }
    }

    /// Shows a message, then answers it: what was not shown is not acknowledged. `handled` has the ids of this connection
    /// that a repetition may have.
    fn handle(
        &mut self,
        socket: &mut Socket,
        handled: &mut HashSet<u16>,
        message: &[u8],
        form: Form,
    ) -> Result<io::Result<()>, Failure> {
        let packet = Packet::decode(message, form);
        match packet {
            Ok(Packet::Send {
                dup,
                raw_qos,
                msgtype,
                id,
                payload,
            }) => {
                let is_known = raw_qos != 0 && !handled.insert(id);
                if !(dup && is_known) {
                    self.show(msgtype, raw_qos, payload)?;
                }
                let mut reply = match raw_qos {
                    1 => answer(Answer::Ack, id).to_vec(),
                    2 => answer(Answer::Rec, id).to_vec(),
                    _ => return Ok(Ok(())),
                };
                reply.extend_from_slice(self.ack.as_bytes());
                Ok(socket.send(&reply))
            }
            Ok(Packet::Rel { id }) => {
                handled.remove(&id);
                Ok(socket.send(&answer(Answer::Com, id)))
            }
            _ => Ok(Ok(())),
        }
    }

    fn show(&mut self, msgtype: u16, qos: u8, payload: &[u8]) -> Result<(), Failure> {
        self.left = self.left.map(|left| left.saturating_sub(1));
        if !self.output.json {
            return self.output.result(payload);
        }
        let object = Object::new()
            .text("event", "message")
            .plain("type", msgtype)
            .plain("qos", qos);
        let object = match str::from_utf8(payload) {
            Ok(text) => object.text("text", text),
            Err(_) => object.text("base64", STANDARD.encode(payload)),
        };
        self.output.result(&object.end())
    }

    /// What the listener does, beside messages.
    fn event(&self, name: &str, text: &str, close: Option<&(u16, String)>) -> Result<(), Failure> {
        self.output.note(text);
        if !self.output.json {
            return Ok(());
        }
        let object = Object::new()
            .text("event", name)
            .plain_if("code", close.map(|(code, _)| code));
        let object = match close {
            Some((_, reason)) => object.text("reason", reason),
            None => object,
        };
        self.output.result(&object.end())
    }

    /// The connection was lost: how long to wait, if the server says.
    fn lost(&self, why: Why) -> Result<Option<Duration>, Failure> {
        let (close, error) = match why {
            Why::Closed(close) => (close.clone(), ended(close)),
            Why::Failed(error) => (None, error),
        };
        self.event(
            "closed",
            &format!("{}: {error}", self.place.url.authority),
            close.as_ref(),
        )?;
        if self.once {
            return Err(Failure::new(End::Unreachable, ""));
        }
        Ok(close.and_then(|(code, reason)| reconnect_after(code, &reason)))
    }

    fn at_the_end(&self) -> End {
        if self.left.is_some_and(|left| left > 0) {
            self.output.note("the time is over");
            return End::InVain;
        }
        End::Done
    }

    fn varied(&self, failures: u32) -> Result<Duration, Failure> {
        let pause = PAUSES[0].saturating_mul(1 << failures.min(10)).min(PAUSES[1]);
        let part = (random()? % 1000) as f32 / 1000.0;
        Ok(pause.mul_f32(0.5 + part))
    }
}

/// The pause that a server names which restarts (code 1012).
fn reconnect_after(code: u16, reason: &str) -> Option<Duration> {
    let millis = reason.strip_prefix("reconnect_after=").filter(|_| code == 1012)?;
    millis.parse().ok().map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_names_the_pause() {
        assert_eq!(
            reconnect_after(1012, "reconnect_after=250"),
            Some(Duration::from_millis(250))
        );
        assert_eq!(reconnect_after(1001, "reconnect_after=250"), None);
        assert_eq!(reconnect_after(1012, "soon"), None);
    }
}
