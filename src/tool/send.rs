//! `send` to clients: `/send/` of the HTTP interface, once or for each line of standard input.

use std::io::{self, BufRead, Read};
use std::time::{Duration, Instant};

use super::call::Answer;
use super::output::Output;
use super::place::{Place, SOON};
use super::{End, Failure};
use crate::cli::given::Given;
use crate::io::clock;
use crate::wire::json::{self, Field};
use crate::wire::query::Encoder;

/// Time between two lines of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// Longest message read from standard input.
const INPUT_MAX: u64 = 1 << 30;

/// What is the same for all messages of one command.
struct Job {
    place: Place,
    output: Output,
    target: Vec<u8>,
    to: String,
    by: By,
    timeout: u16,
    expect: u64,
}

/// What the receivers have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// A channel: the answer counts acknowledgements.
    Channel,
    /// A user: the answer names platforms.
    User,
}

/// What became of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// So many acknowledged, or have the user online; `None`: nobody was counted.
    Sent(Option<u64>),
    /// Not by all in time.
    TimedOut(u64),
}

/// Sends.
pub fn run(given: &Given) -> Result<End, Failure> {
    let (job, data) = Job::of(given)?;
    if given.has("lines") {
        return job.lines();
    }
    match job.send(&message(data)?)? {
        Outcome::TimedOut(count) => Err(Failure::new(
            End::InVain,
            format!("{}: not all acknowledged in time, {count} did", job.to),
        )),
        Outcome::Sent(count) => job.judge(count),
    }
}

/// The message: the word, or standard input where there is none or it is `-`.
pub fn message(word: Option<&str>) -> Result<Vec<u8>, Failure> {
    if let Some(word) = word.filter(|word| *word != "-") {
        return Ok(word.as_bytes().to_vec());
    }
    let mut bytes = Vec::new();
    let read = io::stdin().lock().take(INPUT_MAX).read_to_end(&mut bytes);
    read.map_err(|error| Failure::new(End::Usage, format!("standard input cannot be read: {error}")))?;
    Ok(bytes)
}

impl Job {
    /// The job, and the word that is the message.
    fn of(given: &Given) -> Result<(Self, Option<&str>), Failure> {
        let uid = given.text("uid");
        let channel = if uid.is_some() { None } else { given.operand(0)? };
        let data = usize::from(uid.is_none());
        let Some(to) = uid.or(channel) else {
            return Err(given.refusal("name a channel, or a user with --uid").into());
        };
        if given.operands.len() > data + usize::from(!given.has("lines")) {
            return Err(given.refusal("too many words: quote the message").into());
        }
        let qos = given.number("qos", 0..=2u8)?.unwrap_or(1);
        let timeout = given.number("timeout", 1..=3600u16)?.unwrap_or(10);
        let kind = given.number("type", 0..=u16::MAX)?.unwrap_or(1).to_string();
        let mut target = b"/send/".to_vec();
        let mut query = Encoder::extend_url(&mut target);
        match uid {
            Some(uid) => query
                .pair(b"uid", uid.as_bytes())
                .pair(b"message_type", kind.as_bytes()),
            None => query.pair(b"channel", to.as_bytes()).pair(b"msgtype", kind.as_bytes()),
        };
        query
            .pair(b"qos", qos.to_string().as_bytes())
            .pair(b"timeout", timeout.to_string().as_bytes());
        let job = Self {
            place: Place::of(given)?,
            output: Output::of(given),
            target,
            to: to.to_owned(),
            by: if uid.is_some() { By::User } else { By::Channel },
            timeout,
            expect: given.number("expect", 0..=u64::MAX)?.unwrap_or(0),
        };
        Ok((job, given.operand(data)?))
    }

    /// Sends one message and shows the answer.
    fn send(&self, message: &[u8]) -> Result<Outcome, Failure> {
        let within = SOON + Duration::from_secs(self.timeout.into());
        let answer = settled(self.place.post(self.target.clone(), message, within)?)?;
        if self.output.json {
            self.output.result(&answer)?;
        }
        let names = ["status", "connections", "data", "msg", "online_client"];
        let Some([status, connections, data, msg, online]) = json::fields(&answer, names) else {
            return Err(Failure::new(
                End::Refused,
                "the answer is not JSON: is that a rainbow-server?",
            ));
        };
        let count = connections.and_then(|count| count.count());
        if online.is_some() {
            return Ok(Outcome::Sent(Some(platforms(&answer))));
        }
        match (status.and_then(|status| status.count()), msg) {
            (Some(0), _) => {
                if let Some(data) = data
                    .as_ref()
                    .and_then(Field::text)
                    .filter(|data| !data.is_empty() && !self.output.json)
                {
                    self.output.result(data.as_bytes())?;
                }
                Ok(Outcome::Sent(count))
            }
            (_, Some(Field::Text(text))) if text == "timeout" => Ok(Outcome::TimedOut(count.unwrap_or(0))),
            (_, msg) => Err(said_no(&self.to, msg.as_ref())),
        }
    }

    fn judge(&self, count: Option<u64>) -> Result<End, Failure> {
        let counted = match (count, &self.by) {
            (None, _) => "sent".to_owned(),
            (Some(count), By::Channel) => format!("{count} acknowledged"),
            (Some(count), By::User) => format!("sent, online on {count} platforms"),
        };
        let text = format!("{}: {counted}", self.to);
        if count.unwrap_or(0) < self.expect {
            return Err(Failure::new(End::InVain, format!("{text}, {} expected", self.expect)));
        }
        self.output.note(&text);
        Ok(End::Done)
    }

    /// One message per line of standard input. A server that refuses ends it; what a client leaves unanswered does not.
    fn lines(&self) -> Result<End, Failure> {
        let (mut sent, mut acknowledged, mut short) = (0u64, 0u64, 0u64);
        let mut shown: Option<Instant> = None;
        for line in io::stdin().lock().split(b'\n') {
            let mut line =
                line.map_err(|error| Failure::new(End::Usage, format!("standard input cannot be read: {error}")))?;
            line.pop_if(|last| *last == b'\r');
            let outcome = self.send(&line).inspect_err(|_| {
                self.output.progress_done();
                self.output.note(&format!("{}: {sent} sent before this one", self.to));
            })?;
            let (count, is_whole) = match outcome {
                Outcome::Sent(count) => (count.unwrap_or(0), true),
                Outcome::TimedOut(count) => (count, false),
            };
            sent += 1;
            acknowledged += count;
            short += u64::from(!is_whole || count < self.expect);
            let now = clock::instant();
            if shown.is_none_or(|at| now.duration_since(at) >= PROGRESS_INTERVAL) {
                shown = Some(now);
                self.output
                    .progress(&format!("{}: {sent} sent, {acknowledged} acknowledgements", self.to));
            }
        }
        self.output.progress_done();
        let text = format!(
            "{}: {sent} sent, {acknowledged} acknowledgements, {short} not by all",
            self.to
        );
        if short > 0 {
            return Err(Failure::new(End::InVain, text));
        }
        self.output.note(&text);
        Ok(End::Done)
    }
}

/// How many platforms a user is online with.
fn platforms(answer: &[u8]) -> u64 {
    let count = json::with_value(answer, json::JSON_BYTES_MAX, |value| {
        Some(value.get("online_client")?.as_array()?.len() as u64)
    });
    count.unwrap_or(0)
}

/// The body of an answer with status 200; on one line.
pub fn settled(answer: Answer) -> Result<Vec<u8>, Failure> {
    let text = match answer.status() {
        200 => return Ok(answer.body.trim_ascii().to_vec()),
        404 => "404: is that a rainbow-server?".to_owned(),
        503 => "503: the server has no room, try again later".to_owned(),
        status => format!("the server answers {status}"),
    };
    Err(Failure::new(End::Refused, text))
}

/// The server has said no in JSON.
pub fn said_no(to: &str, msg: Option<&Field>) -> Failure {
    let msg = msg.and_then(Field::text).unwrap_or("it says no");
    let advice = match msg {
        "signature error" => ": the secret or the scheme is another one there, or the clocks differ",
        _ => "",
    };
    Failure::new(End::Refused, format!("{to}: {msg}{advice}"))
}
