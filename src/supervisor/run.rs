//! One run, from when it is to start until none of its processes is left.
//!
//! ```text
//!            launch                    stop, timeout
//!   Queued ─────────► Running ────────────────────────► Stopping ─ grace over: SIGKILL
//!     │ ▲                │                                  │
//!     │ │ retry          │ its first process ends:          │
//!     ▼ │                │ the result is recorded           │
//!   Deferred             ├──────────────► Clearing ◄────────┘
//!   (shortage)           │ group empty    leftovers are stopped the same way
//!                        ▼                    │ nothing left
//!                      gone ◄─────────────────┤
//!                        ▲                    │ commands beside it are left
//!                        └───── Closing ◄─────┘
//! ```
//!
//! Timers belong to states: [`Run::enter`] sets those of the new state and cancels those of the
//! old one.

use std::rc::Rc;
use std::time::Duration;

use super::handler::Call;
use super::health::Health;
use super::measure::Told;
use super::memory::Place;
use super::{Action, CommandKey, CommandRole, Core, Owner, ProcessKey, RunKey, Target, Timer};
use crate::job::spec::StopScope;
use crate::job::{Capture, JobSpec, LogEnd, LogPlace, Pid, Reason, Signal, Stream, Trigger};
use crate::time::{Mono, Now};

/// A run that is not over yet.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) key: RunKey,
    /// Why it is started.
    pub(super) trigger: Trigger,
    /// The failure of another job that it handles.
    pub(super) call: Option<Rc<Call>>,
    /// The specification that it was started with.
    pub(super) spec: Rc<JobSpec>,
    pub(super) state: RunState,
    /// What has become of its first process, in `Running` and `Stopping`.
    pub(super) leader: Leader,
    /// When it was started; in `Queued` and `Deferred`, when it was first to start.
    pub(super) started: Now,
    /// Where the job's log ended as it was added.
    pub(super) log_begin: LogPlace,
    pub(super) stdout: Capture,
    pub(super) stderr: Capture,
    /// The place of its output in the budget.
    pub(super) place: Option<Place>,
    /// How often it was deferred.
    pub(super) deferrals: u32,
    /// Whether it is ready and well, if that is asked, from when it has a process.
    pub(super) health: Option<Box<Health>>,
    /// A reload was asked for while another was going on.
    pub(super) reloads_again: bool,
    /// A command beside it has left processes, which were killed and may not be gone yet.
    pub(super) has_remains: bool,
    /// The last report about the memory and CPU time of its processes.
    pub(super) told: Told,
}

/// The first process of a run, until its end is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leader {
    /// It was not collected.
    Alive,
    /// It has ended and was collected, while the last of its output is being read.
    Collected,
    /// Another run has got its pid since, so nothing is left of its group.
    Replaced,
}

#[derive(Debug)]
pub(super) enum RunState {
    /// It is to be spawned.
    Queued,
    /// A shortage kept it from being spawned; it is tried again.
    Deferred { error: String, until: Mono, place: u64 },
    /// Its first process is running.
    Running { pid: Pid },
    /// It has been asked to end.
    Stopping { pid: Pid, why: Reason, target: Target, kill: Kill },
    /// Its first process has ended, and its result is recorded; leftovers are being stopped.
    Clearing { end: End, target: Target, kill: Kill, survey: Survey },
    /// Nothing is left of it, but commands beside it are being killed.
    Closing { end: End },
}

/// When SIGKILL comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kill {
    /// Nothing was asked to end yet, because it is not known whether anything is left.
    Unasked,
    At(Mono),
    Sent,
}

/// How k1s looks for leftovers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Survey {
    /// An [`Action::Survey`] is to be answered. Its answer is outdated if the target has become
    /// wider since.
    Asked { next_delay: Duration, is_outdated: bool },
    /// The next survey comes after a delay, or sooner when an orphan is reaped.
    Planned { next_delay: Duration },
}

/// What the job needs to know about a run that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) success: bool,
    pub(super) spawn_failed: bool,
    pub(super) lived: Duration,
}

impl Run {
    pub(super) fn new(
        key: RunKey,
        trigger: Trigger,
        spec: Rc<JobSpec>,
        log_begin: LogPlace,
        now: Now,
    ) -> Run {
        let limit = spec.output.limit_bytes;
        Run {
            key,
            trigger,
            call: None,
            spec,
            state: RunState::Queued,
            leader: Leader::Alive,
            started: now,
            log_begin,
            stdout: Capture::new(limit),
            stderr: Capture::new(limit),
            place: None,
            deferrals: 0,
            health: None,
            reloads_again: false,
            has_remains: false,
            told: Told::default(),
        }
    }

    /// The first process, until it was collected.
    pub(super) fn pid(&self) -> Option<Pid> {
        match &self.state {
            RunState::Running { pid } | RunState::Stopping { pid, .. } => {
                (self.leader == Leader::Alive).then_some(*pid)
            }
            RunState::Queued
            | RunState::Deferred { .. }
            | RunState::Clearing { .. }
            | RunState::Closing { .. } => None,
        }
    }

    /// Whether its first process was started, and its end was not reported yet.
    pub(super) fn is_live(&self) -> bool {
        matches!(self.state, RunState::Running { .. } | RunState::Stopping { .. })
    }

    /// Whether its turn to be spawned is still to come.
    pub(super) fn is_queued(&self) -> bool {
        matches!(self.state, RunState::Queued)
    }

    /// Whether it is still to be spawned.
    pub(super) fn is_to_spawn(&self) -> bool {
        matches!(self.state, RunState::Queued | RunState::Deferred { .. })
    }

    /// The process that leads its group or has led it, if anything may be left of that group.
    pub(super) fn named_leader(&self) -> Option<Pid> {
        match &self.state {
            RunState::Running { pid } | RunState::Stopping { pid, .. } => {
                (self.leader != Leader::Replaced).then_some(*pid)
            }
            RunState::Clearing {
                target: Target::Group(leader) | Target::Process(leader), ..
            } => Some(*leader),
            RunState::Clearing { target: Target::Tree { leader, .. }, .. } => *leader,
            RunState::Queued | RunState::Deferred { .. } | RunState::Closing { .. } => None,
        }
    }

    /// Whether it has a process that was not asked to end.
    pub(super) fn is_running(&self) -> bool {
        matches!(self.state, RunState::Running { .. })
    }

    /// The same, and that it is ready.
    pub(super) fn is_ready(&self) -> bool {
        let is_asked = self.spec.readiness.is_some();
        let has_said = self.health.as_ref().is_some_and(|health| health.is_ready());
        self.is_running() && (has_said || !is_asked)
    }

    /// Its first process has ended, or is asked to.
    pub(super) fn end_health(&mut self, core: &mut Core) {
        if let Some(health) = &mut self.health {
            health.end(core);
        }
    }

    fn end_reload(&mut self, core: &mut Core) {
        core.timers.cancel(&Timer::Reload(self.key));
        core.cut_command_short(CommandKey { run: self.key, role: CommandRole::Reload });
        self.reloads_again = false;
    }

    /// Enters a state: sets its timers, and cancels those of the old state.
    pub(super) fn enter(&mut self, state: RunState, core: &mut Core, now: Now) {
        self.leave(core);
        self.state = state;
        match &self.state {
            RunState::Queued => core.starts.push_back(ProcessKey::Run(self.key)),
            RunState::Deferred { until, place, .. } => {
                core.deferred.insert(*place, self.key);
                core.timers.set(Timer::Retry(self.key), *until);
            }
            RunState::Running { .. } => self.arm_timeout(core),
            RunState::Stopping { kill, .. } => arm_kill(*kill, self.key, core),
            RunState::Clearing { kill, survey, .. } => {
                core.clearing.insert(self.key);
                arm_kill(*kill, self.key, core);
                if let Survey::Planned { next_delay } = survey {
                    core.timers.set(Timer::Survey(self.key), survey_after(*next_delay, now));
                }
            }
            RunState::Closing { .. } => core.cut_commands_short(self.key),
        }
    }

    /// Leaves the state, for another or for good.
    pub(super) fn leave(&mut self, core: &mut Core) {
        match &self.state {
            RunState::Queued => {}
            RunState::Deferred { place, .. } => {
                core.deferred.remove(place);
                core.timers.cancel(&Timer::Retry(self.key));
            }
            RunState::Running { .. } => {
                core.timers.cancel(&Timer::Timeout(self.key));
                self.end_health(core);
                self.end_reload(core);
            }
            RunState::Stopping { .. } => {
                core.timers.cancel(&Timer::Kill(self.key));
            }
            RunState::Clearing { .. } => {
                core.clearing.remove(&self.key);
                core.timers.cancel(&Timer::Kill(self.key));
                core.timers.cancel(&Timer::Survey(self.key));
            }
            RunState::Closing { .. } => {}
        }
    }

    /// Adopts a new specification that makes no difference to the process. Its health is the job's.
    pub(super) fn take_over(&mut self, spec: Rc<JobSpec>, core: &mut Core) {
        self.stdout.set_limit(spec.output.limit_bytes);
        self.stderr.set_limit(spec.output.limit_bytes);
        self.spec = spec;
        self.account(core);
        if matches!(self.state, RunState::Running { .. }) {
            core.timers.cancel(&Timer::Timeout(self.key));
            self.arm_timeout(core);
        }
    }

    /// Asks the processes of `owner` to end, and sets the timer for SIGKILL. Returns false when
    /// there is no process yet, and so nothing to wait for.
    pub(super) fn stop(&mut self, why: Reason, owner: Owner, core: &mut Core, now: Now) -> bool {
        let grace_over = core.bound_grace(self.key.job, now.mono + self.spec.stop.timeout);
        // Processes that are asked only now get a full grace period, also when the others were
        // killed.
        let earlier = |kill: Kill, is_wider: bool| match kill {
            Kill::At(at) => Kill::At(at.min(grace_over)),
            Kill::Sent if is_wider => Kill::At(grace_over),
            Kill::Sent => Kill::Sent,
            Kill::Unasked if is_wider => Kill::At(grace_over),
            Kill::Unasked => Kill::Unasked,
        };
        let before = match &self.state {
            RunState::Queued | RunState::Deferred { .. } => return false,
            RunState::Running { .. } | RunState::Closing { .. } => None,
            RunState::Stopping { target, .. } | RunState::Clearing { target, .. } => Some(target),
        };
        let target = Target::Tree { leader: self.named_leader(), owner };
        let is_wider = before != Some(&target);
        let has_command = core.has_command(self.key, CommandRole::Stop);
        let asks_by_command = self.asks_by_command();
        match &self.state {
            _ if has_command || asks_by_command => {}
            // The others get the signal when the first process has ended.
            RunState::Stopping { .. } if self.stop_scope() == StopScope::Process => {}
            RunState::Running { .. } => self.ask(&target, core),
            _ if is_wider => self.ask_to_end(&target, core),
            _ => {}
        }
        let next = match &self.state {
            RunState::Queued | RunState::Deferred { .. } => return false,
            RunState::Running { pid } => {
                RunState::Stopping { pid: *pid, why, target, kill: Kill::At(grace_over) }
            }
            RunState::Stopping { pid, why, kill, .. } => {
                RunState::Stopping { pid: *pid, why: *why, target, kill: earlier(*kill, is_wider) }
            }
            RunState::Clearing { end, kill, survey, .. } => {
                let survey = if is_wider { survey.outdated() } else { *survey };
                RunState::Clearing { end: *end, target, kill: earlier(*kill, is_wider), survey }
            }
            // Earlier runs may have leftovers.
            RunState::Closing { end } => {
                let end = *end;
                self.clear(end, target, Kill::Unasked, core, now);
                self.survey(core);
                return true;
            }
        };
        self.enter(next, core, now);
        if asks_by_command && let Some(arguments) = &self.spec.stop.exec {
            let key = CommandKey { run: self.key, role: CommandRole::Stop };
            core.start_command(key, arguments);
        }
        true
    }

    /// Whether a command asks the run to end, in place of the signal.
    fn asks_by_command(&self) -> bool {
        let has_process = self.is_running() && self.leader == Leader::Alive;
        has_process && self.spec.stop.exec.is_some()
    }

    /// Sends the stop signal for the first time: to all, or to the first process.
    pub(super) fn ask(&self, all: &Target, core: &mut Core) {
        match (&self.state, self.stop_scope()) {
            (RunState::Running { pid } | RunState::Stopping { pid, .. }, StopScope::Process)
                if self.leader == Leader::Alive =>
            {
                self.ask_to_end(&Target::Process(*pid), core);
            }
            _ => self.ask_to_end(all, core),
        }
    }

    /// SIGKILL always goes to all, also when it is the stop signal of the job.
    fn stop_scope(&self) -> StopScope {
        let is_kill = self.spec.stop.signal == Signal::KILL;
        if is_kill { StopScope::Group } else { self.spec.stop.scope }
    }

    /// Kills at once what is being stopped.
    pub(super) fn force(&mut self, core: &mut Core) {
        let (RunState::Stopping { target, kill, .. } | RunState::Clearing { target, kill, .. }) =
            &mut self.state
        else {
            return;
        };
        *kill = Kill::Sent;
        core.timers.cancel(&Timer::Kill(self.key));
        core.cut_commands_short(self.key);
        core.actions.push_back(Action::Stop { target: target.clone(), signal: Signal::KILL });
    }

    /// Nothing is left of its group, while the last of its output is being read.
    pub(super) fn forget_group(&mut self) {
        self.leader = Leader::Replaced;
        if let RunState::Stopping { target: Target::Tree { leader, .. }, .. } = &mut self.state {
            *leader = None;
        }
    }

    /// The first process has ended; others of `target` may be left.
    pub(super) fn clear(
        &mut self,
        end: End,
        target: Target,
        kill: Kill,
        core: &mut Core,
        now: Now,
    ) {
        let survey = Survey::Planned { next_delay: FIRST_SURVEY };
        self.enter(RunState::Clearing { end, target, kill, survey }, core, now);
    }

    /// Asks for a survey, unless one is to be answered already.
    pub(super) fn survey(&mut self, core: &mut Core) {
        let RunState::Clearing { target, survey, .. } = &mut self.state else {
            return;
        };
        if let Survey::Planned { next_delay } = *survey {
            *survey = Survey::Asked { next_delay, is_outdated: false };
            core.timers.cancel(&Timer::Survey(self.key));
            core.actions.push_back(Action::Survey { run: self.key, target: target.clone() });
        }
    }

    /// Orphans were reaped, which may have been the last leftovers. A group is checked now, which
    /// is cheap. The survey of a tree comes sooner than planned, but not before an eighth of the
    /// planned delay, because more orphans may end one after another.
    pub(super) fn recheck_soon(&mut self, core: &mut Core, now: Now) {
        let RunState::Clearing { target, survey: Survey::Planned { next_delay }, .. } = &self.state
        else {
            return;
        };
        if let Target::Group(leader) | Target::Process(leader) = target {
            core.actions.push_back(Action::Glance { run: self.key, leader: *leader });
            return;
        }
        let at = survey_after(FIRST_SURVEY.max(*next_delay / 8), now);
        let timer = Timer::Survey(self.key);
        if core.timers.deadline(&timer).is_some_and(|planned| planned > at) {
            core.timers.set(timer, at);
        }
    }

    /// The answer was outdated: asks again.
    pub(super) fn survey_anew(&mut self, core: &mut Core) {
        if let RunState::Clearing { survey, .. } = &mut self.state
            && let Survey::Asked { next_delay, .. } = *survey
        {
            *survey = Survey::Planned { next_delay };
            self.survey(core);
        }
    }

    /// Something is left: asks it to end if that was not done yet, and plans the next survey.
    /// Processes that SIGKILL has missed get it again.
    pub(super) fn handle_leftovers(&mut self, core: &mut Core, now: Now) {
        let grace_over = core.bound_grace(self.key.job, now.mono + self.spec.stop.timeout);
        let RunState::Clearing { target, kill, survey, .. } = &mut self.state else {
            return;
        };
        let Survey::Asked { next_delay, .. } = *survey else {
            return;
        };
        *survey = Survey::Planned { next_delay: (next_delay * 2).min(LONGEST_SURVEY) };
        core.timers.set(Timer::Survey(self.key), survey_after(next_delay, now));
        let signal = match *kill {
            Kill::At(_) => return,
            Kill::Sent => Signal::KILL,
            Kill::Unasked => {
                *kill = Kill::At(grace_over);
                core.timers.set(Timer::Kill(self.key), grace_over);
                self.spec.stop.signal
            }
        };
        core.actions.push_back(Action::Stop { target: target.clone(), signal });
    }

    /// Keeps what the process wrote, at the end of the job's log.
    pub(super) fn append(
        &mut self,
        stream: Stream,
        bytes: &[u8],
        log: &mut LogEnd,
        core: &mut Core,
        now: Now,
    ) {
        match stream {
            Stream::Stdout => self.stdout.append(bytes, log, now.wall),
            Stream::Stderr => self.stderr.append(bytes, log, now.wall),
        }
        self.account(core);
    }

    /// Takes what it wrote, which is all.
    pub(super) fn take_output(&mut self) -> (Capture, Capture) {
        let none = || Capture::new(0);
        (std::mem::replace(&mut self.stdout, none()), std::mem::replace(&mut self.stderr, none()))
    }

    /// The newest output, if it is searched for a sign that the run is ready.
    pub(super) fn newest_output(&self) -> Vec<(Stream, Vec<u8>)> {
        if !self.health.as_ref().is_some_and(|health| health.is_searching()) {
            return Vec::new();
        }
        let streams = [(Stream::Stdout, &self.stdout), (Stream::Stderr, &self.stderr)];
        streams.map(|(stream, capture)| (stream, capture.newest(MOST_SEARCHED))).into()
    }

    /// It says that it needs time until then for what it is doing: to become ready, to do its work,
    /// or to end.
    pub(super) fn extend(&mut self, until: Mono, core: &mut Core) {
        match &mut self.state {
            RunState::Running { .. } => {
                let timeout = Timer::Timeout(self.key);
                let is_starting =
                    self.health.as_mut().is_some_and(|health| health.extend(until, core));
                if let Some(at) = core.timers.deadline(&timeout).filter(|_| !is_starting) {
                    core.timers.set(timeout, at.max(until));
                }
            }
            RunState::Stopping { kill: Kill::At(at), .. } => {
                *at = core.bound_grace(self.key.job, until).max(*at);
                core.timers.set(Timer::Kill(self.key), *at);
            }
            RunState::Queued
            | RunState::Deferred { .. }
            | RunState::Stopping { kill: Kill::Unasked | Kill::Sent, .. }
            | RunState::Clearing { .. }
            | RunState::Closing { .. } => {}
        }
    }

    /// Drops its output, which has left the budget.
    pub(super) fn discard_output(&mut self) {
        self.stdout.discard();
        self.stderr.discard();
        self.place = None;
    }

    /// Tells the budget how much output the run holds.
    fn account(&mut self, core: &mut Core) {
        let bytes = self.stdout.allocated() + self.stderr.allocated();
        self.place = core.memory.hold(self.place, self.key, true, bytes);
    }

    /// Sends the job's stop signal.
    pub(super) fn ask_to_end(&self, target: &Target, core: &mut Core) {
        let signal = self.spec.stop.signal;
        core.actions.push_back(Action::Stop { target: target.clone(), signal });
    }

    fn arm_timeout(&self, core: &mut Core) {
        if let Some(timeout) = self.spec.timeout {
            core.timers.set(Timer::Timeout(self.key), self.started.mono + timeout);
        }
    }
}

impl Survey {
    fn outdated(self) -> Survey {
        match self {
            Survey::Asked { next_delay, .. } => Survey::Asked { next_delay, is_outdated: true },
            Survey::Planned { .. } => self,
        }
    }
}

fn arm_kill(kill: Kill, run: RunKey, core: &mut Core) {
    if let Kill::At(at) = kill {
        core.timers.set(Timer::Kill(run), at);
    }
}

/// The time of the next survey: after `delay`, rounded up to a multiple of it, so that runs with
/// the same delay are surveyed at the same time and share one look at `/proc`.
fn survey_after(delay: Duration, now: Now) -> Mono {
    let Mono(due) = now.mono + delay;
    let millis = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
    Mono(due.checked_next_multiple_of(millis).unwrap_or(due))
}

/// How much of the output of a stream is searched when a new specification says what for.
const MOST_SEARCHED: usize = 64 * 1024;

/// The first delay between surveys; it doubles up to the longest.
const FIRST_SURVEY: Duration = Duration::from_millis(5);
const LONGEST_SURVEY: Duration = Duration::from_millis(320);
