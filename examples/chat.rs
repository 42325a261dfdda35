//! A chat: rooms, names, private messages, and a page to use it from. The chat of bin-x/websocket with what that left to do.
//!
//! ```text
//! cargo run --features application --example chat -- [PORT OF THE PAGE [PORT OF THE CLIENTS]]
//! ```
//! then http://127.0.0.1:8080/ in several tabs. What a client says is a line of text:
//!
//! | line | what it does |
//! | --- | --- |
//! | `/name NAME` | to be called so; nobody else may be |
//! | `/join ROOM` | to go to another room |
//! | `/msg NAME TEXT` | a private message |
//! | `/who` | who is in the room |
//! | `/quit` | to leave |
//! | anything else | is said to everybody in the room |
//!
//! A client's name is its uid, its room a group, and which one that is stands in its session: the program keeps nothing.

use rainbow_server::application::{
    Api, ApiError, Application, Client, ClosedClient, ErrorCode, Exclusive, Message, Server, serve,
};
use serde_json::json;

const LOBBY: &str = "lobby";

/// The chat.
pub struct Chat;

impl Application for Chat {
    async fn on_connect(&self, api: &Api, client: &Client) {
        let id = client.id().to_string();
        log(arrive(api, client, &format!("guest-{}", &id[12..])).await);
    }

    async fn on_message(&self, api: &Api, client: &Client, message: Message) {
        let Some(line) = message.text().map(str::trim).filter(|line| !line.is_empty()) else {
            return;
        };
        let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
        let done = match (command, rest.trim()) {
            ("/name", name) => rename(api, client, name).await,
            ("/join", room) => change_room(api, client, room).await,
            ("/msg", rest) => whisper(api, client, rest).await,
            ("/who", "") => who(api, client).await,
            ("/quit", "") => client.close().message("bye").await.map(drop),
            _ => say(api, client, line).await,
        };
        match done {
            // It is the client's mistake, and it is told so.
            Err(error) if error.code == ErrorCode::BadRequest => log(tell(client, &error.message).await),
            done => log(done),
        }
    }

    async fn on_close(&self, api: &Api, client: &ClosedClient) {
        let name = client.uid.as_deref().unwrap_or("somebody");
        for room in &client.groups {
            log(api.send_to_group(room, format!("* {name} has left")).await.map(drop));
        }
    }
}

async fn arrive(api: &Api, client: &Client, name: &str) -> Result<(), ApiError> {
    api.bind_uid(client.id(), name).await?;
    tell(client, &format!("you are {name}, in {LOBBY}")).await?;
    enter(api, client, name, LOBBY).await
}

async fn enter(api: &Api, client: &Client, name: &str, room: &str) -> Result<(), ApiError> {
    api.send_to_group(room, format!("* {name} has come")).await?;
    api.join_group(client.id(), room).await?;
    api.update_session(client.id(), json!({"room": room})).await.map(drop)
}

async fn rename(api: &Api, client: &Client, name: &str) -> Result<(), ApiError> {
    match api.bind_uid_with(client.id(), name, Exclusive::Reject).await {
        Ok(old) => {
            let old = old.unwrap_or_default();
            to_room(api, client, format!("* {old} is {name} now")).await
        }
        Err(error) if error.code == ErrorCode::UidTaken => tell(client, &format!("{name} is somebody else")).await,
        Err(error) => Err(error),
    }
}

async fn change_room(api: &Api, client: &Client, room: &str) -> Result<(), ApiError> {
    let old = room_of(client);
    if room == old {
        return tell(client, &format!("you are in {room}")).await;
    }
    enter(api, client, name_of(client), room).await?;
    api.leave_group(client.id(), &old).await?;
    api.send_to_group(&old, format!("* {} has left", name_of(client)))
        .await?;
    tell(client, &format!("you are in {room}")).await
}

async fn whisper(api: &Api, client: &Client, rest: &str) -> Result<(), ApiError> {
    let (to, text) = rest.split_once(' ').unwrap_or((rest, ""));
    let sent = api
        .send_to_uid(to, format!("({}: {})", name_of(client), text.trim()))
        .await?;
    if sent.matched == 0 {
        tell(client, &format!("nobody is called {to}")).await?;
    }
    Ok(())
}

async fn who(api: &Api, client: &Client) -> Result<(), ApiError> {
    let mut names = api.group_uids(&room_of(client)).await?;
    names.sort();
    tell(client, &names.join(", ")).await
}

async fn say(api: &Api, client: &Client, text: &str) -> Result<(), ApiError> {
    to_room(api, client, format!("{}: {text}", name_of(client))).await
}

async fn to_room(api: &Api, client: &Client, line: String) -> Result<(), ApiError> {
    api.send_to_group(&room_of(client), line).await.map(drop)
}

async fn tell(client: &Client, line: &str) -> Result<(), ApiError> {
    client.send(line).await.map(drop)
}

fn name_of(client: &Client) -> &str {
    client.uid().unwrap_or("somebody")
}

fn room_of(client: &Client) -> String {
    let session = client.session();
    session
        .get("room")
        .and_then(|room| room.as_str())
        .unwrap_or(LOBBY)
        .to_owned()
}

/// A client that has gone meanwhile is no error worth a line.
fn log(done: Result<(), ApiError>) {
    if let Err(error) = done
        && error.code != ErrorCode::ClientNotFound
    {
        eprintln!("chat: {error}");
    }
}

/// Where the chat is served.
pub fn server(page: u16, clients: u16) -> Server {
    let html = PAGE.replace("CLIENTS", &clients.to_string());
    Server::new()
        .main("http_port", page)
        .gateway("port", clients)
        .page("/", "text/html; charset=utf-8", html)
}

#[allow(dead_code, reason = "the tests have a start of their own")]
fn main() -> Result<(), String> {
    let mut ports = std::env::args().skip(1).map(|port| port.parse::<u16>());
    let mut next = |usual| {
        ports
            .next()
            .unwrap_or(Ok(usual))
            .map_err(|error| format!("a port: {error}"))
    };
    let (page, clients) = (next(8080)?, next(7272)?);
    eprintln!("chat: http://127.0.0.1:{page}/");
    serve(server(page, clients), Chat)
}

const PAGE: &str = r#"<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>Chat</title>
<style>
  body { font: 1rem/1.4 system-ui; max-width: 40rem; margin: 2rem auto; padding: 0 1rem }
  ol { list-style: none; padding: 0; height: 60vh; overflow: auto; border: 1px solid; padding: .5rem }
  input { width: 100%; font: inherit; box-sizing: border-box; padding: .5rem }
</style>
<h1>Chat</h1>
<ol id="lines" aria-live="polite"></ol>
<form><input autofocus autocomplete="off" placeholder="a line, /name NAME, /join ROOM, /msg NAME TEXT, /who, /quit"></form>
<script>
  const lines = document.querySelector('#lines'), input = document.querySelector('input')
  const show = text => {
    const line = document.createElement('li')
    line.textContent = text
    lines.append(line)
    line.scrollIntoView()
  }
  const scheme = location.protocol === 'https:' ? 'wss' : 'ws'
  const socket = new WebSocket(`${scheme}://${location.hostname}:CLIENTS/`)
  socket.onmessage = event => show(event.data)
  socket.onclose = event => show(`closed (${event.code} ${event.reason})`)
  document.querySelector('form').onsubmit = event => {
    event.preventDefault()
    if (input.value) socket.send(input.value)
    input.value = ''
  }
</script>
"#;
