//! A panic while one client is handled costs that client and nothing else (`shard/contain.rs`). Injected through the sockets:
//! the next write of a client panics.

use rainbow_server::engine::command::Qos;
use rainbow_server::engine::hook::Event;
use rainbow_server::engine::ids::ClientId;

use crate::rig::{ADMITTED, Rig, reply};
use crate::wire::{self, Packet};

/// The client is gone as if it had never been, told once, and the shard goes on.
fn check_cost(rig: &mut Rig, dead: ClientId, others: &[ClientId]) {
    assert_eq!(rig.shards[0].debug_panics(), 1);
    assert!(rig.socket(dead).closed);
    rig.callback(Event::Close);
    assert!(rig.callbacks.is_empty(), "told once");
    let ticket = rig.publish("c", Qos::AtLeastOnce, b"after", 10);
    for id in others {
        let packets = rig.packets(*id);
        let Some(Packet::Send { id: message, .. }) = packets.last() else {
            panic!("{packets:?}")
        };
        rig.bytes(*id, &wire::ack(*message, b""));
    }
    assert_eq!(rig.part(ticket), Some((others.len() as u32, 0, 0, String::new())));
    assert_eq!(rig.shards[0].connections(), others.len());
}

#[test]
fn a_panic_over_input_closes_its_client_only() {
    let mut rig = Rig::new(1);
    let [dead, other] = [rig.connect(0, &["c"]), rig.connect(0, &["c"])];
    rig.socket(dead).explosive = true;
    rig.panics = 1;
    rig.bytes(dead, &wire::ping(b"x"));
    check_cost(&mut rig, dead, &[other]);
}

#[test]
fn a_panic_in_a_fan_out_does_not_stop_it() {
    let mut rig = Rig::new(1);
    let ids: Vec<_> = (0..5).map(|_| rig.connect(0, &["c"])).collect();
    rig.socket(ids[2]).explosive = true;
    rig.panics = 1;
    let ticket = rig.publish("c", Qos::ExactlyOnce, b"p", 10);
    let others: Vec<_> = ids.iter().copied().filter(|id| *id != ids[2]).collect();
    for id in &others {
        assert_eq!(rig.packets(*id).len(), 1);
        rig.bytes(*id, &wire::ack(1, b""));
    }
    assert_eq!(
        rig.part(ticket),
        Some((4, 1, 0, String::new())),
        "the dead one counts as failed"
    );
    check_cost(&mut rig, ids[2], &others);
}

#[test]
fn a_panic_over_a_retry_leaves_no_delivery_behind() {
    let mut rig = Rig::new(1);
    let [dead, other] = [rig.connect(0, &["c"]), rig.connect(0, &["c"])];
    let ticket = rig.publish("c", Qos::AtLeastOnce, b"p", 4);
    rig.packets(other);
    rig.bytes(other, &wire::ack(1, b""));
    rig.socket(dead).explosive = true;
    rig.panics = 1;
    rig.secs(3);
    assert_eq!(rig.part(ticket), Some((1, 1, 0, String::new())));
    assert_eq!(rig.shards[0].debug_counts().deliveries, 0);
    check_cost(&mut rig, dead, &[other]);
}

#[test]
fn a_panic_over_a_reply_frees_the_slot() {
    let mut rig = Rig::new(1);
    let [dead, other] = [rig.connect(0, &["c"]), rig.connect(0, &["c"])];
    rig.bytes(dead, &wire::send(false, 1, 7, 3, b"up"));
    let forward = rig.message();
    rig.socket(dead).explosive = true;
    rig.panics = 1;
    rig.answer(&forward, reply(200, &[], "ok"));
    check_cost(&mut rig, dead, &[other]);
}

#[test]
fn a_panic_over_the_admission_frees_the_slot() {
    let mut rig = Rig::new(1);
    let other = rig.connect(0, &["c"]);
    let dead = rig.accept(0);
    rig.bytes(dead, &wire::connect_request("d"));
    let question = rig.callback(Event::Connect);
    rig.socket(dead).explosive = true;
    rig.panics = 1;
    rig.answer(&question, reply(200, &[("rainbowclientchannel", "c")], ADMITTED));
    check_cost(&mut rig, dead, &[other]);
}
