//! The verbs: `k1s start`, `kill`, `restart`, `run`, `signal`, `rm`, for some jobs.
//!
//! ```text
//!   ids, or those with a label ─▶ one request each ─▶ --wait: until it is done
//! ```
//!
//! What fails for one job does not keep it from being done for the others.

use std::process::ExitCode;

use argh::FromArgs;
use serde_json::json;

use super::Failure;
use super::events::Reader;
use super::http::Request;
use super::job::Job;
use super::ps::list;
use super::session::{Said, Session, path, print, print_bytes};
use super::text::Escaped;
use super::wait::{Goal, wait_for};

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Start,
    Kill,
    Restart,
    Run,
    Remove,
}

/// Which jobs, and whether to wait: the same for all verbs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Jobs<'a> {
    pub(super) ids: &'a [String],
    pub(super) label: Option<&'a str>,
    pub(super) waits: bool,
}

/// Declares the command of a verb: they differ in their name alone.
macro_rules! command {
    ($(#[$($help:tt)*])* $name:ident, $word:tt, $verb:expr) => {
        $(#[$($help)*])*
        #[derive(Clone, Debug, FromArgs, PartialEq, Eq)]
        #[argh(subcommand, name = $word, help_triggers("-h", "--help"))]
        pub struct $name {
            /// all jobs with this label
            #[argh(option, short = 'l', arg_name = "NAME=VALUE")]
            label: Option<String>,
            /// until it is done
            #[argh(switch)]
            wait: bool,
            /// these jobs
            #[argh(positional, arg_name = "ID")]
            ids: Vec<String>,
        }

        impl $name {
            pub(super) fn run(&self, session: &Session) -> Result<ExitCode, Failure> {
                let jobs =
                    Jobs { ids: &self.ids, label: self.label.as_deref(), waits: self.wait };
                $verb.apply(session, jobs)
            }
        }
    };
}

command! {
    /// Start jobs again, after a kill, or at once from backoff.
    Start, "start", Verb::Start
}
command! {
    /// Stop jobs; they stay listed. A second kill is SIGKILL.
    Kill, "kill", Verb::Kill
}
command! {
    /// Stop jobs and start them again.
    Restart, "restart", Verb::Restart
}
command! {
    /// Run cron or one-off jobs now.
    Run, "run", Verb::Run
}
command! {
    /// Stop jobs and remove them.
    Remove, "rm", Verb::Remove
}

/// Send jobs a signal.
#[derive(Clone, Debug, FromArgs, PartialEq, Eq)]
#[argh(subcommand, name = "signal", help_triggers("-h", "--help"))]
pub struct Signal {
    /// all jobs with this label
    #[argh(option, short = 'l', arg_name = "NAME=VALUE")]
    label: Option<String>,
    /// to all processes of the run, not to the first alone
    #[argh(switch)]
    group: bool,
    /// the signal: HUP, SIGUSR1
    #[argh(positional, arg_name = "SIG")]
    signal: String,
    /// these jobs
    #[argh(positional, arg_name = "ID")]
    ids: Vec<String>,
}

impl Signal {
    pub(super) fn run(&self, session: &Session) -> Result<ExitCode, Failure> {
        let name = self.signal.to_ascii_uppercase();
        let name = match name.strip_prefix("SIG") {
            Some(_) => name,
            None => format!("SIG{name}"),
        };
        let body = json!({"signal": name, "group": self.group}).to_string();
        let jobs = Jobs { ids: &self.ids, label: self.label.as_deref(), waits: false };
        jobs.each(session, |id| {
            let target = format!("{}/signal", path(id));
            say(session, id, &Request::new("PUT", &target).with_body(body.as_bytes()))
        })
    }
}

impl Verb {
    fn apply(self, session: &Session, jobs: Jobs<'_>) -> Result<ExitCode, Failure> {
        jobs.each(session, |id| {
            let (method, target) = self.request(id);
            // Only who listens before hears all.
            let mut events = match self {
                Verb::Run | Verb::Remove if jobs.waits => {
                    let mut reader = Reader::open(session, &[id.to_owned()])?;
                    reader.next()?;
                    Some(reader)
                }
                Verb::Run | Verb::Remove | Verb::Start | Verb::Restart | Verb::Kill => None,
            };
            say(session, id, &Request::new(method, &target))?;
            match (self, &mut events) {
                (Verb::Run, Some(events)) => see_run(session, id, events),
                (Verb::Remove, Some(events)) => see_removal(session, id, events),
                (Verb::Start | Verb::Restart, _) if jobs.waits => {
                    wait_for(session, id, Goal::Ready, None).map(drop)
                }
                (Verb::Kill, _) if jobs.waits => wait_for(session, id, Goal::Ended, None).map(drop),
                (Verb::Run | Verb::Remove | Verb::Start | Verb::Restart | Verb::Kill, _) => Ok(()),
            }
        })
    }

    fn request(self, id: &str) -> (&'static str, String) {
        let put = |verb: &str| ("PUT", format!("{}/{verb}", path(id)));
        match self {
            Verb::Start => put("start"),
            Verb::Kill => put("kill"),
            Verb::Restart => put("restart"),
            Verb::Run => put("run"),
            Verb::Remove => ("DELETE", path(id)),
        }
    }
}

/// Waits for the end of the run that was asked for: the next one that starts.
fn see_run(session: &Session, id: &str, events: &mut Reader<'_>) -> Result<(), Failure> {
    let mut ours = None;
    loop {
        let event = events.next()?;
        let data = event.data(session)?;
        match event.name.as_str() {
            "started" if ours.is_none() => ours = data.run,
            // One that could not be started has no start.
            "exited" if ours.is_none() || ours == data.run => {
                return match data.success {
                    Some(false) => Err(Failure::Refused(format!(
                        "{}: run {} {}",
                        Escaped(id),
                        data.run.unwrap_or_default(),
                        Escaped(&data.message)
                    ))),
                    Some(true) | None => Ok(()),
                };
            }
            "removed" => return Err(Failure::Refused(format!("{}: was removed", Escaped(id)))),
            _ => {}
        }
    }
}

fn see_removal(_: &Session, _: &str, events: &mut Reader<'_>) -> Result<(), Failure> {
    while events.next()?.name != "removed" {}
    Ok(())
}

impl Jobs<'_> {
    /// Does something for each job. The last failure is returned, those before it are printed.
    pub(super) fn each(
        self,
        session: &Session,
        mut act: impl FnMut(&str) -> Result<(), Failure>,
    ) -> Result<ExitCode, Failure> {
        let ids = match (self.ids, self.label) {
            ([], None) => {
                return Err(Failure::Usage("which jobs? Give their ids, or -l NAME=VALUE".into()));
            }
            ([], label @ Some(_)) => {
                let jobs: Vec<Job> = session.get_as("", &list(label))?;
                jobs.into_iter().map(|job| job.id).collect()
            }
            (ids, None) => ids.to_vec(),
            (_, Some(_)) => {
                return Err(Failure::Usage("give ids, or -l NAME=VALUE, not both".into()));
            }
        };
        let mut failed = None;
        for id in ids {
            match act(&id) {
                Err(refused @ Failure::Refused(_)) => {
                    if let Some(before) = failed.replace(refused) {
                        session.note(&before);
                    }
                }
                done => done?,
            }
        }
        failed.map_or(Ok(ExitCode::SUCCESS), Err)
    }
}

/// Asks, and prints what k1s says.
pub(super) fn say(session: &Session, id: &str, request: &Request<'_>) -> Result<(), Failure> {
    let answer = session.ask(id, request)?;
    let body = session.read(answer)?;
    if session.json {
        return print_bytes(&body);
    }
    let said: Said = session.understand(&body)?;
    print(format_args!("{}\n", Escaped(&said.message)))
}
