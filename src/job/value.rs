//! The content of a JSON or a TOML document, before it is checked.
//!
//! Both formats are read into this one type, so that jobs of the API and of the config are checked
//! by the same code.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// A value of JSON or TOML. The keys of a table are distinct.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// JSON's `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number that fits 64 bits.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// Text.
    String(String),
    /// An array.
    List(Vec<Value>),
    /// An object or table, in the order of the document.
    Table(Vec<(String, Value)>),
}

impl Value {
    /// The kind of value, for error messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Integer(_) => "a whole number",
            Value::Float(_) => "a decimal number",
            Value::String(_) => "a string",
            Value::List(_) => "a list",
            Value::Table(_) => "an object",
        }
    }
}

/// Reads any document; an object with a duplicate key is an error.
impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Float(value as f64), Value::Integer))
    }

    /// JSON has one kind of number: `36.0` is the whole number 36 (JSON Schema, 6.1.1), up to the
    /// largest that a double holds exactly.
    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        let is_whole = value.fract() == 0.0 && value.abs() <= LARGEST_EXACT;
        Ok(if is_whole { Value::Integer(value as i64) } else { Value::Float(value) })
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let twice = |key: &str| A::Error::custom(format_args!("the key `{key}` is given twice"));
        let mut table: Vec<(String, Value)> = Vec::new();
        while let Some((key, value)) = entries.next_entry::<String, Value>()? {
            if table.len() < FEW && table.iter().any(|(other, _)| *other == key) {
                return Err(twice(&key));
            }
            table.push((key, value));
        }
        if table.len() > FEW {
            let mut keys: Vec<&str> = table.iter().map(|(key, _)| key.as_str()).collect();
            keys.sort_unstable();
            if let Some([key, _]) = keys.array_windows().find(|[one, other]| one == other) {
                return Err(twice(key));
            }
        }
        Ok(Value::Table(table))
    }
}

/// So many keys are compared as they come; of more, all are once they are there.
const FEW: usize = 16;
/// 2^53.
const LARGEST_EXACT: f64 = 9_007_199_254_740_992.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_given_twice_is_found_wherever_it_stands() {
        let read = |keys: &[usize]| {
            let keys: Vec<_> = keys.iter().map(|key| format!("\"{key}\":0")).collect();
            serde_json::from_str::<Value>(&format!("{{{}}}", keys.join(",")))
        };
        for count in [1, FEW - 1, FEW, FEW + 1, 3 * FEW] {
            let keys: Vec<usize> = (0..count).collect();
            assert!(read(&keys).is_ok(), "{count}");
            for twice in 0..count {
                let error = read(&[&keys[..], &[twice]].concat()).unwrap_err().to_string();
                let expected = format!("the key `{twice}` is given twice");
                assert!(error.starts_with(&expected), "{error}");
            }
        }
    }

    #[test]
    fn whole_numbers_are_whole_however_they_are_written() {
        let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        for (text, number) in [("36.0", 36), ("-5.0", -5), ("1e3", 1000), ("-0.0", 0)] {
            assert_eq!(read(text), Value::Integer(number), "{text}");
        }
        for (text, number) in [("36.5", 36.5), ("1e300", 1e300), ("0.001", 0.001)] {
            assert_eq!(read(text), Value::Float(number), "{text}");
        }
    }
}
