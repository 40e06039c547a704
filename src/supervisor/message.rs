//! Why a job is in its state, and what comes next: one sentence for people.
//!
//! It says what the other fields of a job do not, as of now: how long something has taken, or how
//! long it will still take. `tests/it/scripts/message.txt` has a scene for each sentence.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use super::due::Due;
use super::life::{Job, Next, Phase, Then};
use super::remembered::Outcome;
use super::run::{End, Kill, Leader, Run, RunState};
use super::{Milestone, Progress, Supervisor, Timer};
use crate::access::Visible;
use crate::job::spec::{Check, Condition, Kind};
use crate::job::{Pid, Reason, Signal};
use crate::time::{Mono, Now, Span};

impl Supervisor {
    /// Why the job is in its state, and what comes next: `starts again in 3.2 s, after 4 failures
    /// in a row; the last ended with exit code 1 after 0.4 s`.
    pub fn message(&self, job: &Job, now: Now) -> String {
        self.message_to(&Visible::default(), job, now)
    }

    /// The same, to somebody to whom these jobs are visible: others are not named.
    pub fn message_to(&self, visible: &Visible, job: &Job, now: Now) -> String {
        let before =
            self.core.leaving.get(job.id()).and_then(|key| self.jobs.get(key)).map(Box::as_ref);
        let removal = self.core.timers.deadline(&Timer::Job(job.key()));
        let newest = job.runs.last().map(|run| Timer::Ready(run.key));
        let start_timeout = newest.and_then(|timer| self.core.timers.deadline(&timer));
        let is_left = before.is_none() && self.core.leaving.contains_key(job.id());
        let supervisor = self;
        Message { supervisor, visible, job, before, is_left, removal, start_timeout, now }
            .to_string()
    }
}

struct Message<'a> {
    supervisor: &'a Supervisor,
    /// The jobs that may be named.
    visible: &'a Visible,
    job: &'a Job,
    /// The removed job of the same id whose processes are still there.
    before: Option<&'a Job>,
    /// What it waits for is of an earlier k1s.
    is_left: bool,
    /// When a job that has ended removes itself.
    removal: Option<Mono>,
    /// By when its newest run must be ready.
    start_timeout: Option<Mono>,
    now: Now,
}

impl Display for Message<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let runs = &self.job.runs;
        match (&self.job.phase, runs.last()) {
            (Phase::Idle { pending: None }, None) => self.idle(f)?,
            (Phase::Waiting { .. }, _) | (Phase::Idle { pending: Some(_) }, None) => {
                self.waiting(f)?
            }
            (Phase::Active | Phase::Scheduled { .. } | Phase::Idle { .. }, Some(run)) => {
                self.run(run, f)?
            }
            (Phase::Active, None) => f.write_str("is about to be started")?,
            (Phase::Backoff { until }, _) => self.backoff(*until, f)?,
            (Phase::Scheduled { due, .. }, None) => self.scheduled(*due, f)?,
            (Phase::Stopping { then }, _) => self.stopping(*then, f)?,
            (Phase::Ended { outcome, .. }, _) => self.ended(*outcome, f)?,
            (Phase::Expired | Phase::Gone, _) => f.write_str("is removed")?,
        }
        if self.job.may_have_unseen_leftovers {
            f.write_str("; /proc does not show whether all of its leftovers are gone")?;
        }
        Ok(())
    }
}

// The subject of each clause is the job, unless it names another.
impl Message<'_> {
    fn idle(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.job.spec.kind {
            Kind::Continuous { .. } | Kind::OneOff { .. } => "is idle: it starts only by request",
            Kind::Cron(_) => "is idle: it follows its schedule only by request",
        })?;
        self.last(f)
    }

    fn waiting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.before.is_none() && !self.is_left {
            return self.waits_for(NAMED, f);
        }
        f.write_str(match &self.job.spec.kind {
            Kind::Continuous { .. } | Kind::OneOff { .. } => "starts",
            Kind::Cron(_) if matches!(self.job.phase, Phase::Idle { .. }) => "runs once",
            Kind::Cron(_) => "follows its schedule",
        })?;
        let Some(before) = self.before else {
            return f.write_str(" as soon as the processes are gone that an earlier k1s has left");
        };
        f.write_str(" as soon as the removed job of the same id is gone")?;
        self.rest(": ", before, f)
    }

    /// What it waits for in so many others, and why that has not come yet where that is not plain.
    fn waits_for(&self, named: usize, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("waits")?;
        let unmet = || self.supervisor.core.dependencies.unmet(&self.job.spec.depends_on);
        let visible = unmet().filter(|(id, _)| self.visible.has(id.as_str()));
        let mut said = 0;
        for (id, condition) in visible.take(named) {
            write!(f, "{} for {id}", if said == 0 { "" } else { ", and" })?;
            match self.supervisor.ids.get(id).and_then(|key| self.supervisor.jobs.get(key)) {
                None => f.write_str(", which does not exist")?,
                Some(job) => {
                    write!(f, " to {}", condition.verb())?;
                    why_not_yet(job, condition, f)?;
                }
            }
            said += 1;
        }
        match (said, unmet().count().saturating_sub(said)) {
            (_, 0) => Ok(()),
            (0, 1) => f.write_str(" for another job"),
            (0, others) => write!(f, " for {others} other jobs"),
            (_, more) => write!(f, ", and for {more} more"),
        }
    }

    /// The newest run of a job that is not being stopped by request.
    fn run(&self, run: &Run, f: &mut Formatter<'_>) -> fmt::Result {
        match &run.state {
            RunState::Queued => f.write_str("is about to be started"),
            RunState::Deferred { error, until, .. } => write!(
                f,
                "cannot be started yet, because this machine is short of something: {error}; it \
                 is tried again in {}, or as soon as something is freed",
                self.until(*until),
            ),
            RunState::Running { .. } if run.leader != Leader::Alive => f.write_str(OUTPUT_IS_READ),
            RunState::Running { pid } => self.running(run, *pid, f),
            RunState::Stopping { why, .. } => {
                f.write_str(match why {
                    Reason::TimedOut => "has exceeded its timeout, and is being stopped",
                    Reason::Unhealthy => "is unhealthy, and is being stopped",
                    Reason::NotReady => "was not ready in time, and is being stopped",
                    Reason::Exited
                    | Reason::Signaled
                    | Reason::Killed
                    | Reason::SpawnFailed
                    | Reason::Lost => "is being stopped, because the next run replaces it",
                })?;
                self.rest(": ", self.job, f)
            }
            RunState::Clearing { end, .. } | RunState::Closing { end } => {
                match &self.job.last {
                    Some(last) if last.run == run.key.number => write!(f, "{last}")?,
                    Some(_) | None => f.write_str("has ended")?,
                }
                self.rest("; ", self.job, f)?;
                self.after(*end, f)
            }
        }
    }

    fn running(&self, run: &Run, Pid(pid): Pid, f: &mut Formatter<'_>) -> fmt::Result {
        let lived = self.now.mono.since(run.started.mono);
        write!(f, "has been running for {} as process {pid}", Span(lived))?;
        match self.job.runs.len() {
            0 | 1 => {}
            2 => f.write_str(", next to another run")?,
            runs => write!(f, ", next to {} other runs", runs - 1)?,
        }
        self.history(lived, f)?;
        self.health(run, f)?;
        if let Some(timeout) = run.spec.timeout {
            let left = self.until(run.started.mono + timeout);
            write!(f, "; its timeout comes in {left}")?;
        }
        match &self.job.phase {
            Phase::Scheduled { pending: Some(_), .. } | Phase::Idle { pending: Some(_) } => {
                f.write_str("; the next run waits for its end")
            }
            Phase::Scheduled { due: Some(due), .. } => {
                write!(f, "; the next run is due in {}", self.until_due(*due))
            }
            Phase::Idle { pending: None }
            | Phase::Waiting { .. }
            | Phase::Active
            | Phase::Backoff { .. }
            | Phase::Scheduled { due: None, pending: None }
            | Phase::Stopping { .. }
            | Phase::Ended { .. }
            | Phase::Expired
            | Phase::Gone => Ok(()),
        }
    }

    /// What is to be said of its health, and what it says itself.
    fn health(&self, run: &Run, f: &mut Formatter<'_>) -> fmt::Result {
        let Some(health) = &run.health else { return Ok(()) };
        if health.is_ending() {
            f.write_str("; it is about to end")?;
        } else if !run.is_ready() {
            f.write_str("; is not ready yet: ")?;
            match (self.job.last_probe().filter(|last| !last.ok), &run.spec.readiness) {
                (Some(last), _) => f.write_str(first_line(&last.message))?,
                (None, Some(readiness)) => f.write_str(match &readiness.check {
                    Check::Http { .. } | Check::Tcp(_) | Check::Exec { .. } => {
                        "too few attempts have succeeded so far"
                    }
                    Check::Log { .. } => "no line contains the text that it waits for",
                    Check::Notify => "it has not said READY=1",
                    Check::Fd { .. } => "it has written no newline to its descriptor",
                })?,
                (None, None) => {}
            }
            if let Some(at) = self.start_timeout {
                write!(f, "; it has {} left to become ready", self.until(at))?;
            }
        } else if health.is_reloading() {
            f.write_str("; it loads its configuration again")?;
        }
        match health.status() {
            Some(status) => write!(f, "; it says: {}", first_line(status)),
            None => Ok(()),
        }
    }

    /// The restarts or failures before an active run, until it has run for long enough.
    fn history(&self, lived: Duration, f: &mut Formatter<'_>) -> fmt::Result {
        let (job, streak) = (self.job, self.job.streak.restarts);
        let has_recovered = match &job.spec.kind {
            Kind::Continuous { restart, .. } => lived >= restart.backoff.reset_after,
            Kind::OneOff { .. } => false,
            Kind::Cron(_) => true,
        };
        let Some(last) = job.last.as_ref().filter(|_| streak > 0 && !has_recovered) else {
            return Ok(());
        };
        self.number(f)?;
        match job.streak.failures {
            0 | 1 => write!(f, "; the run before {last}"),
            failures => write!(f, ", after {failures} failures in a row; the last {last}"),
        }
    }

    fn backoff(&self, until: Mono, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "starts again in {}", self.until(until))?;
        self.number(f)?;
        self.last(f)
    }

    /// The number of the restart or retry in a row, where there is a limit.
    fn number(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (job, streak) = (self.job, self.job.streak.restarts);
        match (&job.spec.kind, job.most_restarts()) {
            (Kind::OneOff { .. }, Some(most)) => write!(f, ", retry {streak} of {most}"),
            (_, Some(most)) => write!(f, ", restart {streak} of {most}"),
            (_, None) if job.streak.failures == 0 => write!(f, ", restart {streak} in a row"),
            (_, None) => Ok(()),
        }
    }

    fn scheduled(&self, due: Option<Due>, f: &mut Formatter<'_>) -> fmt::Result {
        let is_suspended = matches!(&self.job.spec.kind, Kind::Cron(cron) if cron.suspend);
        match due {
            Some(due) => write!(f, "its next run is due in {}", self.until_due(due))?,
            None if is_suspended => {
                f.write_str("is suspended: its schedule starts nothing until suspend is false")?
            }
            None => f.write_str("its schedule has no more times, so it starts nothing more")?,
        }
        self.last(f)?;
        if !self.supervisor.core.dependencies.hold(&self.job.spec.depends_on) {
            f.write_str("; runs are skipped as long as it ")?;
            self.waits_for(1, f)?;
        }
        Ok(())
    }

    fn stopping(&self, then: Then, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match then {
            Then::End(_) if self.job.kill_requested => "is being stopped by request",
            Then::End(_) => "is being stopped, because k1s is shutting down",
            Then::StayEnded(_) => "had ended before",
            Then::Begin(_) => "is being stopped, and then starts again",
            Then::Idle => "is being stopped, and then is idle again",
            Then::Gone => "is being removed",
        })?;
        if let Some(latest) = self.supervisor.core.latest_stop(self.job.key) {
            let left = self.until(latest);
            f.write_str(": its turn comes ")?;
            // There may be nothing else that those to whom not all jobs are visible know of.
            if self.visible.is_all() {
                f.write_str("when what depends on it is gone, ")?;
            }
            write!(f, "in {left} at the latest")?;
        }
        self.rest(": ", self.job, f)
    }

    fn ended(&self, outcome: Outcome, f: &mut Formatter<'_>) -> fmt::Result {
        let job = self.job;
        let is_one_off = matches!(job.spec.kind, Kind::OneOff { .. });
        match (outcome, &job.last) {
            (Outcome::Killed, _) => {
                f.write_str(match job.kill_requested {
                    true => "was stopped by request",
                    false => "was stopped, because k1s is shutting down",
                })?;
                self.last(f)?;
            }
            (_, None) => f.write_str("is over")?,
            (Outcome::Failed, Some(last))
                if job.streak.restarts > 0 && job.has_used_up_restarts() =>
            {
                match (is_one_off, job.streak.restarts) {
                    (true, 1) => f.write_str("was given up after 1 retry")?,
                    (true, retries) => write!(f, "was given up after {retries} retries")?,
                    (false, 1) => f.write_str("was given up after 1 restart")?,
                    (false, streak) => write!(f, "was given up after {streak} restarts in a row")?,
                }
                write!(f, "; its last run {last}")?;
            }
            (Outcome::Failed | Outcome::Succeeded, Some(last)) => write!(f, "{last}")?,
        }
        if job.kill_requested && outcome != Outcome::Killed {
            f.write_str("; since then it was asked to be killed")?;
        }
        match self.removal {
            Some(removal) => write!(f, "; it removes itself in {}", self.until(removal)),
            None if is_one_off && outcome != Outcome::Killed => Ok(()),
            None if outcome == Outcome::Killed && !job.kill_requested => Ok(()),
            None => f.write_str("; it starts again only by request"),
        }
    }

    /// How the last run ended, and how many in a row have failed.
    fn last(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match (&self.job.last, self.job.streak.failures) {
            (None, _) => Ok(()),
            (Some(last), 0 | 1) => write!(f, "; its last run {last}"),
            (Some(last), failures) => {
                write!(f, ", after {failures} failures in a row; the last {last}")
            }
        }
    }

    /// Which processes of a job are still to be stopped, and when they are killed.
    fn rest(&self, before: &str, job: &Job, f: &mut Formatter<'_>) -> fmt::Result {
        let Some(run) = job.runs.last() else { return Ok(()) };
        let signal = run.spec.stop.signal;
        match &run.state {
            RunState::Queued | RunState::Deferred { .. } | RunState::Running { .. } => Ok(()),
            RunState::Stopping { .. } if run.leader != Leader::Alive => {
                write!(f, "{before}it {OUTPUT_IS_READ}")
            }
            RunState::Stopping { pid: Pid(pid), kill: Kill::At(at), .. }
                if signal != Signal::KILL || run.spec.stop.exec.is_some() =>
            {
                let left = self.until(*at);
                match run.spec.stop.exec {
                    None => write!(f, "{before}process {pid} was sent {signal}")?,
                    Some(_) => write!(f, "{before}process {pid} was asked to end")?,
                }
                write!(f, ", and SIGKILL follows in {left}")
            }
            RunState::Stopping { pid: Pid(pid), .. } => {
                write!(f, "{before}process {pid} was sent SIGKILL, and is not gone yet")
            }
            RunState::Closing { .. } => {
                write!(f, "{before}a command beside it was sent SIGKILL, and is not gone yet")
            }
            RunState::Clearing { kill: Kill::Unasked, .. } => {
                write!(f, "{before}k1s is looking for leftovers")
            }
            RunState::Clearing { kill: Kill::At(at), .. } => {
                let left = self.until(*at);
                write!(f, "{before}its leftovers were asked to end, and SIGKILL follows in {left}")
            }
            RunState::Clearing { kill: Kill::Sent, .. } => {
                write!(f, "{before}its leftovers were sent SIGKILL, and are not gone yet")
            }
        }
    }

    /// What follows a run that has ended by itself, once it has no leftovers.
    fn after(&self, end: End, f: &mut Formatter<'_>) -> fmt::Result {
        match (&self.job.phase, self.job.next(end)) {
            (Phase::Active, Next::Restart) => f.write_str("; then it starts again"),
            (Phase::Active, Next::End(_)) => f.write_str("; then it is over"),
            (Phase::Scheduled { pending: Some(_), .. } | Phase::Idle { pending: Some(_) }, _) => {
                f.write_str("; then the next run starts")
            }
            (
                Phase::Idle { pending: None }
                | Phase::Waiting { .. }
                | Phase::Backoff { .. }
                | Phase::Scheduled { pending: None, .. }
                | Phase::Stopping { .. }
                | Phase::Ended { .. }
                | Phase::Expired
                | Phase::Gone,
                _,
            ) => Ok(()),
        }
    }

    fn until(&self, at: Mono) -> Span {
        Span(at.since(self.now.mono))
    }

    fn until_due(&self, due: Due) -> Span {
        Span(self.job.timetable().map_or(Duration::ZERO, |table| table.wait(due, self.now)))
    }
}

/// The beginning of what others have written: a part of a sentence.
fn first_line(text: &str) -> &str {
    let line = text.lines().next().unwrap_or_default();
    let end = line.find(char::is_control).unwrap_or(line.len());
    let end = end.min(line.floor_char_boundary(LONGEST_QUOTE));
    line.get(..end).unwrap_or_default()
}

/// Why a job has not reached what another waits for, unless it is on its way.
fn why_not_yet(job: &Job, condition: Condition, f: &mut Formatter<'_>) -> fmt::Result {
    let milestone = match condition {
        Condition::Started => Milestone::Started,
        Condition::Ready => Milestone::Ready,
        Condition::Succeeded => Milestone::Succeeded,
        Condition::Ended => Milestone::Ended,
    };
    match (&job.phase, job.progress(milestone)) {
        (Phase::Ended { outcome: Outcome::Killed, .. }, _) => f.write_str(", which was killed"),
        (Phase::Ended { outcome: Outcome::Failed, .. }, _) => match job.last_exit_code() {
            Some(code) => write!(f, ", which has failed: exit code {code}"),
            None => f.write_str(", which has failed"),
        },
        (Phase::Idle { .. }, _) => f.write_str(", which is idle"),
        (Phase::Waiting { .. }, _) => f.write_str(", which waits itself"),
        (Phase::Backoff { .. }, _) => f.write_str(", which has ended, and starts again"),
        (_, Progress::Never) => f.write_str(", which it never does by itself"),
        (_, Progress::NotYet | Progress::Reached) => Ok(()),
    }
}

/// How many jobs are named that a waiting job waits for.
const NAMED: usize = 3;
/// Of what others have written, in bytes.
const LONGEST_QUOTE: usize = 100;
const OUTPUT_IS_READ: &str = "has ended, and the last of its output is being read";
