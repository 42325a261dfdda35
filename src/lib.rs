//! x
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod wire;
