//! The words every door shares with the shard: what a door is told, what it wants done, what it says to a request. They stand
//! below the doors and name none of them.
//!
//! ```text
//!   request head ── knock ──▶ Entry::Ask ── the backend ── answered ──┬─▶ session
//!                       ├──▶ Entry::Admit ────────────────────────────┘
//!                       └──▶ Entry::Answer ◀── Refused ── answered
//! ```
//! A door gives finished answers: the shard writes them and counts their causes, and never asks what they mean.

use std::sync::Arc;

use bytes::Bytes;

use crate::close::CloseCause;
use crate::config::Config;
use crate::engine::ack_data::LeftOut;
use crate::engine::command::{CallbackRequest, CloseOrder, Publish};
use crate::engine::hook::Hook;
use crate::engine::ids::{ClientId, DeliveryKey, IdentityKey};
use crate::engine::name::{Name, Space};
use crate::engine::registry::Members;
use crate::metrics::Metric;
use crate::time::{Duration, Instant};
use crate::wire::deflate::Agreed;
use crate::wire::http1::answer::HttpAnswer;
use crate::wire::ws;

/// What a session sees of its surroundings during one call.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The client this session belongs to.
    pub client: ClientId,
    /// Makes identities.
    pub identities: &'a IdentityKey,
    /// Settings in force.
    pub config: &'a Config,
    /// The time.
    pub now: Instant,
    /// The sets its client is in.
    pub names: Names<'a>,
}

/// The sets a client is in, as its shard has them.
#[derive(Clone, Copy)]
pub struct Names<'a> {
    members: &'a Members,
    slot: u32,
}

impl<'a> Names<'a> {
    /// Those of the client of a slot.
    pub fn of(members: &'a Members, slot: u32) -> Self {
        Self { members, slot }
    }

    /// All of them, in no particular order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = &'a Name> {
        self.members.channels_of(self.slot)
    }

    /// The one of a single-valued space.
    pub fn the(self, space: Space) -> Option<&'a Name> {
        self.iter().find(|name| name.space() == space)
    }
}

/// What a session wants done, in order. Reused between calls.
#[derive(Debug, Default)]
pub struct Actions {
    /// Steps for the shard, executed before `reply` is sent.
    pub steps: Vec<Action>,
    /// Bytes for the session's own client, already framed.
    pub reply: Vec<u8>,
    /// Frames in `reply`.
    pub reply_frames: u64,
}

/// One step.
#[derive(Debug)]
pub enum Action {
    /// Ask the business.
    Callback(CallbackRequest),
    /// Put this client into a set; if its space is single-valued, in place of the one it is in there.
    Join(Name),
    /// Take this client out of a set.
    Leave(Name),
    /// The same as [`Action::Join`], for a name under which others ask where its clients are online: this client is on this
    /// platform, until it is gone.
    Bind {
        /// A user, or what else the door calls it.
        name: Name,
        /// What the client runs on.
        platform: Bytes,
    },
    /// This client acknowledged a delivery, with data.
    Acknowledged(DeliveryKey, Bytes),
    /// The acknowledgement that follows had so many bytes of data, which are not passed on.
    DataLeftOut(LeftOut, usize),
    /// Send this to everybody in a channel. It goes by the channel's home, so all its members see one order.
    Publish(Arc<Publish>),
    /// End this client, after what it has been sent. The code is for causes that leave it to the door
    /// ([`crate::close::CloseFrame::Given`]).
    Close(CloseCause, Option<u16>),
    /// Call `on_timer` with this kind after so long, unless a timer of the kind runs already. A session does not know the
    /// time, and traffic never moves a timer.
    Arm(TimerKind, Duration),
    /// Stop the timer of this kind.
    Disarm(TimerKind),
    /// Something that the operator should know of.
    Note(Note),
}

/// How a client goes, as its session hears of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Why.
    pub cause: CloseCause,
    /// Code of the close frame, which is the client's own if it sent one first. `None`: what the cause has ([`CloseCause::frame`]).
    pub code: Option<u16>,
    /// The reason that goes with the code.
    pub reason: Bytes,
    /// Somebody has ordered it, neither the client nor this server.
    pub is_ordered: bool,
    /// TCP just ends: no close frame is sent, whatever the cause has.
    pub is_dropped: bool,
}

impl From<CloseCause> for Ending {
    fn from(cause: CloseCause) -> Self {
        Self {
            cause,
            code: None,
            reason: Bytes::new(),
            is_ordered: false,
            is_dropped: false,
        }
    }
}

impl Ending {
    /// As somebody has ordered it, but for what must not travel in a close frame.
    pub fn ordered(order: &CloseOrder) -> Self {
        let code = order.code.filter(|code| ws::is_valid_close_code(*code));
        let reason = code.map(|_| cut(&order.reason)).unwrap_or_default();
        Self {
            cause: order.cause,
            code,
            reason,
            is_ordered: true,
            is_dropped: order.force,
        }
    }
}

/// As much text as a close frame may hold.
fn cut(reason: &Bytes) -> Bytes {
    let most = reason.slice(..reason.len().min(CloseOrder::REASON_BYTES_MAX));
    // A character that is cut in two is no text any more.
    let valid = str::from_utf8(&most).map_or_else(|error| error.valid_up_to(), str::len);
    most.slice(..valid)
}

/// One of a session's timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerKind {
    /// Which of its door's.
    pub number: u8,
    /// It waits for something the client says. While the client is not read, what it says may be waiting: such a timer does
    /// not fire then, and begins anew when the client is read again.
    pub awaits_client: bool,
}

/// A session cannot take another unacknowledged message: `inflight_max` are waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InflightFull;

/// What a door says to a request. `S` is its session.
#[derive(Debug)]
pub enum Entry<S> {
    /// The backend decides; its answer comes back to the door.
    Ask(Question),
    /// It may come in, if its request can be upgraded. What the door wants done then is in the [`Actions`] of the call.
    Admit(S),
    /// It may not.
    Answer(Refused),
}

/// What the backend is asked about a client, for a [`CallbackRequest`].
#[derive(Debug)]
pub struct Question {
    /// Whom: the hook of the door.
    pub hook: Hook,
    /// URL-encoded parameters.
    pub query: Bytes,
    /// Header lines, each ended by CRLF.
    pub headers: Bytes,
    /// Body, where the hook is called with one.
    pub body: Bytes,
    /// What the door has to remember about the client until the answer, which comes with it.
    pub keep: Bytes,
}

/// Why a client does not get in, as it is told and as it is counted.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    /// What the client is answered.
    pub answer: HttpAnswer,
    /// [`CloseCause::Denied`] if the backend said no, [`CloseCause::AuthUnavailable`] if it said nothing usable.
    pub cause: CloseCause,
}

/// How the connections of a door are treated. The shard makes one of each door's from the settings, at start and at reload,
/// and asks the table: nothing is kept with a client but its door.
#[derive(Clone, Debug)]
pub struct DoorPolicy {
    /// Longest message of a client, in bytes.
    pub message_max: usize,
    /// Accept frames without a mask (RFC 6455 §5.1 wants them refused).
    pub accept_unmasked: bool,
    /// Agree to compression.
    pub compression: bool,
    /// Silence after which a client is sent a ping; zero: never.
    pub ping_interval: Duration,
    /// Time it then has to say something; zero: any.
    pub ping_timeout: Duration,
    /// That ping, framed: a websocket ping, or a message for clients that are to see it.
    pub ping: Bytes,
    /// Silence after which it is closed; zero: never.
    pub idle_timeout: Duration,
    /// The door wants to know where a client connects from.
    pub wants_address: bool,
}

/// Something an operator can do something about. Counted each time, and said once a minute (`shard/notes.rs`).
#[derive(Debug)]
pub struct Note {
    /// Counts it, and tells its kind from others.
    pub metric: Metric,
    /// What is peculiar to this case.
    pub detail: String,
    /// Writes the line: the detail, how many cases were not mentioned since the last line, settings.
    pub say: fn(&str, u64, &Config),
}

impl DoorPolicy {
    /// As the settings have it for every door.
    pub fn of(config: &Config) -> Self {
        Self {
            message_max: config.message_max,
            accept_unmasked: config.accept_unmasked,
            compression: config.compression,
            ping_interval: config.ping_interval,
            ping_timeout: config.ping_timeout,
            ping: framed(ws::Opcode::Ping, b""),
            idle_timeout: config.idle_timeout,
            wants_address: false,
        }
    }

    /// What is accepted of a client with this agreement.
    pub fn frame_limits(&self, deflate: Option<Agreed>) -> ws::Limits {
        ws::Limits {
            message_max: self.message_max,
            accept_unmasked: self.accept_unmasked,
            rsv1: deflate.is_some(),
        }
    }
}

/// A whole frame.
pub(crate) fn framed(opcode: ws::Opcode, payload: &[u8]) -> Bytes {
    let mut frame = Vec::new();
    ws::push_frame(&mut frame, opcode, payload);
    frame.into()
}

impl<S> Entry<S> {
    /// The same with another kind of session.
    pub fn map<T>(self, session: impl FnOnce(S) -> T) -> Entry<T> {
        match self {
            Entry::Ask(question) => Entry::Ask(question),
            Entry::Admit(inner) => Entry::Admit(session(inner)),
            Entry::Answer(refused) => Entry::Answer(refused),
        }
    }
}
