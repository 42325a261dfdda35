//! A server that says exactly what a test tells it to: blocking sockets, one thread per connection, no HTTP library.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Which connection it came on, counted from 0.
    pub connection: usize,
    /// Up to and with the empty line.
    pub head: String,
    pub body: Vec<u8>,
}

impl Seen {
    /// `GET /path`
    pub fn line(&self) -> &str {
        self.head.split(" HTTP/1.1\r\n").next().unwrap()
    }
}

/// What a script holds of a connection.
pub struct Peer<S: Read + Write = TcpStream> {
    pub stream: S,
    pub connection: usize,
    log: Arc<Mutex<Vec<Seen>>>,
}

impl<S: Read + Write> Peer<S> {
    /// The next request; `None` if the client is gone.
    pub fn request(&mut self) -> Option<Seen> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            match self.stream.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                _ => return None,
            }
        }
        let head = String::from_utf8(head).unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        self.stream.read_exact(&mut body).ok()?;
        let seen = Seen {
            connection: self.connection,
            head,
            body,
        };
        self.log.lock().unwrap().push(seen.clone());
        Some(seen)
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref()).and_then(|()| self.stream.flush());
    }

    /// Answers 200 with `body`, and its length.
    pub fn ok(&mut self, body: &str) {
        self.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
    }
}

pub struct Server {
    pub port: u16,
    connections: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
    log: Arc<Mutex<Vec<Seen>>>,
    stopped: Arc<AtomicBool>,
}

impl Server {
    /// Runs `script` for every connection. It ends when the script returns.
    pub fn start(script: impl Fn(&mut Peer) + Send + Sync + 'static) -> Server {
        Server::start_on(0, script)
    }

    pub fn start_on(port: u16, script: impl Fn(&mut Peer) + Send + Sync + 'static) -> Server {
        Server::start_raw(port, move |stream, connection, log| {
            let mut peer = Peer {
                stream,
                connection,
                log,
            };
            script(&mut peer);
            let _ = peer.stream.shutdown(Shutdown::Write);
        })
    }

    pub fn start_raw(
        port: u16,
        serve: impl Fn(TcpStream, usize, Arc<Mutex<Vec<Seen>>>) + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        let server = Server {
            port: listener.local_addr().unwrap().port(),
            connections: Arc::default(),
            ended: Arc::default(),
            log: Arc::default(),
            stopped: Arc::default(),
        };
        let (log, stopped, connections) = (server.log.clone(), server.stopped.clone(), server.connections.clone());
        let (serve, ended) = (Arc::new(serve), server.ended.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let stream = stream.unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                let connection = connections.fetch_add(1, Ordering::SeqCst);
                let (log, serve, ended) = (log.clone(), serve.clone(), ended.clone());
                std::thread::spawn(move || {
                    serve(stream, connection, log);
                    ended.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        server
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.log.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Waits until that many connections have been ended from this side.
    pub async fn until_ended(&self, count: usize) {
        while self.ended.load(Ordering::SeqCst) < count {
            crate::pause(5).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)); // wakes the accept call
    }
}

/// Serves TLS through `tls` instead; the script sees plaintext.
pub fn start_tls(
    tls: Arc<rustls::ServerConfig>,
    script: impl Fn(&mut Peer<rustls::StreamOwned<rustls::ServerConnection, TcpStream>>) + Send + Sync + 'static,
) -> Server {
    Server::start_raw(0, move |stream, connection, log| {
        let session = rustls::ServerConnection::new(tls.clone()).unwrap();
        let mut peer = Peer {
            stream: rustls::StreamOwned::new(session, stream),
            connection,
            log,
        };
        script(&mut peer);
        peer.stream.conn.send_close_notify();
        let _ = peer.stream.flush();
    })
}
