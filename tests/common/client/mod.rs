//! A raw websocket client: it can send what a correct client never would, and shows exactly what the server sent.
//!
//! A reader thread takes the answer of the upgrade and then frames into a channel; the test's thread writes.

mod wire;

pub use wire::{Frame, Op, encode};

use super::http::Response;
use super::{SOON, excerpt, packet};
use crossbeam_channel::{Receiver, Sender, unbounded};
use socket2::{Domain, SockRef, Socket, Type};
use std::io::{self, BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use wire::{read_answer, read_frame, upgrade_head};

/// How to open.
#[derive(Clone)]
pub struct Open {
    pub target: String,
    pub headers: Vec<(String, String)>,
    /// Adds the usual upgrade headers.
    pub upgrade: bool,
    /// Answers pings.
    pub auto_pong: bool,
    /// False: nothing is read after the answer of the upgrade.
    pub read: bool,
    /// Receive buffer of the socket in bytes.
    pub receive_buffer: Option<usize>,
    /// Written in front of the upgrade request in the same segment; must be answered with 200.
    pub behind: Option<Vec<u8>>,
}

impl Open {
    /// The usual request with this device id.
    pub fn device(id: &str) -> Self {
        let mut open = Self::default();
        open.headers[0].1 = id.into();
        open
    }

    /// Of one that reads nothing and has little room for what it is sent.
    pub fn lazy() -> Self {
        Self {
            read: false,
            receive_buffer: Some(4096),
            auto_pong: false,
            ..Self::device("lazy")
        }
    }
}

impl Default for Open {
    fn default() -> Self {
        let headers = [("X-DEVICEID", "dev-1"), ("X-CLIENT-OS", "ios7")];
        Self {
            target: "/connect/".into(),
            headers: headers.map(|(k, v)| (k.into(), v.into())).to_vec(),
            upgrade: true,
            auto_pong: true,
            read: true,
            receive_buffer: None,
            behind: None,
        }
    }
}

/// A client connection.
pub struct Client {
    stream: TcpStream,
    writer: Arc<Mutex<TcpStream>>,
    reader: Option<JoinHandle<()>>,
    answer: Receiver<io::Result<Response>>,
    answered: OnceLock<(Response, Instant)>,
    frames: Receiver<Frame>,
    accept: String,
}

impl Client {
    /// Opens like a well-behaved client and expects to be let in.
    pub fn open(port: u16) -> Self {
        Self::open_with(port, Open::default())
    }

    /// Opens and expects 101.
    pub fn open_with(port: u16, open: Open) -> Self {
        Self::start(port, open).expect("connect to the server").let_in()
    }

    /// Expects 101.
    pub fn let_in(self) -> Self {
        let answer = self.answer(Duration::from_secs(20)).expect("answer to the upgrade");
        assert_eq!(answer.status, 101, "upgrade refused: {}", answer.text());
        assert!(
            self.accept_is_right(),
            "wrong Sec-WebSocket-Accept in {:?}",
            answer.headers
        );
        self
    }

    /// Connects and sends the upgrade request without waiting for the answer.
    pub fn start(port: u16, open: Open) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        if let Some(bytes) = open.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
        Self::start_on(TcpStream::from(socket), port, open)
    }

    /// Sends the upgrade request on an open connection without waiting for the answer.
    pub fn start_on(stream: TcpStream, port: u16, open: Open) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(None)?;
        stream.set_write_timeout(Some(Duration::from_secs(20)))?;
        let (head, accept) = upgrade_head(port, &open);
        (&stream).write_all(&[open.behind.as_deref().unwrap_or_default(), &head].concat())?;
        let (answers, answer) = unbounded();
        let (sender, frames) = unbounded();
        let writer = Arc::new(Mutex::new(stream.try_clone()?));
        let (source, pong) = (stream.try_clone()?, open.auto_pong.then(|| Arc::clone(&writer)));
        let reader = std::thread::spawn(move || read_all(source, &open, pong, &answers, &sender));
        Ok(Self {
            stream,
            writer,
            reader: Some(reader),
            answer,
            answered: OnceLock::new(),
            frames,
            accept,
        })
    }

    /// The answer to the upgrade request.
    pub fn answer(&self, within: Duration) -> io::Result<Response> {
        self.answer_at(within).map(|(answer, _)| answer)
    }

    /// The answer to the upgrade request and when it was read.
    pub fn answer_at(&self, within: Duration) -> io::Result<(Response, Instant)> {
        if let Some(answered) = self.answered.get() {
            return Ok(answered.clone());
        }
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no answer to the upgrade in time");
        let answer = self.answer.recv_timeout(within).map_err(late)??;
        Ok(self.answered.get_or_init(|| (answer, Instant::now())).clone())
    }

    /// True when `Sec-WebSocket-Accept` belongs to our key.
    pub fn accept_is_right(&self) -> bool {
        self.answered
            .get()
            .is_some_and(|(answer, _)| answer.header("sec-websocket-accept") == Some(&self.accept))
    }

    /// The next frame, None when there is none within the time.
    pub fn next(&self, within: Duration) -> Option<Frame> {
        self.frames.recv_timeout(within).ok()
    }

    /// Expects this frame next.
    pub fn expect(&self, op: Op, payload: &[u8]) -> Frame {
        let frame = self
            .next(SOON)
            .unwrap_or_else(|| panic!("expected {op:?} {}, got nothing", excerpt(payload, 60)));
        let same = frame.op == op && frame.payload == payload;
        let got = excerpt(&frame.payload, 60);
        assert!(
            same,
            "expected {op:?} {}, got {:?} {got}",
            excerpt(payload, 60),
            frame.op
        );
        frame
    }

    /// Expects one packet of the server next.
    pub fn packet(&self, within: Duration) -> packet::Packet {
        let frame = self
            .next(within)
            .unwrap_or_else(|| panic!("expected a packet within {within:?}, got nothing"));
        let packet = (frame.op == Op::Binary)
            .then(|| packet::Packet::decode(&frame.payload))
            .flatten();
        packet.unwrap_or_else(|| panic!("expected a packet, got {:?} {}", frame.op, excerpt(&frame.payload, 60)))
    }

    /// Expects a SEND next and returns its id and payload.
    pub fn expect_send(&self, within: Duration) -> (Option<u16>, Vec<u8>) {
        match self.packet(within) {
            packet::Packet::Send { id, payload, .. } => (id, payload),
            other => panic!("expected a SEND, got {other:?}"),
        }
    }

    /// Skips everything up to the end of the stream; None when it does not end within the time.
    pub fn until_eof(&self, within: Duration) -> Option<Vec<Frame>> {
        let (end, mut frames) = (Instant::now() + within, Vec::new());
        loop {
            let frame = self.next(end.saturating_duration_since(Instant::now()))?;
            if frame.op == Op::Eof {
                return Some(frames);
            }
            frames.push(frame);
        }
    }

    /// Expects no frame for that long.
    pub fn expect_silence(&self, time: Duration) {
        if let Some(frame) = self.next(time) {
            panic!(
                "expected no frame for {time:?}, got {:?} {}",
                frame.op,
                excerpt(&frame.payload, 60)
            );
        }
    }

    /// Sends one binary message.
    pub fn send(&self, payload: &[u8]) {
        self.frame(Op::Binary, payload);
    }

    /// Sends one masked, final frame; errors are ignored (the server may have closed).
    pub fn frame(&self, op: Op, payload: &[u8]) {
        let _ = self.raw(&encode(op, payload, true, true));
    }

    /// Writes bytes as they are.
    pub fn raw(&self, bytes: &[u8]) -> io::Result<()> {
        self.writer.lock().expect("writer lock").write_all(bytes)
    }

    /// A handle for writing from another thread.
    pub fn write_half(&self) -> TcpStream {
        self.stream.try_clone().expect("clone the socket")
    }

    /// Ends the TCP connection without a close frame.
    pub fn drop_now(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Ends only our direction.
    pub fn half_close(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Ends the TCP connection with a reset.
    pub fn reset(mut self) {
        SockRef::from(&self.stream)
            .set_linger(Some(Duration::ZERO))
            .expect("linger");
        let _ = self.stream.shutdown(Shutdown::Read);
        let _ = self.reader.take().map(JoinHandle::join);
    }

    /// True when the server has closed the connection by now (for clients that do not read).
    pub fn write_fails_within(&self, within: Duration) -> bool {
        super::eventually(within, || self.raw(&encode(Op::Pong, b"", true, true)).is_err())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if self.reader.is_some() {
            let _ = self.stream.shutdown(Shutdown::Both);
        }
    }
}

fn read_all(
    source: TcpStream,
    how: &Open,
    pong: Option<Arc<Mutex<TcpStream>>>,
    answers: &Sender<io::Result<Response>>,
    frames: &Sender<Frame>,
) {
    let mut source = BufReader::with_capacity(if how.read { 65536 } else { 1 }, source);
    let first = how.behind.as_ref().map(|_| read_answer(&mut source));
    let answer = match first {
        Some(Ok(first)) if first.status != 200 => Ok(first),
        Some(Err(error)) => Err(error),
        _ => read_answer(&mut source),
    };
    let open = answer.as_ref().is_ok_and(|a| a.status == 101);
    let _ = answers.send(answer);
    if !how.read {
        return;
    }
    while open && let Ok(frame) = read_frame(&mut source) {
        if let (Op::Ping, Some(writer)) = (frame.op, &pong) {
            let _ = writer
                .lock()
                .expect("writer lock")
                .write_all(&encode(Op::Pong, &frame.payload, true, true));
        }
        if frames.send(frame).is_err() {
            return;
        }
    }
    let _ = frames.send(Frame {
        op: Op::Eof,
        payload: Vec::new(),
        at: Instant::now(),
    });
}
