//! The shell's sockets and clocks. Nothing outside this layer opens a socket.

pub mod http;
pub mod sys;
