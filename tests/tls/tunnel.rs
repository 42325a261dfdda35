//! A local port whose connections continue over TLS, so that the ordinary clients of the harness speak TLS without knowing.
//!
//! Each connection has two threads that share the TLS session under a lock; neither reads from a socket while it holds it.

use super::authority::connect;
use rustls::{ClientConfig, ClientConnection};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Runs until the tests end.
pub struct Tunnel {
    pub port: u16,
}

impl Tunnel {
    /// To `target`, as a client of `name`.
    pub fn start(target: u16, config: Arc<ClientConfig>, name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = listener.local_addr().expect("address").port();
        std::thread::spawn(move || {
            for local in listener.incoming().flatten() {
                let config = config.clone();
                std::thread::spawn(move || carry(local, target, &config, name));
            }
        });
        Self { port }
    }
}

fn carry(local: TcpStream, target: u16, config: &Arc<ClientConfig>, name: &str) {
    let _ = local.set_nodelay(true);
    let Ok(secure) = connect(target, config, name) else {
        let _ = local.shutdown(Shutdown::Both);
        return;
    };
    let (session, remote) = (Arc::new(Mutex::new(secure.conn)), secure.sock);
    let _ = remote.set_read_timeout(None);
    let clones = (
        session.clone(),
        remote.try_clone().expect("clone"),
        local.try_clone().expect("clone"),
    );
    std::thread::spawn(move || outward(&clones.0, clones.1, clones.2));
    inward(&session, remote, local);
}

/// Plain bytes of the local client → the server.
fn outward(session: &Mutex<ClientConnection>, mut remote: TcpStream, mut local: TcpStream) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = local.read(&mut buffer).unwrap_or(0);
        let mut session = session.lock().expect("session");
        match count {
            0 => session.send_close_notify(),
            count => session
                .writer()
                .write_all(&buffer[..count])
                .expect("room in the session"),
        }
        while session.wants_write() {
            if session.write_tls(&mut remote).is_err() {
                let _ = local.shutdown(Shutdown::Both);
                return;
            }
        }
        if count == 0 {
            let _ = remote.shutdown(Shutdown::Write);
            return;
        }
    }
}

/// Records of the server → plain bytes.
fn inward(session: &Mutex<ClientConnection>, mut remote: TcpStream, mut local: TcpStream) {
    let (mut buffer, mut plain) = (vec![0; 16 * 1024], Vec::new());
    loop {
        let count = remote.read(&mut buffer).unwrap_or(0);
        plain.clear();
        let mut ended = count == 0;
        {
            let mut session = session.lock().expect("session");
            let mut rest = &buffer[..count];
            while !rest.is_empty() && !ended {
                ended = session.read_tls(&mut rest).unwrap_or(0) == 0 || session.process_new_packets().is_err();
                // WouldBlock: all read.
                let _ = session.reader().read_to_end(&mut plain);
            }
        }
        if local.write_all(&plain).is_err() || ended {
            let _ = local.shutdown(Shutdown::Write);
            // What the client still sends goes on until the server has closed.
            return if count == 0 {
                drop(local.shutdown(Shutdown::Both))
            } else {
                drain(remote, &local)
            };
        }
    }
}

/// Waits for the end of a connection whose TLS session has ended.
fn drain(mut remote: TcpStream, local: &TcpStream) {
    let mut buffer = [0; 1024];
    while remote.read(&mut buffer).is_ok_and(|count| count > 0) {}
    let _ = local.shutdown(Shutdown::Both);
}
