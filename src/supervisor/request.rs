//! What somebody asks of the jobs: by the API, or by the config as k1s starts.
//!
//! A request names a job by its id, and is carried out or refused at once. What it leads to
//! comes later, as actions and events.

use super::{Core, Happened, Job, JobKey, Supervisor};
use crate::job::spec::Critical;
use crate::job::{JobId, JobSpec, Signal, Trigger};
use crate::time::Now;

/// What can be asked of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as the requests of the API")]
pub enum Request {
    Start,
    Restart,
    Run,
    Signal(Signal),
    Kill,
    Remove,
}

/// Why a request was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such job.
    NotFound,
    /// The id is taken.
    Exists,
    /// There are as many jobs as there may be.
    TooManyJobs,
    /// k1s is shutting down.
    ShuttingDown,
    /// The one-off job is over.
    Over,
    /// The job is of another type than the new one.
    OtherType,
    /// Continuous jobs are not run by hand.
    NotRunnable,
    /// The job was killed, and waits for a start.
    Killed,
    /// A run is going, and the job's policy forbids another.
    Forbidden,
    /// No process of the job is running.
    NotRunning,
}

/// Who has registered a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Somebody, by the API.
    Api,
    /// The config, or the command line.
    Config,
}

impl Origin {
    /// Why its first run is started.
    pub(super) fn trigger(self) -> Trigger {
        match self {
            Origin::Api => Trigger::Created,
            Origin::Config => Trigger::Config,
        }
    }
}

/// What became of a job that was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// There was none of this id.
    Created,
    /// It has the new specification now.
    Replaced,
    /// It had the same specification.
    Unchanged,
}

impl Supervisor {
    /// Registers a job; it starts as soon as no process of a removed one of the same id is left.
    ///
    /// # Errors
    /// `Exists`, `TooManyJobs`, `ShuttingDown`.
    pub fn create(&mut self, id: JobId, spec: JobSpec, now: Now) -> Result<(), Refusal> {
        self.register(id, spec, Origin::Api, now)
    }

    /// As [`Supervisor::create`], for a job of the config.
    ///
    /// # Errors
    /// As there.
    pub fn declare(&mut self, id: JobId, spec: JobSpec, now: Now) -> Result<(), Refusal> {
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
        // A removed job makes room at once, though its processes may take a while to leave.
        let limit = self.core.settings.job_limit;
        if self.ids.len() >= limit || self.jobs.len() >= limit.saturating_mul(2) {
            return Err(Refusal::TooManyJobs);
        }
        self.last_key += 1;
        let key = JobKey(self.last_key);
        self.ids.insert(id.clone(), key);
        self.jobs.insert(key, Box::new(Job::new(key, id, spec, origin, now)));
        self.update(key, now, |job, core| {
            job.tell(Happened::Created, core, now);
            job.begin(origin.trigger(), core, now);
        });
        Ok(())
    }

    /// Registers a job, or gives the one of this id a new specification. Results, run numbers
    /// and the time of creation stay; the main job stays critical.
    ///
    /// # Errors
    /// `OtherType`, `TooManyJobs`, `ShuttingDown`.
    pub fn put(&mut self, id: JobId, spec: JobSpec, now: Now) -> Result<Put, Refusal> {
        if self.is_shutting_down() {
            return Err(Refusal::ShuttingDown);
        }
        if !self.ids.contains_key(&id) {
            return self.create(id, spec, now).map(|()| Put::Created);
        }
        // k1s ends with the main job, whatever that is replaced by.
        let critical = if self.is_main(id.as_str()) { Critical::Yes } else { spec.critical };
        let spec = JobSpec { critical, ..spec };
        let key = self.key(id.as_str())?;
        let job = self.jobs.get(&key).ok_or(Refusal::NotFound)?;
        if spec.kind.job_type() != job.spec().kind.job_type() {
            return Err(Refusal::OtherType);
        }
        if spec == *job.spec() {
            return Ok(Put::Unchanged);
        }
        self.update(key, now, |job, core| job.replace(spec, core, now));
        Ok(Put::Replaced)
    }

    /// Stops the job for good; a second request while it is being stopped kills it at once.
    ///
    /// # Errors
    /// `NotFound`; `Over` when a one-off job has ended.
    pub fn kill(&mut self, id: &str, now: Now) -> Result<(), Refusal> {
        self.request(id, Request::Kill, now, |job, core| job.kill(core, now))?;
        if self.is_main(id) && !self.is_shutting_down() {
            self.shutdown(0, now);
        }
        Ok(())
    }

    /// Starts a job that was killed or has ended; one that waits for its restart starts at once.
    ///
    /// # Errors
    /// `NotFound`, `ShuttingDown`.
    pub fn start(&mut self, id: &str, now: Now) -> Result<(), Refusal> {
        self.refuse_in_shutdown(id)?;
        self.request(id, Request::Start, now, |job, core| job.start(core, now))
    }

    /// Stops what runs of the job, then starts it.
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
    /// when a run is going and there may be but one.
    pub fn run(&mut self, id: &str, now: Now) -> Result<(), Refusal> {
        self.refuse_in_shutdown(id)?;
        self.request(id, Request::Run, now, |job, core| job.run_by_hand(core, now))
    }

    /// Sends a signal to the first process of each running run, or to their whole groups.
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

    /// Removes a job: its id is free at once, its processes are stopped. The main job is not
    /// removed, it is stopped with everything else.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn remove(&mut self, id: &str, now: Now) -> Result<(), Refusal> {
        let key = self.key(id)?;
        if self.is_main(id) {
            // It stays until k1s ends, whose exit code it holds.
            if !self.is_shutting_down() {
                self.shutdown(0, now);
            }
            return Ok(());
        }
        self.detach(key);
        self.update(key, now, |job, core| {
            job.tell(Happened::Asked(Request::Remove), core, now);
            job.remove(core, now);
        });
        Ok(())
    }

    fn is_main(&self, id: &str) -> bool {
        self.core.settings.main.as_ref().is_some_and(|main| main.as_str() == id)
    }

    fn key(&self, id: &str) -> Result<JobKey, Refusal> {
        let id = JobId::parse(id).map_err(|_| Refusal::NotFound)?;
        self.ids.get(&id).copied().ok_or(Refusal::NotFound)
    }

    /// Does what somebody asks of a job, and tells of it, unless the job refuses.
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
