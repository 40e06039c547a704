//! The shutdown: all jobs are stopped, side by side or in the order of `stops.rs`, and then k1s ends
//! with an exit code.
//!
//! ```text
//!   a signal, the end of a critical job, a kill of the main job
//!      │
//!      ▼
//!   begun: nothing starts any more ── time is up, or asked again ──► killed
//!      │                                                               │
//!      └── no run is left ──► Action::Exit ◄── no run is left, or 1 s ─┘
//!           └─ PID 1: processes that belong to no job are asked to end ─┘
//! ```

use std::time::Duration;

use super::{Action, Core, EventKind, ProcessKey, Supervisor, Timer};
use crate::job::JobId;
use crate::time::{Mono, Now};

#[derive(Debug)]
pub(super) struct Shutdown {
    exit_code: u8,
    /// The end of a critical job began it: no other job's exit code counts.
    is_critical: bool,
    /// When everything that is left is killed.
    deadline: Mono,
    killed: bool,
    exited: bool,
    rest: Rest,
}

/// How far k1s is with the processes that belong to no job and would end with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Unasked,
    /// They were asked to end; k1s looks now, or after this delay, whether any is left.
    Asked {
        next_delay: Duration,
    },
}

impl Supervisor {
    /// Whether k1s is shutting down.
    pub fn is_shutting_down(&self) -> bool {
        self.core.shutdown.is_some()
    }

    /// The deadline of a shutdown that has begun.
    pub fn shutdown_deadline(&self) -> Option<Mono> {
        self.core.shutdown.as_ref().map(|shutdown| shutdown.deadline)
    }

    /// Stops all jobs, those that depend on others before them, and then returns [`Action::Exit`]. A second call kills what
    /// is left.
    pub fn shutdown(&mut self, exit_code: u8, now: Now) {
        if self.core.shutdown.is_some() {
            self.kill_everything(false, now);
        } else {
            self.begin_shutdown(exit_code, None, now);
            self.settle(now);
        }
    }

    /// The caller settles.
    pub(super) fn begin_shutdown(&mut self, exit_code: u8, because_of: Option<JobId>, now: Now) {
        let is_critical = because_of.is_some();
        let live_runs = self.core.live_runs;
        self.core.tell(EventKind::ShuttingDown { exit_code, because_of, live_runs }, now);
        let timeout = self.core.settings.shutdown_timeout;
        let deadline = now.mono + timeout.saturating_sub(time_to_kill(live_runs).min(timeout / 2));
        let (killed, exited) = (false, false);
        let rest = Rest::Unasked;
        self.core.shutdown =
            Some(Shutdown { exit_code, is_critical, deadline, killed, exited, rest });
        self.core.starts.retain(|start| matches!(start, ProcessKey::Command(_)));
        self.core.timers.set(Timer::Shutdown, deadline);
        // All are asked or held before any is settled: only then is it known whether there is
        // anything to wait for.
        for job in self.jobs.values_mut() {
            job.remember_stage(now);
        }
        self.stop_all_in_order(now);
    }

    fn kill_everything(&mut self, is_overdue: bool, now: Now) {
        let live_runs = self.core.live_runs;
        self.core.tell(EventKind::KillingAll { is_overdue, live_runs }, now);
        if let Some(shutdown) = &mut self.core.shutdown
            && !std::mem::replace(&mut shutdown.killed, true)
        {
            self.core.timers.set(Timer::Shutdown, now.mono + GIVE_UP_AFTER);
        }
        for (key, job) in &mut self.jobs {
            job.force(&mut self.core, now);
            self.core.note_change(*key);
        }
        self.core.forget_stops();
        self.settle(now);
    }

    /// The answer to an [`Action::Rest`]: whether there is any process but k1s.
    pub fn handle_rest(&mut self, is_left: bool, now: Now) {
        if !is_left {
            return self.exit();
        }
        if let Some(Shutdown { rest: Rest::Asked { next_delay }, .. }) = &mut self.core.shutdown {
            self.core.timers.set(Timer::Rest, now.mono + *next_delay);
            *next_delay = (*next_delay * 2).min(LONGEST_REST);
        }
    }

    pub(super) fn handle_shutdown_timeout(&mut self, now: Now) {
        match &mut self.core.shutdown {
            Some(shutdown) if shutdown.killed => self.exit(),
            Some(_) => self.kill_everything(true, now),
            None => {}
        }
    }

    pub(super) fn finish_shutdown(&mut self) {
        if self.core.live_runs > 0 {
            return;
        }
        match &mut self.core.shutdown {
            None => {}
            Some(shutdown) if shutdown.killed || !self.core.owns_namespace => self.exit(),
            Some(Shutdown { rest: Rest::Asked { .. }, .. }) => {}
            Some(shutdown) => {
                shutdown.rest = Rest::Asked { next_delay: FIRST_REST };
                self.core.actions.push_back(Action::Rest { ask: true });
            }
        }
    }

    fn exit(&mut self) {
        let main = self.core.settings.main.as_ref().and_then(|id| self.ids.get(id));
        let main_code =
            main.and_then(|key| self.jobs.get(key)).and_then(|job| job.final_exit_code());
        let Some(shutdown) = &mut self.core.shutdown else {
            return;
        };
        if !std::mem::replace(&mut shutdown.exited, true) {
            let code = main_code.filter(|_| !shutdown.is_critical).unwrap_or(shutdown.exit_code);
            self.core.timers.cancel(&Timer::Shutdown);
            self.core.timers.cancel(&Timer::Rest);
            self.core.actions.push_back(Action::Exit { code });
        }
    }
}

/// How long it takes to kill and collect so many runs, on two cores. The whole shutdown must be
/// over in its time, because whoever stopped the container kills k1s after that.
fn time_to_kill(live_runs: usize) -> Duration {
    Duration::from_millis(50).saturating_mul(u32::try_from(live_runs / 100).unwrap_or(u32::MAX))
}

impl Core {
    /// Cuts a deadline short that would outlast the shutdown.
    pub(super) fn bound_by_shutdown(&self, at: Mono) -> Mono {
        self.shutdown.as_ref().map_or(at, |shutdown| at.min(shutdown.deadline))
    }
}

/// The first delay before k1s looks whether processes are left that belong to no job; it doubles
/// up to the longest.
const FIRST_REST: Duration = Duration::from_millis(5);
const LONGEST_REST: Duration = Duration::from_millis(320);
/// How long a shutdown waits after SIGKILL for processes that do not end, such as one in
/// uninterruptible sleep.
const GIVE_UP_AFTER: Duration = Duration::from_secs(1);
