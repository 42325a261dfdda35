//! The tests of the auditor: a clean run is clean, and each planted violation is found and told.

use super::audit::{Report, audit};
use super::events::Event::{self, *};

/// Two clients in channel 1, one message up of each kind, three publishes, and an end.
const LOAD: [Event; 28] = [
    Open { key: 1 },
    Joined { key: 1, channel: 1 },
    Open { key: 2 },
    Joined { key: 2, channel: 1 },
    Sent { key: 1, seq: 1, qos: 0 },
    Sent { key: 1, seq: 2, qos: 1 },
    Sent { key: 2, seq: 1, qos: 2 },
    Answered { key: 1, seq: 2 },
    Answered { key: 2, seq: 1 },
    Publish {
        id: 10,
        channel: 1,
        qos: 0,
    },
    Published { id: 10, connections: 0 },
    Got {
        key: 1,
        id: 10,
        repeated: false,
    },
    Got {
        key: 2,
        id: 10,
        repeated: false,
    },
    Publish {
        id: 11,
        channel: 1,
        qos: 1,
    },
    Got {
        key: 1,
        id: 11,
        repeated: false,
    },
    Got {
        key: 2,
        id: 11,
        repeated: false,
    },
    Got {
        key: 2,
        id: 11,
        repeated: true,
    },
    Published { id: 11, connections: 2 },
    Changing { key: 2, channel: 1 },
    Left { key: 2, channel: 1 },
    Publish {
        id: 12,
        channel: 1,
        qos: 2,
    },
    Got {
        key: 1,
        id: 12,
        repeated: false,
    },
    Published { id: 12, connections: 1 },
    Changing { key: 2, channel: 1 },
    Joined { key: 2, channel: 1 },
    Publish {
        id: 13,
        channel: 1,
        qos: 0,
    },
    Got {
        key: 1,
        id: 13,
        repeated: false,
    },
    Ended { key: 2 },
];

const BUSINESS: [Event; 8] = [
    Started,
    Asked { key: 1 },
    Asked { key: 2 },
    forward(1, 1, 0, true),
    forward(1, 2, 1, true),
    forward(2, 1, 2, true),
    Close { key: 2, fine: false },
    Close { key: 2, fine: true },
];

const fn forward(key: u64, seq: u64, qos: u8, fine: bool) -> Event {
    Forward {
        key,
        owner: key,
        seq,
        qos,
        fine,
    }
}

fn without(events: &[Event], gone: Event) -> Vec<Event> {
    assert!(events.contains(&gone), "{gone:?}");
    events.iter().copied().filter(|event| *event != gone).collect()
}

fn with(events: &[Event], more: &[Event]) -> Vec<Event> {
    [events, more].concat()
}

fn told(report: &Report, words: &str) {
    let found = report.violations.iter().any(|violation| violation.contains(words));
    assert!(found, "expected {words:?}, got {:?}", report.violations);
}

/// Runs of nothing but what is promised.
pub fn clean_runs_are_clean() {
    let expect_clean = |load: &[Event], business: &[Event]| {
        let report = audit(load, business);
        assert_eq!(report.violations, Vec::<String>::new());
    };
    expect_clean(&LOAD, &BUSINESS);
    let report = audit(&LOAD, &BUSINESS);
    assert_eq!(
        (report.opened, report.sent, report.answered, report.forwards_fine),
        (2, 3, 2, 3)
    );
    assert_eq!(
        (report.publishes, report.received, report.acknowledged, report.closes),
        (4, 6, 3, 1)
    );
    // A message the business refused is repeated; one it took and was killed over, too; the close callback likewise.
    let load = with(
        &LOAD,
        &[Sent { key: 1, seq: 9, qos: 2 }, Sent { key: 1, seq: 9, qos: 2 }],
    );
    let refused = [forward(1, 9, 2, false), forward(1, 9, 2, true)];
    expect_clean(&load, &with(&BUSINESS, &refused));
    let killed = [
        forward(1, 9, 2, true),
        Started,
        forward(1, 9, 2, true),
        Close { key: 2, fine: true },
    ];
    expect_clean(&load, &with(&BUSINESS, &killed));
    let lost = [
        Doubt,
        forward(1, 9, 2, true),
        forward(1, 9, 2, true),
        Close { key: 2, fine: true },
    ];
    expect_clean(&load, &with(&BUSINESS, &lost));
    // A crash of the server takes close callbacks with it.
    let load = with(
        &without(&LOAD, Ended { key: 2 }),
        &[Crash, Ended { key: 1 }, Ended { key: 2 }],
    );
    expect_clean(&load, &BUSINESS[..6]);
    for event in LOAD.iter().chain(&BUSINESS).chain(&[Crash, Doubt]) {
        assert_eq!(Event::parse(&event.line()), Some(*event));
    }
    assert_eq!(Event::parse("open"), None);
}

/// One violation of each kind.
pub fn planted_violations_are_found() {
    let load = |load: &[Event], words| told(&audit(load, &BUSINESS), words);
    let business = |business: &[Event], words| told(&audit(&LOAD, business), words);

    load(
        &without(
            &LOAD,
            Got {
                key: 1,
                id: 12,
                repeated: false,
            },
        ),
        "publish 12: 1 acknowledged, 0 received",
    );
    load(
        &without(
            &LOAD,
            Got {
                key: 1,
                id: 13,
                repeated: false,
            },
        ),
        "client 1, in the channel and open to the end, missed publish 13",
    );
    load(
        &with(
            &LOAD,
            &[Got {
                key: 2,
                id: 12,
                repeated: true,
            }],
        ),
        "client 2 got publish 12 after it had left",
    );
    load(
        &with(
            &LOAD,
            &[Got {
                key: 1,
                id: 11,
                repeated: false,
            }],
        ),
        "client 1 got publish 11 after 13",
    );
    load(
        &with(
            &LOAD,
            &[Got {
                key: 1,
                id: 13,
                repeated: false,
            }],
        ),
        "client 1 got publish 13 after 13",
    );
    load(
        &with(
            &LOAD,
            &[Got {
                key: 1,
                id: 99,
                repeated: false,
            }],
        ),
        "never sent",
    );
    load(
        &with(&LOAD, &[Published { id: 99, connections: 0 }]),
        "answered and never sent",
    );
    load(&with(&LOAD, &[Ended { key: 1 }]), "no close callback for client 1");
    load(
        &with(&LOAD, &[Crash, Open { key: 3 }, Ended { key: 3 }]),
        "no close callback for client 3",
    );
    load(&without(&LOAD, Ended { key: 2 }), "client 2, which is still there");

    business(
        &without(&BUSINESS, forward(1, 2, 1, true)),
        "message 2 of client 1 was acknowledged",
    );
    let refused = with(&without(&BUSINESS, forward(1, 2, 1, true)), &[forward(1, 2, 1, false)]);
    business(&refused, "message 2 of client 1 was acknowledged");
    let sent_again = with(&LOAD, &[Sent { key: 2, seq: 1, qos: 2 }]);
    let again = with(&BUSINESS[..6], &[forward(2, 1, 2, true), BUSINESS[7]]);
    told(
        &audit(&sent_again, &again),
        "QoS 2 message 1 of client 2 was handed over twice",
    );
    business(
        &with(&BUSINESS, &[forward(1, 1, 0, true)]),
        "message 1 of client 1: sent 1 times, handed over 2 times",
    );
    business(
        &with(&BUSINESS, &[forward(1, 7, 0, true)]),
        "message 7 of client 1: sent 0 times",
    );
    business(
        &with(&BUSINESS, &[forward(2, 1, 2, true)]),
        "came after its close callback",
    );
    business(
        &with(&BUSINESS, &[Close { key: 2, fine: true }]),
        "two close callbacks for client 2",
    );
    business(
        &with(&BUSINESS, &[Close { key: 2, fine: false }]),
        "two close callbacks for client 2",
    );
    business(
        &with(&BUSINESS, &[Close { key: 4, fine: true }]),
        "client 4, whom nobody had let in",
    );
    let foreign = Forward {
        key: 2,
        owner: 1,
        seq: 1,
        qos: 0,
        fine: true,
    };
    business(
        &with(&BUSINESS, &[foreign]),
        "message 1 of client 1 came with the cookie of 2",
    );
    let mut swapped = BUSINESS;
    swapped.swap(3, 4);
    business(&swapped, "message 1 of client 1 came after 2");
}
