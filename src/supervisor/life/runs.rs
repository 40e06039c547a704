//! What happens to the runs of a job, from when one is to start until none of its processes is
//! left.
//!
//! Each `handle_*` takes a run from one of its states to the next (`run.rs` draws them). After the
//! last state the run is dropped, and the job decides what follows.

use std::rc::Rc;
use std::time::Duration;

use super::Job;
use crate::job::spec::{Kind, StopScope};
use crate::job::{ExitStatus, Pid, Reason, RunEnd, SpawnFailure, Stream, Trigger};
use crate::supervisor::run::{End, Kill, Leader, Run, RunState, Survey};
use crate::supervisor::{Core, Happened, Left, Owner, ProcessKey, RunKey, Target};
use crate::time::Now;

impl Job {
    pub(super) fn add_run(&mut self, trigger: Trigger, core: &mut Core, now: Now) {
        self.last_run += 1;
        self.may_have_unseen_leftovers = false;
        self.has_old_end = false;
        let key = RunKey { job: self.key, number: self.last_run };
        let mut run = Run::new(key, trigger, self.spec.clone(), self.log_end.place(), now);
        run.call = self.call.clone();
        self.runs.push(run);
        core.starts.push_back(ProcessKey::Run(key));
        core.live_runs += 1;
    }

    pub(in crate::supervisor) fn handle_spawned(
        &mut self,
        run: RunKey,
        pid: Pid,
        core: &mut Core,
        now: Now,
    ) {
        let run_key = run;
        let Some(run) = self.run_mut(run) else { return };
        run.started = now;
        // If it was deferred, the shortage may be over for the next deferred run, too.
        core.has_freed |= run.deferrals > 0;
        run.enter(RunState::Running { pid }, core, now);
        self.begin_health(run_key, core, now);
        let run = run_key.number;
        let streak =
            if std::mem::take(&mut self.has_backed_off) { self.streak.restarts } else { 0 };
        self.last_started = Some(now.wall);
        self.tell(Happened::Started { run, pid, streak }, core, now);
    }

    pub(in crate::supervisor) fn handle_spawn_failed(
        &mut self,
        run: RunKey,
        failure: SpawnFailure,
        core: &mut Core,
        now: Now,
    ) {
        let Some(index) = self.index(run) else { return };
        self.last_started = Some(now.wall);
        if let Some(run) = self.runs.get_mut(index) {
            run.started = now;
        }
        let end = RunEnd::NotSpawned(Rc::new(failure));
        let end = self.record(index, end, Reason::SpawnFailed, false, core, now);
        self.drop_run(index, core);
        self.follow(end, core, now);
    }

    pub(in crate::supervisor) fn handle_spawn_deferred(
        &mut self,
        run: RunKey,
        error: String,
        core: &mut Core,
        now: Now,
    ) {
        let Some(run) = self.run_mut(run) else { return };
        let delay = FIRST_DEFERRAL.saturating_mul(1 << run.deferrals.min(16)).min(LONGEST_DEFERRAL);
        run.deferrals += 1;
        let (number, is_first) = (run.key.number, run.deferrals == 1);
        core.last_deferral += 1;
        let place = core.last_deferral;
        let until = now.mono + delay;
        run.enter(RunState::Deferred { error: error.clone(), until, place }, core, now);
        self.tell(Happened::Deferred { run: number, error, is_first }, core, now);
    }

    /// Returns whether the job has changed: what was written may make it ready.
    pub(in crate::supervisor) fn handle_output(
        &mut self,
        key: RunKey,
        stream: Stream,
        bytes: &[u8],
        core: &mut Core,
        now: Now,
    ) -> bool {
        let Some(run) = self.runs.iter_mut().find(|run| run.key == key) else { return false };
        run.append(stream, bytes, &mut self.log_end, core, now);
        self.count_output(stream, bytes.len(), core);
        self.look_for_readiness(key, stream, bytes, core, now)
    }

    /// The first process of the run was collected: another process may get its pid from now on.
    pub(in crate::supervisor) fn handle_collected(&mut self, run: RunKey, core: &mut Core) {
        if let Some(run) = self.run_mut(run) {
            run.leader = Leader::Collected;
            run.end_health(core);
            core.cut_commands_short(run.key);
        }
    }

    pub(in crate::supervisor) fn handle_exit(
        &mut self,
        run: RunKey,
        status: ExitStatus,
        group_is_alive: bool,
        core: &mut Core,
        now: Now,
    ) {
        let Some(index) = self.index(run) else { return };
        let Some(run) = self.runs.get(index) else {
            return;
        };
        let Some((reason, left)) = what_is_left(run, status, group_is_alive, core, now) else {
            return;
        };
        let (spec, end) = (run.spec.clone(), RunEnd::Process(status));
        let good = spec.is_success(end.exit_code().into());
        let success = reason == Reason::Killed || (!reason.is_fault() && good);
        let end = self.record(index, end, reason, success, core, now);
        let exits_at_once = reason == Reason::Exited && good && end.lived < AT_ONCE;
        self.count_exit_at_once(exits_at_once, left.is_some(), core, now);
        match (left, self.runs.get_mut(index)) {
            (Some((target, kill)), Some(run)) => {
                if matches!(target, Target::Group(_)) {
                    run.ask_to_end(&target, core);
                    run.clear(end, target, kill, core, now);
                } else {
                    // Until now, only the first process was asked.
                    let is_one = spec.stop.scope == StopScope::Process;
                    let is_rest_unasked = is_one || spec.stop.exec.is_some();
                    if is_rest_unasked && matches!(kill, Kill::At(_)) {
                        run.ask_to_end(&target, core);
                    }
                    run.clear(end, target, kill, core, now);
                    run.survey(core);
                }
            }
            (None, _) | (_, None) => {
                self.conclude_run(index, end, core, now);
            }
        }
    }

    /// Detects a continuous job that goes into the background: its first process exits at once with
    /// success, several times in a row, or leaves processes in its group.
    fn count_exit_at_once(&mut self, is_one: bool, leaves_any: bool, core: &mut Core, now: Now) {
        let is_continuous = matches!(self.spec.kind, Kind::Continuous { .. });
        let before = self.exits_at_once;
        self.exits_at_once = match (is_one && is_continuous, leaves_any) {
            (false, _) => 0,
            (true, false) => before.saturating_add(1),
            (true, true) => before.max(EXITS_AT_ONCE),
        };
        if before < EXITS_AT_ONCE && self.exits_at_once >= EXITS_AT_ONCE {
            self.tell(Happened::ExitsAtOnce, core, now);
        }
    }

    pub(in crate::supervisor) fn handle_survey(
        &mut self,
        run: RunKey,
        left: Left,
        core: &mut Core,
        now: Now,
    ) {
        let Some(index) = self.index(run) else { return };
        let Some(run) = self.runs.get_mut(index) else {
            return;
        };
        let RunState::Clearing { end, survey: Survey::Asked { is_outdated, .. }, .. } = run.state
        else {
            return;
        };
        let number = run.key.number;
        if left == Left::Something {
            run.handle_leftovers(core, now);
        } else if is_outdated {
            run.survey_anew(core);
        } else {
            if left == Left::Unseen {
                self.may_have_unseen_leftovers = true;
                self.tell(Happened::Unseen { run: number }, core, now);
            }
            self.conclude_run(index, end, core, now);
        }
    }

    /// No process is left in the group of the run.
    pub(in crate::supervisor) fn handle_group_gone(
        &mut self,
        run: RunKey,
        core: &mut Core,
        now: Now,
    ) {
        let Some(index) = self.index(run) else { return };
        let Some(run) = self.runs.get_mut(index) else { return };
        core.forget_group_of(run);
        match &mut run.state {
            RunState::Clearing { target: Target::Tree { leader, .. }, .. } => *leader = None,
            RunState::Clearing { end, target: Target::Process(_) | Target::Group(_), .. } => {
                let end = *end;
                self.conclude_run(index, end, core, now);
            }
            RunState::Running { .. } | RunState::Stopping { .. } => run.forget_group(),
            RunState::Queued | RunState::Deferred { .. } | RunState::Closing { .. } => {}
        }
    }

    pub(in crate::supervisor) fn handle_survey_due(&mut self, run: RunKey, core: &mut Core) {
        if let Some(run) = self.run_mut(run) {
            run.survey(core);
        }
    }

    pub(in crate::supervisor) fn handle_orphans_reaped(
        &mut self,
        run: RunKey,
        core: &mut Core,
        now: Now,
    ) {
        if let Some(run) = self.run_mut(run) {
            run.recheck_soon(core, now);
        }
    }

    pub(in crate::supervisor) fn handle_run_timeout(
        &mut self,
        run: RunKey,
        core: &mut Core,
        now: Now,
    ) {
        if let Some(run) = self.run_mut(run) {
            // It has ended in time, but its output is still being read.
            if run.leader != Leader::Alive {
                return;
            }
            let owner = Owner::Run(run.key);
            run.stop(Reason::TimedOut, owner, core, now);
        }
    }

    pub(in crate::supervisor) fn handle_grace_over(
        &mut self,
        run: RunKey,
        core: &mut Core,
        now: Now,
    ) {
        if let Some(run) = self.run_mut(run) {
            run.force(core);
            let run = run.key.number;
            self.tell(Happened::Overdue { run }, core, now);
        }
    }

    /// Something was freed: tries a deferred run at once, before all others. However often that
    /// happens, its delays do not grow.
    pub(in crate::supervisor) fn retry_now(&mut self, run: RunKey, core: &mut Core, now: Now) {
        if let Some(run) = self.run_mut(run)
            && let RunState::Deferred { .. } = run.state
        {
            run.deferrals = run.deferrals.saturating_sub(1).max(1);
            run.enter(RunState::Queued, core, now);
            core.starts.rotate_right(1);
        }
    }

    pub(in crate::supervisor) fn retry(&mut self, run: RunKey, core: &mut Core, now: Now) {
        if let Some(run) = self.run_mut(run)
            && let RunState::Deferred { .. } = run.state
        {
            run.enter(RunState::Queued, core, now);
        }
    }

    /// Nothing is left of a run, but perhaps of commands beside it.
    pub(super) fn conclude_run(&mut self, index: usize, end: End, core: &mut Core, now: Now) {
        let Some(run) = self.runs.get_mut(index) else { return };
        if core.has_commands(run.key) {
            return run.enter(RunState::Closing { end }, core, now);
        }
        if std::mem::take(&mut run.has_remains) {
            let target = Target::Tree { leader: None, owner: Owner::Run(run.key) };
            run.clear(end, target, Kill::Unasked, core, now);
            return run.survey(core);
        }
        self.drop_run(index, core);
        self.follow(end, core, now);
    }

    /// Drops a run that is over.
    pub(super) fn drop_run(&mut self, index: usize, core: &mut Core) {
        let mut run = self.runs.remove(index);
        core.forget_group_of(&run);
        run.leave(core);
        core.memory.release(run.place.take());
        core.live_runs -= 1;
        core.has_freed = true;
    }
}

/// Why the first process of the run ended, and which of its processes may be left; `None` if its
/// end was reported before.
fn what_is_left(
    run: &Run,
    status: ExitStatus,
    group_is_alive: bool,
    core: &Core,
    now: Now,
) -> Option<(Reason, Option<(Target, Kill)>)> {
    let kill = Kill::At(core.bound_grace(run.key.job, now.mono + run.spec.stop.timeout));
    match &run.state {
        RunState::Stopping { why, target, kill, .. } => Some((*why, Some((target.clone(), *kill)))),
        RunState::Running { .. } => {
            let reason = match status {
                ExitStatus::Code(_) => Reason::Exited,
                ExitStatus::Signal(_) => Reason::Signaled,
            };
            let group = run.named_leader().filter(|_| group_is_alive);
            Some((reason, group.map(|leader| (Target::Group(leader), kill))))
        }
        RunState::Queued
        | RunState::Deferred { .. }
        | RunState::Clearing { .. }
        | RunState::Closing { .. } => None,
    }
}

/// A continuous job that exits with success sooner than this probably runs in the background.
const AT_ONCE: Duration = Duration::from_secs(1);
/// After how many such exits in a row it is reported.
const EXITS_AT_ONCE: u32 = 3;
const FIRST_DEFERRAL: Duration = Duration::from_millis(100);
const LONGEST_DEFERRAL: Duration = Duration::from_secs(30);
