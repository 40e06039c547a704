//! Events in words, for the log and for followers: `restarting in 100 ms, number 2 in a row`. The
//! job and the run are given separately.

use std::fmt::{self, Display, Formatter};

use super::{Chore, Event, EventKind, Happened, NotCalled, Request, SkipReason, State};
use crate::access::Visible;
use crate::job::spec::Condition;
use crate::job::{JobId, Pid};

impl EventKind {
    /// The job that it is about, if there is one.
    pub fn job(&self) -> Option<&JobId> {
        match self {
            EventKind::Job { id, .. } => Some(id),
            EventKind::ShuttingDown { because_of, .. } => because_of.as_ref(),
            EventKind::Asked(_) | EventKind::KillingAll { .. } => None,
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

impl Event {
    /// The event in words, for somebody to whom these jobs are visible: others are not named.
    pub fn in_words<'a>(&'a self, visible: &'a Visible) -> impl Display + 'a {
        InWords { event: self, visible }
    }
}

struct InWords<'a> {
    event: &'a Event,
    visible: &'a Visible,
}

impl Display for InWords<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.event.kind {
            EventKind::Job { what, .. } => self.happened(what, f)?,
            EventKind::Asked(Chore::Reload) => f.write_str("reload of the config requested")?,
            EventKind::Asked(Chore::Reopen) => f.write_str("reopening of log files requested")?,
            EventKind::ShuttingDown { because_of: Some(job), exit_code, .. } => {
                match self.visible.has(job.as_str()) {
                    true => write!(f, "critical job {job}")?,
                    false => f.write_str("a critical job")?,
                }
                write!(f, " has ended: shutting down with exit code {exit_code}")?;
            }
            EventKind::ShuttingDown { because_of: None, live_runs, .. } => {
                self.shutdown("shutting down", "runs to stop", *live_runs, f)?
            }
            EventKind::KillingAll { is_overdue: true, live_runs } => {
                self.shutdown("the time for the shutdown is up", "runs to kill", *live_runs, f)?
            }
            EventKind::KillingAll { is_overdue: false, live_runs } => {
                self.shutdown("asked again to shut down", "runs to kill", *live_runs, f)?
            }
        }
        match &self.event.by {
            Some(asker) => write!(f, " by {asker}"),
            None => Ok(()),
        }
    }
}

impl InWords<'_> {
    fn happened(&self, what: &Happened, f: &mut Formatter<'_>) -> fmt::Result {
        match what {
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
            Happened::Waits { dependency, condition, others } => {
                self.waits(dependency, *condition, *others, f)
            }
            Happened::Renewed { dependency } => {
                write!(f, "restarting, because of a new run of {}", self.job("", dependency))
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
            Happened::Calls { handler, refused, .. } => self.calls(handler, *refused, f),
            Happened::Called { by, failed } if self.visible.has(by.as_str()) => {
                write!(f, "called by job {by}, whose run {failed} has failed")
            }
            Happened::Called { .. } => f.write_str("called by another job, which has failed"),
            Happened::Finished(State::Failed) => f.write_str("failed, and is not started again"),
            Happened::Finished(state) => f.write_str(state.name()),
            Happened::Expired => f.write_str("removes itself: its time to live is over"),
            Happened::Removed { .. } => f.write_str("removed"),
        }
    }

    /// How many runs there are is for those alone who see all jobs.
    fn shutdown(&self, what: &str, runs: &str, count: usize, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(what)?;
        match self.visible.is_all() {
            true => write!(f, "; {runs}: {count}"),
            false => Ok(()),
        }
    }

    fn waits(
        &self,
        dependency: &JobId,
        condition: Condition,
        others: usize,
        f: &mut Formatter<'_>,
    ) -> fmt::Result {
        match self.visible.has(dependency.as_str()) {
            true => write!(f, "waits for {dependency} to {}", condition.verb())?,
            false => f.write_str("waits for another job")?,
        }
        match others {
            0 => Ok(()),
            others => write!(f, ", and for {others} more"),
        }
    }

    /// Why a job that is not visible is not called would say whether it exists.
    fn calls(
        &self,
        handler: &JobId,
        refused: Option<NotCalled>,
        f: &mut Formatter<'_>,
    ) -> fmt::Result {
        let job = self.job("job ", handler);
        match refused {
            None => write!(f, "calls {job}"),
            Some(why) if self.visible.has(handler.as_str()) => {
                write!(f, "cannot call {job}: {why}")
            }
            Some(_) => write!(f, "cannot call {job}"),
        }
    }

    fn job(&self, before: &str, id: &JobId) -> String {
        match self.visible.has(id.as_str()) {
            true => format!("{before}{id}"),
            false => "another job".to_owned(),
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
