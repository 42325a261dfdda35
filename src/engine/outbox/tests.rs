//! What an outbox keeps, in which order, and what it lets go.

use proptest::prelude::*;

use super::*;

const BOUND: usize = 10_000;

/// Everything waiting, seen through as many slices as needed.
fn contents(outbox: &Outbox) -> Vec<u8> {
    let mut slices = [IoSlice::new(&[]); 64];
    let used = outbox.slices(&mut slices);
    assert!(used < slices.len());
    slices[..used].iter().flat_map(|slice| slice.to_vec()).collect()
}

#[test]
fn an_idle_outbox_is_a_pointer() {
    assert_eq!(size_of::<Outbox>(), 8);
}

#[test]
fn a_small_body_joins_its_header_and_a_large_one_is_shared() {
    let (mut outbox, mut pool) = (Outbox::new(), Pool::new());
    let small = Bytes::from(vec![1; OUTBOX_COPY_BYTES_MAX]);
    let large = Bytes::from(vec![2; OUTBOX_COPY_BYTES_MAX + 1]);
    outbox.push_shared(b"h", &small, BOUND, &mut pool).unwrap();
    outbox.push_shared(b"i", &large, BOUND, &mut pool).unwrap();
    outbox.push_copy(b"end", BOUND, &mut pool).unwrap();
    let mut slices = [IoSlice::new(&[]); 8];
    assert_eq!(outbox.slices(&mut slices), 3);
    assert_eq!(slices[0].len(), OUTBOX_COPY_BYTES_MAX + 2);
    assert_eq!(slices[1].as_ptr(), large.as_ptr());
    assert_eq!(&*slices[2], b"end");
    assert_eq!(outbox.slices(&mut []), 0);
}

#[test]
fn a_full_outbox_takes_control_frames_only() {
    let (mut outbox, mut pool) = (Outbox::new(), Pool::new());
    outbox.push_copy(&[0; BOUND - 1], BOUND, &mut pool).unwrap();
    let body = Bytes::from(vec![1; 5000]);
    outbox
        .push_shared(b"h", &body, BOUND, &mut pool)
        .expect("below the bound: one whole frame more");
    assert_eq!(outbox.push_copy(b"x", BOUND, &mut pool), Err(Full));
    assert_eq!(outbox.push_shared(b"x", &body, BOUND, &mut pool), Err(Full));
    let len = outbox.len_bytes();
    assert_eq!(len, BOUND + 5000);
    for _ in 0..CONTROL_BYTES_MAX / 128 {
        outbox.push_control(&[9; 128], &mut pool).unwrap();
    }
    assert_eq!(outbox.push_control(&[9], &mut pool), Err(Full));
    outbox.advance(128, &mut pool);
    assert_eq!(outbox.push_control(&[9; 128], &mut pool), Ok(()));
    assert_eq!(
        outbox.len_bytes(),
        len + CONTROL_BYTES_MAX,
        "what left makes room for as much"
    );
}

#[test]
fn buffers_are_recycled_but_not_hoarded() {
    let (mut outbox, mut pool) = (Outbox::new(), Pool::new());
    outbox.push_copy(b"abc", BOUND, &mut pool).unwrap();
    let at = contents_at(&outbox);
    outbox.advance(3, &mut pool);
    assert!(outbox.is_empty() && pool.spare.len() == 1);
    outbox.push_copy(b"def", BOUND, &mut pool).unwrap();
    assert_eq!(contents_at(&outbox), at);
    outbox.push_copy(&vec![0; 1 << 20], BOUND, &mut pool).unwrap();
    outbox.clear(&mut pool);
    assert_eq!(pool.spare[0].copied.capacity(), 0);
    let mut many: Vec<_> = (0..POOL_QUEUES_MAX + 10).map(|_| Outbox::new()).collect();
    many.iter_mut()
        .for_each(|one| one.push_copy(b"x", 1, &mut pool).unwrap());
    many.iter_mut().for_each(|one| one.advance(1, &mut pool));
    assert_eq!(pool.spare.len(), POOL_QUEUES_MAX);
}

fn contents_at(outbox: &Outbox) -> *const u8 {
    let mut slices = [IoSlice::new(&[])];
    assert_eq!(outbox.slices(&mut slices), 1);
    slices[0].as_ptr()
}

#[test]
fn a_queue_that_never_drains_does_not_grow() {
    let (mut outbox, mut pool) = (Outbox::new(), Pool::new());
    for _ in 0..10_000 {
        outbox.push_copy(&[7; 150], BOUND, &mut pool).unwrap();
        outbox.advance(outbox.len_bytes() - 10, &mut pool);
    }
    assert!(outbox.0.unwrap().copied.capacity() < 4 * COMPACT_BYTES_MIN);
}

fn second(n: u64) -> Instant {
    Instant::from_micros(n * 1_000_000)
}

#[test]
fn the_oldest_droppable_units_go_and_begun_ones_stay() {
    let (mut outbox, mut pool) = (Outbox::new(), Pool::new());
    let large = |byte: u8| Bytes::from(vec![byte; 5000]);
    let mut push = |outbox: &mut Outbox, body: Bytes, droppable, at| {
        outbox.push_shared(b"", &body, usize::MAX, &mut pool).unwrap();
        outbox.tag(body.len(), droppable, second(at));
    };
    push(&mut outbox, large(1), true, 1);
    push(&mut outbox, large(2), true, 2);
    push(&mut outbox, Bytes::from_static(b"kept"), false, 3);
    push(&mut outbox, large(4), true, 4);
    let mut pool = Pool::new();
    outbox.advance(1, &mut pool);
    assert_eq!(outbox.waiting_since(), Some(second(1)));
    assert_eq!(outbox.drop_oldest(20_000, Instant::ZERO, &mut pool), 0);
    assert_eq!(outbox.drop_oldest(10_100, Instant::ZERO, &mut pool), 5000);
    let expected = [&[1; 4999][..], b"kept", &[4; 5000]].concat();
    assert_eq!(contents(&outbox), expected);
    assert_eq!(
        outbox.drop_oldest(usize::MAX, second(4), &mut pool),
        0,
        "kept or begun or not older"
    );
    assert_eq!(outbox.drop_oldest(0, Instant::ZERO, &mut pool), 5000);
    outbox.advance(4999, &mut pool);
    assert_eq!(contents(&outbox), b"kept");
    assert_eq!(outbox.waiting_since(), Some(second(3)));
}

#[test]
fn dropping_everything_empties_the_outbox() {
    let (mut outbox, mut pool) = (Outbox::new(), Pool::new());
    outbox.push_copy(b"abc", BOUND, &mut pool).unwrap();
    outbox.tag(3, true, second(1));
    assert_eq!(outbox.drop_oldest(0, Instant::ZERO, &mut pool), 3);
    assert!(outbox.is_empty());
}

#[test]
fn a_full_outbox_has_few_units() {
    let (mut outbox, mut pool) = (Outbox::new(), Pool::new());
    for n in 0..20_000 {
        outbox.push_copy(&[7; 100], usize::MAX, &mut pool).unwrap();
        outbox.tag(100, n >= 10_000, Instant::from_micros(n * 300));
    }
    let units = outbox.0.unwrap().units.len();
    assert!(units <= 3 + 10_000 / (UNIT_BYTES / 100), "{units} units");
}

#[derive(Clone, Debug)]
enum Op {
    DropOldest(usize),
    Copy(usize, bool),
    Shared(usize, usize, bool),
    Control(usize),
    Advance(usize),
    Clear,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        1 => (0..BOUND).prop_map(Op::DropOldest),
        4 => (0..300usize, any::<bool>()).prop_map(|(len, tag)| Op::Copy(len, tag)),
        4 => (0..20usize, 0..4000usize, any::<bool>()).prop_map(|(header, body, tag)| Op::Shared(header, body, tag)),
        2 => (0..140usize).prop_map(Op::Control),
        8 => prop_oneof![0..10usize, 0..5000usize, Just(usize::MAX)].prop_map(Op::Advance),
        1 => Just(Op::Clear),
    ]
}

proptest! {
    #[test]
    fn behaves_like_a_queue_of_bytes(ops in prop::collection::vec(op(), 1..150)) {
        let (mut outbox, mut pool, mut twin) = (Outbox::new(), Pool::new(), VecDeque::new());
        let mut next = 0u8;
        let mut frame = |len: usize| -> Vec<u8> {
            (0..len).map(|_| { next = next.wrapping_mul(5).wrapping_add(3); next }).collect()
        };
        let mut largest = 0;
        for op in ops {
            let room = twin.len() < BOUND;
            match op {
                Op::DropOldest(keep) => {
                    // The twin does not know what may be dropped: what is left must be a subsequence of it, the first
                    // byte in place if one of its frame has left.
                    let before = contents(&outbox);
                    let dropped = outbox.drop_oldest(keep, Instant::ZERO, &mut pool);
                    let after = contents(&outbox);
                    prop_assert_eq!(before.len() - dropped, after.len());
                    let mut rest = before.iter();
                    prop_assert!(after.iter().all(|byte| rest.any(|other| other == byte)));
                    twin = after.into();
                }
                Op::Copy(len, tag) => {
                    let bytes = frame(len);
                    prop_assert_eq!(outbox.push_copy(&bytes, BOUND, &mut pool).is_ok(), room);
                    if room {
                        outbox.tag(len, tag, Instant::ZERO);
                    }
                    twin.extend(bytes.into_iter().filter(|_| room));
                }
                Op::Shared(header, body, tag) => {
                    let (header, body) = (frame(header), Bytes::from(frame(body)));
                    prop_assert_eq!(outbox.push_shared(&header, &body, BOUND, &mut pool).is_ok(), room);
                    if room {
                        outbox.tag(header.len() + body.len(), tag, Instant::ZERO);
                    }
                    twin.extend(header.into_iter().chain(body).filter(|_| room));
                }
                Op::Control(len) => {
                    let bytes = frame(len);
                    if outbox.push_control(&bytes, &mut pool).is_ok() {
                        twin.extend(bytes);
                    }
                }
                Op::Advance(count) => {
                    outbox.advance(count, &mut pool);
                    twin.drain(..count.min(twin.len()));
                }
                Op::Clear => {
                    outbox.clear(&mut pool);
                    twin.clear();
                }
            }
            largest = largest.max(outbox.len_bytes());
            prop_assert_eq!(outbox.len_bytes(), twin.len());
            prop_assert_eq!(outbox.is_empty(), twin.is_empty());
            prop_assert_eq!(contents(&outbox), twin.iter().copied().collect::<Vec<_>>());
        }
        prop_assert!(largest < BOUND + 4020 + CONTROL_BYTES_MAX);
    }
}
