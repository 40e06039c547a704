//! Milestones of a job, for clients that wait for one.
//!
//! The answer is about the present state, not the past: `Reached` may be followed by `NotYet`, and
//! `Never` by either when a user starts or changes the job.

use super::RunKey;
use super::depend::Standing;
use super::life::{Job, Phase, Then};
use super::remembered::Outcome;
use super::run::Run;
use crate::job::spec::{Kind, RestartPolicy};

/// What can be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Milestone {
    /// It has a process that was not asked to end, or has ended for good with success.
    Started,
    /// It has a process that was not asked to end and is ready, or has ended for good with success.
    Ready,
    /// It has ended for good, with success.
    Succeeded,
    /// It has ended for good.
    Ended,
}

/// Whether a job has reached a milestone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It has.
    Reached,
    /// It has not, but may yet.
    NotYet,
    /// It cannot any more without a request.
    Never,
}

impl Job {
    /// Whether the job has reached the milestone.
    pub fn progress(&self, milestone: Milestone) -> Progress {
        let (outcome, is_over) = match &self.phase {
            Phase::Ended { outcome, .. } => (Some(*outcome), true),
            Phase::Stopping { then: Then::End(outcome) | Then::StayEnded(outcome) } => {
                (Some(*outcome), false)
            }
            Phase::Stopping { then: Then::Gone } | Phase::Expired | Phase::Gone => {
                (Some(Outcome::Killed), false)
            }
            Phase::Idle { .. }
            | Phase::Waiting { .. }
            | Phase::Active
            | Phase::Backoff { .. }
            | Phase::Scheduled { .. }
            | Phase::Stopping { then: Then::Begin(_) | Then::Idle } => (None, false),
        };
        if self.is_idle() {
            return Progress::Never;
        }
        match (milestone, outcome) {
            (Milestone::Ended, _) | (_, Some(Outcome::Succeeded)) if is_over => Progress::Reached,
            (Milestone::Ended, _) | (_, Some(Outcome::Succeeded)) => Progress::NotYet,
            (_, Some(Outcome::Failed | Outcome::Killed)) => Progress::Never,
            (Milestone::Succeeded, None) if !self.may_succeed() => Progress::Never,
            (Milestone::Succeeded, None) => Progress::NotYet,
            (Milestone::Started, None) => self.some_run(Run::is_running),
            (Milestone::Ready, None) => self.some_run(Run::is_ready),
        }
    }

    /// What it has reached, and with which run: with the newest that runs, or has ended.
    pub(super) fn standing(&self) -> Standing {
        let ended = self.last.as_ref().map_or(0, |last| last.run);
        let with = |milestone, number| {
            let is_reached = self.progress(milestone) == Progress::Reached;
            is_reached.then_some(RunKey { job: self.key, number })
        };
        let newest = |is_it: fn(&Run) -> bool| {
            self.runs.iter().rev().find(|run| is_it(run)).map_or(ended, |run| run.key.number)
        };
        Standing {
            started: with(Milestone::Started, newest(Run::is_running)),
            ready: with(Milestone::Ready, newest(Run::is_ready)),
            succeeded: with(Milestone::Succeeded, ended),
            ended: with(Milestone::Ended, ended),
        }
    }

    /// Whether it has no run, and will have none without a request.
    fn is_idle(&self) -> bool {
        matches!(&self.phase, Phase::Idle { pending: None } if self.runs.is_empty())
    }

    /// Whether k1s is not ready because of it: it has `readiness`, is meant to run, and is not
    /// ready. One that was given up is still meant to.
    pub(super) fn is_missing(&self) -> bool {
        let is_meant = match &self.phase {
            Phase::Waiting { .. }
            | Phase::Active
            | Phase::Backoff { .. }
            | Phase::Scheduled { .. }
            | Phase::Idle { pending: Some(_) }
            | Phase::Stopping { then: Then::Begin(_) | Then::StayEnded(Outcome::Failed) }
            | Phase::Ended { outcome: Outcome::Failed, .. } => !self.kill_requested,
            Phase::Stopping {
                then: Then::End(_) | Then::StayEnded(_) | Then::Idle | Then::Gone,
            }
            | Phase::Ended { outcome: Outcome::Succeeded | Outcome::Killed, .. }
            | Phase::Idle { pending: None }
            | Phase::Expired
            | Phase::Gone => false,
        };
        is_meant && self.spec.readiness.is_some() && !self.runs.iter().any(Run::is_ready)
    }

    /// Whether it may still succeed without a request.
    fn may_succeed(&self) -> bool {
        match &self.spec.kind {
            Kind::OneOff { .. } => true,
            Kind::Continuous { restart, .. } => match restart.policy {
                RestartPolicy::OnFailure | RestartPolicy::Never => true,
                RestartPolicy::Always | RestartPolicy::OnSuccess => false,
            },
            Kind::Cron(_) => false,
        }
    }

    fn some_run(&self, is_it: impl Fn(&Run) -> bool) -> Progress {
        match &self.phase {
            // It is to be stopped, whether its turn has come or not.
            Phase::Stopping { .. } => Progress::NotYet,
            _ if self.runs.iter().any(is_it) => Progress::Reached,
            Phase::Scheduled { due: None, pending: None } if self.runs.is_empty() => {
                Progress::Never
            }
            Phase::Idle { .. }
            | Phase::Waiting { .. }
            | Phase::Active
            | Phase::Backoff { .. }
            | Phase::Scheduled { .. }
            | Phase::Ended { .. }
            | Phase::Expired
            | Phase::Gone => Progress::NotYet,
        }
    }
}
