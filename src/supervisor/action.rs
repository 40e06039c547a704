//! What the supervisor wants done: something to existing processes, or a process to be started.
//! The caller does it and reports the outcome.

use std::rc::Rc;

use super::handler::Call;
use super::{CommandKey, CommandRole, JobKey, ProbeKey, ProcessKey, RunKey};
use crate::job::spec::Check;
use crate::job::{JobId, JobSpec, Pid, Signal};

/// Something to do to processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a signal that a user asked for, and nothing else.
    Signal {
        /// To which processes: one, or a group.
        target: Target,
        /// Which signal.
        signal: Signal,
    },
    /// Send all of the target's processes a signal to end them. Unless it is SIGKILL, send SIGCONT
    /// too, so that stopped processes can act on it.
    Stop {
        /// To which processes.
        target: Target,
        /// Which signal.
        signal: Signal,
    },
    /// Find out whether any process of the target is left, and answer with
    /// [`Supervisor::handle_survey`](super::Supervisor::handle_survey).
    Survey {
        /// The run that waits for the answer.
        run: RunKey,
        /// Which processes.
        target: Target,
    },
    /// Check whether the process group still exists, by kill(2) without a search. If not, answer
    /// with [`Supervisor::handle_group_gone`](super::Supervisor::handle_group_gone).
    Glance {
        /// The run that waits for the answer.
        run: RunKey,
        /// The leader of the group, which has ended.
        leader: Pid,
    },
    /// All jobs are gone. Find out whether any other process is left, which belongs to no job, and
    /// answer with [`Supervisor::handle_rest`](super::Supervisor::handle_rest). Only the first
    /// process of a pid namespace is asked to.
    Rest {
        /// Whether to ask them to end first, by SIGTERM and SIGCONT; later only whether any is
        /// left.
        ask: bool,
    },
    /// Make one attempt of a probe: a request by HTTP, or a connection by TCP. Answer with
    /// [`Supervisor::handle_probe`](super::Supervisor::handle_probe) or
    /// [`Supervisor::handle_probe_deferred`](super::Supervisor::handle_probe_deferred), unless
    /// [`Action::EndProbe`] comes first.
    Probe {
        /// Whose attempt it is.
        key: ProbeKey,
        /// What to ask: of the kinds `http` and `tcp` alone.
        check: Check,
    },
    /// Give up the attempt: it has timed out, or its run has ended. No answer is expected. It may
    /// have been answered since.
    EndProbe {
        /// Whose attempt it is.
        key: ProbeKey,
    },
    /// Find out what all runs use. Report each with
    /// [`Supervisor::handle_usage`](super::Supervisor::handle_usage), and finish with
    /// [`Supervisor::handle_measured`](super::Supervisor::handle_measured).
    Measure,
    /// Reopen all log files by their names, and then answer with
    /// [`Supervisor::handle_log_files_reopened`](super::Supervisor::handle_log_files_reopened).
    /// From now on, nothing more is written to the files that are open.
    ReopenLogFiles {
        /// The number of the request.
        number: u64,
    },
    /// Everything has been stopped, or the time for it is up: exit with this code.
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
    /// A process group, named by its leader, which may have ended.
    Group(Pid),
    /// All processes of a run or a job: the group, the descendants of the leader, and orphans that
    /// carry the mark of their run.
    Tree {
        /// The first process of the run, whose id is also that of its group and its session.
        leader: Option<Pid>,
        /// Whose orphans.
        owner: Owner,
    },
}

/// Whose processes are meant: those of a run, or of all runs of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// Those of one run.
    Run(RunKey),
    /// Those of all runs of a job.
    Job(JobKey),
}

/// The answer to [`Action::Survey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// No process of the target is left.
    Nothing,
    /// One is left, or it cannot be seen just now whether one is.
    Something,
    /// None was found, but there may be one that k1s can never see.
    Unseen,
}

/// A process to start. The caller returns it with its outcome, in exactly one call of
/// [`handle_spawned`](super::Supervisor::handle_spawned),
/// [`handle_spawn_failed`](super::Supervisor::handle_spawn_failed) or
/// [`handle_spawn_deferred`](super::Supervisor::handle_spawn_deferred).
#[derive(Debug)]
#[must_use = "the supervisor waits for its outcome"]
pub struct Launch {
    /// The run it is for, or that the command is beside.
    pub run: RunKey,
    /// What is started.
    pub purpose: Purpose,
    /// The value of `K1S_JOB`.
    pub job_id: JobId,
    /// What to execute, and what it inherits; of a command, only that.
    pub spec: Rc<JobSpec>,
    /// The failure of another job that it handles.
    pub call: Option<Rc<Call>>,
}

/// What is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The run itself.
    Run,
    /// A command beside the run.
    Command {
        /// What it is for.
        role: CommandRole,
        /// The executable and its arguments.
        arguments: Vec<String>,
        /// The value of `K1S_PID`: the first process of the run.
        main: Pid,
    },
}

impl Launch {
    /// Names what is started.
    pub fn key(&self) -> ProcessKey {
        match self.purpose {
            Purpose::Run => ProcessKey::Run(self.run),
            Purpose::Command { role, .. } => {
                ProcessKey::Command(CommandKey { run: self.run, role })
            }
        }
    }
}
