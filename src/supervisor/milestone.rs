//! Milestones of a job, for clients that wait for one.
//!
//! The answer is about the present state, not the past: `Reached` may be followed by `NotYet`, and
//! `Never` by either when a user starts or changes the job.

use super::RunKey;
use super::depend::Standing;
use super::life::{Job, Outcome, Phase, Then};
use super::run::RunState;
use crate::job::spec::{Kind, RestartPolicy};

/// What can be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Milestone {
    /// It has a process that was not asked to end, or has ended for good with success.
    Started,
    /// It has a process that was not asked to end, or has ended for good with success.
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
            (Milestone::Started | Milestone::Ready, None) => self.readiness(),
        }
    }

    /// What it has reached, and with which run: with the newest that runs, or has ended.
    pub(super) fn standing(&self) -> Standing {
        let is_running = |state: &RunState| matches!(state, RunState::Running { .. });
        let running = self.runs.iter().rev().find(|run| is_running(&run.state));
        let ended = self.last.as_ref().map_or(0, |last| last.run);
        let with = |milestone, number| {
            let is_reached = self.progress(milestone) == Progress::Reached;
            is_reached.then_some(RunKey { job: self.key, number })
        };
        let newest = running.map_or(ended, |run| run.key.number);
        Standing {
            started: with(Milestone::Started, newest),
            ready: with(Milestone::Ready, newest),
            succeeded: with(Milestone::Succeeded, ended),
            ended: with(Milestone::Ended, ended),
        }
    }

    /// Whether it has no run, and will have none without a request.
    fn is_idle(&self) -> bool {
        matches!(&self.phase, Phase::Idle { pending: None } if self.runs.is_empty())
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

    fn readiness(&self) -> Progress {
        let is_running = |state: &RunState| matches!(state, RunState::Running { .. });
        match &self.phase {
            _ if self.runs.iter().any(|run| is_running(&run.state)) => Progress::Reached,
            Phase::Scheduled { due: None, pending: None } if self.runs.is_empty() => {
                Progress::Never
            }
            Phase::Idle { .. }
            | Phase::Waiting { .. }
            | Phase::Active
            | Phase::Backoff { .. }
            | Phase::Scheduled { .. }
            | Phase::Stopping { .. }
            | Phase::Ended { .. }
            | Phase::Expired
            | Phase::Gone => Progress::NotYet,
        }
    }
}
