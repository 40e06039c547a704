//! Calls of handlers, held against what is told of ends.
//!
//! ```text
//!   a run has failed ─► does its job call? ─► the next that is told is the call
//!   a call ─► due, until a run of the handler has it; so none is due of a handler that is over
//! ```

use std::collections::{BTreeMap, BTreeSet};

use crate::job::spec::Kind;
use crate::job::{JobId, Reason};
use crate::supervisor::{
    EventKind, EventRead, Happened, Job, JobKey, Launch, NotCalled, State, Supervisor,
};

use super::{JobModel, Tally};

/// What is known of calls.
#[derive(Default)]
pub(super) struct Calls {
    cursor: u64,
    /// The newest failed run of each job that was told, and whether that has called.
    failed: BTreeMap<JobKey, (u64, bool)>,
    /// Of each handler: all calls that it has had, and the newest if no run has had that yet.
    had: BTreeMap<JobKey, BTreeSet<(JobId, u64)>>,
    due: BTreeMap<JobKey, (JobId, u64)>,
}

impl Calls {
    /// Reads what was told since the last time, which must be read after each end of a run.
    pub(super) fn heed(
        &mut self,
        supervisor: &Supervisor,
        jobs: &mut BTreeMap<JobKey, JobModel>,
        tally: &mut Tally,
    ) {
        if supervisor.is_shutting_down() {
            self.due.clear();
        }
        let (mut owed, mut finished) = (None, Vec::new());
        while let Some(read) = supervisor.events().read(&mut self.cursor) {
            let EventRead::Event(_, event) = read else { continue };
            let EventKind::Job { key, what, id, .. } = &event.kind else { continue };
            match what {
                Happened::Ended { ending, .. } => {
                    let calls = !ending.success && ending.reason != Reason::Killed;
                    self.failed.insert(*key, (ending.run, false));
                    let job = supervisor.job_of(*key).filter(|_| calls);
                    owed = job.filter(|job| must_call(job)).map(|_| (*key, ending.run));
                }
                Happened::Calls { run, handler, refused } => {
                    assert_eq!(self.failed.get(key), Some(&(*run, false)), "{id} calls {handler}");
                    self.failed.insert(*key, (*run, true));
                    owed = owed.filter(|owed| *owed != (*key, *run));
                    match refused {
                        None => self.call(supervisor, jobs, handler, (id.clone(), *run), tally),
                        Some(why) => check_refusal(supervisor, handler, *why, tally),
                    }
                }
                Happened::Finished(State::Failed) => finished.push(*key),
                _ => {}
            }
        }
        let is_owed = owed.filter(|_| !supervisor.is_shutting_down());
        assert_eq!(is_owed, None, "a failure has called nobody");
        finished.into_iter().for_each(|key| self.check_finished(supervisor, key, jobs));
    }

    fn call(
        &mut self,
        supervisor: &Supervisor,
        jobs: &mut BTreeMap<JobKey, JobModel>,
        handler: &JobId,
        call: (JobId, u64),
        tally: &mut Tally,
    ) {
        tally.count("called");
        let Some(job) = supervisor.job(handler.as_str()) else { return };
        assert!(matches!(job.spec().kind, Kind::OneOff { .. }), "{handler} is called");
        let caller = supervisor.job(call.0.as_str()).map(Job::key);
        assert_ne!(caller, Some(job.key()), "{handler} calls itself");
        let model = jobs.get_mut(&job.key()).unwrap();
        model.reasons += 1;
        model.idle = None;
        self.had.entry(job.key()).or_default().insert(call.clone());
        if !supervisor.is_shutting_down() {
            self.due.insert(job.key(), call);
        }
    }

    /// A job that is over, and not started again, has called its handler if it has one.
    fn check_finished(
        &self,
        supervisor: &Supervisor,
        key: JobKey,
        jobs: &BTreeMap<JobKey, JobModel>,
    ) {
        let Some(job) = supervisor.job_of(key).filter(|job| job.spec().on_failure.is_some()) else {
            return;
        };
        if jobs[&key].is_replaced || supervisor.is_shutting_down() {
            return;
        }
        let called = self.failed.get(&key).map(|(_, has_called)| *has_called);
        assert_eq!(called, Some(true), "{} has failed, and called nobody", job.id());
    }

    /// A run that is launched for a call is one for a call that there was.
    pub(super) fn check_launch(&mut self, launch: &Launch) {
        let Some(call) = &launch.call else { return };
        let handler = launch.run.job;
        let call = (call.job.clone(), call.run);
        assert!(self.had[&handler].contains(&call), "{call:?} was not told");
        if self.due.get(&handler) == Some(&call) {
            self.due.remove(&handler);
        }
    }

    /// The job was killed or removed: no call starts it.
    pub(super) fn forget(&mut self, key: JobKey) {
        self.due.remove(&key);
    }

    /// No call was forgotten.
    pub(super) fn check(&self, job: &Job) {
        let is_at_rest = matches!(job.state(), State::Idle | State::Succeeded | State::Failed);
        let due = self.due.get(&job.key());
        assert!(!is_at_rest || due.is_none(), "{} is over, not called by {due:?}", job.id());
    }
}

/// Whether each failed run calls.
fn must_call(job: &Job) -> bool {
    matches!(job.spec().kind, Kind::Cron(_)) && job.spec().on_failure.is_some()
}

fn check_refusal(supervisor: &Supervisor, handler: &JobId, why: NotCalled, tally: &mut Tally) {
    tally.count("call refused");
    let job = supervisor.job(handler.as_str());
    let is_one_off = job.is_some_and(|job| matches!(job.spec().kind, Kind::OneOff { .. }));
    match why {
        NotCalled::Missing => assert!(job.is_none(), "{handler} is there"),
        NotCalled::OtherType => assert!(job.is_some() && !is_one_off, "{handler} is a one-off"),
        NotCalled::Killed => assert!(job.is_some_and(Job::is_kill_requested), "{handler} lives"),
        NotCalled::Circle => assert!(is_one_off, "{handler} has led to it"),
    }
}
