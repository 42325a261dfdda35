//! Reader of ini files, compatible with Python 2's `SafeConfigParser` (spec §2 "Reader rules"), keeping line numbers.
//!
//! Invariants: no input panics; the text, the value a key expands to, the work of expanding it and the number of errors
//! are bounded by the constants below. A file the original read is read to the same values; the only addition is a
//! tolerated byte order mark. `%` is looked at only when a key is read, so a stray one in a key nobody reads is harmless.
//! Callers: `config/mod.rs` and the fuzz bodies. Errors never quote values: a value may be the security token.

mod interpolate;

use interpolate::{DEPTH_MAX, Expansion};
use std::collections::BTreeMap;
use std::fmt;

/// Longest file accepted, in bytes. A real file has about 2 kB; the bound keeps a mistaken path (a log, a device) cheap.
pub const FILE_BYTES_MAX: usize = 1024 * 1024;
/// Longest value after interpolation, in bytes. Ten levels of `%(a)s%(a)s` would otherwise grow without end.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;
/// Most errors reported for one file: the first ones explain the rest.
pub const ERRORS_MAX: usize = 20;

/// Why a file or a key could not be read. The text says what to do; it never quotes a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The file is longer than [`FILE_BYTES_MAX`].
    TooLong,
    /// A line before the first `[section]`.
    NoSection,
    /// A line that is neither `key = value`, a section, a comment nor a continuation.
    NotAnOption,
    /// A `%` followed by neither `%` nor `(`; the number is its column in the value, counted from 1.
    StrayPercent(usize),
    /// A `%(` without `name)s` after it; the number is its column in the value, counted from 1.
    BadReference(usize),
    /// A reference to a name that is in neither the section nor `[DEFAULT]`.
    UnknownName(String),
    /// References nest deeper than ten levels, or in a circle.
    TooDeep,
    /// The value is longer than [`VALUE_BYTES_MAX`] after interpolation, or follows too many references.
    TooLarge,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::TooLong => write!(f, "file is longer than {FILE_BYTES_MAX} bytes; is this the right file?"),
            Problem::NoSection => f.write_str("line before the first section; put [main] above it"),
            Problem::NotAnOption => f.write_str("line is neither `key = value`, [section] nor # comment"),
            Problem::StrayPercent(column) => write!(f, "`%` at column {column} of the value must be doubled: write %%"),
            Problem::BadReference(column) => write!(
                f,
                "`%(` at column {column} of the value is not a %(name)s reference; for a plain percent sign write %%"
            ),
            Problem::UnknownName(name) => {
                write!(
                    f,
                    "refers to %({})s, which is not in this section or [DEFAULT]",
                    name.escape_debug()
                )
            }
            Problem::TooDeep => write!(
                f,
                "%(name)s references nest deeper than {DEPTH_MAX} levels or in a circle"
            ),
            Problem::TooLarge => write!(
                f,
                "value is longer than {VALUE_BYTES_MAX} bytes after %(name)s replacement"
            ),
        }
    }
}

/// One problem with its place: `server.ini:12: http_port: …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IniError {
    /// The label given to [`parse`], usually the path.
    pub label: String,
    /// Line number from 1; 0 when the whole file is meant.
    pub line: u32,
    /// The key being read, if one was.
    pub key: Option<String>,
    /// What is wrong.
    pub problem: Problem,
}

impl fmt::Display for IniError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.label, self.line)?;
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        self.problem.fmt(f)
    }
}

impl std::error::Error for IniError {}

/// A value as written (before interpolation) and the line its key stands on, from 1.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// Trimmed text; continuation lines are joined with a newline.
    pub raw: String,
    /// Line of the key, from 1.
    pub line: u32,
    /// Lines of the continuations, in the order they are joined in.
    pub continued: Vec<u32>,
    /// A `;` after white space has cut the text.
    pub is_cut: bool,
    /// Line of an equal key above it in the same section, whose value it has replaced.
    pub replaced: Option<u32>,
}

/// Keys of one section, in lower case.
pub type Section = BTreeMap<String, Entry>;

/// A parsed file. [`Ini::value`] evaluates `%(name)s`; everything else is as written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ini {
    label: String,
    defaults: Section,
    sections: BTreeMap<String, Section>,
}

/// Reads `text`. `label` names the file in errors.
///
/// # Errors
/// Every line that cannot be read, at most [`ERRORS_MAX`] of them.
pub fn parse(label: &str, text: &str) -> Result<Ini, Vec<IniError>> {
    let mut reader = Reader {
        ini: Ini {
            label: label.to_owned(),
            ..Ini::default()
        },
        ..Reader::default()
    };
    if text.len() > FILE_BYTES_MAX {
        reader.fail(0, Problem::TooLong);
        return Err(reader.errors);
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (line, number) in text.split('\n').zip(1u32..) {
        reader.line(line, number);
        if reader.errors.len() >= ERRORS_MAX || reader.is_lost() {
            break;
        }
    }
    if reader.errors.is_empty() {
        Ok(reader.ini)
    } else {
        Err(reader.errors)
    }
}

impl Ini {
    /// The label given to [`parse`].
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Names of the sections except `[DEFAULT]`, as written (case matters, as in Python).
    pub fn section_names(&self) -> impl Iterator<Item = &str> {
        self.sections.keys().map(String::as_str)
    }

    /// The keys written in `section` itself, without those inherited from `[DEFAULT]`.
    pub fn section(&self, section: &str) -> Option<&Section> {
        self.sections.get(section)
    }

    /// The entry behind `key`: the section's own, else the one of `[DEFAULT]`.
    pub fn entry(&self, section: &str, key: &str) -> Option<&Entry> {
        let key = key.to_ascii_lowercase();
        self.sections
            .get(section)?
            .get(&key)
            .or_else(|| self.defaults.get(&key))
    }

    /// The value of `key` with `%(name)s` and `%%` replaced, and its line. `None` when the key is absent.
    ///
    /// # Errors
    /// An interpolation problem, with the line of `key`.
    pub fn value(&self, section: &str, key: &str) -> Result<Option<(String, u32)>, IniError> {
        let Some(entry) = self.entry(section, key) else {
            return Ok(None);
        };
        match Expansion::evaluate(self, section, &entry.raw) {
            Ok(value) => Ok(Some((value, entry.line))),
            Err(problem) => {
                let (label, key) = (self.label.clone(), Some(key.to_ascii_lowercase()));
                Err(IniError {
                    label,
                    line: entry.line,
                    key,
                    problem,
                })
            }
        }
    }
}

/// What Python 2's `str.isspace` and `\s` take as white space; unlike `is_ascii_whitespace` it has the vertical tab.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

/// Where the reader stands: the section and the key that a continuation line would extend.
#[derive(Default)]
struct Reader {
    ini: Ini,
    errors: Vec<IniError>,
    /// `None` before the first header; `Some(None)` is `[DEFAULT]`.
    section: Option<Option<String>>,
    key: Option<String>,
}

impl Reader {
    fn fail(&mut self, line: u32, problem: Problem) {
        self.errors.push(IniError {
            label: self.ini.label.clone(),
            line,
            key: None,
            problem,
        });
    }

    /// Python stops at a line before the first section, because every following line would fail too.
    fn is_lost(&self) -> bool {
        self.section.is_none() && !self.errors.is_empty()
    }

    /// The order of the checks is the original's (`RawConfigParser._read`).
    fn line(&mut self, line: &str, number: u32) {
        let trimmed = line.trim_matches(is_space);
        if trimmed.is_empty() || line.starts_with(['#', ';']) || is_remark(line) {
            return;
        }
        if line.starts_with(is_space) && self.continues(trimmed, number) {
            return;
        }
        if let Some(name) = header(line) {
            self.enter(name);
        } else if self.section.is_none() {
            self.fail(number, Problem::NoSection);
        } else if let Some((key, value)) = option(line) {
            let entry = Entry { line: number, ..value };
            self.store(key, entry);
        } else {
            self.fail(number, Problem::NotAnOption);
        }
    }

    /// Appends an indented line to the key above it; false when there is none.
    fn continues(&mut self, trimmed: &str, number: u32) -> bool {
        let Some(key) = self.key.clone() else { return false };
        let Some(entry) = self.target().and_then(|section| section.get_mut(&key)) else {
            return false;
        };
        entry.raw.push('\n');
        entry.raw.push_str(trimmed);
        entry.continued.push(number);
        true
    }

    /// A section may be opened several times; its keys add up.
    fn enter(&mut self, name: &str) {
        self.key = None;
        if name == "DEFAULT" {
            self.section = Some(None);
        } else {
            self.ini.sections.entry(name.to_owned()).or_default();
            self.section = Some(Some(name.to_owned()));
        }
    }

    /// The last of several equal keys wins.
    fn store(&mut self, key: String, entry: Entry) {
        self.key = Some(key.clone());
        if let Some(section) = self.target() {
            let replaced = section.get(&key).map(|earlier| earlier.line);
            section.insert(key, Entry { replaced, ..entry });
        }
    }

    fn target(&mut self) -> Option<&mut Section> {
        match self.section.as_ref()? {
            None => Some(&mut self.ini.defaults),
            Some(name) => self.ini.sections.get_mut(name),
        }
    }
}

/// `rem` as the first word, in column one. Python takes `rem = 3` as a remark too.
fn is_remark(line: &str) -> bool {
    line.split(is_space)
        .next()
        .is_some_and(|word| word.eq_ignore_ascii_case("rem"))
}

/// `[name]` in column one; whatever follows the bracket is ignored.
fn header(line: &str) -> Option<&str> {
    let (name, _) = line.strip_prefix('[')?.split_once(']')?;
    (!name.is_empty()).then_some(name)
}

/// The key of a line that would set one if it were not indented.
pub(super) fn option_name(line: &str) -> Option<String> {
    option(line).map(|(key, _)| key)
}

/// `key = value` or `key: value`, whichever sign comes first. The key is lowered, the value trimmed.
fn option(line: &str) -> Option<(String, Entry)> {
    let (key, value) = line.split_once([':', '='])?;
    if key.is_empty() || key.starts_with(is_space) {
        return None;
    }
    let written = value.trim_start_matches(is_space);
    let kept = without_comment(written);
    let is_cut = kept.len() < written.len();
    let value = kept.trim_matches(is_space);
    // `""` is the one place where the original looks at quotes.
    let value = if value == "\"\"" { "" } else { value };
    let entry = Entry {
        raw: value.to_owned(),
        is_cut,
        ..Entry::default()
    };
    Some((key.trim_end_matches(is_space).to_ascii_lowercase(), entry))
}

/// Cuts an inline comment: only the first `;` counts, and only after white space. For a `;` at the very start Python
/// looks at the character *before the first*, which is the last one of the line; kept, so that values stay the same.
fn without_comment(value: &str) -> &str {
    let Some((before, _)) = value.split_once(';') else {
        return value;
    };
    let neighbour = if before.is_empty() { value } else { before };
    if neighbour.ends_with(is_space) { before } else { value }
}

#[cfg(test)]
#[path = "ini_tests.rs"]
mod tests;
