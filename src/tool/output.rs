//! What subcommands print: results to standard output, what happens meanwhile to standard error.

use std::io::{self, ErrorKind, IsTerminal, Write};

use super::{End, Failure};
use crate::cli::given::Given;
use crate::wire::json;

/// Writes to standard output. A reader that went away ends the command quietly.
pub fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    let written = output.write_all(bytes).and_then(|()| output.flush());
    written.map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Failure::new(End::Done, ""),
        _ => Failure::new(End::Failed, format!("standard output cannot be written: {error}")),
    })
}

/// How one command shows what it has to show.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// Results are JSON, one object per line.
    pub json: bool,
    quiet: bool,
}

impl Output {
    /// As the options say.
    pub fn of(given: &Given) -> Self {
        Self {
            json: given.has("json"),
            quiet: given.has("quiet"),
        }
    }

    /// A result: one line.
    pub fn result(self, line: &[u8]) -> Result<(), Failure> {
        print(&[line, b"\n"].concat())
    }

    /// What happens meanwhile. Nobody has to be there to read it.
    pub fn note(self, text: &str) {
        if !self.quiet {
            let _ = io::stderr().write_all(format!("rainbow-server: {text}\n").as_bytes());
        }
    }

    /// How far it is: one line that is written over again, where somebody looks on.
    pub fn progress(self, text: &str) {
        if !self.quiet && io::stderr().is_terminal() {
            let _ = io::stderr().write_all(format!("\r\x1b[K{text}").as_bytes());
        }
    }

    /// Takes the line of [`Output::progress`] away.
    pub fn progress_done(self) {
        self.progress("");
    }
}

/// A JSON object as it is written.
#[derive(Debug)]
pub struct Object(Vec<u8>);

impl Object {
    /// Without a field.
    pub fn new() -> Self {
        Self(b"{".to_vec())
    }

    /// With a text; bytes that are not UTF-8 are replaced.
    pub fn text(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.name(name);
        json::push_string(&mut self.0, value.as_ref());
        self
    }

    /// With a number, `true` or `false`.
    pub fn plain(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.name(name);
        self.0.extend_from_slice(value.to_string().as_bytes());
        self
    }

    /// With a number, if there is one.
    pub fn plain_if(self, name: &str, value: Option<impl std::fmt::Display>) -> Self {
        match value {
            Some(value) => self.plain(name, value),
            None => self,
        }
    }

    /// The whole object.
    pub fn end(mut self) -> Vec<u8> {
        self.0.push(b'}');
        self.0
    }

    fn name(&mut self, name: &str) {
        if self.0.len() > 1 {
            self.0.extend_from_slice(b", ");
        }
        json::push_string(&mut self.0, name.as_bytes());
        self.0.extend_from_slice(b": ");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects() {
        assert_eq!(Object::new().end(), b"{}");
        let object = Object::new().text("a", "b\"\n").plain("n", 7).plain_if("x", None::<u8>);
        assert_eq!(
            object.plain_if("y", Some(true)).end(),
            br#"{"a": "b\"\n", "n": 7, "y": true}"#
        );
    }
}
