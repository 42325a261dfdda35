//! The example, driven over websockets.

#[path = "../../examples/chat.rs"]
mod example;

use super::*;
use common::http::{self, Request};

/// The chat, and the ports of page and clients.
fn start() -> Fixture {
    let (main, clients) = (ports::claim(), ports::claim());
    let server = example::server(main.number, clients.number);
    Fixture {
        running: Some(server.start(example::Chat).expect("it starts")),
        main,
        clients,
    }
}

/// A guest who has read the greeting, and is called `name` then.
fn guest(server: &Fixture, name: &str) -> Client {
    let client = server.client();
    assert!(text(&client).starts_with("you are guest-"));
    said(&client, &format!("/name {name}"));
    assert!(text(&client).ends_with(&format!(" is {name} now")));
    client
}

fn said(client: &Client, line: &str) {
    client.frame(Op::Text, line.as_bytes());
}

fn hears(clients: &[&Client], line: &str) {
    clients
        .iter()
        .for_each(|client| drop(client.expect(Op::Text, line.as_bytes())));
}

/// Skips what others did when they came.
fn drain(client: &Client) {
    said(client, "/who");
    while !text(client).contains("ada, ") {}
}

#[test]
fn names_rooms_and_private_messages() {
    let server = start();
    let ada = guest(&server, "ada");
    let (bob, eve) = (guest(&server, "bob"), guest(&server, "eve"));
    drain(&ada);
    drain(&bob);
    said(&ada, "hello");
    hears(&[&ada, &bob, &eve], "ada: hello");
    said(&bob, "/name ada");
    hears(&[&bob], "ada is somebody else");
    said(&bob, "/name robert");
    hears(&[&ada, &bob, &eve], "* bob is robert now");

    said(&eve, "/msg robert psst");
    hears(&[&bob], "(eve: psst)");
    said(&eve, "/msg bob psst");
    hears(&[&eve], "nobody is called bob");

    said(&bob, "/join attic");
    hears(&[&ada, &eve], "* robert has left");
    hears(&[&bob], "you are in attic");
    said(&bob, "anybody?");
    hears(&[&bob], "robert: anybody?");
    said(&eve, "/join attic");
    hears(&[&bob], "* eve has come");
    hears(&[&ada], "* eve has left");
    hears(&[&eve], "you are in attic");
    said(&bob, "hi");
    hears(&[&bob, &eve], "robert: hi");
    said(&ada, "/who");
    hears(&[&ada], "ada");
    said(&eve, "/who");
    hears(&[&eve], "eve, robert");
    said(&eve, "/join");
    hears(&[&eve], "group: must not be empty");

    said(&eve, "/quit");
    hears(&[&eve], "bye");
    hears(&[&bob], "* eve has left");
    drop(bob);
    assert!(eventually(SOON, || wait(server.api().all_groups()) == Ok(vec!["lobby".to_owned()])));
    ada.expect_silence(ms(50));
}

#[test]
fn the_page_connects_to_the_port_of_the_clients() {
    let server = start();
    let page = http::call(server.main.number, &Request::get("/"), SOON).expect("a page");
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(page.text().contains(&format!(":{}/`", server.clients.number)));
    let other = http::call(server.main.number, &Request::get("/other"), SOON).expect("an answer");
    assert_eq!(other.status, 404);
}
