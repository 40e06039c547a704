//! The shutdown: everything is stopped side by side, and then k1s ends with an exit code.
//!
//! ```text
//!   a signal, the end of a critical job, a kill of the main job
//!      │
//!      ▼
//!   begun: nothing is started any more ── time is up, or asked again ──► killed
//!      │                                                                   │
//!      └── no run is left ──► Action::Exit ◄── no run is left, or given up ┘
//!               └─ PID 1: what belongs to no job is asked, too ─┘
//! ```

use std::time::Duration;

use super::{Action, Core, EventKind, Supervisor, Timer};
use crate::job::JobId;
use crate::time::{Mono, Now};

#[derive(Debug)]
pub(super) struct Shutdown {
    exit_code: u8,
    /// A critical job's end began it: no other job's code counts.
    is_critical: bool,
    /// When what is left is killed.
    deadline: Mono,
    killed: bool,
    exited: bool,
    rest: Rest,
}

/// What belongs to no job, and would end with k1s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Unasked,
    /// It is looked for, or will be after so long.
    Asked {
        next_delay: Duration,
    },
}

impl Supervisor {
    /// Whether k1s is shutting down.
    pub fn is_shutting_down(&self) -> bool {
        self.core.shutdown.is_some()
    }

    /// When a shutdown that has begun is to be over.
    pub fn shutdown_deadline(&self) -> Option<Mono> {
        self.core.shutdown.as_ref().map(|shutdown| shutdown.deadline)
    }

    /// Stops everything, side by side, and then hands out [`Action::Exit`]. A second call kills
    /// whatever is left.
    pub fn shutdown(&mut self, exit_code: u8, now: Now) {
        if self.core.shutdown.is_some() {
            self.kill_everything(false, now);
        } else {
            self.begin_shutdown(exit_code, None, now);
            self.settle(now);
        }
    }

    /// To be settled by the caller.
    pub(super) fn begin_shutdown(&mut self, exit_code: u8, because_of: Option<JobId>, now: Now) {
        let is_critical = because_of.is_some();
        let live_runs = self.core.live_runs;
        self.core.tell(EventKind::ShuttingDown { exit_code, because_of, live_runs }, now);
        let deadline = now.mono + self.core.settings.shutdown_timeout;
        let (killed, exited) = (false, false);
        let rest = Rest::Unasked;
        self.core.shutdown =
            Some(Shutdown { exit_code, is_critical, deadline, killed, exited, rest });
        self.core.starts.clear();
        self.core.timers.set(Timer::Shutdown, deadline);
        // Only when all have been asked is it known whether there is anything to wait for.
        for (key, job) in &mut self.jobs {
            job.stop_for_good(&mut self.core, now);
            self.core.note_change(*key);
        }
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
            job.force(&mut self.core);
            self.core.note_change(*key);
        }
        self.settle(now);
    }

    /// The answer to an [`Action::Rest`]: whether anything is there but k1s.
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

impl Core {
    /// No grace period outlasts the shutdown.
    pub(super) fn bound_by_shutdown(&self, at: Mono) -> Mono {
        self.shutdown.as_ref().map_or(at, |shutdown| at.min(shutdown.deadline))
    }
}

/// How soon it is looked whether what belongs to no job has ended; then after twice that, up to
/// the longest.
const FIRST_REST: Duration = Duration::from_millis(5);
const LONGEST_REST: Duration = Duration::from_millis(320);
/// How long after SIGKILL a process may still be there, in uninterruptible sleep perhaps, before
/// a shutdown no longer waits for it.
const GIVE_UP_AFTER: Duration = Duration::from_secs(1);
