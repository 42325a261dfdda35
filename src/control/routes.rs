//! Each route of the HTTP API: request → answer (spec: sections 10 and 12). Reading requests and writing answers is the
//! door's (`protocol::rainbow::api`, `answer`); here they are carried out.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::rc::Rc;

use bytes::Bytes;
use http::StatusCode;

use super::Control;
use super::reload;
use super::scrape::metrics;
use super::wait::Countdown;
use crate::engine::command::{CallbackOutcome, Command, Publish, Qos};
use crate::engine::ids::Ticket;
use crate::engine::receipt::{Answer, Status};
use crate::metrics::Metric;
use crate::protocol::rainbow::answer::HttpAnswer;
use crate::protocol::rainbow::api::{self, Ask, SendAsk, SubAsk};
use crate::protocol::rainbow::relay::{self, PeerRequest, Relay, SubTally};
use crate::protocol::rainbow::serverinfo::{self, ServerInfo};
use crate::protocol::rainbow::sign::{Body, Refusal, Rules, Scheme, Signed, Signer};
use crate::wire::http1::RequestHead;
use crate::wire::query;

/// Answers one request whose body is complete.
pub async fn respond(control: &Rc<Control>, head: &RequestHead, body: Vec<u8>, socket: RawFd) -> HttpAnswer {
    let route = api::route(head.path());
    let answer = match control.asset(head) {
        Some(asset) => asset,
        None => dispatch(control, head, body, socket).await,
    };
    control.own_metrics().count_api(route as usize, answer.status.as_u16());
    answer
}

async fn dispatch(control: &Rc<Control>, head: &RequestHead, body: Vec<u8>, socket: RawFd) -> HttpAnswer {
    let body = Bytes::from(body);
    if let Some(answer) = control.cluster.hello(head.path(), head.query()) {
        return HttpAnswer::ok(answer);
    }
    let request = api::Request {
        method: &head.method,
        path: head.path(),
        query: head.query(),
        body: &body,
    };
    let ask = match api::parse(&request, |signed| control.verify(signed)) {
        Ok(ask) => ask,
        Err(answer) => return answer,
    };
    let is_guarded = matches!(ask, Ask::ServerInfo { .. } | Ask::UpdateConfig { .. } | Ask::Metrics);
    let caller = if is_guarded {
        Caller::of(control, &request)
    } else {
        Caller::Signed
    };
    if is_guarded && !control.config().api_open && caller == Caller::Unsigned && !is_local(socket) {
        return HttpAnswer::page(StatusCode::FORBIDDEN);
    }
    match ask {
        Ask::Send(ask) => send(control, ask, body).await,
        Ask::Sub(ask) => sub(control, ask, body).await,
        Ask::Unsub(ask) => unsub(control, ask, body).await,
        Ask::ServerInfo { local_only: true } => HttpAnswer::ok(control.server_info().await.to_json()),
        Ask::ServerInfo { local_only: false } => server_info(control, caller).await,
        Ask::UpdateConfig { local_only } => update_config(control, caller, local_only),
        Ask::Metrics => metrics(control),
        Ask::Healthz => healthz(control),
        // The connection loop hands clients to a shard before it comes to this.
        Ask::Connect => HttpAnswer::page(StatusCode::BAD_REQUEST),
    }
}

/// Who asks for what needs no signature. Peers are asked in the same way: signed only for who has signed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Caller {
    Signed,
    Unsigned,
}

impl Caller {
    fn of(control: &Control, request: &api::Request<'_>) -> Self {
        let claims = query::last(request.query, "signature").is_some();
        if claims && control.verify(&request.signed()).is_ok() {
            Caller::Signed
        } else {
            Caller::Unsigned
        }
    }
}

/// With `api_open = no`, endpoints the original leaves unsigned are for this machine and for whoever signs (peers do).
fn is_local(socket: RawFd) -> bool {
    crate::io::sys::peer_address(socket).is_some_and(|peer| peer.ip().to_canonical().is_loopback())
}

async fn send(control: &Rc<Control>, ask: SendAsk, body: Bytes) -> HttpAnswer {
    let Some(msgtype) = ask.wire_type() else {
        return bad_type(control, &ask).await;
    };
    let schedule = api::schedule(ask.timeout_s);
    let started = control.clock.now();
    let peers = control.cluster.targets(ask.local_only);
    let publish = |ticket| Publish {
        ticket,
        channel: ask.channel.clone(),
        msgtype,
        qos: ask.qos,
        payload: body.clone(),
        retries: schedule.retries,
        deadline: started + schedule.deadline,
        at_deadline: schedule.at_deadline,
    };
    let answer = control
        .publish(publish, peers.len() as u32, |ticket| {
            ask_peers(control, &peers, &ask, &body, ticket)
        })
        .await;
    control
        .own_metrics()
        .observe_publish(control.clock.now().since(started));
    told(control, ask.qos, &answer)
}

/// What the caller of a publish is told.
fn told(control: &Control, qos: Qos, answer: &Answer) -> HttpAnswer {
    match (qos, answer.status) {
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
fn ask_peers(control: &Rc<Control>, peers: &[SocketAddr], ask: &SendAsk, body: &Bytes, ticket: Ticket) {
    let signed = Body::new(body);
    for peer in peers {
        let request = control.relay(*peer, Caller::Signed, |relay| PeerRequest::send(ask, &signed, relay));
        let (control, peer, ask, body) = (control.clone(), *peer, ask.clone(), body.clone());
        monoio::spawn(async move {
            let again = |relay: &Relay<'_>| PeerRequest::send(&ask, &Body::new(&body), relay);
            let outcome = control.call_peer(peer, Caller::Signed, request, &body, again).await;
            control.on_peer(ticket, relay::peer_part(&outcome));
        });
    }
}

/// A message type that does not fit into a packet: the original does not notice as long as nobody is in the channel.
async fn bad_type(control: &Rc<Control>, ask: &SendAsk) -> HttpAnswer {
    if control.census().await.iter().any(|(name, _)| *name == ask.channel) {
        return HttpAnswer::bad_type();
    }
    match ask.qos {
        Qos::AtMostOnce => HttpAnswer::done(),
        _ => HttpAnswer::delivered(0, b""),
    }
}

async fn sub(control: &Rc<Control>, ask: SubAsk, body: Bytes) -> HttpAnswer {
    let others = Others::ask(control, Caller::Signed, ask.local_only, &body, PeerRequest::sub);
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

async fn unsub(control: &Rc<Control>, ask: SubAsk, body: Bytes) -> HttpAnswer {
    let others = Others::ask(control, Caller::Signed, ask.local_only, &body, PeerRequest::unsub);
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

async fn server_info(control: &Rc<Control>, caller: Caller) -> HttpAnswer {
    let others = Others::ask(control, caller, false, &Bytes::new(), |_, relay| {
        PeerRequest::server_info(relay)
    });
    let mut servers = vec![control.server_info().await];
    for outcome in others.outcomes().await {
        if let CallbackOutcome::Answered(reply) = outcome {
            servers.extend(ServerInfo::from_json(&reply.body));
        }
    }
    HttpAnswer::ok(serverinfo::page(servers))
}

fn update_config(control: &Rc<Control>, caller: Caller, local_only: bool) -> HttpAnswer {
    drop(Others::ask(control, caller, local_only, &Bytes::new(), |_, relay| {
        PeerRequest::update_config(relay)
    }));
    reload::request(control);
    // The answer says nothing about success, as in the original.
    HttpAnswer::done()
}

fn healthz(control: &Control) -> HttpAnswer {
    if control.stopping.get() {
        return HttpAnswer::new(StatusCode::SERVICE_UNAVAILABLE, "stopping");
    }
    HttpAnswer::ok("ok")
}

impl Control {
    /// Pages of the demo.
    fn asset(&self, head: &RequestHead) -> Option<HttpAnswer> {
        let (content_type, body) = (self.assets)(head.path()).filter(|_| head.method == http::Method::GET)?;
        Some(HttpAnswer {
            content_type,
            ..HttpAnswer::ok(body)
        })
    }

    async fn server_info(&self) -> ServerInfo {
        let channels = self.census().await;
        let (cpu, memory) = self.usage.sample();
        ServerInfo::new(self.server_name.to_string(), channels, std::process::id(), cpu, memory)
    }

    /// Builds a request to a peer, with a fresh signature if the caller has signed.
    fn relay(&self, peer: SocketAddr, caller: Caller, build: impl FnOnce(&Relay<'_>) -> PeerRequest) -> PeerRequest {
        let config = self.config();
        let unix_seconds = self.clock.unix_micros() / 1_000_000;
        let nonce = self.cluster.nonce(unix_seconds, getrandom::u64().unwrap_or_default());
        let signer = Signer {
            is_relay: true,
            ..Signer::of(&config, unix_seconds, nonce)
        };
        let node = self.cluster.identity(peer);
        build(&Relay {
            signer: (caller == Caller::Signed).then_some(signer),
            node: node.as_deref(),
        })
    }

    /// Asks a peer. One that has been restarted is another server, for which the request has to be signed anew: it has
    /// refused the first one unread.
    async fn call_peer(
        &self,
        peer: SocketAddr,
        caller: Caller,
        request: PeerRequest,
        body: &Bytes,
        build: impl FnOnce(&Relay<'_>) -> PeerRequest,
    ) -> CallbackOutcome {
        let is_named = caller == Caller::Signed && self.cluster.identity(peer).is_some();
        let outcome = self.cluster.call(peer, &request, body.clone()).await;
        if is_named && relay::is_refused(&outcome) && self.cluster.has_changed(peer).await {
            let request = self.relay(peer, caller, build);
            return self.cluster.call(peer, &request, body.clone()).await;
        }
        outcome
    }

    /// Whether a caller's request may be believed. Remembers it where replays are refused: ask once per request.
    fn verify(&self, request: &Signed<'_>) -> Result<(), Refusal> {
        let verdict = self.admit(request);
        if let Err(refusal) = verdict {
            let metric = match refusal {
                Refusal::Incomplete | Refusal::NotANumber | Refusal::Wrong => Metric::SignaturesWrong,
                Refusal::Astray => Metric::SignaturesAstray,
                Refusal::Used | Refusal::TooOld => Metric::SignaturesReplayed,
                Refusal::NoRoom => Metric::SignaturesNoRoom,
            };
            self.own_metrics().add(metric, 1);
        }
        verdict
    }

    fn admit(&self, request: &Signed<'_>) -> Result<(), Refusal> {
        let config = self.config();
        let proof = Rules::of(&config).check(request, self.clock.unix_micros())?;
        if !self.cluster.is_for_us(request.query) {
            return Err(Refusal::Astray);
        }
        if proof.scheme == Scheme::Sha1 && !config.replay_protection {
            return Ok(());
        }
        let (window, capacity) = (config.signature_window, config.replay_max);
        self.replays
            .borrow_mut()
            .admit(&proof, window, capacity, self.clock.now())
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
        caller: Caller,
        local_only: bool,
        body: &Bytes,
        build: impl Fn(&Body<'_>, &Relay<'_>) -> PeerRequest + Copy + 'static,
    ) -> Self {
        let peers = control.cluster.targets(local_only);
        let arrived = Rc::new(RefCell::new(Vec::new()));
        let all = Countdown::new(peers.len());
        let signed = Body::new(body);
        for peer in peers {
            let request = control.relay(peer, caller, |relay| build(&signed, relay));
            let (control, body, arrived, all) = (control.clone(), body.clone(), arrived.clone(), all.clone());
            monoio::spawn(async move {
                let again = |relay: &Relay<'_>| build(&Body::new(&body), relay);
                let outcome = control.call_peer(peer, caller, request, &body, again).await;
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
