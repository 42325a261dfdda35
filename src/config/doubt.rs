//! What in a text may not mean what its writer meant, under the rules the original reads a file by (spec §2): a `#` that starts
//! no comment, a `;` that does, an indented line that continues the value above it, quotes, what cannot be seen.
//!
//! The bytes of a value stay those of the original. A doubt goes with a refusal as its likely cause; with a value that is
//! accepted it is a warning, or a refusal where no file of the original can have the key. Texts never quote a value.
//! Caller: `load.rs`.

use super::ini::{Entry, option_name};
use super::kind::Kind;

/// Something that may be a slip, as words for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Doubt {
    /// What it is and what to write.
    pub(super) text: String,
    /// The known key that is swallowed, and its line.
    pub(super) swallowed: Option<(String, u32)>,
    /// It cannot be meant: a list or a path does not hold it.
    pub(super) is_certain: bool,
}

impl Doubt {
    fn of(text: impl Into<String>) -> Doubt {
        Doubt {
            text: text.into(),
            swallowed: None,
            is_certain: false,
        }
    }
}

/// All doubts about an entry, the strongest first. `is_known` tells the keys of the table.
pub(super) fn doubts(entry: &Entry, is_known: impl Fn(&str) -> bool) -> Vec<Doubt> {
    let mut found = Vec::new();
    let mut lines = entry.raw.split('\n');
    let first = lines.next().unwrap_or_default();
    for (line, number) in lines.zip(&entry.continued) {
        found.extend(indented(line, *number, &is_known));
    }
    if first.contains(" #") || first.contains("\t#") || first.starts_with('#') {
        found.push(Doubt {
            is_certain: true,
            ..Doubt::of(
                "a # after a value starts no comment, it is part of the value; write comments on lines of their own",
            )
        });
    }
    if entry.is_cut {
        found.push(Doubt::of(
            "a ; after a space starts a comment: what stands from there on is not part of the value; if it should be, leave the \
             space out, and write comments on lines of their own",
        ));
    }
    if first.starts_with(['"', '\'', '\u{201c}', '\u{2018}']) {
        found.push(Doubt {
            is_certain: true,
            ..Doubt::of("quotes are part of the value here; write it without them")
        });
    }
    if entry.raw.chars().any(is_unseen) {
        found.push(Doubt::of(
            "holds a character that cannot be seen, such as a no-break space; type the value anew",
        ));
    }
    found
}

fn indented(line: &str, number: u32, is_known: impl Fn(&str) -> bool) -> Option<Doubt> {
    const CURE: &str = "take away the white space in front of it";
    if line.starts_with(['#', ';']) {
        let text = format!("line {number} is indented, so it is no comment but part of this value; {CURE}");
        return Some(Doubt {
            is_certain: true,
            ..Doubt::of(text)
        });
    }
    let name = option_name(line).filter(|name| is_known(name))?;
    let text = format!("line {number} is indented, so {name} is not set there but is part of this value; {CURE}");
    Some(Doubt {
        swallowed: Some((name, number)),
        is_certain: true,
        ..Doubt::of(text)
    })
}

fn is_unseen(c: char) -> bool {
    let is_plain = matches!(c, ' ' | '\t' | '\n');
    !is_plain && (c.is_whitespace() || c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{feff}' | '\u{ad}'))
}

/// Whether doubts about an accepted value of this kind are worth a warning: it takes nearly any text.
pub(super) fn takes_any_text(kind: &Kind) -> bool {
    matches!(kind, Kind::Secret(_) | Kind::Text(_) | Kind::Ignored) || is_ours(kind)
}

/// Whether it cannot hold such a thing, and is not the original's.
pub(super) fn is_ours(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Directory(_)
            | Kind::Path(_)
            | Kind::Paths(_)
            | Kind::Headers(_)
            | Kind::Addresses(_)
            | Kind::MaybeAddresses(_)
            | Kind::PathsOfClients(_)
            | Kind::Secrets(_)
            | Kind::Peers(_)
            | Kind::Schemes(_)
            | Kind::Networks(_)
            | Kind::Origins(_)
    )
}

/// A secret on several lines is read as the original reads it, and hardly ever meant.
pub(super) fn goes_on(entry: &Entry) -> Option<String> {
    let line = entry.continued.first()?;
    Some(format!(
        "goes on on line {line}, because that line is indented; take away the white space in front of it if it is not part of \
         this value"
    ))
}

/// `user%40host:pw@` in a URL is sent as written, as the original's HTTP client does (spec §4).
pub(super) fn encoded_user(url: &str) -> Option<&'static str> {
    let rest = url.split_once("://")?.1;
    let front = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let user = front.rsplit_once('@')?.0.as_bytes();
    let is_encoded = |three: &[u8]| matches!(three, [b'%', a, b] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit());
    user.windows(3).any(is_encoded).then_some(
        "has a percent-encoded character in user:password@, which is sent as it is written, not decoded; write the character \
         itself (an @ or a : in the password does no harm)",
    )
}

#[cfg(test)]
mod tests {
    use super::super::ini;
    use super::*;

    fn found(text: &str) -> Vec<Doubt> {
        let ini = ini::parse("t", &format!("[main]\n{text}")).expect("readable");
        let entry = ini.entry("main", "a").expect("there");
        doubts(entry, |name| name == "http_port")
    }

    #[test]
    fn each_doubt_is_raised_and_nothing_else() {
        let table = [
            ("a = b # c", "a # after a value"),
            ("a = b\t# c", "a # after a value"),
            ("a = # c", "a # after a value"),
            ("a = b ; c", "a ; after a space"),
            ("a = \"b\"", "quotes are part"),
            ("a = 'b'", "quotes are part"),
            ("a = b\u{a0}c", "cannot be seen"),
            ("a = b\u{200b}", "cannot be seen"),
            ("a = b\rc = d", "cannot be seen"),
            ("a = b\n  # c", "line 3 is indented, so it is no comment"),
            ("a = b\n\n  ; c", "line 4 is indented, so it is no comment"),
            ("a = b\n  http_port = 1", "line 3 is indented, so http_port is not set"),
            ("a = b\n\tHTTP_PORT: 1", "line 3 is indented, so http_port is not set"),
        ];
        for (text, words) in table {
            let doubts = found(text);
            assert!(
                doubts.len() == 1 && doubts[0].text.contains(words),
                "{text:?}: {doubts:?}"
            );
        }
        for plain in [
            "a = b",
            "a = b;c",
            "a = b#c",
            "a = b\tc",
            "a = b\n  c = d",
            "a =",
            "a = \"\"",
        ] {
            assert_eq!(found(plain), [], "{plain:?}");
        }
    }

    #[test]
    fn encoded_users_of_urls() {
        assert!(encoded_user("http://u:p%40x@a/").is_some());
        for plain in [
            "http://u:p%x@a/",
            "http://a/%40@",
            "http://a/?%40@",
            "http://u:p@a/%40",
            "a%40@b",
            "",
        ] {
            assert_eq!(encoded_user(plain), None, "{plain}");
        }
    }
}
