//! What only the simulation and the scenes ask the supervisor, and k1s itself does not.

use super::{Owner, RunKey, Supervisor};
use crate::job::{ExitStatus, Pid};
use crate::time::Now;

impl Supervisor {
    /// A child of k1s has ended: [`Supervisor::handle_collected`] and, when it was a run's first
    /// process, [`Supervisor::handle_run_ended`], with nothing to be done in between. Returns the
    /// run; `None` for an orphan.
    pub fn handle_exit(
        &mut self,
        pid: Pid,
        status: ExitStatus,
        group_is_alive: bool,
        now: Now,
    ) -> Option<RunKey> {
        let run = self.handle_collected(pid)?;
        self.handle_run_ended(run, status, group_is_alive, now);
        Some(run)
    }

    /// How many runs have processes or are about to.
    pub fn live_runs(&self) -> usize {
        self.core.live_runs
    }

    /// The memory, in bytes, that captured output takes.
    pub fn output_memory(&self) -> usize {
        self.core.memory.used()
    }

    /// The run whose first process this is, while it lives.
    pub fn run_of(&self, pid: Pid) -> Option<RunKey> {
        self.core.pids.get(&pid).copied()
    }
}

impl Owner {
    /// Whether what this run has left is meant.
    pub fn covers(self, run: RunKey) -> bool {
        match self {
            Owner::Run(own) => own == run,
            Owner::Job(job) => job == run.job,
        }
    }
}
