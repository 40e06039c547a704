//! What only the simulation and the scenes ask the supervisor, and k1s itself does not.

use super::{Owner, ProcessKey, RunKey, Supervisor};
use crate::job::{ExitStatus, Pid};
use crate::time::Now;

impl Supervisor {
    /// A child of k1s has ended: [`Supervisor::handle_collected`] and, when it was a run's first
    /// process, [`Supervisor::handle_run_ended`] or what a command needs, with nothing to be done in between. Returns the
    /// run; `None` for an orphan.
    pub fn handle_exit(
        &mut self,
        pid: Pid,
        status: ExitStatus,
        group_is_alive: bool,
        now: Now,
    ) -> Option<RunKey> {
        let key = self.handle_collected(pid)?;
        match key {
            ProcessKey::Run(run) => self.handle_run_ended(run, status, group_is_alive, now),
            ProcessKey::Command(key) => {
                self.handle_command_ended(key, status, group_is_alive, now);
            }
        }
        Some(key.run())
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
