//! How a job waits for what it depends on, before each start.
//!
//! ```text
//!   begin, restart, retry ──► waits? ── no ──► a run is queued ──► poll_spawn looks once more ──► spawned
//!                               │ yes              ▲                        │ it does not hold any more
//!                               ▼                  │ it holds               ▼
//!                            Waiting ──────────────┴──────────── handle_withheld
//! ```
//!
//! The job sees only whether its conditions hold, and by which runs: `supervisor/depend.rs` knows
//! of whom.

use super::{Job, Phase, Then};
use crate::job::Trigger;
use crate::job::spec::Kind;
use crate::supervisor::run::RunState;
use crate::supervisor::{Core, Happened, ProcessKey, RunKey, SkipReason};
use crate::time::Now;

impl Job {
    /// Whether it waits for what it depends on, instead of starting now.
    pub(super) fn waits(
        &mut self,
        trigger: Trigger,
        is_restart: bool,
        core: &mut Core,
        now: Now,
    ) -> bool {
        let spec = self.spec.clone();
        let mut unmet = core.dependencies.unmet(&spec.depends_on);
        let Some((dependency, condition)) = unmet.next() else { return false };
        let what =
            Happened::Waits { dependency: dependency.clone(), condition, others: unmet.count() };
        self.enter(Phase::Waiting { trigger, is_restart }, core, now);
        self.tell(what, core, now);
        true
    }

    /// What it waits for may be there: the end of a removed job of the same id, or what it depends
    /// on. Or another run has reached that.
    pub(in crate::supervisor) fn handle_dependencies(&mut self, core: &mut Core, now: Now) {
        match &self.phase {
            Phase::Waiting { trigger, is_restart } => {
                let (trigger, is_restart) = (*trigger, *is_restart);
                if core.leaving.contains_key(&self.id) {
                    return;
                }
                if let Some(stage) = self.resumes.take() {
                    return self.resume(stage, core, now);
                }
                if self.is_blocked(core) {
                    return;
                }
                match is_restart {
                    true => self.restart_now(trigger, core, now),
                    false => self.begin(trigger, core, now),
                }
            }
            Phase::Idle { pending: Some(trigger) } => {
                let trigger = *trigger;
                if !core.leaving.contains_key(&self.id) && self.runs.is_empty() {
                    self.run_pending(trigger, core, now);
                }
            }
            Phase::Active => self.restart_if_renewed(core, now),
            Phase::Idle { pending: None }
            | Phase::Backoff { .. }
            | Phase::Scheduled { .. }
            | Phase::Stopping { .. }
            | Phase::Ended { .. }
            | Phase::Expired
            | Phase::Gone => {}
        }
    }

    /// Whether it matters to it now what others have reached.
    pub(in crate::supervisor) fn heeds_dependencies(&self) -> bool {
        let restarts = || self.spec.depends_on.values().any(|on| on.restart);
        self.is_waiting() || (matches!(self.phase, Phase::Active) && restarts())
    }

    /// Whether it waits before it starts: for processes of a removed job of the same id, or for what
    /// it depends on.
    pub fn is_waiting(&self) -> bool {
        matches!(self.phase, Phase::Waiting { .. })
    }

    /// A cron job follows its schedule also while what it depends on is not there.
    fn is_blocked(&self, core: &Core) -> bool {
        let is_cron = matches!(self.spec.kind, Kind::Cron(_));
        !is_cron && !core.dependencies.hold(&self.spec.depends_on)
    }

    /// A run that has not started yet will be based upon the new run anyway.
    fn restart_if_renewed(&mut self, core: &mut Core, now: Now) {
        let is_running = |run: &RunState| matches!(run, RunState::Running { .. });
        if !self.runs.iter().all(|run| is_running(&run.state)) {
            return;
        }
        let renewed = core.dependencies.renewed(&self.spec.depends_on, &mut self.bases);
        if let Some(dependency) = renewed {
            self.tell(Happened::Renewed { dependency }, core, now);
            self.count_restart(core);
            self.stop(Then::Begin(Trigger::Restart), core, now);
        }
    }

    /// A run was to be spawned while a condition did not hold: it is queued again if all hold by
    /// now, otherwise it waits, or is skipped.
    pub(in crate::supervisor) fn handle_withheld(
        &mut self,
        run: RunKey,
        core: &mut Core,
        now: Now,
    ) {
        let Some(index) = self.index(run) else { return };
        let Some(queued) = self.runs.get(index).filter(|run| run.is_queued()) else { return };
        if core.dependencies.hold(&self.spec.depends_on) {
            return core.starts.push_back(ProcessKey::Run(run));
        }
        let trigger = queued.trigger;
        self.cancel_run(index, core);
        match &self.phase {
            Phase::Active => {
                // If it is a restart, it was counted.
                self.waits(trigger, false, core, now);
            }
            Phase::Scheduled { .. } | Phase::Idle { .. } => {
                self.skip_runs(SkipReason::Blocked, core, now)
            }
            Phase::Waiting { .. }
            | Phase::Backoff { .. }
            | Phase::Stopping { .. }
            | Phase::Ended { .. }
            | Phase::Expired
            | Phase::Gone => {}
        }
    }
}
