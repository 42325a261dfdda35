//! Wall-clock time of the parts (criterion): `cargo bench --bench micro [-- NAME]`. One core is saturated by the body; the
//! tables have the sizes they are built for. The two-thread mailbox is here only: its time is that of the cache line between
//! two cores, which no instruction count shows.

mod bodies;

use std::sync::Arc;
use std::thread::Thread;
use std::time::{Duration, Instant};

use criterion::Criterion;
use rainbow_server::engine::mailbox::{Receiver, Sender, Wake, mailbox};

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(30)
        .configure_from_args();
    for mut body in bodies::all(bodies::SIZES) {
        criterion.bench_function(body.name, |bencher| bencher.iter(&mut body.run));
    }
    criterion.bench_function("mailbox round trip, two threads", |bencher| {
        bencher.iter_custom(round_trips)
    });
    criterion.final_summary();
}

/// Wakes a thread that parks.
#[derive(Clone)]
struct Unpark(Arc<std::sync::OnceLock<Thread>>);

impl Wake for Unpark {
    fn wake(&self) {
        if let Some(thread) = self.0.get() {
            thread.unpark();
        }
    }
}

fn pair() -> (Sender<u64, Unpark>, Receiver<u64>, Unpark) {
    let wake = Unpark(Arc::default());
    let (sender, receiver) = mailbox(64, wake.clone());
    (sender, receiver, wake)
}

/// Time of so many messages there and back.
fn round_trips(count: u64) -> Duration {
    let (mut there, inbox, wake_there) = pair();
    let (mut back, answers, wake_back) = pair();
    let _ = wake_back.0.set(std::thread::current());
    let echo = std::thread::spawn(move || {
        let _ = wake_there.0.set(std::thread::current());
        for _ in 0..count {
            back.post(wait(&inbox));
            back.kick();
        }
    });
    let start = Instant::now();
    for number in 0..count {
        there.post(number);
        there.kick();
        assert_eq!(wait(&answers), number);
    }
    let took = start.elapsed();
    assert!(echo.join().is_ok());
    took
}

fn wait(receiver: &Receiver<u64>) -> u64 {
    let mut got = None;
    loop {
        receiver.drain(1, |number| got = Some(number));
        if let Some(number) = got {
            return number;
        }
        if receiver.prepare_sleep() {
            std::thread::park_timeout(Duration::from_millis(1));
            receiver.cancel_sleep();
        }
    }
}
