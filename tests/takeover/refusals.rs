//! A takeover that cannot be: the new process says why, exit code 2, and the old one goes on.

use super::*;

pub(super) fn refused(builder: &Builder, word: &str) {
    let mut refused = builder.spawn();
    assert_eq!(refused.wait_exit(SOON), Some(2), "{}", refused.log_tail());
    assert!(
        refused.log_tail().contains(word),
        "{word:?} is not in: {}",
        refused.log_tail()
    );
}

#[test]
fn what_cannot_serve_leaves_the_old_server_alone() {
    let (business, port) = (business(), Arc::new(ports::claim()));
    let builder = || Builder::new(&business).on(&port);
    let mut server = builder().start();
    let client = Client::open(port.number);
    let (tls, taken) = (
        ports::claim(),
        std::net::TcpListener::bind("127.0.0.1:0").expect("bind"),
    );
    let taken = taken.local_addr().expect("address").port();
    let takeover = || builder().arg("--takeover");
    refused(&takeover().set("drain_timeout", "soon"), "drain_timeout");
    refused(
        &takeover()
            .set("tls_port", tls.number)
            .set("tls_cert", "/nonexistent")
            .set("tls_key", "/nonexistent"),
        "tls_cert",
    );
    let (cert, key) = certificate();
    let with_tls = takeover()
        .set("tls_port", taken)
        .set("tls_cert", cert.display())
        .set("tls_key", key.display());
    refused(&with_tls, "is taken");
    assert!(server.is_alive());
    server.expect_said("a process tried to take over and failed");
    assert_eq!(server.send("room", 0, "still here")["status"], 0);
    assert_eq!(client.expect_send(SOON).1, b"still here");
    // And it can still be replaced.
    let _successor = takeover().start();
    assert_eq!(client.next(SOON).expect("told").payload[..2], 1012_u16.to_be_bytes());
}

#[test]
fn without_a_server_there_is_nothing_to_take_over() {
    let business = business();
    refused(
        &Builder::new(&business).arg("--takeover"),
        "there is no server to take over from",
    );
}

#[test]
fn a_server_that_is_stopping_is_not_taken_over() {
    let (business, port) = (business(), Arc::new(ports::claim()));
    business.reply("/close/", Reply::ok("").delay(ms(5_000)));
    let builder = || Builder::new(&business).on(&port).set("drain_timeout", 20);
    let mut server = builder().start();
    let client = Client::open(port.number);
    server.signal("TERM");
    client.next(SOON).expect("told");
    client.frame(Op::Close, b"");
    refused(&builder().arg("--takeover"), "there is no server to take over from");
    // Its port is free for one that just starts.
    drop(builder().start());
    assert_eq!(server.wait_exit(SOON), Some(0));
}

/// Files with a certificate and its key, in the directory of the tests.
fn certificate() -> (std::path::PathBuf, std::path::PathBuf) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("certificate");
    let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = |kind: &str| dir.join(format!("takeover-{}-{kind}.pem", std::process::id()));
    let (cert, key) = (path("cert"), path("key"));
    std::fs::write(&cert, made.cert.pem()).expect("write");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("write");
    (cert, key)
}
