//! `k1s events`: what happens, a line each; and the reader of Server-Sent Events for other commands.
//!
//! ```text
//!   GET /events ─▶ lines ─▶ an empty one ends an event
//!        ▲                       │ its id
//!        └── Last-Event-ID ◀─────┘ when the connection breaks off
//! ```

use std::io::{self, BufRead};
use std::process::ExitCode;
use std::time::Duration;

use argh::FromArgs;
use serde::Deserialize;

use super::Failure;
use super::http::{Body, Request, encode};
use super::session::{Session, end_when_unread, print};
use super::text::{Colour, Escaped, Painted};

/// Show what happens, as it happens.
#[derive(Clone, Debug, FromArgs, PartialEq, Eq)]
#[argh(subcommand, name = "events", help_triggers("-h", "--help"))]
pub struct Events {
    /// only of these jobs
    #[argh(positional, arg_name = "ID")]
    ids: Vec<String>,
}

impl Events {
    pub(super) fn run(&self, session: &Session) -> Result<ExitCode, Failure> {
        end_when_unread()?;
        let mut reader = Reader::open(session, &self.ids)?;
        let mut is_first = true;
        loop {
            let event = reader.next()?;
            let is_snapshot = event.name == SNAPSHOT;
            if session.json {
                print(event.in_json())?;
            } else if !is_snapshot {
                print(event.for_people(session)?)?;
            } else if !is_first {
                session.note("some events were missed");
            }
            is_first = false;
        }
    }
}

/// Reads events, and goes on after the last one when the connection breaks off.
pub(super) struct Reader<'a> {
    session: &'a Session,
    target: String,
    body: Body,
    last: Option<String>,
}

/// An event.
#[derive(Debug, Default)]
pub(super) struct Event {
    pub(super) name: String,
    data: String,
    /// It comes from another k1s than the event before: k1s has started again meanwhile.
    pub(super) is_of_another: bool,
}

/// What is known of an event.
#[derive(Debug, Deserialize)]
pub(super) struct Data {
    pub(super) time: String,
    /// `None`: it is about k1s as a whole.
    job: Option<String>,
    pub(super) run: Option<u64>,
    #[serde(default)]
    pub(super) message: String,
    pub(super) success: Option<bool>,
    #[serde(default)]
    pub(super) reason: String,
    #[serde(default)]
    output: Vec<String>,
}

impl Data {
    /// The job that it is about; empty: none.
    pub(super) fn job(&self) -> &str {
        self.job.as_deref().unwrap_or_default()
    }
}

impl<'a> Reader<'a> {
    /// Begins to listen to these jobs; to all if there are none.
    pub(super) fn open(session: &'a Session, ids: &[String]) -> Result<Reader<'a>, Failure> {
        let mut target = "/events?results=0".to_owned();
        for id in ids {
            target.push_str("&job=");
            target.push_str(&encode(id));
        }
        let answer = session.ask("", &request(&target, None))?;
        Ok(Reader { session, target, body: answer.body, last: None })
    }

    /// Waits for the next event.
    pub(super) fn next(&mut self) -> Result<Event, Failure> {
        loop {
            match self.read() {
                Ok(event) => return Ok(event),
                Err(_) => {
                    let request = request(&self.target, self.last.as_deref());
                    self.body = self.session.ask_again("", &request)?.body;
                }
            }
        }
    }

    fn read(&mut self) -> io::Result<Event> {
        let mut event = Event::default();
        let (mut id, mut line) = (None, Vec::new());
        loop {
            line.clear();
            self.body.read_until(b'\n', &mut line)?;
            let Some(text) = line.strip_suffix(b"\n") else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            let text = String::from_utf8_lossy(text);
            match text.trim_end_matches('\r').split_once(": ") {
                Some(("id", given)) => id = Some(given.to_owned()),
                Some(("event", name)) => event.name = name.to_owned(),
                Some(("data", data)) => event.data.push_str(data),
                None if text.is_empty() => {
                    // Not before: an event that breaks off in the middle is to come again.
                    let before = self.last.take();
                    let instances = before.as_deref().zip(id.as_deref());
                    event.is_of_another |= instances
                        .is_some_and(|(before, now)| instance_of(before) != instance_of(now));
                    self.last = id.take().or(before);
                    if !event.name.is_empty() {
                        return Ok(event);
                    }
                }
                Some(_) | None => {}
            }
        }
    }
}

impl Event {
    /// What it says besides its name.
    pub(super) fn data(&self, session: &Session) -> Result<Data, Failure> {
        session.understand(self.data.as_bytes())
    }

    /// Its data, with its name as the first field.
    fn in_json(&self) -> String {
        let rest = self.data.strip_prefix('{').unwrap_or_default();
        format!("{{\"event\":\"{}\",{rest}\n", self.name)
    }

    fn for_people(&self, session: &Session) -> Result<String, Failure> {
        let Data { time, job, run, message, success, output, .. } = self.data(session)?;
        let colour = match (self.name.as_str(), success) {
            ("exited", Some(false)) | ("warning", _) => Some(Colour::Red),
            ("started" | "created", _) => Some(Colour::Green),
            ("restarting" | "deferred" | "skipped" | "killing", _) => Some(Colour::Yellow),
            _ => None,
        };
        let name = Painted(
            format_args!("{:<10}", Escaped(&self.name).to_string()),
            colour.filter(|_| session.screen.has_colours),
        )
        .to_string();
        let run = run.map_or_else(String::new, |run| format!("run {run}: "));
        let mut text = format!(
            "{}  {name}  {}  {run}{}\n",
            Escaped(&time),
            Escaped(&job.unwrap_or_default()),
            Escaped(&message)
        );
        for line in output {
            text.push_str(&format!("  | {}\n", Escaped(&line)));
        }
        Ok(text)
    }
}

/// The k1s that an id comes from: it is `<instance>-<n>`.
fn instance_of(id: &str) -> &str {
    id.rsplit_once('-').map_or(id, |(instance, _)| instance)
}

fn request<'a>(target: &'a str, last: Option<&'a str>) -> Request<'a> {
    Request { last_event: last, silence: Some(SILENCE), ..Request::new("GET", target) }
}

/// The event that shows all jobs, instead of those that were missed.
pub(super) const SNAPSHOT: &str = "snapshot";
/// A comment comes every 15 seconds.
const SILENCE: Duration = Duration::from_secs(45);
