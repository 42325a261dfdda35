//! Each route of the HTTP API: request → answer (spec: sections 10 and 12). Reading requests and writing answers is the
//! door's (`protocol::rainbow::api`, `answer`); here they are carried out. [`begin`] takes a head, [`respond`] the whole request.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use http::StatusCode;

use super::Control;
use super::callers::Caller;
use super::reload;
use super::scrape::metrics;
use super::wait::Countdown;
use crate::budget::{self, Claim, Rank, Use, is_short};
use crate::config::Config;
use crate::engine::command::{CallbackOutcome, Command, Publish, Qos};
use crate::engine::ids::Ticket;
use crate::engine::name::Space;
use crate::engine::receipt::{Answer, Status};
use crate::metrics::Metric;
use crate::protocol::rainbow::answer::HttpAnswer;
use crate::protocol::rainbow::api::{self, Ask, SendAsk, SubAsk};
use crate::protocol::rainbow::relay::{self, PeerRequest, Relay, SubTally};
use crate::protocol::rainbow::serverinfo::{self, ServerInfo};
use crate::protocol::rainbow::sign::{Body, Scheme, Signer};
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

    /// Longest body it may have.
    pub fn body_max(&self, config: &Config) -> usize {
        self.call.body_max(config.api_body_max)
    }
}

/// Takes the head of a request; `Err` is its answer, if no body is needed for it.
pub fn begin(control: &Rc<Control>, head: &RequestHead, caller: &Caller) -> Result<Begun, HttpAnswer> {
    let begun = match control.asset(head) {
        Some(asset) => Err(asset),
        None => look(control, head, caller),
    };
    begun.inspect_err(|answer| control.count_answer(head, answer))
}

fn look(control: &Rc<Control>, head: &RequestHead, caller: &Caller) -> Result<Begun, HttpAnswer> {
    if let Some(answer) = control.cluster.hello(head.path(), head.query()) {
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
    let is_guarded = matches!(
        call,
        api::Begun::Whole(Ask::ServerInfo { .. } | Ask::UpdateConfig { .. } | Ask::Metrics)
    );
    let trust = if is_guarded {
        Trust::of(control, &request, caller, at_micros)
    } else {
        Trust::Signed
    };
    // With `api_open = no`, what the original leaves unsigned is for this machine and for whoever signs (peers do).
    if is_guarded && !control.config().api_open && trust == Trust::Unsigned && !caller.is_local() {
        return Err(HttpAnswer::page(StatusCode::FORBIDDEN));
    }
    let is_signed_on = control.config().signature == Scheme::HmacSha256 && !control.cluster.targets(false).is_empty();
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

/// A body that was received, with its SHA-256 if that was asked for.
#[derive(Default)]
pub struct Received {
    /// The body.
    pub bytes: Vec<u8>,
    /// Of all of it.
    pub sha256: Option<[u8; 32]>,
}

/// Answers a request whose body is complete.
pub async fn respond(
    control: &Rc<Control>,
    head: &RequestHead,
    begun: Begun,
    body: Received,
    caller: &Caller,
) -> HttpAnswer {
    let payload = Payload {
        bytes: budget::hold::<BODIES>(body.bytes),
        sha256: body.sha256,
    };
    let finished = api::finish(begun.call, &request(head, &payload.bytes), |signed| {
        control.verify(signed, &payload.hashed(), caller, begun.at_micros)
    });
    let answer = match finished {
        Ok(ask) => perform(control, ask, begun.trust, payload).await,
        Err(answer) => answer,
    };
    control.count_answer(head, &answer);
    answer
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

async fn perform(control: &Rc<Control>, ask: Ask, trust: Trust, body: Payload) -> HttpAnswer {
    match ask {
        Ask::Send(ask) => send(control, ask, body).await,
        Ask::Sub(ask) => sub(control, ask, body).await,
        Ask::Unsub(ask) => unsub(control, ask, body).await,
        Ask::ServerInfo { local_only: true } => match control.server_info().await {
            Some(info) => HttpAnswer::json(info.to_json()),
            None => HttpAnswer::page(StatusCode::SERVICE_UNAVAILABLE),
        },
        Ask::ServerInfo { local_only: false } => server_info(control, trust).await,
        Ask::UpdateConfig { local_only } => update_config(control, trust, local_only),
        Ask::Metrics => metrics(control),
        Ask::Healthz => healthz(control),
        // The connection loop hands clients to a shard before it comes to this.
        Ask::Connect => HttpAnswer::page(StatusCode::BAD_REQUEST),
    }
}

/// What a call to the other servers is worth: it is signed only for a caller who has signed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trust {
    Signed,
    Unsigned,
}

impl Trust {
    /// Of a caller who asks for what needs no signature.
    fn of(control: &Control, request: &api::Request<'_>, caller: &Caller, at_micros: u64) -> Self {
        let claims = query::last(request.query, "signature").is_some();
        if claims
            && control
                .verify(&request.signed(), &Body::default(), caller, at_micros)
                .is_ok()
        {
            Trust::Signed
        } else {
            Trust::Unsigned
        }
    }
}

async fn send(control: &Rc<Control>, ask: SendAsk, body: Payload) -> HttpAnswer {
    let Some(msgtype) = ask.wire_type() else {
        return bad_type(control, &ask).await;
    };
    let schedule = api::schedule(ask.timeout_s);
    let started = control.clock.now();
    let peers = control.cluster.targets(ask.local_only);
    let publish = |ticket| Publish {
        ticket,
        channel: ask.to.clone(),
        msgtype,
        qos: ask.qos,
        payload: body.bytes.clone(),
        retries: schedule.retries,
        deadline: started + schedule.deadline,
        at_deadline: schedule.at_deadline,
        tells_online: ask.to.space() == Space::User,
    };
    let answer = control
        .publish(publish, peers.len() as u32, |ticket| {
            ask_peers(control, &peers, &ask, &body, ticket)
        })
        .await;
    control
        .own_metrics()
        .observe_publish(control.clock.now().since(started));
    told(control, &ask, &answer)
}

/// What the caller of a publish is told.
fn told(control: &Control, ask: &SendAsk, answer: &Answer) -> HttpAnswer {
    if ask.to.space() == Space::User {
        if answer.status == Status::TimedOut {
            control.own_metrics().add(Metric::PublishTimeouts, 1);
        }
        // A peer that passed it on puts our platforms in order with its own.
        return HttpAnswer::online(&answer.platforms, ask.local_only.then(|| control.clock.now()));
    }
    match (ask.qos, answer.status) {
        (Qos::AtMostOnce, Status::Complete) => HttpAnswer::done(),
        (_, Status::Complete) => HttpAnswer::delivered(answer.connections, &answer.data),
        (_, Status::TimedOut) => {
            control.own_metrics().add(Metric::PublishTimeouts, 1);
            // Without a count the answer is the original's, byte for byte.
            HttpAnswer::timed_out(Some(answer.connections).filter(|connections| *connections > 0))
        }
    }
}

/// Passes a publish to every peer, each in a task of its own; each answer or failure is counted under `ticket`.
fn ask_peers(control: &Rc<Control>, peers: &[SocketAddr], ask: &SendAsk, body: &Payload, ticket: Ticket) {
    let signed = body.hashed();
    let is_user = ask.to.space() == Space::User;
    for peer in peers {
        let request = control.relay(*peer, Trust::Signed, |relay| PeerRequest::send(ask, &signed, relay));
        let (control, peer, ask, body) = (control.clone(), *peer, ask.clone(), body.clone());
        monoio::spawn(async move {
            let again = |relay: &Relay<'_>| PeerRequest::send(&ask, &body.hashed(), relay);
            let outcome = control
                .call_peer(peer, Trust::Signed, request, &body.bytes, again)
                .await;
            let part = match is_user {
                true => relay::online_part(&outcome, control.clock.now()),
                false => relay::peer_part(&outcome),
            };
            control.on_peer(ticket, part);
        });
    }
}

/// A message type that does not fit into a packet: the original does not notice as long as nobody is in the channel.
async fn bad_type(control: &Rc<Control>, ask: &SendAsk) -> HttpAnswer {
    // No caller of the older interface relies on what the original does to channels.
    if ask.to.space() == Space::User || control.census().await.iter().any(|(name, _)| *name == ask.to) {
        return HttpAnswer::bad_type();
    }
    match ask.qos {
        Qos::AtMostOnce => HttpAnswer::done(),
        _ => HttpAnswer::delivered(0, b""),
    }
}

async fn sub(control: &Rc<Control>, ask: SubAsk, body: Payload) -> HttpAnswer {
    let others = Others::ask(control, Trust::Signed, ask.local_only, &body, PeerRequest::sub);
    let client = control.identities.client(ask.identity.as_bytes());
    let channel = ask.channel;
    let found = match (ask.occupy, client) {
        (true, client) => {
            let home = control.home.home_of(&channel);
            control
                .ask(home, |ticket| Command::Occupy {
                    channel,
                    client,
                    ticket,
                })
                .await
        }
        (false, Some(client)) => {
            control
                .ask(client.shard, |ticket| Command::Join {
                    client,
                    channel,
                    ticket,
                })
                .await
        }
        (false, None) => false,
    };
    let mut tally = SubTally::default();
    tally.add_local(found);
    others
        .outcomes()
        .await
        .iter()
        .for_each(|outcome| tally.add_peer(outcome));
    tally.answer()
}

async fn unsub(control: &Rc<Control>, ask: SubAsk, body: Payload) -> HttpAnswer {
    let others = Others::ask(control, Trust::Signed, ask.local_only, &body, PeerRequest::unsub);
    if let Some(client) = control.identities.client(ask.identity.as_bytes()) {
        let channel = ask.channel;
        control
            .ask(client.shard, |ticket| Command::Leave {
                client,
                channel,
                ticket,
            })
            .await;
    }
    others.outcomes().await;
    HttpAnswer::done()
}

async fn server_info(control: &Rc<Control>, trust: Trust) -> HttpAnswer {
    let others = Others::ask(control, trust, false, &Payload::default(), |_, relay| {
        PeerRequest::server_info(relay)
    });
    let Some(own) = control.server_info().await else {
        return HttpAnswer::page(StatusCode::SERVICE_UNAVAILABLE);
    };
    // A peer may take its time.
    let mut claim = Claim::new(Use::Answers);
    claim.set(size_of_val(own.channels.as_slice()));
    let mut servers = vec![own];
    for outcome in others.outcomes().await {
        if let CallbackOutcome::Answered(reply) = outcome {
            servers.extend(ServerInfo::from_json(&reply.body));
        }
    }
    HttpAnswer::ok(serverinfo::page(servers))
}

fn update_config(control: &Rc<Control>, trust: Trust, local_only: bool) -> HttpAnswer {
    drop(Others::ask(
        control,
        trust,
        local_only,
        &Payload::default(),
        |_, relay| PeerRequest::update_config(relay),
    ));
    reload::request(control);
    // The answer says nothing about success, as in the original.
    HttpAnswer::done()
}

fn healthz(control: &Control) -> HttpAnswer {
    if control.stopping.get() {
        return HttpAnswer::new(StatusCode::SERVICE_UNAVAILABLE, "stopping");
    }
    // Some health checks ask with OPTIONS.
    HttpAnswer {
        extra: Some(("Allow", HttpAnswer::READ_ONLY)),
        ..HttpAnswer::ok("ok")
    }
}

impl Control {
    /// Pages of the demo.
    fn asset(&self, head: &RequestHead) -> Option<HttpAnswer> {
        let is_read = matches!(head.method, http::Method::GET | http::Method::HEAD);
        let (content_type, body) = (self.assets)(head.path()).filter(|_| is_read)?;
        Some(HttpAnswer {
            content_type,
            ..HttpAnswer::ok(body)
        })
    }

    /// What this server holds; `None` while there is no memory for it.
    async fn server_info(&self) -> Option<ServerInfo> {
        let _turn = self.listings.take().await;
        if is_short(Rank::Answer) {
            return None;
        }
        let channels = self.census().await;
        let (cpu, memory) = self.usage.sample();
        Some(ServerInfo::new(
            self.server_name.to_string(),
            channels,
            std::process::id(),
            cpu,
            memory,
        ))
    }

    /// Builds a request to a peer, with a fresh signature if the caller has signed.
    fn relay(&self, peer: SocketAddr, trust: Trust, build: impl FnOnce(&Relay<'_>) -> PeerRequest) -> PeerRequest {
        let config = self.config();
        let unix_seconds = self.clock.unix_micros() / 1_000_000;
        let nonce = self.cluster.nonce(unix_seconds, getrandom::u64().unwrap_or_default());
        let signer = Signer {
            is_relay: true,
            ..Signer::of(&config, unix_seconds, nonce)
        };
        let node = self.cluster.identity(peer);
        build(&Relay {
            signer: (trust == Trust::Signed).then_some(signer),
            node: node.as_deref(),
        })
    }

    /// Asks a peer. One that has been restarted is another server, for which the request has to be signed anew: it has
    /// refused the first one unread.
    async fn call_peer(
        &self,
        peer: SocketAddr,
        trust: Trust,
        request: PeerRequest,
        body: &Bytes,
        build: impl FnOnce(&Relay<'_>) -> PeerRequest,
    ) -> CallbackOutcome {
        let is_named = trust == Trust::Signed && self.cluster.identity(peer).is_some();
        let outcome = self.cluster.call(peer, &request, body.clone()).await;
        if is_named && relay::is_refused(&outcome) && self.cluster.has_changed(peer).await {
            let request = self.relay(peer, trust, build);
            return self.cluster.call(peer, &request, body.clone()).await;
        }
        outcome
    }

    fn count_answer(&self, head: &RequestHead, answer: &HttpAnswer) {
        let route = api::route(head.path());
        self.own_metrics().count_api(route as usize, answer.status.as_u16());
    }
}

/// A request passed to all peers at once; their answers in the order of arrival.
struct Others {
    arrived: Rc<RefCell<Vec<CallbackOutcome>>>,
    all: Countdown,
}

impl Others {
    fn ask(
        control: &Rc<Control>,
        trust: Trust,
        local_only: bool,
        body: &Payload,
        build: impl Fn(&Body<'_>, &Relay<'_>) -> PeerRequest + Copy + 'static,
    ) -> Self {
        let peers = control.cluster.targets(local_only);
        let arrived = Rc::new(RefCell::new(Vec::new()));
        let all = Countdown::new(peers.len());
        let signed = body.hashed();
        for peer in peers {
            let request = control.relay(peer, trust, |relay| build(&signed, relay));
            let (control, body, arrived, all) = (control.clone(), body.clone(), arrived.clone(), all.clone());
            monoio::spawn(async move {
                let again = |relay: &Relay<'_>| build(&body.hashed(), relay);
                let outcome = control.call_peer(peer, trust, request, &body.bytes, again).await;
                arrived.borrow_mut().push(outcome);
                all.count();
            });
        }
        Self { arrived, all }
    }

    async fn outcomes(self) -> Vec<CallbackOutcome> {
        self.all.zero().await;
        self.arrived.take()
    }
}
