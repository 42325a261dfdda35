//! Subcommands for people and scripts, beside the server: `doctor`, `send`, `sub`, `tail`, `completions`.
//!
//! They are clients of a server like any other, over blocking sockets on the main thread, and share its codecs. Results go
//! to standard output, what happens meanwhile to standard error; a test drives all of them from outside (`tests/tool`).
//!
//! | file | what |
//! | --- | --- |
//! | `doctor.rs`, `doctor/` | what would keep a server from working here |
//! | `send.rs`, `sub.rs` | signed calls of the HTTP interface |
//! | `say.rs`, `tail.rs` | a client: says something; listens |
//! | `place.rs` | where the server is, and what signs |
//! | `call.rs`, `websocket.rs` | one HTTP exchange; a client's websocket |
//! | `line.rs` | a connection, with or without TLS |
//! | `output.rs` | what is printed |

mod call;
mod doctor;
mod line;
mod output;
mod place;
mod say;
mod send;
mod sub;
mod tail;
mod websocket;

use std::ffi::OsString;

use crate::cli::given::Given;
use crate::cli::table::{COMMANDS, Command};
use crate::cli::{Refusal, completions};
use crate::io::{console, sys};

/// How a command ends; the number is the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Done.
    Done = 0,
    /// Standard output cannot be written; of the doctor: a problem was found.
    Failed = 1,
    /// The command line or the settings are not valid.
    Usage = 2,
    /// The server cannot be reached, or the connection was lost.
    Unreachable = 3,
    /// The server said no.
    Refused = 4,
    /// Not enough clients, or none in time.
    InVain = 5,
}

/// Why a command ends early, and with what words; none if there is nothing to say.
#[derive(Debug)]
struct Failure {
    end: End,
    text: String,
}

impl Failure {
    fn new(end: End, text: impl Into<String>) -> Self {
        Self { end, text: text.into() }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::new(End::Usage, refusal.to_string())
    }
}

/// Carries out the subcommand that the arguments, without the program's name, begin with; returns its exit code. `None` if
/// they begin with no subcommand: then they are the server's.
pub fn run(args: &[OsString]) -> Option<u8> {
    let (first, rest) = args.split_first()?;
    let command = COMMANDS
        .iter()
        .find(|command| !command.name.is_empty() && command.name == first)?;
    sys::release_signals();
    let end = perform(command, rest).unwrap_or_else(|failure| {
        if !failure.text.is_empty() {
            console::say(&failure.text);
        }
        failure.end
    });
    Some(end as u8)
}

fn perform(command: &'static Command, args: &[OsString]) -> Result<End, Failure> {
    let Some(given) = Given::read(command, args)? else {
        return output::print(command.help().as_bytes()).map(|()| End::Done);
    };
    match command.name {
        "doctor" => doctor::run(&given),
        "send" if given.has("as") => say::run(&given),
        "send" => send::run(&given),
        "sub" => sub::run(&given),
        "tail" => tail::run(&given),
        _ => print_completions(&given),
    }
}

fn print_completions(given: &Given) -> Result<End, Failure> {
    let shell = given.operand(0)?.filter(|_| given.operands.len() == 1);
    let script = shell.and_then(completions::script);
    let script = script.ok_or_else(|| given.refusal("name one shell"))?;
    output::print(script.as_bytes()).map(|()| End::Done)
}
