//! The HTTP API of rainbow-server on the control core: requests → what is done → answers (spec: sections 10 and 12). Reading
//! requests and writing answers is the door's (`protocol::rainbow::api`, `answer`). [`begin`] takes a head, [`complete`] the
//! whole request, [`perform`] carries it out. `rainbow/signature.rs` says whether a call may be believed. Caller: `surface.rs`.

pub mod callback;
mod signature;

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

pub use self::signature::{Memory, is_signed, seems_signed};
use super::{Received, guard};
use crate::budget::{self, Use};
use crate::cluster::Node;
use crate::config::Config;
use crate::control::callers::Caller;
use crate::control::{Control, reload};
use crate::engine::ack_data;
use crate::engine::command::{ClientSet, Publish, Qos};
use crate::engine::desk::{Change, Elsewhere, Told};
use crate::engine::name::{Name, Space};
use crate::engine::query::{Items, Query};
use crate::engine::receipt::{Answer, Status};
use crate::engine::remote::{Inbound, Outbound, Verb};
use crate::metrics::Metric;
pub use crate::protocol::rainbow::api::Route;
use crate::protocol::rainbow::api::{self, Ask, SendAsk, SubAsk};
use crate::protocol::rainbow::relay::SubTally;
use crate::protocol::rainbow::serverinfo::{self, ServerInfo};
use crate::protocol::rainbow::sign::{Body, Scheme};
use crate::wire::http1::answer::HttpAnswer;
use crate::wire::http1::{Framing, RequestHead};
use crate::wire::query;

/// What a body is charged as while it is delivered.
const BODIES: usize = Use::Bodies as usize;

/// A request whose head was let in.
pub struct Begun {
    call: api::Begun,
    trust: Trust,
    /// When its head came, in microseconds since 1970: what its timestamp is measured by, however long the body takes.
    at_micros: u64,
    /// Its SHA-256 will be asked for.
    pub is_hashed: bool,
}

impl Begun {
    /// Whether its body is needed.
    pub fn takes_body(&self) -> bool {
        self.call.takes_body()
    }

    /// Whether nobody knows yet who sends it.
    pub fn is_unproven(&self) -> bool {
        self.call.is_unproven()
    }

    /// Longest body it may have.
    pub fn body_max(&self, config: &Config) -> usize {
        self.call.body_max(config.api_body_max)
    }
}

/// Takes the head of a request; `Err` is its answer, if no body is needed for it.
pub fn begin(control: &Rc<Control>, head: &RequestHead, caller: &Caller) -> Result<Begun, HttpAnswer> {
    if let Some(answer) = control.cluster.rainbow().hello(head.path(), head.query()) {
        return Err(HttpAnswer::ok(answer));
    }
    let at_micros = control.clock.unix_micros();
    let request = request(head, b"");
    let mut call = api::begin(&request, || control.verify_head(head, caller, at_micros))?;
    if call.is_unproven() && matches!(head.framing, Framing::None | Framing::Length(0)) {
        call = api::prove(call, &request, |signed| {
            control.verify(signed, &Body::default(), caller, at_micros)
        })?;
    }
    let is_unsigned = matches!(call, api::Begun::Whole(_)) && !guard(control, head, caller)?;
    let trust = if is_unsigned { Trust::Unsigned } else { Trust::Signed };
    let is_signed_on = control.config().signature == Scheme::HmacSha256 && !control.cluster.nodes(false).is_empty();
    Ok(Begun {
        is_hashed: call.takes_body() && (call.is_unproven() || is_signed_on),
        call,
        trust,
        at_micros,
    })
}

fn request<'a>(head: &'a RequestHead, body: &'a [u8]) -> api::Request<'a> {
    api::Request {
        method: &head.method,
        path: head.path(),
        query: head.query(),
        body,
    }
}

/// A request that is known as a whole.
pub struct Whole {
    ask: Ask,
    trust: Trust,
    payload: Payload,
}

impl Whole {
    /// A publish that nobody acknowledges: posted to the home of its name, in the order of calls, and answered when the home
    /// has passed it on. What waits for clients, or changes who is where, holds up the calls behind it (spec: section 15).
    pub fn may_overlap(&self) -> bool {
        matches!(&self.ask, Ask::Send(ask) if ask.qos == Qos::AtMostOnce && ask.wire_type().is_some())
    }
}

/// Takes a request whose body is complete; `Err` is its answer if there is nothing to do.
pub fn complete(
    control: &Control,
    head: &RequestHead,
    begun: Begun,
    body: Received,
    caller: &Caller,
) -> Result<Whole, HttpAnswer> {
    let payload = Payload {
        bytes: budget::hold::<BODIES>(body.bytes),
        sha256: body.sha256,
    };
    let ask = api::finish(begun.call, &request(head, &payload.bytes), |signed| {
        control.verify(signed, &payload.hashed(), caller, begun.at_micros)
    })?;
    Ok(Whole {
        ask,
        trust: begun.trust,
        payload,
    })
}

/// A body on its way to shards and peers.
#[derive(Clone, Default)]
struct Payload {
    bytes: Bytes,
    sha256: Option<[u8; 32]>,
}

impl Payload {
    fn hashed(&self) -> Body<'_> {
        Body::hashed(&self.bytes, self.sha256)
    }
}

/// Carries it out.
pub async fn perform(control: &Rc<Control>, whole: Whole) -> HttpAnswer {
    let (trust, body) = (whole.trust, whole.payload);
    match whole.ask {
        Ask::Send(ask) => send(control, ask, body).await,
        Ask::Sub(ask) => sub(control, ask, body).await,
        Ask::Unsub(ask) => unsub(control, ask, body).await,
        Ask::ServerInfo { local_only } => server_info(control, trust, local_only).await,
        Ask::UpdateConfig { local_only } => update_config(control, trust, local_only),
    }
}

/// What a call to the other servers is worth: it is signed only for a caller who has signed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trust {
    Signed,
    Unsigned,
}

async fn send(control: &Rc<Control>, ask: SendAsk, body: Payload) -> HttpAnswer {
    let Some(msgtype) = ask.wire_type() else {
        return bad_type(control, &ask).await;
    };
    let schedule = api::schedule(ask.timeout_s);
    let started = control.clock.now();
    let nodes = control.cluster.nodes(ask.local_only);
    let verb = || Verb::Publish {
        to: ask.to.clone(),
        tag: msgtype,
        qos: ask.qos,
        timeout: Duration::from_secs(u64::from(ask.timeout_s)),
    };
    let elsewhere = elsewhere(&nodes, verb, &body, Trust::Signed);
    let publish = |ticket| Publish {
        ticket,
        to: ask.to.clone().into(),
        except: ClientSet::default(),
        tag: msgtype,
        qos: ask.qos,
        payload: body.bytes.clone(),
        tell: ask.qos.tell(),
        retries: schedule.retries,
        retry_interval: api::RETRY_INTERVAL,
        deadline: started + schedule.deadline,
        at_deadline: schedule.at_deadline,
        tells_online: ask.to.space() == Space::USER,
    };
    let told = control
        .ask(&nodes, |desk, caller| desk.publish(caller, elsewhere, publish))
        .await;
    let Told::Published(answer) = told else {
        return no_room();
    };
    control
        .own_metrics()
        .observe_publish(control.clock.now().since(started));
    sent(control, &ask, &answer)
}

/// What the caller of a publish is told.
fn sent(control: &Control, ask: &SendAsk, answer: &Answer) -> HttpAnswer {
    if ask.to.space() == Space::USER {
        if answer.status == Status::TimedOut {
            control.own_metrics().add(Metric::PublishTimeouts, 1);
        }
        // A peer that passed it on puts our platforms in order with its own.
        return HttpAnswer::online(&answer.platforms, ask.local_only.then(|| control.clock.now()));
    }
    match (ask.qos, answer.status) {
        (Qos::AtMostOnce, Status::Complete) => HttpAnswer::done(),
        (_, Status::Complete) => {
            // An answer that is too large for the moment would be refused as a whole, and the message sent again.
            let data = match ack_data::check(answer.data.len(), usize::MAX) {
                Ok(()) => &answer.data[..],
                Err(why) => {
                    control.leave_data_out(why, answer.data.len());
                    b""
                }
            };
            HttpAnswer::delivered(answer.done, data)
        }
        (_, Status::TimedOut) => {
            control.own_metrics().add(Metric::PublishTimeouts, 1);
            // Without a count the answer is the original's, byte for byte.
            HttpAnswer::timed_out(Some(answer.done).filter(|connections| *connections > 0))
        }
    }
}

/// A message type that does not fit into a packet: the original does not notice as long as nobody is in the channel.
async fn bad_type(control: &Rc<Control>, ask: &SendAsk) -> HttpAnswer {
    // No caller of the older interface relies on what the original does to channels.
    if ask.to.space() == Space::USER {
        return HttpAnswer::bad_type();
    }
    let names = vec![ask.to.clone()];
    let told = control
        .ask(&[], |desk, caller| {
            desk.query(caller, Query::Count { names }, None, usize::MAX)
        })
        .await;
    let Told::Page {
        items: Items::Counts(members),
        ..
    } = told
    else {
        return no_room();
    };
    match (members.iter().sum(), ask.qos) {
        (1.., _) => HttpAnswer::bad_type(),
        (0, Qos::AtMostOnce) => HttpAnswer::done(),
        (0, _) => HttpAnswer::delivered(0, b""),
    }
}

async fn sub(control: &Rc<Control>, ask: SubAsk, body: Payload) -> HttpAnswer {
    let change = if ask.occupy { Change::Occupy } else { Change::Join };
    let Told::Done { done, others } = changed(control, change, Verb::Join, ask, &body).await else {
        return no_room();
    };
    let mut tally = SubTally::default();
    tally.add_local(done.is_so());
    others.iter().for_each(|inbound| tally.add_peer(inbound));
    tally.answer()
}

async fn unsub(control: &Rc<Control>, ask: SubAsk, body: Payload) -> HttpAnswer {
    match changed(control, Change::Leave, Verb::Leave, ask, &body).await {
        Told::Done { .. } => HttpAnswer::done(),
        _ => no_room(),
    }
}

async fn changed(control: &Rc<Control>, change: Change, verb: Verb, ask: SubAsk, body: &Payload) -> Told {
    let nodes = control.cluster.nodes(ask.local_only);
    let elsewhere = elsewhere(&nodes, || verb, body, Trust::Signed);
    let client = control.identities.client(ask.identity.as_bytes());
    control
        .ask(&nodes, |desk, caller| {
            desk.change(caller, change, client, ask.channel, elsewhere)
        })
        .await
}

/// JSON of this server for another one, else a page of all.
async fn server_info(control: &Rc<Control>, trust: Trust, local_only: bool) -> HttpAnswer {
    let nodes = if local_only {
        Vec::new()
    } else {
        control.cluster.nodes(false)
    };
    let elsewhere = elsewhere(&nodes, || Verb::List, &Payload::default(), trust);
    let told = control.ask(&nodes, |desk, caller| desk.list(caller, elsewhere)).await;
    let Told::Page {
        items: Items::Names(channels),
        others,
        ..
    } = told
    else {
        return no_room();
    };
    let own = control.server_info(channels);
    if local_only {
        return HttpAnswer::json(own.to_json());
    }
    let others = others.iter().filter_map(|inbound| match inbound {
        Inbound::Page(page) => ServerInfo::from_json(page),
        _ => None,
    });
    HttpAnswer::ok(serverinfo::page(std::iter::once(own).chain(others).collect()))
}

fn update_config(control: &Rc<Control>, trust: Trust, local_only: bool) -> HttpAnswer {
    let nodes = control.cluster.nodes(local_only);
    if let Some(elsewhere) = elsewhere(&nodes, || Verb::Reload, &Payload::default(), trust) {
        control.ask_nodes(&nodes, elsewhere.ask, None);
    }
    reload::request(control);
    // The answer says nothing about success, as in the original.
    HttpAnswer::done()
}

/// What these nodes are to be asked, if there are any.
fn elsewhere(nodes: &[Node], verb: impl FnOnce() -> Verb, body: &Payload, trust: Trust) -> Option<Elsewhere> {
    (!nodes.is_empty()).then(|| Elsewhere {
        ask: Outbound {
            verb: verb(),
            body: body.bytes.clone(),
            sha256: body.sha256,
            is_vouched: trust == Trust::Signed,
        },
        nodes: u32::try_from(nodes.len()).unwrap_or(u32::MAX),
    })
}

fn no_room() -> HttpAnswer {
    HttpAnswer::page(StatusCode::SERVICE_UNAVAILABLE)
}

/// Whether another server passes on what was asked of it.
pub fn is_passed_on(head: &RequestHead) -> bool {
    query::first(head.query(), "cluster").as_deref() == Some(b"1")
}

impl Control {
    /// What this server is, and what it holds.
    fn server_info(&self, channels: Vec<(Name, u64)>) -> ServerInfo {
        let (cpu, memory) = self.usage.sample(self.clock.now());
        ServerInfo::new(self.server_name.to_string(), channels, std::process::id(), cpu, memory)
    }
}
