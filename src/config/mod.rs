//! x
pub mod ini;
