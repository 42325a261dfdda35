//! What is refused, and that nothing has changed then.

use super::*;

/// What can be seen of a server.
fn state(gateway: &Gateway) -> Value {
    let paths = [
        "/v1/clients?session=1",
        "/v1/groups?clients=1",
        "/v1/groups?uids=1",
        "/v1/uids",
    ];
    normal(&paths.iter().map(|path| gateway.get(path)).collect())
}

on_both_drivers! {
    fn bad_input_is_named_and_changes_nothing(on) {
        let gateway = Gateway::on(&on);
        let ([a, b], [id_a, id_b]) = gateway.connect_many();
        gateway.call("bindUid", json!([id_a, "u"]));
        gateway.call("joinGroup", json!([id_b, "g"]));
        gateway.call("setSession", json!([id_a, {"k": 1}]));
        let before = state(&gateway);
        let long = "n".repeat(256);
        let deep = [vec![b'['; 10_000], vec![b']'; 10_000]].concat();
        let many = json!({"groups": vec!["g"; 10_001]}).to_string();
        let calls = json!({"calls": [{"fn": "joinGroup", "args": [id_a, "g"]}, {"fn": "noSuch"}]}).to_string();
        let wrong_calls = json!({"calls": [{"fn": "ungroup", "args": ["g"]}, {"fn": "joinGroup", "args": [id_a, 7]}]}).to_string();
        let client = |method: &str, rest: &str| format!("{method} /v1/clients/{id_a}{rest}");
        let rows: Vec<(String, &[u8], u16, &str)> = vec![
            ("GET /v1/nowhere".into(), b"", 404, "not_found"),
            ("GET /v1/groups/g/clients/x/y".into(), b"", 404, "not_found"),
            ("POST /v1/call/noSuch".into(), b"{}", 404, "unknown_function"),
            ("POST /v1/call/setSocketSession".into(), b"{}", 404, "unknown_function"),
            ("DELETE /v1/groups".into(), b"", 405, "method_not_allowed"),
            ("BREW /v1/groups".into(), b"", 405, "method_not_allowed"),
            ("PUT /v1/clients/XYZ/uid".into(), br#"{"uid": "v"}"#, 400, "bad_request"),
            (format!("PUT /v1/clients/{}/uid", "ABCDEF0123456789ABCD"), br#"{"uid": "v"}"#, 400, "bad_request"),
            (format!("PUT /v1/clients/{GONE}/uid"), br#"{"uid": "v"}"#, 404, "client_not_found"),
            (client("PUT", "/uid"), br#"{"uid": ""}"#, 400, "bad_request"),
            (client("PUT", "/uid"), br#"{"uid": 7}"#, 400, "bad_request"),
            (client("PUT", "/uid"), br#"{"uid": "v", "uid": "w"}"#, 400, "bad_request"),
            (client("PUT", "/uid"), br#"{"uid": "v", "more": 1}"#, 400, "bad_request"),
            (client("PUT", "/uid"), b"{\"uid\": \"\xff\"}", 400, "bad_request"),
            (client("PUT", "/uid"), b"uid=v", 400, "bad_request"),
            (client("PUT", "/session"), &deep, 400, "bad_request"),
            (client("PUT", "/session"), b"[1]", 400, "bad_request"),
            (client("PATCH", "/session"), b"null", 400, "bad_request"),
            (client("DELETE", "?code=1006"), b"", 400, "bad_request"),
            (client("DELETE", "?force=yes"), b"", 400, "bad_request"),
            (client("DELETE", "?colour=red"), b"", 400, "bad_request"),
            (client("DELETE", ""), br#"{"message": 1}"#, 400, "bad_request"),
            (format!("PUT /v1/groups/{long}/clients/{id_a}"), b"", 400, "bad_request"),
            (format!("PUT /v1/groups/%FF/clients/{id_a}"), b"", 400, "bad_request"),
            (format!("PUT /v1/groups/%zz/clients/{id_a}"), b"", 400, "bad_request"),
            (format!("PUT /v1/groups//clients/{id_a}"), b"", 400, "bad_request"),
            ("DELETE /v1/groups/".into(), b"", 400, "bad_request"),
            ("POST /v1/groups:count".into(), many.as_bytes(), 413, "too_large"),
            ("POST /v1/groups/g/messages".into(), b"{}", 400, "bad_request"),
            ("POST /v1/groups/g/messages".into(), br#"{"message_base64": "?"}"#, 400, "bad_request"),
            ("POST /v1/batch".into(), calls.as_bytes(), 404, "unknown_function"),
            ("POST /v1/batch".into(), wrong_calls.as_bytes(), 400, "bad_request"),
            ("POST /v1/batch".into(), b"[]", 400, "bad_request"),
        ];
        for (request, body, status, code) in rows {
            let answer = gateway.send(&request, body);
            let value = answer.json().unwrap_or_else(|| panic!("{request}: {}", answer.text()));
            assert_eq!((answer.status, &value["error"]["code"]), (status, &json!(code)), "{request} {}: {value}", body.escape_ascii());
            assert!(value["error"]["message"].as_str().is_some_and(|text| !text.is_empty() && text.len() < 400), "{value}");
            assert_eq!(answer.header("allow").is_some(), status == 405, "{request}");
        }
        assert_eq!(state(&gateway), before);
        assert_eq!(gateway.received(&[&a, &b]), [const { Vec::<String>::new() }; 2]);
    }

    fn a_body_over_the_limit_is_refused_in_json(on) {
        let builder = on(Builder::gateway().set("api_body_max", "64k"));
        let gateway = Gateway::start(builder);
        let body = json!({"message": "x".repeat(70_000)}).to_string();
        let post = Request::post("/v1/messages", body).header("Authorization", &format!("Bearer {TOKEN}"));
        let answer = http::call(gateway.server.port(), &post, SOON).expect("an answer");
        assert_eq!((answer.status, &answer.json().expect("JSON")["error"]["code"]), (413, &json!("too_large")));
    }

    fn callers_have_to_name_a_token(on) {
        let gateway = Gateway::on(&on);
        let port = gateway.server.port();
        for (token, status) in [("", 401), ("Bearer wrong", 401), ("Bearer another", 200), (&format!("bearer {TOKEN}"), 200), ("Basic x", 401)] {
            for path in ["/v1/clients", "/v1/openapi.json", "/v1/nodes"] {
                let request = Request::get(path);
                let request = if token.is_empty() { request } else { request.header("Authorization", token) };
                let answer = http::call(port, &request, SOON).expect("an answer");
                assert_eq!(answer.status, status, "{token} {path}");
                assert_eq!(answer.header("www-authenticate").is_some(), status == 401);
            }
        }
        // Not even a path that is nobody's is told apart.
        let answer = http::call(port, &Request::get("/v1/nowhere"), SOON).expect("an answer");
        assert_eq!(answer.status, 401);
        assert_eq!(http::call(port, &Request::get("/healthz"), SOON).expect("an answer").status, 200);
    }

    fn without_tokens_pages_are_refused(on) {
        let server = on(Builder::gateway()).start();
        let get = |headers: &[(&str, &str)]| {
            let request = headers.iter().fold(Request::get("/v1/clients"), |request, (name, value)| request.header(name, value));
            http::call(server.port(), &request, SOON).expect("an answer").status
        };
        assert_eq!(get(&[]), 200);
        assert_eq!(get(&[("Origin", "http://localhost")]), 403);
        assert_eq!(get(&[("Sec-Fetch-Site", "same-site")]), 403);
        assert_eq!(get(&[("X-Forwarded-For", "192.0.2.7")]), 403, "a proxy on this machine");
    }
}
