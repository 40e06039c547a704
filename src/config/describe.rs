//! Shows settings, for `k1s check`.

use std::fmt::Display;
use std::time::Duration;

use super::{FORWARDS, Forward, LOG_FORMATS, LOG_LEVELS, Settings, TokenOrigin, name_in};
use crate::http::Limits;
use crate::job::fields::snake_case;
use crate::job::{self, Field, Secrets};

/// The settings as TOML with all defaults filled in. It contains no secret: the token is a comment
/// only, and secrets of jobs are shown as `"***"`.
pub fn describe(settings: &Settings) -> String {
    let mut text = Text::default();
    text.table("http");
    text.string("host", &settings.http.host.to_string());
    text.key("port", settings.http.port);
    token(&mut text, &settings.http.token_origin);
    limits(&mut text, &settings.http.limits);
    text.table("shutdown");
    text.seconds("timeout_seconds", settings.shutdown_timeout);
    text.table("output");
    forward(&mut text, settings.forward);
    text.key("memory", settings.output_memory_bytes);
    match settings.output_disk_bytes {
        Some(bytes) => text.key("disk", bytes),
        None => text.line("# disk: no limit for log files"),
    }
    text.table("log");
    text.string("format", name_in(&LOG_FORMATS, settings.log_format));
    text.string("level", name_in(&LOG_LEVELS, settings.log_level));
    text.table("limits");
    text.key("jobs", settings.max_jobs);
    text.table("cron");
    text.string("time_zone", &settings.time_zone);
    for (id, spec) in &settings.jobs {
        text.table(&format!("job.{}", key(id.as_str())));
        for (name, field) in job::write(spec, Secrets::Hidden) {
            text.key(&snake_case(name), value(&field));
        }
    }
    text.0
}

fn token(text: &mut Text, origin: &TokenOrigin) {
    match origin {
        TokenOrigin::Default => {
            text.line("# auth_token: the default, which everyone knows; set one");
        }
        TokenOrigin::Environment => text.line("# auth_token: from K1S_AUTH_TOKEN"),
        TokenOrigin::Key => text.line("# auth_token: as given, not shown"),
        TokenOrigin::File(path) => text.string("auth_token_file", &path.to_string_lossy()),
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

/// A key, bare if possible (<https://toml.io/en/v1.0.0#keys>).
fn key(name: &str) -> String {
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if !name.is_empty() && name.bytes().all(is_bare) { name.to_owned() } else { quoted(name) }
}

/// A basic string (<https://toml.io/en/v1.0.0#string>).
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            _ if letter.is_control() => {
                quoted.push_str(&format!("\\u{:04x}", u32::from(letter)));
            }
            _ => quoted.push(letter),
        }
    }
    quoted + "\""
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn line(&mut self, line: impl Display) {
        self.0.push_str(&format!("{line}\n"));
    }

    fn table(&mut self, name: &str) {
        if !self.0.is_empty() {
            self.line("");
        }
        self.line(format_args!("[{name}]"));
    }

    fn key(&mut self, name: &str, value: impl Display) {
        self.line(format_args!("{name} = {value}"));
    }

    fn string(&mut self, name: &str, value: &str) {
        self.key(name, quoted(value));
    }

    fn seconds(&mut self, name: &str, duration: Duration) {
        self.key(name, duration.as_secs_f64());
    }
}
