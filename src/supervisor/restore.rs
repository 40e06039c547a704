//! Goes on with the jobs that an earlier k1s had.
//!
//! ```text
//!   Heritage ──┬─ not in the config, of the API ──────────▶ goes on from where it was
//!              ├─ in the config ─▶ its specification ─────▶ starts with k1s, with its history
//!              └─ of the config, and not in it any more ──▶ gone
//!   the config ── not in the heritage ────────────────────▶ declared
//! ```
//!
//! As long as processes of a job are there that the earlier k1s has left, the job waits.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::life::{Job, has_same_times};
use super::remembered::{Heritage, LiveRun, Remembered, Stage};
use super::{JobKey, Origin, Refusal, Supervisor};
use crate::job::{JobId, JobSpec, Trigger};
use crate::time::Now;

impl Supervisor {
    /// Goes on with the jobs that an earlier k1s had, and with those that the config declares, of
    /// which it keeps the history, and so of the main job. Jobs that the config no longer declares
    /// are gone. There may be `job_limit` jobs.
    ///
    /// # Errors
    /// As for [`Supervisor::declare`].
    pub fn restore(
        &mut self,
        heritage: Heritage,
        declared: Vec<(JobId, Rc<JobSpec>)>,
        main: Option<(JobId, JobSpec)>,
        job_limit: usize,
        now: Now,
    ) -> Result<(), Refusal> {
        let Heritage { jobs, last_key, left } = heritage;
        self.last_key = self.last_key.max(last_key);
        self.core.leaving.extend(left.into_iter().map(|id| (id, NOBODY)));
        let main = main.map(|(id, spec)| (id, Rc::new(spec)));
        let mut specs: BTreeMap<&JobId, &Rc<JobSpec>> = BTreeMap::new();
        specs.extend(declared.iter().chain(&main).map(|(id, spec)| (id, spec)));
        for mut job in jobs {
            self.last_key = self.last_key.max(job.key.0);
            self.core.unsaved.note(job.key);
            let spec = specs.get(&job.id).copied();
            let is_gone = match spec {
                Some(spec) => spec.kind.job_type() != job.spec.kind.job_type(),
                None => job.origin == Origin::Config,
            };
            if is_gone || job.life.stage == Stage::Leaves || self.ids.contains_key(&job.id) {
                continue;
            }
            let lost = job.life.runs.clone();
            if let Some(spec) = spec {
                job.declare(spec.clone());
            }
            self.restore_job(job, &lost, now);
        }
        self.declare(declared, job_limit, now)?;
        if let Some((id, spec)) = main.filter(|(id, _)| !self.ids.contains_key(id)) {
            self.create_main(id, Rc::unwrap_or_clone(spec), now)?;
        }
        self.settle(now);
        Ok(())
    }

    fn restore_job(&mut self, remembered: Remembered, lost: &[LiveRun], now: Now) {
        let (key, id, stage) = (remembered.key, remembered.id.clone(), remembered.life.stage);
        self.link(key, &remembered.spec.depends_on, now);
        let mut job = Job::restored(remembered, &mut self.core);
        job.go_on_from(stage, lost, &mut self.core, now);
        self.ids.insert(id, key);
        self.jobs.insert(key, Box::new(job));
        self.core.note_change(key);
    }

    /// Shows a job as it was when it was last stored. Nothing of it goes on.
    pub fn exhibit(&mut self, remembered: Remembered) {
        let (key, id, life) = (remembered.key, remembered.id.clone(), remembered.life.clone());
        let mut job = Job::restored(remembered, &mut self.core);
        job.look_as_in(&life);
        if life.stage != Stage::Leaves {
            self.ids.insert(id, key);
            self.jobs.insert(key, Box::new(job));
        }
    }

    /// Nothing is left of the processes that an earlier k1s has left of a job with this id.
    pub fn handle_former_gone(&mut self, id: &JobId, now: Now) {
        if self.core.leaving.get(id) == Some(&NOBODY) {
            self.core.leaving.remove(id);
            self.start_successor(id, now);
            self.settle(now);
        }
    }
}

impl Remembered {
    /// The config declares it: it starts with k1s, with the specification of the config. Its
    /// schedule goes on where it was, if that is the same.
    fn declare(&mut self, spec: Rc<JobSpec>) {
        let goes_on = has_same_times(&self.spec.kind, &spec.kind);
        let is_scheduled = matches!(self.life.stage, Stage::Scheduled { .. });
        self.spec = spec;
        self.origin = Origin::Config;
        if !goes_on || !is_scheduled {
            self.life.stage = match self.spec.autostart {
                true => Stage::Begins(Trigger::Config),
                false => Stage::Idle(None),
            };
            self.life.streak = (0, 0, false);
        }
        self.life.kill_requested = false;
    }
}

/// The key of no job: what is leaving was of an earlier k1s.
const NOBODY: JobKey = JobKey(0);
