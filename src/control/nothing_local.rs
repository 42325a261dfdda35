//! Without the feature `application` no code of this process handles events (`local.rs` says what there is with it).

use super::callback::Builders;

/// Nobody.
pub struct Local;

impl Local {
    /// Nobody.
    pub fn new() -> Self {
        Self
    }

    /// All events go to backends.
    pub fn in_place(&self, builders: Builders) -> Builders {
        builders
    }
}
