//! Commands beside a run: its `exec` probes, its `reload`, and what asks it to end, `stop.exec`.
//!
//! ```text
//!            launch              its first process ends            its output was read
//!   Queued ─────────► Running ─────────────────────────► Collected ───────────────────► gone
//!     └ cut short: gone  └ cut short: SIGKILL to its group
//! ```
//!
//! A command has everything that its run has, but no result. It is cut short when its time is over,
//! and when the first process of the run has ended; the run is not over before all of its commands
//! are gone. What a command leaves in its group is killed.

use super::{Action, Core, RunKey, Target};
use crate::job::spec::ProbeRole;
use crate::job::{ExitStatus, Pid, Signal};

/// Names a command of a run. There is at most one of a role at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandKey {
    /// The run that it is beside.
    pub run: RunKey,
    /// What it is for.
    pub role: CommandRole,
}

/// What a command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CommandRole {
    /// It makes one attempt of a probe.
    Probe(ProbeRole),
    /// It lets the run load its configuration again.
    Reload,
    /// It asks the run to end.
    Stop,
}

/// Names what k1s starts, and the first process of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProcessKey {
    /// A run.
    Run(RunKey),
    /// A command beside a run.
    Command(CommandKey),
}

/// A command that is to be started, or runs.
#[derive(Debug)]
pub(super) struct Command {
    /// The executable and its arguments.
    arguments: Vec<String>,
    state: State,
    /// The end of what it wrote.
    output: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Queued,
    Running(Pid),
    /// It was cut short, and is not gone yet.
    Cut(Pid),
    Collected(Pid),
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CommandEnd {
    Ended(ExitStatus),
    /// It could not be started, for this reason.
    NotStarted(String),
    /// This machine is short of something.
    Deferred(String),
}

impl ProcessKey {
    /// The run, or the run that the command is beside.
    pub fn run(self) -> RunKey {
        match self {
            ProcessKey::Run(run) => run,
            ProcessKey::Command(command) => command.run,
        }
    }
}

impl CommandRole {
    /// Whether what it writes belongs to the output of the run.
    pub fn writes_as_run(self) -> bool {
        match self {
            CommandRole::Probe(_) => false,
            CommandRole::Reload | CommandRole::Stop => true,
        }
    }

    /// The name of the field of the job that holds it.
    pub fn field(self) -> &'static str {
        match self {
            CommandRole::Probe(ProbeRole::Readiness) => "readiness.exec",
            CommandRole::Probe(ProbeRole::Liveness) => "liveness.exec",
            CommandRole::Reload => "reload.exec",
            CommandRole::Stop => "stop.exec",
        }
    }
}

impl Command {
    /// Its first process, if that was collected.
    pub(super) fn collected(&self) -> Option<Pid> {
        match self.state {
            State::Collected(pid) => Some(pid),
            State::Queued | State::Running(_) | State::Cut(_) => None,
        }
    }

    /// What it wrote, or the end of that, for people.
    pub(super) fn output(&self) -> String {
        String::from_utf8_lossy(&self.output).trim().to_owned()
    }
}

impl Core {
    /// Starts a command. There is none of this role beside the run.
    pub(super) fn start_command(&mut self, key: CommandKey, arguments: &[String]) {
        let (arguments, output) = (arguments.to_vec(), Vec::new());
        self.commands.insert(key, Command { arguments, state: State::Queued, output });
        self.starts.push_back(ProcessKey::Command(key));
    }

    /// Cuts a command short, if it is there. Returns whether it is still to be waited for.
    pub(super) fn cut_command_short(&mut self, key: CommandKey) -> bool {
        let Some(command) = self.commands.get_mut(&key) else { return false };
        match command.state {
            State::Queued => {
                self.commands.remove(&key);
                false
            }
            State::Running(pid) => {
                command.state = State::Cut(pid);
                let (target, signal) = (Target::Group(pid), Signal::KILL);
                self.actions.push_back(Action::Stop { target, signal });
                true
            }
            State::Cut(_) | State::Collected(_) => true,
        }
    }

    /// Cuts all commands of a run short.
    pub(super) fn cut_commands_short(&mut self, run: RunKey) {
        for role in ROLES {
            self.cut_command_short(CommandKey { run, role });
        }
    }

    pub(super) fn has_command(&self, run: RunKey, role: CommandRole) -> bool {
        self.commands.contains_key(&CommandKey { run, role })
    }

    pub(super) fn has_commands(&self, run: RunKey) -> bool {
        ROLES.into_iter().any(|role| self.has_command(run, role))
    }

    /// What is to be executed, if the command is still to be started.
    pub(super) fn queued_command(&self, key: CommandKey) -> Option<&[String]> {
        let command = self.commands.get(&key)?;
        (command.state == State::Queued).then_some(command.arguments.as_slice())
    }

    pub(super) fn handle_command_spawned(&mut self, key: CommandKey, pid: Pid) {
        if let Some(command) = self.commands.get_mut(&key) {
            command.state = State::Running(pid);
        }
    }

    pub(super) fn handle_command_collected(&mut self, key: CommandKey) {
        if let Some(command) = self.commands.get_mut(&key)
            && let State::Running(pid) | State::Cut(pid) = command.state
        {
            command.state = State::Collected(pid);
        }
    }

    pub(super) fn keep_command_output(&mut self, key: CommandKey, bytes: &[u8]) {
        let Some(command) = self.commands.get_mut(&key) else { return };
        let newest = bytes.get(bytes.len().saturating_sub(KEPT_BYTES)..).unwrap_or(bytes);
        command.output.extend_from_slice(newest);
        let surplus = command.output.len().saturating_sub(KEPT_BYTES);
        command.output.drain(..surplus);
    }
}

const ROLES: [CommandRole; 4] = [
    CommandRole::Probe(ProbeRole::Readiness),
    CommandRole::Probe(ProbeRole::Liveness),
    CommandRole::Reload,
    CommandRole::Stop,
];

/// How much is kept of the output of a probe: its end.
const KEPT_BYTES: usize = 1024;
