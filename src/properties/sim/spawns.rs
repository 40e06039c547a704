//! Runs are started, or cannot be: none where it must not be.

use crate::job::SpawnFailure;
use crate::supervisor::{Launch, Purpose};

use super::Sim;
use super::model::RunModel;

impl Sim {
    pub(super) fn spawn(&mut self, launch: Launch) {
        let run = launch.run;
        if launch.purpose != Purpose::Run {
            return self.spawn_command(launch);
        }
        self.check_spawn(&launch);
        self.heed_calls();
        self.calls.check_launch(&launch);
        let job = self.jobs.get_mut(&run.job).unwrap();
        let is_new = !job.deferred.remove(&run.number);
        job.starts += u64::from(is_new);
        if let Some(asked) = job.idle.as_mut().filter(|_| is_new) {
            assert!(*asked > 0, "{run:?} of an idle job is started, and nobody asked for it");
            *asked -= 1;
        }
        job.last_launched = job.last_launched.max(run.number);
        let outcome = if self.is_winding_up { 99 } else { self.rng.below(100) };
        match outcome {
            0..=9 => {
                job.deferred.insert(run.number);
                self.supervisor.handle_spawn_deferred(launch, "EAGAIN".into(), self.now);
                self.note("deferred", |_| format!("{run:?}"));
            }
            10..=19 => {
                let failure = SpawnFailure { exit_code: 127, error: "gone".into() };
                self.record(run, 127);
                self.supervisor.handle_spawn_failed(launch, failure, self.now);
                self.heed_calls();
                self.note("spawn failed", |_| format!("{run:?}"));
            }
            _ => {
                let now = self.now.mono.0;
                let pid = self.world.spawn(run, now, &mut self.rng);
                let model = RunModel { started: now, ..RunModel::default() };
                assert!(self.runs.insert(run, model).is_none(), "{run:?} runs twice");
                assert!(self.leaders.insert(pid));
                self.note("spawn", |_| format!("{run:?}: {pid:?}"));
                self.supervisor.handle_spawned(launch, pid, self.now);
            }
        }
    }

    fn check_spawn(&self, launch: &Launch) {
        let run = launch.run;
        let job = &self.jobs[&run.job];
        assert!(self.shutdown.is_none(), "{run:?} is started in a shutdown");
        assert!(!job.is_removed, "{run:?} of a removed job is started");
        let listed = self.supervisor.job(job.id.as_str()).unwrap();
        assert_eq!(listed.key(), run.job);
        assert!(!listed.is_kill_requested(), "{run:?} of a killed job is started");
        self.check_conditions(listed);
        assert_eq!(launch.job_id, job.id);
        if !job.deferred.contains(&run.number) {
            assert!(run.number > job.last_launched, "{run:?} after {}", job.last_launched);
        }
        for (pid, process) in self.world.findable() {
            let other = process.run.job;
            if other == run.job {
                let is_in_way = !job.allows && process.group != pid;
                assert!(!is_in_way, "{run:?} is started beside {pid} of {:?}", process.run);
            } else {
                assert_ne!(self.jobs[&other].id, job.id, "{run:?} beside {:?}", process.run);
            }
        }
        for pid in &self.leaders {
            let other = self.world.get(pid.0).run;
            assert!(job.allows || other.job != run.job, "{run:?} is started beside {other:?}");
        }
        for (other, ..) in &self.draining {
            assert!(job.allows || other.job != run.job, "{run:?} is started before {other:?}");
        }
    }
}
