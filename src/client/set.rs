//! `k1s set`: changes variables of a job's environment.

use std::process::ExitCode;

use argh::FromArgs;
use serde_json::{Map, Value, json};

use super::Failure;
use super::http::Request;
use super::session::{Said, Session, path, print, print_bytes};
use super::text::Escaped;
use crate::gather::try_gather;

/// Change variables of the environment of a job; its process is replaced.
#[derive(Clone, Debug, FromArgs, PartialEq, Eq)]
#[argh(subcommand, name = "set", help_triggers("-h", "--help"))]
pub struct Set {
    /// only say what would be done
    #[argh(switch)]
    dry_run: bool,
    /// the job
    #[argh(positional, arg_name = "ID")]
    id: String,
    /// variables, NAME=VALUE; NAME= is an empty one
    #[argh(positional, arg_name = "NAME=VALUE")]
    variables: Vec<String>,
}

impl Set {
    pub(super) fn run(&self, session: &Session) -> Result<ExitCode, Failure> {
        if self.variables.is_empty() {
            return Err(Failure::Usage("which variables? Give NAME=VALUE".into()));
        }
        let body = json!({"environment": variables(&self.variables)?}).to_string();
        change(session, "PATCH", &self.id, body.as_bytes(), self.dry_run)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Reads `NAME=VALUE`s.
pub(super) fn variables(given: &[String]) -> Result<Map<String, Value>, Failure> {
    let pair = |given: &String| match given.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.into())),
        Some(_) | None => Err(Failure::Usage(format!("{given:?} must be NAME=VALUE"))),
    };
    try_gather(given.iter().map(pair))
}

/// Changes a job by PUT or PATCH, and prints what was done, or would be.
pub(super) fn change(
    session: &Session,
    method: &str,
    id: &str,
    body: &[u8],
    dry_run: bool,
) -> Result<(), Failure> {
    let query = if dry_run { "?dryRun=true" } else { "" };
    let target = format!("{}{query}", path(id));
    let answer = session.ask(id, &Request::new(method, &target).with_body(body))?;
    let said = session.read(answer)?;
    if session.json {
        return print_bytes(&said);
    }
    let Said { message } = session.understand(&said)?;
    let done = message.strip_prefix("Job ").unwrap_or(&message);
    let would = if dry_run { " (dry run)" } else { "" };
    print(format_args!("{}: {}{would}\n", Escaped(id), Escaped(done)))
}
