//! `k1s init`: what a container's first process has beyond what every k1s does.
//!
//! The command is the job `main`, one-off and critical: when it ends, everything else is stopped
//! and k1s exits with its code. Signals that k1s is sent are meant for it: all are passed on.
//! TERM, which asks the container to end, also begins the shutdown, and its clock.

use crate::job::{self, JobId, JobSpec, Pid, Signal, Spelling, Value};
use crate::os::{process, terminal};
use crate::supervisor::Supervisor;

/// The id of the job that the command is.
pub(super) const MAIN: &str = "main";

/// k1s as a container's first process.
#[derive(Debug)]
pub(super) struct Init {
    /// Where the command reads and writes.
    pub(super) stdio: Stdio,
    /// Signals that came before the command ran.
    held: Vec<Signal>,
}

/// The exit code of a k1s that was asked to end before the command ran: as if it had died of the
/// request.
pub(super) const NEVER_RAN: u8 = 143;

/// Where the command reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stdio {
    /// It reads what k1s would; its output is captured.
    Captured,
    /// All of it is the terminal that k1s was started on; `is_controlling`: which is free to
    /// become the controlling terminal of the command's session.
    Terminal { is_controlling: bool },
}

impl Init {
    /// Finds out what k1s was started on. To be called before handlers stand.
    pub(super) fn new() -> Init {
        let stdio = match terminal::stdin_is_terminal() {
            true => Stdio::Terminal { is_controlling: terminal::release() },
            false => Stdio::Captured,
        };
        Init { stdio, held: Vec::new() }
    }

    /// Passes a signal on to the command, now or as soon as it runs: then once, however often it
    /// came, as always with signals.
    pub(super) fn forward(&mut self, signal: Signal, supervisor: &Supervisor) {
        if !self.held.contains(&signal) {
            self.held.push(signal);
        }
        self.deliver(supervisor);
    }

    /// Passes on what was held back, if the command runs. What comes after its end is nobody's.
    pub(super) fn deliver(&mut self, supervisor: &Supervisor) {
        if self.held.is_empty() {
            return;
        }
        let main = supervisor.job(MAIN);
        if let Some(Pid(pid)) = main.and_then(|job| job.pid()) {
            for signal in self.held.drain(..) {
                process::signal_process(Pid(pid), signal);
            }
        } else if main.is_none_or(|job| job.last_exit_code().is_some()) {
            self.held.clear();
        }
    }
}

/// The main job: `command` is the executable and its arguments.
///
/// # Errors
/// What is wrong with the command, for people.
pub(super) fn main_job(command: Vec<String>, directory: &str) -> Result<(JobId, JobSpec), String> {
    let text = |text: &str| Value::String(text.to_owned());
    let mut words = command.into_iter().map(Value::String);
    let executable = words.next().ok_or("no command was given")?;
    let fields = [
        ("type", text("one-off")),
        ("executable", executable),
        ("arguments", Value::List(words.collect())),
        ("critical", Value::Bool(true)),
        // As tini does it: the command knows how to end what it has started.
        ("stop", Value::Table(vec![("scope".to_owned(), text("process"))])),
    ];
    let table = fields.map(|(name, value)| (name.to_owned(), value)).into();
    let spec = job::parse(Value::Table(table), directory, Spelling::Camel)
        .map_err(|error| format!("the command cannot be run: {error}"))?;
    Ok((JobId::parse(MAIN)?, spec))
}
