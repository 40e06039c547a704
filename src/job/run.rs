//! The record of a finished run.

use std::fmt::{self, Display};
use std::rc::Rc;
use std::time::Duration;

use super::{Captured, ExitStatus, LogPlace, Signal, SpawnFailure};
use crate::time::{Span, Wall};

/// One finished run of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRecord {
    /// 1 for the job's first run, then 2, 3…; never reused.
    pub number: u64,
    /// Why it was started.
    pub trigger: Trigger,
    /// How it ended.
    pub end: RunEnd,
    /// Why it ended.
    pub reason: Reason,
    /// Whether it succeeded: k1s was asked to stop it, or its exit code is in `successExitCodes`
    /// and it neither exceeded a timeout nor was unhealthy.
    pub success: bool,
    /// When it was started.
    pub started_at: Wall,
    /// When its first process ended.
    pub finished_at: Wall,
    /// How long it took, in elapsed time.
    pub duration: Duration,
    /// Where the job's log ended as the run was added.
    pub log_begin: LogPlace,
    /// Where the job's log ended as its first process was over.
    pub log_end: LogPlace,
    /// How many other runs of the job were not over then.
    pub beside: usize,
    /// What is kept of its standard output.
    pub stdout: Captured,
    /// What is kept of its standard error.
    pub stderr: Captured,
}

/// Why a run was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// The API created the job.
    Created,
    /// The config declares the job.
    Config,
    /// It was due.
    Schedule,
    /// The run before it, of a continuous job, had ended.
    Restart,
    /// The run before it, of a one-off job, had failed.
    Retry,
    /// A user asked to start, restart or run the job, or gave it another specification.
    Request,
    /// Another job had failed, and this one is its handler.
    Failure,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// Its first process ended.
    Process(ExitStatus),
    /// No process could be started.
    NotSpawned(Rc<SpawnFailure>),
    /// k1s was killed while it ran, and nobody saw its end.
    Lost,
}

/// How a run ended, in words for the log and the API: `ended with exit code 1 after 0.4 s`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Which run.
    pub run: u64,
    /// How.
    pub end: RunEnd,
    /// Why.
    pub reason: Reason,
    /// How long it lived.
    pub lived: Duration,
    /// Whether it counts as a success.
    pub success: bool,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// By itself, with an exit code.
    Exited,
    /// By a signal that k1s did not send.
    Signaled,
    /// k1s stopped it, because it exceeded its timeout.
    TimedOut,
    /// k1s stopped it, because it failed its liveness probe.
    Unhealthy,
    /// k1s stopped it, because it was not ready in time.
    NotReady,
    /// k1s was asked to stop it.
    Killed,
    /// It could not be started.
    SpawnFailed,
    /// k1s was killed while it ran.
    Lost,
}

impl RunEnd {
    /// The exit code; 128+n for signal n, 126 or 127 when the run could not be started, 255 when
    /// its end was not seen.
    pub fn exit_code(&self) -> u8 {
        match self {
            RunEnd::Process(ExitStatus::Code(code)) => *code,
            RunEnd::Process(ExitStatus::Signal(signal)) => {
                u8::try_from(128 + signal.number()).unwrap_or(u8::MAX)
            }
            RunEnd::NotSpawned(failure) => failure.exit_code,
            RunEnd::Lost => 255,
        }
    }

    /// The signal that ended it, if one did.
    pub fn signal(&self) -> Option<Signal> {
        match self {
            RunEnd::Process(ExitStatus::Signal(signal)) => Some(*signal),
            RunEnd::Process(ExitStatus::Code(_)) | RunEnd::NotSpawned(_) | RunEnd::Lost => None,
        }
    }

    /// Why it could not be started, or why its end is not known, for people.
    pub fn error(&self) -> Option<&str> {
        match self {
            RunEnd::NotSpawned(failure) => Some(&failure.error),
            RunEnd::Lost => Some(LOST),
            RunEnd::Process(_) => None,
        }
    }
}

impl RunRecord {
    /// The exit code; 128+n for signal n, 126 or 127 when the run could not be started.
    pub fn exit_code(&self) -> u8 {
        self.end.exit_code()
    }

    /// The signal that ended it, if one did.
    pub fn signal(&self) -> Option<Signal> {
        self.end.signal()
    }

    /// Why it could not be started, for people.
    pub fn error(&self) -> Option<&str> {
        self.end.error()
    }
}

impl Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            Reason::TimedOut => f.write_str("exceeded its timeout, and ")?,
            Reason::Unhealthy => f.write_str("was unhealthy, and ")?,
            Reason::NotReady => f.write_str("was not ready in time, and ")?,
            Reason::Exited
            | Reason::Signaled
            | Reason::Killed
            | Reason::SpawnFailed
            | Reason::Lost => {}
        }
        match (&self.end, self.reason) {
            (RunEnd::NotSpawned(failure), _) => {
                return write!(f, "could not be started: {}", failure.error);
            }
            (RunEnd::Lost, _) => {
                return f.write_str("was lost, because k1s was killed while it ran");
            }
            (RunEnd::Process(ExitStatus::Signal(signal)), Reason::Killed) => {
                write!(f, "was stopped by {signal}")?;
            }
            (RunEnd::Process(ExitStatus::Signal(signal)), _) => write!(f, "was ended by {signal}")?,
            (RunEnd::Process(ExitStatus::Code(code)), Reason::Killed) => {
                write!(f, "was stopped, and ended with exit code {code}")?;
            }
            (RunEnd::Process(ExitStatus::Code(code)), _) => {
                write!(f, "ended with exit code {code}")?;
                match (self.reason, *code, self.success) {
                    (Reason::Exited, 0, false) => {
                        f.write_str(", not one of its successExitCodes,")?
                    }
                    (Reason::Exited, 1.., true) => f.write_str(", one of its successExitCodes,")?,
                    _ => {}
                }
            }
        }
        write!(f, " after {}", Span(self.lived))
    }
}

impl Trigger {
    /// The name that the API shows.
    pub fn name(self) -> &'static str {
        match self {
            Trigger::Created => "created",
            Trigger::Config => "config",
            Trigger::Schedule => "schedule",
            Trigger::Restart => "restart",
            Trigger::Retry => "retry",
            Trigger::Request => "request",
            Trigger::Failure => "failure",
        }
    }
}

impl Reason {
    /// Whether k1s stopped the run for a fault of its own: however it ends then, it has failed.
    pub fn is_fault(self) -> bool {
        match self {
            Reason::TimedOut | Reason::Unhealthy | Reason::NotReady => true,
            Reason::Exited
            | Reason::Signaled
            | Reason::Killed
            | Reason::SpawnFailed
            | Reason::Lost => false,
        }
    }

    /// The name that the API shows.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Exited => "exited",
            Reason::Signaled => "signaled",
            Reason::TimedOut => "timed-out",
            Reason::Unhealthy | Reason::NotReady => "unhealthy",
            Reason::Killed => "killed",
            Reason::SpawnFailed => "spawn-failed",
            Reason::Lost => "lost",
        }
    }
}

const LOST: &str = "k1s was killed while the run was going: how it ended is not known";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_in_words() {
        let code = |code| RunEnd::Process(ExitStatus::Code(code));
        let signal = || RunEnd::Process(ExitStatus::Signal(Signal::TERM));
        let failure = SpawnFailure { exit_code: 127, error: "executable x: gone".to_owned() };
        let (good, bad) = (true, false);
        for (end, reason, success, text) in [
            (code(0), Reason::Exited, good, "ended with exit code 0 after 1.2 s"),
            (code(3), Reason::Exited, bad, "ended with exit code 3 after 1.2 s"),
            (
                code(3),
                Reason::Exited,
                good,
                "ended with exit code 3, one of its successExitCodes, after 1.2 s",
            ),
            (
                code(0),
                Reason::Exited,
                bad,
                "ended with exit code 0, not one of its successExitCodes, after 1.2 s",
            ),
            (signal(), Reason::Signaled, bad, "was ended by SIGTERM after 1.2 s"),
            (signal(), Reason::Killed, good, "was stopped by SIGTERM after 1.2 s"),
            (code(3), Reason::Killed, good, "was stopped, and ended with exit code 3 after 1.2 s"),
            (
                signal(),
                Reason::TimedOut,
                bad,
                "exceeded its timeout, and was ended by SIGTERM after 1.2 s",
            ),
            (
                code(0),
                Reason::TimedOut,
                bad,
                "exceeded its timeout, and ended with exit code 0 after 1.2 s",
            ),
            (
                code(0),
                Reason::Unhealthy,
                bad,
                "was unhealthy, and ended with exit code 0 after 1.2 s",
            ),
            (
                signal(),
                Reason::NotReady,
                bad,
                "was not ready in time, and was ended by SIGTERM after 1.2 s",
            ),
            (
                RunEnd::NotSpawned(Rc::new(failure)),
                Reason::SpawnFailed,
                bad,
                "could not be started: executable x: gone",
            ),
        ] {
            let lived = Duration::from_millis(1234);
            assert_eq!(Ending { run: 1, end, reason, lived, success }.to_string(), text);
        }
    }
}
