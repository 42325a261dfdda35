//! What the words of a subcommand said, read by its row of the table.

use std::ffi::{OsStr, OsString};
use std::ops::RangeInclusive;
use std::path::Path;
use std::str::FromStr;

use lexopt::{Arg, Parser};

use super::Refusal;
use super::table::{Command, Opt, Value};

/// The options and operands of one command line.
#[derive(Debug)]
pub struct Given {
    command: &'static Command,
    options: Vec<(&'static str, OsString)>,
    /// The words that are no options.
    pub operands: Vec<OsString>,
}

impl Given {
    /// Reads what follows the name of the command. `None`: the help was asked for.
    ///
    /// # Errors
    /// An unknown option, a missing value, a word that is none of those allowed.
    pub fn read(command: &'static Command, args: &[OsString]) -> Result<Option<Self>, Refusal> {
        let mut given = Self {
            command,
            options: Vec::new(),
            operands: Vec::new(),
        };
        let mut parser = Parser::from_args(args);
        loop {
            let refuse = |error: lexopt::Error| given.refusal(&error.to_string());
            let option = match parser.next().map_err(refuse)? {
                None => return Ok(Some(given)),
                Some(Arg::Value(word)) => {
                    given.operands.push(word);
                    continue;
                }
                Some(Arg::Short(letter)) => command.short(letter).ok_or_else(|| format!("-{letter}")),
                Some(Arg::Long(name)) => command.long(name).ok_or_else(|| format!("--{name}")),
            };
            let option = option.map_err(|name| given.refusal(&format!("invalid option '{name}'")))?;
            if option.long == "help" {
                return Ok(None);
            }
            let value = match option.value {
                Value::None => OsString::new(),
                _ => parser.value().map_err(refuse)?,
            };
            given.check(option, &value)?;
            given.options.push((option.long, value));
        }
    }

    fn check(&self, option: &Opt, value: &OsStr) -> Result<(), Refusal> {
        match option.value {
            Value::Words(_, words) if !words.iter().any(|word| *word == value) => {
                Err(self.refusal(&format!("--{}: use one of {}", option.long, words.join(", "))))
            }
            Value::Text(_) if value.to_str().is_none() => {
                Err(self.refusal(&format!("--{}: the value is not UTF-8", option.long)))
            }
            _ => Ok(()),
        }
    }

    /// Whether the option was given.
    pub fn has(&self, long: &str) -> bool {
        self.options.iter().any(|(name, _)| *name == long)
    }

    /// Every value of an option, in order.
    pub fn all(&self, long: &str) -> impl Iterator<Item = &str> {
        self.options
            .iter()
            .filter(move |(name, _)| *name == long)
            .filter_map(|(_, value)| value.to_str())
    }

    /// The last value of an option.
    pub fn text(&self, long: &str) -> Option<&str> {
        self.all(long).last()
    }

    /// The last value of an option that is a file.
    pub fn path(&self, long: &str) -> Option<&Path> {
        let mut values = self.options.iter().filter(|(name, _)| *name == long);
        values.next_back().map(|(_, value)| Path::new(value))
    }

    /// The last value of an option that is a number.
    ///
    /// # Errors
    /// It is none, or outside the range.
    pub fn number<N>(&self, long: &str, range: RangeInclusive<N>) -> Result<Option<N>, Refusal>
    where
        N: FromStr + PartialOrd + std::fmt::Display,
    {
        let Some(text) = self.text(long) else { return Ok(None) };
        match text.trim().parse() {
            Ok(number) if range.contains(&number) => Ok(Some(number)),
            _ => Err(self.refusal(&format!(
                "--{long}: \"{}\" is not a number of {}..{}",
                text.escape_debug(),
                range.start(),
                range.end()
            ))),
        }
    }

    /// An operand as text.
    ///
    /// # Errors
    /// It is not UTF-8.
    pub fn operand(&self, at: usize) -> Result<Option<&str>, Refusal> {
        let Some(word) = self.operands.get(at) else {
            return Ok(None);
        };
        let text = word.to_str().map(Some);
        text.ok_or_else(|| self.refusal(&format!("{word:?} is not UTF-8")))
    }

    /// Refuses the command line, with the usage below.
    pub fn refusal(&self, text: &str) -> Refusal {
        Refusal(format!("{}: {text}\n{}", self.command.name, self.command.usage()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::table::COMMANDS;

    fn read(words: &[&str]) -> Result<Option<Given>, String> {
        let command = COMMANDS.iter().find(|command| command.name == "send").expect("send");
        let words: Vec<_> = words.iter().map(OsString::from).collect();
        Given::read(command, &words).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn options_and_operands() {
        let given = read(&[
            "-t7", "lobby", "--qos=2", "-H", "a: b", "--header", "c: d", "--json", "--", "-x",
        ]);
        let given = given.unwrap().unwrap();
        assert_eq!(given.number("type", 0..=65_535u16).unwrap(), Some(7));
        assert_eq!(given.number("timeout", 1..=9u16).unwrap(), None);
        assert_eq!(
            (given.text("qos"), given.has("json"), given.has("lines")),
            (Some("2"), true, false)
        );
        assert_eq!(given.all("header").collect::<Vec<_>>(), ["a: b", "c: d"]);
        assert_eq!(given.operand(1).unwrap(), Some("-x"));
        assert_eq!(given.operand(2).unwrap(), None);
        assert!(read(&["-h", "--nonsense"]).unwrap().is_none());
    }

    #[test]
    fn refusals() {
        let first = |words: &[&str]| read(words).unwrap_err().lines().next().unwrap().to_owned();
        assert_eq!(first(&["--nonsense"]), "send: invalid option '--nonsense'");
        assert_eq!(first(&["-x"]), "send: invalid option '-x'");
        assert_eq!(first(&["--qos", "3"]), "send: --qos: use one of 0, 1, 2");
        assert!(first(&["--type"]).starts_with("send: missing argument"));
        let given = read(&["--type", "65536"]).unwrap().unwrap();
        let refusal = given.number("type", 0..=65_535u16).unwrap_err().to_string();
        assert!(
            refusal.starts_with("send: --type: \"65536\" is not a number of 0..65535\nusage: "),
            "{refusal}"
        );
    }
}
