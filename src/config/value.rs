//! Texts of the ini file ↔ values: numbers, times, sizes, addresses. Plain functions; `kind.rs` says which key uses which.
//!
//! Refusals are phrases that end in what is accepted and quote at most a short, escaped part of the text.

use super::kind::{PORT_DEFAULT, Reading};
use super::origins::OriginRule;
use super::types::{Network, Peer, PortRange, Scheme, Secret};
use super::url;
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

/// Longest text setting in bytes: the cluster name has to fit in a datagram of 1024 bytes with its JSON around it.
const TEXT_BYTES_MAX: usize = 255;
/// Most items of a list setting (addresses, peers): far above any real cluster, far below a mistake that hurts.
const LIST_ITEMS_MAX: usize = 256;

/// `text` escaped and cut, for messages. Of its first line only: what follows may be another key by mistake, the token say.
pub(super) fn quoted(text: &str) -> String {
    let first = text.split('\n').next().unwrap_or_default();
    let short: String = first.chars().take(40).collect();
    let dots = if short.len() < text.len() { "…" } else { "" };
    format!("\"{}{dots}\"", short.escape_debug())
}

pub(super) fn joined<T: Display>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

/// A whole number as Python's `int()` takes it: optional sign, white space around it. Saturates, so that a number of any
/// length is judged by its range and not taken for a word.
fn python_int(text: &str) -> Option<i64> {
    let text = text.trim();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digit = |sum: i64, byte: u8| sum.saturating_mul(10).saturating_add(i64::from(byte - b'0'));
    Some(sign * digits.bytes().fold(0, digit))
}

fn port(text: &str) -> Result<Option<u16>, String> {
    match python_int(text) {
        None | Some(0) => Ok(None),
        Some(number) => match u16::try_from(number) {
            Ok(port) => Ok(Some(port)),
            Err(_) => Err(format!("{} is not a port; use 1..65535", quoted(text))),
        },
    }
}

pub(super) fn read_port(text: &str, place: &mut u16) -> Result<Reading, String> {
    *place = port(text)?.unwrap_or(PORT_DEFAULT);
    Ok(match python_int(text) {
        None => Reading::Fallback("is not an integer; 1984 is used"),
        Some(0) => Reading::Fallback("0 means the default; 1984 is used"),
        Some(_) => Reading::AsWritten,
    })
}

pub(super) fn read_second_port(text: &str, place: &mut Option<u16>) -> Result<Reading, String> {
    *place = port(text)?;
    let is_fine = place.is_some() || text.is_empty();
    Ok(if is_fine {
        Reading::AsWritten
    } else {
        Reading::Fallback("is not a port 1..65535; it is left out")
    })
}

pub(super) fn optional_port(text: &str) -> Result<Option<u16>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let number = python_int(text).and_then(|number| u16::try_from(number).ok());
    let number = number.ok_or_else(|| format!("{} is not a port; use 1..65535, or 0 for none", quoted(text)))?;
    Ok((number != 0).then_some(number))
}

pub(super) fn strict_port(text: &str) -> Result<u16, String> {
    let refusal = || format!("{} is not a port; use 1..65535", quoted(text));
    port(text)?.ok_or_else(refusal)
}

pub(super) fn integer(text: &str, min: usize, max: usize) -> Result<usize, String> {
    let number = python_int(text).and_then(|number| usize::try_from(number).ok());
    number
        .filter(|number| (min..=max).contains(number))
        .ok_or_else(|| format!("{} is not a whole number {min}..{max}", quoted(text)))
}

pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "true" | "on" => Ok(true),
        "0" | "no" | "false" | "off" => Ok(false),
        _ => Err(format!("{} is neither yes nor no", quoted(text))),
    }
}

/// Decimal digits, not a float: no NaN, no infinity, no exponent, and what is written is what is shown.
pub(super) fn seconds(text: &str, min: u64, max: u64) -> Result<Duration, String> {
    let refusal = || {
        format!(
            "{} is not a number of seconds {}..{}",
            quoted(text),
            show_millis(min),
            show_millis(max)
        )
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) || fraction.len() > 6 {
        return Err(refusal());
    }
    let whole: u64 = whole.parse().map_err(|_| refusal())?;
    let micros: u64 = format!("{fraction:0<6}").parse().map_err(|_| refusal())?;
    let duration = Duration::from_secs(whole) + Duration::from_micros(micros);
    let is_inside = (Duration::from_millis(min)..=Duration::from_millis(max)).contains(&duration);
    if is_inside { Ok(duration) } else { Err(refusal()) }
}

pub(super) fn bytes(text: &str, min: usize, max: usize) -> Result<usize, String> {
    let lower = text.to_ascii_lowercase();
    let (digits, factor) = match (lower.strip_suffix('k'), lower.strip_suffix('m')) {
        (Some(digits), _) => (digits, 1024),
        (_, Some(digits)) => (digits, 1024 * 1024),
        _ => (lower.as_str(), 1),
    };
    let number = python_int(digits).and_then(|number| usize::try_from(number).ok());
    number
        .and_then(|number| number.checked_mul(factor))
        .filter(|number| (min..=max).contains(number))
        .ok_or_else(|| {
            let (min, max) = (show_bytes(min), show_bytes(max));
            format!(
                "{} is not a number of bytes {min}..{max} (suffix k or m allowed)",
                quoted(text)
            )
        })
}

pub(super) fn show_bytes(bytes: usize) -> String {
    match bytes {
        0 => "0".into(),
        n if n.is_multiple_of(1024 * 1024) => format!("{}m", n / (1024 * 1024)),
        n if n.is_multiple_of(1024) => format!("{}k", n / 1024),
        n => n.to_string(),
    }
}

pub(super) fn show_millis(millis: u64) -> String {
    Duration::from_millis(millis).as_secs_f64().to_string()
}

pub(super) fn one_line(text: &str) -> Result<String, String> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(format!("is longer than {TEXT_BYTES_MAX} bytes"));
    }
    if text.chars().any(char::is_control) {
        return Err("has a line break or control character; write it on one line".into());
    }
    Ok(text.to_owned())
}

pub(super) fn origin(word: &str) -> Result<OriginRule, String> {
    OriginRule::parse(word)
}

pub(super) fn one_path(text: &str) -> Result<PathBuf, String> {
    if text.chars().any(char::is_control) {
        return Err("has a line break or control character; write one path on one line".into());
    }
    Ok(PathBuf::from(text))
}

/// A path that means the same wherever a process was started.
pub(super) fn whole_path(text: &str) -> Result<PathBuf, String> {
    let path = one_path(text)?;
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(format!(
            "{} does not begin at the root; write the whole path",
            quoted(text)
        ))
    }
}

/// Empty is `None`.
pub(super) fn optional<T>(text: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    if text.is_empty() {
        Ok(None)
    } else {
        read(text).map(Some)
    }
}

/// Secrets, which a refusal must not quote.
pub(super) fn secrets(text: &str) -> Result<Vec<Secret>, String> {
    let secret = |word: &str| {
        let is_plain = word.bytes().all(|byte| byte.is_ascii_graphic());
        is_plain.then(|| Secret::new(word)).ok_or_else(String::new)
    };
    let refusal = "lists something with quotes, a ; or a # in front, or characters outside ASCII; write secrets without, \
                   separated by commas";
    items(text, secret).map_err(|_| refusal.to_owned())
}

/// Paths as they stand in a request line, without a query; `*` alone is any path.
pub(super) fn paths_of_clients(text: &str) -> Result<Vec<String>, String> {
    let path = |word: &str| {
        let is_path = word.starts_with('/')
            && word
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && !b"?#".contains(&byte));
        is_path.then(|| word.to_owned()).ok_or_else(|| {
            format!(
                "{} is not a path as it stands in a request; begin it with /, without ? and #, or write * for any",
                quoted(word)
            )
        })
    };
    if text == "*" { Ok(Vec::new()) } else { items(text, path) }
}

/// Items separated by commas or white space (continuation lines included).
pub(super) fn items<T>(text: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    let mut words = text
        .split(|c: char| c == ',' || c.is_whitespace())
        .filter(|word| !word.is_empty());
    let list = words
        .by_ref()
        .take(LIST_ITEMS_MAX)
        .map(|word| unadorned(word).and_then(&read))
        .collect::<Result<_, _>>()?;
    if words.next().is_some() {
        return Err(format!("lists more than {LIST_ITEMS_MAX} items"));
    }
    Ok(list)
}

/// Refuses what belongs to other notations of lists.
fn unadorned(word: &str) -> Result<&str, String> {
    if word.starts_with(['"', '\'']) || word.ends_with(['"', '\'']) {
        return Err(format!(
            "{} has quotes, which are part of the value here; write it without them",
            quoted(word)
        ));
    }
    if word.contains(';') {
        return Err(format!(
            "{}: separate items with commas or spaces, nothing else",
            quoted(word)
        ));
    }
    if word.starts_with('#') {
        return Err("a # after a value starts no comment; write comments on lines of their own".into());
    }
    Ok(word)
}

pub(super) fn address(word: &str) -> Result<IpAddr, String> {
    let bare = word
        .strip_prefix('[')
        .and_then(|word| word.strip_suffix(']'))
        .unwrap_or(word);
    bare.parse()
        .map_err(|_| format!("{} is not an IP address; names are not resolved here", quoted(word)))
}

pub(super) fn addresses(text: &str) -> Result<Vec<IpAddr>, String> {
    let list = items(text, address)?;
    if list.is_empty() {
        return Err("lists no address; use for example 0.0.0.0 or 127.0.0.1".into());
    }
    Ok(list)
}

pub(super) fn address_v4(text: &str) -> Result<Ipv4Addr, String> {
    text.parse()
        .map_err(|_| format!("{} is not an IPv4 address", quoted(text)))
}

pub(super) fn network(word: &str) -> Result<Network, String> {
    let refusal = || format!("{} is not an IP address or address/bits", quoted(word));
    let (address, bits) = word
        .split_once('/')
        .map_or((word, None), |(left, right)| (left, Some(right)));
    let address: IpAddr = address.parse().map_err(|_| refusal())?;
    let bits = match bits {
        None => Network::bits_max(address),
        Some(bits) if bits.len() <= 3 && bits.bytes().all(|byte| byte.is_ascii_digit()) => {
            bits.parse().map_err(|_| refusal())?
        }
        Some(_) => return Err(refusal()),
    };
    Network::new(address, bits).ok_or_else(refusal)
}

pub(super) fn peer(word: &str) -> Result<Peer, String> {
    let refusal = || format!("{} is not host:port", quoted(word));
    let (host, port) = url::host_and_port(word).map_err(|_| refusal())?;
    Ok(Peer {
        host,
        port: port.ok_or_else(refusal)?,
    })
}

pub(super) fn scheme(word: &str) -> Result<Scheme, String> {
    Scheme::from_word(word).ok_or_else(|| format!("{} is not one of: {}", quoted(word), Scheme::WORDS.join(", ")))
}

pub(super) fn port_range(text: &str) -> Result<PortRange, String> {
    let refusal = || format!("{} is not first-last with ports 1..65535", quoted(text));
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| port(text).ok().flatten().ok_or_else(refusal);
    let range = PortRange {
        first: number(first)?,
        last: number(last)?,
    };
    // 20 datagrams go out per announcement in the original; hundreds would be a flood.
    if range.first > range.last || range.last - range.first > 99 {
        return Err(format!(
            "{}: the first port must not be above the last, at most 100 ports",
            quoted(text)
        ));
    }
    Ok(range)
}
