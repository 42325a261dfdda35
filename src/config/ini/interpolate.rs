//! `%(name)s` and `%%` in values: `SafeConfigParser._interpolate_some`, with bounds on length, depth and work.

use super::{Ini, Problem, VALUE_BYTES_MAX};

/// Most references one read may follow: bounds the time where references to empty values keep the length at zero.
const REFERENCES_MAX: u32 = 10_000;
/// How deep references may nest: `MAX_INTERPOLATION_DEPTH` of the original reader.
pub(super) const DEPTH_MAX: u32 = 10;

/// One evaluation of a key: `SafeConfigParser._interpolate_some`, with a budget.
pub(super) struct Expansion<'a> {
    ini: &'a Ini,
    section: &'a str,
    out: String,
    references_left: u32,
}

impl Expansion<'_> {
    /// The value that `raw`, written in `section`, stands for.
    pub(super) fn evaluate(ini: &Ini, section: &str, raw: &str) -> Result<String, Problem> {
        let mut expansion = Expansion {
            ini,
            section,
            out: String::new(),
            references_left: REFERENCES_MAX,
        };
        expansion.expand(raw, 1)?;
        Ok(expansion.out)
    }

    fn expand(&mut self, text: &str, depth: u32) -> Result<(), Problem> {
        if depth > DEPTH_MAX {
            return Err(Problem::TooDeep);
        }
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('%') {
            self.push(before)?;
            // Counted only for a message: counting at every % would be quadratic.
            let column = || text[..text.len() - after.len()].chars().count();
            if let Some(tail) = after.strip_prefix('%') {
                self.push("%")?;
                rest = tail;
            } else if let Some(tail) = after.strip_prefix('(') {
                let (name, tail) = tail.split_once(')').ok_or_else(|| Problem::BadReference(column()))?;
                let tail = tail.strip_prefix('s').filter(|_| !name.is_empty());
                rest = tail.ok_or_else(|| Problem::BadReference(column()))?;
                self.reference(name, depth)?;
            } else {
                return Err(Problem::StrayPercent(column()));
            }
        }
        self.push(rest)
    }

    fn reference(&mut self, name: &str, depth: u32) -> Result<(), Problem> {
        self.references_left = self.references_left.checked_sub(1).ok_or(Problem::TooLarge)?;
        let (ini, section) = (self.ini, self.section);
        match ini.entry(section, name) {
            Some(entry) if entry.raw.contains('%') => self.expand(&entry.raw, depth + 1),
            Some(entry) => self.push(&entry.raw),
            // Every section of the original carries its own name.
            None if name.eq_ignore_ascii_case("__name__") => self.push(section),
            None => Err(Problem::UnknownName(name.to_owned())),
        }
    }

    fn push(&mut self, text: &str) -> Result<(), Problem> {
        if self.out.len() + text.len() > VALUE_BYTES_MAX {
            return Err(Problem::TooLarge);
        }
        self.out.push_str(text);
        Ok(())
    }
}
