//! Where the server is that a subcommand talks to, and what signs the calls.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Method;

use super::call::{self, Answer, Request};
use super::line::Trust;
use super::{End, Failure};
use crate::cli::{self, given::Given};
use crate::config::kind::PORT_DEFAULT;
use crate::config::{Config, Endpoint, Overrides, Scheme, Secret};
use crate::io::clock;
use crate::protocol::rainbow::sign::{Body, Signer};

/// For connecting, and for answers that nobody has to be waited for.
pub const SOON: Duration = Duration::from_secs(10);

/// One server.
#[derive(Debug)]
pub struct Place {
    /// Its address; the path is that of `--url`.
    pub url: Endpoint,
    ca: Option<PathBuf>,
    scheme: Scheme,
    token: Option<Secret>,
}

impl Place {
    /// As the options say.
    pub fn of(given: &Given) -> Result<Self, Failure> {
        let config = given.path("file").map(settings).transpose()?;
        let url = match (given.text("url"), &config) {
            (Some(text), _) => endpoint(text).map_err(|why| given.refusal(&format!("--url: {why}")))?,
            (None, Some(config)) => local(config),
            (None, None) => at(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT_DEFAULT),
        };
        let scheme = given.text("signature").and_then(Scheme::from_word);
        let scheme = scheme.or(config.as_ref().map(|config| config.signature));
        Ok(Self {
            url,
            ca: given.path("ca").map(Path::to_owned),
            scheme: scheme.unwrap_or_default(),
            token: token(given)?.or(config.map(|config| config.security_token)),
        })
    }

    /// What its certificate is checked with.
    pub fn trust(&self) -> Trust<'_> {
        Trust {
            ca_file: self.ca.as_deref(),
            identity: None,
        }
    }

    /// A signed POST of the HTTP interface.
    pub fn post(&self, mut target: Vec<u8>, body: &[u8], within: Duration) -> Result<Answer, Failure> {
        let token = self.token.as_ref().ok_or_else(|| {
            let text = "nothing to sign with: name the settings with -f, a file with the secret with --token-file, or set \
                        RAINBOW_TOKEN";
            Failure::new(End::Usage, text)
        })?;
        sign(self.scheme, token, &mut target, "POST", body)?;
        let request = Request {
            method: &Method::POST,
            target: &target,
            headers: &[],
            body,
        };
        call::exchange(&self.url, self.trust(), request, within).map_err(|error| self.unreachable(&error))
    }

    /// It cannot be talked to.
    pub fn unreachable(&self, error: &io::Error) -> Failure {
        let text = match error.kind() {
            io::ErrorKind::TimedOut => "no answer in time".to_owned(),
            _ => error.to_string(),
        };
        Failure::new(End::Unreachable, format!("{}: {text}", self.url.authority))
    }
}

/// Signs the target of a request that is final but for that.
pub fn sign(scheme: Scheme, secret: &Secret, target: &mut Vec<u8>, method: &str, body: &[u8]) -> Result<(), Failure> {
    let signer = Signer {
        scheme,
        secret: secret.expose().as_bytes(),
        unix_seconds: clock::unix_seconds(),
        random: random()?,
        is_relay: false,
    };
    signer.sign(method, target, &Body::new(body));
    Ok(())
}

/// A random number.
pub fn random() -> Result<u64, Failure> {
    getrandom::u64().map_err(|error| Failure::new(End::Failed, format!("the system has no random numbers: {error}")))
}

/// The settings of a file; what is wrong with them is the failure.
pub fn settings(file: &Path) -> Result<Config, Failure> {
    let (config, _) = cli::load(file, &Overrides::default()).map_err(|errors| {
        let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        Failure::new(End::Usage, errors.join("\n"))
    })?;
    Ok(config)
}

/// Where a server with these settings is reached from its own machine.
pub fn local(config: &Config) -> Endpoint {
    let port = config.ports.first().copied().unwrap_or(PORT_DEFAULT);
    let address = match config
        .bind
        .iter()
        .find(|address| address.is_ipv4())
        .or(config.bind.first())
    {
        Some(IpAddr::V4(address)) if !address.is_unspecified() => IpAddr::V4(*address),
        Some(IpAddr::V6(address)) if !address.is_unspecified() => IpAddr::V6(*address),
        Some(IpAddr::V6(_)) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        _ => IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    at(address, port)
}

fn at(address: IpAddr, port: u16) -> Endpoint {
    Endpoint {
        host: address.to_string(),
        port,
        authority: std::net::SocketAddr::new(address, port).to_string(),
        target: "/".to_owned(),
        ..Endpoint::default()
    }
}

/// `ws` is what `http` is, `wss` what `https` is.
fn endpoint(text: &str) -> Result<Endpoint, String> {
    let http = match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("ws") => format!("http://{rest}"),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("wss") => format!("https://{rest}"),
        _ => text.to_owned(),
    };
    Endpoint::parse(&http).map_err(|error| error.to_string())
}

/// The secret on its own. Not as an option: every user of a machine sees the command lines of all.
fn token(given: &Given) -> Result<Option<Secret>, Failure> {
    if let Some(file) = given.path("token-file") {
        let text = std::fs::read_to_string(file);
        let text = text.map_err(|error| given.refusal(&format!("--token-file: {}: {error}", file.display())))?;
        return Ok(Some(Secret::new(text.trim_end_matches(['\r', '\n']))));
    }
    let token = std::env::var("RAINBOW_TOKEN").ok().filter(|token| !token.is_empty());
    Ok(token.map(Secret::new))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_of_websockets_are_those_of_http() {
        let plain = endpoint("ws://h:81/x").unwrap();
        assert_eq!((plain.tls, plain.port, &*plain.target), (false, 81, "/x"));
        let secure = endpoint("WSS://h").unwrap();
        assert_eq!((secure.tls, secure.port), (true, 443));
        assert!(endpoint("ftp://h").is_err());
    }

    #[test]
    fn a_server_is_reached_where_it_listens() {
        let local = |bind: &[&str]| {
            let mut config = Config::demo(
                1,
                &Overrides {
                    port: Some(80),
                    ..Overrides::default()
                },
            );
            config.bind = bind.iter().map(|address| address.parse().unwrap()).collect();
            super::local(&config).authority
        };
        assert_eq!(local(&["::", "0.0.0.0"]), "127.0.0.1:80");
        assert_eq!(local(&["::"]), "[::1]:80");
        assert_eq!(local(&["127.0.0.9"]), "127.0.0.9:80");
        assert_eq!(local(&["::2"]), "[::2]:80");
    }
}
