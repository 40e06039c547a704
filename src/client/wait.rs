//! `k1s wait`: until a job has come so far.
//!
//! k1s is asked again and again, each time with some patience, so that one that has gone is noticed.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use argh::FromArgs;

use super::Failure;
use super::http::Request;
use super::job::Job;
use super::session::{Session, path, print_bytes};
use super::text::Escaped;

/// How far a job is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    Ready,
    Ended,
    Succeeded,
}

/// Wait until a job has come so far.
#[derive(Clone, Debug, FromArgs, PartialEq, Eq)]
#[argh(
    subcommand,
    name = "wait",
    help_triggers("-h", "--help"),
    error_code(1, "it will not come so far, or not in time")
)]
pub struct Wait {
    /// ready, ended (the default: ends with the code of the job) or succeeded
    #[argh(option, long = "for", arg_name = "GOAL", default = "Goal::Ended", from_str_fn(goal))]
    goal: Goal,
    /// for how many seconds at most
    #[argh(option, arg_name = "S", from_str_fn(seconds))]
    timeout: Option<Duration>,
    /// the job
    #[argh(positional, arg_name = "ID")]
    id: String,
}

impl Wait {
    pub(super) fn run(&self, session: &Session) -> Result<ExitCode, Failure> {
        let (job, answer) = wait_for(session, &self.id, self.goal, self.timeout)?;
        if session.json {
            print_bytes(&answer)?;
        }
        Ok(match self.goal {
            Goal::Ready | Goal::Succeeded => ExitCode::SUCCESS,
            Goal::Ended => job.exit_code(),
        })
    }
}

/// Waits until a job has come so far; returns its object, and the same as it was said.
pub(super) fn wait_for(
    session: &Session,
    id: &str,
    goal: Goal,
    timeout: Option<Duration>,
) -> Result<(Job, Vec<u8>), Failure> {
    let until = timeout.map(|timeout| Instant::now() + timeout);
    loop {
        let left = until.map_or(PATIENCE, |until| until.saturating_duration_since(Instant::now()));
        let wait = left.min(PATIENCE);
        let target =
            format!("{}?output=false&wait={}&for={}", path(id), wait.as_secs_f64(), goal.name());
        let asked = Instant::now();
        let answer = session.ask(id, &Request::new("GET", &target))?;
        let has_reached = answer.status == REACHED;
        let body = session.read(answer)?;
        let job: Job = session.understand(&body)?;
        if has_reached {
            return Ok((job, body));
        }
        // An answer that comes early says that it cannot come true any more.
        let is_early = asked.elapsed() + TOLERANCE < wait;
        if is_early || left <= PATIENCE && until.is_some() {
            let why = if is_early { "will not be" } else { "is not yet" };
            return Err(Failure::Refused(format!(
                "{}: {why} {}: {}: {}",
                Escaped(id),
                goal.name(),
                Escaped(&job.state),
                Escaped(&job.message)
            )));
        }
    }
}

impl Goal {
    fn name(self) -> &'static str {
        match self {
            Goal::Ready => "ready",
            Goal::Ended => "ended",
            Goal::Succeeded => "succeeded",
        }
    }
}

fn goal(text: &str) -> Result<Goal, String> {
    let goals = [Goal::Ready, Goal::Ended, Goal::Succeeded];
    let found = goals.into_iter().find(|goal| goal.name() == text);
    found.ok_or_else(|| format!("must be ready, ended or succeeded, not {text:?}"))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok();
    let seconds = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds
        .filter(|seconds| *seconds <= LONGEST)
        .ok_or_else(|| format!("must be a number of seconds from 0 to 31536000, not {text:?}"))
}

/// The status of an answer to `?wait=` when it has come true.
const REACHED: u16 = 200;
/// For how long k1s is asked to wait at a time: less than a silence may last.
const PATIENCE: Duration = Duration::from_secs(20);
/// By how much an answer may come early, in spite of clocks that are read in between.
const TOLERANCE: Duration = Duration::from_millis(200);
/// A year.
const LONGEST: Duration = Duration::from_secs(31_536_000);
