//! `k1s reload`: k1s reads its config again, or jobs theirs.

use std::fmt::Write;
use std::process::ExitCode;

use argh::FromArgs;
use serde::Deserialize;

use super::Failure;
use super::http::Request;
use super::session::{Session, print, print_bytes};
use super::text::Escaped;
use super::verbs::{Ask, Jobs};

/// Read the config again, and apply the difference; with jobs: let them read theirs.
#[derive(Clone, Debug, FromArgs, PartialEq, Eq)]
#[argh(subcommand, name = "reload", help_triggers("-h", "--help"))]
pub struct Reload {
    /// only say what would be done with the config
    #[argh(switch)]
    dry_run: bool,
    /// all jobs with this label
    #[argh(option, short = 'l', arg_name = "NAME=VALUE")]
    label: Option<String>,
    /// these jobs
    #[argh(positional, arg_name = "ID")]
    ids: Vec<String>,
}

/// What was done with the config.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reloaded {
    added: Vec<String>,
    removed: Vec<String>,
    replaced: Vec<String>,
    updated: Vec<String>,
    unchanged: u64,
    needs_restart: Vec<String>,
}

impl Reload {
    pub(super) fn run(&self, session: &Session) -> Result<ExitCode, Failure> {
        if self.ids.is_empty() && self.label.is_none() {
            return self.config(session);
        }
        if self.dry_run {
            return Err(Failure::Usage("--dry-run is for the config, without jobs".into()));
        }
        let jobs = Jobs { ids: &self.ids, label: self.label.as_deref() };
        let (_, refusals) = jobs.ask(session, Ask { verb: "reload", body: None })?;
        refusals.end()
    }

    fn config(&self, session: &Session) -> Result<ExitCode, Failure> {
        let target = if self.dry_run { "/reload?dryRun=true" } else { "/reload" };
        let answer = session.ask("", &Request::new("POST", target))?;
        let said = session.read(answer)?;
        match session.json {
            true => print_bytes(&said)?,
            false => print(session.understand::<Reloaded>(&said)?.for_people(self.dry_run))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Reloaded {
    fn for_people(&self, dry_run: bool) -> String {
        let mut out = String::new();
        for (what, ids) in [
            ("added", &self.added),
            ("removed", &self.removed),
            ("replaced", &self.replaced),
            ("updated", &self.updated),
        ] {
            for id in ids {
                let _ = writeln!(out, "{}: {what}", Escaped(id));
            }
        }
        let _ = writeln!(
            out,
            "{} unchanged{}",
            self.unchanged,
            if dry_run { " (dry run)" } else { "" }
        );
        for key in &self.needs_restart {
            let _ = writeln!(out, "{}: counts after a restart of k1s", Escaped(key));
        }
        out
    }
}
