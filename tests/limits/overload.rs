//! Several measures against too much at once, and mail that finds no room.

use super::common::business::{Business, Mode, Reply};
use super::common::client::{Client, Op, Open, encode};
use super::common::http::{self, Request};
use super::common::server::Builder;
use super::common::{SOON, eventually, ms, not_run, packet};
use super::{Server, metric, refused, setup};
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How long what takes many steps may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);

/// What has been done so far: clients not read, connections refused, URLs only probed, clients closed as too slow.
fn measures(server: &Server) -> [bool; 4] {
    let series = [
        "rainbow_reads_paused",
        "rainbow_refused_total{reason=\"connections\"}",
        "rainbow_callback_breaker_opens_total",
        "rainbow_closes_total{cause=\"slow_consumer\"}",
    ];
    series.map(|name| metric(server, name) > 0)
}

/// Each is taken where it is needed, and those who have nothing to do with it are served as ever.
#[test]
fn no_measure_brings_the_next_about() {
    let (business, server) = setup(|b| {
        b.set("workers", 1)
            .set("connections_max", 32)
            .set("breaker_failures", 5)
            .set("forward_queue", 2)
            .set("callback_timeout", 60)
            .set("outbox_bytes", "256k")
    });
    let start = || Client::start(server.port(), Open::default()).expect("connect");
    let calm = start().let_in();
    let expect_calm = |text: &str| {
        assert_eq!(server.send("room", 0, text)["status"], 0);
        assert_eq!(calm.expect_send(SOON).1, text.as_bytes());
        calm.send(&packet::send(1, 8, 1, text));
        calm.expect(Op::Binary, &packet::ack(1, "ok"));
    };
    business.reply("/message/9/", Reply::ok("").mode(Mode::Hang));
    let busy = start().let_in();
    (0..10).for_each(|_| busy.send(&packet::send(0, 9, 0, "hangs")));
    assert!(eventually(SOON, || measures(&server)[0]));
    expect_calm("one client is not read");
    assert_eq!(measures(&server), [true, false, false, false]);

    let lazy = Open {
        read: false,
        receive_buffer: Some(4096),
        ..Open::default()
    };
    let lazy = Client::open_with(server.port(), lazy);
    let mut others: Vec<Client> = (0..27).map(|_| start().let_in()).collect();
    refused(&start());
    expect_calm("the server is full");
    assert_eq!(measures(&server), [true, true, false, false]);

    others.clear();
    business.reply("/connect/", Reply::ok("").status(503));
    let down = eventually(PATIENCE, || {
        let answer = start().answer(SOON).expect("answer");
        assert_eq!(answer.status, 503);
        measures(&server)[2]
    });
    assert!(down);
    expect_calm("nobody can be let in");
    assert_eq!(measures(&server), [true, true, true, false]);

    let body = vec![b'f'; 200 * 1024];
    let closed = eventually(PATIENCE, || {
        assert_eq!(server.send("room", 0, &body)["status"], 0);
        assert_eq!(calm.expect_send(SOON).1.len(), body.len());
        measures(&server)[3]
    });
    assert!(closed);
    assert!(lazy.write_fails_within(SOON));
    expect_calm("one client was closed");
    let pushed = busy.expect_send(SOON).1;
    assert_eq!(pushed, b"one client is not read", "it is not read, but written to");
}

/// Stops one thread as a debugger does, until its input ends.
const HOLD: &str = "import ctypes, os, sys
libc, thread = ctypes.CDLL(None), int(sys.argv[1])
ATTACH, DETACH, WALL = 16, 17, 0x40000000
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
if libc.ptrace(ATTACH, thread, None, None) != 0: sys.exit('not allowed')
os.waitpid(thread, WALL)
print('held', flush=True)
sys.stdin.read()
libc.ptrace(DETACH, thread, None, None)";

/// Holds the control core of a server until the returned process has its input closed; why that cannot be done here.
fn hold_control(server: &Server) -> Result<Child, &'static str> {
    let tasks = format!("/proc/{}/task", server.pid());
    let name_of = |task: &str| std::fs::read_to_string(format!("{tasks}/{task}/comm")).unwrap_or_default();
    let control = std::fs::read_dir(&tasks)
        .expect("tasks")
        .filter_map(|task| task.ok()?.file_name().into_string().ok())
        .find(|task| name_of(task).trim() == "control")
        .ok_or("the control core has no thread of its own")?;
    let mut holder = Command::new("python3")
        .args(["-c", HOLD, &control])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|_| "there is no python3")?;
    let mut said = [0; 4];
    let out = holder.stdout.as_mut().expect("its output");
    match out.read_exact(&mut said) {
        Ok(()) => Ok(holder),
        Err(_) => {
            let _ = holder.wait();
            Err("no thread may be stopped (ptrace)")
        }
    }
}

/// The control core stands still, so the mailbox to it fills.
#[test]
fn a_full_mailbox_stops_reading_and_loses_nothing() {
    const MESSAGES: usize = 40_000;
    const MAILBOX: usize = 16_384;
    let business = Business::start();
    business.reply("/message/", Reply::ok("").mode(Mode::Hang));
    let server = Builder::new(&business)
        .set("workers", 1)
        .set("forward_queue", MESSAGES)
        .set("forward_queue_bytes", "1000m")
        .set("callback_concurrency", 1)
        .set("callback_timeout", 60)
        .start();
    let client = Client::open(server.port());
    let mut holder = match hold_control(&server) {
        Ok(holder) => holder,
        Err(why) => return not_run(why),
    };
    let hello = || http::call(server.port(), &Request::get("/hello/"), ms(1500));
    assert!(hello().is_err(), "the control core stands still");

    let mut writer = client.write_half();
    writer
        .set_write_timeout(Some(Duration::from_secs(90)))
        .expect("timeout");
    let frame = encode(Op::Binary, &packet::send(0, 7, 0, [b'm'; 1024]), true, true);
    let written = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..MESSAGES {
                if writer.write_all(&frame).is_err() {
                    return;
                }
                written.fetch_add(1, Ordering::SeqCst);
            }
        });
        // It stands still: the socket is not read any more.
        let mut before = 0;
        let stands_still = || {
            let now = written.load(Ordering::SeqCst);
            std::thread::sleep(ms(1000));
            let still = now >= MAILBOX && now == before && now == written.load(Ordering::SeqCst);
            before = now;
            still
        };
        assert!(eventually(PATIENCE, stands_still));
        let stopped_at = written.load(Ordering::SeqCst);
        drop(holder.stdin.take());
        assert!(holder.wait().expect("wait").success(), "the control core goes on");
        assert!(stopped_at < MESSAGES, "all is read, whatever became of it");
    });
    let submitted = "rainbow_callbacks_total{kind=\"message\",event=\"submitted\"}";
    assert!(
        eventually(PATIENCE, || metric(&server, submitted) == MESSAGES as u64),
        "{} messages came through",
        metric(&server, submitted)
    );
    assert!(metric(&server, "rainbow_mailbox_overflows_total") >= 1);
}
