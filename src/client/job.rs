//! A job, as the API shows it: what commands need of it.

use std::process::ExitCode;
use std::time::Duration;

use serde::Deserialize;

use crate::calendar::parse_rfc3339;
use crate::time::Wall;

/// A job object.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Job {
    pub(super) id: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) state: String,
    pub(super) message: String,
    pub(super) pid: Option<i32>,
    pub(super) started_at: Option<Time>,
    pub(super) next_run_at: Option<Time>,
    #[serde(default)]
    pub(super) restarts: u64,
    #[serde(default)]
    pub(super) results: Vec<RunResult>,
}

/// A finished run.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RunResult {
    pub(super) run: u64,
    pub(super) trigger: String,
    pub(super) exit_code: u8,
    pub(super) signal: Option<String>,
    pub(super) reason: String,
    pub(super) success: bool,
    pub(super) error: Option<String>,
    pub(super) started_at: Time,
    pub(super) finished_at: Time,
    pub(super) duration_ms: u64,
    #[serde(default)]
    pub(super) stdout_bytes: u64,
    #[serde(default)]
    pub(super) stderr_bytes: u64,
}

/// A time of RFC 3339.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Time(String);

impl Job {
    /// How long its process has been running.
    pub(super) fn uptime(&self, now: Wall) -> Option<Duration> {
        self.pid.and(self.started_at.as_ref())?.ago(now)
    }

    /// The exit code of its last run; 0 if it has not run.
    pub(super) fn exit_code(&self) -> ExitCode {
        self.results.last().map_or(ExitCode::SUCCESS, |last| ExitCode::from(last.exit_code))
    }

    /// Its state does not say all: why it is in it, and what comes next.
    pub(super) fn reason(&self) -> &str {
        match self.state.as_str() {
            "running" | "scheduled" | "succeeded" | "killed" | "idle" => "",
            _ => &self.message,
        }
    }
}

impl RunResult {
    /// How it ended, as a part of a sentence.
    pub(super) fn sentence(&self) -> String {
        match (&self.error, self.reason.as_str()) {
            (Some(error), "spawn-failed") => format!("could not be started: {error}"),
            (_, "lost") => "was lost, because k1s was killed while it ran".to_owned(),
            _ => match &self.signal {
                Some(signal) => format!("was ended by {signal}"),
                None => format!("ended with exit code {}", self.exit_code),
            },
        }
    }

    /// How it ended: an exit code, a signal, or why it has neither.
    pub(super) fn end(&self) -> String {
        match (&self.signal, self.reason.as_str()) {
            (_, "timed-out") => "timed out".to_owned(),
            (Some(signal), _) => signal.clone(),
            (None, _) => self.exit_code.to_string(),
        }
    }
}

impl Time {
    /// How long ago it is; zero if it is to come.
    pub(super) fn ago(&self, now: Wall) -> Option<Duration> {
        let millis = now.0.saturating_sub(self.wall()?.0);
        Some(Duration::from_millis(u64::try_from(millis).unwrap_or(0)))
    }

    /// In how long it will be; zero if it is over.
    pub(super) fn ahead(&self, now: Wall) -> Option<Duration> {
        let millis = self.wall()?.0.saturating_sub(now.0);
        Some(Duration::from_millis(u64::try_from(millis).unwrap_or(0)))
    }

    /// As it was written.
    pub(super) fn text(&self) -> &str {
        &self.0
    }

    fn wall(&self) -> Option<Wall> {
        parse_rfc3339(&self.0).ok()
    }
}
