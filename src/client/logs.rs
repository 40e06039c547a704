//! `k1s logs`: what jobs have written.
//!
//! ```text
//!   one job             its bytes, as they were written
//!   several, or -f      line by line: prefix of the job ─▶ stdout
//!                       -f: a thread for each job ──▲ after a broken connection: after the last line
//! ```

use std::borrow::Cow;
use std::io::{self, BufRead, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc;

use argh::FromArgs;
use memchr::memchr2;
use serde::Deserialize;

use super::Failure;
use super::http::{Body, Request};
use super::session::{Refusals, Session, end_when_unread, in_background, path, print_bytes};
use super::text::{Colour, Escaped, OFF};

/// Show the output of jobs: of their newest run.
#[derive(Clone, Debug, FromArgs, PartialEq, Eq)]
#[argh(subcommand, name = "logs", help_triggers("-h", "--help"))]
pub struct Logs {
    /// go on with new output, over restarts, until the job is removed
    #[argh(switch, short = 'f')]
    follow: bool,
    /// only the last lines
    #[argh(option, short = 'n', arg_name = "LINES")]
    lines: Option<u64>,
    /// only this run
    #[argh(option, arg_name = "N")]
    run: Option<u64>,
    /// only stdout, or stderr
    #[argh(option, arg_name = "S")]
    stream: Option<String>,
    /// the jobs
    #[argh(positional, arg_name = "ID")]
    ids: Vec<String>,
}

/// A line, as the API says it.
#[derive(Debug, Default, Deserialize, PartialEq)]
struct Line<'a> {
    #[serde(default)]
    seq: u64,
    #[serde(default, borrow)]
    time: Cow<'a, str>,
    #[serde(default, borrow)]
    line: Cow<'a, str>,
    /// It goes on in the next one.
    #[serde(default)]
    partial: bool,
    /// So many lines are not kept any more.
    #[serde(default)]
    lost: u64,
}

/// How the lines of a job are written.
#[derive(Clone, Debug)]
struct Prefix {
    id: String,
    /// What stands before each line.
    text: String,
    json: bool,
    /// Whether the last line goes on.
    goes_on: bool,
}

impl<'a> Line<'a> {
    /// Reads a line as k1s writes most of them, whole and without escapes: there may be millions.
    fn of_most(said: &'a [u8]) -> Option<Line<'a>> {
        let (seq, rest) = number(said.strip_prefix(b"{\"seq\":")?)?;
        let rest = rest.strip_prefix(b",\"time\":\"")?;
        let (time, rest) = rest.split_at_checked("YYYY-mm-ddTHH:MM:SS.mmmZ".len())?;
        let (_, rest) = number(rest.strip_prefix(b"\",\"run\":")?)?;
        let rest = rest.strip_prefix(b",\"stream\":\"std")?;
        let rest = rest.strip_prefix(b"out").or_else(|| rest.strip_prefix(b"err"))?;
        let line = rest.strip_prefix(b"\",\"line\":\"")?.strip_suffix(b"\"}\n")?;
        let is_plain = memchr2(b'"', b'\\', line).is_none();
        let text = |bytes| Some(Cow::Borrowed(str::from_utf8(bytes).ok()?));
        let line = is_plain.then(|| text(line))??;
        Some(Line { seq, time: text(time)?, line, partial: false, lost: 0 })
    }
}

/// The number that a text begins with, and what follows.
fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let digits = text.iter().take_while(|digit| digit.is_ascii_digit()).count();
    let (digits, rest) = text.split_at_checked(digits)?;
    Some((str::from_utf8(digits).ok()?.parse().ok()?, rest))
}

impl Logs {
    pub(super) fn run(&self, session: &Session) -> Result<ExitCode, Failure> {
        match self.ids.as_slice() {
            [] => Err(Failure::Usage("whose logs? Give the ids of jobs".into())),
            [id] if !self.follow => self.pass_on(session, id),
            ids if !self.follow => self.merge(session, ids),
            ids => self.follow(session, ids),
        }
    }

    /// The output of one job, byte for byte; with `--json`, line by line as the API says it.
    fn pass_on(&self, session: &Session, id: &str) -> Result<ExitCode, Failure> {
        let target = self.target(id, if session.json { "ndjson" } else { "raw" }, None);
        let answer = session.ask(id, &Request::new("GET", &target))?;
        session.pass_on(answer.body, io::stdout().lock())?;
        Ok(ExitCode::SUCCESS)
    }

    /// The lines of several jobs, in the order in which they ended.
    fn merge(&self, session: &Session, ids: &[String]) -> Result<ExitCode, Failure> {
        let mut lines: Vec<(String, Vec<u8>)> = Vec::new();
        for mut prefix in prefixes(session, ids) {
            let answer = session.get(&prefix.id, &self.target(&prefix.id, "ndjson", None))?;
            for said in answer.split_inclusive(|byte| *byte == b'\n') {
                let line: Line<'_> = session.understand(said)?;
                let mut written = Vec::new();
                prefix.write(&line, said, &mut written);
                match lines.last_mut() {
                    // The rest of a line stays where its beginning is.
                    Some((_, before)) if !before.ends_with(b"\n") => before.extend(written),
                    _ => lines.push((line.time.into_owned(), written)),
                }
            }
        }
        // The sort is stable, so the lines of each job stay in their order.
        lines.sort_by(|(left, _), (right, _)| left.cmp(right));
        let lines: Vec<_> = lines.into_iter().map(|(_, line)| line).collect();
        print_bytes(&lines.concat())?;
        Ok(ExitCode::SUCCESS)
    }

    fn follow(&self, session: &Session, ids: &[String]) -> Result<ExitCode, Failure> {
        end_when_unread()?;
        let (sender, ends) = mpsc::channel();
        let (session, logs) = (Arc::new(session.clone()), Arc::new(self.clone()));
        for prefix in prefixes(&session, ids) {
            let (sender, session, logs) = (sender.clone(), session.clone(), logs.clone());
            let follow = move || {
                let done = logs.follow_one(&session, prefix);
                // If nobody receives it, the process is about to end.
                let _ = sender.send(done);
            };
            in_background(follow)?;
        }
        drop(sender);
        let mut refusals = Refusals::default();
        for done in ends {
            refusals.allow(&session, done)?;
        }
        refusals.end()
    }

    /// Follows one job until it is removed, or the run that was asked for is over.
    fn follow_one(&self, session: &Session, mut prefix: Prefix) -> Result<(), Failure> {
        let mut last = None;
        let id = prefix.id.clone();
        let target = self.target(&id, "ndjson", None);
        let mut answer = session.ask(&id, &live(&target))?;
        loop {
            let ended = self.read(session, &mut answer.body, &mut prefix, &mut last)?;
            if ended && (self.run.is_some() || !is_there(session, &id)?) {
                return Ok(());
            }
            let target = self.target(&id, "ndjson", last);
            answer = session.ask_again(&id, &live(&target))?;
        }
    }

    /// Reads an answer as far as it goes. Returns whether it has come to its end.
    fn read(
        &self,
        session: &Session,
        body: &mut Body,
        prefix: &mut Prefix,
        last: &mut Option<u64>,
    ) -> Result<bool, Failure> {
        let (mut said, mut out) = (Vec::new(), Vec::new());
        loop {
            said.clear();
            let ended = match body.read_until(b'\n', &mut said) {
                Ok(_) if said.ends_with(b"\n") => None,
                Ok(_) => Some(true),
                Err(_) => Some(false),
            };
            if ended.is_none() {
                let line = match Line::of_most(&said) {
                    Some(line) => line,
                    None => session.understand(&said)?,
                };
                if line.lost > 0 && !session.json {
                    session.note(format_args!("{}: {}", Escaped(&prefix.id), missing(line.lost)));
                }
                *last = Some(line.seq).filter(|seq| *seq > 0).or(*last);
                prefix.write(&line, &said, &mut out);
            }
            // Nothing more is there yet: what is there is shown now.
            if ended.is_some() || body.would_wait() || out.len() >= FLUSHED {
                print_bytes(&out)?;
                out.clear();
            }
            if let Some(ended) = ended {
                return Ok(ended);
            }
        }
    }

    fn target(&self, id: &str, format: &str, after: Option<u64>) -> String {
        let mut target = format!("{}/logs?format={format}", path(id));
        let mut add = |name: &str, value: Option<&dyn std::fmt::Display>| {
            if let Some(value) = value {
                target.push_str(&format!("&{name}={value}"));
            }
        };
        add("follow", self.follow.then_some(&true as _));
        add("run", self.run.as_ref().map(|run| run as _));
        add("stream", self.stream.as_ref().map(|stream| stream as _));
        match after {
            Some(_) => add("after", after.as_ref().map(|after| after as _)),
            None => add("tail", self.lines.as_ref().map(|lines| lines as _)),
        }
        target
    }
}

/// What is said of so many lines that are not kept any more.
fn missing(lines: u64) -> String {
    match lines {
        1 => "1 line was lost".to_owned(),
        UNKNOWN.. => "lines were lost when k1s was killed; how many is not known".to_owned(),
        lines => format!("{lines} lines were lost"),
    }
}

/// Without a limit to how long nothing may come.
fn live(target: &str) -> Request<'_> {
    Request { silence: None, ..Request::new("GET", target) }
}

/// Whether there is still such a job. When k1s ends, its answers end as if there were not.
fn is_there(session: &Session, id: &str) -> Result<bool, Failure> {
    let target = format!("{}?output=false&results=0", path(id));
    match session.ask_again(id, &Request::new("GET", &target)) {
        Ok(_) => Ok(true),
        Err(Failure::Refused(_)) => Ok(false),
        Err(failure) => Err(failure),
    }
}

/// A prefix and a colour for each job, if there are several.
fn prefixes(session: &Session, ids: &[String]) -> Vec<Prefix> {
    let widest = ids.iter().map(String::len).max().unwrap_or_default();
    let colours = COLOURS.iter().cycle();
    let prefix = |(id, colour): (&String, &Colour)| {
        let (on, off) = match session.screen.has_colours {
            true => (colour.on(), OFF),
            false => ("", ""),
        };
        let text = match (ids.len(), session.json) {
            (1, _) => String::new(),
            (_, true) => format!("{{\"job\":\"{id}\","),
            (_, false) => format!("{on}{id:widest$} |{off} "),
        };
        Prefix { id: id.clone(), text, json: session.json, goes_on: false }
    };
    ids.iter().zip(colours).map(prefix).collect()
}

impl Prefix {
    /// Writes a line, which the API has said so.
    fn write(&mut self, line: &Line<'_>, said: &[u8], out: &mut Vec<u8>) {
        if self.json {
            let rest = if self.text.is_empty() { said } else { said.get(1..).unwrap_or_default() };
            out.extend_from_slice(self.text.as_bytes());
            out.extend_from_slice(rest);
            return;
        }
        if line.lost > 0 {
            return;
        }
        if !self.goes_on {
            out.extend_from_slice(self.text.as_bytes());
        }
        self.goes_on = line.partial;
        // Writing to memory cannot fail.
        let _ = out.write_all(line.line.as_bytes());
        if !line.partial {
            out.push(b'\n');
        }
    }
}

/// The colours of the prefixes, in turn.
const COLOURS: [Colour; 6] =
    [Colour::Cyan, Colour::Yellow, Colour::Green, Colour::Magenta, Colour::Blue, Colour::Red];
/// A k1s that finds that it was killed leaves out 2^32 numbers of lines, less those that were read.
const UNKNOWN: u64 = 1 << 31;
/// As much is written at once.
const FLUSHED: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_lines_are_read_as_all_are() {
        let said = |end: &str| {
            let begin =
                r#"{"seq":12,"time":"2026-03-29T01:30:00.000Z","run":3,"stream":"stderr","line""#;
            format!("{begin}:\"{end}}}\n")
        };
        for (end, is_quick) in [
            ("", false),
            ("\"", true),
            ("a {b} \u{e4}\"", true),
            ("a \\\"b\\\"\"", false),
            ("a\\n\"", false),
            ("a\",\"partial\":true", false),
        ] {
            let said = said(end);
            let quick = Line::of_most(said.as_bytes());
            assert_eq!(quick.is_some(), is_quick, "{said}");
            let read: Option<Line<'_>> = serde_json::from_str(&said).ok();
            assert!(quick.is_none() || quick == read, "{said}");
        }
        for other in ["{\"lost\":3}\n", "{}\n", "{\"seq\":x", "{\"seq\":1,\"time\":\"2026"] {
            assert_eq!(Line::of_most(other.as_bytes()), None);
        }
    }
}
