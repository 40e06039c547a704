//! What followers are sent, held against what was written and what has happened.
//!
//! A reader of a log remembers up to where it was told everything. What is left out must be dropped
//! at that moment, and what a reader of lines is told of as lost must cover it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::calendar::format_rfc3339;
use crate::job::Stream;
use crate::supervisor::{Event, EventKind, Happened, Job, Supervisor};

use super::rng::Rng;
use super::written::{Kept, Line, Place, Written};

/// How far an answer has come after a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Come {
    /// There may be more now.
    Part,
    /// All is told; it waits for more.
    Idle,
    /// It is over.
    Over,
}

/// What is asked of a log.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    pub(super) is_lines: bool,
    pub(super) follows: bool,
    pub(super) run: Option<u64>,
    pub(super) stream: Option<Stream>,
    pub(super) tail: Option<u64>,
    pub(super) after: Option<u64>,
}

impl Asked {
    pub(super) fn random(job: &Job, rng: &mut Rng) -> Asked {
        let is_lines = rng.percent(70);
        let run = job.logged_runs().filter(|_| rng.percent(25));
        let run = run.map(|(first, last)| first + rng.below(last - first + 1));
        let run = run.filter(|run| job.log_of(*run).is_some());
        let stream = rng.percent(25).then(|| rng.pick(&super::STREAMS));
        let tails: &[u64] = if is_lines { &[0, 1, 3, 100] } else { &[0] };
        let tail = rng.percent(25).then(|| rng.pick(tails));
        let after = (is_lines && tail.is_none() && rng.percent(60)).then_some(0);
        Asked { is_lines, follows: rng.percent(85), run, stream, tail, after }
    }

    pub(super) fn query(&self) -> String {
        let number = |name: &str, value: Option<u64>| {
            value.map(|value| format!("&{name}={value}")).unwrap_or_default()
        };
        let stream = match self.stream {
            None => "",
            Some(Stream::Stdout) => "&stream=stdout",
            Some(Stream::Stderr) => "&stream=stderr",
        };
        let mut query = format!("follow={}{stream}", self.follows);
        query += if self.is_lines { "&format=ndjson" } else { "&format=raw" };
        query += &number("run", self.run);
        query += &number("tail", self.tail);
        query += &number("after", self.after);
        query
    }
}

/// Who reads a log.
#[derive(Debug)]
pub(super) struct LogReader {
    asked: Asked,
    first_run: u64,
    last_run: u64,
    /// The number of the last line, and of writes, when it asked.
    lines_then: u64,
    writes_then: usize,
    /// Up to which line it was told everything; `None`: it is to be told the last lines.
    told: Option<u64>,
    /// How many lines it was told to be lost since.
    lost: u64,
    /// The next write, and how much of it was sent.
    next: usize,
    offset: usize,
    come: Come,
}

impl LogReader {
    pub(super) fn new(asked: Asked, job: &Job, written: &Written) -> LogReader {
        let newest = job.logged_runs().map_or(0, |(_, last)| last);
        let (first_run, last_run) = match (asked.run, asked.after) {
            (Some(run), _) => (run, run),
            (None, Some(_)) => (0, u64::MAX),
            (None, None) if asked.follows => (newest, u64::MAX),
            (None, None) => (newest, newest),
        };
        let (lines_then, writes_then) = (written.last_line(), written.writes.len());
        let begin = job.log_of(first_run).map_or(lines_then, |(begin, _)| begin.lines());
        let told = match (asked.after, asked.tail) {
            (Some(line), _) => Some(line),
            (None, Some(_)) => None,
            (None, None) => Some(begin),
        };
        let next = if asked.tail.is_some() { writes_then } else { 0 };
        LogReader {
            first_run,
            last_run,
            lines_then,
            writes_then,
            told,
            lost: 0,
            next,
            offset: 0,
            come: Come::Part,
            asked,
        }
    }

    pub(super) fn asked(&self) -> &Asked {
        &self.asked
    }

    /// It was sent these lines. Returns the number of each, where it has one.
    pub(super) fn check_lines(
        &mut self,
        items: &[Vec<u8>],
        come: Come,
        written: &Written,
        job: &Job,
    ) -> Vec<Option<u64>> {
        self.come = come;
        let kept = Kept::of(job);
        let read = |item: &Vec<u8>| serde_json::from_slice::<Value>(item).unwrap();
        let read: Vec<Value> = items.iter().map(read).collect();
        let numbers = read.iter().map(|item| self.check_item(item, written, &kept)).collect();
        if come != Come::Part {
            let told = self.told.unwrap_or(self.lines_then);
            let end = self.end(come, written, job).max(told);
            self.check_left_out(told, end, written, &kept);
            (self.told, self.lost) = (Some(end), 0);
        }
        numbers
    }

    /// The line with which all is told that there is.
    fn end(&self, come: Come, written: &Written, job: &Job) -> u64 {
        let end = if self.asked.follows { written.last_line() } else { self.lines_then };
        let of_run = self.asked.run.and_then(|run| job.log_of(run)?.1);
        match of_run.filter(|_| come == Come::Over) {
            Some(of_run) => end.min(of_run.lines()),
            None => end,
        }
    }

    fn check_item(&mut self, item: &Value, written: &Written, kept: &Kept) -> Option<u64> {
        if let Some(lost) = item.get("lost") {
            let lost = lost.as_u64().unwrap();
            assert!(lost > 0, "nothing is lost");
            self.lost += lost;
            return None;
        }
        let number = item["seq"].as_u64().unwrap();
        let line = written.lines[number as usize - 1];
        let stream = if line.place.stream() == Stream::Stdout { "stdout" } else { "stderr" };
        assert!(self.has(line.place), "{item} is of others");
        assert_eq!(item["line"], String::from_utf8_lossy(written.text(&line)).as_ref());
        assert_eq!((&item["run"], &item["stream"]), (&line.place.run.into(), &stream.into()));
        assert_eq!(item["time"], format_rfc3339(line.at.wall).to_string());
        assert_eq!(item.get("partial").is_some(), line.is_partial, "{item}");
        let told = self.told.unwrap_or_else(|| self.begin_of_tail(number, written, kept));
        assert!(number > told, "{number} comes after {told}");
        self.check_left_out(told, number - 1, written, kept);
        (self.told, self.lost) = (Some(number), 0);
        Some(number)
    }

    /// The last lines begin with this one.
    fn begin_of_tail(&self, number: u64, written: &Written, kept: &Kept) -> u64 {
        if number > self.lines_then {
            return self.lines_then;
        }
        let last = self.lines_between(number - 1, self.lines_then, written);
        let last = last.filter(|line| line.from >= kept.from(line.place));
        assert!(
            Some(last.count() as u64) <= self.asked.tail,
            "{number} is not of the tail: {self:?}"
        );
        number - 1
    }

    fn check_left_out(&self, after: u64, until: u64, written: &Written, kept: &Kept) {
        let mut missing = 0;
        for line in self.lines_between(after, until, written) {
            assert!(line.from < kept.from(line.place), "{line:?} is kept, and left out");
            missing += 1;
        }
        let lost = self.lost;
        assert!(missing <= lost, "{missing} of {after} to {until} are missing, and {lost} told");
        // Before the tail there may be more.
        let is_all = (self.first_run, self.last_run, self.asked.stream) == (0, u64::MAX, None);
        if self.asked.tail.is_none() {
            // A read that went on in the same millisecond is read to its end.
            let most = if self.asked.follows { until } else { written.last_line() };
            assert!(lost <= most - after, "{lost} of {after} to {until}: {self:?}");
            let is_exact = is_all && self.asked.follows;
            assert!(!is_exact || lost == until - after, "{lost} of {after} to {until}");
        }
    }

    /// Its lines of those behind a number, up to another.
    fn lines_between<'a>(
        &'a self,
        after: u64,
        until: u64,
        written: &'a Written,
    ) -> impl Iterator<Item = &'a Line> {
        let lines = &written.lines[after as usize..until as usize];
        lines.iter().filter(|line| self.has(line.place))
    }

    fn has(&self, place: Place) -> bool {
        (self.first_run..=self.last_run).contains(&place.run)
            && self.asked.stream.is_none_or(|stream| stream == place.stream())
    }

    /// It was sent these bytes.
    pub(super) fn check_bytes(
        &mut self,
        mut bytes: &[u8],
        come: Come,
        written: &Written,
        job: &Job,
    ) {
        self.come = come;
        let kept = Kept::of(job);
        while let Some(write) = written.writes.get(self.next) {
            let from = (write.from + self.offset).max(kept.from(write.place));
            if self.has(write.place) && from < write.to {
                let wanted = written.bytes(write.place, from, write.to);
                let (sent, rest) = bytes.split_at(bytes.len().min(wanted.len()));
                assert_eq!(sent, &wanted[..sent.len()], "of {write:?}");
                bytes = rest;
                if sent.len() < wanted.len() {
                    self.offset = from + sent.len() - write.from;
                    break;
                }
            }
            self.next += 1;
            self.offset = 0;
        }
        assert!(bytes.is_empty(), "{} bytes that nobody has written", bytes.len());
        let end = if self.asked.follows { written.writes.len() } else { self.writes_then };
        let is_behind = || {
            let rest = written.writes.get(self.next..end).unwrap_or_default();
            rest.iter().any(|write| self.has(write.place))
        };
        assert!(come == Come::Part || !is_behind(), "{come:?} before all was told");
    }

    /// Nothing will come that it was not told, unless something happens.
    pub(super) fn check_caught_up(&self, written: &Written) {
        let lines = self.told.is_none_or(|told| told == written.last_line());
        let is_all = if self.asked.is_lines { lines } else { self.next == written.writes.len() };
        assert!(self.come == Come::Idle && is_all, "nobody woke {self:?}");
    }
}

/// What clients know of a job.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Row {
    pid: Option<i64>,
    finished: Option<String>,
}

/// The jobs as a client sees them.
pub(super) type Rows = BTreeMap<String, Row>;

/// An event, for those who tell of it.
#[derive(Debug)]
pub(super) struct Told {
    name: &'static str,
    job: Option<String>,
    run: Option<u64>,
    /// It is about k1s, whichever jobs somebody reads about.
    is_of_k1s: bool,
}

/// Who reads events.
#[derive(Debug)]
pub(super) struct EventReader {
    /// Of these jobs; none: of all.
    pub(super) ids: Vec<&'static str>,
    /// How many events it has seen; `None`: the snapshot is to come.
    pub(super) seen: Option<u64>,
    pub(super) come: Come,
}

impl EventReader {
    fn has(&self, told: &Told) -> bool {
        let is_named = |job: &String| self.ids.contains(&job.as_str());
        told.is_of_k1s || self.ids.is_empty() || told.job.as_ref().is_some_and(is_named)
    }

    /// It was sent these events.
    pub(super) fn check(&mut self, items: &[Vec<u8>], come: Come, all: &[Told]) -> Vec<Sent> {
        self.come = come;
        let sent: Vec<Sent> = items.iter().map(|item| Sent::parse(item)).collect();
        for sent in &sent {
            match sent {
                Sent::Nothing => {}
                Sent::Id(id) => self.check_id(number(id), all),
                Sent::Event { id, name, .. } if name == "snapshot" => {
                    assert_eq!(self.seen, None, "a second snapshot");
                    self.seen = Some(number(id));
                }
                Sent::Event { id, name, data } => self.check_event(number(id), name, data, all),
            }
        }
        if come == Come::Idle {
            let seen = self.seen.expect("a snapshot");
            let left = &all[seen as usize..];
            assert!(!left.iter().any(|told| self.has(told)), "left out after {seen}");
            self.seen = Some(all.len() as u64);
        }
        sent
    }

    fn check_id(&mut self, number: u64, all: &[Told]) {
        let seen = self.seen.expect("a snapshot");
        let left_out = &all[seen as usize..number as usize];
        assert!(!left_out.iter().any(|told| self.has(told)), "left out after {seen}");
        self.seen = Some(number);
    }

    fn check_event(&mut self, number: u64, name: &str, data: &Value, all: &[Told]) {
        self.check_id(number - 1, all);
        let told = &all[number as usize - 1];
        assert!(self.has(told), "{told:?} is of others");
        assert_eq!(name, told.name);
        assert_eq!(data["job"].as_str(), told.job.as_deref());
        assert_eq!(data["run"].as_u64(), told.run);
        assert!(data["message"].as_str().is_some_and(|message| !message.is_empty()));
        self.seen = Some(number);
    }
}

/// What is between two empty lines.
#[derive(Debug)]
pub(super) enum Sent {
    Nothing,
    Id(String),
    Event { id: String, name: String, data: Value },
}

impl Sent {
    fn parse(item: &[u8]) -> Sent {
        let text = std::str::from_utf8(item).unwrap();
        if text == ":" || text == "retry: 1000" {
            return Sent::Nothing;
        }
        if let Some(id) = text.strip_prefix("id: ").filter(|id| !id.contains('\n')) {
            return Sent::Id(id.to_owned());
        }
        let mut lines = text.split('\n');
        let mut field = |name| lines.next().and_then(|line| line.strip_prefix(name)).unwrap();
        let (id, name, data) = (field("id: "), field("event: "), field("data: "));
        assert_eq!(lines.next(), None, "{text}");
        let data = serde_json::from_str(data).unwrap();
        Sent::Event { id: id.to_owned(), name: name.to_owned(), data }
    }

    /// What a client learns from it.
    pub(super) fn apply(&self, rows: &mut Rows) {
        let Sent::Event { name, data, .. } = self else { return };
        let job = data["job"].as_str().unwrap_or_default();
        let mut set = |row: Row| drop(rows.insert(job.to_owned(), row));
        match name.as_str() {
            "snapshot" => {
                let jobs = data["jobs"].as_array().unwrap();
                let row = |job: &Value| {
                    let id = job["id"].as_str().unwrap().to_owned();
                    (id, Row { pid: job["pid"].as_i64(), finished: None })
                };
                *rows = jobs.iter().map(row).collect();
            }
            "created" => set(Row::default()),
            "removed" if data["successor"] == false => drop(rows.remove(job)),
            "expired" => drop(rows.remove(job)),
            "requested" if data["request"] == "remove" => drop(rows.remove(job)),
            // It stops what jobs have left that had finished.
            "shutdown" => rows.values_mut().for_each(|row| row.finished = None),
            "started" => set(Row { pid: data["pid"].as_i64(), finished: None }),
            // Of a job that was removed, it tells nothing about its successor.
            "exited" | "requested" | "called" | "restarting" | "replaced"
                if rows.contains_key(job) =>
            {
                let row = rows.get_mut(job).unwrap();
                row.finished = None;
                if name == "exited" {
                    row.pid = None;
                }
            }
            "finished" if rows.contains_key(job) => {
                rows.get_mut(job).unwrap().finished = data["state"].as_str().map(str::to_owned);
            }
            _ => {}
        }
    }
}

/// What a client has learned is how it is; which process runs may be unclear.
pub(super) fn check_rows(
    rows: &Rows,
    ids: &[&'static str],
    supervisor: &Supervisor,
    is_unclear: impl Fn(&Job) -> bool,
) {
    for id in super::IDS.iter().filter(|id| ids.is_empty() || ids.contains(*id)) {
        match (rows.get(*id), supervisor.job(id)) {
            (None, None) => {}
            (Some(row), Some(job)) => {
                let pid = job.pid().map(|pid| pid.0.into());
                assert!(row.pid == pid || is_unclear(job), "{id}: {row:?}, not {pid:?}");
                let state = row.finished.as_deref().unwrap_or(job.state().name());
                assert_eq!(state, job.state().name(), "{id}");
            }
            (row, job) => panic!("{id}: {row:?}, and {:?}", job.map(Job::state)),
        }
    }
}

impl Told {
    pub(super) fn of(event: &Event) -> Told {
        let (name, run, is_of_k1s) = match &event.kind {
            EventKind::Asked(_) => ("requested", None, true),
            EventKind::ShuttingDown { .. } => ("shutdown", None, true),
            EventKind::KillingAll { .. } => ("killing", None, true),
            EventKind::Job { what, .. } => (name_of(what), what.run(), false),
        };
        let job = event.kind.job().map(|id| id.as_str().to_owned());
        Told { name, job, run, is_of_k1s }
    }
}

fn name_of(what: &Happened) -> &'static str {
    match what {
        Happened::Created => "created",
        Happened::Replaced => "replaced",
        Happened::Asked(_) => "requested",
        Happened::Started { .. } => "started",
        Happened::Ended { .. } => "exited",
        Happened::Waits { .. } => "waiting",
        Happened::Renewed { .. } => "renewed",
        Happened::Deferred { .. } => "deferred",
        Happened::Overdue { .. } => "killing",
        Happened::Unseen { .. } | Happened::ExitsAtOnce => "warning",
        Happened::CommandFailed { .. } => "warning",
        Happened::Ready { .. } => "ready",
        Happened::Unready { .. } => "unready",
        Happened::Unhealthy { .. } => "unhealthy",
        Happened::Restarting { .. } => "restarting",
        Happened::Skipped(_) => "skipped",
        Happened::LogFile { .. } => "logfile",
        Happened::Calls { .. } => "calls",
        Happened::Called { .. } => "called",
        Happened::Finished(_) => "finished",
        Happened::Expired => "expired",
        Happened::Removed { .. } => "removed",
    }
}

/// How many events whoever shows this id has seen.
fn number(id: &str) -> u64 {
    id.strip_prefix("k-").and_then(|number| number.parse().ok()).unwrap()
}
