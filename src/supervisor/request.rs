//! What users ask of jobs: by the API, or by the config when k1s starts.
//!
//! A request names a job by its id, and is accepted or refused at once. Its effects come later,
//! as actions and events.

use std::rc::Rc;

use super::{Core, Happened, Job, JobKey, Supervisor, Together};
use crate::access::Asker;
use crate::job::spec::{Critical, Kind};
use crate::job::{JobId, JobSpec, Signal, Trigger};
use crate::time::Now;

/// What can be asked of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named like the requests of the API")]
pub enum Request {
    Start,
    Restart,
    Run,
    Signal(Signal),
    Reload,
    Kill,
    Remove,
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such job.
    NotFound,
    /// There is a job of this id already.
    Exists,
    /// There are as many jobs as the limit allows.
    TooManyJobs,
    /// k1s is shutting down.
    ShuttingDown,
    /// The one-off job has ended.
    Over,
    /// The job is of another type than the new one.
    OtherType,
    /// A continuous job cannot be run on request.
    NotRunnable,
    /// The job was killed, and must be started first.
    Killed,
    /// A run is active, and the job's policy forbids another.
    Forbidden,
    /// Only a continuous job loads its configuration again.
    NotReloadable,
    /// No process of the job is running.
    NotRunning,
    /// As many requests for many jobs wait as may.
    TooManyBatches,
    /// A cron job is not run while what it depends on is not there.
    Blocked,
    /// The job would wait for itself: [`Supervisor::tangle`] says how.
    Tangled,
    /// As many requests to read the config again wait as may.
    Busy,
    /// Nothing can be stored now, for this reason.
    Unsaved(&'static str),
}

/// Who registered a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A user of the API.
    Api,
    /// The config, or the command line.
    Config,
}

impl Origin {
    /// What its first run says why it was started.
    pub(super) fn trigger(self) -> Trigger {
        match self {
            Origin::Api => Trigger::Created,
            Origin::Config => Trigger::Config,
        }
    }
}

/// What [`Supervisor::put`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It created the job.
    Created,
    /// It gave the job a new specification.
    Replaced,
    /// The job has the same specification already.
    Unchanged,
}

impl Supervisor {
    /// Does what this user asks for: events of what is changed say so.
    pub fn on_behalf_of<T>(&mut self, asker: &Asker, act: impl FnOnce(&mut Supervisor) -> T) -> T {
        let before = self.core.asker.replace(asker.clone());
        let outcome = act(self);
        self.core.asker = before;
        outcome
    }

    /// Registers a job. If it is not to be idle, it starts as soon as no process of a removed job of
    /// the same id is left.
    ///
    /// # Errors
    /// `Exists`, `TooManyJobs`, `ShuttingDown`, `Tangled`.
    pub fn create(&mut self, id: JobId, spec: JobSpec, now: Now) -> Result<(), Refusal> {
        self.register(id, spec, Origin::Api, now)
    }

    /// As [`Supervisor::create`], for the job of the command line: no change of the config concerns
    /// it.
    ///
    /// # Errors
    /// As there.
    pub(super) fn create_main(
        &mut self,
        id: JobId,
        spec: JobSpec,
        now: Now,
    ) -> Result<(), Refusal> {
        self.register(id, spec, Origin::Config, now)
    }

    fn register(
        &mut self,
        id: JobId,
        spec: JobSpec,
        origin: Origin,
        now: Now,
    ) -> Result<(), Refusal> {
        if self.is_shutting_down() {
            return Err(Refusal::ShuttingDown);
        }
        if self.ids.contains_key(&id) {
            return Err(Refusal::Exists);
        }
        self.refuse_tangle(&id, &spec)?;
        self.core.refuse_unsaved()?;
        self.has_room()?;
        self.add(id, Rc::new(spec), origin, now);
        Ok(())
    }

    /// Adds a job, whose id is free and which does not wait for itself.
    pub(super) fn add(&mut self, id: JobId, spec: Rc<JobSpec>, origin: Origin, now: Now) {
        self.last_key += 1;
        let key = JobKey(self.last_key);
        self.ids.insert(id.clone(), key);
        self.link(key, &spec.depends_on, now);
        self.jobs.insert(key, Box::new(Job::new(key, id, spec, origin, now)));
        self.update(key, now, |job, core| {
            job.tell(Happened::Created, core, now);
            job.begin_life(core, now);
        });
    }

    /// Registers a job, or gives the job of this id a new specification. It keeps its results, run
    /// numbers and time of creation; the main job stays critical. An idle job stays idle, and no
    /// other becomes so.
    ///
    /// # Errors
    /// `OtherType`, `TooManyJobs`, `ShuttingDown`, `Tangled`.
    pub fn put(&mut self, id: JobId, spec: JobSpec, now: Now) -> Result<Put, Refusal> {
        let (put, spec) = self.compare(&id, spec)?;
        match put {
            Put::Created => self.create(id, spec, now)?,
            Put::Replaced => {
                let key = self.key(id.as_str())?;
                self.respecify(key, Rc::new(spec), now);
            }
            Put::Unchanged => {}
        }
        Ok(put)
    }

    /// What [`Supervisor::put`] would do.
    ///
    /// # Errors
    /// As there.
    pub fn would_put(&self, id: &JobId, spec: JobSpec) -> Result<Put, Refusal> {
        self.compare(id, spec).map(|(put, _)| put)
    }

    /// What a specification would change, and as it would be for this job.
    fn compare(&self, id: &JobId, spec: JobSpec) -> Result<(Put, JobSpec), Refusal> {
        if self.is_shutting_down() {
            return Err(Refusal::ShuttingDown);
        }
        let Some(job) = self.job(id.as_str()) else {
            self.refuse_tangle(id, &spec)?;
            self.has_room()?;
            return Ok((Put::Created, spec));
        };
        // k1s ends with the main job, whatever its specification becomes.
        let spec = match self.is_main(id.as_str()) {
            true => JobSpec { critical: Critical::Yes, autostart: true, ..spec },
            false => spec,
        };
        if spec.kind.job_type() != job.spec().kind.job_type() {
            return Err(Refusal::OtherType);
        }
        if spec == *job.spec() {
            return Ok((Put::Unchanged, spec));
        }
        self.refuse_tangle(id, &spec)?;
        Ok((Put::Replaced, spec))
    }

    fn refuse_tangle(&self, id: &JobId, spec: &JobSpec) -> Result<(), Refusal> {
        match self.tangle(id, spec) {
            Some(_) => Err(Refusal::Tangled),
            None => Ok(()),
        }
    }

    /// An error if there are as many jobs as there may be. A removed job no longer counts, even
    /// while its processes are still ending.
    fn has_room(&self) -> Result<(), Refusal> {
        let limit = self.core.settings.job_limit;
        match self.ids.len() >= limit || self.jobs.len() >= limit.saturating_mul(2) {
            true => Err(Refusal::TooManyJobs),
            false => Ok(()),
        }
    }

    /// Gives a job a new specification of the same type.
    pub(super) fn respecify(&mut self, key: JobKey, spec: Rc<JobSpec>, now: Now) {
        let Some(job) = self.jobs.get(&key) else { return };
        let old = job.shared_spec();
        if old.depends_on != spec.depends_on {
            self.unlink(key, &old.depends_on, now);
            self.link(key, &spec.depends_on, now);
        }
        self.update(key, now, |job, core| {
            job.replace(spec, core, now);
            job.handle_dependencies(core, now);
        });
    }

    /// Stops the job until it is started by request. A second request while it is being stopped
    /// kills it at once.
    ///
    /// # Errors
    /// `NotFound`; `Over` when a one-off job has ended.
    pub fn kill(&mut self, id: &str, now: Now) -> Result<(), Refusal> {
        if self.is_main(id) && !self.is_shutting_down() {
            // All others are stopped with it, some of them before.
            let main = JobId::parse(id).map_err(|_| Refusal::NotFound)?;
            let answers = self.stop_together(Together::Kill, &[main], now);
            return answers.into_iter().next().unwrap_or(Err(Refusal::NotFound));
        }
        self.request(id, Request::Kill, now, |job, core| job.kill(core, now))
    }

    /// Starts a job that was killed or has ended; one in backoff starts at once.
    ///
    /// # Errors
    /// `NotFound`, `ShuttingDown`.
    pub fn start(&mut self, id: &str, now: Now) -> Result<(), Refusal> {
        self.refuse_in_shutdown(id)?;
        self.request(id, Request::Start, now, |job, core| job.start(core, now))
    }

    /// Stops the job's runs, then starts it.
    ///
    /// # Errors
    /// `NotFound`, `ShuttingDown`.
    pub fn restart(&mut self, id: &str, now: Now) -> Result<(), Refusal> {
        self.refuse_in_shutdown(id)?;
        self.request(id, Request::Restart, now, |job, core| job.restart(core, now))
    }

    /// Runs a cron or one-off job now.
    ///
    /// # Errors
    /// `NotFound`, `ShuttingDown`, `NotRunnable` for continuous jobs, `Killed`, and `Forbidden`
    /// when a run is active and the policy allows only one; `Blocked` for a cron job while what it
    /// depends on is not there.
    pub fn run(&mut self, id: &str, now: Now) -> Result<(), Refusal> {
        self.refuse_in_shutdown(id)?;
        let job = self.jobs.get(&self.key(id)?).ok_or(Refusal::NotFound)?;
        job.may(Request::Run)?;
        let is_cron = matches!(job.spec.kind, Kind::Cron(_));
        if is_cron && !self.core.dependencies.hold(&job.spec.depends_on) {
            return Err(Refusal::Blocked);
        }
        self.request(id, Request::Run, now, |job, core| job.run_by_hand(core, now))
    }

    /// Sends a signal to the first process of each active run, or to their whole groups.
    ///
    /// # Errors
    /// `NotFound`, `NotRunning`.
    pub fn signal(
        &mut self,
        id: &str,
        signal: Signal,
        group: bool,
        now: Now,
    ) -> Result<(), Refusal> {
        self.request(id, Request::Signal(signal), now, |job, core| job.signal(signal, group, core))
    }

    /// Lets the run of a continuous job load its configuration again: by a signal to its first
    /// process, or by a command. While that runs, any number of requests are one more reload after
    /// it.
    ///
    /// # Errors
    /// `NotFound`, `NotReloadable` for jobs of other types, `NotRunning`.
    pub fn reload_job(&mut self, id: &str, now: Now) -> Result<(), Refusal> {
        self.request(id, Request::Reload, now, |job, core| job.reload(core, now))
    }

    /// Removes a job: its id is free at once, its processes are stopped in the background. The
    /// main job is not removed: k1s shuts down instead.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn remove(&mut self, id: &str, now: Now) -> Result<(), Refusal> {
        let key = self.key(id)?;
        if self.is_main(id) {
            // It stays until k1s ends, because it holds the exit code.
            if !self.is_shutting_down() {
                self.shutdown(0, now);
            }
            return Ok(());
        }
        self.take_away(key, now);
        Ok(())
    }

    /// Removes a job.
    pub(super) fn take_away(&mut self, key: JobKey, now: Now) {
        self.detach(key, now);
        self.update(key, now, |job, core| {
            job.tell(Happened::Asked(Request::Remove), core, now);
            job.remove(core, now);
        });
    }

    pub(super) fn is_main(&self, id: &str) -> bool {
        self.core.settings.main.as_ref().is_some_and(|main| main.as_str() == id)
    }

    fn key(&self, id: &str) -> Result<JobKey, Refusal> {
        let id = JobId::parse(id).map_err(|_| Refusal::NotFound)?;
        self.ids.get(&id).copied().ok_or(Refusal::NotFound)
    }

    /// Does what a user asks of a job, and records the event, unless the job refuses.
    fn request(
        &mut self,
        id: &str,
        request: Request,
        now: Now,
        comply: impl FnOnce(&mut Job, &mut Core),
    ) -> Result<(), Refusal> {
        let key = self.key(id)?;
        let job = self.jobs.get(&key).ok_or(Refusal::NotFound)?;
        job.may(request)?;
        self.update(key, now, |job, core| {
            job.tell(Happened::Asked(request), core, now);
            comply(job, core);
        });
        Ok(())
    }

    fn refuse_in_shutdown(&self, id: &str) -> Result<(), Refusal> {
        self.key(id)?;
        if self.is_shutting_down() { Err(Refusal::ShuttingDown) } else { Ok(()) }
    }
}
