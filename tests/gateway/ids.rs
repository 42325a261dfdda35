//! Client ids (case 1): 20 hex digits, no two alike, dead ones stay dead, over a restart too.

use std::collections::HashSet;

use super::*;

/// All ids there are, as the interface lists them.
fn listed(server: &Server) -> HashSet<String> {
    let answer = http::call(server.port(), &Request::get("/v1/clients"), SOON).expect("an answer");
    let json = answer.json().expect("JSON");
    let ids = json["data"]["client_ids"].as_array().expect("a list");
    ids.iter().map(|id| id.as_str().expect("an id").to_owned()).collect()
}

fn is_online(server: &Server, id: &str) -> bool {
    let path = format!("/v1/clients/{id}/online?lenient=1");
    let answer = http::call(server.port(), &Request::get(&path), SOON).expect("an answer");
    answer.json().expect("JSON")["data"]["online"] == true
}

/// A client and its id.
fn named(server: &Server) -> (Client, String) {
    let before = listed(server);
    let client = client(server);
    let mut new = listed(server).difference(&before).cloned().collect::<Vec<_>>();
    assert_eq!(new.len(), 1, "{new:?}");
    (client, new.remove(0))
}

fn is_gone(server: &Server, id: &str) -> bool {
    super::common::eventually(SOON, || !is_online(server, id))
}

on_both_drivers! {
    fn ids_are_unique_and_die_with_their_clients(on) {
        let builder = on(Builder::gateway().set("workers", 2));
        let mut server = builder.clone().start();
        let mut seen = HashSet::new();
        for _ in 0..20 {
            // Slots are used again and again.
            let pair = [named(&server), named(&server)];
            for (client, id) in pair {
                let is_hex = id.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c));
                assert!(id.len() == 20 && is_hex, "{id}");
                assert!(is_online(&server, &id));
                assert!(seen.insert(id.clone()), "{id} a second time");
                client.drop_now();
                assert!(is_gone(&server, &id));
            }
        }
        let (stays, id) = named(&server);
        let mut forged = id.clone().into_bytes();
        forged[7] = if forged[7] == b'0' { b'1' } else { b'0' };
        assert!(!is_online(&server, std::str::from_utf8(&forged).expect("text")));
        assert!(!is_online(&server, &id.to_uppercase()) || id.to_uppercase() == id);
        drop(stays);
        server.signal("KILL");
        server.wait_exit(SOON);
        let server = builder.start();
        let others: Vec<_> = (0..20).map(|_| named(&server)).collect();
        assert!(seen.iter().all(|id| !is_online(&server, id)), "ids of the run before");
        assert!(others.iter().all(|(_, id)| !seen.contains(id)));
    }

    fn ids_of_gatewayworkers_form_lead_to_their_clients(on) {
        let builder = Builder::gateway()
            .set("workers", 2)
            .of_gateway("id_format", "gatewayworker")
            .of_gateway("lan_ip", "10.1.2.3");
        let server = on(builder).start();
        let clients: Vec<_> = (0..8).map(|_| named(&server)).collect();
        let prefix = format!("0a010203{:04x}", server.gateway_port());
        for (client, id) in &clients {
            assert!(id.starts_with(&prefix) && id.len() == 20, "{id}");
            assert!(is_online(&server, id));
            let send = Request::post(&format!("/v1/clients/{id}/messages"), format!(r#"{{"message": "{id}"}}"#));
            let answer = http::call(server.port(), &send, SOON).expect("an answer");
            assert_eq!(answer.json().expect("JSON")["data"]["queued"], 1, "{}", answer.text());
            client.expect(super::common::client::Op::Text, id.as_bytes());
        }
        // Whoever has the place of one that is gone has another id.
        let gone: Vec<String> = clients.into_iter().map(|(_, id)| id).collect();
        for id in &gone {
            assert!(is_gone(&server, id));
        }
        let new: Vec<_> = (0..8).map(|_| named(&server)).collect();
        assert!(new.iter().all(|(_, id)| is_online(&server, id) && !gone.contains(id)));
        assert!(gone.iter().all(|id| !is_online(&server, id)));
        // One of another server, or of no server.
        assert!(!is_online(&server, "7f00000169dd00000001"));
        // Nobody can name a client of rainbow by such a number, or one that does not exist.
        assert!(!is_online(&server, &format!("{prefix}ffffffff")));
    }
}
