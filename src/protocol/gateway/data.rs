//! What a backend keeps with a client: a JSON object, in the originals its info or session. It lives and dies with the client.
//!
//! Kept as compact text, so that reading it is copying it, and a client without any has a null pointer. A change is read and
//! merged as values and is whole or not at all. Bounds: `session_max` bytes for a client, `sessions_max` for all of the process
//! ([`Total`]); levels and values as for all JSON of callers (`api/json.rs`). What would go beyond is refused.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use serde_json::{Map, Value};

use super::api::read_json;
use crate::config::Gateway;
use crate::engine::command::{Edit, Why};

/// [`Edit::verb`]: the patch takes the place of what is there.
pub const SET: u8 = 0;
/// [`Edit::verb`]: the patch is merged into it as RFC 7396 says: recursively, null deletes.
pub const MERGE: u8 = 1;

/// Text of no data.
const NOTHING: &[u8] = b"{}";

/// Bytes kept by several.
#[derive(Debug, Default)]
pub struct Total(AtomicUsize);

/// By all clients of the process.
pub static OF_PROCESS: Total = Total(AtomicUsize::new(0));

impl Total {
    /// Bytes kept.
    pub fn bytes(&self) -> usize {
        self.0.load(Relaxed)
    }

    /// One of them keeps `after` bytes instead of `before`. False, and nothing has changed, if that is more and all are beyond
    /// `max` with it.
    fn change(&self, before: usize, after: usize, max: usize) -> bool {
        let change = |total: usize| {
            let total = total.saturating_sub(before).saturating_add(after);
            (after <= before || total <= max).then_some(total)
        };
        self.0.fetch_update(Relaxed, Relaxed, change).is_ok()
    }
}

/// The data of one client.
#[derive(Debug, Default)]
pub struct Data(Option<Box<Kept>>);

#[derive(Debug)]
struct Kept {
    total: &'static Total,
    json: Box<[u8]>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.total.change(self.json.len(), 0, 0);
    }
}

impl Data {
    /// What a client begins with: a JSON object.
    ///
    /// # Errors
    /// It is none, or too long.
    pub fn new(json: &Bytes, limits: &Gateway) -> Result<Self, Why> {
        let mut data = Self::default();
        let edit = Edit {
            verb: SET,
            patch: json.clone(),
        };
        data.edit(&edit, limits).map(|_| data)
    }

    /// As compact JSON, always an object.
    pub fn json(&self) -> Bytes {
        match &self.0 {
            Some(kept) => Bytes::copy_from_slice(&kept.json),
            None => Bytes::from_static(NOTHING),
        }
    }

    /// The same, where it is.
    pub fn text(&self) -> &[u8] {
        self.0.as_ref().map_or(NOTHING, |kept| &kept.json)
    }

    /// Changes it; what it is then.
    ///
    /// # Errors
    /// Nothing has changed, and why.
    pub fn edit(&mut self, edit: &Edit, limits: &Gateway) -> Result<Bytes, Why> {
        self.edit_in(edit, limits, &OF_PROCESS)
    }

    fn edit_in(&mut self, edit: &Edit, limits: &Gateway, total: &'static Total) -> Result<Bytes, Why> {
        let patch = read_json(&edit.patch).map_err(|_| Why::Invalid("no JSON that can be kept"))?;
        let Value::Object(patch) = patch else {
            return Err(Why::Invalid("not a JSON object"));
        };
        let fields = match edit.verb {
            SET => patch,
            MERGE => {
                let mut fields = self.fields();
                merge(&mut fields, patch);
                fields
            }
            _ => return Err(Why::Invalid("neither set nor merged")),
        };
        self.keep(Bytes::from(Value::Object(fields).to_string()), limits, total)
    }

    fn keep(&mut self, json: Bytes, limits: &Gateway, total: &'static Total) -> Result<Bytes, Why> {
        if json == NOTHING {
            self.0 = None;
            return Ok(json);
        }
        let before = self.0.as_ref().map_or(0, |kept| kept.json.len());
        if json.len() > limits.session_max || !total.change(before, json.len(), limits.sessions_max) {
            return Err(Why::Full);
        }
        let fresh: Box<[u8]> = json[..].into();
        match &mut self.0 {
            // Charged above; what it was is not given back a second time.
            Some(kept) => kept.json = fresh,
            None => self.0 = Some(Box::new(Kept { total, json: fresh })),
        }
        Ok(json)
    }

    fn fields(&self) -> Map<String, Value> {
        let kept = self.0.as_ref().map(|kept| serde_json::from_slice(&kept.json));
        // It was written here.
        kept.and_then(Result::ok).unwrap_or_default()
    }
}

/// RFC 7396. No deeper than `patch` is, whose depth was bounded when it was read.
fn merge(fields: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (key, value) in patch {
        match value {
            Value::Null => drop(fields.shift_remove(&key)),
            Value::Object(inner) => {
                let place = fields.entry(key).or_insert(Value::Null);
                if !place.is_object() {
                    *place = Value::Object(Map::new());
                }
                if let Value::Object(place) = place {
                    merge(place, inner);
                }
            }
            value => drop(fields.insert(key, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::api::DEPTH_MAX;
    use super::*;

    fn limits(session_max: usize, sessions_max: usize) -> Gateway {
        Gateway {
            session_max,
            sessions_max,
            ..Gateway::default()
        }
    }

    fn total() -> &'static Total {
        Box::leak(Box::default())
    }

    /// Merges or sets in a total of its own.
    fn edit(data: &mut Data, verb: u8, patch: &str, limits: &Gateway, total: &'static Total) -> Result<String, Why> {
        let edit = Edit {
            verb,
            patch: Bytes::copy_from_slice(patch.as_bytes()),
        };
        let json = data.edit_in(&edit, limits, total)?;
        assert_eq!(json, data.json());
        Ok(String::from_utf8(json.to_vec()).unwrap())
    }

    /// The cases of RFC 7396, appendix A, whose both sides are objects; as fields of one where they are not.
    #[test]
    fn merging_follows_the_rfc() {
        let limits = limits(1000, 1000);
        for (before, patch, after) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (
                r#"{"a":{"b":"c"}}"#,
                r#"{"a":{"b":"d","c":null}}"#,
                r#"{"a":{"b":"d"}}"#,
            ),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"{"x":["a","b"]}"#, r#"{"x":["c","d"]}"#, r#"{"x":["c","d"]}"#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
            (r#"{"x":[1,2]}"#, r#"{"x":{"a":"b","c":null}}"#, r#"{"x":{"a":"b"}}"#),
            ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ] {
            let mut data = Data::default();
            edit(&mut data, SET, before, &limits, total()).unwrap();
            assert_eq!(
                edit(&mut data, MERGE, patch, &limits, total()).as_deref(),
                Ok(after),
                "{before} {patch}"
            );
        }
    }

    #[test]
    fn setting_replaces_and_nothing_is_an_object_too() {
        let (mut data, limits) = (Data::default(), limits(100, 100));
        assert_eq!(data.json(), NOTHING);
        assert_eq!(
            edit(&mut data, SET, " { \"a\" : 1 } ", &limits, total()).as_deref(),
            Ok(r#"{"a":1}"#)
        );
        assert_eq!(
            edit(&mut data, SET, r#"{"b":"ü"}"#, &limits, total()).as_deref(),
            Ok(r#"{"b":"ü"}"#)
        );
        assert_eq!(edit(&mut data, SET, "{}", &limits, total()).as_deref(), Ok("{}"));
        assert!(data.0.is_none());
        // Where bin-x has a nil map that the next update panics over.
        assert_eq!(
            edit(&mut data, MERGE, r#"{"c":2}"#, &limits, total()).as_deref(),
            Ok(r#"{"c":2}"#)
        );
    }

    #[test]
    fn what_cannot_be_kept_changes_nothing() {
        let (mut data, limits) = (Data::default(), limits(100, 100));
        edit(&mut data, SET, r#"{"a":1}"#, &limits, total()).unwrap();
        let deep = format!("{}1{}", "{\"a\":".repeat(DEPTH_MAX + 1), "}".repeat(DEPTH_MAX + 1));
        for (verb, patch) in [
            (SET, "[1]"),
            (SET, "null"),
            (MERGE, "\"x\""),
            (SET, "{"),
            (MERGE, ""),
            (SET, &deep),
            (7, "{}"),
        ] {
            let refused = edit(&mut data, verb, patch, &limits, total());
            assert!(matches!(refused, Err(Why::Invalid(_))), "{patch}");
            assert_eq!(data.json(), &br#"{"a":1}"#[..]);
        }
    }

    #[test]
    fn a_client_keeps_no_more_than_it_may() {
        let (mut data, limits) = (Data::default(), limits(16, 1000));
        let full = r#"{"a":"12345678"}"#;
        assert_eq!(full.len(), 16);
        assert_eq!(edit(&mut data, SET, full, &limits, total()).as_deref(), Ok(full));
        assert_eq!(edit(&mut data, MERGE, r#"{"b":1}"#, &limits, total()), Err(Why::Full));
        assert_eq!(
            edit(&mut data, SET, r#"{"a":"123456789"}"#, &limits, total()),
            Err(Why::Full)
        );
        assert_eq!(data.json(), full.as_bytes());
    }

    #[test]
    fn all_together_keep_no_more_than_they_may_and_give_back_what_they_had() {
        let (all, limits) = (total(), limits(100, 20));
        let (mut one, mut other) = (Data::default(), Data::default());
        edit(&mut one, SET, r#"{"a":123}"#, &limits, all).unwrap();
        edit(&mut other, SET, r#"{"a":12}"#, &limits, all).unwrap();
        assert_eq!(all.bytes(), 17);
        assert_eq!(edit(&mut other, SET, r#"{"a":123456}"#, &limits, all), Err(Why::Full));
        assert_eq!(
            edit(&mut other, SET, r#"{"a":12345}"#, &limits, all).map(|json| json.len()),
            Ok(11)
        );
        assert_eq!(all.bytes(), 20);
        // A lower bound lets nobody grow, and everybody shrink.
        let lower = Gateway {
            sessions_max: 5,
            ..limits.clone()
        };
        assert_eq!(edit(&mut one, SET, r#"{"a":1234}"#, &lower, all), Err(Why::Full));
        assert_eq!(
            edit(&mut one, SET, r#"{"a":1}"#, &lower, all).map(|json| json.len()),
            Ok(7)
        );
        drop(one);
        assert_eq!(all.bytes(), 11);
        edit(&mut other, SET, "{}", &lower, all).unwrap();
        assert_eq!(all.bytes(), 0);
    }

    #[test]
    fn a_client_without_data_has_a_pointer() {
        assert_eq!(size_of::<Data>(), size_of::<usize>());
    }

    fn objects() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            "[a-c]{0,2}".prop_map(Value::from)
        ];
        let value = leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[a-c]", inner, 0..3).prop_map(|fields| fields.into_iter().collect()),
            ]
        });
        prop::collection::btree_map("[a-c]", value, 0..4).prop_map(|fields| fields.into_iter().collect())
    }

    /// The RFC's pseudo-code, word for word.
    fn merge_patch(target: &Value, patch: &Value) -> Value {
        let Value::Object(patch) = patch else {
            return patch.clone();
        };
        let mut target = if target.is_object() { target.clone() } else { json!({}) };
        for (name, value) in patch {
            let fields = target.as_object_mut().unwrap();
            if value.is_null() {
                fields.shift_remove(name);
            } else {
                let merged = merge_patch(fields.get(name).unwrap_or(&Value::Null), value);
                fields.insert(name.clone(), merged);
            }
        }
        target
    }

    proptest! {
        #[test]
        fn merging_is_the_rfcs(before in objects(), patch in objects()) {
            let (mut data, limits, all) = (Data::default(), limits(10_000, 10_000), total());
            edit(&mut data, SET, &before.to_string(), &limits, all).unwrap();
            let merged = edit(&mut data, MERGE, &patch.to_string(), &limits, all).unwrap();
            prop_assert_eq!(serde_json::from_str::<Value>(&merged).unwrap(), merge_patch(&before, &patch));
            prop_assert_eq!(all.bytes(), if merged == "{}" { 0 } else { merged.len() });
        }
    }
}
