//! One run, from the moment it is wanted until nothing of it is left.
//!
//! ```text
//!            launch                    stop, timeout
//!   Queued ─────────► Running ────────────────────────► Stopping ─ grace over: SIGKILL
//!     │ ▲                │                                  │
//!     │ │ retry          │ its first process ends:          │
//!     ▼ │                │ the result is recorded           │
//!   Deferred             ├──────────────► Clearing ◄────────┘
//!   (no room)            │ group empty    the rest is stopped the same way
//!                        ▼                    │ nothing left
//!                      gone ◄─────────────────┘
//! ```
//!
//! Timers belong to states: [`Run::enter`] is the only place that sets or cancels one, and it
//! cancels what the state before had set.

use std::rc::Rc;
use std::time::Duration;

use super::memory::Place;
use super::{Action, Core, Owner, RunKey, Target, Timer};
use crate::job::spec::StopScope;
use crate::job::{Capture, JobSpec, Pid, Reason, Signal, Stream, Trigger};
use crate::time::{Mono, Now};

/// A run that is not over yet.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) key: RunKey,
    /// Why it was wanted.
    pub(super) trigger: Trigger,
    /// The specification that it was started with.
    pub(super) spec: Rc<JobSpec>,
    pub(super) state: RunState,
    /// When it was started; in `Queued` and `Deferred`, when it was first wanted.
    pub(super) started: Now,
    pub(super) stdout: Capture,
    pub(super) stderr: Capture,
    /// Where its output stands in the budget.
    pub(super) place: Option<Place>,
    /// How often the machine had no room for it.
    pub(super) deferrals: u32,
}

#[derive(Debug)]
pub(super) enum RunState {
    /// It waits for its turn to be spawned.
    Queued,
    /// The machine had no room for it.
    Deferred { error: String, until: Mono, place: u64 },
    /// Its first process lives.
    Running { pid: Pid },
    /// It has been asked to end.
    Stopping { pid: Pid, why: Reason, target: Target, kill: Kill },
    /// Its first process is over, and its result recorded.
    Clearing { end: End, target: Target, kill: Kill, survey: Survey },
}

/// When SIGKILL comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kill {
    /// Nothing was asked to end yet: it is not known whether there is anything.
    Unasked,
    At(Mono),
    Sent,
}

/// How what is left is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Survey {
    /// The question has been asked; outdated when it was about less than is now to be cleared.
    Asked { next_delay: Duration, is_outdated: bool },
    /// It is asked again after a while, or when an orphan was reaped.
    Resting { next_delay: Duration },
}

/// What the job needs to know about a run that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) success: bool,
    pub(super) spawn_failed: bool,
    pub(super) lived: Duration,
}

impl Run {
    pub(super) fn new(key: RunKey, trigger: Trigger, spec: Rc<JobSpec>, now: Now) -> Run {
        let limit = spec.output.limit_bytes;
        Run {
            key,
            trigger,
            spec,
            state: RunState::Queued,
            started: now,
            stdout: Capture::new(limit),
            stderr: Capture::new(limit),
            place: None,
            deferrals: 0,
        }
    }

    /// The first process, while it lives.
    pub(super) fn pid(&self) -> Option<Pid> {
        match &self.state {
            RunState::Running { pid } | RunState::Stopping { pid, .. } => Some(*pid),
            RunState::Queued | RunState::Deferred { .. } | RunState::Clearing { .. } => None,
        }
    }

    /// Whether it waits to be spawned.
    pub(super) fn is_to_spawn(&self) -> bool {
        matches!(self.state, RunState::Queued | RunState::Deferred { .. })
    }

    /// The leader, which is gone, of the group that is being cleared.
    pub(super) fn cleared_leader(&self) -> Option<Pid> {
        match &self.state {
            RunState::Clearing {
                target: Target::Group(leader) | Target::Process(leader), ..
            } => Some(*leader),
            RunState::Clearing { target: Target::Tree { leader, .. }, .. } => *leader,
            RunState::Queued
            | RunState::Deferred { .. }
            | RunState::Running { .. }
            | RunState::Stopping { .. } => None,
        }
    }

    /// Goes over to another state: its timers are set, those of the state before are cancelled.
    pub(super) fn enter(&mut self, state: RunState, core: &mut Core, now: Now) {
        self.leave(core);
        self.state = state;
        match &self.state {
            RunState::Queued => core.starts.push_back(self.key),
            RunState::Deferred { until, place, .. } => {
                core.deferred.insert(*place, self.key);
                core.timers.set(Timer::Retry(self.key), *until);
            }
            RunState::Running { .. } => self.arm_timeout(core),
            RunState::Stopping { kill, .. } => arm_kill(*kill, self.key, core),
            RunState::Clearing { kill, survey, .. } => {
                core.clearing.insert(self.key);
                arm_kill(*kill, self.key, core);
                if let Survey::Resting { next_delay } = survey {
                    core.timers.set(Timer::Survey(self.key), survey_after(*next_delay, now));
                }
            }
        }
    }

    /// Leaves the state for good or for another.
    pub(super) fn leave(&mut self, core: &mut Core) {
        match &self.state {
            RunState::Queued => {}
            RunState::Deferred { place, .. } => {
                core.deferred.remove(place);
                core.timers.cancel(&Timer::Retry(self.key));
            }
            RunState::Running { .. } => {
                core.timers.cancel(&Timer::Timeout(self.key));
            }
            RunState::Stopping { .. } => {
                core.timers.cancel(&Timer::Kill(self.key));
            }
            RunState::Clearing { .. } => {
                core.clearing.remove(&self.key);
                core.timers.cancel(&Timer::Kill(self.key));
                core.timers.cancel(&Timer::Survey(self.key));
            }
        }
    }

    /// Takes over a specification whose difference the process cannot see.
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

    /// Asks the run to end: signals what is of `owner`, and arms SIGKILL. Returns false when there
    /// is no process yet, and so nothing to wait for.
    pub(super) fn stop(&mut self, why: Reason, owner: Owner, core: &mut Core, now: Now) -> bool {
        let grace_over = core.bound_by_shutdown(now.mono + self.spec.stop.timeout);
        // What is newly asked has a grace period of its own, also when the rest was killed.
        let earlier = |kill: Kill, is_wider: bool| match kill {
            Kill::At(at) => Kill::At(at.min(grace_over)),
            Kill::Sent if is_wider => Kill::At(grace_over),
            Kill::Sent => Kill::Sent,
            Kill::Unasked if is_wider => Kill::At(grace_over),
            Kill::Unasked => Kill::Unasked,
        };
        let (before, leader) = match &self.state {
            RunState::Queued | RunState::Deferred { .. } => return false,
            RunState::Running { pid } => (None, Some(*pid)),
            RunState::Stopping { target, pid, .. } => (Some(target), Some(*pid)),
            RunState::Clearing { target, .. } => (Some(target), self.cleared_leader()),
        };
        let target = Target::Tree { leader, owner };
        let is_wider = before != Some(&target);
        // SIGKILL goes to all, also as the signal of a stop.
        let is_kill = self.spec.stop.signal == Signal::KILL;
        let scope = if is_kill { StopScope::Group } else { self.spec.stop.scope };
        match (&self.state, scope) {
            (RunState::Running { pid }, StopScope::Process) => {
                self.ask_to_end(&Target::Process(*pid), core);
            }
            // What is more gets the signal when the first process has ended.
            (RunState::Stopping { .. }, StopScope::Process) => {}
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
        };
        self.enter(next, core, now);
        true
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
        core.actions.push_back(Action::Stop { target: target.clone(), signal: Signal::KILL });
    }

    /// The first process is over; others of `target` may be left.
    pub(super) fn clear(
        &mut self,
        end: End,
        target: Target,
        kill: Kill,
        core: &mut Core,
        now: Now,
    ) {
        let survey = Survey::Resting { next_delay: FIRST_SURVEY };
        self.enter(RunState::Clearing { end, target, kill, survey }, core, now);
    }

    /// Asks whether anything is left, unless the question is open already.
    pub(super) fn survey(&mut self, core: &mut Core) {
        let RunState::Clearing { target, survey, .. } = &mut self.state else {
            return;
        };
        if let Survey::Resting { next_delay } = *survey {
            *survey = Survey::Asked { next_delay, is_outdated: false };
            core.timers.cancel(&Timer::Survey(self.key));
            core.actions.push_back(Action::Survey { run: self.key, target: target.clone() });
        }
    }

    /// Orphans were reaped, which may have been the rest: a group is glanced at, which is cheap; a
    /// tree is looked at sooner than planned, but after an eighth of the planned wait at the
    /// soonest while orphans end one after another.
    pub(super) fn recheck_soon(&mut self, core: &mut Core, now: Now) {
        let RunState::Clearing { target, survey: Survey::Resting { next_delay }, .. } = &self.state
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

    /// The answer was about less than is to be cleared: asks again.
    pub(super) fn survey_anew(&mut self, core: &mut Core) {
        if let RunState::Clearing { survey, .. } = &mut self.state
            && let Survey::Asked { next_delay, .. } = *survey
        {
            *survey = Survey::Resting { next_delay };
            self.survey(core);
        }
    }

    /// Something is left: asks it to end, if that was not done yet, and looks again later. What
    /// SIGKILL has missed gets it again.
    pub(super) fn rest(&mut self, core: &mut Core, now: Now) {
        let grace_over = core.bound_by_shutdown(now.mono + self.spec.stop.timeout);
        let RunState::Clearing { target, kill, survey, .. } = &mut self.state else {
            return;
        };
        let Survey::Asked { next_delay, .. } = *survey else {
            return;
        };
        *survey = Survey::Resting { next_delay: (next_delay * 2).min(LONGEST_SURVEY) };
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

    /// Keeps what the process wrote.
    pub(super) fn append(&mut self, stream: Stream, bytes: &[u8], core: &mut Core) {
        match stream {
            Stream::Stdout => self.stdout.append(bytes),
            Stream::Stderr => self.stderr.append(bytes),
        }
        self.account(core);
    }

    /// Forgets what was kept of its output: it stands nowhere in the budget any more.
    pub(super) fn discard_output(&mut self) {
        self.stdout.discard();
        self.stderr.discard();
        self.place = None;
    }

    /// Tells the budget what the run holds.
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
            Survey::Resting { .. } => self,
        }
    }
}

fn arm_kill(kill: Kill, run: RunKey, core: &mut Core) {
    if let Kill::At(at) = kill {
        core.timers.set(Timer::Kill(run), at);
    }
}

/// When to look again after so long, or a little later: at a whole multiple, so that all who look
/// as seldom look together, and share one look.
fn survey_after(delay: Duration, now: Now) -> Mono {
    let Mono(due) = now.mono + delay;
    let millis = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
    Mono(due.checked_next_multiple_of(millis).unwrap_or(due))
}

/// What is left is looked for again after so long, then twice as long, up to the longest.
const FIRST_SURVEY: Duration = Duration::from_millis(5);
const LONGEST_SURVEY: Duration = Duration::from_millis(320);
