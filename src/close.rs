//! Why a client connection ends, and how that shows. One cause per connection; the same word appears in the log, the
//! metric and (where a close frame is sent) the close reason.

/// The one cause a connection ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseCause {
    /// The client sent a close frame; its code is echoed (spec: section 14).
    ClientClosed,
    /// The client's TCP stream ended without a close frame.
    ClientGone,
    /// The socket failed: reset, timed out, unreachable.
    SocketError,
    /// The client broke RFC 6455; whether it gets a close frame is its door's business (`Session::violation_code`).
    ProtocolError,
    /// A message was larger than `message_max`.
    MessageTooBig,
    /// No pong within 20 s of the ping that follows a failed delivery.
    KeepAliveTimeout,
    /// The client reads too slowly: its outbox is full, or bytes waited in it for `outbox_seconds`.
    SlowConsumer,
    /// No whole request head within `handshake_timeout`.
    HandshakeTimeout,
    /// What came was not TLS, or its handshake or a record failed.
    TlsFailed,
    /// The request head was not acceptable HTTP, or too large.
    BadRequest,
    /// The request was answered with an error before any upgrade (no credentials, wrong headers, wrong method).
    Refused,
    /// The business denied the client.
    Denied,
    /// The business could not be asked, or its answer was not understood.
    AuthUnavailable,
    /// The client left while the business was being asked.
    GoneDuringAuth,
    /// A limit of this server was reached (connections, unacknowledged messages).
    Overloaded,
    /// The business asked for it through the API.
    Kicked,
    /// The server is stopping.
    Shutdown,
    /// Handling this client panicked; the shard goes on.
    Panicked,
    /// Not a client: the connection was handed to the control core.
    HandedOver,
    /// Nothing came within `ping_timeout` of a ping that followed `ping_interval` of silence.
    PingTimeout,
    /// Nothing came for `idle_timeout`.
    IdleTimeout,
    /// A message was begun and not whole within `message_timeout`.
    MessageTimeout,
    /// Not a byte came on the TLS port within `tls_first_byte_timeout`.
    TlsSilent,
    /// Its address had most of the TLS handshakes under way, all places were taken, and another address needed one.
    TlsGaveWay,
}

impl CloseCause {
    /// Every cause, in the order of [`CloseCause::index`].
    pub const ALL: [CloseCause; 24] = [
        CloseCause::ClientClosed,
        CloseCause::ClientGone,
        CloseCause::SocketError,
        CloseCause::ProtocolError,
        CloseCause::MessageTooBig,
        CloseCause::KeepAliveTimeout,
        CloseCause::SlowConsumer,
        CloseCause::HandshakeTimeout,
        CloseCause::TlsFailed,
        CloseCause::BadRequest,
        CloseCause::Refused,
        CloseCause::Denied,
        CloseCause::AuthUnavailable,
        CloseCause::GoneDuringAuth,
        CloseCause::Overloaded,
        CloseCause::Kicked,
        CloseCause::Shutdown,
        CloseCause::Panicked,
        CloseCause::HandedOver,
        CloseCause::PingTimeout,
        CloseCause::IdleTimeout,
        CloseCause::MessageTimeout,
        CloseCause::TlsSilent,
        CloseCause::TlsGaveWay,
    ];

    /// Labels in the order of [`CloseCause::ALL`], for the metrics table.
    pub const LABELS: [&'static str; 24] = [
        "client_closed",
        "client_gone",
        "socket_error",
        "protocol_error",
        "message_too_big",
        "keep_alive_timeout",
        "slow_consumer",
        "handshake_timeout",
        "tls_failed",
        "bad_request",
        "refused",
        "denied",
        "auth_unavailable",
        "gone_during_auth",
        "overloaded",
        "kicked",
        "shutdown",
        "panicked",
        "handed_over",
        "ping_timeout",
        "idle_timeout",
        "message_timeout",
        "tls_silent",
        "tls_gave_way",
    ];

    /// Position in [`CloseCause::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The word used in logs, metrics and close reasons.
    pub const fn label(self) -> &'static str {
        Self::LABELS[self as usize]
    }

    /// How the websocket close frame of this cause looks.
    pub const fn frame(self) -> CloseFrame {
        match self {
            CloseCause::ClientClosed | CloseCause::ProtocolError => CloseFrame::Given,
            CloseCause::KeepAliveTimeout => CloseFrame::Empty,
            CloseCause::Shutdown => CloseFrame::Restart(1012),
            CloseCause::MessageTooBig => CloseFrame::Code(1009, "message too big"),
            CloseCause::SlowConsumer => CloseFrame::Code(1008, "slow_consumer"),
            CloseCause::PingTimeout => CloseFrame::Code(1008, "ping_timeout"),
            CloseCause::IdleTimeout => CloseFrame::Code(1008, "idle_timeout"),
            CloseCause::MessageTimeout => CloseFrame::Code(1008, "message_timeout"),
            CloseCause::Overloaded => CloseFrame::Code(1013, "overloaded"),
            CloseCause::Kicked => CloseFrame::Code(1000, "kicked"),
            CloseCause::Panicked => CloseFrame::Code(1011, "panicked"),
            CloseCause::ClientGone
            | CloseCause::SocketError
            | CloseCause::HandshakeTimeout
            | CloseCause::TlsFailed
            | CloseCause::TlsSilent
            | CloseCause::TlsGaveWay
            | CloseCause::BadRequest
            | CloseCause::Refused
            | CloseCause::Denied
            | CloseCause::AuthUnavailable
            | CloseCause::GoneDuringAuth
            | CloseCause::HandedOver => CloseFrame::None,
        }
    }
}

/// What is sent to the client before its TCP connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseFrame {
    /// Nothing: the TCP connection just ends.
    None,
    /// A close frame without a code.
    Empty,
    /// The code that comes with the cause, without a reason: the client's own, or what its door says to a violation.
    Given,
    /// A code and a reason.
    Code(u16, &'static str),
    /// A code, and when to come back as reason (`shard/drain.rs`).
    Restart(u16),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_agree() {
        for (index, cause) in CloseCause::ALL.into_iter().enumerate() {
            assert_eq!(cause.index(), index);
        }
    }
}
