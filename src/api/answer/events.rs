//! `GET /events`: events as Server-Sent Events (WHATWG HTML, section 9.2).
//!
//! ```text
//!   begin ─▶ snapshot of all jobs, in slices ─▶ event, event, … ─▶ waits for more events,
//!      └──── Last-Event-ID is still known ────────▲                or for the next comment
//! ```
//!
//! The id of an event is `<instance>-<n>`: a client that sends it has seen the first n events of
//! this k1s. A client whose next event has left the ring is dropped; it can come back, and gets a
//! new snapshot. A comment every 15 seconds shows proxies that the connection is alive, and shows
//! k1s clients that are gone.

use std::io::Write;

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::listing::Listing;
use super::stream::CHUNK_BYTES;
use super::{Pending, Slice, Source, Stream};
use crate::access::{Asker, Visible};
use crate::api::json::write_json;
use crate::api::view::{Filter, Shown, Shows, Time};
use crate::api::{ApiError, query};
use crate::http::{Connection, ContentType, Head, Reply, Status};
use crate::job::{Ending, JobId, LastLines, Pid};
use crate::supervisor::{
    Chore, Event, EventKind, EventRead, Happened, Request, SkipReason, Supervisor, Topic,
};
use crate::time::{Mono, Now};

/// An answer that follows events.
#[derive(Debug)]
pub(in crate::api) struct Events {
    filter: Filter,
    instance: String,
    /// The number of the next event.
    cursor: u64,
    /// How many events whoever shows the last id that was sent has seen.
    id_sent: u64,
    /// What is still to be written of the snapshot.
    snapshot: Option<Snapshot>,
    next_comment: Mono,
}

#[derive(Debug)]
enum Snapshot {
    ToBegin(Listing),
    UnderWay(Listing),
}

impl Events {
    /// Reads the request: `job=`, perhaps several, and `results=N`, how many results of each job
    /// the snapshot shows.
    pub(in crate::api) fn of(
        head: &Head,
        visible: &Visible,
        supervisor: &Supervisor,
        now: Now,
    ) -> Result<Events, ApiError> {
        let results = query::whole(head, "results", query::MOST)?;
        let results = results.and_then(|count| usize::try_from(count).ok());
        let everything = Shown::everything();
        let results = results.unwrap_or(everything.results);
        let shown = Shown { output: false, results, visible: visible.clone() };
        let ids: Vec<String> = head.query_values("job").map(str::to_owned).collect();
        let filter = || Filter::of_ids(ids.iter().cloned().collect(), shown.clone());
        let instance = supervisor.instance().to_owned();
        let seen = head.last_event_id.as_deref().and_then(|id| {
            let number = id.strip_prefix(&instance)?.strip_prefix('-')?.parse().ok()?;
            let log = supervisor.events();
            (log.first()..=log.next()).contains(&number).then_some(number)
        });
        let cursor = seen.unwrap_or(supervisor.events().next());
        Ok(Events {
            filter: filter(),
            instance,
            cursor,
            id_sent: cursor,
            snapshot: seen.is_none().then(|| Snapshot::ToBegin(Listing::new(filter()))),
            next_comment: comment_after(now),
        })
    }

    /// Begins to answer.
    pub(in crate::api) fn begin(self, connection: &mut Connection, now: Now) -> Option<Pending> {
        let reply = Reply { is_live: true, ..Reply::new(Status::Ok, ContentType::EventStream) };
        let pending = Stream::begin(reply, Source::Events(self), connection, now);
        connection.push(now, |out| out.extend_from_slice(RETRY));
        pending
    }

    pub(super) fn write_slice(
        &mut self,
        supervisor: &Supervisor,
        out: &mut Vec<u8>,
        budget: &mut usize,
        now: Now,
    ) -> Slice {
        let until = out.len() + CHUNK_BYTES;
        if let Some(snapshot) = self.snapshot.take() {
            let mut listing = match snapshot {
                Snapshot::UnderWay(listing) => listing,
                Snapshot::ToBegin(listing) => {
                    write_id(out, &self.instance, self.cursor, "snapshot");
                    out.extend_from_slice(b"{\"time\":");
                    write_json(out, &Time(now.wall));
                    out.extend_from_slice(b",\"jobs\":");
                    listing
                }
            };
            if listing.write(supervisor, out, until, budget, now) {
                out.extend_from_slice(b"}\n\n");
            } else {
                self.snapshot = Some(Snapshot::UnderWay(listing));
            }
            return Slice::Part;
        }
        while out.len() < until && *budget > 0 {
            let begin = out.len();
            match supervisor.events().read(&mut self.cursor) {
                Some(EventRead::Lost(_)) => return Slice::Over,
                Some(EventRead::Event(number, event)) => self.write_event(number, event, out),
                None => {
                    self.write_progress(out);
                    if self.next_comment <= now.mono {
                        self.next_comment = comment_after(now);
                        out.extend_from_slice(COMMENT);
                    }
                    let until = Some(self.next_comment);
                    return Slice::Idle { topic: Topic::Events, until };
                }
            }
            *budget = budget.saturating_sub(out.len() - begin + BYTES_AN_EVENT);
        }
        Slice::Part
    }

    /// An id without an event, when so many events were of other jobs that the last id would soon be
    /// too old to resume from. Clients remember it, and tell of no event.
    fn write_progress(&mut self, out: &mut Vec<u8>) {
        if self.cursor - self.id_sent >= MOST_EVENTS_WITHOUT_ID {
            self.id_sent = self.cursor;
            // Writing to memory cannot fail.
            let _ = write!(out, "id: {}-{}\n\n", self.instance, self.cursor);
        }
    }

    fn write_event(&mut self, number: u64, event: &Event, out: &mut Vec<u8>) {
        if let EventKind::Job { id, .. } = &event.kind
            && !self.filter.has(id)
        {
            return;
        }
        self.id_sent = number + 1;
        write_id(out, &self.instance, self.id_sent, name(&event.kind));
        write_json(out, &EventView { event, visible: &self.filter.shown.visible });
        out.extend_from_slice(b"\n\n");
    }
}

/// Writes the lines before the data of an event. An instance contains neither newlines nor NUL.
fn write_id(out: &mut Vec<u8>, instance: &str, seen: u64, name: &str) {
    // Writing to memory cannot fail.
    let _ = write!(out, "id: {instance}-{seen}\nevent: {name}\ndata: ");
}

/// All comments are due together, so that k1s wakes up once for them.
fn comment_after(now: Now) -> Mono {
    Mono((now.mono.0 / COMMENT_MILLIS + 1) * COMMENT_MILLIS)
}

fn name(kind: &EventKind) -> &'static str {
    match kind {
        EventKind::Asked(_) => "requested",
        EventKind::ShuttingDown { .. } => "shutdown",
        EventKind::KillingAll { .. } => "killing",
        EventKind::Job { what, .. } => match what {
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
        },
    }
}

/// The data of an event, for somebody to whom these jobs are visible.
struct EventView<'a> {
    event: &'a Event,
    visible: &'a Visible,
}

impl Serialize for EventView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Event { at, kind, by } = self.event;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("time", &Time(*at))?;
        map.serialize_entry("job", &kind.job().and_then(|id| self.name(id)))?;
        if let EventKind::Job { what, .. } = kind
            && let Some(run) = what.run()
        {
            map.serialize_entry("run", &run)?;
        }
        map.serialize_entry("message", &Shows(self.event.in_words(self.visible)))?;
        match kind {
            EventKind::Job { what, .. } => self.job_entries(what, &mut map)?,
            EventKind::Asked(Chore::Reload) => map.serialize_entry("request", "reload")?,
            EventKind::Asked(Chore::Reopen) => map.serialize_entry("request", "reopen")?,
            EventKind::ShuttingDown { exit_code, live_runs, .. } => {
                map.serialize_entry("exitCode", exit_code)?;
                map.serialize_entry("runs", &self.count(*live_runs))?;
            }
            EventKind::KillingAll { live_runs, .. } => {
                map.serialize_entry("runs", &self.count(*live_runs))?
            }
        }
        match by {
            Some(Asker::Token(name)) => map.serialize_entry("token", name.as_ref())?,
            Some(Asker::Uid(uid)) => map.serialize_entry("uid", uid)?,
            None => {}
        }
        map.end()
    }
}

impl EventView<'_> {
    /// The id of another job, if it may be named.
    fn name<'i>(&self, id: &'i JobId) -> Option<&'i str> {
        Some(id.as_str()).filter(|id| self.visible.has(id))
    }

    /// How many there are of all jobs, if all may be named.
    fn count(&self, of_all: usize) -> Option<usize> {
        self.visible.is_all().then_some(of_all)
    }

    /// The fields that only this kind of event has.
    fn job_entries<M: SerializeMap>(&self, what: &Happened, map: &mut M) -> Result<(), M::Error> {
        match what {
            Happened::Created
            | Happened::Replaced
            | Happened::Expired
            | Happened::Overdue { .. }
            | Happened::Unseen { .. }
            | Happened::CommandFailed { .. }
            | Happened::Ready { .. }
            | Happened::Unready { .. }
            | Happened::Unhealthy { .. }
            | Happened::ExitsAtOnce => Ok(()),
            Happened::Asked(Request::Signal(signal)) => {
                map.serialize_entry("request", "signal")?;
                map.serialize_entry("signal", &Shows(signal))
            }
            Happened::Asked(request) => map.serialize_entry("request", request_name(*request)),
            Happened::Removed { has_successor } => map.serialize_entry("successor", has_successor),
            Happened::Started { pid: Pid(pid), .. } => map.serialize_entry("pid", pid),
            Happened::Ended { ending, output } => ending_entries(ending, output.as_ref(), map),
            Happened::Waits { dependency, condition, others } => {
                map.serialize_entry("dependency", &self.name(dependency))?;
                map.serialize_entry("condition", condition.name())?;
                map.serialize_entry("others", others)
            }
            Happened::Renewed { dependency } => {
                map.serialize_entry("dependency", &self.name(dependency))
            }
            Happened::Deferred { error, .. } => map.serialize_entry("error", error),
            Happened::Restarting { after, streak } => {
                let delay = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
                map.serialize_entry("delayMs", &delay)?;
                map.serialize_entry("inARow", streak)
            }
            Happened::Skipped(reason) => skip_entries(*reason, map),
            Happened::LogFile { path, what, .. } => {
                map.serialize_entry("file", path.as_ref())?;
                map.serialize_entry("error", &what.error())?;
                match what.missing() {
                    Some(missing) => map.serialize_entry("missingBytes", &missing),
                    None => Ok(()),
                }
            }
            Happened::Calls { handler, refused, .. } => {
                let name = self.name(handler);
                map.serialize_entry("handler", &name)?;
                map.serialize_entry("error", &refused.filter(|_| name.is_some()).map(Shows))
            }
            Happened::Called { by, failed } => {
                let name = self.name(by);
                map.serialize_entry("by", &name)?;
                map.serialize_entry("failed", &name.map(|_| failed))
            }
            Happened::Finished(state) => map.serialize_entry("state", state.name()),
        }
    }
}

fn skip_entries<M: SerializeMap>(reason: SkipReason, map: &mut M) -> Result<(), M::Error> {
    let (reason, count) = match reason {
        SkipReason::Forbidden => ("forbidden", 1),
        SkipReason::QueueFull => ("queueFull", 1),
        SkipReason::Missed(count) => ("missed", count),
        SkipReason::Blocked => ("blocked", 1),
    };
    map.serialize_entry("reason", reason)?;
    map.serialize_entry("runs", &count)
}

fn ending_entries<M: SerializeMap>(
    ending: &Ending,
    output: Option<&LastLines>,
    map: &mut M,
) -> Result<(), M::Error> {
    map.serialize_entry("exitCode", &ending.end.exit_code())?;
    map.serialize_entry("signal", &ending.end.signal().map(Shows))?;
    map.serialize_entry("reason", ending.reason.name())?;
    map.serialize_entry("success", &ending.success)?;
    let lived = u64::try_from(ending.lived.as_millis()).unwrap_or(u64::MAX);
    map.serialize_entry("durationMs", &lived)?;
    if let Some(error) = ending.end.error() {
        map.serialize_entry("error", error)?;
    }
    match output {
        Some(output) => map.serialize_entry("output", &Lines(output)),
        None => Ok(()),
    }
}

struct Lines<'a>(&'a LastLines);

impl Serialize for Lines<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.lines())
    }
}

fn request_name(request: Request) -> &'static str {
    match request {
        Request::Start => "start",
        Request::Restart => "restart",
        Request::Run => "run",
        Request::Reload => "reload",
        Request::Signal(_) => "signal",
        Request::Kill => "kill",
        Request::Remove => "remove",
    }
}

/// How soon a client reconnects, in milliseconds.
const RETRY: &[u8] = b"retry: 1000\n\n";
const COMMENT: &[u8] = b":\n\n";
/// A small part of those that are kept for clients that come back.
const MOST_EVENTS_WITHOUT_ID: u64 = 64;
const COMMENT_MILLIS: u64 = 15_000;
/// The cost of an event that is not written, as the time to write so many bytes.
const BYTES_AN_EVENT: usize = 32;
