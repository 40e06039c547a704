//! `k1s exec`: a command, run by k1s as a one-off job, as if it were run here.
//!
//! ```text
//!   create ─▶ it has started ─┬─▶ stdout, byte for byte ─┐
//!                             └─▶ stderr, byte for byte ─┴─▶ its result ─▶ its exit code
//!   Ctrl-C ─▶ kill; once more ─▶ kill at once
//! ```

use std::io;
use std::process::ExitCode;

use argh::FromArgs;
use serde_json::{Map, Value, json};

use super::Failure;
use super::http::Request;
use super::job::{Job, RunResult};
use super::session::{Session, in_background, path, print, print_bytes};
use super::set::variables;
use super::text::Escaped;
use super::wait::{Goal, wait_for};
use crate::os;
use crate::os::signals::Interrupts;

/// Run a command as a one-off job, and print its output; ends with its exit code.
#[derive(Clone, Debug, FromArgs, PartialEq, Eq)]
#[argh(
    subcommand,
    name = "exec",
    help_triggers("-h", "--help"),
    usage = "k1s exec [--name ID] [--rm] [-e NAME=VALUE] [-d] -- CMD [ARG…]",
    example = "k1s exec --rm -- pg_dump app"
)]
pub struct Exec {
    /// the id of the job (default: exec- and a number)
    #[argh(option, arg_name = "ID")]
    name: Option<String>,
    /// remove the job when it is over
    #[argh(switch)]
    rm: bool,
    /// a variable of its environment
    #[argh(option, short = 'e', arg_name = "NAME=VALUE")]
    env: Vec<String>,
    /// do not wait for it; print its id
    #[argh(switch, short = 'd')]
    detach: bool,
    /// what to run, with its arguments
    #[argh(positional, greedy, arg_name = "CMD")]
    command: Vec<String>,
}

impl Exec {
    pub(super) fn run(&self, session: &Session) -> Result<ExitCode, Failure> {
        let id = match &self.name {
            Some(name) => name.clone(),
            None => format!("exec-{}", os::instance_id()),
        };
        let body = Value::Object(self.specification()?).to_string();
        let interrupts =
            match self.detach {
                true => None,
                false => Some(Interrupts::hold().map_err(|error| {
                    Failure::Refused(format!("cannot wait for signals: {error}"))
                })?),
            };
        let target = path(&id);
        let answer = session.ask(&id, &Request::new("POST", &target).with_body(body.as_bytes()))?;
        let said = session.read(answer)?;
        let Some(interrupts) = interrupts else {
            match session.json {
                true => print_bytes(&said)?,
                false => print(format_args!("{id}\n"))?,
            }
            return Ok(ExitCode::SUCCESS);
        };
        let ended = attend(session, &id, interrupts);
        if self.rm {
            session.ask(&id, &Request::new("DELETE", &target))?;
        }
        ended
    }

    fn specification(&self) -> Result<Map<String, Value>, Failure> {
        let Some((executable, arguments)) = self.command.split_first() else {
            return Err(Failure::Usage(
                "exec needs a command: k1s exec [OPTION…] -- CMD [ARG…]".into(),
            ));
        };
        let environment = variables(&self.env)?;
        let mut specification = Map::new();
        let mut add = |name: &str, value: Value| specification.insert(name.to_owned(), value);
        add("type", "one-off".into());
        add("executable", executable.as_str().into());
        add("arguments", arguments.into());
        add("environment", Value::Object(environment));
        if !self.detach {
            // It is shown here, whole.
            add("output", json!({"limitBytes": KEPT_BYTES, "forward": false}));
        } else if self.rm {
            add("ttlSecondsAfterFinished", 0.into());
        }
        Ok(specification)
    }
}

/// Shows what the job writes until it is over; returns its exit code.
fn attend(session: &Session, id: &str, interrupts: Interrupts) -> Result<ExitCode, Failure> {
    let each = |work: fn(&Session, &str) -> Result<u64, Failure>| {
        let (session, id) = (session.clone(), id.to_owned());
        in_background(move || work(&session, &id))
    };
    let (asked, about) = (session.clone(), id.to_owned());
    in_background(move || {
        while interrupts.wait().is_some() {
            kill(&asked, &about);
        }
    })?;
    // Its run is known as soon as it has started, or cannot start.
    match wait_for(session, id, Goal::Ready, None) {
        Ok(_) | Err(Failure::Refused(_)) => {}
        Err(failure) => return Err(failure),
    }
    let followers = [
        each(|session, id| pass_on(session, id, "stdout"))?,
        each(|session, id| pass_on(session, id, "stderr"))?,
    ];
    let mut passed = 0;
    for follower in followers {
        match follower.join() {
            Ok(Ok(bytes)) => passed += bytes,
            Err(_) => {}
            Ok(Err(failure)) => return Err(failure),
        }
    }
    let (job, said) = after(session, id)?;
    if session.json {
        print_bytes(&said)?;
    }
    let Some(result) = job.results.last() else {
        return Err(Failure::Refused(format!("{}: {}", Escaped(id), Escaped(&job.message))));
    };
    conclude(session, id, result, passed);
    Ok(ExitCode::from(result.exit_code))
}

/// Passes a stream on as it comes, to the same stream here. Returns how many bytes there were.
fn pass_on(session: &Session, id: &str, stream: &str) -> Result<u64, Failure> {
    let target = format!("{}/logs?follow=true&run=1&stream={stream}", path(id));
    let request = Request { silence: None, ..Request::new("GET", &target) };
    let answer = match session.ask(id, &request) {
        // There is no run: it was killed before.
        Err(Failure::Refused(_)) => return Ok(0),
        answer => answer?,
    };
    let passed = match (session.json, stream) {
        (true, _) => session.pass_on(answer.body, io::sink()),
        (false, "stdout") => session.pass_on(answer.body, io::stdout()),
        (false, _) => session.pass_on(answer.body, io::stderr()),
    };
    if matches!(passed, Err(Failure::Unread | Failure::Refused(_))) {
        // Nobody gets it any more, as with a command that SIGPIPE ends, or that cannot write.
        kill(session, id);
    }
    passed
}

fn kill(session: &Session, id: &str) {
    let target = format!("{}/kill", path(id));
    match session.ask(id, &Request::new("PUT", &target)) {
        // It may be over.
        Ok(_) | Err(Failure::Refused(_)) => {}
        Err(failure) => session.note(failure),
    }
}

/// The job after its run, and the same as it was said.
fn after(session: &Session, id: &str) -> Result<(Job, Vec<u8>), Failure> {
    let said = session.get(id, &format!("{}?output=false&results=1", path(id)))?;
    Ok((session.understand(&said)?, said))
}

/// Says what cannot be seen from the output.
fn conclude(session: &Session, id: &str, result: &RunResult, passed: u64) {
    if let Some(error) = &result.error {
        session.note(format_args!("{}: {}", Escaped(id), Escaped(error)));
    }
    let written = result.stdout_bytes.saturating_add(result.stderr_bytes);
    if let lost @ 1.. = written.saturating_sub(passed) {
        session.note(format_args!(
            "{}: {lost} bytes of its output were lost: it was faster than its reader",
            Escaped(id)
        ));
    }
}

/// How much of a stream k1s keeps for a reader here that is slower than the job.
const KEPT_BYTES: u64 = 8 * 1024 * 1024;
