//! Handlers that panic (case 20): the client whose event it was is closed, and nothing else happens.

use super::*;
use rainbow_server::application::{Client as Handle, ClosedClient, Message};

struct Panics(Notes);

impl Application for Panics {
    async fn on_connect(&self, _: &Api, client: &Handle) {
        client.send(client.id().to_string()).await.expect("sent");
        assert_ne!(
            self.0.all().last().map(String::as_str),
            Some("panic at connect"),
            "injected"
        );
    }

    async fn on_message(&self, _: &Api, client: &Handle, message: Message) {
        assert_ne!(message.text(), Some("panic"), "injected");
        client.send(message).await.expect("sent");
    }

    async fn on_close(&self, _: &Api, client: &ClosedClient) {
        self.0.add(format!("{} {}", client.cause, client.code));
        panic!("injected");
    }
}

#[test]
fn a_panic_closes_one_client() {
    let notes = Notes::default();
    let server = Fixture::start(Panics(notes.clone()), |server| server);
    let others: Vec<_> = (0..5).map(|_| server.client()).collect();
    assert!(others.iter().all(|other| !id(other).as_str().is_empty()));
    for round in 1..=3 {
        let client = server.client();
        let went = id(&client);
        client.frame(Op::Text, b"before");
        client.expect(Op::Text, b"before");
        // What is said behind it is not handled.
        client.frame(Op::Text, b"panic");
        client.frame(Op::Text, b"after");
        client.expect(Op::Close, b"\x03\xf3panicked");
        // on_close panics too, and is not repeated.
        assert_eq!(notes.expect(round).last().expect("a note"), "panicked 1011");
        assert_eq!(wait(server.api().is_online(went)), Ok(false));
        for other in &others {
            other.frame(Op::Text, b"there?");
            other.expect(Op::Text, b"there?");
        }
    }
    assert_eq!(wait(server.api().client_count()), Ok(5));
    std::thread::sleep(ms(700));
    assert_eq!(notes.all().len(), 3, "close events are heard once");
    notes.add("panic at connect");
    let client = server.client();
    id(&client);
    client.expect(Op::Close, b"\x03\xf3panicked");
    notes.expect(5);
    let client = server.client();
    id(&client);
    client.frame(Op::Text, b"works");
    client.expect(Op::Text, b"works");
}
