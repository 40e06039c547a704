//! A TOML document as neutral values, with the place of each.

use std::ops::Range;
use std::rc::Rc;

use toml::de::{DeTable, DeValue};

use super::ConfigError;
use crate::job::Value;
use crate::job::fields::{FieldError, fail, snake_case};

/// A TOML document (<https://toml.io/en/v1.0.0>) that remembers the place of every key.
pub(super) struct Document {
    file: Rc<str>,
    text: String,
    root: Node,
    /// Where each line ends.
    newlines: Vec<usize>,
}

/// A value, and where it stands.
pub(super) struct Node {
    span: Range<usize>,
    content: Content,
}

/// A key of a table, and its value.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) node: Node,
    /// Where the key stands.
    at: usize,
}

enum Content {
    /// Neither a list nor a table.
    Scalar(Value),
    /// No setting has such a value.
    Wrong(&'static str),
    List(Vec<Node>),
    /// In the order of the text.
    Table(Vec<Entry>),
}

impl Document {
    /// Reads the syntax. `file` is what errors call the document.
    ///
    /// # Errors
    /// The first place where the text is not TOML, as `FILE:LINE:COLUMN`.
    pub(super) fn parse(file: &str, text: String) -> Result<Document, ConfigError> {
        let root = match DeTable::parse(&text) {
            Ok(root) => Node::of(root.span(), DeValue::Table(root.into_inner()), DEEPEST),
            Err(error) => {
                let offset = error.span().map_or(text.len(), |span| span.start);
                let (line, column) = position(&text, offset);
                let found = error.span().and_then(|span| text.get(span)).unwrap_or_default();
                let message = match found.is_empty() || found.contains('\n') {
                    true => error.message().to_owned(),
                    false => format!("{} `{found}`", error.message()),
                };
                return Err(ConfigError::new(format!("{file}:{line}:{column}"), message));
            }
        };
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let newlines = newlines.map(|(at, _)| at).collect();
        Ok(Document { file: file.into(), text, root, newlines })
    }

    /// The whole document, with its tables in the order of the text, but without this one.
    ///
    /// # Errors
    /// A value that no setting has: a date, a number of more than 64 bits, tables nested too
    /// deeply.
    pub(super) fn value_without(&self, name: &str) -> Result<Value, FieldError> {
        let entries = self.root.entries().unwrap_or_default().iter();
        table_of(entries.filter(|entry| entry.name != name))
    }

    /// The value of a key of the document.
    pub(super) fn get(&self, name: &str) -> Option<&Node> {
        let entries = self.root.entries()?;
        entries.iter().find(|entry| entry.name == name).map(|entry| &entry.node)
    }

    /// An error with the line of its field, or of the table that the field is missing in.
    pub(super) fn error(&self, error: FieldError) -> ConfigError {
        let key: Vec<String> = error.path.iter().map(|name| quoted(name)).collect();
        let line = self.line(&error.path);
        let message = self.as_typed(in_toml(&error.message, &error.path), &error.path);
        ConfigError::new(format!("{}:{line}: {}", self.file, key.join(".")), message)
    }

    /// The name of the file in errors.
    pub(super) fn file(&self) -> &Rc<str> {
        &self.file
    }

    /// The line of the last part of the path that exists.
    pub(super) fn line<S: AsRef<str>>(&self, path: &[S]) -> usize {
        let (mut at, mut node) = (0, &self.root);
        for name in path {
            let Some((start, inner)) = node.child(name.as_ref()) else {
                break;
            };
            (at, node) = (start, inner);
        }
        self.line_at(at)
    }

    /// The line of a key.
    pub(super) fn line_of(&self, entry: &Entry) -> usize {
        self.line_at(entry.at)
    }

    fn line_at(&self, offset: usize) -> usize {
        1 + self.newlines.partition_point(|newline| *newline < offset)
    }

    /// The message for a number, with the number as it was typed. In TOML, unlike JSON, `1e3` is a
    /// float and not a whole number.
    fn as_typed(&self, message: String, path: &[String]) -> String {
        let Some((right, _)) = message.rsplit_once(", not ") else { return message };
        let mut node = &self.root;
        for name in path {
            let Some((_, inner)) = node.child(name) else { return message };
            node = inner;
        }
        let typed = self.text.get(node.span.clone()).unwrap_or_default();
        match node.content {
            Content::Scalar(Value::Integer(_)) => format!("{right}, not {typed}"),
            Content::Scalar(Value::Float(_)) if right.contains("a whole number") => {
                format!("{right}; `{typed}` is a float")
            }
            Content::Scalar(Value::Float(_)) => format!("{right}, not {typed}"),
            Content::Scalar(_) | Content::Wrong(_) | Content::List(_) | Content::Table(_) => {
                message
            }
        }
    }
}

impl Node {
    fn of(span: Range<usize>, value: DeValue, depth: usize) -> Node {
        let content = match value {
            DeValue::String(text) => Content::Scalar(Value::String(text.into_owned())),
            DeValue::Boolean(flag) => Content::Scalar(Value::Bool(flag)),
            DeValue::Integer(digits) => {
                match i64::from_str_radix(digits.as_str(), digits.radix()) {
                    Ok(number) => Content::Scalar(Value::Integer(number)),
                    Err(_) => Content::Wrong("must be a number of at most 64 bits"),
                }
            }
            DeValue::Float(digits) => match digits.as_str().parse() {
                Ok(number) => Content::Scalar(Value::Float(number)),
                Err(_) => Content::Wrong("must be a number"),
            },
            DeValue::Datetime(_) => {
                Content::Wrong("must not be a date or a time; write it in quotes for a string")
            }
            DeValue::Array(_) | DeValue::Table(_) if depth == 0 => {
                Content::Wrong("is nested too deeply")
            }
            DeValue::Array(items) => {
                let items = items.into_iter();
                let node =
                    |item: toml::Spanned<_>| Node::of(item.span(), item.into_inner(), depth - 1);
                Content::List(items.map(node).collect())
            }
            DeValue::Table(table) => {
                let entry = |(key, value): (toml::Spanned<_>, toml::Spanned<_>)| Entry {
                    at: key.span().start,
                    name: std::borrow::Cow::into_owned(key.into_inner()),
                    node: Node::of(value.span(), value.into_inner(), depth - 1),
                };
                let mut entries: Vec<Entry> = table.into_iter().map(entry).collect();
                entries.sort_by_key(|entry| entry.at);
                Content::Table(entries)
            }
        };
        Node { span, content }
    }

    /// The keys of a table, in the order of the text; `None` if it is none.
    pub(super) fn entries(&self) -> Option<&[Entry]> {
        match &self.content {
            Content::Table(entries) => Some(entries),
            Content::Scalar(_) | Content::Wrong(_) | Content::List(_) => None,
        }
    }

    /// The value without places.
    ///
    /// # Errors
    /// As for [`Document::value_without`].
    pub(super) fn value(&self) -> Result<Value, FieldError> {
        match &self.content {
            Content::Scalar(value) => Ok(value.clone()),
            Content::Wrong(why) => fail(*why),
            Content::List(items) => {
                let items = items.iter().enumerate();
                let item = |(index, item): (usize, &Node)| {
                    item.value().map_err(|error| error.under(&index.to_string()))
                };
                items.map(item).collect::<Result<_, _>>().map(Value::List)
            }
            Content::Table(entries) => table_of(entries.iter()),
        }
    }

    /// The value in a table at a key, or in a list at an index, and where it stands.
    fn child(&self, name: &str) -> Option<(usize, &Node)> {
        match &self.content {
            Content::Table(entries) => {
                let entry = entries.iter().find(|entry| entry.name == name)?;
                Some((entry.at, &entry.node))
            }
            Content::List(items) => {
                let item = items.get(name.parse::<usize>().ok()?)?;
                Some((item.span.start, item))
            }
            Content::Scalar(_) | Content::Wrong(_) => None,
        }
    }
}

fn table_of<'e>(entries: impl Iterator<Item = &'e Entry>) -> Result<Value, FieldError> {
    let value = |entry: &Entry| match entry.node.value() {
        Ok(value) => Ok((entry.name.clone(), value)),
        Err(error) => Err(error.under(&entry.name)),
    };
    entries.map(value).collect::<Result<_, _>>().map(Value::Table)
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

/// The line and the column of a byte, both from 1; columns count characters.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = 1 + before.bytes().filter(|byte| *byte == b'\n').count();
    let column = 1 + before.get(start..).map_or(0, |rest| rest.chars().count());
    (line, column)
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
        let value = Document::parse("f", text.into()).unwrap().value_without("").unwrap();
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
        let document = Document::parse("f", text.into()).unwrap();
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
            let error = Document::parse("f", text.into()).unwrap().value_without("").unwrap_err();
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
            let error = Document::parse("f", text.into()).err().unwrap().to_string();
            assert!(error.starts_with(place), "{error}");
            assert!(!error.contains('\n') && error.len() > place.len() - 1, "{error}");
        }
    }
}
