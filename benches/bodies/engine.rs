//! The engine's tables at the sizes they are built for.

use std::hint::black_box;
use std::io::IoSlice;
use std::time::Duration;

use bytes::Bytes;
use rainbow_server::close::CloseCause;
use rainbow_server::engine::mailbox::{Wake, mailbox};
use rainbow_server::engine::name::Name;
use rainbow_server::engine::outbox::{Outbox, Pool};
use rainbow_server::engine::registry::Members;
use rainbow_server::engine::wheel::Wheel;
use rainbow_server::limits::WHEEL_TICK;
use rainbow_server::metrics::{CoreMetrics, Extra, Labels, render};
use rainbow_server::time::Instant;

use super::{Body, Sizes};

const MEMBERS_PER_CHANNEL: u32 = 10;

pub fn bodies(sizes: Sizes) -> Vec<Body> {
    let mut bodies = vec![outbox(), mail(), mail_and_back(), page()];
    bodies.extend(wheel(sizes.timers));
    bodies.extend(registry(sizes.channels));
    bodies
}

fn outbox() -> Body {
    let (mut outbox, mut pool) = (Outbox::new(), Pool::new());
    let body = Bytes::from(vec![7; 4096]);
    Body::new("outbox 4 frames in, out", move || {
        for _ in 0..3 {
            assert!(outbox.push_copy(black_box(&[1; 70]), 1 << 20, &mut pool).is_ok());
        }
        assert!(outbox.push_shared(b"header", &body, 1 << 20, &mut pool).is_ok());
        let mut slices = [IoSlice::new(&[]); 8];
        assert_eq!(black_box(outbox.slices(&mut slices)), 2);
        outbox.advance(100, &mut pool);
        outbox.advance(usize::MAX, &mut pool);
    })
}

#[derive(Clone)]
struct NoWake;
impl Wake for NoWake {
    fn wake(&self) {}
}

fn mail() -> Body {
    let (mut sender, receiver) = mailbox::<[u64; 4], _>(1024, NoWake);
    Body::new("mailbox 64 posts, drain", move || {
        (0..64).for_each(|number| sender.post([number; 4]));
        sender.kick();
        let mut sum = 0;
        assert_eq!(receiver.drain(64, |mail| sum += mail[0]), 64);
        black_box(sum);
    })
}

/// Both cores on one thread: what the queues cost. What the cache line between two cores costs shows `micro`'s own. The
/// message is of a type of its own, so that the compiler treats the mailbox of [`mail`] as it does a mailbox used once.
fn mail_and_back() -> Body {
    let (mut there, inbox) = mailbox::<[u64; 3], _>(1024, NoWake);
    let (mut back, answers) = mailbox::<[u64; 3], _>(1024, NoWake);
    Body::new("mailbox round trip, one thread", move || {
        there.post(black_box([1; 3]));
        there.kick();
        let mut got = None;
        inbox.drain(64, |mail| got = Some(mail));
        back.post(got.take().unwrap_or_default());
        back.kick();
        answers.drain(64, |mail| got = Some(mail));
        assert_eq!(black_box(got), Some([1; 3]));
    })
}

fn page() -> Body {
    let labels = Labels {
        close_causes: &CloseCause::LABELS,
        api_routes: &["send", "sub", "unsub"],
    };
    let cores: Vec<_> = (0..9)
        .map(|core| CoreMetrics::new(format!("shard-{core}"), labels))
        .collect();
    Body::new("metrics page, 9 cores", move || {
        let cores: Vec<&CoreMetrics> = cores.iter().collect();
        let extra = Extra {
            uptime: Duration::from_secs(1),
            callbacks: &[],
            gauges: &[],
        };
        black_box(render(&cores, extra));
    })
}

/// Timers spread over a minute, as keep-alives and retries are.
fn filled(timers: u32) -> Wheel<u32> {
    let mut wheel = Wheel::new();
    for timer in 0..timers {
        wheel.insert(
            Instant::from_micros(u64::from(timer.wrapping_mul(2_654_435_761)) % 60_000_000),
            timer,
        );
    }
    wheel
}

fn wheel(timers: u32) -> Vec<Body> {
    let mut crowded = filled(timers);
    let (mut turning, mut now, mut fired) = (filled(timers), 0, Vec::new());
    vec![
        Body::new("wheel insert, cancel", move || {
            let timer = crowded.insert(black_box(Instant::from_micros(3_000_000)), 1);
            assert!(crowded.cancel(timer));
        }),
        // The wheel keeps its size: whatever fires is armed again a minute later.
        Body::new("wheel tick, re-arm", move || {
            now += WHEEL_TICK.as_micros() as u64;
            turning.advance(Instant::from_micros(now), usize::MAX, &mut fired);
            for timer in fired.drain(..) {
                turning.insert(Instant::from_micros(now + 60_000_000), timer);
            }
        }),
    ]
}

fn registry(channels: u32) -> Vec<Body> {
    let names: Vec<Name> = (0..channels)
        .map(|channel| Name::channel(format!("channel-{channel}").as_bytes()))
        .collect();
    let mut members = Members::new(1);
    for (number, name) in names.iter().enumerate() {
        for member in 0..MEMBERS_PER_CHANNEL {
            members.join(number as u32 * MEMBERS_PER_CHANNEL + member, name);
        }
    }
    let members = std::rc::Rc::new(std::cell::RefCell::new(members));
    let newcomer = channels * MEMBERS_PER_CHANNEL;
    let (tables, mine, mut turn, mut walk) = (members.clone(), names.clone(), 0usize, 0usize);
    vec![
        Body::new("registry join, leave", move || {
            turn = (turn + 7919) % mine.len();
            let mut members = tables.borrow_mut();
            black_box(members.join(newcomer, &mine[turn]));
            black_box(members.leave(newcomer, &mine[turn]));
        }),
        Body::new("registry members of a channel", move || {
            walk = (walk + 7919) % names.len();
            let members = members.borrow();
            let sum: u32 = members
                .members(&names[walk])
                .unwrap_or_default()
                .iter()
                .map(|member| member.slot())
                .sum();
            black_box(sum);
        }),
    ]
}
