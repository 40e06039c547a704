//! What users ask for: jobs are created, changed, asked and removed, and all is shut down.

use crate::job::spec::Critical;
use crate::job::{JobId, JobSpec, Signal};
use crate::supervisor::{Job, JobKey, Put, Refusal, Selection, Verb};

use super::model::{JobModel, ShutdownModel};
use super::{IDS, Sim, specs};

impl Sim {
    pub(super) fn request(&mut self) {
        let id = self.rng.pick(self.ids);
        let key = self.supervisor.job(id).map(Job::key);
        let state = self.supervisor.job(id).map(Job::state);
        let choice = self.rng.below(100);
        let now = self.now;
        let (name, answer) = match choice {
            0..=25 => return self.create(id),
            26..=39 => return self.put(id),
            40..=44 => return self.declare(),
            45..=48 => return self.stop_together(),
            49..=59 => ("kill", self.supervisor.kill(id, now)),
            60..=69 => ("remove", self.supervisor.remove(id, now)),
            70..=77 => ("start", self.supervisor.start(id, now)),
            78..=85 => ("restart", self.supervisor.restart(id, now)),
            86..=93 => ("run", self.supervisor.run(id, now)),
            94..=95 => {
                self.is_signalled = true;
                ("reload", self.supervisor.reload_job(id, now))
            }
            _ => {
                let group = self.rng.percent(50);
                let signal = self.rng.pick(&[Signal::TERM, Signal::CONT, Signal::KILL]);
                self.is_signalled = true;
                ("signal", self.supervisor.signal(id, signal, group, now))
            }
        };
        self.note(name, |_| format!("{id} {state:?}: {answer:?}"));
        let Some(key) = key else {
            return assert_eq!(answer, Err(Refusal::NotFound));
        };
        self.requested(name, id, key, answer);
    }

    /// Asks some of the jobs, which are few, and are asked at once.
    pub(super) fn ask_all(&mut self) {
        let signal = Signal::CONT;
        let (name, verb) = self.rng.pick(&[
            ("kill", Verb::Kill),
            ("start", Verb::Start),
            ("restart", Verb::Restart),
            ("run", Verb::Run),
            ("reload", Verb::Reload),
            ("signal", Verb::Signal { signal, group: false }),
        ]);
        let state = self.rng.pick(&[None, None, Some("running"), Some("idle")]);
        let job_type = self.rng.pick(&[None, None, Some("cron"), Some("continuous")]);
        let selection = Selection { state, job_type, ..Selection::default() };
        self.is_signalled |= matches!(name, "signal" | "reload");
        let before: Vec<_> = self.supervisor.jobs_after(None).map(Job::key).collect();
        let answer = self.supervisor.ask_all(selection.clone(), verb, self.now);
        self.note("ask all", |_| format!("{name} {selection:?}: {answer:?}"));
        let Ok(batch) = answer else {
            return assert!(self.shutdown.is_some(), "{answer:?}");
        };
        assert!(batch.is_done());
        for id in (0..).map_while(|index| batch.job_at(index)) {
            let key = self.supervisor.job(id.as_str()).map(Job::key).unwrap();
            assert!(before.contains(&key));
            self.requested(name, id.as_str(), key, Ok(()));
        }
    }

    /// A user has asked the job for something.
    pub(super) fn requested(
        &mut self,
        name: &str,
        id: &str,
        key: JobKey,
        answer: Result<(), Refusal>,
    ) {
        let is_main = self.is_main(id);
        let job = self.jobs.get_mut(&key).unwrap();
        job.is_removed |= name == "remove" && !is_main;
        job.reasons += u64::from(matches!(name, "start" | "restart" | "run" | "kill"));
        if answer.is_ok() {
            job.rouse(name);
            if matches!(name, "kill" | "remove") {
                self.calls.forget(key);
            }
        }
        if answer.is_ok() && matches!(name, "kill" | "remove" | "restart") {
            self.ask(Some(key));
            self.forget_order_of(key);
        }
        if name == "kill" && answer.is_ok() {
            assert!(self.supervisor.job(id).unwrap().is_kill_requested());
        }
        let is_free = self.supervisor.job(id).is_none();
        assert!(name != "remove" || is_free != is_main, "the id is free at once");
    }

    pub(super) fn create(&mut self, id: &str) {
        let spec = specs::random(&mut self.rng);
        let there = self.supervisor.job(id).is_some();
        let parsed = JobId::parse(id).unwrap();
        let answer = self.supervisor.create(parsed, spec.clone(), self.now);
        self.note("create", |_| format!("{id} {}: {answer:?}", specs::text(&spec)));
        match answer {
            Ok(()) => {
                self.check_no_tangle(id);
                self.register(id);
            }
            Err(Refusal::Exists) => assert!(there),
            Err(Refusal::ShuttingDown) => assert!(self.shutdown.is_some()),
            Err(Refusal::Tangled) => self.check_tangle(id, &spec),
            Err(refusal) => assert_eq!(refusal, Refusal::TooManyJobs),
        }
    }

    pub(super) fn put(&mut self, id: &str) {
        let old = self.supervisor.job(id).map(|job| (job.key(), job.spec().clone()));
        let spec = match &old {
            Some((_, old)) if self.rng.percent(80) => specs::variant(old, &mut self.rng),
            Some(_) | None => specs::random(&mut self.rng),
        };
        if let Some((key, old)) = &old {
            self.jobs.get_mut(key).unwrap().trim(old);
        }
        let parsed = JobId::parse(id).unwrap();
        let answer = self.supervisor.put(parsed, spec.clone(), self.now);
        self.note("put", |_| format!("{id} {}: {answer:?}", specs::text(&spec)));
        match answer {
            Ok(Put::Created) => {
                self.check_no_tangle(id);
                self.register(id);
            }
            Ok(Put::Replaced) => {
                self.check_no_tangle(id);
                let (key, old) = old.unwrap();
                self.forget_failures(key);
                let job = self.jobs.get_mut(&key).unwrap();
                job.is_replaced = true;
                job.learn(&spec);
                if !old.is_same_process(&spec) {
                    self.ask(Some(key));
                }
            }
            Ok(Put::Unchanged) => {
                let spec = match self.is_main(id) {
                    true => JobSpec { critical: Critical::Yes, autostart: true, ..spec },
                    false => spec,
                };
                assert_eq!(old.unwrap().1, spec);
            }
            Err(Refusal::ShuttingDown) => assert!(self.shutdown.is_some()),
            Err(Refusal::TooManyJobs) => assert!(old.is_none()),
            Err(Refusal::Tangled) => self.check_tangle(id, &spec),
            Err(refusal) => {
                assert_eq!(refusal, Refusal::OtherType);
                assert_ne!(specs::type_of(&old.unwrap().1), specs::type_of(&spec));
            }
        }
    }

    pub(super) fn register(&mut self, id: &str) {
        let job = self.supervisor.job(id).unwrap();
        let model = JobModel::new(job, self.now);
        assert!(self.jobs.insert(job.key(), model).is_none(), "a key is used again");
    }

    /// A user asked for the end of all runs of a job, or of all jobs.
    pub(super) fn ask(&mut self, key: Option<JobKey>) {
        let asked = self.runs.iter_mut().filter(|(run, _)| key.is_none_or(|key| run.job == key));
        asked.for_each(|(_, run)| run.is_asked = true);
    }

    pub(super) fn shut_down(&mut self) {
        let now = self.now.mono.0;
        if let Some(shutdown) = &mut self.shutdown {
            shutdown.killed_at.get_or_insert(now);
        }
        self.supervisor.shutdown(0, self.now);
        self.note("shutdown", |_| String::new());
        self.notice_shutdown();
    }

    /// A critical job may have begun the shutdown.
    pub(super) fn notice_shutdown(&mut self) {
        if !self.supervisor.is_shutting_down() {
            return assert!(self.shutdown.is_none());
        }
        if self.shutdown.is_none() {
            let deadline = self.now.mono.0 + self.settings.shutdown_timeout.as_millis() as u64;
            self.shutdown = Some(ShutdownModel { deadline, killed_at: None });
            self.jobs.values_mut().for_each(|job| job.reasons += 1);
            self.order(&IDS);
            self.ask(None);
        }
    }
}
