//! The control core: what the process does besides holding clients.

pub mod callback;
