//! How clients come in.

use std::collections::BTreeSet;

use super::*;
use rainbow_server::application::{Admit, Handshake};
use serde_json::json;

/// Tells every client its id.
struct Ids;

impl Application for Ids {
    async fn on_connect(&self, _: &Api, client: &rainbow_server::application::Client) {
        client.send(client.id().to_string()).await.expect("sent");
    }
}

/// Case 2; bin-x/websocket lost three of four.
#[test]
fn what_is_sent_when_a_client_comes_is_what_it_receives_first() {
    let server = Fixture::start(Ids, |server| server);
    let port = server.clients.number;
    let ids = together(10, |_| {
        let clients: Vec<_> = (0..20).map(|_| client(port)).collect();
        clients.iter().map(id).collect::<Vec<_>>()
    });
    let ids: BTreeSet<_> = ids.concat().into_iter().collect();
    assert_eq!(ids.len(), 200, "an id is one client's");
}

/// Admits by what the query says.
struct Doorman(Notes);

impl Application for Doorman {
    async fn on_handshake(&self, _: &Api, handshake: &Handshake) -> Admit {
        let facts = [
            handshake.path.clone(),
            handshake.query.get("who").unwrap_or("-").into(),
            handshake.headers.get("x-test").unwrap_or("-").into(),
            handshake.cookies.get("k").unwrap_or("-").into(),
            handshake.subprotocols.join("+"),
            handshake.ip.map(|ip| ip.to_string()).unwrap_or_default(),
            handshake.port.is_some_and(|port| port > 0).to_string(),
        ];
        self.0.add(facts.join(" "));
        match handshake.query.get("who") {
            Some("nobody") => Admit::reject(401).reason("not you"),
            Some("slow") => {
                pause(3_000).await;
                Admit::accept()
            }
            Some("panic") => panic!("injected"),
            who => Admit::accept()
                .uid(who.unwrap_or("anybody"))
                .groups(["a", "b"])
                .session(json!({"since": "handshake"})),
        }
    }

    async fn on_connect(&self, api: &Api, client: &rainbow_server::application::Client) {
        let mut groups = api.groups_of(client.id()).await.expect("it is there");
        groups.sort();
        let seen = json!([client.uid(), client.session(), groups]);
        client.send(seen).await.expect("sent");
    }

    async fn on_close(&self, _: &Api, client: &rainbow_server::application::ClosedClient) {
        self.0.add(format!("closed {:?}", client.uid));
    }
}

#[test]
fn a_handshake_says_who_comes_and_is_told_what_becomes_of_it() {
    let notes = Notes::default();
    let server = Fixture::start(Doorman(notes.clone()), |server| server.main("callback_timeout", 1));
    let mut asks = open("/some/path?who=ada%20l&who2=x");
    asks.headers = [
        ("X-Test", "1"),
        ("Cookie", "j=0; k=v"),
        ("Sec-WebSocket-Protocol", "p, q"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let ada = Client::open_with(server.clients.number, asks);
    assert_eq!(text(&ada), r#"["ada l",{"since":"handshake"},["a","b"]]"#);
    assert_eq!(notes.all(), ["/some/path ada l 1 v p+q 127.0.0.1 true"]);
    assert_eq!(wait(server.api().is_uid_online("ada l")), Ok(true));
    for (who, status, body) in [
        ("nobody", 401, Some("not you")),
        ("slow", 503, None),
        ("panic", 503, None),
    ] {
        let client = Client::start(server.clients.number, open(&format!("/?who={who}"))).expect("connect");
        let answer = client.answer(SOON).expect("an answer");
        assert_eq!(answer.status, status, "{who}");
        assert!(body.is_none_or(|body| answer.text() == body), "{}", answer.text());
    }
    // Who was turned away was never here.
    drop(ada);
    assert_eq!(notes.expect(5)[4..], [r#"closed Some("ada l")"#]);
    std::thread::sleep(ms(50));
    assert_eq!(notes.all().len(), 5);
}

/// A handler that sees the start and the end.
struct Span(Notes);

impl Application for Span {
    async fn on_start(&self, api: &Api) {
        pause(300).await;
        self.0.add(format!("start {:?}", api.client_count().await));
    }

    async fn on_connect(&self, _: &Api, _: &rainbow_server::application::Client) {
        self.0.add("connect");
    }

    async fn on_close(&self, _: &Api, client: &rainbow_server::application::ClosedClient) {
        pause(100).await;
        self.0.add(format!("close {} {}", client.cause, client.code));
    }

    async fn on_stop(&self, api: &Api) {
        self.0.add(format!("stop {:?}", api.client_count().await));
    }
}

#[test]
fn nothing_is_handled_before_the_start_or_after_the_stop() {
    let notes = Notes::default();
    let (main, clients) = (ports::claim(), ports::claim());
    let server = Server::new()
        .main("http_port", main.number)
        .gateway("port", clients.number);
    std::thread::scope(|scope| {
        // It connects as soon as the port is there, while on_start sleeps.
        let early = scope.spawn(|| {
            let connected = || Client::start(clients.number, open("/")).ok();
            let mut client = None;
            assert!(eventually(SOON, || {
                client = connected();
                client.is_some()
            }));
            client.expect("connected").let_in()
        });
        let running = server.start(Span(notes.clone())).expect("it starts");
        let api = running.api().clone();
        let early = early.join().expect("a client");
        notes.expect(2);
        running.stop().expect("it stops");
        let close = early.next(SOON).expect("a close frame");
        assert_eq!(close.payload[..2], 1012_u16.to_be_bytes());
        drop(api);
    });
    assert_eq!(
        notes.all(),
        ["start Ok(0)", "connect", "close shutdown 1012", "stop Ok(0)"]
    );
}

#[test]
fn settings_that_are_wrong_are_refused_in_words() {
    let refusal = |server: Server| server.start(Ids).err().expect("refused");
    assert!(refusal(Server::new().main("workers", "many")).contains("workers"));
    assert!(refusal(Server::new().main("bind", "0.0.0.0")).contains("api_tokens"));
    assert!(refusal(Server::new().gateway("secret", "a\n[main]\nworkers = 9")).contains("more than one line"));
    assert!(refusal(Server::from_file("/nowhere/server.ini")).contains("/nowhere/server.ini"));
}

/// A handshake that takes its time.
struct Patient(Notes);

impl Application for Patient {
    async fn on_handshake(&self, _: &Api, _: &Handshake) -> Admit {
        self.0.add("handshake");
        pause(300).await;
        Admit::accept().uid("u").groups(["g"])
    }

    async fn on_connect(&self, api: &Api, client: &rainbow_server::application::Client) {
        let sent = client.send("hello").await.map_err(|error| error.code);
        self.0.add(format!("connect {:?} {sent:?}", client.uid()));
        let _ = api.join_group(client.id(), "never").await;
    }

    async fn on_close(&self, _: &Api, client: &rainbow_server::application::ClosedClient) {
        self.0
            .add(format!("close {} {:?} {:?}", client.cause, client.uid, client.groups));
    }
}

#[test]
fn who_leaves_while_it_is_let_in_has_a_beginning_and_an_end() {
    let notes = Notes::default();
    let server = Fixture::start(Patient(notes.clone()), |server| server);
    let client = Client::start(server.clients.number, open("/")).expect("connect");
    notes.expect(1);
    client.drop_now();
    let seen = notes.expect(3);
    let expected = [
        "handshake",
        r#"connect Some("u") Err(ClientNotFound)"#,
        r#"close gone_during_auth Some("u") ["g"]"#,
    ];
    assert_eq!(seen, expected);
    assert_eq!(wait(server.api().all_groups()), Ok(vec![]));
    assert_eq!(wait(server.api().client_count()), Ok(0));
}
