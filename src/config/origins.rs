//! Rules for the origins of web pages (RFC 6454): `https://a.example`, `https://*.a.example`, `http://localhost:*`, `null`, `*`.
//!
//! A rule that could never match what a browser sends is refused with advice, since it would lock everybody out in silence. Default
//! ports and a final slash are understood; case does not matter. Callers: `config/kind.rs`; `shard/gate.rs` asks.

use super::value::quoted;
use std::fmt;

/// One rule of `origins`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OriginRule {
    /// Every page.
    Any,
    /// Pages without an origin of their own: files, sandboxed frames.
    Null,
    /// Pages of a server.
    Site {
        /// Lower case.
        scheme: String,
        /// Any number of labels may stand in front of `host`, at least one.
        is_wildcard: bool,
        /// Lower case.
        host: String,
        /// `None`: any. 0: the scheme has no default, and none is named.
        port: Option<u16>,
    },
}

impl OriginRule {
    /// Reads one rule.
    ///
    /// # Errors
    /// What is wrong with it, and what to write.
    pub fn parse(word: &str) -> Result<OriginRule, String> {
        let refuse = |advice: &str| Err(format!("{} {advice}", quoted(word)));
        match word {
            "*" => return Ok(OriginRule::Any),
            _ if word.eq_ignore_ascii_case("null") => return Ok(OriginRule::Null),
            _ => {}
        }
        let Some((scheme, rest)) = word.split_once("://") else {
            return refuse(&format!(
                "has no scheme; write https://{}",
                word.trim_matches('/').escape_debug()
            ));
        };
        let scheme = scheme.to_ascii_lowercase();
        if matches!(scheme.as_str(), "ws" | "wss") {
            return refuse(
                "is where a websocket goes; an origin is where the page comes from: write http:// or https://",
            );
        }
        let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        if !scheme.starts_with(|c: char| c.is_ascii_lowercase()) || !scheme.bytes().all(is_scheme) {
            return refuse("has an odd scheme; write for example https://a.example");
        }
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#', '@']) {
            return refuse("is more than an origin; leave the path and the user out: https://a.example");
        }
        let (authority, is_any_port) = match authority.strip_suffix(":*") {
            Some(host) => (host, true),
            None => (authority, false),
        };
        let Some((host, port)) = host_and_port(authority) else {
            return refuse("has a port that is not in 1..65535");
        };
        let (is_wildcard, host) = match host.strip_prefix("*.") {
            Some(parent) => (true, parent),
            None => (false, host),
        };
        if host.contains('*') {
            return refuse(
                "has its * where it means nothing; *.a.example stands for every name below a.example, * alone for any origin",
            );
        }
        if !host.is_ascii() {
            return refuse("has letters that browsers write in their xn-- form");
        }
        let is_v6 = host.starts_with('[') && host.ends_with(']');
        if host.is_empty() || !(is_v6 || host.bytes().all(is_name)) {
            return refuse("names no server; write for example https://a.example");
        }
        Ok(OriginRule::Site {
            port: (!is_any_port).then(|| port.unwrap_or_else(|| default_port(&scheme))),
            host: host.to_ascii_lowercase(),
            is_wildcard,
            scheme,
        })
    }

    /// Whether a page of `origin`, as a browser says it, is meant.
    pub fn allows(&self, origin: &[u8]) -> bool {
        match self {
            OriginRule::Any => true,
            OriginRule::Null => origin.eq_ignore_ascii_case(b"null"),
            OriginRule::Site {
                scheme,
                is_wildcard,
                host,
                port,
            } => {
                let Some((theirs, rest)) = str::from_utf8(origin).ok().and_then(|origin| origin.split_once("://"))
                else {
                    return false;
                };
                let Some((name, said)) = host_and_port(rest) else {
                    return false;
                };
                theirs.eq_ignore_ascii_case(scheme)
                    && port.is_none_or(|port| said.unwrap_or_else(|| default_port(scheme)) == port)
                    && is_of(name, host, *is_wildcard)
            }
        }
    }
}

fn is_of(name: &str, host: &str, is_wildcard: bool) -> bool {
    if !is_wildcard {
        return name.eq_ignore_ascii_case(host);
    }
    let below = name
        .len()
        .checked_sub(host.len())
        .and_then(|at| name.split_at_checked(at));
    below.is_some_and(|(labels, parent)| {
        let is_whole = labels.len() > 1 && labels.ends_with('.') && labels.bytes().all(is_name);
        is_whole && parent.eq_ignore_ascii_case(host)
    })
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')
}

/// `None` if the port is none. An empty one counts as not named.
fn host_and_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let end_of_v6 = authority.rfind(']').unwrap_or(0);
    match authority.rfind(':').filter(|at| *at > end_of_v6 || end_of_v6 == 0) {
        None => Some((authority, None)),
        Some(at) => {
            let (host, port) = (authority.get(..at)?, authority.get(at + 1..)?);
            if port.is_empty() {
                return Some((host, None));
            }
            let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
            let number = port.parse().ok().filter(|number| is_number && *number != 0)?;
            Some((host, Some(number)))
        }
    }
}

fn default_port(scheme: &str) -> u16 {
    match scheme {
        "http" => 80,
        "https" => 443,
        _ => 0,
    }
}

impl fmt::Display for OriginRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OriginRule::Any => f.write_str("*"),
            OriginRule::Null => f.write_str("null"),
            OriginRule::Site {
                scheme,
                is_wildcard,
                host,
                port,
            } => {
                let star = if *is_wildcard { "*." } else { "" };
                write!(f, "{scheme}://{star}{host}")?;
                match port {
                    None => f.write_str(":*"),
                    Some(port) if *port == default_port(scheme) => Ok(()),
                    Some(port) => write!(f, ":{port}"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(rule: &str, origin: &str) -> bool {
        OriginRule::parse(rule).expect(rule).allows(origin.as_bytes())
    }

    #[test]
    fn what_is_meant_is_understood() {
        let rules = [
            "https://a.example",
            "https://a.example/",
            "HTTPS://A.example:443",
            "https://a.example:",
        ];
        for rule in rules {
            assert!(
                allows(rule, "https://a.example") && allows(rule, "https://A.EXAMPLE:443"),
                "{rule}"
            );
            for other in [
                "http://a.example",
                "https://a.example:8443",
                "https://b.example",
                "https://xa.example",
                "null",
                "",
            ] {
                assert!(!allows(rule, other), "{rule}: {other}");
            }
        }
        for origin in ["http://localhost", "http://localhost:1", "http://LOCALHOST:65535"] {
            assert!(allows("http://localhost:*", origin), "{origin}");
        }
        for other in [
            "https://localhost:1",
            "http://localhost.a.example:1",
            "http://localhost:0",
            "http://a.localhost:1",
        ] {
            assert!(!allows("http://localhost:*", other), "{other}");
        }
        assert_eq!(
            OriginRule::parse("http://[::1]:*").expect("a rule").to_string(),
            "http://[::1]:*"
        );
        assert!(allows("http://[::1]:*", "http://[::1]:8080"));
        assert!(allows("http://localhost:3000", "http://localhost:3000"));
        assert!(!allows("http://localhost:3000", "http://localhost"));
        assert!(allows("http://[::1]:80", "http://[::1]") && allows("http://[::1]:8080", "http://[::1]:8080"));
        assert!(allows("chrome-extension://abcd", "chrome-extension://abcd"));
        assert!(allows("null", "null") && !allows("null", "https://null"));
        assert!(allows("*", "https://any.example") && allows("*", "null"));
    }

    #[test]
    fn a_star_stands_for_labels_in_front() {
        let rule = "https://*.a.example:8443";
        for origin in ["https://x.a.example:8443", "https://X.Y.A.example:8443"] {
            assert!(allows(rule, origin), "{origin}");
        }
        for origin in [
            "https://a.example:8443",
            "https://.a.example:8443",
            "https://xa.example:8443",
            "https://x.a.example",
            "https://evil.example, x.a.example:8443",
            "https://evil.example/x.a.example:8443",
            "https://x.a.example:8443.evil.example:8443",
            "https://evil.example/x.a.example:8443x",
            "https://\u{e4}.b.example:8443",
        ] {
            assert!(!allows(rule, origin), "{origin}");
        }
    }

    #[test]
    fn what_could_never_match_is_refused() {
        let table = [
            ("a.example", "has no scheme; write https://a.example"),
            ("*.a.example", "has no scheme"),
            ("//a.example/", "has no scheme; write https://a.example"),
            ("wss://a.example", "an origin is where the page comes from"),
            ("https://a.example/app", "leave the path and the user out"),
            ("https://u@a.example", "leave the path and the user out"),
            ("https://a.example:0", "has a port that is not in 1..65535"),
            ("https://*", "* alone for any origin"),
            ("https://x*.a.example", "* alone for any origin"),
            ("https://\u{e4}.example", "in their xn-- form"),
            ("https://", "names no server"),
            ("https://a b", "names no server"),
            ("1://a", "has an odd scheme"),
        ];
        for (rule, advice) in table {
            let refusal = OriginRule::parse(rule).expect_err(rule);
            assert!(refusal.contains(advice), "{rule}: {refusal}");
        }
    }

    #[test]
    fn shown_rules_read_back_as_themselves() {
        for rule in [
            "*",
            "null",
            "https://*.a.example",
            "http://a:81",
            "https://[::1]:80",
            "app://x",
        ] {
            let parsed = OriginRule::parse(rule).expect(rule);
            assert_eq!(parsed.to_string(), rule);
        }
    }
}
