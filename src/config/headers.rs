//! Which headers a client may claim for itself: the names a query parameter may be given to the backend under, and those
//! a header written with `_` may have (`query_headers`, docs/headers.md).
//!
//! Invariant: names are compared *folded*, lower case and `_` as `-`, because that is how CGI, WSGI and PHP see them. Three
//! kinds of names, from the strictest on:
//!
//! * [`is_ours`]: they frame the call or speak for this server. No client sets them, whatever the settings say.
//! * [`is_guarded`]: HTTP, browsers, proxies and gateways speak through them, and a backend believes them. A client may
//!   claim one only if an operator lists it.
//! * all others: the client's own affair (`token`, `X-DEVICEID`).
//!
//! Pure. Called by the reader of the settings and by `protocol/rainbow/passing.rs`.

use std::fmt;

/// The word that stands for every name that is not guarded.
const ANY: &str = "any";
/// Bytes of one listed name; longer ones are mistakes.
const NAME_BYTES_MAX: usize = 128;

/// Headers only we may set.
const OURS: [&[u8]; 11] = [
    b"accept-encoding",
    b"connection",
    b"content-length",
    b"expect",
    b"host",
    b"keep-alive",
    // CGI and PHP would see HTTP_PROXY, and call others through it (CVE-2016-5385).
    b"proxy",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
];

/// Names of tokens that are the client's own although a word in them is guarded.
const OF_CLIENTS: [&[u8]; 2] = [b"auth-token", b"user-token"];

/// Names of one word that HTTP, browsers or tracing give a meaning.
const STANDARD: [&[u8]; 26] = [
    b"accept",
    b"authorization",
    b"b3",
    b"baggage",
    b"cookie",
    b"cookie2",
    b"date",
    b"depth",
    b"destination",
    b"dnt",
    b"dpop",
    b"forwarded",
    b"from",
    b"link",
    b"location",
    b"origin",
    b"pragma",
    b"prefer",
    b"priority",
    b"range",
    b"referer",
    b"referrer",
    b"traceparent",
    b"tracestate",
    b"via",
    b"warning",
];

/// How names begin that belong to HTTP, to browsers, or to a kind of proxy.
const PREFIXES: [&[u8]; 28] = [
    b"accept-",
    b"access-control-",
    b"ali-",
    b"cache-",
    b"cdn-",
    b"cf-",
    b"content-",
    b"eagleeye-",
    b"early-",
    b"fastly-",
    b"fly-",
    b"if-",
    b"max-forwards",
    b"sec-",
    b"tailscale-",
    b"upgrade-insecure-",
    b"x-accel",
    b"x-amz",
    b"x-appengine",
    b"x-arr-",
    b"x-azure",
    b"x-b3-",
    b"x-envoy",
    b"x-goog",
    b"x-istio",
    b"x-middleware",
    b"x-ms-",
    b"x-sendfile",
];

/// Parts of names of several words through which proxies tell who and where a client is, or what they have changed.
const PARTS: [&[u8]; 30] = [
    b"addr",
    b"admin",
    b"auth",
    b"cert",
    b"claim",
    b"consumer",
    b"credential",
    b"email",
    b"fingerprint",
    b"forward",
    b"group",
    b"host",
    b"identity",
    b"jwt",
    b"oidc",
    b"origin",
    b"override",
    b"permission",
    b"principal",
    b"proto",
    b"proxy",
    b"remote",
    b"rewrite",
    b"role",
    b"saml",
    b"scheme",
    b"scope",
    b"subject",
    b"user",
    b"verif",
];

/// Whole words of such names that are too short to be looked for as parts.
const WORDS: [&[u8]; 14] = [
    b"account",
    b"csrf",
    b"dn",
    b"internal",
    b"ip",
    b"org",
    b"port",
    b"real",
    b"sso",
    b"ssl",
    b"sub",
    b"tenant",
    b"tls",
    b"uid",
];

/// The value of `query_headers`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryHeaders {
    any: bool,
    /// As written, for showing.
    listed: Vec<String>,
    /// Folded.
    folded: Vec<Vec<u8>>,
}

impl QueryHeaders {
    /// Reads a list of names; one of them may be `any`.
    ///
    /// # Errors
    /// The first name no header can have, or none of a client.
    pub fn from_words(words: Vec<String>) -> Result<QueryHeaders, String> {
        let mut headers = QueryHeaders::default();
        for word in words {
            if word.eq_ignore_ascii_case(ANY) {
                headers.any = true;
                continue;
            }
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            if word.len() > NAME_BYTES_MAX || !word.bytes().all(is_name) {
                return Err(format!(
                    "{word:?} is not the name of a header; write names, with commas between them"
                ));
            }
            let folded = fold(word.as_bytes());
            if is_ours(&folded) {
                return Err(format!("{word} can never come from a client; leave it out"));
            }
            headers.folded.push(folded);
            headers.listed.push(word);
        }
        Ok(headers)
    }

    /// Whether a query parameter of this folded name becomes a header, if the request has none of that name.
    pub fn may_copy(&self, folded: &[u8]) -> bool {
        !is_ours(folded) && (self.lists(folded) || self.any && !is_guarded(folded))
    }

    /// Whether a header that was written with `_` is passed, if there is none of that folded name with `-`.
    pub fn may_pass(&self, folded: &[u8]) -> bool {
        !is_ours(folded) && (self.lists(folded) || !is_guarded(folded))
    }

    fn lists(&self, folded: &[u8]) -> bool {
        self.folded.iter().any(|name| name == folded)
    }
}

/// As the ini file has it.
impl fmt::Display for QueryHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let any = self.any.then_some(ANY);
        let words: Vec<&str> = any.into_iter().chain(self.listed.iter().map(String::as_str)).collect();
        f.write_str(&words.join(", "))
    }
}

/// Lower case, `_` as `-`: what CGI makes of a name, in our spelling.
pub fn fold(name: &[u8]) -> Vec<u8> {
    let plain = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    name.iter().map(plain).collect()
}

/// Whether a folded name frames the request, steers the connection, or is one of this server's own.
pub fn is_ours(folded: &[u8]) -> bool {
    OURS.contains(&folded) || folded.starts_with(b"proxy-") || folded.starts_with(b"rainbow")
}

/// Whether a backend may take a header of this folded name for the word of somebody other than the client.
fn is_guarded(folded: &[u8]) -> bool {
    if OF_CLIENTS.contains(&folded) {
        return false;
    }
    if STANDARD.contains(&folded) || PREFIXES.iter().any(|prefix| folded.starts_with(prefix)) {
        return true;
    }
    let has = |part: &[u8]| folded.windows(part.len()).any(|window| window == part);
    let mut words = folded.split(|byte| *byte == b'-');
    let is_one_word = !folded.contains(&b'-');
    !is_one_word && (PARTS.iter().any(|part| has(part)) || words.any(|word| WORDS.contains(&word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(text: &str) -> QueryHeaders {
        QueryHeaders::from_words(
            text.split(", ")
                .filter(|word| !word.is_empty())
                .map(str::to_owned)
                .collect(),
        )
        .unwrap()
    }

    #[test]
    fn what_clients_claim_and_what_they_do_not() {
        let any = headers("any");
        for name in [
            "token",
            "TOKEN",
            "x",
            "uid",
            "user",
            "username",
            "session",
            "access_token",
            "auth_token",
            "X-DEVICEID",
            "X_DEVICEID",
            "X-CLIENT-OS",
            "X-Client-Version",
            "X-App-Version",
            "X-Token",
            "session-id",
            "ticket",
            "room",
            "lang",
        ] {
            assert!(any.may_copy(&fold(name.as_bytes())), "{name}");
        }
        for name in [
            "X-Forwarded-For",
            "X_Forwarded_For",
            "x-forwarded-proto",
            "X-Forwarded-User",
            "Forwarded",
            "X-Real-IP",
            "X_REAL_IP",
            "Via",
            "Origin",
            "Referer",
            "Sec-Fetch-Site",
            "Sec-WebSocket-Origin",
            "Cookie",
            "Authorization",
            "X-Remote-User",
            "Remote-User",
            "REMOTE_USER",
            "X-Authenticated-User",
            "X-Auth-Token",
            "X-Auth-Request-Email",
            "X-User",
            "X-User-Id",
            "X-UID",
            "X-Userinfo",
            "X-WEBAUTH-USER",
            "CF-Connecting-IP",
            "Cf-Access-Jwt-Assertion",
            "True-Client-IP",
            "X-Client-IP",
            "X-Client-Cert",
            "SSL_CLIENT_S_DN",
            "X-SSL-Verified",
            "X-Amzn-Oidc-Identity",
            "X-Goog-Authenticated-User-Email",
            "X-MS-CLIENT-PRINCIPAL",
            "Tailscale-User-Login",
            "X-Original-URL",
            "X-Rewrite-URL",
            "X-HTTP-Method-Override",
            "X-Accel-Redirect",
            "Content-Type",
            "If-None-Match",
            "Access-Control-Request-Method",
            "X-CSRF-Token",
            "X-Consumer-Username",
            "X-Credential-Identifier",
            "X-Envoy-Internal",
            "X-Forwarded-Access-Token",
            "X-Cluster-Client-Ip",
            "DNT",
            "X-Client-User",
            "X-Role",
            "X-Groups",
            "X-Tenant-Id",
            "X-Host",
            "X-Scheme",
            "X-Original-Forwarded-For",
        ] {
            assert!(!any.may_copy(&fold(name.as_bytes())), "{name}");
        }
    }

    #[test]
    fn listed_names_may_be_guarded_but_never_ours() {
        let listed = headers("Authorization, X_User");
        assert!(listed.may_copy(b"authorization") && listed.may_copy(b"x-user") && listed.may_pass(b"x-user"));
        assert!(
            !listed.may_copy(b"token") && !listed.may_copy(b"cookie"),
            "a list without `any` is all there is"
        );
        assert!(!headers("").may_copy(b"token"));
        assert_eq!(listed.to_string(), "Authorization, X_User");
        assert_eq!(headers("X-User, any").to_string(), "any, X-User");
        for name in ["Host", "content_length", "Proxy-Authorization", "RAINBOWCLIENTIDENTITY"] {
            let error = QueryHeaders::from_words(vec![name.into()]).unwrap_err();
            assert!(error.contains("never come from a client"), "{error}");
            assert!(!headers("any").may_copy(&fold(name.as_bytes())));
        }
        assert!(QueryHeaders::from_words(vec!["a:b".into()]).is_err());
    }
}
