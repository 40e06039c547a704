//! What the supervisor hands out to be done: to processes that are there, and processes to be
//! started. Whoever drives it does it, and tells what came of it.

use std::rc::Rc;

use super::{JobKey, RunKey};
use crate::job::{JobId, JobSpec, Pid, Signal};

/// Something to be done to processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a signal that was asked for to the target's processes, and nothing else.
    Signal {
        /// To which processes: one, or a group.
        target: Target,
        /// Which signal.
        signal: Signal,
    },
    /// Send a signal to all of the target's processes that is to end them, and, unless it is
    /// SIGKILL, SIGCONT, so that stopped ones can act on it.
    Stop {
        /// To which processes.
        target: Target,
        /// Which signal.
        signal: Signal,
    },
    /// Find out whether any process of the target is left, and say so with
    /// [`Supervisor::handle_survey`](super::Supervisor::handle_survey).
    Survey {
        /// The run that waits for the answer.
        run: RunKey,
        /// Which processes.
        target: Target,
    },
    /// Look whether the group still is there, which takes no search: kill(2). If not, say so with
    /// [`Supervisor::handle_group_gone`](super::Supervisor::handle_group_gone).
    Glance {
        /// The run that waits for it.
        run: RunKey,
        /// The group's leader, which is gone.
        leader: Pid,
    },
    /// All jobs are gone: ask what belongs to none to end, by SIGTERM and SIGCONT, or only look
    /// whether it has, and say so with
    /// [`Supervisor::handle_rest`](super::Supervisor::handle_rest). For the first process of a
    /// pid namespace alone.
    Rest {
        /// Whether to ask; otherwise that was done.
        ask: bool,
    },
    /// Everything has been stopped, or its time is up: end with this exit code.
    Exit {
        /// k1s's own exit code.
        code: u8,
    },
}

/// Which processes are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// One process.
    Process(Pid),
    /// A process group, by its leader, which may be gone.
    Group(Pid),
    /// All that a run or a job has left behind: the group, what descends from the leader, and
    /// orphans that carry the sign of their run.
    Tree {
        /// The first process, whose id is also its group's and its session's.
        leader: Option<Pid>,
        /// Whose orphans.
        owner: Owner,
    },
}

/// Whose processes are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// One run's.
    Run(RunKey),
    /// Those of any run of a job.
    Job(JobKey),
}

/// What the two answers to [`Action::Survey`] are, and that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// None of the target's processes is there.
    Nothing,
    /// One is there, or it cannot be seen now.
    Something,
    /// None was found, but one may be there that can never be seen.
    Unseen,
}

/// A process to be started. It is handed back with what came of it, by
/// [`handle_spawned`](super::Supervisor::handle_spawned),
/// [`handle_spawn_failed`](super::Supervisor::handle_spawn_failed) or
/// [`handle_spawn_deferred`](super::Supervisor::handle_spawn_deferred): one answer, and one only.
#[derive(Debug)]
#[must_use = "the supervisor waits to be told what came of it"]
pub struct Launch {
    /// The run it is for.
    pub run: RunKey,
    /// The value of `K1S_JOB`.
    pub job_id: JobId,
    /// What to execute.
    pub spec: Rc<JobSpec>,
}
