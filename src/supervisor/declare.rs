//! What the config declares: jobs come, change and go with it.
//!
//! ```text
//!   declared the last time ┐         ┌─▶ added, removed, replaced: as by POST, DELETE and PUT
//!   declared now ──────────┼─▶ Plan ─┼─▶ updated: taken over in place
//!   the jobs that are there┘         └─▶ unchanged: left alone, with its runs
//! ```
//!
//! A plan is made before anything is changed, so that it is done as a whole or not at all. Jobs of
//! the API are left alone, unless the config declares their id: then they are the config's.
//!
//! What users have killed or removed, and jobs that have removed themselves, stay so until the
//! config changes what it declares: so the supervisor remembers that. A specification that was
//! changed by a user is put back.
//!
//! It is done in one turn, 4 to 8 µs a job: in between, requests could make circles of old and new
//! dependencies. What follows, such as signals and spawns, comes in shares of a turn as always.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::{Happened, Job, JobKey, Origin, Refusal, Request, Supervisor, Together, Topic};
use crate::gather::gather;
use crate::job::spec::Critical;
use crate::job::{JobId, JobSpec};
use crate::time::Now;

/// What was done about the jobs of a config, or would be. A job whose type has changed is removed
/// and added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declared {
    /// Those that are new, in the order of the config.
    pub added: Vec<JobId>,
    /// Those that are no longer declared.
    pub removed: Vec<JobId>,
    /// Those that are started again with another specification.
    pub replaced: Vec<JobId>,
    /// Those whose processes do not see what has changed, and those that were killed and are
    /// started again.
    pub updated: Vec<JobId>,
    /// How many others there are.
    pub unchanged: usize,
}

/// What is to be done about a job that is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It is there and equal, or a user or the job itself has removed it.
    Keep,
    Add,
    /// It has another specification, or is only to start again after a kill.
    Update {
        starts_again: bool,
    },
    Replace {
        starts_again: bool,
    },
    /// The living job is of another type.
    Exchange,
}

impl Supervisor {
    /// Says what [`Supervisor::declare`] would do.
    ///
    /// # Errors
    /// As there.
    pub fn preview(
        &self,
        jobs: &[(JobId, Rc<JobSpec>)],
        job_limit: usize,
    ) -> Result<Declared, Refusal> {
        self.plan(jobs, job_limit).map(|(_, declared)| declared)
    }

    /// Applies the difference between these jobs, all that the config declares, and those that are
    /// there. From then on there may be `job_limit` jobs. They depend only on each other, and none
    /// on itself, as the config has made sure; so they do not with those of the API either.
    ///
    /// # Errors
    /// Nothing is changed. `ShuttingDown`; `TooManyJobs`; `Exists`: the main job is not the
    /// config's.
    pub fn declare(
        &mut self,
        jobs: Vec<(JobId, Rc<JobSpec>)>,
        job_limit: usize,
        now: Now,
    ) -> Result<Declared, Refusal> {
        let (steps, declared) = self.plan(&jobs, job_limit)?;
        self.core.settings.job_limit = job_limit;
        self.withdraw(&declared.removed, now);
        // New jobs come first: one that has ended may become critical, and begin the shutdown.
        let is_new = |step: &Step| matches!(step, Step::Add | Step::Exchange);
        for wanted in [true, false] {
            for ((id, spec), step) in jobs.iter().zip(&steps) {
                if is_new(step) == wanted {
                    self.carry_out(*step, id, spec, now);
                }
            }
        }
        let remember = |((id, spec), step)| {
            let spec = self.remembered(step, &id, spec);
            (id, spec)
        };
        self.declared = gather(jobs.into_iter().zip(steps).map(remember));
        Ok(declared)
    }

    fn plan(
        &self,
        jobs: &[(JobId, Rc<JobSpec>)],
        job_limit: usize,
    ) -> Result<(Vec<Step>, Declared), Refusal> {
        if self.is_shutting_down() {
            return Err(Refusal::ShuttingDown);
        }
        if jobs.iter().any(|(id, _)| self.is_main(id.as_str())) {
            return Err(Refusal::Exists);
        }
        let mut declared = Declared { removed: self.undeclared(jobs), ..Declared::default() };
        let mut steps = Vec::with_capacity(jobs.len());
        for (id, spec) in jobs {
            let step = self.step(id, spec);
            steps.push(step);
            match step {
                Step::Keep => declared.unchanged += 1,
                Step::Add => declared.added.push(id.clone()),
                Step::Update { .. } => declared.updated.push(id.clone()),
                Step::Replace { .. } => declared.replaced.push(id.clone()),
                Step::Exchange => {
                    declared.removed.push(id.clone());
                    declared.added.push(id.clone());
                }
            }
        }
        let count = self.ids.len() - declared.removed.len() + declared.added.len();
        // Removed jobs are there until their processes have ended.
        let with_removed = self.jobs.len() + declared.added.len();
        let is_over = count > job_limit || with_removed > job_limit.saturating_mul(2);
        if is_over && !declared.added.is_empty() {
            return Err(Refusal::TooManyJobs);
        }
        Ok((steps, declared))
    }

    fn step(&self, id: &JobId, spec: &JobSpec) -> Step {
        let before = self.declared.get(id);
        let is_news = || before.is_none_or(|before| **before != *spec);
        let Some(job) = self.ids.get(id).and_then(|key| self.jobs.get(key)) else {
            return if is_news() { Step::Add } else { Step::Keep };
        };
        if job.spec.kind.job_type() != spec.kind.job_type() {
            return Step::Exchange;
        }
        let starts_again = job.kill_requested && spec.autostart && is_news();
        let is_same = *job.spec == *spec;
        match is_same || spec.is_same_process(&job.spec) {
            true if is_same && !starts_again => Step::Keep,
            true => Step::Update { starts_again },
            false => Step::Replace { starts_again },
        }
    }

    /// The jobs of the config that these do not declare any more.
    fn undeclared(&self, jobs: &[(JobId, Rc<JobSpec>)]) -> Vec<JobId> {
        let ids: BTreeSet<&JobId> = gather(jobs.iter().map(|(id, _)| id));
        let is_ours = |id: &JobId| {
            let job = self.ids.get(id).and_then(|key| self.jobs.get(key));
            job.is_some_and(|job| job.origin == Origin::Config)
        };
        let gone = self.declared.keys().filter(|id| !ids.contains(id) && is_ours(id));
        gone.cloned().collect()
    }

    /// Removes jobs that are not declared any more, in the order of their dependencies. They do not
    /// end k1s, even if they are critical.
    fn withdraw(&mut self, ids: &[JobId], now: Now) {
        for key in ids.iter().filter_map(|id| self.ids.get(id)) {
            if let Some(job) = self.jobs.get_mut(key) {
                job.never_ends_all();
            }
        }
        // The main job is never among them, so all of them are there and go.
        let _ = self.stop_together(Together::Remove, ids, now);
    }

    fn carry_out(&mut self, step: Step, id: &JobId, spec: &Rc<JobSpec>, now: Now) {
        let key = self.ids.get(id).copied();
        let starts_again = match step {
            Step::Add | Step::Exchange => {
                return self.add(id.clone(), spec.clone(), Origin::Config, now);
            }
            Step::Keep => return key.into_iter().for_each(|key| self.take_over(key)),
            Step::Update { starts_again } | Step::Replace { starts_again } => starts_again,
        };
        // It was there when the plan was made, and no other step removes it.
        let Some(key) = key else { return };
        self.take_over(key);
        if self.jobs.get(&key).is_some_and(|job| *job.spec != **spec) {
            self.respecify(key, spec.clone(), now);
        }
        if starts_again {
            self.update(key, now, |job, core| {
                job.tell(Happened::Asked(Request::Start), core, now);
                job.start(core, now);
            });
        }
    }

    /// What is remembered of a declaration: as a rule the job's own specification, which takes no
    /// memory.
    fn remembered(&self, step: Step, id: &JobId, spec: Rc<JobSpec>) -> Rc<JobSpec> {
        match step {
            Step::Keep => {
                let job = self.ids.get(id).and_then(|key| self.jobs.get(key));
                job.map_or(spec, |job| job.spec.clone())
            }
            Step::Add | Step::Update { .. } | Step::Replace { .. } | Step::Exchange => spec,
        }
    }

    fn take_over(&mut self, key: JobKey) {
        if let Some(job) = self.jobs.get_mut(&key)
            && job.origin != Origin::Config
        {
            job.origin = Origin::Config;
            self.core.changed.note(Topic::Job(key));
        }
    }
}

impl Job {
    /// It is removed because the config does not want it any more, also not to end k1s.
    fn never_ends_all(&mut self) {
        if self.spec.critical != Critical::No {
            self.spec = Rc::new(JobSpec { critical: Critical::No, ..(*self.spec).clone() });
        }
    }
}
