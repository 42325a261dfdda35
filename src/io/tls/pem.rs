//! PEM files (RFC 7468) → sections with the line each begins on. Callers: `files.rs`, `expiry.rs`.
//!
//! Forgiving where nothing can be meant otherwise: byte order marks (also inside, where files were put together), white space
//! around lines, any line end, text between the sections. A section that is damaged is kept with its damage, so that a message
//! can say which one it is. Bounded by [`FILE_BYTES_MAX`].

use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::io::files;

/// Longest file that is read. The authorities of a whole system take a quarter of a megabyte.
const FILE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why a section cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Damage {
    /// Another one begins before its end.
    NoEnd,
    /// The file ends before it does: cut off, or still being written.
    CutOff,
    /// Its lines are not base64.
    NotBase64,
    /// It is encrypted in the way of RFC 1421 (`Proc-Type: 4,ENCRYPTED`).
    Encrypted,
}

/// What stands between `-----BEGIN label-----` and `-----END label-----`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Section {
    /// What it says it is.
    pub(super) label: String,
    /// Line of its beginning, from 1.
    pub(super) line: usize,
    /// The bytes.
    pub(super) der: Result<Vec<u8>, Damage>,
}

/// The content of a file. Errors say what to do.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let named = |error: io::Error| format!("cannot be read: {error}");
    let bytes = files::read(path, FILE_BYTES_MAX).map_err(named)?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(format!(
            "is longer than {FILE_BYTES_MAX} bytes; is this the right file?"
        ));
    }
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err("is UTF-16; save it as UTF-8 or ASCII".into());
    }
    Ok(bytes)
}

/// All sections in their order.
pub(super) fn sections(bytes: &[u8]) -> Vec<Section> {
    let mut found = Vec::new();
    let mut open: Option<(Section, Vec<u8>)> = None;
    for (line, number) in bytes.split(|byte| *byte == b'\n').zip(1..) {
        let line = without_mark(line).trim_ascii();
        if let Some(label) = marker(line, b"-----BEGIN ") {
            found.extend(open.take().map(|(section, _)| damaged(section, Damage::NoEnd)));
            let (label, der) = (String::from_utf8_lossy(label).into_owned(), Ok(Vec::new()));
            open = Some((
                Section {
                    label,
                    line: number,
                    der,
                },
                Vec::new(),
            ));
        } else if line.starts_with(b"-----END ") {
            found.extend(open.take().map(|(section, text)| ended(section, &text, line)));
        } else if let Some((_, text)) = &mut open {
            text.extend_from_slice(line);
        }
    }
    found.extend(open.map(|(section, _)| damaged(section, Damage::CutOff)));
    found
}

fn damaged(section: Section, damage: Damage) -> Section {
    Section {
        der: Err(damage),
        ..section
    }
}

fn ended(section: Section, text: &[u8], end: &[u8]) -> Section {
    if marker(end, b"-----END ") != Some(section.label.as_bytes()) {
        return damaged(section, Damage::NoEnd);
    }
    if text.starts_with(b"Proc-Type:") {
        return damaged(section, Damage::Encrypted);
    }
    let der = STANDARD.decode(text).map_err(|_| Damage::NotBase64);
    Section { der, ..section }
}

/// What a line that begins so says before its last dashes.
fn marker<'a>(line: &'a [u8], start: &[u8]) -> Option<&'a [u8]> {
    line.strip_prefix(start)?.strip_suffix(b"-----")
}

fn without_mark(line: &[u8]) -> &[u8] {
    line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(text: &str) -> Vec<(String, usize, Result<Vec<u8>, Damage>)> {
        let sections = sections(text.as_bytes()).into_iter();
        sections.map(|found| (found.label, found.line, found.der)).collect()
    }

    #[test]
    fn sections_of_every_shape() {
        let one = |der| vec![("A B".to_owned(), 1, der)];
        let good = Ok(vec![0, 0, 0]);
        assert_eq!(
            seen("-----BEGIN A B-----\nAAAA\n-----END A B-----\n"),
            one(good.clone())
        );
        assert_eq!(
            seen("\u{feff}-----BEGIN A B-----\r\n AA\r\nAA \r\n-----END A B-----"),
            one(good)
        );
        assert_eq!(seen("-----BEGIN A B-----\nAAAA\n"), one(Err(Damage::CutOff)));
        assert_eq!(seen("-----BEGIN A B-----\nAAAA\n-----END A"), one(Err(Damage::NoEnd)));
        assert_eq!(
            seen("-----BEGIN A B-----\nA!AA\n-----END A B-----"),
            one(Err(Damage::NotBase64))
        );
        let encrypted = "-----BEGIN A B-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END A B-----";
        assert_eq!(seen(encrypted), one(Err(Damage::Encrypted)));
        let two = "text\n-----BEGIN A-----\nAAAA\n\u{feff}-----BEGIN B-----\nAAAA\n-----END B-----\nmore";
        let expected = vec![
            ("A".to_owned(), 2, Err(Damage::NoEnd)),
            ("B".to_owned(), 4, Ok(vec![0, 0, 0])),
        ];
        assert_eq!(seen(two), expected);
        assert_eq!(seen(""), []);
    }
}
