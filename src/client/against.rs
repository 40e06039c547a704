//! `k1s check -c FILE --against URL`: what a k1s would do if it read this config again.
//!
//! The client asks for the jobs that are there, and compares. Some things only that k1s itself
//! knows, and `POST /reload?dryRun=true` says: what its config declared before (a job that a user
//! has removed is not added again), its working directory and time zone, and secrets. What the
//! config leaves to those is taken to be as it is there.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use serde::Deserialize;

use super::http::{Client, Place};
use super::session::{Session, print};
use super::{Failure, finish};
use crate::config::{Declaration, Settings};
use crate::gather::{gather, try_gather};
use crate::job::spec::Kind;
use crate::job::{HIDDEN, JobId, JobSpec, Spelling, Value, field_named, parse};
use crate::schedule::Schedule;

/// Prints what a reload would do to the jobs of the k1s at `url`. Returns the exit code, and what
/// is to be said on stderr, if anything.
pub fn against(settings: &Settings, url: &str) -> (ExitCode, Option<String>) {
    finish(compare(settings, url))
}

fn compare(settings: &Settings, url: &str) -> Result<ExitCode, Failure> {
    let place = Place::parse(url).map_err(|why| Failure::Usage(format!("--against: {why}")))?;
    let token = settings.live.token.as_ref().map(|token| token.as_str().to_owned());
    let client = Client::new(vec![place], token)?;
    let session = Session::with(client, false);
    let shown: Vec<Shown> = session.get_as("", "/?output=false")?;
    let living = shown.into_iter().map(|job| job.understood(&session));
    let living: BTreeMap<JobId, Living> = try_gather(living)?;
    print(difference(settings, &living))?;
    Ok(ExitCode::SUCCESS)
}

/// A job object, of which only the specification and the origin matter.
#[derive(Deserialize)]
struct Shown {
    id: String,
    origin: String,
    #[serde(flatten)]
    fields: BTreeMap<String, Value>,
}

/// A job that is there.
#[derive(Debug)]
struct Living {
    spec: JobSpec,
    is_declared: bool,
}

impl Shown {
    fn understood(self, session: &Session) -> Result<(JobId, Living), Failure> {
        let fields = self.fields.into_iter();
        let of_spec = fields.filter(|(name, _)| field_named(name, Spelling::Camel).is_some());
        let spec = parse(Value::Table(of_spec.collect()), "/", Spelling::Camel);
        match (JobId::parse(&self.id), spec) {
            (Ok(id), Ok(spec)) => Ok((id, Living { spec, is_declared: self.origin == "config" })),
            (Err(_), _) | (_, Err(_)) => Err(Failure::Unreachable(format!(
                "what answers at {} shows a job that this k1s does not understand; is it of \
                 another version?",
                session.client.place()
            ))),
        }
    }
}

/// What a reload would do, a line for each kind of change that there is.
fn difference(settings: &Settings, living: &BTreeMap<JobId, Living>) -> String {
    let (mut added, mut removed, mut replaced, mut updated) = (vec![], vec![], vec![], vec![]);
    let mut unchanged = 0;
    for job in &settings.jobs {
        let Some(old) = living.get(&job.id).map(|living| &living.spec) else {
            added.push(&job.id);
            continue;
        };
        let new = as_there(job, old, settings);
        if new.kind.job_type() != old.kind.job_type() {
            removed.push(&job.id);
            added.push(&job.id);
        } else if new == *old {
            unchanged += 1;
        } else if new.is_same_process(old) {
            updated.push(&job.id);
        } else {
            replaced.push(&job.id);
        }
    }
    let declared: BTreeSet<&JobId> = gather(settings.jobs.iter().map(|job| &job.id));
    let gone = |(id, job): &(&JobId, &Living)| job.is_declared && !declared.contains(id);
    removed.extend(living.iter().filter(gone).map(|(id, _)| id));
    let mut text = String::new();
    for (what, ids) in
        [("added", added), ("removed", removed), ("replaced", replaced), ("updated", updated)]
    {
        if !ids.is_empty() {
            let ids: Vec<&str> = ids.into_iter().map(JobId::as_str).collect();
            text.push_str(&format!("{what}: {}\n", ids.join(", ")));
        }
    }
    text + &format!("unchanged: {unchanged}\n")
}

/// The job as the other k1s would read it, as far as can be known.
fn as_there(job: &Declaration, old: &JobSpec, settings: &Settings) -> JobSpec {
    let mut spec = (*job.spec).clone();
    if !job.gives("workingDirectory") {
        spec.command.working_directory.clone_from(&old.command.working_directory);
    }
    if let (Kind::Cron(new), Kind::Cron(old)) = (&mut spec.kind, &old.kind)
        && let (Schedule::Cron(a), Schedule::Cron(b)) = (&new.schedule, &old.schedule)
        && a.expression() == b.expression()
        && !job.gives("timeZone")
        && !settings.sets("cron.time_zone")
    {
        new.schedule = old.schedule.clone();
    }
    for name in &spec.secret_environment {
        if let Some(value) = spec.command.environment.get_mut(name) {
            *value = HIDDEN.to_owned();
        }
    }
    spec
}
