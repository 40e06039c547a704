//! Jobs that wait for others: nothing starts before its conditions hold, and nobody waits for what
//! holds.

use std::collections::BTreeSet;

use super::Sim;
use crate::job::JobId;
use crate::job::spec::{Condition, JobSpec};
use crate::supervisor::{
    EventKind, EventRead, Happened, Job, Milestone, Progress, SkipReason, Supervisor,
};
use crate::time::Now;

impl Sim {
    /// A run of the job is about to be spawned.
    pub(super) fn check_conditions(&self, job: &Job) {
        let unmet = unmet(&self.supervisor, job.spec());
        assert!(unmet.is_empty(), "{} is started, and waits for {unmet:?}", job.id());
    }

    /// Whether a job depends on this one.
    pub(super) fn is_awaited(&self, id: &JobId) -> bool {
        let mut jobs = self.ids.iter().filter_map(|id| self.supervisor.job(id));
        jobs.any(|job| job.spec().depends_on.contains_key(id))
    }

    /// The job was accepted.
    pub(super) fn check_no_tangle(&self, id: &str) {
        let job = self.supervisor.job(id).unwrap();
        assert!(!closes_circle(&self.supervisor, job.id(), job.spec()), "{id} waits for itself");
    }

    /// The specification was refused, because the job would wait for itself.
    pub(super) fn check_tangle(&mut self, id: &str, spec: &JobSpec) {
        self.tally.count("tangled");
        let id = JobId::parse(id).unwrap();
        assert!(closes_circle(&self.supervisor, &id, spec), "{id} would not wait for itself");
        let tangle = self.supervisor.tangle(&id, spec).unwrap().to_string();
        let is_named = tangle.contains("a job cannot wait for itself")
            || (tangle.starts_with(&format!("{id} → ")) && tangle.contains(&format!("→ {id} is")));
        assert!(is_named, "{tangle}");
    }

    pub(super) fn count_events(&mut self) {
        while let Some(read) = self.supervisor.events().read(&mut self.events_read) {
            let EventRead::Event(_, event) = read else { continue };
            let EventKind::Job { what, .. } = &event.kind else { continue };
            let count = match what {
                Happened::Waits { .. } => "waits",
                Happened::Renewed { .. } => "renewed",
                Happened::Skipped(SkipReason::Blocked) => "blocked",
                _ => continue,
            };
            self.tally.count(count);
        }
    }
}

/// After all have been told: a job waits for what does not hold, and says so.
pub(super) fn check_waiting(supervisor: &Supervisor, job: &Job, now: Now) {
    let waiting_for: Vec<_> = supervisor.waiting_for(job).collect();
    if !job.is_waiting() {
        return assert!(waiting_for.is_empty(), "{} is not waiting", job.id());
    }
    let unmet = unmet(supervisor, job.spec());
    assert_eq!(waiting_for, unmet, "{}", job.id());
    let is_successor = supervisor.message(job, now).contains("the removed job of the same id");
    assert!(is_successor || !unmet.is_empty(), "{} waits for nothing", job.id());
}

/// The conditions that do not hold, as anybody can see.
fn unmet<'a>(supervisor: &Supervisor, spec: &'a JobSpec) -> Vec<(&'a JobId, Condition)> {
    let holds = |id: &JobId, condition: Condition| {
        let milestone = match condition {
            Condition::Started => Milestone::Started,
            Condition::Ready => Milestone::Ready,
            Condition::Succeeded => Milestone::Succeeded,
            Condition::Ended => Milestone::Ended,
        };
        let job = supervisor.job(id.as_str());
        job.is_some_and(|job| job.progress(milestone) == Progress::Reached)
    };
    let conditions = spec.depends_on.iter().map(|(id, on)| (id, on.condition));
    conditions.filter(|(id, condition)| !holds(id, *condition)).collect()
}

/// Whether a way leads from the job back to itself, if it has this specification.
fn closes_circle(supervisor: &Supervisor, id: &JobId, spec: &JobSpec) -> bool {
    let mut reached = BTreeSet::new();
    let mut next: Vec<JobId> = spec.depends_on.keys().cloned().collect();
    while let Some(at) = next.pop() {
        if at == *id {
            return true;
        }
        if reached.insert(at.clone())
            && let Some(job) = supervisor.job(at.as_str())
        {
            next.extend(job.spec().depends_on.keys().cloned());
        }
    }
    false
}
