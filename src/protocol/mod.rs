//! Doors: each translates the bytes and HTTP verbs of one client protocol into the engine's vocabulary and back.

pub mod rainbow;
