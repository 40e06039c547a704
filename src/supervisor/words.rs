//! Events in words, for the log and for followers: `restarting in 100 ms, number 2 in a row`. The
//! job and the run are given separately.

use std::fmt::{self, Display, Formatter};

use super::{EventKind, Happened, NotCalled, Request, SkipReason, State};
use crate::job::{JobId, Pid};

impl EventKind {
    /// The job that it is about, if there is one.
    pub fn job(&self) -> Option<&JobId> {
        match self {
            EventKind::Job { id, .. } => Some(id),
            EventKind::ShuttingDown { because_of, .. } => because_of.as_ref(),
            EventKind::KillingAll { .. } => None,
        }
    }
}

impl Happened {
    /// The run that it is about, if there is one.
    pub fn run(&self) -> Option<u64> {
        match self {
            Happened::Started { run, .. }
            | Happened::Deferred { run, .. }
            | Happened::Overdue { run }
            | Happened::Unseen { run }
            | Happened::Calls { run, .. }
            | Happened::Ready { run }
            | Happened::CommandFailed { run, .. }
            | Happened::Unready { run, .. }
            | Happened::Unhealthy { run, .. }
            | Happened::LogFile { run, .. } => Some(*run),
            Happened::Ended { ending, .. } => Some(ending.run),
            Happened::Created
            | Happened::Replaced
            | Happened::Asked(_)
            | Happened::Waits { .. }
            | Happened::Renewed { .. }
            | Happened::Restarting { .. }
            | Happened::ExitsAtOnce
            | Happened::Skipped(_)
            | Happened::Called { .. }
            | Happened::Finished(_)
            | Happened::Expired
            | Happened::Removed { .. } => None,
        }
    }
}

impl Display for EventKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            EventKind::Job { what, .. } => what.fmt(f),
            EventKind::ShuttingDown { because_of: Some(job), exit_code, .. } => {
                let job = job.as_str();
                write!(f, "critical job {job} has ended: shutting down with exit code {exit_code}")
            }
            EventKind::ShuttingDown { because_of: None, live_runs, .. } => {
                write!(f, "shutting down; runs to stop: {live_runs}")
            }
            EventKind::KillingAll { is_overdue: true, live_runs } => {
                write!(f, "the time for the shutdown is up; runs to kill: {live_runs}")
            }
            EventKind::KillingAll { is_overdue: false, live_runs } => {
                write!(f, "asked again to shut down; runs to kill: {live_runs}")
            }
        }
    }
}

impl Display for Happened {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Happened::Created => f.write_str("created"),
            Happened::Replaced => f.write_str("replaced"),
            Happened::Asked(request) => write!(f, "{request} requested"),
            Happened::Started { pid: Pid(pid), streak: 0, .. } => {
                write!(f, "started as process {pid}")
            }
            Happened::Started { pid: Pid(pid), streak, .. } => {
                write!(f, "started as process {pid}, after restart {streak} in a row")
            }
            Happened::Ended { ending, .. } => ending.fmt(f),
            Happened::Waits { dependency, condition, others: 0 } => {
                write!(f, "waits for {dependency} to {}", condition.verb())
            }
            Happened::Waits { dependency, condition, others } => {
                let verb = condition.verb();
                write!(f, "waits for {dependency} to {verb}, and for {others} more")
            }
            Happened::Renewed { dependency } => {
                write!(f, "restarting, because of a new run of {dependency}")
            }
            Happened::Deferred { error, .. } => {
                write!(f, "deferred, because this machine is short of something: {error}")
            }
            Happened::Overdue { .. } => {
                f.write_str("has not ended in its grace period, and is killed")
            }
            Happened::Unseen { .. } => {
                f.write_str("/proc does not show whether all of its leftovers are gone")
            }
            Happened::CommandFailed { role, why, .. } => {
                write!(f, "its {} has failed: {why}", role.field())
            }
            Happened::Ready { .. } => f.write_str("is ready"),
            Happened::Unready { why, .. } => write!(f, "is not ready any more: {why}"),
            Happened::Unhealthy { why, .. } => write!(f, "is unhealthy, and is stopped: {why}"),
            Happened::Restarting { after, streak } => {
                write!(f, "restarting in {} ms, number {streak} in a row", after.as_millis())
            }
            Happened::ExitsAtOnce => f.write_str(BACKGROUND_HINT),
            Happened::Skipped(reason) => reason.fmt(f),
            Happened::LogFile { path, what, .. } => write!(f, "log file {path} {what}"),
            Happened::Calls { handler, refused: None, .. } => write!(f, "calls job {handler}"),
            Happened::Calls { handler, refused: Some(why), .. } => {
                write!(f, "cannot call job {handler}: {why}")
            }
            Happened::Called { by, failed } => {
                write!(f, "called by job {by}, whose run {failed} has failed")
            }
            Happened::Finished(State::Failed) => f.write_str("failed, and is not started again"),
            Happened::Finished(state) => f.write_str(state.name()),
            Happened::Expired => f.write_str("removes itself: its time to live is over"),
            Happened::Removed { .. } => f.write_str("removed"),
        }
    }
}

impl Display for Request {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Request::Start => f.write_str("start"),
            Request::Restart => f.write_str("restart"),
            Request::Run => f.write_str("run"),
            Request::Signal(signal) => signal.fmt(f),
            Request::Reload => f.write_str("reload"),
            Request::Kill => f.write_str("kill"),
            Request::Remove => f.write_str("removal"),
        }
    }
}

impl Display for NotCalled {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NotCalled::Missing => "there is no such job",
            NotCalled::OtherType => "it is not a one-off job",
            NotCalled::Killed => "it was killed; start it first",
            NotCalled::Circle => "its own failure has led to this one",
        })
    }
}

impl Display for SkipReason {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            SkipReason::Forbidden => f.write_str("a run is skipped: another is active"),
            SkipReason::Blocked => {
                f.write_str("a run is skipped: what the job depends on is not there")
            }
            SkipReason::QueueFull => f.write_str("a run is skipped: another is already waiting"),
            SkipReason::Missed(count) => {
                write!(f, "runs skipped, because they were too late: {count}")
            }
        }
    }
}

const BACKGROUND_HINT: &str = "its first process exits with success at once, as a program does \
     that goes into the background: run it in the foreground, so that k1s can supervise it";
