//! The order in which jobs are stopped together: a process is asked to end only when those of the
//! jobs that depend on its job are gone or killed.

use std::collections::{BTreeMap, BTreeSet};

use super::{IDS, Sim};
use crate::job::{JobId, Pid};
use crate::supervisor::{JobKey, RunKey, Together};

/// Jobs that are stopped together, as they were at the beginning.
pub(super) struct Order {
    /// For each, those that are to be gone before: all that depend on it, directly or not.
    before: BTreeMap<JobKey, BTreeSet<JobKey>>,
    /// The runs that had processes and were not over. What others have left holds up nobody.
    runs: BTreeSet<RunKey>,
    /// Those of them that nobody had a reason to end before.
    unasked: BTreeSet<RunKey>,
}

impl Sim {
    /// These are stopped together from now on; none of the orders before counts any more.
    pub(super) fn order(&mut self, ids: &[&str]) {
        let jobs = ids.iter().filter_map(|id| self.supervisor.job(id));
        let keys: BTreeMap<&JobId, JobKey> =
            jobs.clone().map(|job| (job.id(), job.key())).collect();
        let mut before: BTreeMap<JobKey, BTreeSet<JobKey>> = BTreeMap::new();
        for job in jobs {
            let behind = job.spec().depends_on.keys().filter_map(|id| keys.get(id));
            for key in behind {
                before.entry(*key).or_default().insert(job.key());
            }
        }
        // Also through others, as often as there may be jobs between two.
        for _ in 0..IDS.len() {
            for (key, others) in before.clone() {
                let further = others.iter().filter_map(|other| before.get(other));
                let further: BTreeSet<_> = further.flatten().copied().collect();
                before.entry(key).or_default().extend(further);
            }
        }
        let runs: BTreeSet<RunKey> = self
            .world
            .findable()
            .map(|(_, process)| process.run)
            .filter(|run| !self.runs[run].is_over)
            .collect();
        let unasked = runs.iter().copied().filter(|run| !self.may_be_ended(*run)).collect();
        self.order = Some(Order { before, runs, unasked });
    }

    /// A request for this job alone does not care for the order.
    pub(super) fn forget_order_of(&mut self, key: JobKey) {
        if let Some(order) = &mut self.order {
            order.before.remove(&key);
        }
    }

    pub(super) fn stop_together(&mut self) {
        let chance = self.rng.pick(&[40, 80, 100]);
        let ids = self.ids;
        let ids: Vec<&str> = ids.iter().copied().filter(|_| self.rng.percent(chance)).collect();
        let together = self.rng.pick(&[Together::Kill, Together::Restart, Together::Remove]);
        self.ask_together(together, &ids);
    }

    pub(super) fn ask_together(&mut self, together: Together, ids: &[&str]) {
        let is_again =
            |id: &&str| self.supervisor.job(id).is_some_and(|job| job.is_kill_requested());
        let again: Vec<_> =
            ids.iter().filter(|id| is_again(id)).filter_map(|id| self.key(id)).collect();
        let keys: Vec<_> = ids.iter().map(|id| self.key(id)).collect();
        let is_shutdown = self.shutdown.is_some();
        if !is_shutdown {
            self.order(ids);
        }
        let parsed: Vec<_> = ids.iter().map(|id| JobId::parse(id).unwrap()).collect();
        let answers = self.supervisor.stop_together(together, &parsed, self.now);
        assert_eq!(answers.len(), ids.len());
        self.note("together", |_| format!("{together:?} {ids:?}: {answers:?}"));
        for ((id, key), answer) in ids.iter().zip(keys).zip(answers) {
            assert_eq!(answer.is_err() && key.is_none(), key.is_none(), "{id}");
            let Some(key) = key else { continue };
            if answer.is_err() {
                self.forget_order_of(key);
                continue;
            }
            let is_main = self.is_main(id);
            let job = self.jobs.get_mut(&key).unwrap();
            job.is_removed |= together == Together::Remove && !is_main;
            job.reasons += u64::from(together != Together::Remove);
            job.rouse(match together {
                Together::Kill => "kill",
                Together::Restart => "restart",
                Together::Remove => "remove",
            });
            self.ask(Some(key));
            if together != Together::Restart {
                self.heed_calls();
                self.calls.forget(key);
            }
        }
        // A second kill is SIGKILL at once.
        again.into_iter().for_each(|key| self.forget_order_of(key));
        self.notice_shutdown();
    }

    fn key(&self, id: &str) -> Option<JobKey> {
        self.supervisor.job(id).map(|job| job.key())
    }

    /// A process is asked to end.
    pub(super) fn check_order(&mut self, pid: i32) {
        let process = self.world.get(pid);
        let run = process.run;
        let is_begun = process.asked_at.is_none() && self.leaders.contains(&Pid(pid));
        let is_killed = self.shutdown.as_ref().is_some_and(|shutdown| shutdown.killed_at.is_some());
        // With less time than a stage there is no order.
        let has_time = self.settings.shutdown_timeout.as_millis() > 600;
        let Some(order) = &self.order else { return };
        let is_unasked = order.unasked.contains(&run) && !self.may_be_ended_unasked(run);
        if !is_begun || !is_unasked || is_killed || !has_time {
            return;
        }
        let Some(before) = order.before.get(&run.job) else { return };
        for (other, process) in self.world.findable() {
            let is_before = before.contains(&process.run.job) && order.runs.contains(&process.run);
            assert!(
                !is_before || process.killed_at.is_some(),
                "{pid} of {run:?} is asked to end before {other} of {:?}",
                process.run,
            );
        }
        self.tally.count("in order");
    }
}
