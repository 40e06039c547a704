//! Writes the fields of a job's specification, slice by slice: they may be as long as the longest
//! body, and a thousand clients may read them at once.
//!
//! ```text
//!   "arguments":["one","two, which is lo│ng"],"environment":{"NAME":"val│ue"},…
//!                                       └ a slice ends here             └ or here ┘
//! ```
//!
//! The writer holds the specification of the beginning. Each slice looks up all fields again, which
//! takes no time, because they are borrowed. The end of a slice is the number of a field, of an
//! entry in it, and of a byte in that.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::rc::Rc;

use super::json::{TEXT_BYTES, slice_of_text, write_json, write_text};
use crate::job::{self, Field, JobSpec, Secrets, TextTable};

/// What is still to be written of a specification.
#[derive(Debug)]
pub(super) struct Specification {
    spec: Rc<JobSpec>,
    /// How many fields were written.
    fields: usize,
    /// The name of the current field was written, and what opens its value.
    is_open: bool,
    entry: Entry,
}

/// The position in a list or a table of texts.
#[derive(Debug, Default)]
struct Entry {
    /// How many entries were written.
    count: usize,
    /// The last of them, in a table or a set.
    last: Option<String>,
    stage: Stage,
    text: Text,
}

/// The next part of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Comma,
    Name,
    Value,
}

/// The position in a text: how many bytes of it were written, if it was begun.
#[derive(Debug, Default)]
struct Text {
    written: Option<usize>,
}

/// How many of `room` bytes are left after the specification; `None` if it does not fit. It is an
/// estimate, because bytes that JSON escapes take up to six.
pub(super) fn room_after(spec: &JobSpec, room: usize) -> Option<usize> {
    let mut room = room.checked_sub(SMALL_FIELDS_BYTES)?;
    let mut take = |text: &str| {
        room = room.checked_sub(text.len() + PUNCTUATION_BYTES)?;
        Some(())
    };
    for (_, field) in job::write(spec, Secrets::Hidden) {
        match field {
            Field::String(text) => take(&text)?,
            Field::Texts(texts) => texts.iter().try_for_each(|text| take(text))?,
            Field::Names(names) => names.iter().try_for_each(|name| take(name))?,
            Field::TextTable(table) => {
                table
                    .entries_after(None)
                    .try_for_each(|(name, text)| take(name).and(take(text)))?;
            }
            Field::Bool(_)
            | Field::Integer(_)
            | Field::Float(_)
            | Field::List(_)
            | Field::Table(_) => {}
        }
    }
    Some(room)
}

impl Specification {
    pub(super) fn new(spec: Rc<JobSpec>) -> Specification {
        // The type was written before, with the fields of the job.
        Specification { spec, fields: 1, is_open: false, entry: Entry::default() }
    }

    /// Writes fields, each after a comma, until `out` is `until` bytes long, or a little longer.
    /// Returns whether all were written.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, until: usize) -> bool {
        let spec = self.spec.clone();
        for (name, field) in job::write(&spec, Secrets::Hidden).iter().skip(self.fields) {
            if out.len() >= until || !self.write_field(name, field, out, until) {
                return false;
            }
            self.fields += 1;
            self.is_open = false;
            self.entry = Entry::default();
        }
        true
    }

    fn write_field(&mut self, name: &str, field: &Field, out: &mut Vec<u8>, until: usize) -> bool {
        if !std::mem::replace(&mut self.is_open, true) {
            out.push(b',');
            write_json(out, &name);
            out.push(b':');
            match field {
                Field::Texts(_) | Field::Names(_) => out.push(b'['),
                Field::TextTable(_) => out.push(b'{'),
                Field::String(_) => {}
                Field::Bool(_)
                | Field::Integer(_)
                | Field::Float(_)
                | Field::List(_)
                | Field::Table(_) => write_json(out, field),
            }
        }
        let (is_whole, close) = match field {
            Field::String(text) => (self.entry.text.write(text, out, until), None),
            Field::Texts(texts) => (self.entry.write_list(texts, out, until), Some(b']')),
            Field::Names(names) => (self.entry.write_names(names, out, until), Some(b']')),
            Field::TextTable(table) => (self.entry.write_table(*table, out, until), Some(b'}')),
            Field::Bool(_)
            | Field::Integer(_)
            | Field::Float(_)
            | Field::List(_)
            | Field::Table(_) => (true, None),
        };
        if is_whole {
            out.extend(close);
        }
        is_whole
    }
}

impl Entry {
    fn write_list(&mut self, texts: &[String], out: &mut Vec<u8>, until: usize) -> bool {
        let rest = texts.get(self.count..).unwrap_or_default();
        rest.iter().all(|text| self.write(None, text, out, until))
    }

    fn write_names(&mut self, names: &BTreeSet<String>, out: &mut Vec<u8>, until: usize) -> bool {
        let after = self.last.take();
        let start = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut last: Option<&String> = None;
        for name in names.range::<str, _>((start, Bound::Unbounded)) {
            if !self.write(None, name, out, until) {
                self.last = last.cloned().or(after);
                return false;
            }
            last = Some(name);
        }
        true
    }

    fn write_table(&mut self, table: TextTable, out: &mut Vec<u8>, until: usize) -> bool {
        let after = self.last.take();
        let mut last = None;
        for (name, text) in table.entries_after(after.as_deref()) {
            if !self.write(Some(name), text, out, until) {
                self.last = last.map(str::to_owned).or(after);
                return false;
            }
            last = Some(name);
        }
        true
    }

    /// Writes an entry, or goes on with it; returns whether it is complete.
    fn write(&mut self, name: Option<&str>, value: &str, out: &mut Vec<u8>, until: usize) -> bool {
        if self.stage == Stage::Comma {
            if out.len() >= until {
                return false;
            }
            if self.count > 0 {
                out.push(b',');
            }
            self.stage = Stage::Name;
        }
        if self.stage == Stage::Name {
            if let Some(name) = name {
                if !self.text.write(name, out, until) {
                    return false;
                }
                out.push(b':');
            }
            self.stage = Stage::Value;
        }
        if !self.text.write(value, out, until) {
            return false;
        }
        self.stage = Stage::Comma;
        self.count += 1;
        true
    }
}

impl Text {
    /// Writes more of the text; returns whether that was all.
    fn write(&mut self, text: &str, out: &mut Vec<u8>, until: usize) -> bool {
        if self.written.is_none() {
            out.push(b'"');
        }
        let mut written = self.written.unwrap_or(0);
        while out.len() < until {
            let rest = text.as_bytes().get(written..).unwrap_or_default();
            let slice = slice_of_text(rest, TEXT_BYTES);
            write_text(out, slice);
            written += slice.len();
            if slice.len() == rest.len() {
                out.push(b'"');
                self.written = None;
                return true;
            }
        }
        self.written = Some(written);
        false
    }
}

/// The approximate size of all other fields.
const SMALL_FIELDS_BYTES: usize = 1024;
/// The size of the punctuation around a text.
const PUNCTUATION_BYTES: usize = 3;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::job::{Spelling, parse};

    /// Slices of any length make the whole specification, without its type.
    fn check(fields: &serde_json::Value) {
        let mut payload = json!({"type": "one-off", "executable": "x"});
        payload.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let spec = parse(serde_json::from_value(payload).unwrap(), "/srv", Spelling::Camel);
        let spec = Rc::new(spec.unwrap());
        let all = Field::Table(job::write(&spec, Secrets::Hidden));
        let all = serde_json::to_string(&all).unwrap();
        let whole = all.strip_prefix(r#"{"type":"one-off""#).unwrap().strip_suffix('}').unwrap();
        for length in [1, 2, 3, 7, 100, 16_384, usize::MAX] {
            let (mut specification, mut out) = (Specification::new(spec.clone()), Vec::new());
            loop {
                let begin = out.len();
                let is_whole = specification.write(&mut out, begin.saturating_add(length));
                assert!(out.len() > begin || is_whole, "by {length}: {fields}");
                assert!(out.len() - begin < length.saturating_add(6 * TEXT_BYTES + 600));
                if is_whole {
                    break;
                }
            }
            let text = String::from_utf8(out).unwrap();
            assert!(text == whole, "by {length}: {text}\nnot {whole}");
        }
    }

    #[test]
    fn slices_of_a_specification_make_the_whole() {
        check(&json!({}));
        check(&json!({"arguments": [], "environment": {"A": ""}, "labels": {}}));
        check(&json!({"arguments": ["", "a\"\n", "", "\u{20ac}"], "stdin": ""}));
        check(&json!({"stdin": "\u{1}\u{20ac}x".repeat(20_000), "workingDirectory": "/a\"b"}));
        let environment: serde_json::Map<_, _> = (0..300)
            .map(|number| (format!("N{number}\"{}", "n".repeat(number)), json!("v".repeat(number))))
            .collect();
        let names: Vec<_> = environment.keys().skip(100).cloned().collect();
        check(&json!({"environment": environment, "secretEnvironment": names}));
        let long = "\u{1f980}".repeat(5000);
        check(&json!({"environment": {&long: &long}, "labels": {&long: long}}));
        check(&json!({"arguments": (0..5000).map(|it| it.to_string()).collect::<Vec<_>>()}));
    }

    #[test]
    fn a_specification_is_as_large_as_what_may_be_long_in_it() {
        let payload = json!({
            "type": "one-off", "executable": "x", "arguments": ["a".repeat(1000)],
            "environment": {"A": "a".repeat(1000)}, "labels": {"a": "a".repeat(1000)},
            "stdin": "a".repeat(1000),
        });
        let spec = parse(serde_json::from_value(payload).unwrap(), "/srv", Spelling::Camel);
        let spec = spec.unwrap();
        let left = room_after(&spec, 10_000).unwrap();
        assert!((4_500..5_000).contains(&left), "{left}");
        assert_eq!(room_after(&spec, 5_000), None);
    }
}
