//! The config declares random jobs: what is said of that is what has happened.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::job::{JobId, JobSpec, Pid};
use crate::supervisor::{Declared, Job, JobKey, Origin, Refusal};

use super::{Sim, specs};

/// What a job was like before.
#[derive(Clone, Debug, PartialEq)]
struct Before {
    key: JobKey,
    spec: JobSpec,
    origin: Origin,
    pid: Option<Pid>,
    is_killed: bool,
}

/// What the simulation remembers of the config.
#[derive(Default)]
pub(super) struct Config {
    /// What was declared the last time.
    declared: BTreeMap<JobId, JobSpec>,
}

impl Sim {
    /// The config is read again.
    pub(super) fn declare(&mut self) {
        let jobs = self.random_config();
        let limit = self.rng.pick(&[8, 8, 8, 2]);
        let before = self.snapshot();
        for old in before.values() {
            self.jobs.get_mut(&old.key).unwrap().trim(&old.spec);
        }
        let shared: Vec<_> =
            jobs.iter().map(|(id, spec)| (id.clone(), Rc::new(spec.clone()))).collect();
        let preview = self.supervisor.preview(&shared, limit);
        assert_eq!(self.snapshot(), before, "a preview changes nothing");
        let answer = self.supervisor.declare(shared, limit, self.now);
        self.note("declare", |_| {
            let jobs = jobs.iter().map(|(id, spec)| format!("{id} {}", specs::text(spec)));
            format!("{:?}: {answer:?}", jobs.collect::<Vec<_>>())
        });
        assert_eq!(answer, preview, "a preview says what will be");
        match answer {
            Ok(declared) => {
                self.check_declared(&declared, &jobs, &before);
                self.config.declared = jobs.into_iter().collect();
            }
            Err(refusal) => {
                assert_eq!(self.snapshot(), before, "all or nothing");
                let has_main = jobs.iter().any(|(id, _)| self.is_main(id.as_str()));
                match refusal {
                    Refusal::ShuttingDown => assert!(self.shutdown.is_some()),
                    Refusal::Exists => assert!(has_main),
                    refusal => assert_eq!(refusal, Refusal::TooManyJobs),
                }
            }
        }
    }

    /// What is there, what was declared, a variant of it, or something else, for some of the ids.
    fn random_config(&mut self) -> Vec<(JobId, JobSpec)> {
        let mut jobs = Vec::new();
        for id in self.ids {
            if self.rng.percent(40) || (self.is_main(id) && self.rng.percent(90)) {
                continue;
            }
            let id = JobId::parse(id).unwrap();
            let living = self.supervisor.job(id.as_str()).map(|job| job.spec().clone());
            let last = self.config.declared.get(&id).cloned();
            let spec = match (self.rng.below(10), living, last) {
                (0..=2, Some(living), _) => living,
                (3..=5, _, Some(last)) => last,
                (6..=8, Some(old), _) | (6..=8, None, Some(old)) => {
                    specs::variant(&old, &mut self.rng)
                }
                _ => specs::random(&mut self.rng),
            };
            jobs.push((id, spec));
        }
        // Each depends on those before it alone, as a config does without a circle.
        for index in 0..jobs.len() {
            let (before, rest) = jobs.split_at_mut(index);
            if let Some((_, spec)) = rest.first_mut() {
                spec.depends_on.retain(|id, _| before.iter().any(|(other, _)| other == id));
            }
        }
        jobs
    }

    fn snapshot(&self) -> BTreeMap<JobId, Before> {
        let jobs = self.ids.iter().filter_map(|id| self.supervisor.job(id));
        let before = |job: &Job| Before {
            key: job.key(),
            spec: job.spec().clone(),
            origin: job.origin(),
            pid: job.pid(),
            is_killed: job.is_kill_requested(),
        };
        jobs.map(|job| (job.id().clone(), before(job))).collect()
    }

    fn check_declared(
        &mut self,
        declared: &Declared,
        jobs: &[(JobId, JobSpec)],
        before: &BTreeMap<JobId, Before>,
    ) {
        let of = |ids: &[JobId]| ids.iter().cloned().collect::<BTreeSet<_>>();
        let (added, removed) = (of(&declared.added), of(&declared.removed));
        let changed = of(&[declared.replaced.clone(), declared.updated.clone()].concat());
        let listed = declared.added.len() + declared.replaced.len() + declared.updated.len();
        assert_eq!(listed + declared.unchanged, jobs.len(), "each is counted once");
        for id in &removed {
            let old = &before[id];
            self.jobs.get_mut(&old.key).unwrap().is_removed = true;
            self.ask(Some(old.key));
            self.forget_order_of(old.key);
            let is_declared = jobs.iter().any(|(declared, _)| declared == id);
            assert_eq!(is_declared, added.contains(id), "an exchange");
            assert!(is_declared || old.origin == Origin::Config, "{id} is the API's");
        }
        for (id, spec) in jobs {
            if added.contains(id) {
                assert!(!before.contains_key(id) || removed.contains(id), "{id} was there");
                self.register(id.as_str());
            }
            let last = self.config.declared.get(id);
            let Some(job) = self.supervisor.job(id.as_str()) else {
                assert_eq!(last, Some(spec), "{id}, which somebody has removed");
                continue;
            };
            assert_eq!((job.spec(), job.origin()), (spec, Origin::Config), "{id}");
            let may_stay = last == Some(spec) || !spec.autostart;
            assert!(!job.is_kill_requested() || may_stay, "{id} is to start again");
            assert!(!added.contains(id) || !job.is_kill_requested(), "{id} is new");
            if added.contains(id) || changed.contains(id) {
                self.check_no_tangle(id.as_str());
            }
            if changed.contains(id) {
                let (key, old) = (job.key(), &before[id]);
                assert_eq!(key, old.key, "{id} keeps its history");
                let is_same = old.spec.is_same_process(spec);
                assert_eq!(is_same, declared.updated.contains(id), "{id}");
                let model = self.jobs.get_mut(&key).unwrap();
                model.is_replaced = true;
                model.learn(spec);
                if old.is_killed && last != Some(spec) && spec.autostart {
                    model.idle = None;
                }
                if !is_same {
                    self.ask(Some(key));
                    self.forget_order_of(key);
                }
            }
        }
        self.check_left_alone(jobs, before, &removed, &changed);
    }

    /// All other jobs are as they were, with their runs.
    fn check_left_alone(
        &self,
        jobs: &[(JobId, JobSpec)],
        before: &BTreeMap<JobId, Before>,
        removed: &BTreeSet<JobId>,
        changed: &BTreeSet<JobId>,
    ) {
        let after = self.snapshot();
        let is_touched = |id: &JobId| removed.contains(id) || changed.contains(id);
        for (id, old) in before.iter().filter(|(id, _)| !is_touched(id)) {
            let is_declared = jobs.iter().any(|(declared, _)| declared == id);
            let origin = if is_declared { Origin::Config } else { old.origin };
            let expected = Before { origin, ..old.clone() };
            assert_eq!(after.get(id), Some(&expected), "{id} was to be left alone");
            let may_stay = is_declared || old.origin == Origin::Api || self.is_main(id.as_str());
            assert!(may_stay, "{id} is no longer declared");
        }
    }
}
