//! Writes the supervisor's events to the log, in words.
//!
//! | level | what |
//! |---|---|
//! | warn | a run cannot be started or is deferred, a job is given up, something had to be killed |
//! | info | requests; the first start of a continuous job, and its starts after a backoff; how one-off and cron runs ended; failures; shutdown |
//! | debug | everything else, such as starts and ends without a backoff |

use std::fmt::Display;

use super::console::Console;
use super::log::Message;
use crate::config::LogLevel::{self, Debug, Info, Warn};
use crate::job::spec::JobType;
use crate::job::{Ending, Pid, Reason};
use crate::supervisor::{
    Event, EventKind, EventLog, EventRead, Happened, Request, SkipReason, State,
};
use crate::time::Now;

/// A reader of the event log that writes it in words.
#[derive(Debug, Default)]
pub(super) struct Journal {
    cursor: u64,
}

impl Journal {
    /// Writes everything that has happened since the last call.
    pub(super) fn write(&mut self, events: &EventLog, console: &mut Console, now: Now) {
        while let Some(read) = events.read(&mut self.cursor) {
            match read {
                EventRead::Event(_, event) => write_event(event, console, now),
                EventRead::Lost(count) => {
                    let text =
                        format_args!("too many events at once: {count} are missing in this log");
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
            let text = format_args!("shutting down; runs to stop: {live_runs}");
            console.note(Info, &text, now);
        }
        EventKind::KillingAll { is_overdue: true, live_runs } => {
            let text = format_args!("the time for the shutdown is up; runs to kill: {live_runs}");
            console.note(Warn, &text, now);
        }
        EventKind::KillingAll { is_overdue: false, live_runs } => {
            let text = format_args!("asked again to shut down; runs to kill: {live_runs}");
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
        Happened::Ended(ending) => say(level(ending, job_type), Some(ending.run), ending),
        Happened::Deferred { run, error, is_first } => {
            let level = if *is_first { Warn } else { Debug };
            let text =
                format_args!("deferred, because this machine is short of something: {error}");
            say(level, Some(*run), &text);
        }
        Happened::Overdue { run } => {
            say(Warn, Some(*run), &"has not ended in its grace period, and is killed");
        }
        Happened::Unseen { run } => {
            let text = "/proc does not show whether all of its leftovers are gone";
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
            true => say(Warn, None, &"failed, and is not restarted again"),
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
        SkipReason::Forbidden => say(Debug, None, &"a run is skipped: another is active"),
        SkipReason::QueueFull => say(Debug, None, &"a run is skipped: another is already waiting"),
        SkipReason::Missed(count) => {
            say(Info, None, &format_args!("runs skipped, because they were too late: {count}"));
        }
    }
}

fn level(ending: &Ending, job_type: JobType) -> LogLevel {
    match (ending.reason, ending.success, job_type) {
        (Reason::SpawnFailed, ..) => Warn,
        (Reason::Killed, ..) | (_, true, JobType::Continuous) => Debug,
        (_, true, JobType::OneOff | JobType::Cron) => Info,
        (Reason::Exited | Reason::Signaled | Reason::TimedOut, false, _) => Info,
    }
}

const BACKGROUND_HINT: &str = "its first process exits with success at once, as a program does \
     that goes into the background: run it in the foreground, so that k1s can supervise it";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{ExitStatus, RunEnd};
    use std::time::Duration;

    #[test]
    fn ends_are_as_loud_as_they_are_news() {
        for (reason, success, levels) in [
            (Reason::Exited, true, [Debug, Info, Info]),
            (Reason::Exited, false, [Info, Info, Info]),
            (Reason::Signaled, false, [Info, Info, Info]),
            (Reason::TimedOut, false, [Info, Info, Info]),
            (Reason::Killed, true, [Debug, Debug, Debug]),
            (Reason::SpawnFailed, false, [Warn, Warn, Warn]),
        ] {
            let (end, lived) = (RunEnd::Process(ExitStatus::Code(0)), Duration::ZERO);
            let ending = Ending { run: 1, end, reason, lived, success };
            let types = [JobType::Continuous, JobType::OneOff, JobType::Cron];
            assert_eq!(types.map(|job_type| level(&ending, job_type)), levels, "{ending:?}");
        }
    }
}
