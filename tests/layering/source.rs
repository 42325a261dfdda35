//! Reads Rust source far enough for the checks: comments and test items are dropped, and every path is written out, so
//! `use crate::{io::x, shard::{self, y as z}}` names `crate::io::x`, `crate::shard` and `crate::shard::y`, wherever it stands.

use std::path::Path;

/// One piece of code, with its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub line: usize,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An identifier or keyword, or a number.
    Word(String),
    /// A literal in quotes.
    Text,
    Sign(char),
}

/// A path as it was written, without aliases and generics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub line: usize,
    pub segments: Vec<String>,
}

impl Token {
    fn is(&self, sign: char) -> bool {
        self.kind == Kind::Sign(sign)
    }

    pub fn word(&self) -> Option<&str> {
        match &self.kind {
            Kind::Word(word) => Some(word),
            _ => None,
        }
    }

    /// The words of an identifier in lower case: `on_rainbowClient` has `on`, `rainbow` and `client`.
    pub fn parts(&self) -> Vec<String> {
        let text = self.word().unwrap_or_default();
        let mut parts = vec![String::new()];
        let mut was_lower = false;
        for c in text.chars() {
            if !c.is_alphanumeric() || (c.is_uppercase() && was_lower) {
                parts.push(String::new());
            }
            was_lower = c.is_lowercase();
            if c.is_alphanumeric() {
                parts.last_mut().unwrap().extend(c.to_lowercase());
            }
        }
        parts
    }
}

impl Named {
    pub fn text(&self) -> String {
        self.segments.join("::")
    }

    /// The same from the root of the crate: `super` and `self` are those of a file in `module`.
    pub fn resolved(mut self, module: &[String]) -> Self {
        let climbs = self.segments.iter().take_while(|segment| *segment == "super").count();
        let begins_here = self.segments.first().is_some_and(|first| first == "self");
        if climbs > 0 || begins_here {
            let above = module.len().saturating_sub(climbs);
            let rest = self.segments.split_off(climbs + usize::from(begins_here));
            self.segments = vec!["crate".to_owned()];
            self.segments.extend_from_slice(&module[..above]);
            self.segments.extend(rest);
        }
        self
    }
}

/// The module a file below `src` is.
pub fn module_of(below: &Path) -> Vec<String> {
    let names = below.with_extension("");
    let mut module: Vec<String> = names.iter().map(|name| name.to_str().unwrap().to_owned()).collect();
    if matches!(module.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        module.pop();
    }
    module
}

/// The code of a file: no comments, no items that are only there for tests.
pub fn code(text: &str) -> Vec<Token> {
    without_tests(tokens(text))
}

/// Every path, those in braces one by one.
pub fn paths(code: &[Token]) -> Vec<Named> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < code.len() {
        let after_path = at >= 2 && code[at - 1].is(':') && code[at - 2].is(':');
        if code[at].word() == Some("use") {
            at = tree(code, at + 1, &[], &mut found);
        } else if code[at].word().is_some() && !after_path && is_double_colon(code, at + 1) {
            at = tree(code, at, &[], &mut found);
        } else {
            at += 1;
        }
    }
    found
}

/// Reads the tree of paths that begins at `at`; returns where it ends.
fn tree(code: &[Token], mut at: usize, before: &[String], found: &mut Vec<Named>) -> usize {
    let mut segments = before.to_vec();
    let Some(first) = code.get(at) else { return at };
    let line = first.line;
    if is_double_colon(code, at) {
        at += 2; // `use ::std`
    }
    loop {
        match code.get(at) {
            Some(token) if token.is('{') => return branches(code, at + 1, &segments, found),
            Some(token) if token.is('*') => {
                segments.push("*".to_owned());
                at += 1;
            }
            Some(Token {
                kind: Kind::Word(word), ..
            }) => {
                segments.push(word.clone());
                at += 1;
            }
            _ => break,
        }
        if !is_double_colon(code, at) {
            break;
        }
        at += 2;
    }
    if code.get(at).and_then(Token::word) == Some("as") {
        at += 2;
    }
    if segments.len() > 1 && segments.last().is_some_and(|last| last == "self") {
        segments.pop();
    }
    found.push(Named { line, segments });
    at
}

/// The trees between braces; `at` is behind the opening one.
fn branches(code: &[Token], mut at: usize, before: &[String], found: &mut Vec<Named>) -> usize {
    while let Some(token) = code.get(at) {
        if token.is('}') {
            return at + 1;
        }
        at = if token.is(',') {
            at + 1
        } else {
            tree(code, at, before, found).max(at + 1)
        };
    }
    at
}

fn is_double_colon(code: &[Token], at: usize) -> bool {
    code.get(at).is_some_and(|token| token.is(':')) && code.get(at + 1).is_some_and(|token| token.is(':'))
}

/// Drops each item behind `#[cfg(test)]` or `#[cfg(all(test, …))]`.
fn without_tests(tokens: Vec<Token>) -> Vec<Token> {
    let mut kept: Vec<Token> = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if is_test_attribute(&tokens[at..]) {
            at = item_end(&tokens, at);
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

fn is_test_attribute(tokens: &[Token]) -> bool {
    let words = |at: usize| tokens.get(at).and_then(Token::word);
    tokens[0].is('#')
        && words(2) == Some("cfg")
        && (words(4) == Some("test") || (words(4) == Some("all") && words(6) == Some("test")))
}

/// Where the item at `at` ends: behind its `;`, or behind its body.
fn item_end(tokens: &[Token], mut at: usize) -> usize {
    let mut depth = 0usize;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token.kind {
            Kind::Sign('{' | '(' | '[') => depth += 1,
            Kind::Sign(')' | ']') => depth = depth.saturating_sub(1),
            Kind::Sign('}') => {
                depth = depth.saturating_sub(1);
                if depth == 0 && tokens.get(at).is_none_or(|next| !next.is(';')) {
                    return at;
                }
            }
            Kind::Sign(';') if depth == 0 => return at,
            _ => {}
        }
    }
    at
}

fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let (mut tokens, mut at, mut line) = (Vec::new(), 0, 1);
    while at < chars.len() {
        let (end, kind) = token(&chars, at);
        if let Some(kind) = kind {
            tokens.push(Token { line, kind });
        }
        line += chars[at..end].iter().filter(|c| **c == '\n').count();
        at = end;
    }
    tokens
}

/// The token at `at`, if it is code, and where it ends.
fn token(chars: &[char], at: usize) -> (usize, Option<Kind>) {
    let starts = |what: &str| what.chars().eq(chars[at..].iter().copied().take(what.chars().count()));
    let rest = &chars[at..];
    if starts("//") {
        let len = rest.iter().position(|c| *c == '\n').unwrap_or(rest.len());
        return (at + len, None);
    }
    if starts("/*") {
        return (block_comment_end(chars, at), None);
    }
    if let Some((open, hashes)) = string_quotes(rest) {
        let end = string_end(chars, at + open, hashes);
        return (end, Some(Kind::Text));
    }
    let c = chars[at];
    if c == '\'' {
        let end = match rest {
            [_, '\\', ..] => at + 3 + rest[3..].iter().position(|c| *c == '\'').unwrap_or(0) + 1,
            [_, _, '\'', ..] => at + 3,
            _ => at + 1, // a lifetime
        };
        return (end, None);
    }
    if c.is_alphanumeric() || c == '_' {
        let len = rest.iter().take_while(|c| c.is_alphanumeric() || **c == '_').count();
        return (at + len, Some(Kind::Word(rest[..len].iter().collect())));
    }
    (at + 1, (!c.is_whitespace()).then_some(Kind::Sign(c)))
}

fn block_comment_end(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

/// If a string literal begins here: where its text begins, and of a raw one how many `#` end it.
fn string_quotes(rest: &[char]) -> Option<(usize, Option<usize>)> {
    let prefix = rest.iter().take_while(|c| matches!(c, 'b' | 'c' | 'r')).count().min(2);
    let is_raw = rest[..prefix].contains(&'r');
    let hashes = rest[prefix..].iter().take_while(|c| **c == '#').count();
    let quoted = rest.get(prefix + hashes) == Some(&'"') && (is_raw || hashes == 0);
    quoted.then_some((prefix + hashes + 1, is_raw.then_some(hashes)))
}

/// Behind the quote that ends the string whose text begins at `at`.
fn string_end(chars: &[char], mut at: usize, raw: Option<usize>) -> usize {
    let hashes = raw.unwrap_or(0);
    while at < chars.len() {
        let closes = chars[at] == '"' && chars[at + 1..].iter().take_while(|c| **c == '#').count() >= hashes;
        if closes {
            return at + 1 + hashes;
        }
        at += if chars[at] == '\\' && raw.is_none() { 2 } else { 1 };
    }
    chars.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Vec<String> {
        paths(&code(text)).iter().map(Named::text).collect()
    }

    #[test]
    fn trees_are_written_out() {
        assert_eq!(
            named("use crate::{io::x, shard::{self, y as z, *}, wire};\nuse {crate::cli, std::{fs, net::TcpStream}};"),
            [
                "crate::io::x",
                "crate::shard",
                "crate::shard::y",
                "crate::shard::*",
                "crate::wire",
                "crate::cli",
                "std::fs",
                "std::net::TcpStream"
            ]
        );
        assert_eq!(
            named("use crate\n    ::{\n    io\n    ::x}; pub(crate) use ::std::fs;"),
            ["crate::io::x", "std::fs"]
        );
        assert_eq!(named("use crate as c; fn f() { c::io::x() }"), ["crate", "c::io::x"]);
    }

    #[test]
    fn paths_in_expressions_and_types_are_seen() {
        let text = "fn f(a: crate::io::A<std::fs::File>) -> b::C { $crate::wire::d::<e::F>(); x.y(g::h) }";
        assert_eq!(
            named(text),
            [
                "crate::io::A",
                "std::fs::File",
                "b::C",
                "crate::wire::d",
                "e::F",
                "g::h"
            ]
        );
    }

    #[test]
    fn comments_texts_and_tests_are_not_code() {
        let text = "// crate::a\n/* crate::b /* */ */ let x = (\"crate::c // \", 'x', '\"', r#\"crate::d\"#, r\"\\\", b\"\\\"crate::e\");\n\
                    #[cfg(test)]\nmod tests;\n#[cfg(all(test, not(loom)))]\nmod more { use crate::f; fn g() {} }\nuse crate::h;";
        assert_eq!(named(text), ["crate::h"]);
        assert_eq!(paths(&code(text))[0].line, 7);
    }

    #[test]
    fn relative_paths_lead_to_the_root() {
        let module = module_of(Path::new("shard/notes.rs"));
        let resolved = |text: &str| paths(&code(text)).remove(0).resolved(&module).text();
        assert_eq!(resolved("use super::super::{io::x};"), "crate::io::x");
        assert_eq!(resolved("use super::gate;"), "crate::shard::gate");
        assert_eq!(resolved("use self::a;"), "crate::shard::notes::a");
        assert_eq!(module_of(Path::new("shard/mod.rs")), ["shard"]);
        assert!(module_of(Path::new("lib.rs")).is_empty());
    }

    #[test]
    fn words_are_found_in_names() {
        let token = |text: &str| code(text).remove(0).parts();
        assert_eq!(token("on_RainbowClient"), ["on", "rainbow", "client"]);
        assert_eq!(token("\"echo\""), [""]);
    }
}
