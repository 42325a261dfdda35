//! The listing of channels: as JSON for peers and tools, as a page for people.
//!
//! The JSON form is shared with servers of version 0.05 in a mixed cluster, so its keys and types are fixed. Source: spec
//! section 10. Built by the control core from the censuses of all shards, and from the answers of peers.

use std::fmt::Write;

use simd_json::prelude::*;

use crate::engine::name::Name;
use crate::wire::json;

/// Longest listing read from a peer, in bytes: some 200 000 channels.
pub const LISTING_BYTES_MAX: usize = 8 << 20;

/// What one server tells about itself.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerInfo {
    /// `ip:port`.
    pub server: String,
    /// Channels with their members, sorted by name.
    pub channels: Vec<(Name, u64)>,
    /// Process number.
    pub pid: u64,
    /// Use of one CPU, in percent.
    pub cpu: f64,
    /// Share of the machine's memory in percent, three decimals.
    pub mem: String,
}

impl ServerInfo {
    /// `censuses` may name a channel more than once (each shard counts its own members) and in any order. `mem` in percent.
    pub fn new(server: String, mut censuses: Vec<(Name, u64)>, pid: u32, cpu: f64, mem: f64) -> Self {
        censuses.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        censuses.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            kept.1 = if same { kept.1.saturating_add(next.1) } else { kept.1 };
            same
        });
        let finite = |value: f64| if value.is_finite() { value } else { 0.0 };
        Self {
            server,
            channels: censuses,
            pid: u64::from(pid),
            cpu: finite(cpu),
            mem: format!("{:.3}", finite(mem)),
        }
    }

    /// The answer to `/serverinfo/?cluster=1`.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = b"{\"status\": 0, \"server\": ".to_vec();
        json::push_string(&mut out, self.server.as_bytes());
        out.extend_from_slice(format!(", \"channels_cnt\": {}, \"channels\": [", self.channels.len()).as_bytes());
        for (at, (name, members)) in self.channels.iter().enumerate() {
            out.extend_from_slice(if at == 0 { b"[" } else { b", [" });
            json::push_string(&mut out, name.text());
            out.extend_from_slice(format!(", {members}]").as_bytes());
        }
        let process = format!(
            "], \"process\": {{\"pid\": {}, \"cpu\": {:?}, \"mem\": ",
            self.pid, self.cpu
        );
        out.extend_from_slice(process.as_bytes());
        json::push_string(&mut out, self.mem.as_bytes());
        out.extend_from_slice(b"}}");
        out
    }

    /// Reads a peer's answer; `None` if it is not one.
    pub fn from_json(text: &[u8]) -> Option<Self> {
        json::with_value(text, LISTING_BYTES_MAX, |value| {
            let object = value.as_object()?;
            if object.get("status")?.as_i64()? != 0 {
                return None;
            }
            let channel = |pair: simd_json::tape::Value<'_, '_>| {
                let pair = pair.as_array()?;
                Some((Name::channel(pair.get(0)?.as_str()?.as_bytes()), pair.get(1)?.as_u64()?))
            };
            let process = object.get("process")?.as_object()?;
            Some(Self {
                server: object.get("server")?.as_str()?.to_owned(),
                channels: object
                    .get("channels")?
                    .as_array()?
                    .iter()
                    .map(channel)
                    .collect::<Option<_>>()?,
                pid: process.get("pid")?.as_u64()?,
                cpu: process.get("cpu")?.cast_f64()?,
                mem: process.get("mem")?.as_str()?.to_owned(),
            })
        })
    }
}

/// The page of all servers, sorted by name.
pub fn page(mut servers: Vec<ServerInfo>) -> String {
    servers.sort_by(|one, other| one.server.cmp(&other.server));
    let mut out = "<html><title>serverinfo</title><body>\n<ul>\n".to_owned();
    for info in &servers {
        let (server, mem, count) = (
            escaped(info.server.as_bytes()),
            escaped(info.mem.as_bytes()),
            info.channels.len(),
        );
        let _ = writeln!(
            out,
            "<li>server {server} channels {count} cpu {}% mem {mem}%\n<ul>",
            info.cpu
        );
        for (name, members) in &info.channels {
            let _ = writeln!(out, "<li>channel {} {members}</li>", escaped(name.text()));
        }
        out.push_str("</ul></li>\n");
    }
    out.push_str("</ul>\n</body></html>");
    out
}

/// Text as html: names of channels are whatever a caller chose.
fn escaped(text: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for c in String::from_utf8_lossy(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(server: &str, channels: &[(&str, u64)]) -> ServerInfo {
        let channels = channels
            .iter()
            .map(|(name, members)| (Name::channel(name.as_bytes()), *members))
            .collect();
        ServerInfo::new(server.to_owned(), channels, 42, 0.0, 0.1029)
    }

    #[test]
    fn the_json_form() {
        let json = info("10.0.0.1:1984", &[("b", 1), ("a", 2), ("b", 3)]).to_json();
        let expected = r#"{"status": 0, "server": "10.0.0.1:1984", "channels_cnt": 2, "channels": [["a", 2], ["b", 4]], "process": {"pid": 42, "cpu": 0.0, "mem": "0.103"}}"#;
        assert_eq!(str::from_utf8(&json).unwrap(), expected);
        let empty = info("s", &[]).to_json();
        assert!(
            str::from_utf8(&empty)
                .unwrap()
                .contains(r#""channels_cnt": 0, "channels": [], "#)
        );
    }

    #[test]
    fn what_a_peer_tells_is_read_back() {
        let told = info("10.0.0.1:1984", &[("a", 2), ("你 \"b\"", 1)]);
        assert_eq!(ServerInfo::from_json(&told.to_json()), Some(told));
        let original = br#"{"status":0,"channels_cnt":1,"channels":[["k",1]],"server":"s","process":{"cpu":1,"mem":"0.1","pid":7}}"#;
        assert_eq!(ServerInfo::from_json(original).unwrap().cpu, 1.0);
        for bad in [
            "",
            "ok",
            "{}",
            "[]",
            "{\"status\": 0}",
            "{\"status\": 1, \"msg\": \"x\"}",
        ] {
            assert_eq!(ServerInfo::from_json(bad.as_bytes()), None, "{bad}");
        }
        let half = br#"{"status":0,"channels":[["k"]],"server":"s","process":{"cpu":1,"mem":"0.1","pid":7}}"#;
        assert_eq!(ServerInfo::from_json(half), None);
    }

    #[test]
    fn the_page_is_sorted_and_escaped() {
        let page = page(vec![info("b", &[("a", 1)]), info("a", &[("<script>&", 3)])]);
        assert!(
            page.contains("channel a 1") && page.contains("channel &lt;script&gt;&amp; 3"),
            "{page}"
        );
        assert!(page.find("server a ") < page.find("server b "), "{page}");
        assert!(page.contains("server a channels 1 cpu 0% mem 0.103%"), "{page}");
    }

    #[test]
    fn odd_numbers_stay_json() {
        let info = ServerInfo::new("s".to_owned(), Vec::new(), 1, f64::NAN, f64::INFINITY);
        assert_eq!(ServerInfo::from_json(&info.to_json()), Some(info));
    }
}
