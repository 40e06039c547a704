//! Writes the supervisor's events to the log, in words.
//!
//! | level | what |
//! |---|---|
//! | warn | a run has failed, with its last lines of output: the first in a row, and the last; one cannot be started or is deferred, is unhealthy or not ready any more, a job is given up, something had to be killed; a log file cannot be written or rotated, or can be again; a handler cannot be called |
//! | info | requests of users, and who has asked; that a run is ready; the first start of a continuous job, and its starts after a backoff; how one-off and cron runs ended; other failures, and the handlers that they call; shutdown |
//! | debug | everything else, such as starts and ends without a backoff |

use super::console::Console;
use super::log::Message;
use crate::access::Visible;
use crate::config::LogLevel::{self, Debug, Info, Warn};
use crate::job::spec::JobType;
use crate::job::{Ending, Reason};
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
    let everything = Visible::default();
    let (level, text) = (level_of(event), &event.in_words(&everything));
    match &event.kind {
        EventKind::Job { id, what, .. } => {
            let (job, run, output) = (Some(id.as_str()), what.run(), event.output());
            console.log(&Message { level, job, run, text, output }, now);
        }
        EventKind::Asked(_) | EventKind::ShuttingDown { .. } | EventKind::KillingAll { .. } => {
            console.note(level, text, now);
        }
    }
}

/// Whoever asks for a change is told of at least once.
fn level_of(event: &Event) -> LogLevel {
    let level = level(&event.kind);
    if event.by.is_some() { level.min(Info) } else { level }
}

fn level(kind: &EventKind) -> LogLevel {
    let (job_type, what) = match kind {
        EventKind::Job { job_type, what, .. } => (*job_type, what),
        EventKind::Asked(_) | EventKind::ShuttingDown { .. } => return Info,
        EventKind::KillingAll { .. } => return Warn,
    };
    let is_continuous = job_type == JobType::Continuous;
    match what {
        Happened::Created | Happened::Expired | Happened::Removed { .. } => Debug,
        Happened::Replaced | Happened::Ready { .. } => Info,
        Happened::Asked(request) => match request {
            Request::Start | Request::Restart | Request::Kill | Request::Remove => Info,
            Request::Run | Request::Signal(_) | Request::Reload => Debug,
        },
        Happened::Waits { .. } | Happened::Renewed { .. } => Info,
        Happened::Started { run, streak, .. } => {
            if is_continuous && (*run == 1 || *streak > 0) {
                Info
            } else {
                Debug
            }
        }
        Happened::Ended { output: Some(_), .. } => Warn,
        Happened::Ended { ending, output: None } => level_of_ending(ending, job_type),
        Happened::Deferred { is_first, .. } => {
            if *is_first {
                Warn
            } else {
                Debug
            }
        }
        Happened::Unready { .. } | Happened::Unhealthy { .. } => Warn,
        Happened::CommandFailed { .. } => Warn,
        Happened::Overdue { .. } | Happened::Unseen { .. } | Happened::ExitsAtOnce => Warn,
        Happened::Restarting { after, .. } => {
            if after.is_zero() {
                Debug
            } else {
                Info
            }
        }
        Happened::Skipped(SkipReason::Missed(_)) => Info,
        Happened::Skipped(SkipReason::Forbidden | SkipReason::QueueFull | SkipReason::Blocked) => {
            Debug
        }
        Happened::LogFile { .. } | Happened::Calls { refused: Some(_), .. } => Warn,
        Happened::Calls { refused: None, .. } => Info,
        Happened::Called { .. } => Debug,
        Happened::Finished(state) => {
            if is_continuous && *state == State::Failed {
                Warn
            } else {
                Debug
            }
        }
    }
}

fn level_of_ending(ending: &Ending, job_type: JobType) -> LogLevel {
    match (ending.reason, ending.success, job_type) {
        (Reason::SpawnFailed | Reason::Lost, ..) => Warn,
        (Reason::Killed, ..) | (_, true, JobType::Continuous) => Debug,
        (_, true, JobType::OneOff | JobType::Cron) => Info,
        (Reason::Exited | Reason::Signaled, false, _) => Info,
        (Reason::TimedOut | Reason::Unhealthy | Reason::NotReady, false, _) => Info,
    }
}

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
            (Reason::Unhealthy, false, [Info, Info, Info]),
            (Reason::NotReady, false, [Info, Info, Info]),
            (Reason::Killed, true, [Debug, Debug, Debug]),
            (Reason::SpawnFailed, false, [Warn, Warn, Warn]),
        ] {
            let (end, lived) = (RunEnd::Process(ExitStatus::Code(0)), Duration::ZERO);
            let ending = Ending { run: 1, end, reason, lived, success };
            let types = [JobType::Continuous, JobType::OneOff, JobType::Cron];
            assert_eq!(
                types.map(|job_type| level_of_ending(&ending, job_type)),
                levels,
                "{ending:?}"
            );
        }
    }
}
