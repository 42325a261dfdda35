//! How clients go.

use super::*;
use rainbow_server::application::{Client as Handle, ClosedClient, ErrorCode, Message};
use serde_json::json;

/// Gives each client a uid, groups and a session, and asks about it when it is gone.
struct Asker(Notes);

impl Application for Asker {
    async fn on_connect(&self, api: &Api, client: &Handle) {
        let id = client.id();
        api.bind_uid(id, "u").await.expect("bound");
        api.join_group(id, "g1").await.expect("joined");
        api.join_group(id, "g2").await.expect("joined");
        api.set_session(id, json!({"a": {"b": 1}})).await.expect("set");
        client.send(id.to_string()).await.expect("sent");
    }

    async fn on_message(&self, api: &Api, client: &Handle, message: Message) {
        match message.text() {
            Some("bye") => {
                let closing = client.close().message("last words").code(4001).reason("asked to");
                closing.await.expect("closed");
            }
            Some("destroy") => api.destroy_client(client.id()).await.expect("destroyed"),
            _ => client.send("pong").await.map(drop).expect("sent"),
        }
    }

    async fn on_close(&self, api: &Api, client: &ClosedClient) {
        let id = client.id;
        let code = |error: rainbow_server::application::ApiError| error.code;
        let asked = (
            api.is_online(id).await,
            api.leave_group(id, "g1").await.map_err(code),
            api.unbind_uid(id).await.map_err(code),
            api.session(id).await.map_err(code),
        );
        let gone = || ErrorCode::ClientNotFound;
        assert_eq!(asked, (Ok(false), Err(gone()), Err(gone()), Err(gone())));
        let mut groups = client.groups.clone();
        groups.sort();
        let session = serde_json::to_string(&client.session).expect("JSON");
        let (uid, cause, code) = (&client.uid, &client.cause, client.code);
        self.0
            .add(format!("{uid:?} {groups:?} {session} {cause} {code} {}", client.reason));
    }
}

const WAS: &str = r#"Some("u") ["g1", "g2"] {"a":{"b":1}}"#;

/// Case 19: in bin-x/websocket a handler that leaves a group here ends the service.
#[test]
fn a_handler_sees_what_is_gone_and_may_ask_about_it() {
    let notes = Notes::default();
    let server = Fixture::start(Asker(notes.clone()), |server| server);
    for _ in 0..3 {
        let (going, staying) = (server.client(), server.client());
        let went = id(&going);
        id(&staying);
        let before = notes.all().len();
        going.frame(Op::Close, b"\x0f\xa2because");
        assert_eq!(
            notes.expect(before + 1)[before],
            format!("{WAS} client_closed 4002 because")
        );
        assert_eq!(wait(server.api().is_online(went)), Ok(false));
        staying.frame(Op::Text, b"there?");
        assert_eq!(text(&staying), "pong", "the server goes on");
        drop(staying);
        notes.expect(before + 2);
    }
}

/// Case 18.
#[test]
fn a_farewell_comes_before_the_close_frame_and_destroying_says_nothing() {
    let notes = Notes::default();
    let server = Fixture::start(Asker(notes.clone()), |server| server);
    let polite = server.client();
    id(&polite);
    polite.frame(Op::Text, b"bye");
    polite.expect(Op::Text, b"last words");
    polite.expect(Op::Close, b"\x0f\xa1asked to");
    polite.frame(Op::Close, b"\x0f\xa1");
    assert_eq!(notes.expect(1)[0], format!("{WAS} kicked 4001 asked to"));
    let destroyed = server.client();
    let went = id(&destroyed);
    destroyed.frame(Op::Text, b"destroy");
    let left = destroyed.until_eof(SOON).expect("it ends");
    assert!(left.iter().all(|frame| frame.op != Op::Close), "no close frame");
    notes.expect(2);
    assert_eq!(wait(server.api().is_online(went)), Ok(false));
}

#[test]
fn when_the_server_has_stopped_calls_fail_and_do_not_hang() {
    let server = Fixture::start(Asker(Notes::default()), |server| server);
    let _client = server.client();
    let api = server.api().clone();
    server.stop().expect("it stops");
    assert_eq!(wait(api.client_count()), Ok(0), "the last client is gone");
}
