//! Tests of [`super`]: what is accepted, what is not, and that nothing but the truth is.

use super::*;
use crate::wire::http1::BodyHash;
use proptest::prelude::*;

const NOW: u64 = 1_420_000_000_250_000;
const SECRET: &[u8] = b"testtoken";

fn rules(accept: &'static [Scheme]) -> Rules<'static> {
    Rules {
        secrets: Secrets::one(SECRET),
        accept,
        window: Duration::from_secs(10),
    }
}

fn only(scheme: Scheme) -> Rules<'static> {
    rules(match scheme {
        Scheme::Sha1 => &[Scheme::Sha1],
        Scheme::HmacSha256 => &[Scheme::HmacSha256],
    })
}

fn post<'a>(query: &'a str, body: &'a [u8]) -> Signed<'a> {
    Signed {
        method: "POST",
        path: b"/send/",
        query: query.as_bytes(),
        body,
    }
}

mod of_sha1 {
    use super::*;

    fn signed(token: &str, timestamp: &str, nonce: &str) -> String {
        let signature = signature(token.as_bytes(), timestamp.as_bytes(), nonce.as_bytes());
        let mut out = Vec::new();
        query::Encoder::new(&mut out)
            .pair(b"timestamp", timestamp.as_bytes())
            .pair(b"nonce", nonce.as_bytes())
            .pair(b"signature", &signature);
        String::from_utf8(out).unwrap()
    }

    fn at(query: &str, token: &str, now_micros: u64) -> Result<(), Refusal> {
        let rules = Rules {
            secrets: Secrets::one(token.as_bytes()),
            ..only(Scheme::Sha1)
        };
        rules.check(&post(query, b"whatever"), now_micros).map(drop)
    }

    fn verdict(query: &str) -> Result<(), Refusal> {
        at(query, "testtoken", NOW)
    }

    #[test]
    fn the_table_of_section_5() {
        let good = signed("testtoken", "1420000000", "1234");
        assert_eq!(verdict(&good), Ok(()));
        for name in ["timestamp", "nonce", "signature"] {
            let absent = good.replace(name, "other");
            assert_eq!(verdict(&absent), Err(Refusal::Incomplete), "{name} absent");
            for (value, expected) in [
                ("", Refusal::Wrong),
                ("+%20", Refusal::Wrong),
                ("%ff", Refusal::Incomplete),
            ] {
                let again = format!("{good}&{name}={value}");
                assert_eq!(verdict(&again), Err(expected), "{name}={value}");
            }
        }
        for timestamp in ["abc", "12.5", "1_000", "0x10", "- 5", "+"] {
            let query = signed("testtoken", timestamp, "1");
            assert_eq!(verdict(&query), Err(Refusal::NotANumber), "{timestamp}");
        }
        let shouted = good.to_uppercase().replace("TIMESTAMP", "timestamp");
        assert_eq!(verdict(&shouted), Err(Refusal::Incomplete));
        assert_eq!(verdict(&signed("other", "1420000000", "1234")), Err(Refusal::Wrong));
        let (head, tail) = good.split_at(good.len() - 40);
        for claimed in [tail.to_uppercase(), tail[1..].to_owned(), "0".repeat(64)] {
            let refusal = verdict(&format!("{head}{claimed}")).unwrap_err();
            let expected = if claimed.len() == 64 {
                Refusal::Scheme
            } else {
                Refusal::Wrong
            };
            assert_eq!(refusal, expected);
        }
    }

    #[test]
    fn the_window_is_strict() {
        let at = |timestamp: &str, now| at(&signed("t", timestamp, "n"), "t", now);
        for timestamp in ["1420000010", "1419999991"] {
            assert_eq!(at(timestamp, NOW), Ok(()), "{timestamp}");
        }
        for timestamp in [
            "1419999990",
            "1420000011",
            "99999999999999999999999999",
            "-99999999999999999999999999",
        ] {
            assert!(matches!(at(timestamp, NOW), Err(Refusal::Stale(_))), "{timestamp}");
        }
        let whole = 1_420_000_000_000_000;
        assert_eq!(at("1420000010", whole), Err(Refusal::Stale(10)), "a whole second");
        assert_eq!(at("1419999900", whole), Err(Refusal::Stale(-100)));
    }

    #[test]
    fn the_text_as_sent_is_hashed() {
        for timestamp in ["+1420000000", "0001420000000"] {
            assert_eq!(verdict(&signed("testtoken", timestamp, "a b")), Ok(()), "{timestamp}");
        }
        let spaced = signed("testtoken", "1420000000", "n").replace("=n", "=++n%20");
        assert_eq!(verdict(&spaced), Ok(()), "trimmed before hashing");
        assert_eq!(verdict(&signed("testtoken", "1420000000", "schlüssel")), Ok(()));
        let token = "geheimnis-ß";
        assert_eq!(at(&signed(token, "1420000000", "1"), token, NOW), Ok(()));
    }

    #[test]
    fn nonces_of_the_original() {
        for random in [0, 1, 98_999, 99_000, u64::MAX] {
            assert!((1000..=99_999).contains(&sha1::nonce(random)));
        }
    }
}

/// A query signed with hmac-sha256 for `POST /send/`.
fn sealed(secret: &[u8], parameters: &str, body: &[u8]) -> String {
    let target = format!("/send/?{parameters}");
    let digest = hmac::digest(secret, "POST", &[target.as_bytes()], &Body::new(body).digest());
    format!("{parameters}&signature={}", hex(&digest))
}

mod of_hmac {
    use super::*;

    const PARAMETERS: &str = "channel=room&timestamp=1420000000&nonce=f3";

    fn verdict(request: &Signed<'_>) -> Result<(), Refusal> {
        only(Scheme::HmacSha256).check(request, NOW).map(drop)
    }

    #[test]
    fn every_part_is_covered() {
        let query = sealed(SECRET, PARAMETERS, b"hello");
        let good = post(&query, b"hello");
        assert_eq!(verdict(&good), Ok(()));
        let tampered = [
            Signed { method: "GET", ..good },
            Signed { path: b"/sub/", ..good },
            Signed { body: b"", ..good },
            Signed {
                body: b"hello\0",
                ..good
            },
        ];
        for request in tampered {
            assert_eq!(verdict(&request), Err(Refusal::Wrong), "{request:?}");
        }
        for (from, to) in [
            ("room", "r%6Fom"),
            ("room", "rooms"),
            ("1420000000", "1420000001"),
            ("f3", "f4"),
            ("channel=room&", ""),
            ("channel=room&", "channel=room;"),
            ("channel=room", "x=1&channel=room"),
        ] {
            let query = query.replacen(from, to, 1);
            assert_eq!(verdict(&post(&query, b"hello")), Err(Refusal::Wrong), "{query}");
        }
    }

    #[test]
    fn what_cannot_be_read() {
        for parameters in [
            "nonce=f3",
            "timestamp=1420000000",
            "timestamp=x&nonce=f3",
            "timestamp=&nonce=f3",
            "timestamp=%ff&nonce=f3",
        ] {
            let query = sealed(SECRET, parameters, b"");
            assert_eq!(verdict(&post(&query, b"")), Err(Refusal::Incomplete), "{query}");
        }
        let query = sealed(SECRET, "timestamp=1420000000&nonce=", b"");
        assert_eq!(verdict(&post(&query, b"")), Err(Refusal::Wrong));
        let query = sealed(SECRET, PARAMETERS, b"");
        assert_eq!(
            verdict(&post(&query.replace("&signature=", "&other="), b"")),
            Err(Refusal::Incomplete)
        );
        assert_eq!(verdict(&post("", b"")), Err(Refusal::Incomplete));
        let long = "&signature=".to_owned() + &"0".repeat(64);
        assert_eq!(
            verdict(&post(&long, b"")),
            Err(Refusal::Incomplete),
            "nothing but a signature"
        );
    }

    #[test]
    fn the_signature_comes_last_and_in_lower_case() {
        let query = sealed(SECRET, PARAMETERS, b"");
        let (head, tail) = query.split_at(query.len() - 64);
        for query in [
            format!("{query}&x=1"),
            format!("{query}&"),
            format!("{head}{}", tail.to_uppercase()),
            format!("{head}{}", &tail[1..]),
            format!("{head}0{tail}"),
            format!("{head}%{}{}", "61", &tail[1..]),
            query.replace("&signature", ";signature"),
            query.replace("&signature", "&%73ignature"),
        ] {
            let refusal = verdict(&post(&query, b"")).unwrap_err();
            assert!(
                matches!(refusal, Refusal::Wrong | Refusal::Scheme),
                "{query}: {refusal:?}"
            );
        }
    }

    #[test]
    fn the_window_is_a_setting() {
        let at = |seconds: u64, window: u64, now: u64| {
            let query = sealed(SECRET, &format!("timestamp={seconds}&nonce=1"), b"");
            let rules = Rules {
                window: Duration::from_secs(window),
                ..only(Scheme::HmacSha256)
            };
            rules.check(&post(&query, b""), now).is_ok()
        };
        assert!(at(1_420_000_010, 10, NOW) && at(1_419_999_991, 10, NOW));
        assert!(!at(1_420_000_011, 10, NOW) && !at(1_419_999_990, 10, NOW));
        assert!(!at(1_420_000_010, 10, 1_420_000_000_000_000), "less, not equal");
        assert!(at(1_420_000_060, 61, NOW) && !at(1_420_000_002, 1, NOW));
        assert!(!at(u64::MAX, 3600, NOW) && !at(0, 3600, NOW));
    }
}

#[test]
fn the_older_secret_is_accepted_and_an_empty_one_is_none() {
    let query = sealed(b"old", "timestamp=1420000000&nonce=1", b"");
    let with = |previous: Option<&'static [u8]>| {
        let current = SECRET;
        let rules = Rules {
            secrets: Secrets { current, previous },
            ..only(Scheme::HmacSha256)
        };
        rules.check(&post(&query, b""), NOW).is_ok()
    };
    assert!(with(Some(b"old")) && !with(None) && !with(Some(b"other")));
    let config = |extra: &str| {
        let urls = "connect_url=http://a/\nforward_url=http://a/{message_type}\nclose_url=http://a/";
        let text = format!("[main]\n{urls}\nsecurity_token=t\n{extra}\n");
        Config::from_file_text("t", &text, &Default::default()).unwrap().0
    };
    let plain = config("");
    assert_eq!(Rules::of(&plain).secrets.previous, None);
    assert_eq!(Rules::of(&plain).accept, [Scheme::Sha1]);
    let changing = config("signature=hmac-sha256\nsecurity_token_previous=o\nsignature_accept=sha1, HMAC-SHA256");
    assert_eq!(Rules::of(&changing).secrets.previous, Some(&b"o"[..]));
    assert_eq!(Rules::of(&changing).accept, [Scheme::Sha1, Scheme::HmacSha256]);
    let strict = config("signature=hmac-sha256");
    assert_eq!(Rules::of(&strict).accept, [Scheme::HmacSha256]);
}

#[test]
fn what_the_head_shows() {
    let both: &[Scheme] = &[Scheme::Sha1, Scheme::HmacSha256];
    let head = |query: &[u8], now| rules(both).check_head(query, now);
    let query = sealed(SECRET, "channel=room&timestamp=1420000000&nonce=f3", b"hello");
    assert_eq!(head(query.as_bytes(), NOW), Ok(None), "the body has to say");
    let forged = query.replace("room", "rooms");
    assert_eq!(head(forged.as_bytes(), NOW), Ok(None));
    let stale = |now| head(query.as_bytes(), now).unwrap_err();
    assert_eq!(stale(NOW + 60_000_000), Refusal::Stale(-60));
    assert_eq!(stale(NOW - 60_000_000), Refusal::Stale(60));
    assert_eq!(head(b"channel=room", NOW), Err(Refusal::Incomplete));
    let mut target = b"/send/?channel=room".to_vec();
    signer(Scheme::Sha1, 7).sign("POST", &mut target, &Body::new(b"x"));
    let query = target.strip_prefix(b"/send/?").unwrap();
    assert_eq!(head(query, NOW).unwrap().unwrap().scheme, Scheme::Sha1);
    let mut wrong = query.to_vec();
    wrong.pop();
    assert_eq!(head(&wrong, NOW), Err(Refusal::Wrong));
}

#[test]
fn a_body_may_be_hashed_as_it_comes() {
    let body = vec![b'x'; 300_000];
    let query = sealed(SECRET, "timestamp=1420000000&nonce=1", &body);
    let mut hash = BodyHash::default();
    body.chunks(777).for_each(|piece| hash.update(piece));
    let rules = only(Scheme::HmacSha256);
    let check = |hashed: &Body<'_>| rules.check_body(&post(&query, b"not looked at"), hashed, NOW);
    assert!(check(&Body::hashed(b"neither", Some(hash.finish()))).is_ok());
    assert_eq!(check(&Body::new(b"other")), Err(Refusal::Wrong));
}

#[test]
fn no_scheme_passes_for_another() {
    let both: &[Scheme] = &[Scheme::Sha1, Scheme::HmacSha256];
    for scheme in [Scheme::Sha1, Scheme::HmacSha256] {
        let mut target = b"/send/?channel=room".to_vec();
        signer(scheme, 7).sign("POST", &mut target, &Body::new(b"x"));
        let query = str::from_utf8(&target).unwrap().strip_prefix("/send/?").unwrap();
        for accept in [Scheme::Sha1, Scheme::HmacSha256] {
            let expected = if accept == scheme { Ok(()) } else { Err(Refusal::Scheme) };
            assert_eq!(only(accept).check(&post(query, b"x"), NOW).map(drop), expected);
        }
        let proof = rules(both).check(&post(query, b"x"), NOW).unwrap();
        assert_eq!((proof.scheme, proof.timestamp), (scheme, 1_420_000_000));
    }
}

fn signer(scheme: Scheme, random: u64) -> Signer<'static> {
    Signer {
        scheme,
        secret: SECRET,
        unix_seconds: 1_420_000_000,
        random,
        is_relay: false,
    }
}

#[test]
fn targets_with_and_without_a_query() {
    for (target, front) in [("/c/", "/c/?"), ("/c/?", "/c/?"), ("/c?k=v", "/c?k=v&")] {
        let mut out = target.as_bytes().to_vec();
        signer(Scheme::Sha1, 234).sign("GET", &mut out, &Body::default());
        let rest = "timestamp=1420000000&nonce=1234&signature=3bb158b1b16ea2a6dbdfb5881080954c8c0c75c8";
        assert_eq!(String::from_utf8(out).unwrap(), format!("{front}{rest}"));
    }
    let mut out = b"/c/".to_vec();
    signer(Scheme::HmacSha256, 0xf3).sign("GET", &mut out, &Body::default());
    let front = b"/c/?timestamp=1420000000&nonce=00000000000000f3&signature=";
    assert_eq!((&out[..front.len()], out.len()), (&front[..], front.len() + 64));
}

proptest! {
    #[test]
    fn what_we_sign_we_accept(
        hmac: bool, random: u64, method in "GET|POST|PUT", body: Vec<u8>,
        pairs in prop::collection::vec((any::<Vec<u8>>(), any::<Vec<u8>>()), 0..5),
    ) {
        let scheme = if hmac { Scheme::HmacSha256 } else { Scheme::Sha1 };
        let mut target = b"/send/?".to_vec();
        let mut encoder = query::Encoder::new(&mut target);
        pairs.iter().for_each(|(name, value)| _ = encoder.pair(name, value));
        signer(scheme, random).sign(&method, &mut target, &Body::new(&body));
        let query = &target["/send/?".len()..];
        let request = Signed { method: &method, path: b"/send/", query, body: &body };
        prop_assert!(only(scheme).check(&request, NOW).is_ok());
    }

    #[test]
    fn one_changed_byte_is_noticed(at: prop::sample::Index, to: u8, body in prop::collection::vec(any::<u8>(), 1..40)) {
        let query = sealed(SECRET, "channel=room&timestamp=1420000000&nonce=f3", &body);
        let mut bytes = [b"/send/?", query.as_bytes(), &body].concat();
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != to);
        bytes[at] = to;
        let (target, body) = bytes.split_at(b"/send/?".len() + query.len());
        let (path, query) = target.split_at(b"/send/".len());
        let request = Signed { method: "POST", path, query: &query[1..], body };
        // Except for the question mark, which the parser of heads finds.
        prop_assert!(at == b"/send/".len() || only(Scheme::HmacSha256).check(&request, NOW).is_err());
    }

    #[test]
    fn no_query_panics(query in prop::collection::vec(any::<u8>(), 0..120), tail in "(&signature=)?[0-9a-f]{0,66}") {
        let query = [&query[..], tail.as_bytes()].concat();
        let both: &[Scheme] = &[Scheme::Sha1, Scheme::HmacSha256];
        let request = Signed { method: "GET", path: b"/", query: &query, body: b"" };
        prop_assert!(rules(both).check(&request, NOW).is_err());
    }
}
