//! Where a request goes: `http` and `https` URLs as a business configures them, and the `Location` of a redirect
//! (RFC 3986 §5.2, RFC 9110 §10.2.2). Pure. Used by the client and by whoever builds requests for it.
//!
//! Invariant: the bytes of a [`Url`] can be written into a request head as they are: no control character, no space.

use std::hash::{Hash, Hasher};
use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

/// One server to connect to. Equal if scheme, host and port are, however the URL spelled them; the key of the
/// connection pool and of the callback lanes.
#[derive(Clone, Debug)]
pub struct Origin {
    /// `https`.
    pub tls: bool,
    /// Name in lower case, or an IP address (version 6 without brackets).
    pub host: Box<str>,
    /// TCP port.
    pub port: u16,
    /// Value of the `Host` header: host and port as the URL spelled them.
    pub authority: Box<str>,
}

impl PartialEq for Origin {
    fn eq(&self, other: &Self) -> bool {
        self.tls == other.tls && self.port == other.port && self.host == other.host
    }
}

impl Eq for Origin {}

impl Hash for Origin {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.tls, self.port, &self.host).hash(state);
    }
}

/// A whole URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// The server.
    pub origin: Rc<Origin>,
    /// Path and query as they go into the request line; starts with `/`.
    pub target: Bytes,
    /// `Basic …` if the URL carried user information. Not percent-decoded, like the original.
    pub authorization: Option<Bytes>,
}

impl Url {
    /// Parses `http://[user[:password]@]host[:port][/path][?query][#ignored]`, or the same with `https`. `None` if it is
    /// anything else, or contains a space or control character.
    pub fn parse(text: &[u8]) -> Option<Url> {
        let colon = text.iter().position(|&c| c == b':')?;
        let (scheme, rest) = text.split_at(colon);
        let tls = match scheme {
            s if s.eq_ignore_ascii_case(b"http") => false,
            s if s.eq_ignore_ascii_case(b"https") => true,
            _ => return None,
        };
        Self::after_scheme(tls, rest.strip_prefix(b"://")?)
    }

    /// The URL a `Location` names, seen from `self`. `None` if it is not one of ours (another scheme, malformed).
    /// User information is kept within one origin only.
    pub fn join(&self, location: &[u8]) -> Option<Url> {
        let location = location.trim_ascii();
        if let Some(rest) = location.strip_prefix(b"//") {
            return Self::after_scheme(self.origin.tls, rest).map(|url| self.pass_authorization(url));
        }
        if has_scheme(location) {
            return Self::parse(location).map(|url| self.pass_authorization(url));
        }
        let relative = until_fragment(location);
        if !is_writable(relative) {
            return None;
        }
        Some(Url {
            origin: self.origin.clone(),
            target: self.relative_target(relative),
            authorization: self.authorization.clone(),
        })
    }

    fn pass_authorization(&self, mut url: Url) -> Url {
        if url.authorization.is_none() && url.origin == self.origin {
            url.authorization = self.authorization.clone();
        }
        url
    }

    fn after_scheme(tls: bool, rest: &[u8]) -> Option<Url> {
        let rest = until_fragment(rest);
        if !is_writable(rest) {
            return None;
        }
        let end = rest.iter().position(|c| matches!(c, b'/' | b'?')).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let (user, authority) = match authority.iter().rposition(|&c| c == b'@') {
            Some(at) => (authority.get(..at), authority.get(at + 1..)?),
            None => (None, authority),
        };
        let target = match target.first() {
            Some(b'/') => Bytes::copy_from_slice(target),
            _ => [b"/", target].concat().into(),
        };
        Some(Url {
            origin: Rc::new(origin(tls, authority)?),
            target,
            authorization: user.map(basic),
        })
    }

    fn relative_target(&self, relative: &[u8]) -> Bytes {
        let path = split_query(&self.target).0;
        match relative.first() {
            None => self.target.clone(),
            Some(b'?') => [path, relative].concat().into(),
            Some(b'/') => without_dots(relative),
            Some(_) => {
                let folder = path.iter().rposition(|&c| c == b'/').map_or(0, |at| at + 1);
                without_dots(&[path.get(..folder).unwrap_or(b"/"), relative].concat())
            }
        }
    }
}

fn origin(tls: bool, authority: &[u8]) -> Option<Origin> {
    let authority = std::str::from_utf8(authority).ok().filter(|a| a.is_ascii())?;
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            let port = if rest.is_empty() { rest } else { rest.strip_prefix(':')? };
            (host, port)
        }
        None => authority.split_once(':').unwrap_or((authority, "")),
    };
    let port = match port {
        "" if tls => 443,
        "" => 80,
        digits if digits.bytes().all(|c| c.is_ascii_digit()) => digits.parse().ok().filter(|&port| port != 0)?,
        _ => return None,
    };
    if host.is_empty() || host.bytes().any(|c| b"\\\"<>^`{|}[]".contains(&c)) {
        return None;
    }
    Some(Origin {
        tls,
        host: host.to_ascii_lowercase().into(),
        port,
        authority: authority.into(),
    })
}

fn basic(user: &[u8]) -> Bytes {
    let mut pair = user.to_vec();
    if !pair.contains(&b':') {
        pair.push(b':');
    }
    format!("Basic {}", STANDARD.encode(pair)).into()
}

fn is_writable(text: &[u8]) -> bool {
    text.iter().all(|&c| c > b' ' && c != 0x7f)
}

fn until_fragment(text: &[u8]) -> &[u8] {
    text.split(|&c| c == b'#').next().unwrap_or(text)
}

fn split_query(target: &[u8]) -> (&[u8], &[u8]) {
    target.split_at(target.iter().position(|&c| c == b'?').unwrap_or(target.len()))
}

/// A reference has a scheme if a colon comes before any slash, question mark or number sign.
fn has_scheme(reference: &[u8]) -> bool {
    let first = reference.iter().find(|c| matches!(c, b':' | b'/' | b'?' | b'#'));
    first == Some(&b':')
}

/// RFC 3986 §5.2.4 for a target that starts with `/`; the query stays as it is.
fn without_dots(target: &[u8]) -> Bytes {
    let (path, query) = split_query(target);
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut segments = path.split(|&c| c == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            b"." => {}
            b".." => {
                kept.pop();
            }
            _ => {
                kept.push(segment);
                continue;
            }
        }
        if last {
            kept.push(b"");
        }
    }
    let mut clean = Vec::with_capacity(target.len());
    for segment in kept {
        clean.push(b'/');
        clean.extend_from_slice(segment);
    }
    clean.extend_from_slice(query);
    clean.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text.as_bytes()).expect(text)
    }

    #[test]
    fn urls_are_taken_apart() {
        let plain = url("HTTP://Example.com/a/b?c=d#e");
        assert_eq!((plain.origin.tls, plain.origin.port), (false, 80));
        assert_eq!(
            (&*plain.origin.host, &*plain.origin.authority),
            ("example.com", "Example.com")
        );
        assert_eq!(&plain.target[..], b"/a/b?c=d");
        assert_eq!(plain.authorization, None);

        let full = url("https://me:secret@[::1]:8443?x");
        assert_eq!((full.origin.tls, full.origin.port), (true, 8443));
        assert_eq!((&*full.origin.host, &*full.origin.authority), ("::1", "[::1]:8443"));
        assert_eq!(&full.target[..], b"/?x");
        assert_eq!(full.authorization.unwrap(), "Basic bWU6c2VjcmV0");
        assert_eq!(&url("http://h").target[..], b"/");
    }

    #[test]
    fn what_is_not_a_url_is_refused() {
        for text in [
            "",
            "http:",
            "http://",
            "ftp://h/",
            "http://h:0/",
            "http://h:70000/",
            "http://h:+1/",
            "http://[::1/",
            "http://[x]/",
            "http://h/a b",
            "http://h/a\r\nX: y",
            "http://h\u{e4}/",
            "//h/",
            "/a",
        ] {
            assert_eq!(Url::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn origins_compare_by_where_they_lead() {
        assert_eq!(url("http://H:80/a").origin, url("http://h/b").origin);
        assert_ne!(url("https://h:80/").origin, url("http://h:80/").origin);
        assert_ne!(url("http://h:81/").origin, url("http://h/").origin);
    }

    #[test]
    fn locations_are_resolved() {
        let base = url("http://u@h:8080/a/b/c?q");
        for (location, target) in [
            ("", "/a/b/c?q"),
            ("?x=1", "/a/b/c?x=1"),
            ("/z?y", "/z?y"),
            ("d", "/a/b/d"),
            ("./d#f", "/a/b/d"),
            ("../d", "/a/d"),
            ("../../../d/..", "/"),
            (".", "/a/b/"),
            ("/x/./y/../z?../n", "/x/z?../n"),
            (" /spaced ", "/spaced"),
        ] {
            let joined = base.join(location.as_bytes()).expect(location);
            assert_eq!(joined.target, target, "{location}");
            assert_eq!(joined.origin, base.origin);
            assert!(joined.authorization.is_some());
        }
        assert_eq!(base.join(b"mailto:x"), None);
        assert_eq!(base.join(b"/a\r\nb"), None);
    }

    #[test]
    fn credentials_stay_with_their_origin() {
        let base = url("http://u:p@h/a");
        assert!(base.join(b"http://h/b").unwrap().authorization.is_some());
        assert!(base.join(b"http://other/b").unwrap().authorization.is_none());
        assert!(base.join(b"//other:81/b").unwrap().authorization.is_none());
        assert_eq!(&*base.join(b"//other:81/b").unwrap().origin.host, "other");
        assert_ne!(base.join(b"http://x:y@h/b").unwrap().authorization, base.authorization);
    }
}
