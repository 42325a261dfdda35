//! One function per kind of step of a session.

use super::super::business::Business;
use super::super::client::{Client, Frame, Op, Open, encode};
use super::super::http::{self, Connection, Request, Response};
use super::super::server::Server;
use super::super::{excerpt, hex, ms, unhex};
use super::expect::{self, Bindings, Check};
use super::{pairs, payload, scripted_reply};
use serde_json::Value;
use std::collections::HashMap;
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const UPGRADE_WITHIN: Duration = Duration::from_secs(45);
const HTTP_WITHIN: Duration = Duration::from_secs(60);
/// A background request gets this head start, as in the recording.
const BACKGROUND_HEAD_START: Duration = Duration::from_millis(20);

/// A running session.
pub struct Player {
    pub server: Server,
    business: Business,
    bindings: Bindings,
    clients: HashMap<String, Client>,
    calls: HashMap<String, Call>,
    signalled: Option<Instant>,
}

/// A request in the background.
struct Call {
    answer: Receiver<Option<Response>>,
    stopper: TcpStream,
}

impl Player {
    pub fn new(server: Server, business: Business) -> Self {
        let bindings = Bindings {
            token: super::super::server::TOKEN.into(),
            ..Bindings::default()
        };
        Self {
            server,
            business,
            bindings,
            clients: HashMap::new(),
            calls: HashMap::new(),
            signalled: None,
        }
    }

    /// Runs one step.
    pub fn step(&mut self, step: &Value) -> Check {
        match step["do"].as_str().unwrap_or_default() {
            "biz_reply" => self.business.reply(text(step, "path")?, scripted_reply(step)),
            "biz_expect" => return self.business_expect(step),
            "biz_expect_none" => return self.business_expect_none(step),
            "ws_open" => return self.open(step),
            "ws_wait_open" => return self.wait_open(step),
            "ws_send" => return self.send(step),
            "ws_expect" => return self.expect_frame(step),
            "ws_expect_none" => return self.expect_no_frame(step),
            "ws_drop" => self.client(step)?.drop_now(),
            "http" => return self.http(step),
            "http_wait" => return self.http_wait(step),
            "http_abandon" => return self.http_abandon(step),
            "mark" => drop(self.bindings.marks.insert(text(step, "name")?.into(), Instant::now())),
            "sleep" => std::thread::sleep(ms(number(step, "ms")?)),
            "udp_send" => return udp_send(step),
            "signal" => {
                self.signalled = Some(Instant::now());
                self.server.signal(text(step, "signal")?);
            }
            "expect_exit" => return self.expect_exit(step),
            other => return Err(format!("unknown step {other:?}")),
        }
        Ok(())
    }

    fn business_expect(&mut self, step: &Value) -> Check {
        let within = ms(step["within_ms"].as_u64().unwrap_or(3000));
        let got = self
            .business
            .next(within)
            .ok_or_else(|| format!("no business request within {within:?}"))?;
        let (method, path) = (text(step, "method")?, text(step, "path")?);
        if got.method != method || got.path != path {
            return Err(format!("expected {method} {path}, got {} {}", got.method, got.target));
        }
        if let Some(query) = step["query"].as_object() {
            let (mut wanted, mut keys): (Vec<&str>, Vec<&str>) = (
                query.keys().map(String::as_str).collect(),
                got.query.iter().map(|(k, _)| k.as_str()).collect(),
            );
            wanted.sort_unstable();
            keys.sort_unstable();
            if wanted != keys {
                return Err(format!("expected query keys {wanted:?}, got {keys:?}"));
            }
            for (key, value) in &got.query {
                let expected = query[key].as_str().ok_or("query value is no text")?;
                self.bindings
                    .text(expected, value, &format!("query {key}"), &got.query)?;
            }
        }
        for (name, value) in step["headers"].as_object().into_iter().flatten() {
            let value = value.as_str().ok_or("header value is no text")?;
            let header = got.header(name).ok_or_else(|| format!("header {name} is missing"))?;
            self.bindings
                .text(value, &header, &format!("header {name}"), &got.query)?;
        }
        for name in step["headers_absent"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            if let Some(value) = got.header(name) {
                return Err(format!("header {name} must be absent, got {value:?}"));
            }
        }
        self.business_body(step, &got.body)?;
        self.bindings.moment(step, got.at)
    }

    fn business_body(&self, step: &Value, got: &[u8]) -> Check {
        if let Some(json) = step.get("body_json") {
            let (wanted, got_json) = (self.bindings.fill(json), serde_json::from_slice::<Value>(got).ok());
            return unless(
                got_json.as_ref() == Some(&wanted),
                || format!("body {wanted}"),
                || excerpt(got, 200),
            );
        }
        let mut wanted = payload(step);
        pad(&mut wanted, step, "body_pad_byte", "body_pad_count");
        unless(
            got == wanted,
            || format!("body {}", excerpt(&wanted, 200)),
            || excerpt(got, 200),
        )
    }

    fn business_expect_none(&self, step: &Value) -> Check {
        match self.business.next(ms(number(step, "for_ms")?)) {
            None => Ok(()),
            Some(got) => Err(format!(
                "expected no business request, got {} {}",
                got.method, got.target
            )),
        }
    }

    fn client(&self, step: &Value) -> Result<&Client, String> {
        let name = text(step, "ws")?;
        self.clients.get(name).ok_or_else(|| format!("no client {name}"))
    }

    fn open(&mut self, step: &Value) -> Check {
        let open = Open {
            target: step["target"].as_str().unwrap_or("/connect/").into(),
            headers: pairs(&step["headers"]),
            upgrade: step["upgrade"] != false,
            auto_pong: step["auto_pong"] != false,
            ..Open::default()
        };
        let client = Client::start(self.server.port(), open).map_err(|e| format!("connect: {e}"))?;
        let background = step["background"] == true;
        self.clients.insert(text(step, "ws")?.into(), client);
        if background { Ok(()) } else { self.wait_open(step) }
    }

    fn wait_open(&self, step: &Value) -> Check {
        let client = self.client(step)?;
        let (answer, at) = client.answer_at(UPGRADE_WITHIN).map_err(|e| format!("upgrade: {e}"))?;
        expect::upgrade(&step["expect"], &answer, client.accept_is_right())?;
        self.bindings.moment(step, at)
    }

    fn send(&self, step: &Value) -> Check {
        let mut bytes = unhex(text(step, "hex")?);
        pad(&mut bytes, step, "pad_byte", "pad_count");
        let frame = encode(opcode(step)?, &bytes, step["fin"] != false, step["masked"] != false);
        // The server may have closed already; a later step sees that.
        let _ = self.client(step)?.raw(&frame);
        Ok(())
    }

    fn expect_frame(&self, step: &Value) -> Check {
        let within = ms(step["within_ms"].as_u64().unwrap_or(3000));
        let frame = self
            .client(step)?
            .next(within)
            .ok_or_else(|| format!("no frame within {within:?}"))?;
        let wanted = unhex(step["hex"].as_str().unwrap_or_default());
        let right = frame.op == opcode(step)? && frame.payload == wanted;
        unless(
            right,
            || format!("{:?} {}", step["opcode"], hex(&wanted)),
            || show(&frame),
        )?;
        self.bindings.moment(step, frame.at)
    }

    fn expect_no_frame(&self, step: &Value) -> Check {
        match self.client(step)?.next(ms(number(step, "for_ms")?)) {
            None => Ok(()),
            Some(frame) => Err(format!("expected no frame, got {}", show(&frame))),
        }
    }

    fn http(&mut self, step: &Value) -> Check {
        let request = self.request(step)?;
        let mut connection = Connection::open(self.server.port()).map_err(|e| format!("connect: {e}"))?;
        connection
            .write(&request.bytes(self.server.port(), true))
            .map_err(|e| format!("write: {e}"))?;
        let Some(id) = step["id"].as_str() else {
            let answer = connection.response(&request.method, HTTP_WITHIN).ok();
            return self.bindings.answer(&step["expect"], answer.as_ref());
        };
        let stopper = connection.stopper().map_err(|e| e.to_string())?;
        let (sender, answer) = channel();
        std::thread::spawn(move || sender.send(connection.response(&request.method, HTTP_WITHIN).ok()));
        self.calls.insert(id.into(), Call { answer, stopper });
        std::thread::sleep(BACKGROUND_HEAD_START);
        Ok(())
    }

    fn http_wait(&mut self, step: &Value) -> Check {
        let call = self.calls.get(text(step, "id")?).ok_or("no such background request")?;
        let answer = call.answer.recv_timeout(HTTP_WITHIN).map_err(|e| e.to_string())?;
        self.bindings.answer(&step["expect"], answer.as_ref())
    }

    fn http_abandon(&mut self, step: &Value) -> Check {
        let call = self.calls.get(text(step, "id")?).ok_or("no such background request")?;
        call.stopper.shutdown(Shutdown::Both).map_err(|e| e.to_string())
    }

    fn request(&self, step: &Value) -> Result<Request, String> {
        let mut request = Request::get(text(step, "path")?);
        request.method = step["method"].as_str().unwrap_or("POST").into();
        request.headers = pairs(&step["headers"]);
        let query = self.bindings.fill(&step["query"]);
        for (key, value) in query.as_object().into_iter().flatten() {
            request = request.query(key, value.as_str().ok_or("query value is no text")?);
        }
        request.query.extend(signature(&self.bindings.token, &step["sign"])?);
        request.body = match step.get("body_json") {
            Some(json) => self.bindings.fill(json).to_string().into_bytes(),
            None => payload(&self.bindings.fill(step)),
        };
        Ok(request)
    }

    fn expect_exit(&mut self, step: &Value) -> Check {
        let signalled = self.signalled.ok_or("no signal was sent")?;
        let within = ms(step["within_ms"].as_u64().unwrap_or(8000));
        let code = self
            .server
            .wait_exit(within)
            .ok_or_else(|| format!("the server still runs after {within:?}"))?;
        let took = signalled.elapsed();
        unless(
            step["code"] == code,
            || format!("exit code {}", step["code"]),
            || code.to_string(),
        )?;
        let most = step["max_ms"].as_u64().map_or(Duration::MAX, ms);
        unless(
            took <= most,
            || format!("an exit within {most:?}"),
            || format!("{took:?}"),
        )
    }
}

/// Signature parameters in the way `sign` asks for.
fn signature(token: &str, how: &Value) -> Result<Vec<(String, String)>, String> {
    let signed = |token: &str, timestamp: String, nonce: String| {
        let signature = http::sign(token, &timestamp, &nonce);
        vec![
            ("timestamp".to_owned(), timestamp),
            ("nonce".into(), nonce),
            ("signature".into(), signature),
        ]
    };
    let (now, nonce) = (http::unix_seconds(), http::nonce());
    let mut right = signed(token, now.to_string(), nonce.clone());
    match how {
        Value::Null => return Ok(right),
        Value::String(way) => match way.as_str() {
            "ok" => return Ok(right),
            "none" => return Ok(Vec::new()),
            "wrong_token" => return Ok(signed(&format!("{token}x"), now.to_string(), nonce)),
            "tampered" => {
                let other = if right[2].1.starts_with('0') { "1" } else { "0" };
                right[2].1.replace_range(..1, other);
                return Ok(right);
            }
            _ => {}
        },
        _ => {}
    }
    if let Some(offset) = how["offset_s"].as_i64() {
        return Ok(signed(token, (now + offset).to_string(), nonce));
    }
    if let Some(timestamp) = how["timestamp"].as_str() {
        return Ok(signed(token, timestamp.into(), nonce));
    }
    if let Some(nonce) = how["nonce"].as_str() {
        return Ok(signed(token, now.to_string(), nonce.into()));
    }
    if let Some(key) = how["omit"].as_str() {
        right.retain(|(k, _)| k != key);
        return Ok(right);
    }
    let key = how["empty"].as_str().ok_or_else(|| format!("unknown sign {how}"))?;
    right.iter_mut().filter(|(k, _)| k == key).for_each(|(_, v)| v.clear());
    Ok(right)
}

fn udp_send(step: &Value) -> Check {
    let bytes = match step.get("json") {
        Some(json) => json.to_string().into_bytes(),
        None => unhex(text(step, "hex")?),
    };
    let socket = UdpSocket::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
    let to = ("127.0.0.1", number(step, "port")? as u16);
    socket
        .send_to(&bytes, to)
        .map(drop)
        .map_err(|e| format!("datagram: {e}"))
}

fn opcode(step: &Value) -> Result<Op, String> {
    Ok(match step["opcode"].as_str().unwrap_or("binary") {
        "binary" => Op::Binary,
        "text" => Op::Text,
        "cont" => Op::Continuation,
        "close" => Op::Close,
        "ping" => Op::Ping,
        "pong" => Op::Pong,
        "eof" => Op::Eof,
        other => return Err(format!("unknown opcode {other}")),
    })
}

fn pad(bytes: &mut Vec<u8>, step: &Value, byte: &str, count: &str) {
    let byte = unhex(step[byte].as_str().unwrap_or("00"))[0];
    bytes.resize(bytes.len() + step[count].as_u64().unwrap_or(0) as usize, byte);
}

fn show(frame: &Frame) -> String {
    format!("{:?} {}", frame.op, hex(&frame.payload[..frame.payload.len().min(200)]))
}

fn unless(right: bool, wanted: impl Fn() -> String, got: impl Fn() -> String) -> Check {
    if right {
        Ok(())
    } else {
        Err(format!("expected {}, got {}", wanted(), got()))
    }
}

fn text<'a>(step: &'a Value, key: &str) -> Result<&'a str, String> {
    step[key].as_str().ok_or_else(|| format!("the step has no {key}"))
}

fn number(step: &Value, key: &str) -> Result<u64, String> {
    step[key].as_u64().ok_or_else(|| format!("the step has no {key}"))
}

#[test]
fn every_kind_of_signature() {
    let of = |how: &str| signature("t", &serde_json::from_str(how).unwrap()).unwrap();
    let valid = |q: &[(String, String)]| q[2].1 == http::sign("t", &q[0].1, &q[1].1);
    assert!(valid(&of("null")) && valid(&of(r#""ok""#)) && valid(&of(r#"{"offset_s": -12}"#)));
    assert!(valid(&of(r#"{"nonce": "abc"}"#)) && valid(&of(r#"{"timestamp": "abc"}"#)));
    assert!(!valid(&of(r#""tampered""#)) && !valid(&of(r#""wrong_token""#)) && of(r#""none""#).is_empty());
    assert_eq!(of(r#"{"omit": "nonce"}"#).len(), 2);
    assert_eq!(of(r#"{"empty": "nonce"}"#)[1].1, "");
}
