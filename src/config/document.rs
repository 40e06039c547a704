//! A TOML document as neutral values, with the place of each.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ConfigError;
use crate::job::Value;
use crate::job::fields::{FieldError, fail, snake_case};

/// A TOML document (<https://toml.io/en/v1.0.0>) that remembers the place of every key.
pub(super) struct Document<'a> {
    file: &'a str,
    text: &'a str,
    root: DeValue<'a>,
    /// Where each line ends.
    newlines: Vec<usize>,
}

impl<'a> Document<'a> {
    /// Reads the syntax. `file` is what errors call the document.
    ///
    /// # Errors
    /// The first place where the text is not TOML, as `FILE:LINE:COLUMN`.
    pub(super) fn parse(file: &'a str, text: &'a str) -> Result<Document<'a>, ConfigError> {
        match DeTable::parse(text) {
            Ok(root) => {
                let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
                let newlines = newlines.map(|(at, _)| at).collect();
                Ok(Document { file, text, root: DeValue::Table(root.into_inner()), newlines })
            }
            Err(error) => {
                let offset = error.span().map_or(text.len(), |span| span.start);
                let (line, column) = position(text, offset);
                let found = error.span().and_then(|span| text.get(span)).unwrap_or_default();
                let message = match found.is_empty() || found.contains('\n') {
                    true => error.message().to_owned(),
                    false => format!("{} `{found}`", error.message()),
                };
                Err(ConfigError::new(format!("{file}:{line}:{column}"), message))
            }
        }
    }

    /// The whole document, with its tables in the order of the text.
    ///
    /// # Errors
    /// A value that no setting has: a date, a number of more than 64 bits, tables nested too
    /// deeply.
    pub(super) fn value(&self) -> Result<Value, FieldError> {
        value_of(&self.root, DEEPEST)
    }

    /// An error with the line of its field, or of the table that the field is missing in.
    pub(super) fn error(&self, error: FieldError) -> ConfigError {
        let key: Vec<String> = error.path.iter().map(|name| quoted(name)).collect();
        let line = self.line(&error.path);
        let message = self.as_typed(in_toml(&error.message, &error.path), &error.path);
        ConfigError::new(format!("{}:{line}: {}", self.file, key.join(".")), message)
    }

    /// The name of the file in errors.
    pub(super) fn file(&self) -> &'a str {
        self.file
    }

    /// The line of the last part of the path that exists.
    pub(super) fn line<S: AsRef<str>>(&self, path: &[S]) -> usize {
        let offset = self.offset(path);
        1 + self.newlines.partition_point(|newline| *newline < offset)
    }

    /// The message for a number, with the number as it was typed. In TOML, unlike JSON, `1e3` is a
    /// float and not a whole number.
    fn as_typed(&self, message: String, path: &[String]) -> String {
        let Some((right, _)) = message.rsplit_once(", not ") else { return message };
        let Some(value) = self.find(path) else { return message };
        let typed = self.text.get(value.span()).unwrap_or_default();
        match value.get_ref() {
            DeValue::Integer(_) => format!("{right}, not {typed}"),
            DeValue::Float(_) if right.contains("a whole number") => {
                format!("{right}; `{typed}` is a float")
            }
            DeValue::Float(_) => format!("{right}, not {typed}"),
            DeValue::String(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => message,
        }
    }

    /// The value at the path.
    fn find(&self, path: &[String]) -> Option<&Spanned<DeValue<'a>>> {
        let mut names = path.iter();
        let mut value = match &self.root {
            DeValue::Table(table) => table.get(names.next()?.as_str())?,
            _ => return None,
        };
        for name in names {
            value = match value.get_ref() {
                DeValue::Table(table) => table.get(name.as_str())?,
                DeValue::Array(items) => items.get(name.parse::<usize>().ok()?)?,
                _ => return None,
            };
        }
        Some(value)
    }

    /// The offset of the last part of the path that exists.
    fn offset<S: AsRef<str>>(&self, path: &[S]) -> usize {
        let (mut offset, mut value) = (0, &self.root);
        for name in path {
            let Some((start, inner)) = child(value, name.as_ref()) else {
                break;
            };
            (offset, value) = (start, inner);
        }
        offset
    }
}

/// Translates a message from the words of JSON and the API to those of TOML: an object is a table,
/// a list is an array, `workingDirectory` is `working_directory` unless the file uses camelCase.
/// Text in quotation marks was typed, and is not changed.
fn in_toml(message: &str, path: &[String]) -> String {
    let is_camel = path.iter().any(|name| name.bytes().any(|letter| letter.is_ascii_uppercase()));
    let mut said = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(open) = rest.find(['"', '`']) {
        let (plain, marked) = rest.split_at(open);
        said.push_str(&words_of_toml(plain));
        let (text, after) = marked.split_at(end_of_quotation(marked));
        if text.starts_with('`') && !is_camel {
            said.push_str(&snake_case(text));
        } else {
            said.push_str(text);
        }
        rest = after;
    }
    said + &words_of_toml(rest)
}

fn words_of_toml(text: &str) -> String {
    let words = [("an object", "a table"), ("a list", "an array"), ("a decimal number", "a float")];
    words.iter().fold(text.to_owned(), |text, (json, toml)| text.replace(json, toml))
}

/// The length of the text in quotation marks or backticks at the beginning of `text`. In quotation
/// marks a backslash escapes the next character.
fn end_of_quotation(text: &str) -> usize {
    let mut letters = text.char_indices();
    let Some((_, mark)) = letters.next() else { return 0 };
    while let Some((at, letter)) = letters.next() {
        if letter == mark {
            return at + 1;
        }
        if letter == '\\' && mark == '"' {
            letters.next();
        }
    }
    text.len()
}

/// The value in a table at a key, or in an array at an index, and its offset.
fn child<'v, 'a>(value: &'v DeValue<'a>, name: &str) -> Option<(usize, &'v DeValue<'a>)> {
    match value {
        DeValue::Table(table) => {
            let (key, value) = table.get_key_value(name)?;
            Some((key.span().start, value.get_ref()))
        }
        DeValue::Array(items) => {
            let item = items.get(name.parse::<usize>().ok()?)?;
            Some((item.span().start, item.get_ref()))
        }
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => None,
    }
}

/// The line and the column of a byte, both from 1; columns count characters.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = 1 + before.bytes().filter(|byte| *byte == b'\n').count();
    let column = 1 + before.get(start..).map_or(0, |rest| rest.chars().count());
    (line, column)
}

fn table_of(table: &DeTable, depth: usize) -> Result<Value, FieldError> {
    if depth == 0 {
        return fail("is nested too deeply");
    }
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
        .into_iter()
        .map(|(key, value)| {
            let name = key.get_ref().to_string();
            match value_of(value.get_ref(), depth - 1) {
                Ok(value) => Ok((name, value)),
                Err(error) => Err(error.under(&name)),
            }
        })
        .collect::<Result<_, _>>()
        .map(Value::Table)
}

fn value_of(value: &DeValue, depth: usize) -> Result<Value, FieldError> {
    match value {
        DeValue::String(text) => Ok(Value::String(text.to_string())),
        DeValue::Boolean(flag) => Ok(Value::Bool(*flag)),
        DeValue::Integer(digits) => i64::from_str_radix(digits.as_str(), digits.radix())
            .map(Value::Integer)
            .or_else(|_| fail("must be a number of at most 64 bits")),
        DeValue::Float(digits) => {
            digits.as_str().parse().map(Value::Float).or_else(|_| fail("must be a number"))
        }
        DeValue::Datetime(_) => {
            fail("must not be a date or a time; write it in quotes for a string")
        }
        DeValue::Array(_) if depth == 0 => fail("is nested too deeply"),
        DeValue::Array(items) => items
            .iter()
            .enumerate()
            .map(|(index, item)| {
                value_of(item.get_ref(), depth - 1).map_err(|error| error.under(&index.to_string()))
            })
            .collect::<Result<_, _>>()
            .map(Value::List),
        DeValue::Table(table) => table_of(table, depth),
    }
}

/// A key in TOML: bare if possible.
fn quoted(name: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if !name.is_empty() && name.bytes().all(bare) { name.to_owned() } else { format!("{name:?}") }
}

/// Deeper than any setting, and shallow enough for the stack.
const DEEPEST: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_keep_the_order_of_the_text() {
        let text = "[job.b]\nz = 1\na = [1.5, {y = true, x = \"s\"}]\n[job.a]\n";
        let value = Document::parse("f", text).unwrap().value().unwrap();
        let table = |entries: &[(&str, Value)]| {
            let owned = |(name, value): &(&str, Value)| (name.to_string(), value.clone());
            Value::Table(entries.iter().map(owned).collect())
        };
        let inner = table(&[("y", Value::Bool(true)), ("x", Value::String("s".into()))]);
        let list = Value::List(vec![Value::Float(1.5), inner]);
        let b = table(&[("z", Value::Integer(1)), ("a", list)]);
        assert_eq!(value, table(&[("job", table(&[("b", b), ("a", table(&[]))]))]));
    }

    #[test]
    fn each_path_has_its_line() {
        let text = "[http]\nport = 1\n\n[job.web]\nrestart.policy = \"x\"\narguments = [\n  1,\n  \
                    [2,\n   {k = 3}],\n]\n[job.\"a.b\".stop]\nsignal = 1\n";
        let document = Document::parse("f", text).unwrap();
        for (path, place) in [
            ("http port", "f:2: http.port"),
            ("http host", "f:1: http.host"),
            ("nothing here", "f:1: nothing.here"),
            ("job web", "f:4: job.web"),
            ("job web executable", "f:4: job.web.executable"),
            ("job web restart policy", "f:5: job.web.restart.policy"),
            ("job web restart policy x", "f:5: job.web.restart.policy.x"),
            ("job web arguments 0", "f:7: job.web.arguments.0"),
            ("job web arguments 1 0", "f:8: job.web.arguments.1.0"),
            ("job web arguments 1 1 k", "f:9: job.web.arguments.1.1.k"),
            ("job web arguments 9", "f:6: job.web.arguments.9"),
            ("job a.b stop signal", "f:12: job.\"a.b\".stop.signal"),
        ] {
            let error = FieldError {
                path: path.split(' ').map(str::to_owned).collect(),
                message: "m".into(),
            };
            assert_eq!(document.error(error).to_string(), format!("{place}: m"));
        }
    }

    #[test]
    fn errors_speak_toml() {
        let say = |path: &str, message: &str| in_toml(message, &[path.to_owned()]);
        for (message, said) in [
            ("must be an object, not a list", "must be a table, not an array"),
            ("an object of strings, not \"an object\"", "a table of strings, not \"an object\""),
            ("did you mean `timeZone`?", "did you mean `time_zone`?"),
            ("not \"`aB` \\\" `aB`\" but `aB`", "not \"`aB` \\\" `aB`\" but `a_b`"),
            ("`aB and \"aB", "`a_b and \"a_b"),
            ("\"", "\""),
        ] {
            assert_eq!(say("x", message), said);
        }
        assert_eq!(say("timeZon", "did you mean `timeZone`?"), "did you mean `timeZone`?");
    }

    #[test]
    fn what_no_setting_takes_is_an_error() {
        let deep = format!("a = {}{}", "[".repeat(60), "]".repeat(60));
        let dotted = format!("{}a = 1", "a.".repeat(60));
        for (text, message) in [
            ("a = 2026-01-01", "must not be a date"),
            ("a.b = [12:00:00]", "must not be a date"),
            ("a = 9223372036854775808", "at most 64 bits"),
            (&deep, "nested too deeply"),
            (&dotted, "nested too deeply"),
        ] {
            let error = Document::parse("f", text).unwrap().value().unwrap_err();
            assert!(error.message.contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn syntax_errors_have_line_column_and_reason() {
        for (text, place) in [
            ("a = 1\na = 2\n", "f:2:1: duplicate key"),
            ("a = 1\n\u{e9} = 2\n", "f:2:1: "),
            ("x = \"é", "f:1:7: "),
            ("[a\n", "f:1:3: "),
            ("a = tru", "f:1:5: "),
            ("a", "f:1:2: "),
        ] {
            let error = Document::parse("f", text).err().unwrap().to_string();
            assert!(error.starts_with(place), "{error}");
            assert!(!error.contains('\n') && error.len() > place.len() - 1, "{error}");
        }
    }
}
