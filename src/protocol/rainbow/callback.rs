//! URLs and header blocks of the requests to the business server.
//!
//! A configured URL is a template: its user info and fragment are set apart, `{message_type}` is filled in, then come the
//! extra query and the signature. Source: spec sections 4 and 7. The session builds header blocks, the control core URLs.

use super::sign::Signer;
use crate::engine::ids::Identity;
use crate::wire::{http1, query};

/// `Content-Type` of a message callback, whatever the payload is.
pub const MESSAGE_CONTENT_TYPE: &str = "application/x-www-form-urlencoded";

/// One URL to call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallUrl {
    text: Vec<u8>,
    path_at: usize,
}

/// Why a configured URL cannot be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UrlError {
    /// No `scheme://` in front, or nothing behind it.
    NotAbsolute,
    /// A space or a control or non-ASCII character in the host part.
    Authority,
}

impl std::fmt::Display for UrlError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            UrlError::NotAbsolute => "not an absolute url",
            UrlError::Authority => "bad host in url",
        })
    }
}

impl std::error::Error for UrlError {}

impl CallUrl {
    /// Fills `template`. `msgtype` is given for message callbacks only, `extra` is URL-encoded without a separator in front.
    pub fn new(template: &str, msgtype: Option<u16>, extra: &[u8], signer: &Signer<'_>) -> Result<Self, UrlError> {
        let (template, _fragment) = template.split_once('#').unwrap_or((template, ""));
        let filled = msgtype.map_or_else(|| template.to_owned(), |msgtype| fill(template, msgtype));
        let (mut text, path_at) = split_path(&filled)?;
        if !extra.is_empty() {
            text.extend_from_slice(separator(&text[path_at..]));
            text.extend_from_slice(extra);
        }
        text.extend_from_slice(separator(&text[path_at..]));
        signer.sign(&mut query::Encoder::new(&mut text));
        Ok(Self { text, path_at })
    }

    /// `scheme://user:password@host:port`, the user info and the port if configured.
    pub fn origin(&self) -> &[u8] {
        &self.text[..self.path_at]
    }

    /// Path and query: the target of the request line. Starts with `/`, holds printable ASCII only.
    pub fn target(&self) -> &[u8] {
        &self.text[self.path_at..]
    }

    /// The whole URL. Holds the password and the signature: not for logs.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text
    }
}

/// Both spellings of the placeholder, wherever they occur.
fn fill(template: &str, msgtype: u16) -> String {
    let msgtype = msgtype.to_string();
    template
        .replace("{{message_type}}", &msgtype)
        .replace("{message_type}", &msgtype)
}

/// Whether a message URL says where the type goes; without it the business is not told (worth a warning at start).
pub fn has_placeholder(template: &str) -> bool {
    let (template, _fragment) = template.split_once('#').unwrap_or((template, ""));
    template.contains("{message_type}")
}

/// The URL and where its path starts; a missing path becomes `/`, bytes no target may have are escaped.
fn split_path(url: &str) -> Result<(Vec<u8>, usize), UrlError> {
    let (scheme, rest) = url.split_once("://").ok_or(UrlError::NotAbsolute)?;
    let authority = rest.find(['/', '?']).unwrap_or(rest.len());
    if scheme.is_empty() || authority == 0 {
        return Err(UrlError::NotAbsolute);
    }
    let (origin, path) = url.split_at(scheme.len() + "://".len() + authority);
    if !origin.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(UrlError::Authority);
    }
    let mut text = Vec::with_capacity(url.len() + 160); // room for the signature
    text.extend_from_slice(origin.as_bytes());
    if !path.starts_with('/') {
        text.push(b'/');
    }
    for byte in path.bytes() {
        match byte {
            b'!'..=b'~' => text.push(byte),
            b' ' => text.extend_from_slice(b"%20"), // `+` in a path is a plus
            _ => query::encode(&mut text, &[byte]),
        }
    }
    Ok((text, origin.len()))
}

/// What goes between a target and one more parameter.
fn separator(target: &[u8]) -> &'static [u8] {
    let Some(at) = target.iter().position(|byte| *byte == b'?') else {
        return b"?";
    };
    match &target[at + 1..] {
        [] | [.., b'&'] => b"",
        _ => b"&",
    }
}

/// Header lines of a close callback, and of a message callback but for its content type: identity, and the cookie if set.
pub fn client_headers(identity: &Identity, cookie: Option<&[u8]>) -> Vec<u8> {
    let mut out = Vec::with_capacity(96 + cookie.map_or(0, |cookie| cookie.len() + 24));
    http1::push_header(&mut out, b"Rainbowclientidentity", identity);
    if let Some(cookie) = cookie {
        http1::push_header(&mut out, b"Rainbowclientcookie", cookie);
    }
    out
}

/// Header lines of a message callback.
pub fn message_headers(identity: &Identity, cookie: Option<&[u8]>) -> Vec<u8> {
    let mut out = client_headers(identity, cookie);
    http1::push_header(&mut out, b"Content-Type", MESSAGE_CONTENT_TYPE.as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIGNER: Signer<'static> = Signer {
        token: b"testtoken",
        unix_seconds: 1_420_000_000,
        nonce: 1234,
    };
    const SIGNED: &str = "timestamp=1420000000&nonce=1234&signature=3bb158b1b16ea2a6dbdfb5881080954c8c0c75c8";

    fn url(template: &str, msgtype: Option<u16>, extra: &str) -> String {
        let url = CallUrl::new(template, msgtype, extra.as_bytes(), &SIGNER).unwrap();
        assert_eq!([url.origin(), url.target()].concat(), url.as_bytes());
        assert!(url.target().starts_with(b"/"));
        String::from_utf8(url.target().to_vec()).unwrap()
    }

    #[test]
    fn queries_are_joined_by_the_right_separator() {
        assert_eq!(url("http://h/connect/", None, ""), format!("/connect/?{SIGNED}"));
        assert_eq!(
            url("http://h/connect/", None, "a=1&b="),
            format!("/connect/?a=1&b=&{SIGNED}")
        );
        assert_eq!(
            url("http://h/connect/?k=v", None, "a=1"),
            format!("/connect/?k=v&a=1&{SIGNED}")
        );
        assert_eq!(
            url("http://h/connect/?k=v", None, ""),
            format!("/connect/?k=v&{SIGNED}")
        );
        assert_eq!(url("http://h/connect/?", None, ""), format!("/connect/?{SIGNED}"));
        assert_eq!(
            url("http://h/connect/?k=v&", None, "a"),
            format!("/connect/?k=v&a&{SIGNED}")
        );
        assert_eq!(url("http://h/p?k=v?", None, ""), format!("/p?k=v?&{SIGNED}"));
        assert_eq!(url("http://h", None, ""), format!("/?{SIGNED}"));
        assert_eq!(url("http://h?k=v", None, ""), format!("/?k=v&{SIGNED}"));
    }

    #[test]
    fn the_type_goes_where_the_placeholder_is() {
        assert_eq!(
            url("http://h/message/{message_type}/", Some(7), ""),
            format!("/message/7/?{SIGNED}")
        );
        assert_eq!(
            url("http://h/m/{{message_type}}/", Some(7), ""),
            format!("/m/7/?{SIGNED}")
        );
        let twice = "http://h/chat/?t={message_type}&u={message_type}";
        assert_eq!(url(twice, Some(65_535), ""), format!("/chat/?t=65535&u=65535&{SIGNED}"));
        assert_eq!(url("http://h/message/", Some(7), ""), format!("/message/?{SIGNED}"));
        assert_eq!(
            url("http://h/{message_type}/", None, ""),
            format!("/{{message_type}}/?{SIGNED}")
        );
        assert!(has_placeholder(twice) && has_placeholder("http://h/{{message_type}}"));
        assert!(!has_placeholder("http://h/#{message_type}"));
    }

    #[test]
    fn fragments_are_dropped_and_odd_bytes_escaped() {
        assert_eq!(url("http://h/m/#top?x", None, ""), format!("/m/?{SIGNED}"));
        assert_eq!(url("http://h#top", None, ""), format!("/?{SIGNED}"));
        assert_eq!(
            url("http://h/a b\n\u{e9}~/", None, ""),
            format!("/a%20b%0A%C3%A9~/?{SIGNED}")
        );
    }

    #[test]
    fn the_origin_keeps_user_and_port() {
        let url = CallUrl::new("https://u:p@h:8443/x", None, b"", &SIGNER).unwrap();
        assert_eq!(url.origin(), b"https://u:p@h:8443");
        for bad in ["", "h/x", "/x", "http://", "http:///x", "://h/", "http://#x"] {
            assert_eq!(
                CallUrl::new(bad, None, b"", &SIGNER),
                Err(UrlError::NotAbsolute),
                "{bad}"
            );
        }
    }

    #[test]
    fn hosts_are_plain_ascii() {
        for bad in ["http://a b/", "http://h\r\n/", "http://\u{e9}/"] {
            assert_eq!(CallUrl::new(bad, None, b"", &SIGNER), Err(UrlError::Authority), "{bad}");
        }
    }

    #[test]
    fn header_blocks() {
        let identity = [b'0'; 64];
        let line = format!("Rainbowclientidentity: {}\r\n", "0".repeat(64));
        assert_eq!(client_headers(&identity, None), line.as_bytes());
        let with_cookie = format!("{line}Rainbowclientcookie: c1,c2\r\n");
        assert_eq!(client_headers(&identity, Some(b"c1,c2")), with_cookie.as_bytes());
        assert_eq!(
            client_headers(&identity, Some(b"a\r\nX: 1")),
            line.as_bytes(),
            "never a line of its own"
        );
        let message = format!("{with_cookie}Content-Type: application/x-www-form-urlencoded\r\n");
        assert_eq!(message_headers(&identity, Some(b"c1,c2")), message.as_bytes());
    }

    proptest! {
        #[test]
        fn every_target_fits_a_request_line(path in any::<String>(), list in prop::collection::vec(any::<String>(), 0..4)) {
            let mut extra = Vec::new();
            let mut encoder = query::Encoder::new(&mut extra);
            for text in &list {
                encoder.pair(text.as_bytes(), text.as_bytes());
            }
            let url = CallUrl::new(&format!("http://h/{path}"), Some(7), &extra, &SIGNER).unwrap();
            let mut out = Vec::new();
            prop_assert!(http1::write_request_head(&mut out, &http::Method::GET, url.target(), [], None));
            let head = http1::parse_request(&out, 64 * 1024).unwrap().unwrap();
            let names: Vec<_> = query::pairs(head.query()).map(|(name, _)| name.into_owned()).collect();
            let sent = list.iter().map(|text| text.as_bytes());
            let expected: Vec<_> = sent.chain([&b"timestamp"[..], b"nonce", b"signature"]).collect();
            prop_assert!(names.ends_with(&expected.iter().map(|name| name.to_vec()).collect::<Vec<_>>()));
        }
    }
}
