//! `k1s init`: what k1s does as the first process of a container, beyond what it always does.
//!
//! The command is the job `main`, one-off and critical: when it ends, everything else is stopped,
//! and k1s exits with its code. k1s passes on to it all signals that it gets itself. SIGTERM, which
//! asks the container to end, also begins the shutdown and starts its deadline.

use crate::config::Declaration;
use crate::job::{self, JobId, JobSpec, Signal, Spelling, Value};
use crate::os::{Session, signalling, terminal};
use crate::supervisor::Supervisor;

/// The id of the command's job.
pub(super) const MAIN: &str = "main";

/// k1s as the first process of a container.
#[derive(Debug)]
pub(super) struct Init {
    /// Where the command reads and writes.
    pub(super) stdio: Stdio,
    /// Signals that came before the command was started.
    held: Vec<Signal>,
}

/// The exit code of a k1s that was asked to end before the command was started: as if SIGTERM had
/// killed it.
pub(super) const NEVER_RAN: u8 = 143;

/// Where the command reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stdio {
    /// It has k1s's stdin; its output is captured.
    Captured,
    /// It has the terminal that k1s was started on, for everything.
    Terminal(Session),
}

impl Init {
    /// Finds out what k1s was started on. To be called before signal handlers are installed.
    pub(super) fn new() -> Init {
        let stdio = match terminal::stdin_is_terminal() {
            true => Stdio::Terminal(terminal::session_for_run()),
            false => Stdio::Captured,
        };
        Init { stdio, held: Vec::new() }
    }

    /// k1s ends: gives the terminal back to the process that started it.
    pub(super) fn end(&self) {
        match self.stdio {
            Stdio::Terminal(Session::Foreground) => terminal::take_back(),
            Stdio::Terminal(Session::Own | Session::WithTerminal) | Stdio::Captured => {}
        }
    }

    /// Passes a signal on to the command, now or as soon as it is started; a signal that came
    /// several times before is passed on once, like any pending signal.
    pub(super) fn forward(&mut self, signal: Signal, supervisor: &Supervisor) {
        if !self.held.contains(&signal) {
            self.held.push(signal);
        }
        self.deliver(supervisor);
    }

    /// Passes on the signals that were held back, once the command runs. Signals that come after
    /// its end are dropped.
    pub(super) fn deliver(&mut self, supervisor: &Supervisor) {
        if self.held.is_empty() {
            return;
        }
        let main = supervisor.job(MAIN);
        if let Some(pid) = main.and_then(|job| job.pid()) {
            for signal in self.held.drain(..) {
                signalling::signal_process(pid, signal);
            }
        } else if main.is_none_or(|job| job.last_exit_code().is_some()) {
            self.held.clear();
        }
    }
}

/// An error if the config declares a job with the id of the command.
pub(super) fn refuse_main(jobs: &[Declaration]) -> Result<(), String> {
    match jobs.iter().find(|job| job.id.as_str() == MAIN) {
        Some(job) => {
            Err(job.error(None, "under `k1s init`, `main` is the command's id").to_string())
        }
        None => Ok(()),
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
        // Like tini: the command knows how to end its own children.
        ("stop", Value::Table(vec![("scope".to_owned(), text("process"))])),
    ];
    let table = fields.map(|(name, value)| (name.to_owned(), value)).into();
    let spec = job::parse(Value::Table(table), directory, Spelling::Camel)
        .map_err(|error| format!("the command cannot be run: {error}"))?;
    Ok((JobId::parse(MAIN)?, spec))
}
