//! k1s's own messages, one line each.
//!
//! | format | a line |
//! |---|---|
//! | text | `k1s: message`, `k1s: warning: job web, run 3: message` |
//! | json | `{"time":"…","level":"warn","job":"web","run":3,"message":"…"}` |
//!
//! Lines of a job's output that belong to a message follow it, as `k1s: warning: job web, run 3 |
//! line`, or are in it, as `"output":["line"]`.
//!
//! Nothing here writes to a file. Whoever creates a message makes sure that it contains no secret.

use std::fmt::Display;

use crate::calendar::format_rfc3339;
use crate::config::{LogFormat, LogLevel};
use crate::job::LastLines;
use crate::time::Wall;

/// Which messages are written, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Log {
    /// Their format.
    pub(super) format: LogFormat,
    /// The least important level that is written.
    pub(super) level: LogLevel,
}

/// One message.
#[derive(Clone, Copy)]
pub(super) struct Message<'a> {
    /// How important it is.
    pub(super) level: LogLevel,
    /// The job that it is about.
    pub(super) job: Option<&'a str>,
    /// Which run of the job.
    pub(super) run: Option<u64>,
    /// What it says.
    pub(super) text: &'a dyn Display,
    /// What of the run's output belongs to it.
    pub(super) output: Option<&'a LastLines>,
}

impl<'a> Message<'a> {
    /// About k1s as a whole.
    pub(super) fn note(level: LogLevel, text: &'a dyn Display) -> Message<'a> {
        Message { level, job: None, run: None, text, output: None }
    }

    fn lines(&self) -> impl Iterator<Item = &'a str> {
        self.output.into_iter().flat_map(LastLines::lines)
    }
}

impl Log {
    /// Whether messages of this level are written.
    pub(super) fn is_on(self, level: LogLevel) -> bool {
        level <= self.level
    }

    /// The lines for a message, including their newlines.
    pub(super) fn lines(self, message: &Message<'_>, at: Wall) -> Vec<u8> {
        match self.format {
            LogFormat::Text => text_lines(message),
            LogFormat::Json => json_line(message, at),
        }
    }
}

/// Appends a string in JSON (RFC 8259 section 7). Bytes that are not UTF-8 become U+FFFD.
pub(super) fn push_json_string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    for chunk in bytes.utf8_chunks() {
        push_escaped(out, chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    out.push(b'"');
}

fn push_escaped(out: &mut Vec<u8>, mut text: &[u8]) {
    let is_special = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
    while let Some(at) = text.iter().position(is_special) {
        let (plain, rest) = text.split_at(at);
        out.extend_from_slice(plain);
        let Some((special, rest)) = rest.split_first() else { return };
        match special {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\n' => out.extend_from_slice(b"\\n"),
            other => out.extend_from_slice(format!("\\u{other:04x}").as_bytes()),
        }
        text = rest;
    }
    out.extend_from_slice(text);
}

fn text_lines(message: &Message<'_>) -> Vec<u8> {
    let level = match message.level {
        LogLevel::Error => "error: ",
        LogLevel::Warn => "warning: ",
        LogLevel::Info => "",
        LogLevel::Debug => "debug: ",
    };
    let about = match (message.job, message.run) {
        (Some(job), Some(run)) => format!("job {job}, run {run}"),
        (Some(job), None) => format!("job {job}"),
        (None, _) => String::new(),
    };
    let colon = if about.is_empty() { "" } else { ": " };
    let mut lines = format!("k1s: {level}{about}{colon}");
    push_visible(&mut lines, &message.text.to_string());
    for line in message.lines() {
        lines.push_str(&format!("k1s: {level}{about} | "));
        push_visible(&mut lines, line);
    }
    lines.into_bytes()
}

/// Names from users may contain anything; the text must stay on one line.
fn push_visible(lines: &mut String, text: &str) {
    for character in text.chars() {
        match character.is_control() {
            true => lines.extend(character.escape_default()),
            false => lines.push(character),
        }
    }
    lines.push('\n');
}

fn json_line(message: &Message<'_>, at: Wall) -> Vec<u8> {
    let level = match message.level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
    };
    let mut line =
        format!("{{\"time\":\"{}\",\"level\":\"{level}\"", format_rfc3339(at)).into_bytes();
    if let Some(job) = message.job {
        line.extend_from_slice(b",\"job\":");
        push_json_string(&mut line, job.as_bytes());
    }
    if let Some(run) = message.run {
        line.extend_from_slice(format!(",\"run\":{run}").as_bytes());
    }
    line.extend_from_slice(b",\"message\":");
    push_json_string(&mut line, message.text.to_string().as_bytes());
    for (index, output) in message.lines().enumerate() {
        line.extend_from_slice(if index == 0 { b",\"output\":[" } else { b"," });
        push_json_string(&mut line, output.as_bytes());
    }
    line.extend_from_slice(if message.lines().next().is_some() { b"]}\n" } else { b"}\n" });
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(message: Message<'_>, text: &str, json: &str) {
        for (format, wanted) in [(LogFormat::Text, text), (LogFormat::Json, json)] {
            let log = Log { format, level: LogLevel::Info };
            let line = String::from_utf8(log.lines(&message, Wall(1_795_383_601_123))).unwrap();
            assert_eq!(line, format!("{wanted}\n"));
            assert_eq!(log.is_on(message.level), message.level <= LogLevel::Info);
        }
    }

    #[test]
    fn messages_are_one_line_each() {
        check(
            Message::note(LogLevel::Info, &"hello"),
            "k1s: hello",
            r#"{"time":"2026-11-22T21:40:01.123Z","level":"info","message":"hello"}"#,
        );
        check(
            Message {
                level: LogLevel::Warn,
                job: Some("web"),
                run: Some(3),
                text: &"a\n\u{1b}\"b",
                output: None,
            },
            "k1s: warning: job web, run 3: a\\n\\u{1b}\"b",
            r#"{"time":"2026-11-22T21:40:01.123Z","level":"warn","job":"web","run":3,"message":"a\n\u001b\"b"}"#,
        );
        check(
            Message { job: Some("web"), ..Message::note(LogLevel::Debug, &"x") },
            "k1s: debug: job web: x",
            r#"{"time":"2026-11-22T21:40:01.123Z","level":"debug","job":"web","message":"x"}"#,
        );
    }

    #[test]
    fn output_follows_its_message() {
        let output = LastLines::of_text("Traceback:\n\tx \u{1b}[31m\u{fffd}\"\n\n");
        let message = Message {
            job: Some("web"),
            run: Some(3),
            output: Some(&output),
            ..Message::note(LogLevel::Warn, &"ended")
        };
        check(
            message,
            "k1s: warning: job web, run 3: ended\n\
             k1s: warning: job web, run 3 | Traceback:\n\
             k1s: warning: job web, run 3 | \\tx \\u{1b}[31m\u{fffd}\"\n\
             k1s: warning: job web, run 3 | ",
            "{\"time\":\"2026-11-22T21:40:01.123Z\",\"level\":\"warn\",\"job\":\"web\",\"run\":3,\
             \"message\":\"ended\",\
             \"output\":[\"Traceback:\",\"\\tx \\u001b[31m\u{fffd}\\\"\",\"\"]}",
        );
        let message = Message { output: Some(&LastLines::default()), ..message };
        let json = r#"{"time":"2026-11-22T21:40:01.123Z","level":"warn","job":"web","run":3,"message":"ended"}"#;
        check(message, "k1s: warning: job web, run 3: ended", json);
    }

    #[test]
    fn any_bytes_are_a_string_of_json() {
        let every: Vec<u8> = (0..=255).collect();
        for bytes in [&b""[..], b"plain", "\u{e9}\u{1f980}".as_bytes(), b"a\xffb\xe2\x82", &every] {
            let mut json = Vec::new();
            push_json_string(&mut json, bytes);
            let read: String = serde_json::from_slice(&json).unwrap();
            assert_eq!(read, String::from_utf8_lossy(bytes));
        }
    }
}
