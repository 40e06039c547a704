//! `k1s apply`: creates or replaces the jobs of a file.
//!
//! ```text
//!   TOML: [job.ID], [defaults], instances…, as in a config ─┐
//!   JSON: a job object, or a list of them ──────────────────┴─▶ PUT, one after the other
//! ```
//!
//! Only what is given is sent, so that the defaults are those of the k1s that is asked. Jobs that
//! the file does not name are left alone.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use argh::FromArgs;
use serde_json::{Map, Value};

use super::Failure;
use super::session::{Refusals, Session};
use super::set::change;
use crate::config;
use crate::gather::gather;
use crate::job::{self, Secrets};
use crate::os;

/// Create or replace the jobs of a file, TOML as in a config, or JSON as the API shows them.
#[derive(Clone, Debug, FromArgs, PartialEq, Eq)]
#[argh(subcommand, name = "apply", help_triggers("-h", "--help"))]
pub struct Apply {
    /// the file; -: standard input
    #[argh(option, short = 'f', arg_name = "FILE")]
    file: PathBuf,
    /// only say what would be done
    #[argh(switch)]
    dry_run: bool,
}

impl Apply {
    pub(super) fn run(&self, session: &Session) -> Result<ExitCode, Failure> {
        let mut refusals = Refusals::default();
        for (id, body) in self.jobs()? {
            let done = change(session, "PUT", &id, body.as_bytes(), self.dry_run);
            refusals.allow(session, done)?;
        }
        refusals.end()
    }

    /// The ids and specifications of the jobs.
    fn jobs(&self) -> Result<Vec<(String, String)>, Failure> {
        let name = self.file.display().to_string();
        let wrong = |why: String| Failure::Usage(format!("{name}: {why}"));
        let text = match self.file == Path::new("-") {
            true => read(io::stdin()),
            false => fs::File::open(&self.file).and_then(read),
        };
        let text = text.map_err(|error| wrong(error.to_string()))?;
        match is_json(&text) {
            true => from_json(&text).map_err(wrong),
            false if text.trim().is_empty() => {
                Err(wrong("is empty; it must be TOML as in a config, or JSON".to_owned()))
            }
            false => from_toml(&text, &name),
        }
    }
}

/// Reads all of a file or a pipe.
fn read(from: impl Read) -> io::Result<String> {
    let mut text = String::new();
    from.take(config::LARGEST_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > config::LARGEST_FILE {
        let why = format!("is larger than {} bytes", config::LARGEST_FILE);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(text)
}

/// Whether it is JSON: an object, or a list of them, neither of which TOML can begin with. A list
/// of anything else is an error either way.
fn is_json(text: &str) -> bool {
    let text = text.trim_start();
    let listed = text.strip_prefix('[').map(str::trim_start);
    text.starts_with('{') || listed.is_some_and(|listed| listed.starts_with(['{', ']']))
}

/// The jobs of a config; everything else that it holds is checked, and not needed. Files that it
/// includes are looked for from where it is.
fn from_toml(text: &str, file: &str) -> Result<Vec<(String, String)>, Failure> {
    // Relative directories are those of k1s, not of this process.
    let read: config::ReadFile = |path| os::file::read_now(path, config::LARGEST_FILE);
    let environment = config::Environment {
        port: None,
        token: None,
        socket: None,
        directory: String::new(),
        ..config::Environment::of_process(read, read)
    };
    let settings = config::parse(text, file, &environment);
    let settings = settings.map_err(|error| Failure::Usage(error.to_string()))?;
    let given = |declared: &config::Declaration| {
        let fields = job::write(&declared.spec, Secrets::Plain);
        let given = fields.into_iter().filter(|(name, _)| *name == "type" || declared.gives(name));
        let body: Map<String, Value> = gather(given.filter_map(|(name, field)| {
            Some((name.to_owned(), serde_json::to_value(field).ok()?))
        }));
        (declared.id.as_str().to_owned(), Value::Object(body).to_string())
    };
    Ok(settings.jobs.iter().map(given).collect())
}

/// One job object, or a list of them, each with its `id`.
fn from_json(text: &str) -> Result<Vec<(String, String)>, String> {
    let given: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let jobs = match given {
        Value::Array(jobs) => jobs,
        job => vec![job],
    };
    let id = |(index, job): (usize, Value)| match job.get("id").and_then(Value::as_str) {
        Some(id) => Ok((id.to_owned(), job.to_string())),
        None => Err(format!("job {} has no id; it must be an object with \"id\"", index + 1)),
    };
    jobs.into_iter().enumerate().map(id).collect()
}
