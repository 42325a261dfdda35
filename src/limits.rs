//! Bounds that live in code, each with its unit, its reason and what happens when it is hit. What an operator may set
//! lives in `config::keys`; these are the values nobody should need to touch.

use crate::time::Duration;

/// Most shards one process may run. The interest set of a channel is one `u64` bit set.
pub const SHARDS_MAX: usize = 64;

/// Bytes one receive call may take from a socket; one scratch of this size per core. 64 KiB holds a burst of a thousand
/// small frames and is the largest read that paid in measurements.
pub const RECEIVE_SCRATCH_BYTES: usize = 64 * 1024;

/// Receive calls for one client per turn before the others get theirs.
pub const RECEIVES_PER_TURN_MAX: usize = 4;

/// Bytes of compressed messages a shard inflates before it looks at its mail, timers and other clients again; the message that
/// goes beyond is finished. That is half a millisecond for what compresses best (2 GB a second), and more than ordinary clients
/// send between two looks.
pub const INFLATED_BYTES_PER_TURN: usize = 1024 * 1024;

/// Bytes a client may send before it is admitted (frames sent behind the upgrade request). Beyond it the socket is no
/// longer read until the business has answered; nothing is dropped.
pub const EARLY_BYTES_MAX: usize = 64 * 1024;

/// Members one slice of a large fan-out serves before the shard looks at its clients and mailbox again: 16 sends cost about
/// 70 µs, the longest pause another channel sees. Also clients with input that are read between two slices.
pub const FANOUT_SLICE_MEMBERS: usize = 16;

/// Bytes one slice writes, but to one member at least: a copy of 256 KiB into sockets costs about as much as the sends.
pub const FANOUT_SLICE_BYTES: usize = 256 * 1024;

/// Slices before the runtime has its turn, with timers, listeners and sockets that are waited for to take bytes: that costs
/// about 3 µs, a look at clients and mailbox a tenth of it.
pub const FANOUT_SLICES_PER_ROUND: usize = 16;

/// The same where the control core runs on this thread too: callers wait for the round.
pub const FANOUT_SLICES_PER_SHARED_ROUND: usize = 4;

/// Pause of a reader while its core's mail waits for room in other mailboxes, before it looks again.
pub const CONGESTION_PAUSE: Duration = Duration::from_millis(2);

/// Pause after an accept that failed for lack of descriptors or memory.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Refused connections of one core that are given time to read why; further ones are closed at once.
pub const LINGERING_MAX: usize = 256;

/// Seconds after which a client that was turned away may come again: the value of `Retry-After`.
pub const RETRY_AFTER: &str = "5";

/// Payload bytes that may wait behind the slicing of large channels. Beyond it a shard takes no mail until some are out, so
/// that its mailbox fills and callers wait (`engine::mailbox`).
pub const FANOUT_WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Mailbox messages handled per turn: a burst of 100 publishes is one turn, and so one write to each member.
pub const MAILBOX_BATCH: usize = 128;

/// Capacity of one mailbox. When full, the sender keeps the overflow in order and stops taking new work from its
/// sockets until it drained (`engine::mailbox`).
pub const MAILBOX_CAPACITY: usize = 16 * 1024;

/// Members one repetition of QoS 1/2 serves before it waits for the next turn of the timers.
pub const RETRY_SLICE_MEMBERS: usize = 64;

/// Time a client has to answer our close frame before TCP is closed (spec: section 9).
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Payloads up to this many bytes are copied into an outbox; larger ones are shared by reference.
pub const OUTBOX_COPY_BYTES_MAX: usize = 1024;

/// Bytes the kernel takes for a client beyond what it can send it at once. By itself it would take megabytes for one that does
/// not read, which no bound of ours sees; a client that reads has its window full all the same.
pub const SOCKET_UNSENT_BYTES_MAX: u32 = 128 * 1024;

/// Grace the answer of a publish waits past its deadline for parts of busy shards; then it is answered with what is known.
pub const RECEIPT_GRACE: Duration = Duration::from_millis(500);

/// Questions of callers that may wait at the desk of a control core: as many as it may have connections (`api_connections`),
/// most of which have one, and none more than [`CALLS_UNDER_WAY_MAX`]. Whoever comes then is refused.
pub const DESK_QUESTIONS_MAX: usize = 1_000_000;

/// Calls of one connection to the HTTP interface that may be under way at once (`control::http::pipeline`). As many as one
/// batch of a mailbox, so that a full pipeline wakes a shard once; more than one read of ordinary calls rarely has.
pub const CALLS_UNDER_WAY_MAX: usize = MAILBOX_BATCH;

/// Resolution of the timing wheels.
pub const WHEEL_TICK: Duration = Duration::from_millis(10);

/// Items in one page of what a shard says to a question.
pub const QUERY_PAGE_ITEMS: usize = 256;

/// Bytes of session data in one page, but one item at least.
pub const QUERY_PAGE_BYTES: usize = 64 * 1024;

/// What a shard looks at for questions in one turn, then its clients and mail come first: 1 for a name of a client or a place
/// in the registry, [`QUERY_ITEM_STEPS`] for each member, set or count. It takes about as long as a slice of a large fan-out.
pub const QUERY_STEPS_PER_TURN: usize = QUERY_ITEM_STEPS * (QUERY_PAGE_ITEMS + 1);

/// Steps an item counts as: it is somewhere else in memory.
pub const QUERY_ITEM_STEPS: usize = 4;

/// Bytes of one answer to a question with a limit; beyond them the rest is left for the next one.
pub const QUERY_ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Bytes an answer without a limit may have beside others; those that grow beyond it do so one at a time.
pub const QUERY_SMALL_BYTES: usize = 256 * 1024;

/// Redirects a callback follows (spec: section 3).
pub const REDIRECTS_MAX: usize = 5;

const _: () = assert!(SHARDS_MAX <= 64);
