//! What the supervisor has done, in words for the log.
//!
//! | level | what |
//! |---|---|
//! | warn | a run cannot start, or waits for room; a job is given up; what had to be killed |
//! | info | what somebody asked for, a continuous job's first start, failures, restarts that wait, shutdown |
//! | debug | the rest: each run's start and its ordinary end |
//!
//! So a machine that runs thousands of jobs which succeed writes nothing by default.

use std::fmt::{self, Display};
use std::time::Duration;

use super::console::Console;
use super::log::Message;
use crate::config::LogLevel::{self, Debug, Info, Warn};
use crate::job::spec::Kind;
use crate::job::{ExitStatus, JobId, Pid, Reason, RunEnd};
use crate::supervisor::{Event, Happened, Request, SkipReason, State, Supervisor};
use crate::time::Now;

/// Writes all that has happened since the last call.
pub(super) fn write(event: &Event, supervisor: &Supervisor, console: &mut Console, now: Now) {
    match event {
        Event::Job { id, what, .. } => write_job(id, what, supervisor, console, now),
        Event::ShuttingDown { because_of: Some(job), exit_code } => {
            let text = format_args!(
                "critical job {} has ended: shutting down with exit code {exit_code}",
                job.as_str()
            );
            console.note(Info, &text, now);
        }
        Event::ShuttingDown { because_of: None, .. } => {
            let count = supervisor.live_runs();
            console.note(Info, &format_args!("shutting down; runs to be stopped: {count}"), now);
        }
        Event::KillingAll { is_overdue: true } => {
            let count = supervisor.live_runs();
            console.note(
                Warn,
                &format_args!("the time for the shutdown is up; runs to be killed: {count}"),
                now,
            );
        }
        Event::KillingAll { is_overdue: false } => {
            let count = supervisor.live_runs();
            console.note(
                Warn,
                &format_args!("asked again to shut down; runs to be killed: {count}"),
                now,
            );
        }
    }
}

fn write_job(
    id: &JobId,
    what: &Happened,
    supervisor: &Supervisor,
    console: &mut Console,
    now: Now,
) {
    let mut say = |level, run, text: &dyn Display| {
        console.log(&Message { level, job: Some(id.as_str()), run, text }, now);
    };
    match what {
        Happened::Created => say(Debug, None, &"created"),
        Happened::Replaced => say(Info, None, &"replaced"),
        Happened::Asked(request) => asked(*request, &mut say),
        Happened::Started { run, pid: Pid(pid) } => {
            let is_first = *run == 1 && is_continuous(id, supervisor);
            let level = if is_first { Info } else { Debug };
            say(level, Some(*run), &format_args!("started as process {pid}"));
        }
        Happened::Ended { run, end, reason, lived, success } => {
            let end = Ending { end, reason: *reason, lived: *lived };
            say(end.level(*success), Some(*run), &end);
        }
        Happened::Deferred { run, error, is_first } => {
            let level = if *is_first { Warn } else { Debug };
            say(level, Some(*run), &format_args!("waits for room on this machine: {error}"));
        }
        Happened::Overdue { run } => {
            say(Warn, Some(*run), &"has not ended in its grace period: killing it");
        }
        Happened::Unseen { run } => {
            let text = "nothing of it was found, but not all processes could be looked at";
            say(Warn, Some(*run), &text);
        }
        Happened::Restarting { after, streak } => {
            let level = if after.is_zero() { Debug } else { Info };
            let after = after.as_millis();
            say(level, None, &format_args!("restarting in {after} ms, number {streak} in a row"));
        }
        Happened::Skipped(reason) => skipped(*reason, &mut say),
        Happened::Finished(state) => {
            let is_given_up = *state == State::Failed && is_continuous(id, supervisor);
            match is_given_up {
                true => say(Warn, None, &"failed, and is not restarted any more"),
                false => say(Debug, None, &format_args!("over: {state:?}")),
            }
        }
        Happened::Removed => say(Debug, None, &"removed"),
    }
}

fn asked(request: Request, say: &mut impl FnMut(LogLevel, Option<u64>, &dyn Display)) {
    match request {
        Request::Start => say(Info, None, &"start requested"),
        Request::Restart => say(Info, None, &"restart requested"),
        Request::Run => say(Debug, None, &"run requested"),
        Request::Signal(signal) => say(Debug, None, &format_args!("{signal} requested")),
        Request::Kill => say(Info, None, &"kill requested"),
        Request::Remove => say(Info, None, &"removal requested"),
    }
}

fn skipped(reason: SkipReason, say: &mut impl FnMut(LogLevel, Option<u64>, &dyn Display)) {
    match reason {
        SkipReason::Forbidden => say(Debug, None, &"a run is skipped: another is going"),
        SkipReason::QueueFull => say(Debug, None, &"a run is skipped: another waits already"),
        SkipReason::Missed(count) => {
            say(Info, None, &format_args!("runs skipped, as their time had passed: {count}"));
        }
    }
}

fn is_continuous(id: &JobId, supervisor: &Supervisor) -> bool {
    let job = supervisor.job(id.as_str());
    job.is_some_and(|job| matches!(job.spec().kind, Kind::Continuous { .. }))
}

/// How a run ended: `exited with code 1 after 12 ms`.
struct Ending<'a> {
    end: &'a RunEnd,
    reason: Reason,
    lived: Duration,
}

impl Ending<'_> {
    fn level(&self, success: bool) -> LogLevel {
        match (self.reason, success) {
            (Reason::SpawnFailed, _) => Warn,
            (Reason::Killed, _) | (_, true) => Debug,
            (Reason::Exited | Reason::Signaled | Reason::TimedOut, false) => Info,
        }
    }
}

impl Display for Ending<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            Reason::TimedOut => f.write_str("took longer than it may: ")?,
            Reason::Killed => f.write_str("stopped: ")?,
            Reason::Exited | Reason::Signaled | Reason::SpawnFailed => {}
        }
        match self.end {
            RunEnd::Process(ExitStatus::Code(code)) => write!(f, "exited with code {code}")?,
            RunEnd::Process(ExitStatus::Signal(signal)) => write!(f, "ended by {signal}")?,
            RunEnd::NotSpawned(failure) => return write!(f, "cannot start: {}", failure.error),
        }
        match self.lived {
            short if short < Duration::from_secs(1) => write!(f, " after {} ms", short.as_millis()),
            long => write!(f, " after {:.1} s", long.as_secs_f64()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Signal, SpawnFailure};

    #[track_caller]
    fn check(end: RunEnd, reason: Reason, success: bool, level: LogLevel, text: &str) {
        let ending = Ending { end: &end, reason, lived: Duration::from_millis(1234) };
        assert_eq!((ending.level(success), ending.to_string().as_str()), (level, text));
    }

    #[test]
    fn ends_in_words() {
        let code = |code| RunEnd::Process(ExitStatus::Code(code));
        let signal = RunEnd::Process(ExitStatus::Signal(Signal::TERM));
        let failure = SpawnFailure { exit_code: 127, error: "executable x: gone".to_owned() };
        let failed = RunEnd::NotSpawned(Box::new(failure));
        check(code(0), Reason::Exited, true, Debug, "exited with code 0 after 1.2 s");
        check(code(3), Reason::Exited, false, Info, "exited with code 3 after 1.2 s");
        check(signal.clone(), Reason::Signaled, false, Info, "ended by SIGTERM after 1.2 s");
        check(signal.clone(), Reason::Killed, true, Debug, "stopped: ended by SIGTERM after 1.2 s");
        let text = "took longer than it may: ended by SIGTERM after 1.2 s";
        check(signal, Reason::TimedOut, false, Info, text);
        check(failed, Reason::SpawnFailed, false, Warn, "cannot start: executable x: gone");
    }
}
