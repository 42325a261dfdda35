//! A URL of the settings, ready to be called.

use std::rc::Rc;

use bytes::Bytes;
use http::Method;

use crate::config::Endpoint;
use crate::io::http::{FORM, Origin, Request, Url};

/// A URL of the settings, with what is the same for all calls to it.
pub struct Target {
    /// As it was set.
    pub url: Endpoint,
    /// Its server.
    pub origin: Rc<Origin>,
}

impl Target {
    /// Of a setting.
    pub fn new(url: &Endpoint) -> Self {
        let origin = Origin {
            tls: url.tls,
            host: url.host.to_ascii_lowercase().into(),
            port: url.port,
            authority: url.authority.as_str().into(),
        };
        Self {
            url: url.clone(),
            origin: Rc::new(origin),
        }
    }

    /// The URL of a call with this request target.
    pub fn at(&self, target: impl Into<Bytes>) -> Url {
        let authorization = self.url.basic_auth.as_ref();
        Url {
            origin: self.origin.clone(),
            target: target.into(),
            authorization: authorization.map(|value| Bytes::copy_from_slice(value.as_bytes())),
        }
    }

    /// How a server is asked whether it is there: OPTIONS of the path, without query, signature or anything of a client. No
    /// handler acts on it, and it goes the way the calls go, through the same proxies to the same application.
    pub fn neutral(&self) -> Request {
        let target = self.url.request_target(None, "");
        let path = target.split('?').next().unwrap_or("/");
        Request {
            url: self.at(Bytes::copy_from_slice(path.as_bytes())),
            method: Method::OPTIONS,
            headers: Bytes::new(),
            content_type: FORM,
            body: Bytes::new(),
        }
    }
}
