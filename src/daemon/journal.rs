//! What the supervisor has done, in words for the log.
//!
//! | level | what |
//! |---|---|
//! | warn | a run cannot start, or waits for room; a job is given up; what had to be killed |
//! | info | what somebody asked for; a continuous job's first start, and that it is up again after its restarts had to wait; how one-off and cron runs ended; failures; shutdown |
//! | debug | the rest: other starts, and ends that are followed by a restart at once |

use std::fmt::{self, Display};
use std::time::Duration;

use super::console::Console;
use super::log::Message;
use crate::config::LogLevel::{self, Debug, Info, Warn};
use crate::job::spec::JobType;
use crate::job::{ExitStatus, Pid, Reason, RunEnd};
use crate::supervisor::{
    Event, EventKind, EventLog, EventRead, Happened, Request, SkipReason, State,
};
use crate::time::Now;

/// A reader of the event log that writes it down in words.
#[derive(Debug, Default)]
pub(super) struct Journal {
    cursor: u64,
}

impl Journal {
    /// Writes all that has happened since the last call.
    pub(super) fn write(&mut self, events: &EventLog, console: &mut Console, now: Now) {
        while let Some(read) = events.read(&mut self.cursor) {
            match read {
                EventRead::Event(_, event) => write_event(event, console, now),
                EventRead::Lost(count) => {
                    let text = format_args!(
                        "too much has happened at once: {count} events are not in this log"
                    );
                    console.note(Warn, &text, now);
                }
            }
        }
    }
}

fn write_event(event: &Event, console: &mut Console, now: Now) {
    match &event.kind {
        EventKind::Job { id, job_type, what, .. } => {
            let mut say = |level, run, text: &dyn Display| {
                console.log(&Message { level, job: Some(id.as_str()), run, text }, now);
            };
            write_job(*job_type, what, &mut say);
        }
        EventKind::ShuttingDown { because_of: Some(job), exit_code, .. } => {
            let text = format_args!(
                "critical job {} has ended: shutting down with exit code {exit_code}",
                job.as_str()
            );
            console.note(Info, &text, now);
        }
        EventKind::ShuttingDown { because_of: None, live_runs, .. } => {
            let text = format_args!("shutting down; runs to be stopped: {live_runs}");
            console.note(Info, &text, now);
        }
        EventKind::KillingAll { is_overdue: true, live_runs } => {
            let text =
                format_args!("the time for the shutdown is up; runs to be killed: {live_runs}");
            console.note(Warn, &text, now);
        }
        EventKind::KillingAll { is_overdue: false, live_runs } => {
            let text = format_args!("asked again to shut down; runs to be killed: {live_runs}");
            console.note(Warn, &text, now);
        }
    }
}

fn write_job(
    job_type: JobType,
    what: &Happened,
    say: &mut impl FnMut(LogLevel, Option<u64>, &dyn Display),
) {
    let is_continuous = job_type == JobType::Continuous;
    match what {
        Happened::Created => say(Debug, None, &"created"),
        Happened::Replaced => say(Info, None, &"replaced"),
        Happened::Asked(request) => asked(*request, say),
        Happened::Started { run, pid: Pid(pid), streak } => {
            let is_news = is_continuous && (*run == 1 || *streak > 0);
            let level = if is_news { Info } else { Debug };
            match streak {
                0 => say(level, Some(*run), &format_args!("started as process {pid}")),
                _ => {
                    let text =
                        format_args!("started as process {pid}, after restart {streak} in a row");
                    say(level, Some(*run), &text);
                }
            }
        }
        Happened::Ended { run, end, reason, lived, success } => {
            let end = Ending { end, reason: *reason, lived: *lived };
            say(end.level(job_type, *success), Some(*run), &end);
        }
        Happened::Deferred { run, error, is_first } => {
            let level = if *is_first { Warn } else { Debug };
            let text = format_args!("deferred, as this machine is short of something: {error}");
            say(level, Some(*run), &text);
        }
        Happened::Overdue { run } => {
            say(Warn, Some(*run), &"has not ended in its grace period: killing it");
        }
        Happened::Unseen { run } => {
            let text = "it cannot be seen whether all it has left is gone";
            say(Warn, Some(*run), &text);
        }
        Happened::Restarting { after, streak } => {
            let level = if after.is_zero() { Debug } else { Info };
            let after = after.as_millis();
            say(level, None, &format_args!("restarting in {after} ms, number {streak} in a row"));
        }
        Happened::ExitsAtOnce => say(Warn, None, &BACKGROUND_HINT),
        Happened::Skipped(reason) => skipped(*reason, say),
        Happened::Finished(state) => match is_continuous && *state == State::Failed {
            true => say(Warn, None, &"failed, and is not restarted any more"),
            false => say(Debug, None, &format_args!("over: {state:?}")),
        },
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

/// How a run ended: `exited with code 1 after 12 ms`.
struct Ending<'a> {
    end: &'a RunEnd,
    reason: Reason,
    lived: Duration,
}

impl Ending<'_> {
    fn level(&self, job_type: JobType, success: bool) -> LogLevel {
        match (self.reason, success, job_type) {
            (Reason::SpawnFailed, ..) => Warn,
            (Reason::Killed, ..) | (_, true, JobType::Continuous) => Debug,
            (_, true, JobType::OneOff | JobType::Cron) => Info,
            (Reason::Exited | Reason::Signaled | Reason::TimedOut, false, _) => Info,
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

const BACKGROUND_HINT: &str = "its first process exits with success at once, as one does that goes \
     into the background: have it run in the foreground, so that it can be supervised";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Signal, SpawnFailure};

    #[track_caller]
    fn check(end: RunEnd, reason: Reason, success: bool, levels: [LogLevel; 2], text: &str) {
        let ending = Ending { end: &end, reason, lived: Duration::from_millis(1234) };
        let types = [JobType::Continuous, JobType::OneOff];
        assert_eq!(types.map(|job_type| ending.level(job_type, success)), levels);
        assert_eq!(ending.to_string(), text);
    }

    #[test]
    fn ends_in_words() {
        let code = |code| RunEnd::Process(ExitStatus::Code(code));
        let signal = RunEnd::Process(ExitStatus::Signal(Signal::TERM));
        let failure = SpawnFailure { exit_code: 127, error: "executable x: gone".to_owned() };
        let failed = RunEnd::NotSpawned(Box::new(failure));
        let text = "exited with code 0 after 1.2 s";
        check(code(0), Reason::Exited, true, [Debug, Info], text);
        let text = "exited with code 3 after 1.2 s";
        check(code(3), Reason::Exited, false, [Info, Info], text);
        let text = "ended by SIGTERM after 1.2 s";
        check(signal.clone(), Reason::Signaled, false, [Info, Info], text);
        let text = "stopped: ended by SIGTERM after 1.2 s";
        check(signal.clone(), Reason::Killed, true, [Debug, Debug], text);
        let text = "took longer than it may: ended by SIGTERM after 1.2 s";
        check(signal, Reason::TimedOut, false, [Info, Info], text);
        let text = "cannot start: executable x: gone";
        check(failed, Reason::SpawnFailed, false, [Warn, Warn], text);
    }
}
