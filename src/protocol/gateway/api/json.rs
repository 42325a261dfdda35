//! JSON of callers, read whole into values: bounded in depth and in number of values, keys not repeated. Strings and keys are
//! valid Unicode. Not for hot paths.

use std::cell::Cell;
use std::fmt;

use serde_json::{Map, Value};

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::error::{ApiError, quoted};

/// Levels of arrays and objects inside each other.
pub const DEPTH_MAX: usize = 64;

/// Values in one text: with the largest body that is allowed, what they take stays a small multiple of it.
pub const VALUES_MAX: usize = 200_000;

/// Reads a JSON text; nothing may follow it.
pub fn read(text: &[u8]) -> Result<Value, ApiError> {
    let left = Cell::new(VALUES_MAX);
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let seed = Seed { left: &left, depth: 0 };
    let read = seed.deserialize(&mut deserializer);
    let read = read.and_then(|value| deserializer.end().map(|()| value));
    read.map_err(|error| ApiError::bad_request(format!("the body is not the JSON expected: {error}")))
}

/// Compact text of a value.
pub fn compact(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// Reads one value.
#[derive(Clone, Copy)]
struct Seed<'a> {
    left: &'a Cell<usize>,
    depth: usize,
}

impl Seed<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        let depth = self.depth + 1;
        if depth > DEPTH_MAX {
            return Err(E::custom(format_args!("deeper than {DEPTH_MAX} levels")));
        }
        Ok(Self { depth, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self.left.get().checked_sub(1) {
            Some(left) => self.left.set(left),
            None => return Err(D::Error::custom(format_args!("more than {VALUES_MAX} values"))),
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, is: bool) -> Result<Value, E> {
        Ok(Value::Bool(is))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let (inner, mut values) = (self.deeper()?, Vec::new());
        while let Some(value) = list.next_element_seed(inner)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let (inner, mut fields) = (self.deeper()?, Map::new());
        while let Some(key) = object.next_key::<String>()? {
            if fields.contains_key(&key) {
                return Err(A::Error::custom(format_args!("{} is given twice", quoted(&key))));
            }
            fields.insert(key, object.next_value_seed(inner)?);
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn values_are_what_was_written() {
        let text = br#" {"b": [1, -2, 1.5, true, null], "a": {"\u00e9": "x\ny"}} "#;
        assert_eq!(
            read(text),
            Ok(json!({"b": [1, -2, 1.5, true, null], "a": {"é": "x\ny"}}))
        );
        assert_eq!(read(b"18446744073709551615"), Ok(json!(u64::MAX)));
    }

    #[test]
    fn what_is_no_json_is_refused_with_a_reason() {
        for (text, why) in [
            (&b""[..], "EOF"),
            (b"{", "EOF"),
            (b"{}{}", "trailing"),
            (b"nope", "expected"),
            (b"\"\xff\"", "unicode"),
            (br#""\ud83d""#, "hex escape"),
            (b"\xef\xbb\xbf{}", "expected value"),
            (b"1e999", "number out of range"),
            (br#"{"a":1,"a":2}"#, "\"a\" is given twice"),
        ] {
            let error = read(text).expect_err("refused");
            assert_eq!(error.code.word(), "bad_request");
            assert!(error.message.contains(why), "{error} for {}", text.escape_ascii());
        }
    }

    #[test]
    fn depth_and_number_of_values_are_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(read(nested(DEPTH_MAX).as_bytes()).is_ok());
        for depth in [DEPTH_MAX + 1, 1000, 1_000_000] {
            let error = read(nested(depth).as_bytes()).expect_err("too deep");
            assert!(error.message.contains("deeper than"), "{error}");
            assert!(read("{\"a\":".repeat(depth).as_bytes()).is_err());
        }
        let list = |values: usize| format!("[{}0]", "0,".repeat(values - 1));
        assert!(read(list(VALUES_MAX - 1).as_bytes()).is_ok());
        let error = read(list(VALUES_MAX).as_bytes()).expect_err("too many");
        assert!(error.message.contains("more than"), "{error}");
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_what_is_read_reads_back(text in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(value) = read(&text) {
                prop_assert_eq!(read(&compact(&value)), Ok(value));
            }
        }
    }
}
