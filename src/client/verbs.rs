//! The verbs: `k1s start`, `kill`, `restart`, `run`, `signal`, `rm`, for some jobs.
//!
//! ```text
//!   ids     ─▶ a request for each ─┬─▶ --wait: until it is done for each
//!   a label ─▶ one request for all ─┘   (rm: for each as well)
//! ```
//!
//! What fails for one job does not keep it from being done for the others.

use std::collections::BTreeSet;
use std::process::ExitCode;

use argh::FromArgs;
use serde::Deserialize;
use serde_json::json;

use super::Failure;
use super::events::{Reader, SNAPSHOT};
use super::http::{Request, encode};
use super::job::{Job, RunResult};
use super::ps::list;
use super::session::{Refusals, Said, Session, path, print, print_bytes};
use super::text::Escaped;
use super::wait::{Goal, wait_for};
use crate::gather::gather;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Start,
    Kill,
    Restart,
    Run,
    Remove,
}

/// Which jobs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Jobs<'a> {
    pub(super) ids: &'a [String],
    pub(super) label: Option<&'a str>,
}

/// What they are asked: a verb of the API.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask<'a> {
    pub(super) verb: &'static str,
    pub(super) body: Option<&'a str>,
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
                let jobs = Jobs { ids: &self.ids, label: self.label.as_deref() };
                $verb.apply(session, jobs, self.wait)
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
        let jobs = Jobs { ids: &self.ids, label: self.label.as_deref() };
        let (_, refusals) = jobs.ask(session, Ask { verb: "signal", body: Some(&body) })?;
        refusals.end()
    }
}

impl Verb {
    fn apply(self, session: &Session, jobs: Jobs<'_>, waits: bool) -> Result<ExitCode, Failure> {
        // Only who listens before hears all.
        let events = match self {
            Verb::Run | Verb::Remove if waits => {
                let mut events = Reader::open(session, jobs.ids)?;
                events.next()?;
                Some(events)
            }
            Verb::Run | Verb::Remove | Verb::Start | Verb::Restart | Verb::Kill => None,
        };
        let (asked, mut refusals) = jobs.ask(session, Ask { verb: self.name(), body: None })?;
        match (self, events) {
            (Verb::Run, Some(events)) => see_runs(session, &asked, events, &mut refusals)?,
            (Verb::Remove, Some(events)) => {
                see_removals(session, &asked, events, &mut refusals)?;
            }
            (Verb::Run | Verb::Remove | Verb::Start | Verb::Restart | Verb::Kill, _) if !waits => {}
            (Verb::Kill, _) => {
                for id in &asked {
                    refusals.allow(session, wait_for(session, id, Goal::Ended, None))?;
                }
            }
            (Verb::Run | Verb::Remove | Verb::Start | Verb::Restart, _) => {
                for id in &asked {
                    refusals.allow(session, wait_for(session, id, Goal::Ready, None))?;
                }
            }
        }
        refusals.end()
    }

    fn name(self) -> &'static str {
        match self {
            Verb::Start => "start",
            Verb::Kill => "kill",
            Verb::Restart => "restart",
            Verb::Run => "run",
            Verb::Remove => REMOVE,
        }
    }
}

/// A run that was asked for, when it has started.
struct Started {
    run: u64,
    /// When: a k1s that has started again may count from 1 again.
    at: String,
}

/// Waits for the ends of the runs that were asked for: of each job the next one that starts.
fn see_runs(
    session: &Session,
    ids: &[String],
    mut events: Reader<'_>,
    refusals: &mut Refusals,
) -> Result<(), Failure> {
    let mut awaited: Vec<(&String, Option<Started>)> = Vec::new();
    for id in ids {
        // One that is named twice is waited for once.
        if !awaited.iter().any(|(known, _)| *known == id) {
            awaited.push((id, None));
        }
    }
    while !awaited.is_empty() {
        let event = events.next()?;
        if event.name == SNAPSHOT {
            // What happened meanwhile is to be seen from the jobs alone.
            for (id, ours) in std::mem::take(&mut awaited) {
                match fate_of_run(session, id, ours.as_ref(), event.is_of_another) {
                    Ok(None) => awaited.push((id, ours)),
                    fate => drop(refusals.allow(session, fate)?),
                }
            }
            continue;
        }
        let data = event.data(session)?;
        let about = awaited.iter().position(|(id, _)| *id == data.job());
        let Some((index, (id, ours))) =
            about.and_then(|index| Some((index, awaited.get_mut(index)?)))
        else {
            continue;
        };
        let id = Escaped(id);
        // One that cannot be started has no start.
        let is_ours = match ours {
            Some(ours) => Some(ours.run) == data.run,
            None => data.reason == "spawn-failed",
        };
        let done = match event.name.as_str() {
            "started" => {
                if let (None, Some(run)) = (&ours, data.run) {
                    *ours = Some(Started { run, at: data.time });
                }
                continue;
            }
            "exited" if is_ours && data.success == Some(false) => {
                let (run, message) = (data.run.unwrap_or_default(), Escaped(&data.message));
                Err(Failure::Refused(format!("{id}: run {run} {message}")))
            }
            "exited" if is_ours => Ok(()),
            "removed" => Err(Failure::Refused(format!("{id}: was removed"))),
            _ => continue,
        };
        awaited.remove(index);
        refusals.allow(session, done)?;
    }
    Ok(())
}

/// What has become of a run whose events may have been missed; `None`: it is not over.
fn fate_of_run(
    session: &Session,
    id: &str,
    ours: Option<&Started>,
    has_restarted: bool,
) -> Result<Option<()>, Failure> {
    let target = format!("{}?output=false", path(id));
    let refused = |why: String| Err(Failure::Refused(format!("{}: {why}", Escaped(id))));
    let job: Job = match session.get_again(id, &target) {
        Err(Failure::Refused(_)) if has_restarted => {
            return refused("is not there any more: k1s has started again meanwhile".to_owned());
        }
        body => session.understand(&body?)?,
    };
    let is_ours = |result: &&RunResult| {
        ours.is_some_and(|ours| result.run == ours.run && result.started_at.text() == ours.at)
    };
    match (job.results.iter().find(is_ours), ours) {
        (Some(result), _) if result.success => Ok(Some(())),
        (Some(result), _) => refused(format!("run {} {}", result.run, Escaped(&result.sentence()))),
        (None, Some(ours)) if has_restarted => {
            refused(format!("run {} is lost: k1s has started again meanwhile", ours.run))
        }
        (None, None) if has_restarted => refused(
            "k1s has started again before the run was seen to start; what has run, k1s show says"
                .to_owned(),
        ),
        (None, Some(_)) if job.pid.is_some() => Ok(None),
        (None, _) => refused(
            "events were missed, and with them how the run ended; k1s show may still say it"
                .to_owned(),
        ),
    }
}

/// Waits until all of these jobs are gone.
fn see_removals(
    session: &Session,
    ids: &[String],
    mut events: Reader<'_>,
    refusals: &mut Refusals,
) -> Result<(), Failure> {
    let mut awaited: BTreeSet<&str> = gather(ids.iter().map(|id| &**id));
    while !awaited.is_empty() {
        let event = events.next()?;
        match event.name.as_str() {
            "removed" => {
                awaited.remove(event.data(session)?.job());
            }
            SNAPSHOT => {
                for id in std::mem::take(&mut awaited) {
                    refusals.allow(session, fate_of_removed(session, id, event.is_of_another))?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// What has become of a job that was removed, when the events that say so were missed.
fn fate_of_removed(session: &Session, id: &str, has_restarted: bool) -> Result<(), Failure> {
    let target = format!("{}?output=false&results=0", path(id));
    let why = match (session.get_again(id, &target), has_restarted) {
        (Err(Failure::Refused(_)), true) => return Ok(()),
        (Err(Failure::Refused(_)), false) => {
            "is removed; events were missed, and with them whether its processes have ended"
        }
        (Err(failure), _) => return Err(failure),
        (Ok(_), true) => "is there again: k1s has started again meanwhile",
        (Ok(_), false) => "is there again: there is a new job of this id",
    };
    Err(Failure::Refused(format!("{}: {why}", Escaped(id))))
}

impl Jobs<'_> {
    /// Asks the jobs, and prints what k1s says. Returns the ids of those that do it, and what the
    /// others have refused.
    pub(super) fn ask(
        self,
        session: &Session,
        ask: Ask<'_>,
    ) -> Result<(Vec<String>, Refusals), Failure> {
        let ids = match (self.ids, self.label) {
            ([], None) => {
                return Err(Failure::Usage("which jobs? Give their ids, or -l NAME=VALUE".into()));
            }
            (_, Some(_)) if !self.ids.is_empty() => {
                return Err(Failure::Usage("give ids, or -l NAME=VALUE, not both".into()));
            }
            (_, Some(label)) if ask.verb != REMOVE => {
                return Ok((ask.all(session, label)?, Refusals::default()));
            }
            (_, label @ Some(_)) => {
                let jobs: Vec<Job> = session.get_as("", &list(label))?;
                jobs.into_iter().map(|job| job.id).collect()
            }
            (ids, None) => ids.to_vec(),
        };
        let (mut asked, mut refusals) = (Vec::new(), Refusals::default());
        for id in ids {
            if refusals.allow(session, ask.one(session, &id))?.is_some() {
                asked.push(id);
            }
        }
        Ok((asked, refusals))
    }
}

impl Ask<'_> {
    /// Asks one job.
    fn one(self, session: &Session, id: &str) -> Result<(), Failure> {
        let target = path(id);
        let answer = match self.verb {
            REMOVE => session.ask(id, &Request::new("DELETE", &target))?,
            verb => session.ask(id, &self.request(&format!("{target}/{verb}")))?,
        };
        let said = session.read(answer)?;
        if session.json {
            return print_bytes(&said);
        }
        let Said { message } = session.understand(&said)?;
        print(format_args!("{}\n", Escaped(&message)))
    }

    /// Asks all jobs with a label, which k1s stops in order. Returns those that do it; others, such
    /// as a one-off job that is over, have nothing to do.
    fn all(self, session: &Session, label: &str) -> Result<Vec<String>, Failure> {
        #[derive(Deserialize)]
        struct Done {
            jobs: Vec<String>,
        }
        let target = format!("/jobs/{}?label={}", self.verb, encode(label));
        let answer = session.ask("", &self.request(&target))?;
        let said = session.read(answer)?;
        let Done { jobs } = session.understand(&said)?;
        if jobs.is_empty() {
            session.note(format_args!("no job with {} to {}", Escaped(label), self.verb));
        }
        if session.json {
            print_bytes(&said)?;
            return Ok(jobs);
        }
        let (first, rest) = self.verb.split_at(1);
        let verb = first.to_ascii_uppercase() + rest;
        let line = |id: &String| format!("{verb} requested for job {}\n", Escaped(id));
        print(jobs.iter().map(line).collect::<String>())?;
        Ok(jobs)
    }

    fn request<'a>(&'a self, target: &'a str) -> Request<'a> {
        Request { body: self.body.map(str::as_bytes), ..Request::new("PUT", target) }
    }
}

/// What is no verb of the API: DELETE.
const REMOVE: &str = "remove";
