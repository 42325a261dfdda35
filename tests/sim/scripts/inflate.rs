//! Compressed messages of clients: they count as what they become, and a turn inflates a bounded amount.

use rainbow_server::engine::hook::Event;
use rainbow_server::engine::ids::{ClientId, ShardId};
use rainbow_server::limits::INFLATED_BYTES_PER_TURN;
use rainbow_server::shard::Input;

use crate::rig::{ADMITTED, Rig, reply};
use crate::wire::{self, Packet};

/// Two of these are more than a turn inflates.
const LARGE: usize = INFLATED_BYTES_PER_TURN * 3 / 5;
const PER_TURN: usize = 2;

fn rig(lines: &str) -> Rig {
    let bounds = "compression=yes\nforward_queue=1000\nforward_queue_bytes=1024m\nmessage_max=10m";
    Rig::with(1, &format!("{bounds}\n{lines}"))
}

/// A client that may send compressed messages.
fn connect(rig: &mut Rig) -> ClientId {
    let id = rig.accept(0);
    let mut request = String::from_utf8(wire::connect_request("d")).expect("ASCII");
    request.insert_str(request.len() - 2, "Sec-WebSocket-Extensions: permessage-deflate\r\n");
    rig.bytes(id, request.as_bytes());
    let asked = rig.callback(Event::Connect);
    rig.answer(&asked, reply(200, &[], ADMITTED));
    assert_eq!(rig.status(id), 101);
    id
}

/// A compressed message of `len` bytes to the backend; it begins with a number.
fn packed(number: u8, len: usize) -> Vec<u8> {
    let mut payload = vec![0; len];
    payload[0] = number;
    let packet = Packet::Send {
        dup: false,
        qos: 0,
        msgtype: 1,
        id: 0,
        payload,
    };
    wire::packed_frame(&packet.bytes())
}

/// Bytes arrive in one turn, and nothing else happens.
fn arrive(rig: &mut Rig, id: ClientId, bytes: &[u8]) -> Input {
    let mut bytes = bytes.to_vec();
    rig.turn(ShardId(0), |shard, net, now| shard.on_bytes(id, &mut bytes, now, net))
}

/// Who has sent what the backend was given since, and which.
fn forwarded(rig: &mut Rig) -> Vec<(ClientId, u8)> {
    rig.callbacks
        .drain(..)
        .map(|request| (request.client, request.body[0]))
        .collect()
}

#[test]
fn bombs_wait_for_their_turn_and_nobody_else_does() {
    const BOMBS: u8 = 10;
    let mut rig = rig("");
    let (bomber, witness) = (connect(&mut rig), rig.connect(0, &[]));
    let bombs: Vec<u8> = (0..BOMBS).flat_map(|number| packed(number, LARGE)).collect();
    assert!(
        bombs.len() < 64 * 1024,
        "{} bytes: one receive call brings them all",
        bombs.len()
    );
    assert_eq!(arrive(&mut rig, bomber, &bombs), Input::Pause);
    let mut came = forwarded(&mut rig);
    assert!(
        came.len() <= 2 * PER_TURN,
        "{came:?}: those of the turn, and of the one that ends it"
    );
    while came.len() < usize::from(BOMBS) {
        assert!(rig.has_more(0), "after {came:?}");
        // Whoever sends nothing compressed is served at once, and stops nothing.
        arrive(&mut rig, witness, &wire::send(false, 0, 1, 0, b"w"));
        let step = forwarded(&mut rig);
        assert!(step.contains(&(witness, b'w')), "{step:?}");
        let bombs = step.into_iter().filter(|(client, _)| *client == bomber);
        let before = came.len();
        came.extend(bombs);
        assert!((1..=PER_TURN).contains(&(came.len() - before)), "{came:?}");
    }
    let numbers: Vec<u8> = came.iter().map(|(_, number)| *number).collect();
    assert_eq!(numbers, (0..BOMBS).collect::<Vec<_>>(), "all, in order");
    rig.settle();
    assert_eq!(rig.bytes(bomber, &packed(99, 10)), Input::Continue, "it is read again");
    assert_eq!(forwarded(&mut rig), [(bomber, 99)]);
}

#[test]
fn those_that_wait_have_their_turns_one_after_the_other() {
    let mut rig = rig("");
    let clients: Vec<ClientId> = (0..3).map(|_| connect(&mut rig)).collect();
    let (bombs, small) = (
        [packed(1, LARGE), packed(2, LARGE), packed(3, LARGE)].concat(),
        packed(9, 100),
    );
    let spent = arrive(&mut rig, clients[0], &bombs.repeat(4));
    assert_eq!(spent, Input::Pause);
    forwarded(&mut rig);
    // One with a small message comes behind the next of the bombs, not behind all of them.
    arrive(&mut rig, clients[1], &bombs.repeat(4));
    rig.turn(ShardId(0), |shard, net, now| {
        shard.on_bytes(clients[2], &mut small.clone(), now, net);
    });
    let mut turns = 1;
    while !forwarded(&mut rig).contains(&(clients[2], 9)) {
        rig.step(0);
        turns += 1;
        assert!(turns < 4, "the small one waits for all the others");
    }
    rig.end(clients[0]);
    rig.settle();
    let all = forwarded(&mut rig).len();
    assert!(all >= 4, "{all}: the other one goes on when one has left");
    assert!(!rig.has_more(0));
}

/// Whoever waits can leave, and be closed.
#[test]
fn nothing_is_left_of_those_that_leave_the_queue() {
    let mut rig = rig("");
    let bombs: Vec<u8> = (0..10).flat_map(|number| packed(number, LARGE)).collect();
    let (gone, closing) = (connect(&mut rig), connect(&mut rig));
    let closes = [bombs.clone(), wire::close(Some(1000))].concat();
    assert_eq!(arrive(&mut rig, gone, &bombs), Input::Pause);
    arrive(&mut rig, closing, &closes);
    let now = rig.now;
    rig.shards[0].on_end(
        gone,
        rainbow_server::close::CloseCause::ClientGone,
        now,
        &mut rig.nets[0],
    );
    rig.settle();
    let came = forwarded_by(&mut rig, closing);
    assert_eq!(came, 10, "its messages came before its farewell");
    assert!(rig.socket(closing).finished || rig.socket(closing).closed);
    assert!(!rig.has_more(0));
}

fn forwarded_by(rig: &mut Rig, client: ClientId) -> usize {
    let messages = rig
        .callbacks
        .iter()
        .filter(|request| request.hook.event == Event::Message);
    messages.filter(|request| request.client == client).count()
}

#[test]
fn a_compressed_message_counts_as_what_it_has_become() {
    let mut rig = rig("client_bytes_per_second=100k");
    let id = connect(&mut rig);
    // Ten seconds' worth; the burst of one second is used up as well.
    let bomb = packed(1, 1000 * 1024);
    assert!(bomb.len() < 10 * 1024);
    assert_eq!(rig.bytes(id, &[bomb.clone(), bomb].concat()), Input::Pause);
    assert_eq!(forwarded(&mut rig).len(), 1);
    rig.secs(8);
    assert!(forwarded(&mut rig).is_empty());
    rig.secs(2);
    assert_eq!(forwarded(&mut rig).len(), 1);
    // Fragments count as the message they make, and not twice.
    rig.secs(20);
    let fragments = wire::fragments(
        &Packet::Send {
            dup: false,
            qos: 0,
            msgtype: 1,
            id: 0,
            payload: vec![7; 40 * 1024],
        }
        .bytes(),
        3,
    );
    assert_eq!(
        rig.bytes(id, &[fragments.clone(), fragments.clone()].concat()),
        Input::Continue
    );
    assert_eq!(forwarded(&mut rig).len(), 2);
}
