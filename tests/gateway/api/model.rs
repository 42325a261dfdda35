//! Random operations on a server beside a model of it: after each, what the server says is what the model says.
//! `GATEWAY_SEED` names another sequence.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

const STEPS: usize = 300;
const CLIENTS: usize = 6;
const NAMES: [&str; 4] = ["a", "b/c", "ü", "0"];

/// A xorshift generator.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % bound
    }

    fn name(&mut self) -> &'static str {
        NAMES[self.below(NAMES.len())]
    }
}

/// What is known of a client.
#[derive(Debug, Default)]
struct Known {
    uid: Option<String>,
    groups: BTreeSet<String>,
    session: BTreeMap<String, Value>,
}

#[derive(Debug, Default)]
struct Model(BTreeMap<String, Known>);

impl Model {
    fn with_uid(&self, uid: &str) -> Vec<&str> {
        let has = |known: &Known| known.uid.as_deref() == Some(uid);
        self.0
            .iter()
            .filter(|(_, known)| has(known))
            .map(|(id, _)| &id[..])
            .collect()
    }

    fn in_group(&self, group: &str) -> Vec<&str> {
        self.0
            .iter()
            .filter(|(_, known)| known.groups.contains(group))
            .map(|(id, _)| &id[..])
            .collect()
    }

    /// What the server should say, in the order of [`seen`].
    fn expected(&self) -> Value {
        let uids: BTreeSet<_> = self.0.values().filter_map(|known| known.uid.clone()).collect();
        let names: BTreeSet<_> = self.0.values().flat_map(|known| known.groups.iter().cloned()).collect();
        let groups: serde_json::Map<_, _> = names
            .iter()
            .map(|group| (group.clone(), json!(self.in_group(group))))
            .collect();
        let sessions: serde_json::Map<_, _> = self
            .0
            .iter()
            .map(|(id, known)| (id.clone(), json!(known.session)))
            .collect();
        let of_uids: serde_json::Map<_, _> = NAMES
            .iter()
            .map(|uid| ((*uid).to_owned(), json!(self.with_uid(uid))))
            .collect();
        normal(&json!([sessions, groups, uids, of_uids, self.0.len()]))
    }
}

/// All that the server says.
fn seen(gateway: &Gateway) -> Value {
    normal(&json!([
        gateway.get("/v1/clients?session=1")["sessions"],
        gateway.get("/v1/groups?clients=1")["groups"],
        gateway.get("/v1/uids")["uids"],
        gateway.done("POST /v1/uids:clients", json!({"uids": NAMES}))["client_ids"],
        gateway.get("/v1/clients:count")["count"],
    ]))
}

/// One operation on both.
fn step(gateway: &Gateway, model: &mut Model, clients: &mut BTreeMap<String, Client>, random: &mut Random) -> String {
    if clients.len() < 2 || clients.len() < CLIENTS && random.below(8) == 0 {
        let (client, id) = gateway.connect();
        model.0.insert(id.clone(), Known::default());
        clients.insert(id.clone(), client);
        return format!("{id} connects");
    }
    let id = clients.keys().nth(random.below(clients.len())).expect("one").clone();
    let (name, known) = (random.name(), model.0.get_mut(&id).expect("known"));
    let (call, arguments, expected) = match random.below(10) {
        0 | 1 => {
            let previous = known.uid.replace(name.into());
            ("bindUid", json!([id, name]), json!({"previous_uid": previous}))
        }
        2 => {
            let previous = known.uid.take();
            ("unbindUid", json!([id]), json!({"previous_uid": previous}))
        }
        3..=5 => (
            "joinGroup",
            json!([id, name]),
            json!({"changed": known.groups.insert(name.into())}),
        ),
        6 => (
            "leaveGroup",
            json!([id, name]),
            json!({"changed": known.groups.remove(name)}),
        ),
        7 => {
            let removed = model.in_group(name).len();
            model
                .0
                .values_mut()
                .for_each(|known| known.groups.retain(|group| group != name));
            ("ungroup", json!([name]), json!({"removed": removed}))
        }
        8 => {
            let value = [json!(1), json!("x"), json!([{"a": null}]), Value::Null][random.below(4)].clone();
            match value.is_null() {
                true => drop(known.session.remove(name)),
                false => drop(known.session.insert(name.into(), value.clone())),
            }
            ("updateSession", json!([id, {name: value}]), json!(known.session))
        }
        _ => {
            let exclusive = ["kick", "reject"][random.below(2)];
            let others: Vec<String> = model
                .with_uid(name)
                .into_iter()
                .filter(|other| **other != id)
                .map(str::to_owned)
                .collect();
            if exclusive == "reject" && !others.is_empty() {
                let body = json!({"client_id": id, "uid": name, "exclusive": exclusive});
                assert_eq!(
                    gateway.refused("POST /v1/call/bindUid", body),
                    (409, "uid_taken".into())
                );
                return format!("{id} may not have {name}");
            }
            for other in others {
                model.0.remove(&other);
                clients.remove(&other);
            }
            let previous = model.0.get_mut(&id).expect("known").uid.replace(name.into());
            (
                "bindUid",
                json!({"client_id": id, "uid": name, "exclusive": exclusive}),
                json!({"previous_uid": previous}),
            )
        }
    };
    let what = format!("{call} {arguments}");
    assert_eq!(normal(&gateway.call(call, arguments)), normal(&expected), "{what}");
    if random.below(12) == 0 {
        gateway.call("destoryClient", json!([id]));
        model.0.remove(&id);
        clients.remove(&id);
        return format!("{what}, and {id} is gone");
    }
    what
}

on_both_drivers! {
    fn the_server_is_what_the_model_is(on) {
        let seed = std::env::var("GATEWAY_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0x9e37_79b9);
        println!("GATEWAY_SEED={seed}");
        let gateway = Gateway::on(&on);
        let (mut model, mut clients, mut random) = (Model::default(), BTreeMap::new(), Random(seed));
        for number in 0..STEPS {
            let what = step(&gateway, &mut model, &mut clients, &mut random);
            assert_eq!(seen(&gateway), model.expected(), "step {number}: {what}");
        }
    }
}
