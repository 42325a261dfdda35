use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use monoio::{FusionDriver, LegacyDriver, RuntimeBuilder};

use super::line::Line;
use super::*;

fn on_core(test: impl AsyncFn(Client)) {
    let mut runtime = RuntimeBuilder::<FusionDriver>::new().enable_timer().build().unwrap();
    runtime.block_on(async { test(Client::start(&Options::default()).unwrap()).await });
    drop(runtime);
    let mut runtime = RuntimeBuilder::<LegacyDriver>::new().enable_timer().build().unwrap();
    runtime.block_on(async { test(Client::start(&Options::default()).unwrap()).await });
}

fn post(url: &str, body: &'static [u8]) -> Request {
    Request {
        url: Url::parse(url.as_bytes()).unwrap(),
        method: Method::POST,
        headers: Bytes::new(),
        content_type: FORM,
        body: Bytes::from_static(body),
    }
}

/// Both ends of a connection.
fn pair() -> (Conn, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    ours.set_nonblocking(true).unwrap();
    let line = Line::new(monoio::net::TcpStream::from_std(ours).unwrap());
    (Conn::plain(line), listener.accept().unwrap().0)
}

/// What becomes of a POST on a connection of which `peer` has the other end.
async fn fate(client: &Client, peer: impl FnOnce(TcpStream) + Send + 'static, before: bool) -> Result<u16, Broken> {
    let (conn, theirs) = pair();
    let peer = std::thread::spawn(move || peer(theirs));
    if before {
        while !peer.is_finished() {
            monoio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let request = post("http://127.0.0.1/", b"hello");
    let result = client.0.exchange(conn, &request, true).await;
    result.map(|reply| reply.status)
}

#[test]
fn the_future_of_a_call_stays_small() {
    on_core(async |client| {
        let size = size_of_val(&client.call(post("http://127.0.0.1/", b""), Instant::now()));
        assert!(size < 3 * 1024, "{size} bytes for every callback in flight");
    });
}

/// The end crossed the request: the server's kernel refuses what its process cannot read any more.
#[test]
fn a_request_that_meets_a_closed_connection_was_never_read() {
    on_core(async |client| {
        assert_eq!(fate(&client, drop, true).await, Err(Broken::Unread));
    });
}

/// It may have been acted upon as soon as any of it may have been read, whatever became of the connection then.
#[test]
fn a_request_that_may_have_been_read_counts_as_read() {
    on_core(async |client| {
        let read_and_closed = |mut peer: TcpStream| {
            let _ = peer.read(&mut [0; 4096]);
        };
        assert_eq!(fate(&client, read_and_closed, false).await, Err(Broken::Silent));
        let read_a_part_and_reset = |mut peer: TcpStream| {
            let _ = peer.read(&mut [0; 10]);
        };
        assert_eq!(fate(&client, read_a_part_and_reset, false).await, Err(Broken::Silent));
        let says_no_more_but_reads = |mut peer: TcpStream| {
            peer.shutdown(Shutdown::Write).unwrap();
            let _ = peer.read(&mut [0; 4096]);
            std::thread::sleep(Duration::from_millis(100));
        };
        assert_eq!(fate(&client, says_no_more_but_reads, false).await, Err(Broken::Silent));
    });
}

#[test]
fn an_answer_before_the_request_was_read_is_an_answer() {
    on_core(async |client| {
        let refuse = |mut peer: TcpStream| {
            let _ = peer.read(&mut [0; 10]);
            let _ = peer.write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n");
        };
        for _ in 0..20 {
            assert_eq!(fate(&client, refuse, false).await, Ok(413));
        }
    });
}
