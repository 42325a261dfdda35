//! Paths of REST requests: which function they belong to, and their parameters. A path is cut at its slashes before anything is
//! decoded, so that a group may have a slash in its name.

use std::borrow::Cow;
use std::sync::LazyLock;

use http::Method;

use super::ApiError;
use super::read::text_of;
use super::table::{FUNCTIONS, Function};

/// Whose path it is.
pub(super) enum Found<'a> {
    /// A function's, with the parts of the path that are parameters, undecoded and in order.
    Function(&'static Function, Vec<&'a [u8]>),
    /// It has these methods.
    Other(&'static str),
    /// Nobody's.
    Nothing,
}

/// A path of the table with all that is reached by it.
struct Entry {
    segments: Vec<&'static str>,
    functions: Vec<&'static Function>,
    allow: String,
}

static PATHS: LazyLock<Vec<Entry>> = LazyLock::new(|| {
    let mut entries: Vec<Entry> = Vec::new();
    for function in &FUNCTIONS {
        let Some(route) = &function.route else { continue };
        let segments: Vec<_> = route.path.split('/').collect();
        match entries.iter_mut().find(|entry| entry.segments == segments) {
            Some(entry) => entry.functions.push(function),
            None => entries.push(Entry {
                segments,
                functions: vec![function],
                allow: String::new(),
            }),
        }
    }
    for entry in &mut entries {
        let mut methods: Vec<&str> = entry
            .functions
            .iter()
            .filter_map(|is| Some(is.route.as_ref()?.method.as_str()))
            .collect();
        if methods.contains(&"GET") {
            methods.push("HEAD");
        }
        methods.push("OPTIONS");
        methods.sort_unstable();
        entry.allow = methods.join(", ");
    }
    // Where a path fits two, the one with more that is fixed comes first.
    entries.sort_by_key(|entry| parameters_of(&entry.segments).count());
    entries
});

fn parameter_of(segment: &'static str) -> Option<&'static str> {
    segment.strip_prefix('{')?.strip_suffix('}')
}

fn parameters_of(segments: &[&'static str]) -> impl Iterator<Item = &'static str> {
    segments.iter().filter_map(|segment| parameter_of(segment))
}

/// The parameters of a path of the table, in order.
pub(super) fn parameters(path: &'static str) -> impl Iterator<Item = &'static str> {
    path.split('/').filter_map(parameter_of)
}

/// Finds the function of a request.
pub(super) fn find<'a>(method: &Method, path: &'a [u8]) -> Result<Found<'a>, ApiError> {
    let method = if method == Method::HEAD { &Method::GET } else { method };
    let mut other = Found::Nothing;
    for entry in PATHS.iter() {
        let Some(parts) = parts(&entry.segments, path) else {
            continue;
        };
        let is_its = |function: &&&Function| function.route.as_ref().is_some_and(|route| route.method == method);
        match entry.functions.iter().find(is_its) {
            Some(function) => return Ok(Found::Function(function, parts)),
            None if matches!(other, Found::Nothing) => other = Found::Other(&entry.allow),
            None => {}
        }
    }
    Ok(other)
}

/// The methods of a path, for OPTIONS.
pub fn methods(path: &[u8]) -> Option<&'static str> {
    PATHS
        .iter()
        .find(|entry| parts(&entry.segments, path).is_some())
        .map(|entry| &entry.allow[..])
}

/// The parts of `path` that stand where the segments have parameters, if the rest is the same.
fn parts<'a>(segments: &[&'static str], path: &'a [u8]) -> Option<Vec<&'a [u8]>> {
    let mut given = path.split(|byte| *byte == b'/');
    let mut parts = Vec::new();
    for segment in segments {
        let part = given.next()?;
        match parameter_of(segment) {
            Some(_) => parts.push(part),
            None if part == segment.as_bytes() => {}
            None => return None,
        }
    }
    given.next().is_none().then_some(parts)
}

/// A part of a path as text: `%XX` is a byte, everything else itself, and the whole UTF-8.
pub(super) fn decode(part: &[u8]) -> Result<Cow<'_, str>, ApiError> {
    if !part.contains(&b'%') {
        return text_of(Cow::Borrowed(part));
    }
    let (mut out, mut rest) = (Vec::with_capacity(part.len()), part.iter());
    while let Some(byte) = rest.next() {
        if *byte != b'%' {
            out.push(*byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| (*digit as char).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err(ApiError::bad_request(
                "a % in the path is not followed by two hex digits",
            ));
        };
        out.push((high << 4 | low) as u8);
    }
    text_of(Cow::Owned(out))
}
