//! How a job looks in JSON, and which jobs a listing shows.

use std::collections::BTreeSet;
use std::fmt::Display;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::{ApiError, query};
use crate::access::Visible;
use crate::calendar::format_rfc3339;
use crate::http::Head;
use crate::job::spec::Kind;
use crate::job::{JobId, RunRecord, Signal, type_name};
use crate::supervisor::{Job, LastProbe, Origin, Selection, Skipped};
use crate::time::{Now, Wall};

/// The part of a job object before the specification.
pub(super) struct JobView<'a> {
    pub(super) job: &'a Job,
    /// Why it is in its state.
    pub(super) message: &'a str,
    /// What it waits for in other jobs.
    pub(super) waiting_for: Vec<AwaitedView<'a>>,
    pub(super) now: Now,
}

/// What a job waits for in another.
#[derive(Serialize)]
pub(super) struct AwaitedView<'a> {
    pub(super) job: &'a str,
    pub(super) condition: &'static str,
}

/// The part of a result before its output.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ResultView<'a> {
    run: u64,
    trigger: &'static str,
    exit_code: u8,
    signal: Option<Shows<Signal>>,
    reason: &'static str,
    success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    started_at: Time,
    finished_at: Time,
    duration_ms: u64,
}

/// The part of a result after its output.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OutputView {
    pub(super) stdout_bytes: u64,
    pub(super) stderr_bytes: u64,
    pub(super) stdout_truncated: bool,
    pub(super) stderr_truncated: bool,
}

/// How much of a job is shown.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) output: bool,
    /// How many of its results: the newest.
    pub(super) results: usize,
    /// Which other jobs may be named.
    pub(super) visible: Visible,
}

/// Which jobs a listing shows.
#[derive(Debug)]
pub(super) struct Filter {
    pub(super) shown: Shown,
    /// The ids of the jobs; none: all.
    pub(super) ids: BTreeSet<String>,
    selection: Selection,
}

impl Shown {
    /// A job with all results and output that are kept.
    pub(super) fn everything() -> Shown {
        Shown { output: true, results: usize::MAX, visible: Visible::default() }
    }

    /// Reads the query: `output=false` leaves out the output, `results=N` shows only the newest N
    /// results.
    pub(super) fn of(head: &Head, visible: &Visible) -> Result<Shown, ApiError> {
        let everything = Shown::everything();
        let output = query::flag(head, "output")?.unwrap_or(everything.output);
        let results = query::whole(head, "results", query::MOST)?;
        let results = results.and_then(|count| usize::try_from(count).ok());
        let results = results.unwrap_or(everything.results);
        Ok(Shown { output, results, visible: visible.clone() })
    }

    /// How many of the oldest results are not shown.
    pub(super) fn left_out(&self, job: &Job) -> usize {
        job.results().len().saturating_sub(self.results)
    }
}

impl Filter {
    /// Reads the query: what [`selection`] and [`Shown::of`] read.
    pub(super) fn of(head: &Head, visible: &Visible) -> Result<Filter, ApiError> {
        let (shown, selection) = (Shown::of(head, visible)?, selection(head, visible)?);
        Ok(Filter { ids: BTreeSet::new(), shown, selection })
    }

    /// The jobs with these ids; none: all.
    pub(super) fn of_ids(ids: BTreeSet<String>, shown: Shown) -> Filter {
        let visible = shown.visible.clone();
        Filter { ids, shown, selection: Selection { visible, ..Selection::default() } }
    }

    /// Whether the job matches the ids, and is visible.
    pub(super) fn has(&self, id: &JobId) -> bool {
        let id = id.as_str();
        (self.ids.is_empty() || self.ids.contains(id)) && self.selection.visible.has(id)
    }

    /// How much longer it takes to look at a job because not all are visible.
    pub(super) fn cost(&self) -> usize {
        self.selection.visible.patterns().len() * BYTES_A_PATTERN
    }

    pub(super) fn lets_through(&self, job: &Job) -> bool {
        self.has(job.id()) && self.selection.has(job)
    }
}

/// Reads the query: `label=name=value`, `state=`, `type=`.
pub(super) fn selection(head: &Head, visible: &Visible) -> Result<Selection, ApiError> {
    let label = match head.query_value("label") {
        None => None,
        Some(given) => match given.split_once('=') {
            Some((name, value)) => Some((name.to_owned(), value.to_owned())),
            None => return Err(query::wrong("label", "name=value", given)),
        },
    };
    let state = query::one_of(head, "state", &STATES)?;
    let job_type = query::one_of(head, "type", &TYPES)?;
    Ok(Selection { label, state, job_type, visible: visible.clone() })
}

/// The name of a type in the message about a created job.
pub(super) fn type_title(kind: &Kind) -> &'static str {
    match kind {
        Kind::Continuous { .. } => "Continuous",
        Kind::OneOff { .. } => "One-off",
        Kind::Cron(_) => "Cron",
    }
}

impl Serialize for JobView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let job = self.job;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", job.id().as_str())?;
        map.serialize_entry("type", type_name(&job.spec().kind))?;
        map.serialize_entry("state", job.state().name())?;
        map.serialize_entry("message", self.message)?;
        if !self.waiting_for.is_empty() {
            map.serialize_entry("waitingFor", &self.waiting_for)?;
        }
        map.serialize_entry("pid", &job.pid().map(|pid| pid.0))?;
        map.serialize_entry("origin", origin_name(job.origin()))?;
        self.kind_entries(&mut map)?;
        map.serialize_entry("createdAt", &Time(job.created_at()))?;
        map.serialize_entry("startedAt", &job.started_at().map(Time))?;
        map.serialize_entry("nextRunAt", &job.next_run_at(self.now).map(Time))?;
        map.serialize_entry("restarts", &job.restarts())?;
        map.serialize_entry("ready", &job.ready())?;
        if let Some(status) = job.status() {
            map.serialize_entry("status", status)?;
        }
        if let Some(last) = job.last_probe() {
            map.serialize_entry("lastProbe", &ProbeView::of(last))?;
        }
        if let Some(error) = job.error() {
            map.serialize_entry("error", error)?;
        }
        map.end()
    }
}

impl JobView<'_> {
    /// The fields that only jobs of this type have, besides the specification.
    fn kind_entries<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        match &self.job.spec().kind {
            Kind::OneOff { .. } => Ok(()),
            Kind::Continuous { .. } => {
                map.serialize_entry("killRequested", &self.job.is_kill_requested())
            }
            Kind::Cron(_) => {
                map.serialize_entry("skippedRuns", &SkippedView::of(self.job.skipped()))?;
                map.serialize_entry("killRequested", &self.job.is_kill_requested())
            }
        }
    }
}

impl ResultView<'_> {
    pub(super) fn of(record: &RunRecord) -> ResultView<'_> {
        ResultView {
            run: record.number,
            trigger: record.trigger.name(),
            exit_code: record.exit_code(),
            signal: record.signal().map(Shows),
            reason: record.reason.name(),
            success: record.success,
            error: record.error(),
            started_at: Time(record.started_at),
            finished_at: Time(record.finished_at),
            duration_ms: u64::try_from(record.duration.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SkippedView {
    forbidden: u64,
    queue_full: u64,
    missed: u64,
    blocked: u64,
}

impl SkippedView {
    fn of(skipped: Skipped) -> SkippedView {
        let Skipped { forbidden, queue_full, missed, blocked } = skipped;
        SkippedView { forbidden, queue_full, missed, blocked }
    }
}

#[derive(Serialize)]
struct ProbeView<'a> {
    kind: &'static str,
    ok: bool,
    at: Time,
    message: &'a str,
}

impl ProbeView<'_> {
    fn of(last: &LastProbe) -> ProbeView<'_> {
        ProbeView { kind: last.kind, ok: last.ok, at: Time(last.at), message: &last.message }
    }
}

/// A time, as RFC 3339 in UTC with milliseconds.
pub(super) struct Time(pub(super) Wall);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_rfc3339(self.0))
    }
}

/// Anything that can be displayed, as text.
pub(super) struct Shows<T>(pub(super) T);

impl<T: Display> Serialize for Shows<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

fn origin_name(origin: Origin) -> &'static str {
    match origin {
        Origin::Api => "api",
        Origin::Config => "config",
    }
}

/// To compare an id with a pattern takes as long as to write so many bytes.
pub(super) const BYTES_A_PATTERN: usize = 16;

pub(super) const STATES: [&str; 10] = [
    "idle",
    "waiting",
    "starting",
    "running",
    "backoff",
    "scheduled",
    "stopping",
    "succeeded",
    "failed",
    "killed",
];
const TYPES: [&str; 3] = ["continuous", "one-off", "cron"];
