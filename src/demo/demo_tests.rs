use super::*;
use crate::config::Overrides;
use crate::protocol::rainbow::sign;
use std::io::{Read, Write};
use std::sync::mpsc;

/// What the gateway was sent: target and body.
type Sent = (String, String);

/// A stand-in for the gateway's HTTP interface: tells what it was sent, answers with two acknowledgements.
fn gateway() -> (u16, mpsc::Receiver<Sent>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let mut wire = wire::Wire::new(stream, SILENCE_MAX).unwrap();
            let (head, body) = wire.request().unwrap().unwrap();
            let target = [head.path(), b"?", head.query()].concat();
            let signed = sign::Signed {
                method: head.method.as_str(),
                path: head.path(),
                query: head.query(),
                body: &body,
            };
            let rules = sign::Rules {
                secrets: sign::Secrets::one(token().as_bytes()),
                accept: &[sign::Scheme::Sha1],
                window: Duration::from_secs(10),
            };
            assert!(rules.check(&signed, now_micros()).is_ok(), "{target:?}");
            sender
                .send((String::from_utf8(target).unwrap(), String::from_utf8(body).unwrap()))
                .unwrap();
            let answer = wire::Answer::new(http::StatusCode::OK, r#"{"status": 0, "connections": 2, "data": ""}"#);
            wire.answer(&answer, false).unwrap();
        }
    });
    (port, receiver)
}

fn now_micros() -> u64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_micros() as u64
}

/// A request of the gateway, signed with `token`.
fn request(method: &str, path: &str, token: &str, headers: &str, body: &str) -> Vec<u8> {
    let mut target = format!("{path}?").into_bytes();
    let signer = sign::Signer {
        scheme: sign::Scheme::Sha1,
        secret: token.as_bytes(),
        unix_seconds: now_micros() / 1_000_000,
        random: 4321,
        is_relay: false,
    };
    signer.sign(method, &mut target, &sign::Body::new(body.as_bytes()));
    let target = String::from_utf8(target).unwrap();
    let length = body.len();
    format!("{method} {target} HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n{headers}\r\n{body}").into_bytes()
}

/// Everything the backend answers before the connection ends.
fn exchange(port: u16, requests: &[Vec<u8>]) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.write_all(&requests.concat()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    answers
}

#[test]
fn a_client_comes_speaks_and_goes() {
    let (api_port, sent) = gateway();
    let backend = Backend::start().unwrap();
    backend.serve_api(api_port);
    let cookie = "Rainbowclientcookie: Zo%C3%AB+1\r\n";
    let answers = exchange(
        backend.port(),
        &[
            request("GET", "/connect/", token(), "X-Deviceid: Zo\u{eb} 1\r\n", ""),
            request("POST", "/message/7/", token(), cookie, "<b>\"hi\"</b>"),
            request("GET", "/close/", token(), cookie, ""),
        ],
    );
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 3, "{answers}");
    for part in [
        "Rainbowclientchannel: lobby\r\n",
        cookie,
        r#"{"status": "success"}"#,
        r#"{"delivered": 2}"#,
    ] {
        assert!(answers.contains(part), "{part} in {answers}");
    }
    for (parameters, payload) in [
        (
            "channel=lobby&msgtype=2&qos=0&timeout=4",
            r#"{"from": "Zo\u00eb 1", "text": "joined"}"#,
        ),
        (
            "channel=lobby&msgtype=7&qos=1&timeout=4",
            r#"{"from": "Zo\u00eb 1", "text": "\u003cb\u003e\"hi\"\u003c/b\u003e"}"#,
        ),
        (
            "channel=lobby&msgtype=2&qos=2&timeout=4",
            r#"{"from": "Zo\u00eb 1", "text": "left"}"#,
        ),
    ] {
        let (target, body) = sent.recv_timeout(Duration::from_secs(5)).unwrap();
        assert!(
            target.starts_with(&format!("/send/?{parameters}&timestamp=")),
            "{target}"
        );
        assert_eq!(body, payload);
    }
}

#[test]
fn only_signed_callbacks_are_answered() {
    let backend = Backend::start().unwrap();
    let ask = |path, token| exchange(backend.port(), &[request("GET", path, token, "", "")]);
    assert!(ask("/connect/", "wrong").starts_with("HTTP/1.1 403 "));
    assert!(exchange(backend.port(), &[b"GET /connect/ HTTP/1.1\r\n\r\n".to_vec()]).starts_with("HTTP/1.1 403 "));
    assert!(ask("/other/", token()).starts_with("HTTP/1.1 404 "));
    assert!(
        exchange(backend.port(), &[request("POST", "/message/70000/", token(), "", "x")]).starts_with("HTTP/1.1 404 ")
    );
    assert!(
        ask("/close/", token()).starts_with("HTTP/1.1 200 "),
        "also without a gateway"
    );
}

#[test]
fn idle_connections_never_take_all_workers() {
    let backend = Backend::start().unwrap();
    let mut kept = Vec::new();
    for _ in 0..2 * WORKERS {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, backend.port())).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(&request("GET", "/connect/", token(), "", "")).unwrap();
        let mut start = [0; 12];
        stream.read_exact(&mut start).expect("answered, however many are open");
        assert_eq!(&start, b"HTTP/1.1 200");
        kept.push(stream);
    }
}

#[test]
fn the_demo_configuration_has_our_token_and_urls() {
    let backend = Backend::start().unwrap();
    let config = settings(&backend, &Overrides::default());
    assert_eq!(config.security_token.expose(), token());
    assert_eq!(config.origins.len(), 3);
    assert_eq!(config.forward_url.port, backend.port());
    assert!(SILENCE_MAX > config.callback_idle);
}

#[test]
fn assets_refer_only_to_each_other() {
    for path in ["/", "/demo", "/demo/", "/demo/client.js", "/demo/page.js"] {
        let (kind, body) = asset(path.as_bytes()).unwrap();
        let text = str::from_utf8(&body).unwrap();
        assert!(kind.ends_with("charset=utf-8"));
        for part in ["src=\"http", "href=\"http", "url(", "from \"http", "fetch("] {
            assert!(!text.contains(part), "{path} has an outside resource");
        }
        assert!(!text.contains("innerHTML"), "{path}: what others say is text");
    }
    assert!(PAGE.contains("/demo/page.js") && PAGE_SCRIPT.contains("./client.js"));
    assert_eq!(asset(b"/demo/other"), None);
    assert!(banner(1984).contains("http://127.0.0.1:1984/demo/"));
}
