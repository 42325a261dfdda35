//! The gateway door on the control core.
//!
//! | file | what |
//! | --- | --- |
//! | `gateway/callback.rs` | events of clients, as they are sent to the backend |
//! | `gateway/actions.rs` | what the backend's answers want done |

pub mod actions;
pub mod callback;

use std::rc::Rc;

use self::actions::Acting;
use crate::control::Control;
use crate::protocol::gateway::api::{ApiError, ErrorCode, Request};

/// What is remembered from one call to the next.
#[derive(Debug, Default)]
pub struct Memory {
    acting: Acting,
}

impl Memory {
    /// Whether actions of answers are being carried out.
    pub fn is_busy(&self) -> bool {
        self.acting.is_busy()
    }
}

/// No call can be carried out yet, and whoever asks is told so.
async fn perform(_control: &Rc<Control>, _request: &Request) -> Result<(), ApiError> {
    Err(ApiError::new(ErrorCode::Overloaded, "actions are not carried out yet"))
}
