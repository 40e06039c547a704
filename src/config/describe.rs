//! Shows settings, for `k1s check`.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use super::declared::Declaration;
use super::tokens::{Secret, TOKEN_TABLES, TokenTable};
use super::{FORWARDS, Forward, LOG_FORMATS, LOG_LEVELS, SYNCS, Settings, State, TokenOrigin};
use super::{key, name_in, quoted};
use crate::http::Limits;
use crate::job::fields::snake_case;
use crate::job::{self, Field, Secrets};

/// The settings as TOML with all defaults filled in, all files as one; a comment says where each
/// value comes from. It contains no secret: tokens are comments only, or their SHA-256 if that was
/// given, and secrets of jobs are shown as `"***"`.
pub fn describe(settings: &Settings) -> String {
    let mut text = Text { text: String::new(), table: String::new(), sources: &settings.sources };
    text.table("http");
    text.string("host", &settings.fixed.host.to_string());
    text.key("port", settings.fixed.port);
    socket(&mut text, settings);
    token(&mut text, &settings.live.token_origin);
    text.key("ui", settings.live.ui);
    limits(&mut text, &settings.live.http);
    for (index, table) in settings.live.token_tables.iter().enumerate() {
        token_table(&mut text, index, table);
    }
    text.table("shutdown");
    text.seconds("timeout_seconds", settings.live.shutdown_timeout);
    text.table("output");
    forward(&mut text, settings.live.forward);
    text.key("memory", settings.live.output_memory_bytes);
    match settings.live.output_disk_bytes {
        Some(bytes) => text.key("disk", bytes),
        None => text.line("# disk: no limit for log files"),
    }
    text.table("log");
    text.string("format", name_in(&LOG_FORMATS, settings.live.log_format));
    text.string("level", name_in(&LOG_LEVELS, settings.live.log_level));
    text.table("state");
    match &settings.fixed.state {
        Some(State { directory, sync }) => {
            text.string("directory", &directory.to_string_lossy());
            text.string("sync", name_in(&SYNCS, *sync));
        }
        None => text.line("# directory: none; jobs of the API are forgotten when k1s ends"),
    }
    text.table("limits");
    text.key("jobs", settings.live.max_jobs);
    text.table("cron");
    text.string("time_zone", &settings.live.time_zone);
    for declaration in &settings.jobs {
        job(&mut text, declaration);
    }
    text.text
}

/// A job, with where it is declared.
fn job(text: &mut Text, job: &Declaration) {
    text.line("");
    text.line(format_args!("[job.{}]  {}", key(job.id.as_str()), comment(&job.place.to_string())));
    for (name, field) in job::write(&job.spec, Secrets::Hidden) {
        let source = job.source_of(name);
        let from = comment(if source.is_empty() { "default" } else { &source });
        text.line(format_args!("{} = {}  {from}", snake_case(name), value(&field)));
    }
}

/// A comment, to the end of a line, that may quote the name of a file.
fn comment(text: &str) -> String {
    let letters = text.chars().map(|letter| match letter.is_control() {
        true => letter.escape_default().to_string(),
        false => letter.to_string(),
    });
    letters.fold("# ".to_owned(), |comment, letter| comment + &letter)
}

fn socket(text: &mut Text, settings: &Settings) {
    match &settings.fixed.socket {
        Some(socket) => text.string("socket", &socket.path.to_string_lossy()),
        None if settings.sources.contains_key("http.socket") => text.string("socket", ""),
        None => text.line("# socket: none, because XDG_RUNTIME_DIR is not set"),
    }
}

fn token(text: &mut Text, origin: &TokenOrigin) {
    match origin {
        TokenOrigin::Default => {
            text.line("# auth_token: the default, which everyone knows; set one");
        }
        TokenOrigin::None => text.line("# auth_token: none; there are the tables [[token]] alone"),
        TokenOrigin::Environment => text.line("# auth_token: from K1S_AUTH_TOKEN"),
        TokenOrigin::Key => text.line("# auth_token: as given, not shown"),
        TokenOrigin::File(path) => text.string("auth_token_file", &path.to_string_lossy()),
    }
}

fn token_table(text: &mut Text, index: usize, table: &TokenTable) {
    let TokenTable { name, secret, scope, visible } = table;
    let source = text.sources.get(&format!("{TOKEN_TABLES}.{index}"));
    let from = comment(source.map_or("", String::as_str));
    text.line("");
    text.line(format_args!("[[{TOKEN_TABLES}]]  {from}"));
    text.line(format_args!("name = {}", quoted(name)));
    match secret {
        Secret::Given => text.line("# token: as given, not shown"),
        Secret::File(path) => text.line(format_args!("token_file = {}", quoted(path))),
        Secret::Sha256(digits) => text.line(format_args!("token_sha256 = {}", quoted(digits))),
    }
    text.line(format_args!("scope = {}", quoted(scope.name())));
    match visible.patterns() {
        [] => text.line("# jobs: all"),
        patterns => {
            let patterns: Vec<String> = patterns.iter().map(|pattern| quoted(pattern)).collect();
            text.line(format_args!("jobs = [{}]", patterns.join(", ")));
        }
    }
}

fn limits(text: &mut Text, limits: &Limits) {
    text.key("max_head_bytes", limits.max_head_bytes);
    text.key("max_headers", limits.max_headers);
    text.key("max_body_bytes", limits.max_body_bytes);
    text.key("max_connections", limits.max_connections);
    text.seconds("head_timeout_seconds", limits.head_timeout);
    text.seconds("body_timeout_seconds", limits.body_timeout);
    text.seconds("idle_timeout_seconds", limits.idle_timeout);
    text.key("max_unsent_bytes", limits.max_unsent_bytes);
    text.seconds("write_timeout_seconds", limits.write_timeout);
}

fn forward(text: &mut Text, forward: Option<Forward>) {
    match forward {
        Some(given) => text.string("forward", name_in(&FORWARDS, given)),
        None => text.line("# forward: \"prefix\"; \"raw\" for the main job of init"),
    }
}

/// A value in one line.
fn value(field: &Field) -> String {
    let list = |items: &mut dyn Iterator<Item = String>| {
        format!("[{}]", items.collect::<Vec<_>>().join(", "))
    };
    let table = |entries: &mut dyn Iterator<Item = (String, String)>| {
        let entries: Vec<_> = entries.map(|(name, value)| format!("{name} = {value}")).collect();
        if entries.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", entries.join(", ")) }
    };
    match field {
        Field::Bool(flag) => flag.to_string(),
        Field::Integer(number) => number.to_string(),
        Field::Float(number) => number.to_string(),
        Field::String(text) => quoted(text),
        Field::List(items) => list(&mut items.iter().map(value)),
        Field::Texts(texts) => list(&mut texts.iter().map(|text| quoted(text))),
        Field::Names(names) => list(&mut names.iter().map(|name| quoted(name))),
        Field::Table(entries) => {
            table(&mut entries.iter().map(|(name, field)| (snake_case(name), value(field))))
        }
        Field::TextTable(entries) => {
            table(&mut entries.entries_after(None).map(|(name, text)| (key(name), quoted(text))))
        }
    }
}

/// TOML that is being written.
struct Text<'a> {
    text: String,
    /// The table that is being written.
    table: String,
    /// Where the keys come from that are set.
    sources: &'a BTreeMap<String, String>,
}

impl Text<'_> {
    fn line(&mut self, line: impl Display) {
        self.text.push_str(&format!("{line}\n"));
    }

    fn table(&mut self, name: &str) {
        if !self.text.is_empty() {
            self.line("");
        }
        self.line(format_args!("[{name}]"));
        self.table = name.to_owned();
    }

    fn key(&mut self, name: &str, value: impl Display) {
        let source = self.sources.get(&format!("{}.{name}", self.table));
        let from = comment(source.map_or("default", String::as_str));
        self.line(format_args!("{name} = {value}  {from}"));
    }

    fn string(&mut self, name: &str, value: &str) {
        self.key(name, quoted(value));
    }

    fn seconds(&mut self, name: &str, duration: Duration) {
        self.key(name, duration.as_secs_f64());
    }
}
