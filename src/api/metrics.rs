//! All metrics: the name of each, what it means, and where its values come from.
//!
//! Names and units follow <https://prometheus.io/docs/practices/naming>. The id of a job is the
//! label `id`, because Prometheus itself sets the label `job`. Counters are shown from the start,
//! as 0, so that Prometheus sees their first increase, but only for jobs that they apply to.

use super::exposition::{Kind, Lines, Name};
use super::view::STATES;
use crate::job::spec::Kind as JobKind;
use crate::job::{Stream, type_name};
use crate::supervisor::{
    Job, RUN_BOUNDS, RunOutcome, Skipped, Supervisor, TURN_BOUNDS, Usage, Vitals,
};
use crate::time::Now;

/// A metric.
#[derive(Debug)]
pub struct Metric {
    /// Its name, and what it means.
    pub name: Name,
    pub(super) source: Source,
}

/// Where the values of a metric come from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    /// From k1s itself, whatever its jobs do. Few lines.
    Own(fn(&Sight<'_>, &mut Lines<'_>)),
    /// From all jobs together, and only for those to whom all are visible. Few lines.
    Sum(fn(&Sight<'_>, &mut Lines<'_>)),
    /// From each job.
    Jobs(fn(&Job, &mut Sight<'_>, &mut Lines<'_>)),
}

/// What the metrics are taken from.
pub(super) struct Sight<'a> {
    pub(super) supervisor: &'a Supervisor,
    pub(super) now: Now,
    /// How many jobs are in each state, of those written so far.
    pub(super) by_state: &'a mut ByState,
}

/// A number for each of [`STATES`].
pub(super) type ByState = [u64; STATES.len()];

/// All metrics, in the order of the answer.
pub static METRICS: [Metric; 43] = [
    own("k1s_build_info", Kind::Info, "The version of k1s", |_, lines| {
        lines.labelled(&[("version", env!("CARGO_PKG_VERSION"))], 1u64);
    }),
    own(
        "process_start_time_seconds",
        Kind::Gauge,
        "When k1s was started, in seconds since 1970-01-01T00:00:00Z",
        |sight, lines| lines.value(sight.vitals().started),
    ),
    own(
        "process_cpu_seconds_total",
        Kind::Counter,
        "CPU time that k1s itself has used",
        |sight, lines| lines.value(sight.vitals().cpu_time),
    ),
    own("process_resident_memory_bytes", Kind::Gauge, "Memory of k1s itself", |sight, lines| {
        lines.value(sight.vitals().resident_bytes)
    }),
    own(
        "process_virtual_memory_bytes",
        Kind::Gauge,
        "Address space of k1s itself",
        |sight, lines| lines.value(sight.vitals().virtual_bytes),
    ),
    sum(
        "process_open_fds",
        Kind::Gauge,
        "Descriptors that k1s has open: two for each running job, one for each log file and for each \
         connection",
        |sight, lines| {
            if let Some(open) = sight.vitals().open_descriptors {
                lines.value(open);
            }
        },
    ),
    own("process_max_fds", Kind::Gauge, "Descriptors that k1s may have open", |sight, lines| {
        lines.value(sight.vitals().max_descriptors)
    }),
    own(
        "k1s_heap_bytes",
        Kind::Gauge,
        "Memory that k1s has asked its allocator for and not given back",
        |sight, lines| lines.value(sight.vitals().heap_bytes),
    ),
    own(
        "k1s_loop_turn_duration_seconds",
        Kind::Histogram,
        "How long turns of the loop took, without the time that it waited",
        |sight, lines| lines.histogram(&TURN_SECONDS, &sight.vitals().turns),
    ),
    own(
        "k1s_loop_longest_turn_seconds",
        Kind::Gauge,
        "How long the longest turn of the loop since the start of k1s took",
        |sight, lines| lines.value(sight.vitals().longest_turn),
    ),
    sum("k1s_timers", Kind::Gauge, "Timers that are set", |sight, lines| {
        lines.value(sight.supervisor.timers() as u64 + sight.vitals().timers);
    }),
    own("k1s_connections", Kind::Gauge, "Connections to the API that are open", |sight, lines| {
        lines.value(sight.vitals().connections)
    }),
    own(
        "k1s_connections_accepted_total",
        Kind::Counter,
        "Connections to the API that were accepted",
        |sight, lines| lines.value(sight.vitals().accepted),
    ),
    own(
        "k1s_connection_buffer_bytes",
        Kind::Gauge,
        "Memory of the buffers of all connections",
        |sight, lines| lines.value(sight.vitals().connection_bytes),
    ),
    sum(
        "k1s_console_queue_bytes",
        Kind::Gauge,
        "What waits for the readers of k1s's stdout and stderr",
        |sight, lines| lines.value(sight.vitals().console_bytes),
    ),
    sum(
        "k1s_failing_log_files",
        Kind::Gauge,
        "Log files that cannot be written",
        |sight, lines| lines.value(sight.vitals().failing_files),
    ),
    sum(
        "k1s_log_file_missing_bytes_total",
        Kind::Counter,
        "Output that could not be written to log files",
        |sight, lines| lines.value(sight.vitals().missing_bytes),
    ),
    sum(
        "k1s_captured_bytes",
        Kind::Gauge,
        "Memory of what is kept of the output of all jobs",
        |sight, lines| lines.value(sight.supervisor.output_memory()),
    ),
    own(
        "k1s_captured_limit_bytes",
        Kind::Gauge,
        "The most that k1s_captured_bytes may be: output.memory of the config",
        |sight, lines| lines.value(sight.supervisor.output_memory_limit()),
    ),
    sum(
        "k1s_live_runs",
        Kind::Gauge,
        "Runs that have processes or are about to",
        |sight, lines| lines.value(sight.supervisor.live_runs()),
    ),
    sum("k1s_events_total", Kind::Counter, "Events in the life of jobs", |sight, lines| {
        lines.value(sight.supervisor.events().next());
    }),
    sum(
        "k1s_runs_total",
        Kind::Counter,
        "Finished runs of all jobs, those that were removed included",
        |sight, lines| by_outcome(lines, |outcome| sight.supervisor.totals().runs(outcome)),
    ),
    sum(
        "k1s_restarts_total",
        Kind::Counter,
        "Restarts and retries of all jobs, those that were removed included",
        |sight, lines| lines.value(sight.supervisor.totals().restarts),
    ),
    sum(
        "k1s_skipped_runs_total",
        Kind::Counter,
        "Runs that schedules wanted and that were not started, of all jobs, those that were removed included",
        |sight, lines| by_reason(lines, sight.supervisor.totals().skipped),
    ),
    sum(
        "k1s_output_bytes_total",
        Kind::Counter,
        "What all jobs have written, those that were removed included",
        |sight, lines| by_stream(lines, |stream| sight.supervisor.totals().output(stream)),
    ),
    of_jobs("k1s_job_info", Kind::Info, "The job's type and labels", job_info),
    of_jobs("k1s_job_state", Kind::Gauge, "1 for the state that the job is in", job_state),
    of_jobs(
        "k1s_job_ready",
        Kind::Gauge,
        "1 if the newest run of the job has a process and is ready, otherwise 0",
        |job, _, lines| lines.value(u64::from(job.ready() == Some(true))),
    ),
    own("k1s_jobs", Kind::Gauge, "Jobs in each state", |sight, lines| {
        for (state, count) in STATES.iter().zip(sight.by_state.iter()) {
            lines.labelled(&[("state", state)], *count);
        }
    }),
    of_jobs(
        "k1s_job_created_timestamp_seconds",
        Kind::Gauge,
        "When the job was registered, in seconds since 1970-01-01T00:00:00Z",
        |job, _, lines| lines.value(job.created_at()),
    ),
    of_jobs("k1s_job_runs_total", Kind::Counter, "Finished runs of the job", |job, _, lines| {
        let counts = job.counts();
        by_outcome(lines, |outcome| counts.map_or(0, |counts| counts.runs(outcome)));
    }),
    of_jobs(
        "k1s_job_restarts_total",
        Kind::Counter,
        "How often the job was started again by itself, after a run or a failed try",
        |job, _, lines| match &job.spec().kind {
            JobKind::Continuous { .. } | JobKind::OneOff { .. } => lines.value(job.restarts()),
            JobKind::Cron(_) => {}
        },
    ),
    of_jobs(
        "k1s_job_skipped_runs_total",
        Kind::Counter,
        "Runs that the job's schedule wanted and that were not started",
        |job, _, lines| match &job.spec().kind {
            JobKind::Cron(_) => by_reason(lines, job.skipped()),
            JobKind::Continuous { .. } | JobKind::OneOff { .. } => {}
        },
    ),
    of_jobs(
        "k1s_job_last_exit_code",
        Kind::Gauge,
        "The exit code of the job's newest finished run",
        |job, _, lines| {
            if let Some(code) = job.last_exit_code() {
                lines.value(u64::from(code));
            }
        },
    ),
    of_jobs(
        "k1s_job_last_start_timestamp_seconds",
        Kind::Gauge,
        "When the job's newest run was started, in seconds since 1970-01-01T00:00:00Z",
        |job, _, lines| {
            if let Some(at) = job.started_at() {
                lines.value(at);
            }
        },
    ),
    of_jobs(
        "k1s_job_last_success_timestamp_seconds",
        Kind::Gauge,
        "When a run of the job last ended by itself with success, in seconds since 1970-01-01T00:00:00Z",
        |job, _, lines| {
            if let Some(at) = job.counts().and_then(|counts| counts.last_success()) {
                lines.value(at);
            }
        },
    ),
    of_jobs(
        "k1s_job_next_run_timestamp_seconds",
        Kind::Gauge,
        "When the job's next scheduled run or restart is due, in seconds since 1970-01-01T00:00:00Z",
        |job, sight, lines| {
            if let Some(at) = job.next_run_at(sight.now) {
                lines.value(at);
            }
        },
    ),
    of_jobs(
        "k1s_job_run_duration_seconds",
        Kind::Histogram,
        "How long finished runs of the job took, of those that could be started",
        |job, _, lines| {
            if let Some(counts) = job.counts() {
                lines.histogram(&RUN_SECONDS, counts.durations());
            }
        },
    ),
    of_jobs(
        "k1s_job_output_bytes_total",
        Kind::Counter,
        "What runs of the job have written",
        |job, _, lines| {
            let counts = job.counts();
            by_stream(lines, |stream| counts.map_or(0, |counts| counts.output(stream)));
        },
    ),
    of_jobs(
        "k1s_job_captured_bytes",
        Kind::Gauge,
        "Memory of what is kept of the job's output",
        |job, _, lines| {
            lines.cost += COST_OF_RESULT * job.results().len();
            lines.value(job.captured_bytes());
        },
    ),
    of_jobs(
        "k1s_job_processes",
        Kind::Gauge,
        "Living processes of the job's runs, the first of each and all that come from it",
        |job, sight, lines| of_usage(job, sight, lines, |usage| usage.processes),
    ),
    of_jobs(
        "k1s_job_resident_memory_bytes",
        Kind::Gauge,
        "Memory of these processes, what two of them share counted twice",
        |job, sight, lines| of_usage(job, sight, lines, |usage| usage.resident_bytes),
    ),
    of_jobs(
        "k1s_job_cpu_seconds_total",
        Kind::Counter,
        "CPU time that processes of the job's runs have used",
        |job, _, lines| {
            lines.value(job.counts().map(|counts| counts.cpu_time()).unwrap_or_default())
        },
    ),
];

impl Source {
    /// Whether it is about all jobs together.
    pub(super) fn is_sum(self) -> bool {
        match self {
            Source::Sum(_) => true,
            Source::Own(_) | Source::Jobs(_) => false,
        }
    }
}

impl Sight<'_> {
    fn vitals(&self) -> &Vitals {
        self.supervisor.vitals()
    }
}

fn job_info(job: &Job, _: &mut Sight<'_>, lines: &mut Lines<'_>) {
    let mut names: Vec<(String, &str)> = Vec::new();
    for (name, value) in &job.spec().labels {
        let name = label_name(name);
        let is_new = names.iter().all(|(known, _)| *known != name);
        if is_new && names.len() < MOST_LABELS && name.len() + value.len() <= LONGEST_LABEL {
            names.push((name, value));
        }
    }
    let labels = names.iter().map(|(name, value)| (name.as_str(), *value));
    let labels: Vec<_> =
        [("type", type_name(&job.spec().kind))].into_iter().chain(labels).collect();
    lines.labelled(&labels, 1u64);
}

/// `label_` and the name, with `_` for every character that Prometheus does not allow in it.
fn label_name(name: &str) -> String {
    let letters = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' });
    "label_".chars().chain(letters).collect()
}

/// Only the state that the job is in: a line for each possible state would be nine lines for each
/// job, eight of them 0. Prometheus notices when a line disappears.
fn job_state(job: &Job, sight: &mut Sight<'_>, lines: &mut Lines<'_>) {
    let name = job.state().name();
    let index = STATES.iter().position(|state| *state == name);
    if let Some(count) = index.and_then(|index| sight.by_state.get_mut(index)) {
        *count += 1;
    }
    lines.labelled(&[("state", name)], 1u64);
}

fn of_usage(job: &Job, sight: &Sight<'_>, lines: &mut Lines<'_>, of: fn(Usage) -> u64) {
    if let Some(usage) = sight.supervisor.usage_of(job) {
        lines.value(of(usage));
    }
}

fn by_outcome(lines: &mut Lines<'_>, count: impl Fn(RunOutcome) -> u64) {
    for outcome in RunOutcome::ALL {
        lines.labelled(&[("outcome", outcome.name())], count(outcome));
    }
}

fn by_reason(lines: &mut Lines<'_>, skipped: Skipped) {
    let Skipped { forbidden, queue_full, missed, blocked } = skipped;
    for (reason, count) in [
        ("forbidden", forbidden),
        ("queue-full", queue_full),
        ("missed", missed),
        ("blocked", blocked),
    ] {
        lines.labelled(&[("reason", reason)], count);
    }
}

fn by_stream(lines: &mut Lines<'_>, count: impl Fn(Stream) -> u64) {
    for (name, stream) in [("stdout", Stream::Stdout), ("stderr", Stream::Stderr)] {
        lines.labelled(&[("stream", name)], count(stream));
    }
}

const fn own(
    name: &'static str,
    kind: Kind,
    help: &'static str,
    write: fn(&Sight<'_>, &mut Lines<'_>),
) -> Metric {
    Metric { name: Name { name, kind, help }, source: Source::Own(write) }
}

const fn sum(
    name: &'static str,
    kind: Kind,
    help: &'static str,
    write: fn(&Sight<'_>, &mut Lines<'_>),
) -> Metric {
    Metric { name: Name { name, kind, help }, source: Source::Sum(write) }
}

const fn of_jobs(
    name: &'static str,
    kind: Kind,
    help: &'static str,
    write: fn(&Job, &mut Sight<'_>, &mut Lines<'_>),
) -> Metric {
    Metric { name: Name { name, kind, help }, source: Source::Jobs(write) }
}

/// Looking at a result takes as long as writing so many bytes.
const COST_OF_RESULT: usize = 32;

/// [`RUN_BOUNDS`] in seconds. OpenMetrics demands a decimal point.
const RUN_SECONDS: [&str; RUN_BOUNDS.len()] =
    ["0.1", "1.0", "10.0", "60.0", "600.0", "3600.0", "21600.0"];

/// [`TURN_BOUNDS`] in seconds.
const TURN_SECONDS: [&str; TURN_BOUNDS.len()] = ["0.0001", "0.001", "0.01", "0.1", "1.0"];

/// More labels are left out, and longer ones: a job may have a megabyte of them.
const MOST_LABELS: usize = 64;
/// In bytes, the name and the value together.
const LONGEST_LABEL: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::time::Duration;

    #[test]
    fn bounds_are_written_as_seconds() {
        let text = |bound: &Duration| format!("{:?}", bound.as_secs_f64());
        assert!(RUN_BOUNDS.iter().map(text).eq(RUN_SECONDS));
        assert!(TURN_BOUNDS.iter().map(text).eq(TURN_SECONDS));
    }

    /// <https://prometheus.io/docs/practices/naming>
    #[test]
    fn names_say_what_they_are() {
        let names: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name.name).collect();
        assert_eq!(names.len(), METRICS.len(), "each once");
        for Metric { name: Name { name, kind, help }, source } in &METRICS {
            assert!(name.starts_with("k1s_") || name.starts_with("process_"), "{name}");
            let is_of_jobs = matches!(source, Source::Jobs(_));
            assert_eq!(name.starts_with("k1s_job_"), is_of_jobs, "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            assert_eq!(name.ends_with("_info"), *kind == Kind::Info, "{name}");
            assert!(!help.is_empty() && !help.ends_with('.'), "{name}: {help}");
            assert!(help.is_ascii() && !help.contains(['\\', '"', '\n']), "{name}: {help}");
        }
    }
}
