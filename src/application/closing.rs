//! How connections are closed.

use std::future::IntoFuture;

use super::api::{Api, Pending, taken};
use super::message::Message;
use crate::protocol::gateway::api::{ApiError, Call, Farewell, Outcome};

type ToCall = Box<dyn FnOnce(Farewell) -> Result<Call, ApiError> + Send>;

/// Connections that are closed when it is awaited, with code 1000 unless told otherwise. The outcome is how many.
#[must_use = "nothing is closed before it is awaited"]
pub struct Closing {
    api: Api,
    call: ToCall,
    farewell: Farewell,
}

impl Closing {
    pub(super) fn new(api: Api, call: impl FnOnce(Farewell) -> Result<Call, ApiError> + Send + 'static) -> Self {
        Self {
            api,
            call: Box::new(call),
            farewell: Farewell {
                message: None,
                code: 1000,
                reason: String::new(),
                force: false,
            },
        }
    }

    /// A last message before the close frame.
    pub fn message(mut self, message: impl Into<Message>) -> Self {
        self.farewell.message = Some(message.into().into());
        self
    }

    /// The code of the close frame: 1000 to 1003, 1007 to 1014 or 3000 to 4999.
    pub fn code(mut self, code: u16) -> Self {
        self.farewell.code = code;
        self
    }

    /// The reason in the close frame: at most 123 bytes.
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.farewell.reason = reason.into();
        self
    }

    /// At once: without a close frame, and what still waits is thrown away.
    pub fn at_once(mut self) -> Self {
        self.farewell.force = true;
        self
    }
}

impl IntoFuture for Closing {
    type Output = Result<u64, ApiError>;
    type IntoFuture = Pending<u64>;

    fn into_future(self) -> Pending<u64> {
        Box::pin(async move {
            let call = (self.call)(self.farewell.checked()?)?;
            match self.api.ask(call).await? {
                Outcome::Closed(is) => Ok(u64::from(is)),
                outcome => taken!(outcome, Outcome::ClosedCount(closed) => closed),
            }
        })
    }
}
