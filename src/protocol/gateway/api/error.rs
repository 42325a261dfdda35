//! What a call is refused with: a code for programs, a sentence for people. One place says which code has which status.

use std::borrow::Cow;
use std::fmt;

use http::StatusCode;

/// Bytes of what a caller sent that are repeated in a sentence.
const QUOTED_MAX: usize = 64;

/// What went wrong. The caller's fault below 500, ours or the environment's from there on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// An argument is missing, of the wrong type, out of range or unknown; or the body is no JSON.
    BadRequest,
    /// No token, or one that is not known.
    Unauthorized,
    /// A web page asks, where no token protects the interface.
    Forbidden,
    /// No such path.
    NotFound,
    /// No function of this name.
    UnknownFunction,
    /// The client is gone, or was never there.
    ClientNotFound,
    /// The path has other methods.
    MethodNotAllowed,
    /// The uid was to be bound exclusively, and another client has it.
    UidTaken,
    /// The client is in as many groups as it may be.
    TooManyGroups,
    /// A body, a list or a session is longer than it may be, or an answer would be.
    TooLarge,
    /// Too many callers wait, or memory is short.
    Overloaded,
    /// A node of the cluster did not answer.
    NodeUnreachable,
}

impl ErrorCode {
    /// All of them, for the description of the interface.
    pub const ALL: [ErrorCode; 12] = [
        ErrorCode::BadRequest,
        ErrorCode::Unauthorized,
        ErrorCode::Forbidden,
        ErrorCode::NotFound,
        ErrorCode::UnknownFunction,
        ErrorCode::ClientNotFound,
        ErrorCode::MethodNotAllowed,
        ErrorCode::UidTaken,
        ErrorCode::TooManyGroups,
        ErrorCode::TooLarge,
        ErrorCode::Overloaded,
        ErrorCode::NodeUnreachable,
    ];

    /// The word in the answer.
    pub const fn word(self) -> &'static str {
        match self {
            ErrorCode::BadRequest => "bad_request",
            ErrorCode::Unauthorized => "unauthorized",
            ErrorCode::Forbidden => "forbidden",
            ErrorCode::NotFound => "not_found",
            ErrorCode::UnknownFunction => "unknown_function",
            ErrorCode::ClientNotFound => "client_not_found",
            ErrorCode::MethodNotAllowed => "method_not_allowed",
            ErrorCode::UidTaken => "uid_taken",
            ErrorCode::TooManyGroups => "too_many_groups",
            ErrorCode::TooLarge => "too_large",
            ErrorCode::Overloaded => "overloaded",
            ErrorCode::NodeUnreachable => "node_unreachable",
        }
    }

    /// The status of the answer.
    pub const fn status(self) -> StatusCode {
        match self {
            ErrorCode::BadRequest => StatusCode::BAD_REQUEST,
            ErrorCode::Unauthorized => StatusCode::UNAUTHORIZED,
            ErrorCode::Forbidden => StatusCode::FORBIDDEN,
            ErrorCode::NotFound | ErrorCode::UnknownFunction | ErrorCode::ClientNotFound => StatusCode::NOT_FOUND,
            ErrorCode::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            ErrorCode::UidTaken | ErrorCode::TooManyGroups => StatusCode::CONFLICT,
            ErrorCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorCode::Overloaded | ErrorCode::NodeUnreachable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// A call that is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// For programs.
    pub code: ErrorCode,
    /// For people: a sentence without its full stop.
    pub message: Cow<'static, str>,
    /// The methods the path has; only with [`ErrorCode::MethodNotAllowed`].
    pub allow: Option<&'static str>,
}

impl ApiError {
    /// An error with its sentence.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            allow: None,
        }
    }

    /// 400.
    pub fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::BadRequest, message)
    }

    /// 413.
    pub fn too_large(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::TooLarge, message)
    }

    /// 404 of a client.
    pub fn client_not_found() -> Self {
        Self::new(ErrorCode::ClientNotFound, "no such client is connected")
    }

    /// The same error, of a part of what was asked.
    #[must_use]
    pub fn within(mut self, part: &str) -> Self {
        self.message = format!("{part}: {}", self.message).into();
        self
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.word(), self.message)
    }
}

impl std::error::Error for ApiError {}

/// What a caller sent, short enough to be repeated in an answer.
pub(super) fn quoted(text: &str) -> String {
    let end = (0..=QUOTED_MAX.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or_default();
    let (short, rest) = text.split_at(end);
    format!("\"{short}{}\"", if rest.is_empty() { "" } else { "…" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_statuses_are_told_apart() {
        let words: std::collections::BTreeSet<_> = ErrorCode::ALL.iter().map(|code| code.word()).collect();
        assert_eq!(words.len(), ErrorCode::ALL.len());
        assert!(ErrorCode::ALL.iter().all(|code| code.status().as_u16() >= 400));
    }

    #[test]
    fn quotes_are_short_and_cut_between_characters() {
        assert_eq!(quoted("abc"), "\"abc\"");
        let long = "é".repeat(40);
        assert_eq!(quoted(&long), format!("\"{}…\"", "é".repeat(32)));
        assert_eq!(quoted(&format!("x{long}")), format!("\"x{}…\"", "é".repeat(31)));
    }
}
