//! Reads the fields of a table one by one; an error names the field and says what would be right.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::Value;
use crate::gather::try_gather;

/// An error in a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// The path of the field, as it was spelled: `["restart", "policy"]`, `["arguments", "2"]`.
    pub path: Vec<String>,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl FieldError {
    /// An error about the field `name` of the top-level table.
    pub fn new(name: &str, message: impl Into<String>) -> FieldError {
        FieldError { path: vec![name.to_owned()], message: message.into() }
    }

    pub(crate) fn under(mut self, parent: &str) -> FieldError {
        self.path.insert(0, parent.to_owned());
        self
    }
}

/// Writes `restart.policy: must be one of …`, or `The document …` for the document as a whole.
impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            return write!(f, "The document {}", self.message);
        }
        write!(f, "{}: {}", self.path.join("."), self.message)
    }
}

/// How the names of fields may be spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// `workingDirectory`: the API.
    Camel,
    /// `workingDirectory` or `working_directory`: the config.
    CamelOrSnake,
}

impl Spelling {
    /// Whether `given` is a spelling of the field that the API calls `name`.
    #[inline]
    pub(super) fn matches(self, given: &str, name: &str) -> bool {
        given == name || (self == Spelling::CamelOrSnake && given == snake_case(name))
    }

    /// The field that the API calls `name`, spelled like `given`: if both spellings are allowed, in
    /// snake_case, unless `given` is in camelCase.
    fn like(self, given: &str, name: &str) -> String {
        match self {
            Spelling::CamelOrSnake if !given.bytes().any(|letter| letter.is_ascii_uppercase()) => {
                snake_case(name)
            }
            Spelling::CamelOrSnake | Spelling::Camel => name.to_owned(),
        }
    }
}

/// The fields of a table that are still to be read.
pub(crate) struct Fields {
    entries: Vec<(String, Value)>,
    spelling: Spelling,
}

type Parsed<T> = Result<T, FieldError>;

impl Fields {
    /// Takes the fields of a table; an error if one is not among `known`.
    pub(crate) fn of(value: Value, known: &[&str], spelling: Spelling) -> Parsed<Fields> {
        Fields::among(value, known, spelling, unknown)
    }

    /// The same; `unknown` says what is wrong with a field that is not among them.
    pub(super) fn among(
        value: Value,
        known: &[&str],
        spelling: Spelling,
        unknown: fn(&str, &[&str], Spelling) -> String,
    ) -> Parsed<Fields> {
        let Value::Table(entries) = value else {
            return Err(FieldError { path: Vec::new(), message: expected("an object", &value) });
        };
        let mut seen: Vec<&str> = Vec::new();
        for (given, _) in &entries {
            let Some(name) = known.iter().find(|name| spelling.matches(given, name)) else {
                return Err(FieldError::new(given, unknown(given, known, spelling)));
            };
            if seen.contains(name) {
                return Err(FieldError::new(given, "is given twice, in two spellings"));
            }
            seen.push(name);
        }
        Ok(Fields { entries, spelling })
    }

    /// The names of the fields, as they were spelled.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(name, _)| name.as_str())
    }

    /// How a field that is still to be read was spelled; if it is absent, as in the API.
    pub(super) fn spelled(&self, name: &str) -> String {
        let given = self.names().find(|given| self.spelling.matches(given, name));
        given.unwrap_or(name).to_owned()
    }

    /// Reads a field with `read`; `None` when it is absent or null.
    pub(crate) fn optional<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(Value) -> Parsed<T>,
    ) -> Parsed<Option<T>> {
        match self.take(name) {
            None => Ok(None),
            Some((given, value)) => read(value).map(Some).map_err(|error| error.under(&given)),
        }
    }

    /// The name of a field as it was spelled, and its value. Separate from its callers, which the
    /// compiler instantiates for each type.
    fn take(&mut self, name: &str) -> Option<(String, Value)> {
        let at = self.entries.iter().position(|(given, _)| self.spelling.matches(given, name))?;
        match self.entries.swap_remove(at) {
            (_, Value::Null) => None,
            field => Some(field),
        }
    }

    /// Reads a field with `read`; an error when it is absent or null.
    pub(crate) fn required<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(Value) -> Parsed<T>,
    ) -> Parsed<T> {
        self.optional(name, read)?.ok_or_else(|| FieldError::new(name, "is required"))
    }

    /// Reads a field that is a table with the fields `known`; `None` if it is absent or null.
    pub(super) fn optional_table<T>(
        &mut self,
        name: &str,
        known: &[&str],
        read: impl FnOnce(&mut Fields) -> Parsed<T>,
    ) -> Parsed<Option<T>> {
        let spelling = self.spelling;
        self.optional(name, |value| read(&mut Fields::of(value, known, spelling)?))
    }

    /// Reads a field that is a table with the fields `known`; if it is absent, an empty one.
    pub(crate) fn table<T>(
        &mut self,
        name: &str,
        known: &[&str],
        read: impl FnOnce(&mut Fields) -> Parsed<T>,
    ) -> Parsed<T> {
        let (given, value) =
            self.take(name).unwrap_or_else(|| (name.to_owned(), Value::Table(Vec::new())));
        Fields::of(value, known, self.spelling)
            .and_then(|mut fields| read(&mut fields))
            .map_err(|error| error.under(&given))
    }
}

/// A boolean.
pub(crate) fn boolean(value: Value) -> Parsed<bool> {
    match value {
        Value::Bool(flag) => Ok(flag),
        other => wrong("true or false", &other),
    }
}

/// A string without NUL bytes, which no argument, path or variable can contain (execve(2)).
pub(crate) fn text(value: Value) -> Parsed<String> {
    match any_text(value)? {
        text if text.contains('\0') => fail("must not contain a NUL character"),
        text => Ok(text),
    }
}

/// A string, which may contain NUL bytes.
pub(crate) fn any_text(value: Value) -> Parsed<String> {
    match value {
        Value::String(text) => Ok(text),
        other => wrong("a string", &other),
    }
}

/// A string that is not empty, without NUL bytes.
pub(crate) fn nonempty(value: Value) -> Parsed<String> {
    match text(value)? {
        text if text.is_empty() => fail("must not be empty"),
        text => Ok(text),
    }
}

/// A name, or a number that stands for one.
pub(super) fn name_or_number(value: Value) -> Parsed<String> {
    match value {
        Value::Integer(number) if (0..i64::from(u32::MAX)).contains(&number) => {
            Ok(number.to_string())
        }
        Value::String(_) => nonempty(value),
        other => wrong("a name or a number from 0 to 4294967294", &other),
    }
}

/// A whole number in `range`.
pub(crate) fn integer<T: TryFrom<i64>>(range: RangeInclusive<i64>) -> impl Fn(Value) -> Parsed<T> {
    move |value| {
        let right = || format!("a whole number from {} to {}", range.start(), range.end());
        match value {
            Value::Integer(number) => {
                let number_in_range = Some(number).filter(|number| range.contains(number));
                let read = number_in_range.and_then(|number| T::try_from(number).ok());
                read.map_or_else(|| fail(format!("must be {}, not {number}", right())), Ok)
            }
            Value::Float(number) => fail(format!("must be {}, not {number}", right())),
            other => wrong(&right(), &other),
        }
    }
}

/// A number in `range`, whole or decimal.
pub(super) fn number(range: RangeInclusive<f64>) -> impl Fn(Value) -> Parsed<f64> {
    move |value| {
        let right = || format!("a number from {} to {}", range.start(), range.end());
        let number = match value {
            Value::Integer(number) => number as f64,
            Value::Float(number) => number,
            other => return wrong(&right(), &other),
        };
        if range.contains(&number) {
            Ok(number)
        } else {
            fail(format!("must be {}, not {number}", right()))
        }
    }
}

/// A time in seconds, decimals allowed, from `least` seconds to a hundred years. It is rounded to
/// milliseconds, the unit of the clocks, but only 0 becomes 0.
pub(crate) fn seconds(least: f64) -> impl Fn(Value) -> Parsed<Duration> {
    move |value| {
        let seconds = number(least..=HUNDRED_YEARS as f64)(value)?;
        let least = u64::from(seconds > 0.0);
        Ok(Duration::from_millis(((seconds * 1000.0).round() as u64).max(least)))
    }
}

/// A time in whole milliseconds, up to a hundred years.
pub(super) fn millis(value: Value) -> Parsed<Duration> {
    integer::<u64>(0..=HUNDRED_YEARS * 1000)(value).map(Duration::from_millis)
}

/// A list whose items are read by `read`.
pub(crate) fn list<T>(read: impl Fn(Value) -> Parsed<T>) -> impl Fn(Value) -> Parsed<Vec<T>> {
    move |value| match value {
        Value::List(items) => items
            .into_iter()
            .enumerate()
            .map(|(index, item)| read(item).map_err(|error| error.under(&index.to_string())))
            .collect(),
        other => wrong("a list", &other),
    }
}

/// A table of strings with any names; `check` says what is wrong with a name, if anything.
pub(super) fn strings(
    check: impl Fn(&str) -> Result<(), String>,
) -> impl Fn(Value) -> Parsed<BTreeMap<String, String>> {
    move |value| match value {
        Value::Table(entries) => {
            try_gather(entries.into_iter().map(|(name, value)| match check(&name) {
                Ok(()) => {
                    let read = text(value).map_err(|error| error.under(&name))?;
                    Ok((name, read))
                }
                Err(message) => Err(FieldError::new(&name, message)),
            }))
        }
        other => wrong("an object of strings", &other),
    }
}

/// One of `choices`, by its name.
pub(crate) fn choice<T: Copy>(
    choices: &'static [(&'static str, T)],
) -> impl Fn(Value) -> Parsed<T> {
    move |value| {
        let right = || {
            let names: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
            format!("one of {}", names.join(", "))
        };
        match value {
            Value::String(given) => match choices.iter().find(|(name, _)| *name == given) {
                Some((_, choice)) => Ok(*choice),
                None => fail(format!("must be {}, not {given:?}", right())),
            },
            other => wrong(&right(), &other),
        }
    }
}

/// An error about a value; the caller adds the name of the field.
pub(crate) fn fail<T>(message: impl Into<String>) -> Parsed<T> {
    Err(FieldError { path: Vec::new(), message: message.into() })
}

/// An error about a value of the wrong type.
pub(crate) fn wrong<T>(right: &str, value: &Value) -> Parsed<T> {
    fail(expected(right, value))
}

/// The name among `known` that is most similar to `given`, if at most a third of its letters are
/// wrong.
pub(crate) fn closest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    // Names are short, but a field of a request may be as long as its body.
    let given: String = given.chars().take(MOST_COMPARED).collect();
    let lower = given.to_lowercase();
    let distance = |name: &str| edit_distance(&lower, &name.to_lowercase());
    let (best, name) = known.iter().map(|name| (distance(name), *name)).min()?;
    (best <= given.chars().count().max(name.len()).div_ceil(3)).then_some(name)
}

/// The error for a name that is not among `known`.
pub(super) fn unknown(given: &str, known: &[&str], spelling: Spelling) -> String {
    let known: Vec<String> = known.iter().map(|name| spelling.like(given, name)).collect();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    match closest(given, &known) {
        Some(name) => format!("unknown field; did you mean `{name}`?"),
        None => format!("unknown field; known are {}", known.join(", ")),
    }
}

fn expected(right: &str, value: &Value) -> String {
    format!("must be {right}, not {}", value.kind())
}

/// Makes `working_directory` of `workingDirectory`.
pub(crate) fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

/// The Levenshtein distance.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, to) in row.iter_mut().skip(1).zip(&b) {
            let best = (diagonal + usize::from(from != *to)).min(*cell + 1).min(left + 1);
            diagonal = std::mem::replace(cell, best);
            left = best;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

/// How many characters of an unknown name are compared.
const MOST_COMPARED: usize = 64;
const HUNDRED_YEARS: i64 = 100 * 366 * 24 * 60 * 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_rounded_to_milliseconds_but_not_to_none() {
        for (given, millis) in [
            (0.0, 0),
            (0.1, 100),
            (0.0004, 1),
            (1.0006, 1001),
            (2.592_337_203_685_477e8, 259_233_720_369),
        ] {
            let read = seconds(0.0)(Value::Float(given));
            assert_eq!(read, Ok(Duration::from_millis(millis)), "{given}");
        }
    }

    #[test]
    fn the_closest_name_is_suggested_and_a_far_one_is_not() {
        let known = ["executable", "arguments", "workingDirectory"];
        assert_eq!(closest("excutable", &known), Some("executable"));
        assert_eq!(closest("argument", &known), Some("arguments"));
        assert_eq!(closest("working_directory", &known), Some("workingDirectory"));
        assert_eq!(closest("zzz", &known), None);
        assert_eq!(closest(&"e".repeat(1 << 20), &known), None);
    }

    #[test]
    fn edit_distance_is_levenshteins() {
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("abc", "abc"), 0);
    }
}
