//! `k1s explain`: what a field of a job, a key of the config or a route of the API means.
//!
//! ```text
//!   README.md ─ compiled in: its tables ─▶ for which jobs, default, what it does ─┐
//!   openapi.json ─▶ the schema of the field ─▶ its type                           ├─▶ text
//!   EXAMPLES ─────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! So nobody writes the meaning of a field again. Tests compare the names in those tables with what
//! k1s reads, and read the examples.

use std::fmt::Write;

use serde_json::Value;

use crate::api::openapi;

/// What `name` means; without a name, what there is. A name is that of a field, in either spelling,
/// of a key with its table (`http.port`), or a route (`GET /events`).
///
/// # Errors
/// There is no such name: what is like it.
pub fn explain(name: Option<&str>) -> Result<String, String> {
    let entries = entries();
    let Some(name) = name else { return Ok(overview(&entries)) };
    let mut wanted = name;
    loop {
        if let Some(entry) = entries.iter().find(|entry| entry.is_called(wanted)) {
            return Ok(entry.text());
        }
        // A field of a field stands with it: `stop.scope`.
        match wanted.rsplit_once('.') {
            Some((parent, _)) => wanted = parent,
            None => break,
        }
    }
    let like = |entry: &&Entry| entry.name.to_lowercase().contains(&name.to_lowercase());
    let like: Vec<&str> = entries.iter().filter(like).map(|entry| entry.name.as_str()).collect();
    Err(match like.is_empty() {
        true => format!("there is no {name:?}; `k1s explain` lists what there is"),
        false => format!("there is no {name:?}; did you mean {}?", like.join(", ")),
    })
}

/// What can be explained.
#[derive(Debug)]
struct Entry {
    kind: Kind,
    name: String,
    /// For which types of job.
    jobs: String,
    default: String,
    what: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Field,
    Key,
    Route,
}

/// All rows of the tables.
fn entries() -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut add = |kind, prefix: &str, table: &[u8]| {
        let table = String::from_utf8_lossy(table);
        for row in table.lines().skip(2).map(cells) {
            let mut cells = row.into_iter();
            let mut next = || cells.next().unwrap_or_default();
            let name = format!("{prefix}{}", next().replace('`', ""));
            let jobs = if kind == Kind::Field { next() } else { String::new() };
            let default = if kind == Kind::Route { String::new() } else { next() };
            entries.push(Entry { kind, name, jobs, default, what: next() });
        }
    };
    add(Kind::Field, "", FIELDS);
    add(Kind::Key, "http.", HTTP_KEYS);
    add(Kind::Key, "token.", TOKEN_KEYS);
    add(Kind::Key, "", OTHER_KEYS);
    add(Kind::Route, "", ROUTES);
    entries
}

impl Entry {
    fn is_called(&self, name: &str) -> bool {
        let plain = |text: &str| text.replace('_', "").to_lowercase();
        plain(&self.name) == plain(name)
    }

    fn text(&self) -> String {
        let mut out = match self.kind {
            Kind::Field => format!("{}: a field of jobs ({})\n", self.name, self.jobs),
            Kind::Key => format!("{}: a key of the config\n", self.name),
            Kind::Route => format!("{}\n", self.name),
        };
        let mut line = |what: &str, text: &str| {
            if !text.is_empty() {
                let _ = writeln!(out, "  {what}{text}");
            }
        };
        if self.kind == Kind::Field {
            line("type: ", &type_of(&self.name));
        }
        line("default: ", &self.default);
        line("", &self.what);
        if let Some((_, example)) = EXAMPLES.iter().find(|(name, _)| *name == self.name) {
            line("example: ", &format!("\"{}\": {example}", self.name));
        }
        out
    }
}

/// The names of all entries, by kind.
fn overview(entries: &[Entry]) -> String {
    let mut out = String::new();
    for (kind, heading) in [
        (Kind::Field, "Fields of jobs"),
        (Kind::Key, "Keys of the config"),
        (Kind::Route, "Routes of the API"),
    ] {
        let _ = writeln!(out, "{heading}:");
        for entry in entries.iter().filter(|entry| entry.kind == kind) {
            let _ = writeln!(out, "  {}", entry.name);
        }
    }
    out
}

/// The cells of a row, without the links of Markdown.
fn cells(row: &str) -> Vec<String> {
    let row = row.trim().trim_start_matches('|').replace("\\|", "\u{0}");
    let cell = |cell: &str| without_links(cell.trim()).replace('\u{0}', "|");
    row.split('|').map(cell).collect()
}

/// `[text](place)` as `text`; what else is in brackets stays.
fn without_links(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("](") {
        let Some((start, shown)) = before.rsplit_once('[') else { break };
        let Some((_, after)) = after.split_once(')') else { break };
        out.push_str(start);
        out.push_str(shown);
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The type of a field, in words, from its schema.
fn type_of(field: &str) -> String {
    let Ok(document) = serde_json::from_slice::<Value>(&openapi()) else { return String::new() };
    if field == "type" {
        return "a text".to_owned();
    }
    let schemas = ["CommonSpec", "ContinuousSpec", "OneOffSpec", "CronSpec"];
    let schema = schemas.iter().find_map(|name| {
        let schema = document.pointer(&format!("/components/schemas/{name}/properties/{field}"));
        schema.filter(|schema| schema.is_object())
    });
    schema.map_or_else(String::new, |schema| in_words(schema, &document, DEEPEST))
}

fn in_words(schema: &Value, document: &Value, depth: usize) -> String {
    let Some(depth) = depth.checked_sub(1) else { return "a value".to_owned() };
    let inner = |schema: &Value| in_words(schema, document, depth);
    if let Some(place) = schema["$ref"].as_str() {
        let place = document.pointer(place.trim_start_matches('#'));
        return place.map_or_else(String::new, inner);
    }
    if let Some(values) = schema["enum"].as_array() {
        let values = values.iter().filter(|value| !value.is_null());
        return values.map(Value::to_string).collect::<Vec<_>>().join(", ");
    }
    for either in ["anyOf", "oneOf", "allOf"] {
        if let Some(schemas) = schema[either].as_array() {
            let mut words: Vec<String> = schemas.iter().map(inner).collect();
            words.retain(|words| !words.is_empty());
            words.dedup();
            if !words.is_empty() {
                return words.join(", or ");
            }
        }
    }
    let kinds = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        kind => kind.as_str().into_iter().collect::<Vec<_>>(),
    };
    let range = || match (&schema["minimum"], &schema["maximum"]) {
        (Value::Number(least), Value::Number(most)) => format!(" from {least} to {most}"),
        _ => String::new(),
    };
    let words = kinds.into_iter().filter_map(|kind| match kind {
        "string" => Some("a text".to_owned()),
        "boolean" => Some("true or false".to_owned()),
        "integer" => Some(format!("a whole number{}", range())),
        "number" => Some(format!("a number{}", range())),
        "array" => Some(format!("a list, each {}", inner(&schema["items"]))),
        "object" => Some(match schema["properties"].as_object() {
            Some(fields) => {
                let names: Vec<&str> = fields.keys().map(String::as_str).collect();
                format!("an object of {}", names.join(", "))
            }
            None => "an object".to_owned(),
        }),
        _ => None,
    });
    words.collect::<Vec<_>>().join(", or ")
}

/// How deeply a schema is put into words.
const DEEPEST: usize = 6;

const README: &[u8] = include_bytes!("../README.md");

/// A table of README.md, of which nothing else gets into the binary.
macro_rules! table {
    ($heading:literal) => {{
        const BEGIN: usize = find(README, concat!("\n", $heading).as_bytes(), 0) + 1;
        const LENGTH: usize = find(README, b"\n\n", BEGIN) - BEGIN;
        const TABLE: [u8; LENGTH] = copied(README, BEGIN);
        &TABLE
    }};
}

const FIELDS: &[u8] = table!("| field | for | default |");
const HTTP_KEYS: &[u8] = table!("| `[http]` | default |");
const TOKEN_KEYS: &[u8] = table!("| `[[token]]` | default |");
const OTHER_KEYS: &[u8] = table!("| other tables | default |");
const ROUTES: &[u8] = table!("| route | answers |");

/// Where `wanted` is in `text`, from there on. If it is nowhere, k1s does not compile.
#[allow(clippy::indexing_slicing, reason = "it is computed by the compiler")]
const fn find(text: &[u8], wanted: &[u8], from: usize) -> usize {
    let mut at = from;
    loop {
        let mut same = 0;
        while same < wanted.len() && text[at + same] == wanted[same] {
            same += 1;
        }
        if same == wanted.len() {
            return at;
        }
        at += 1;
    }
}

#[allow(clippy::indexing_slicing, reason = "it is computed by the compiler")]
const fn copied<const N: usize>(text: &[u8], from: usize) -> [u8; N] {
    let mut copy = [0; N];
    let mut at = 0;
    while at < N {
        copy[at] = text[from + at];
        at += 1;
    }
    copy
}

/// An example of each field, in JSON.
const EXAMPLES: &[(&str, &str)] = &[
    ("type", r#""continuous""#),
    ("executable", r#""nginx""#),
    ("arguments", r#"["-g", "daemon off;"]"#),
    ("workingDirectory", r#""/srv/site""#),
    ("environment", r#"{"LEVEL": "debug"}"#),
    ("environmentFile", r#"["/etc/app.env", "-/etc/app.local.env"]"#),
    ("environmentFromFile", r#"{"PASSWORD": "/run/secrets/password"}"#),
    ("clearEnvironment", "true"),
    ("secretEnvironment", r#"["PASSWORD"]"#),
    ("autostart", "false"),
    ("restartOnFailure", "false"),
    ("restart", r#"{"maxDelayMs": 5000}"#),
    ("scheduleInSeconds", "300"),
    ("schedule", r#""30 2 * * mon-fri""#),
    ("timeZone", r#""Europe/Berlin""#),
    ("concurrencyPolicy", r#""queue""#),
    ("suspend", "true"),
    ("startingDeadlineSeconds", "60"),
    ("jitterSeconds", "30"),
    ("timeoutSeconds", "3600"),
    ("readiness", r#"{"tcp": {"address": "127.0.0.1:5432"}}"#),
    ("liveness", r#"{"http": {"url": "http://127.0.0.1:8080/health"}}"#),
    ("startTimeoutSeconds", "30"),
    ("retries", "3"),
    ("ttlSecondsAfterFinished", "3600"),
    ("successExitCodes", "[0, 3]"),
    ("critical", r#""on-failure""#),
    ("dependsOn", r#"{"db": "ready"}"#),
    ("onFailure", r#""send-mail""#),
    ("reload", r#"{"exec": ["nginx", "-s", "reload"]}"#),
    ("stop", r#"{"signal": "SIGQUIT", "timeoutSeconds": 30}"#),
    ("stdin", r#""one\ntwo\n""#),
    ("user", r#""www-data""#),
    ("group", r#""www-data""#),
    ("umask", r#""027""#),
    ("nice", "10"),
    ("oomScoreAdj", "500"),
    ("limits", r#"{"nofile": 4096}"#),
    ("output", r#"{"limitBytes": 1048576, "historyLimit": 100}"#),
    ("labels", r#"{"team": "web"}"#),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Defaults, Spelling, Value as Field, parse_with};

    #[test]
    fn fields_keys_and_routes_are_explained() {
        for (name, wanted) in [
            ("nice", &["nice: a field of jobs (all)", "type: a whole number from -20 to 19"][..]),
            ("working_directory", &["workingDirectory: a field", "default: k1s's own"]),
            ("stop.scope", &["stop: a field of jobs (all)", "an object of "]),
            ("concurrencyPolicy", &["\"forbid\", \"queue\"", "example: \"concurrencyPolicy\": "]),
            ("schedule", &["(cron)", "a cron expression instead"]),
            ("http.port", &["http.port: a key of the config\n  default: 1298\n  0 to 65535"]),
            ("output.forward", &["(`id | line`)"]),
            ("token.scope", &["token.scope: a key of the config\n  default: required\n  what who"]),
            ("token.jobs", &["do not exist"]),
            ("get /healthz", &["GET /healthz\n  200"]),
        ] {
            let text = explain(Some(name)).unwrap();
            assert!(wanted.iter().all(|wanted| text.contains(wanted)), "{name}: {text}");
        }
        let list = explain(None).unwrap();
        assert!(list.contains("Fields of jobs:\n  type\n") && list.contains("\n  log.level\n"));
        let error = explain(Some("deadline")).unwrap_err();
        assert_eq!(error, "there is no \"deadline\"; did you mean startingDeadlineSeconds?");
        assert!(explain(Some("zzz")).unwrap_err().contains("lists what there is"));
    }

    #[test]
    fn each_field_has_a_type_and_an_example_that_is_read() {
        let defaults = Defaults { directory: "/", time_zone: "UTC" };
        for entry in entries().iter().filter(|entry| entry.kind == Kind::Field) {
            let name = &entry.name;
            assert!(!type_of(name).is_empty(), "{name} has no type");
            let example = EXAMPLES.iter().find(|(known, _)| known == name);
            let (_, example) = example.unwrap_or_else(|| panic!("{name} has no example"));
            let example: Field = serde_json::from_str(example).unwrap();
            let kind = entry.jobs.split(", ").next().unwrap().replace("all", "continuous");
            let mut fields = vec![
                ("type".to_owned(), Field::String(kind)),
                ("executable".to_owned(), Field::String("x".to_owned())),
            ];
            if name == "startTimeoutSeconds" {
                let ready = serde_json::from_str(r#"{"notify": true}"#).unwrap();
                fields.push(("readiness".to_owned(), ready));
            }
            if name == "timeZone" {
                fields.push(("schedule".to_owned(), Field::String("@daily".to_owned())));
            }
            if name == "secretEnvironment" {
                let hidden = serde_json::from_str(r#"{"PASSWORD": "x"}"#).unwrap();
                fields.push(("environment".to_owned(), hidden));
            }
            fields.retain(|(given, _)| given != name);
            fields.push((name.clone(), example));
            let read = parse_with(Field::Table(fields), defaults, Spelling::Camel);
            assert!(read.is_ok(), "{name}: {read:?}");
        }
    }
}
