//! Tests of [`super`], by behaviour.

use super::*;
use crate::protocol::rainbow::sign::Secrets;
use proptest::prelude::*;

const OWN: ServerIdentity = [b'0'; 40];
const OTHER: ServerIdentity = [b'1'; 40];
const OPEN: &Trust<'static> = &Trust::Anybody;

fn announcement(presence: Presence, port: u16, identity: &ServerIdentity, cluster_name: &str) -> Option<Vec<u8>> {
    let (identity, cluster_name) = (*identity, cluster_name.to_owned());
    let sender = Sender {
        port,
        identity,
        cluster_name,
    };
    sender.open(presence)
}

fn at(seconds: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(seconds)
}

fn source(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

fn address(last: u8) -> SocketAddr {
    SocketAddr::new(source(last), 8000)
}

fn peers() -> Peers {
    Peers::new(OWN, "c".to_owned())
}

fn datagram(presence: Presence) -> Vec<u8> {
    announcement(presence, 8000, &OTHER, "c").unwrap()
}

fn online(peers: &mut Peers, seconds: u64, last: u8) -> Heard {
    peers.on_datagram(at(seconds), source(last), &datagram(Presence::Online), OPEN)
}

/// A table with one peer that is in since second 0.
fn joined() -> Peers {
    let mut peers = peers();
    assert_eq!(online(&mut peers, 0, 1), Heard::Probe(address(1)));
    assert!(peers.on_probe_result(at(0), address(1), true));
    peers
}

fn alive(peers: &Peers) -> Vec<SocketAddr> {
    let mut all: Vec<_> = peers.alive().collect();
    all.sort();
    all
}

#[test]
fn announcements_as_the_original_writes_them() {
    let text = String::from_utf8(announcement(Presence::Online, 1984, &OWN, "grün").unwrap()).unwrap();
    let expected = format!(
        r#"{{"msgtype": "online", "port": 1984, "server_identity": "{}", "cluster_name": "gr\u00fcn"}}"#,
        "0".repeat(40)
    );
    assert_eq!(text, expected);
    assert_eq!(
        announcement(Presence::Offline, 1984, &OWN, &"x".repeat(1000)),
        None,
        "nobody could read it"
    );
}

#[test]
fn a_peer_is_in_once_it_answered() {
    let mut peers = peers();
    assert_eq!(online(&mut peers, 0, 1), Heard::Probe(address(1)));
    assert_eq!(online(&mut peers, 1, 1), Heard::Nothing, "one probe at a time");
    assert_eq!(alive(&peers), []);
    assert!(!peers.on_probe_result(at(2), address(1), false));
    assert_eq!(
        online(&mut peers, 10, 1),
        Heard::Probe(address(1)),
        "asked again at its next datagram"
    );
    assert!(peers.on_probe_result(at(10), address(1), true));
    assert_eq!(online(&mut peers, 20, 1), Heard::Nothing, "known");
    assert_eq!(alive(&peers), [address(1)]);
}

#[test]
fn datagrams_that_are_ignored() {
    let mut peers = peers();
    let own = announcement(Presence::Online, 8000, &OWN, "c").unwrap();
    let elsewhere = announcement(Presence::Online, 8000, &OTHER, "other").unwrap();
    let mut long = datagram(Presence::Online);
    long.resize(DATAGRAM_BYTES_MAX + 1, b' ');
    for ignored in [
        &own[..],
        &elsewhere,
        &long,
        b"junk",
        b"",
        b"[]",
        b"{\"msgtype\": \"online\", \"port\": 8000}",
        br#"{"msgtype": "hello", "port": 8000, "server_identity": "f", "cluster_name": "c"}"#,
        br#"{"msgtype": "online", "port": "8000", "server_identity": "f", "cluster_name": "c"}"#,
        br#"{"msgtype": "online", "port": 0, "server_identity": "f", "cluster_name": "c"}"#,
        br#"{"msgtype": "online", "port": 65536, "server_identity": "f", "cluster_name": "c"}"#,
        br#"{"msgtype": "online", "port": 8000, "server_identity": 5, "cluster_name": "c"}"#,
    ] {
        assert_eq!(peers.on_datagram(at(0), source(1), ignored, OPEN), Heard::Nothing);
    }
    let short = br#"{"msgtype": "online", "port": 8000, "server_identity": "fakepeer", "cluster_name": "c"}"#;
    assert_eq!(
        peers.on_datagram(at(0), source(1), short, OPEN),
        Heard::Probe(address(1)),
        "any other identity will do"
    );
}

#[test]
fn peers_leave_by_word_or_by_silence() {
    let mut peers = joined();
    assert_eq!(
        peers.on_datagram(at(1), source(1), &datagram(Presence::Offline), OPEN),
        Heard::Left(address(1))
    );
    assert_eq!(alive(&peers), []);
    let mut peers = joined();
    assert_eq!(online(&mut peers, 5, 1), Heard::Nothing);
    assert_eq!(peers.on_tick(at(35)), []);
    assert_eq!(peers.on_tick(at(36)), [address(1)]);
    assert_eq!(alive(&peers), []);
}

#[test]
fn a_late_probe_does_not_bring_back_who_left() {
    let mut peers = peers();
    online(&mut peers, 0, 1);
    peers.on_datagram(at(1), source(1), &datagram(Presence::Offline), OPEN);
    assert!(!peers.on_probe_result(at(2), address(1), true));
    assert_eq!(alive(&peers), []);
}

#[test]
fn a_mapped_address_is_the_same_peer() {
    let mut peers = joined();
    let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
    assert_eq!(
        peers.on_datagram(at(1), mapped, &datagram(Presence::Online), OPEN),
        Heard::Nothing
    );
}

#[test]
fn forged_datagrams_are_bounded() {
    let mut peers = peers();
    for last in 0..=u8::MAX {
        online(&mut peers, 0, last);
    }
    assert_eq!(peers.probing(), PROBES_MAX);
    assert_eq!(
        peers.on_tick(at(31)),
        [],
        "lost probes are forgotten, they were no peers"
    );
    assert_eq!(peers.probing(), 0);
    let mut announce = |host: u8| {
        for port in 1..300 {
            let datagram = announcement(Presence::Online, port, &OTHER, "c").unwrap();
            if let Heard::Probe(address) = peers.on_datagram(at(32), source(host), &datagram, OPEN) {
                peers.on_probe_result(at(32), address, true);
            }
        }
        peers.alive().count()
    };
    assert_eq!(announce(1), PEERS_PER_ADDRESS_MAX, "all ports of one host");
    assert_eq!((2..60).map(&mut announce).max(), Some(PEERS_MAX));
    assert_eq!(online(&mut peers, 32, 100), Heard::Nothing, "full");
}

#[test]
fn a_signed_datagram_is_believed_once() {
    let mut peers = peers();
    let sender = Sender {
        port: 8000,
        identity: OTHER,
        cluster_name: "c".to_owned(),
    };
    let trust = &Trust::Signed {
        secrets: Secrets::one(b"secret"),
        window: Duration::from_secs(10),
        now_micros: 5_000_000,
    };
    let signed = |presence, micros| {
        let address = std::net::Ipv4Addr::new(10, 0, 0, 1);
        sender.signed(presence, address, micros, b"secret").unwrap()
    };
    let mut hear = |datagram: &[u8]| peers.on_datagram(at(0), source(1), datagram, trust);
    assert_eq!(hear(&datagram(Presence::Online)), Heard::Nothing, "not signed");
    assert_eq!(hear(&signed(Presence::Online, 3_000_000)), Heard::Probe(address(1)));
    assert_eq!(
        hear(&signed(Presence::Offline, 2_000_000)),
        Heard::Nothing,
        "an old goodbye"
    );
    assert_eq!(hear(&signed(Presence::Offline, 3_000_001)), Heard::Left(address(1)));
}

proptest! {
    #[test]
    fn the_table_keeps_its_bounds(steps in prop::collection::vec((0_u8..6, 0_u8..40, any::<bool>()), 0..300)) {
        let mut peers = peers();
        let mut seconds = 0;
        for (step, last, good) in steps {
            match step {
                0..=2 => _ = online(&mut peers, seconds, last),
                3 => _ = peers.on_datagram(at(seconds), source(last), &datagram(Presence::Offline), OPEN),
                4 => _ = peers.on_probe_result(at(seconds), address(last), good),
                _ => {
                    seconds += 7;
                    peers.on_tick(at(seconds));
                    let is_fresh = peers.table.values().all(|peer| match peer.state {
                        State::Probing { since: last } | State::Alive { heard: last } => at(seconds).since(last) <= PEER_EXPIRY,
                    });
                    prop_assert!(is_fresh);
                }
            }
            prop_assert!(peers.probing() <= PROBES_MAX && peers.table.len() <= PEERS_MAX);
        }
    }

    #[test]
    fn no_datagram_panics(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        peers().on_datagram(at(0), source(1), &bytes, OPEN);
    }
}
