//! Addresses of the business server: `connect_url`, `forward_url`, `close_url`.
//!
//! Parsed once at start, so that the callback client only joins ready-made parts. Invariants of an [`Endpoint`]: the host
//! is not empty, the port is not 0, `authority` and every expansion of `target` are safe inside a request head (no space,
//! no control character, ASCII only). The message type may stand in the path and the query as `{message_type}` or, as the
//! original's README spells it, `{{message_type}}` (spec §7). Fragments are dropped: they would swallow the signature.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::uri::{Authority, PathAndQuery};
use std::fmt;

const PLACEHOLDER: &str = "{message_type}";
const PLACEHOLDER_DOUBLED: &str = "{{message_type}}";

/// One business URL, taken apart. `Debug` hides the password. `Default` is blank and fit for nothing but being replaced.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// True for `https`.
    pub tls: bool,
    /// Name or address to connect to; an IPv6 address stands here without brackets.
    pub host: String,
    /// Port to connect to; 80 or 443 when the URL names none.
    pub port: u16,
    /// Value of the `Host` header: as written in the URL, without user information.
    pub authority: String,
    /// Path and query, starting with `/`, placeholder spelled `{message_type}`, no fragment.
    pub target: String,
    /// Ready value of the `Authorization` header (`Basic …`) when the URL carries user information. It is taken as
    /// written, without percent-decoding, like the original's HTTP client does.
    pub basic_auth: Option<String>,
}

/// Why a text is not a usable URL. Lower-case phrases that end in what to do; they do not quote the URL (it may hold a
/// password).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UrlError {
    /// The value stands in quotes.
    Quoted,
    /// White space or a control character.
    Space,
    /// Neither `http://` nor `https://`.
    Scheme,
    /// Nothing between the slashes.
    Host,
    /// Host with characters that are not allowed there.
    HostCharacters,
    /// Port not in 1..65535.
    Port,
    /// `{message_type}` in front of the path.
    PlaceholderInHost,
    /// User information with characters outside ASCII.
    UserInfo,
    /// Path or query with characters no request line may carry.
    Target,
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UrlError::Quoted => "quotes are part of the value here; write the URL without them",
            UrlError::Space => "URL contains white space or a control character; write it on one line, spaces as %%20",
            UrlError::Scheme => "URL must start with http:// or https://",
            UrlError::Host => "URL names no host; write http://host:port/path",
            UrlError::HostCharacters => "host is not a name or address; write international names in their xn-- form",
            UrlError::Port => "port of the URL is not in 1..65535",
            UrlError::PlaceholderInHost => "{message_type} may stand in the path and the query only",
            UrlError::UserInfo => "user:password@ of the URL must be printable ASCII",
            UrlError::Target => "path or query of the URL has characters that must be percent-encoded (and % doubled)",
        })
    }
}

impl std::error::Error for UrlError {}

impl Endpoint {
    /// Parses one URL.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(text: &str) -> Result<Endpoint, UrlError> {
        if text.starts_with(['"', '\'']) {
            return Err(UrlError::Quoted);
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(UrlError::Space);
        }
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::Scheme)?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(UrlError::Scheme),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let (front, tail) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if front.contains(PLACEHOLDER) {
            return Err(UrlError::PlaceholderInHost);
        }
        let (user, authority) = match front.rsplit_once('@') {
            Some((user, authority)) => (Some(user), authority),
            None => (None, front),
        };
        let (host, port) = host_and_port(authority)?;
        let port = port.unwrap_or(if tls { 443 } else { 80 });
        let authority = authority.trim_end_matches(':').to_owned();
        let basic_auth = user.filter(|user| !user.is_empty()).map(basic_auth).transpose()?;
        Ok(Endpoint {
            tls,
            host,
            port,
            authority,
            target: target(tail)?,
            basic_auth,
        })
    }

    /// Whether the message type has a place in this URL.
    pub fn has_placeholder(&self) -> bool {
        self.target.contains(PLACEHOLDER)
    }

    /// The request target of one call: placeholder filled in, `query` (already encoded) appended with `?` or `&`,
    /// whichever fits (spec §4, §7). A target without placeholder ignores `message_type`.
    pub fn request_target(&self, message_type: Option<u16>, query: &str) -> String {
        let mut out = String::with_capacity(self.target.len() + query.len() + 1);
        let mut parts = self.target.split(PLACEHOLDER);
        out.push_str(parts.next().unwrap_or("/"));
        for part in parts {
            match message_type {
                Some(number) => out.push_str(&number.to_string()),
                None => out.push_str("%7Bmessage_type%7D"),
            }
            out.push_str(part);
        }
        if !query.is_empty() {
            if !out.contains('?') {
                out.push('?');
            } else if !out.ends_with(['?', '&']) {
                out.push('&');
            }
            out.push_str(query);
        }
        out
    }
}

/// The URL without its user information and without the values of its query, which may be keys: fit for logs and for
/// `--check-config`.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        let user = if self.basic_auth.is_some() { "(set)@" } else { "" };
        let (path, query) = match self.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (self.target.as_str(), None),
        };
        write!(f, "{scheme}://{user}{}{path}", self.authority)?;
        for (mark, parameter) in query.into_iter().flat_map(parameters) {
            write!(f, "{mark}{}", masked(parameter))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self})")
    }
}

/// The parts of a query with the sign in front of each.
fn parameters(query: &str) -> impl Iterator<Item = (char, &str)> {
    std::iter::once('?').chain(std::iter::repeat('&')).zip(query.split('&'))
}

/// `name=(set)`; the placeholder is no secret, and a parameter without a name may be one.
fn masked(parameter: &str) -> String {
    match parameter.split_once('=') {
        Some((_, "" | PLACEHOLDER)) => parameter.to_owned(),
        None if matches!(parameter, "" | PLACEHOLDER) => parameter.to_owned(),
        None => "(set)".to_owned(),
        Some((name, _)) => format!("{name}=(set)"),
    }
}

fn basic_auth(user: &str) -> Result<String, UrlError> {
    if !user.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(UrlError::UserInfo);
    }
    // A user without password still needs the colon (RFC 7617 §2).
    let colon = if user.contains(':') { "" } else { ":" };
    Ok(format!("Basic {}", STANDARD.encode(format!("{user}{colon}"))))
}

/// Splits `host:port` or `[v6]:port`; the port is `None` when absent or empty (`host:`). Also used for cluster peers.
pub(super) fn host_and_port(authority: &str) -> Result<(String, Option<u16>), UrlError> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or(UrlError::HostCharacters)?;
            host.parse::<std::net::Ipv6Addr>()
                .map_err(|_| UrlError::HostCharacters)?;
            match port.strip_prefix(':') {
                None if !port.is_empty() => return Err(UrlError::HostCharacters),
                after_colon => (host, after_colon),
            }
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    if host.is_empty() {
        return Err(UrlError::Host);
    }
    let port = port.filter(|port| !port.is_empty()).map(port_number).transpose()?;
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if !authority.starts_with('[') && !host.bytes().all(is_name) || authority.parse::<Authority>().is_err() {
        return Err(UrlError::HostCharacters);
    }
    Ok((host.to_owned(), port))
}

fn port_number(text: &str) -> Result<u16, UrlError> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|port| is_number && *port != 0)
        .ok_or(UrlError::Port)
}

/// Path and query in the form requests use: never empty, one spelling of the placeholder, non-ASCII percent-encoded.
fn target(tail: &str) -> Result<String, UrlError> {
    let tail = tail.replace(PLACEHOLDER_DOUBLED, PLACEHOLDER);
    let slash = if tail.starts_with('/') { "" } else { "/" };
    let parts: Vec<String> = tail.split(PLACEHOLDER).map(percent_encode).collect();
    // Braces are not URL characters (RFC 3986 §2), so the check looks at the target with the placeholder filled in.
    if format!("{slash}{}", parts.join("65535"))
        .parse::<PathAndQuery>()
        .is_err()
    {
        return Err(UrlError::Target);
    }
    Ok(format!("{slash}{}", parts.join(PLACEHOLDER)))
}

/// Encodes what no request line may carry (RFC 3986 §2) and leaves everything else, `%` included, as written.
fn percent_encode(text: &str) -> String {
    let is_odd = |c: char| matches!(c, '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}');
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c.is_ascii() && !is_odd(c) => out.push(c),
            c => c
                .encode_utf8(&mut [0; 4])
                .bytes()
                .for_each(|byte| out.push_str(&format!("%{byte:02X}"))),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn url(text: &str) -> Endpoint {
        Endpoint::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn parts() {
        let table = [
            ("http://a.example", (false, "a.example", 80, "a.example", "/")),
            ("HTTPS://a.example?x=1", (true, "a.example", 443, "a.example", "/?x=1")),
            (
                "http://10.0.0.1:8000/c/?k=v#frag",
                (false, "10.0.0.1", 8000, "10.0.0.1:8000", "/c/?k=v"),
            ),
            ("http://[::1]:9/", (false, "::1", 9, "[::1]:9", "/")),
            ("https://[::1]", (true, "::1", 443, "[::1]", "/")),
            ("http://a:/x", (false, "a", 80, "a", "/x")),
            ("http://my_host/\u{e4}", (false, "my_host", 80, "my_host", "/%C3%A4")),
            (
                "http://a/{type}|<x>?\"",
                (false, "a", 80, "a", "/%7Btype%7D%7C%3Cx%3E?%22"),
            ),
            (
                "http://a/{{message_type}}/{message_type}",
                (false, "a", 80, "a", "/{message_type}/{message_type}"),
            ),
        ];
        for (text, expected) in table {
            let e = url(text);
            assert_eq!((e.tls, &*e.host, e.port, &*e.authority, &*e.target), expected, "{text}");
        }
    }

    #[test]
    fn refusals() {
        let table = [
            ("", UrlError::Scheme),
            ("localhost/x", UrlError::Scheme),
            ("ftp://a/", UrlError::Scheme),
            ("\"http://a/\"", UrlError::Quoted),
            ("http://a/ b", UrlError::Space),
            ("http://a/\nb", UrlError::Space),
            ("http:///x", UrlError::Host),
            ("http://:80/", UrlError::Host),
            ("http://\u{e4}.example/", UrlError::HostCharacters),
            ("http://[::1/", UrlError::HostCharacters),
            ("http://[::1]x/", UrlError::HostCharacters),
            ("http://a:1:2/", UrlError::Port),
            ("http://a:0/", UrlError::Port),
            ("http://a:70000/", UrlError::Port),
            ("http://a:+80/", UrlError::Port),
            ("http://a%/", UrlError::HostCharacters),
            ("http://{message_type}.example/", UrlError::PlaceholderInHost),
            ("http://\u{e4}:x@a/", UrlError::UserInfo),
        ];
        for (text, expected) in table {
            assert_eq!(Endpoint::parse(text), Err(expected), "{text:?}");
        }
    }

    #[test]
    fn user_information_becomes_a_header_and_is_never_shown() {
        let endpoint = url("http://rain:bow@d@a:1/x");
        assert_eq!(endpoint.basic_auth.as_deref(), Some("Basic cmFpbjpib3dAZA=="));
        assert_eq!(endpoint.authority, "a:1");
        assert_eq!(
            format!("{endpoint:?} {endpoint}"),
            "Endpoint(http://(set)@a:1/x) http://(set)@a:1/x"
        );
        assert_eq!(url("http://rain@a/").basic_auth.as_deref(), Some("Basic cmFpbjo="));
        assert_eq!(url("http://@a/").basic_auth, None);
    }

    #[test]
    fn values_of_the_query_are_not_shown() {
        let table = [
            (
                "http://a/x?key=s3cret&t={message_type}&s3cret&e=",
                "http://a/x?key=(set)&t={message_type}&(set)&e=",
            ),
            (
                "http://a/{message_type}?{message_type}",
                "http://a/{message_type}?{message_type}",
            ),
            ("http://a/x?a=s3cret=s3cret", "http://a/x?a=(set)"),
            ("http://a/x?", "http://a/x?"),
        ];
        for (text, shown) in table {
            assert_eq!(url(text).to_string(), shown);
            assert!(!format!("{:?}", url(text)).contains("s3cret"));
        }
    }

    #[test]
    fn request_targets() {
        let table = [
            ("http://a/m/{message_type}/", "/m/7/?s=1"),
            ("http://a/m?t={{message_type}}", "/m?t=7&s=1"),
            ("http://a/{message_type}{message_type}", "/77?s=1"),
            ("http://a/m?", "/m?s=1"),
            ("http://a/m?a&", "/m?a&s=1"),
            ("http://a", "/?s=1"),
        ];
        for (text, expected) in table {
            assert_eq!(url(text).request_target(Some(7), "s=1"), expected, "{text}");
        }
        assert_eq!(
            url("http://a/{message_type}").request_target(None, ""),
            "/%7Bmessage_type%7D"
        );
    }

    proptest! {
        #[test]
        fn whatever_parses_is_safe_in_a_request_head(text in "https?://(a|\\PC{0,6}@?)[a-z0-9.:\\[\\]]{0,8}(/|\\?|#)\\PC{0,20}") {
            if let Ok(endpoint) = Endpoint::parse(&text) {
                let head = format!("{}{}", endpoint.request_target(Some(1), "q=1"), endpoint.authority);
                prop_assert!(head.bytes().all(|byte| byte.is_ascii_graphic()), "{}", head);
                prop_assert!(!endpoint.host.is_empty() && endpoint.port != 0);
            }
        }
    }
}
