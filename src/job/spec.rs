//! The specification of a job. A [`JobSpec`] is valid: nothing needs to check it again.
//!
//! The README has a table of the fields, their defaults and bounds; `parse` reads them from JSON
//! and TOML.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use super::probe::{Check, HttpUrl, Probe, ProbeRole, TcpAddress};
use super::{JobId, Signal};
use crate::schedule::Schedule;

/// A job as it was registered, with all defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct JobSpec {
    /// The type of the job, with the fields that only that type has.
    pub kind: Kind,
    /// What to execute, and what it inherits.
    pub command: Command,
    /// Whether it starts when it is registered; otherwise it is idle until a request.
    pub autostart: bool,
    /// How long a run may take before it is stopped; `None`: no limit.
    pub timeout: Option<Duration>,
    /// How it is found out whether a run is ready; `None`: it is as soon as it has a process. Not
    /// for cron jobs, whose runs end by themselves and may be several.
    pub readiness: Option<Box<Probe>>,
    /// How it is found out whether a run is still well. Not for cron jobs.
    pub liveness: Option<Box<Probe>>,
    /// How long a run may take to become ready before it is stopped; `None`: no limit. Only with
    /// `readiness`.
    pub start_timeout: Option<Duration>,
    /// The exit codes that count as success; never empty.
    pub success_exit_codes: BTreeSet<u8>,
    /// Whether k1s shuts down, with the exit code of the job, when the job has ended for good.
    pub critical: Critical,
    /// The jobs that it waits for before each start, and for what; at most 100.
    pub depends_on: BTreeMap<JobId, Dependency>,
    /// The one-off job that is run when this one fails.
    pub on_failure: Option<JobId>,
    /// How a run of a continuous job is asked to load its configuration again.
    pub reload: ReloadSpec,
    /// How a run is asked to end.
    pub stop: StopSpec,
    /// What is kept of the output.
    pub output: OutputSpec,
    /// For filters and metrics.
    pub labels: BTreeMap<String, String>,
    /// Names in `command.environment` whose values are never shown.
    pub secret_environment: BTreeSet<String>,
}

/// The type of a job, without its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobType {
    /// A daemon.
    Continuous,
    /// A task.
    OneOff,
    /// Runs that a schedule starts.
    Cron,
}

/// `critical`: which end of the job shuts k1s down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Critical {
    /// None.
    No,
    /// A failure.
    OnFailure,
    /// Any end.
    Yes,
}

/// An entry of `dependsOn`: what another job must have reached before this one starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// What it must have reached.
    pub condition: Condition,
    /// Whether this job is restarted when another run of that job has reached it.
    pub restart: bool,
}

/// What a job waits for in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// It has a process.
    Started,
    /// It is ready.
    Ready,
    /// It is over, with success.
    Succeeded,
    /// It is over.
    Ended,
}

/// The three types of job.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A daemon: restarted after each exit.
    Continuous {
        /// `restartOnFailure` as it was given (default true); `restart.policy` decides.
        restart_on_failure: bool,
        /// Whether and how soon it is restarted.
        restart: Restart,
    },
    /// A task: run once, and again only after failures, up to `retries` times.
    OneOff {
        /// How often it is run again after a failure.
        retries: u32,
        /// The delays before retries.
        backoff: Backoff,
        /// How long after its end the job removes itself; `None`: it stays.
        ttl_after_finished: Option<Duration>,
    },
    /// Runs that a schedule starts.
    Cron(CronSpec),
}

/// The fields that only cron jobs have.
#[derive(Clone, Debug, PartialEq)]
pub struct CronSpec {
    /// When runs are due.
    pub schedule: Schedule,
    /// What happens to a run that is due while another is active.
    pub concurrency: Concurrency,
    /// Whether the schedule starts nothing.
    pub suspend: bool,
    /// How late a run may start, before it is skipped.
    pub starting_deadline: Duration,
    /// The most that is added to each time; how much depends on the id.
    pub jitter: Duration,
}

/// `concurrencyPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concurrency {
    /// The new run is skipped.
    Forbid,
    /// The new run waits; at most one may.
    Queue,
    /// Both run.
    Allow,
    /// The old run is stopped, then the new one starts.
    Replace,
}

/// `restart` of a continuous job.
#[derive(Clone, Debug, PartialEq)]
pub struct Restart {
    /// After which exits the job is started again.
    pub policy: RestartPolicy,
    /// The delays before restarts.
    pub backoff: Backoff,
    /// After how many restarts in a row the job has failed; a run that lived for
    /// `backoff.reset_after` begins a new row. `None`: no limit.
    pub max_restarts: Option<u32>,
}

/// `restart.policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    /// After every exit.
    Always,
    /// After a failed run; a successful one ends the job.
    OnFailure,
    /// Never: the first exit ends the job.
    Never,
    /// What `restartOnFailure: false` means: after a successful run; a failed one ends the job.
    OnSuccess,
}

/// The delays between short runs: 0, then `initial`, then times `factor` each, up to `max`.
#[derive(Clone, Debug, PartialEq)]
pub struct Backoff {
    /// The delay before the second restart in a row.
    pub initial: Duration,
    /// The longest delay.
    pub max: Duration,
    /// How many times longer each delay is than the one before; 1 or more.
    pub factor: f64,
    /// After a run that lived this long the delays begin anew.
    pub reset_after: Duration,
}

/// What is executed, and what it inherits.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// Looked up in the PATH of the job if it contains no `/`. Without NUL bytes, not empty.
    pub executable: String,
    /// The arguments after the first. Without NUL bytes.
    pub arguments: Vec<String>,
    /// Absolute.
    pub working_directory: String,
    /// Added to k1s's own environment. Names are not empty and contain no `=` or NUL.
    pub environment: BTreeMap<String, String>,
    /// Files of variables, read for each run; `environment` wins over them, and the later over the
    /// earlier. Absolute paths without NUL bytes; a file may be missing if `-` is before its path.
    pub environment_files: Vec<String>,
    /// Names of variables, and the absolute paths of the files that hold their values, read for each
    /// run. `environment` wins over them, and they over `environment_files`.
    pub environment_from_file: BTreeMap<String, String>,
    /// Whether to start from an empty environment instead of k1s's own.
    pub clear_environment: bool,
    /// The text on standard input, which then ends; `None`: `/dev/null`.
    pub stdin: Option<String>,
    /// The user to run as: a name or a number; `None`: k1s's own.
    pub user: Option<String>,
    /// The group to run as: a name or a number; `None`: the user's own.
    pub group: Option<String>,
    /// File mode creation mask, 0 to 0o777; `None`: k1s's own.
    pub umask: Option<u32>,
    /// Nice value, -20 to 19; `None`: k1s's own.
    pub nice: Option<i32>,
    /// How likely the kernel kills it when memory runs out, -1000 to 1000 (proc(5)); `None`: like
    /// k1s.
    pub oom_score_adj: Option<i32>,
    /// Resource limits, at most one for each resource.
    pub limits: Vec<ResourceLimit>,
}

/// One of `limits`: setrlimit(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResourceLimit {
    /// Which resource.
    pub resource: Resource,
    /// The soft limit in the unit of the resource; `None`: unlimited.
    pub soft: Option<u64>,
    /// The hard limit, not below the soft one; `None`: unlimited.
    pub hard: Option<u64>,
}

/// The resources of getrlimit(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "named as in getrlimit(2)")]
pub enum Resource {
    As,
    Core,
    Cpu,
    Data,
    Fsize,
    Memlock,
    Msgqueue,
    Nice,
    Nofile,
    Nproc,
    Rss,
    Rtprio,
    Rttime,
    Sigpending,
    Stack,
}

/// `reload`: how a run is asked to load its configuration again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReloadSpec {
    /// By a signal to its first process.
    Signal(Signal),
    /// By a command: the executable and its arguments; not empty.
    Exec(Vec<String>),
}

/// `stop`: how a run is asked to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopSpec {
    /// Sent first.
    pub signal: Signal,
    /// The grace period before SIGKILL.
    pub timeout: Duration,
    /// Which processes get the signal.
    pub scope: StopScope,
    /// The command that asks in place of the signal: the executable and its arguments, not empty.
    /// If it fails, the signal asks.
    pub exec: Option<Vec<String>>,
}

/// `stop.scope`: which processes get the stop signal. SIGKILL always goes to all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopScope {
    /// All processes of the run.
    Group,
    /// The first process, which ends its workers by itself. Those that are left when it has ended
    /// get the signal then.
    Process,
}

/// `output`: how much is kept of it, and where else it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputSpec {
    /// How many bytes are kept of each stream of each run: the newest.
    pub limit_bytes: usize,
    /// How many finished runs are kept.
    pub history_limit: usize,
    /// Whether lines also go to k1s's own stdout and stderr.
    pub forward: bool,
    /// The log file that it is also written to.
    pub file: Option<LogFileSpec>,
}

/// `output.file`: a log file for both streams, in the order in which they are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFileSpec {
    /// As it was given, with `{job}` and `{run}` for what [`LogFileSpec::path_for`] fills in. Names
    /// a file, not a directory; without NUL bytes.
    pub path: String,
    /// The size in bytes at which it is rotated; `None`: k1s never rotates it.
    pub max_bytes: Option<u64>,
    /// How many files there may be: the one that is written, and those that were rotated. 1 or
    /// more.
    pub max_files: usize,
}

impl Condition {
    /// The name that it has in `dependsOn`.
    pub const fn name(self) -> &'static str {
        match self {
            Condition::Started => "started",
            Condition::Ready => "ready",
            Condition::Succeeded => "succeeded",
            Condition::Ended => "ended",
        }
    }

    /// What a job does to reach it, after "waits for it to".
    pub fn verb(self) -> &'static str {
        match self {
            Condition::Started => "start",
            Condition::Ready => "be ready",
            Condition::Succeeded => "succeed",
            Condition::Ended => "end",
        }
    }
}

impl Kind {
    /// The type without its fields.
    pub fn job_type(&self) -> JobType {
        match self {
            Kind::Continuous { .. } => JobType::Continuous,
            Kind::OneOff { .. } => JobType::OneOff,
            Kind::Cron(_) => JobType::Cron,
        }
    }
}

impl LogFileSpec {
    /// Whether each run has its own file.
    pub fn is_of_run(&self) -> bool {
        self.path.contains("{run}")
    }

    /// The absolute path of the file for a run of a job that has this working directory. What is
    /// filled in holds no `/`, and is neither `.` nor `..`.
    pub fn path_for(&self, job: &JobId, run: u64, working_directory: &str) -> String {
        let path = self.path.replace("{run}", &run.to_string()).replace("{job}", job.as_str());
        let path: PathBuf = Path::new(working_directory).join(path).components().collect();
        path.to_string_lossy().into_owned()
    }
}

impl JobSpec {
    /// How many arguments, variables, labels and dependencies there are.
    pub fn entries(&self) -> usize {
        let command = &self.command;
        let lists = command.arguments.len()
            + command.environment.len()
            + command.environment_files.len()
            + command.environment_from_file.len();
        let names = self.labels.len() + self.secret_environment.len();
        lists + names + self.depends_on.len()
    }

    /// The probe of a role.
    pub fn probe(&self, role: ProbeRole) -> Option<&Probe> {
        match role {
            ProbeRole::Readiness => self.readiness.as_deref(),
            ProbeRole::Liveness => self.liveness.as_deref(),
        }
    }

    /// Whether commands may be started beside a run: to probe, reload or stop it.
    pub fn has_commands(&self) -> bool {
        let probes = [&self.readiness, &self.liveness].into_iter().flatten();
        self.stop.exec.is_some()
            || matches!(self.reload, ReloadSpec::Exec(_))
            || probes.into_iter().any(|probe| matches!(probe.check, Check::Exec { .. }))
    }

    /// Whether a running process cannot tell the two apart: it sees the command, and what it gets
    /// to report by itself.
    pub fn is_same_process(&self, other: &JobSpec) -> bool {
        let reports = |spec: &JobSpec| {
            let number = match spec.readiness.as_deref() {
                Some(Probe { check: Check::Fd { number }, .. }) => Some(*number),
                Some(_) | None => None,
            };
            (spec.is_notified(), spec.watchdog(), number)
        };
        self.command == other.command && reports(self) == reports(other)
    }

    /// Whether runs report by sd_notify(3).
    pub fn is_notified(&self) -> bool {
        let probes = [&self.readiness, &self.liveness];
        probes.into_iter().flatten().any(|probe| probe.check == Check::Notify)
    }

    /// How long a run may say nothing, if it has a watchdog.
    pub fn watchdog(&self) -> Option<Duration> {
        let liveness = self.liveness.as_deref()?;
        (liveness.check == Check::Notify).then(|| liveness.watchdog())
    }

    /// Whether a run that ended by itself with this exit code was a success.
    pub fn is_success(&self, exit_code: i32) -> bool {
        u8::try_from(exit_code).is_ok_and(|code| self.success_exit_codes.contains(&code))
    }
}

/// How many entries `dependsOn` may have: all of them are looked at before each start.
pub(super) const MOST_DEPENDENCIES: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_log_file_is_filled_in() {
        for (path, filled_in) in [
            ("/var/log/{job}.log", "/var/log/a.b.log"),
            ("{job}-{run}.log", "/srv/a.b-7.log"),
            ("./logs//{run}/{job}", "/srv/logs/7/a.b"),
            ("../{job}{job}", "/srv/../a.ba.b"),
        ] {
            let spec = LogFileSpec { path: path.to_owned(), max_bytes: None, max_files: 1 };
            let job = JobId::parse("a.b").unwrap();
            assert_eq!(spec.path_for(&job, 7, "/srv"), filled_in);
        }
    }
}
