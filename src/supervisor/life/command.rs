//! What follows from the end of a command beside a run, and reloads.

use std::time::Duration;

use super::Job;
use crate::job::ExitStatus;
use crate::job::spec::ReloadSpec;
use crate::supervisor::command::{Command, CommandEnd};
use crate::supervisor::health::Answer;
use crate::supervisor::run::{Leader, RunState};
use crate::supervisor::{
    Action, CommandKey, CommandRole, Core, Happened, Launch, Purpose, RunKey, Target, Timer,
};
use crate::time::Now;

impl Job {
    /// The launch of a command that is still to be started.
    pub(in crate::supervisor) fn command_launch(
        &self,
        key: CommandKey,
        core: &Core,
    ) -> Option<Launch> {
        let arguments = core.queued_command(key)?.to_vec();
        let run = self.runs.iter().find(|run| run.key == key.run)?;
        let main = run.pid()?;
        let purpose = Purpose::Command { role: key.role, arguments, main };
        let (job_id, spec, call) = (self.id.clone(), run.spec.clone(), run.call.clone());
        Some(Launch { run: run.key, purpose, job_id, spec, call })
    }

    /// A command is over, or could not be started.
    pub(in crate::supervisor) fn handle_command_over(
        &mut self,
        key: CommandKey,
        end: CommandEnd,
        core: &mut Core,
        now: Now,
    ) {
        let Some(command) = core.commands.remove(&key) else { return };
        match key.role {
            CommandRole::Probe(role) => {
                let answer = Answer::of_command(&end, &command.output());
                self.conclude_attempt(key.run, role, answer, core, now);
            }
            CommandRole::Reload => self.conclude_reload(key, &end, &command, core, now),
            CommandRole::Stop => self.conclude_stop(key, &end, &command, core, now),
        }
        self.close(key.run, core, now);
    }

    /// A command has left processes in its group, which are being killed.
    pub(in crate::supervisor) fn note_remains(&mut self, run: RunKey) {
        if let Some(run) = self.run_mut(run) {
            run.has_remains = true;
        }
    }

    /// The run is over when nothing is left of it and its commands.
    fn close(&mut self, run: RunKey, core: &mut Core, now: Now) {
        let Some(index) = self.index(run) else { return };
        if let Some(RunState::Closing { end }) = self.runs.get(index).map(|run| &run.state)
            && !core.has_commands(run)
        {
            let end = *end;
            self.conclude_run(index, end, core, now);
        }
    }

    /// Lets the run load its configuration again.
    pub(in crate::supervisor) fn reload(&mut self, core: &mut Core, now: Now) {
        let Some(run) = self.runs.iter_mut().rev().find(|run| run.is_running()) else { return };
        let Some(pid) = run.pid() else { return };
        match &run.spec.reload {
            ReloadSpec::Signal(signal) => {
                let (target, signal) = (Target::Process(pid), *signal);
                core.actions.push_back(Action::Signal { target, signal });
            }
            ReloadSpec::Exec(_) if core.has_command(run.key, CommandRole::Reload) => {
                run.reloads_again = true;
            }
            ReloadSpec::Exec(arguments) => {
                let key = CommandKey { run: run.key, role: CommandRole::Reload };
                core.start_command(key, arguments);
                core.timers.set(Timer::Reload(run.key), now.mono + LONGEST_RELOAD);
            }
        }
    }

    fn conclude_reload(
        &mut self,
        key: CommandKey,
        end: &CommandEnd,
        command: &Command,
        core: &mut Core,
        now: Now,
    ) {
        core.timers.cancel(&Timer::Reload(key.run));
        let Some(run) = self.run_mut(key.run).filter(|run| run.is_running()) else { return };
        let again = std::mem::take(&mut run.reloads_again) && run.leader == Leader::Alive;
        if let Some(why) = why_failed(end, command) {
            self.tell_failure(key, why, core, now);
        }
        if again {
            self.reload(core, now);
        }
    }

    /// Where the command has failed, the signal asks.
    fn conclude_stop(
        &mut self,
        key: CommandKey,
        end: &CommandEnd,
        command: &Command,
        core: &mut Core,
        now: Now,
    ) {
        let Some(why) = why_failed(end, command) else { return };
        let Some(run) = self.runs.iter().find(|run| run.key == key.run) else { return };
        if let RunState::Stopping { target, .. } = &run.state
            && run.leader == Leader::Alive
        {
            run.ask(target, core);
            self.tell_failure(key, why, core, now);
        }
    }

    fn tell_failure(&self, key: CommandKey, why: String, core: &mut Core, now: Now) {
        let what = Happened::CommandFailed { run: key.run.number, role: key.role, why };
        self.tell(what, core, now);
    }
}

/// Why a command has failed, for people; `None` if it has not.
fn why_failed(end: &CommandEnd, command: &Command) -> Option<String> {
    match end {
        CommandEnd::Ended(ExitStatus::Code(0)) => None,
        CommandEnd::Ended(_) | CommandEnd::NotStarted(_) | CommandEnd::Deferred(_) => {
            Some(Answer::of_command(end, &command.output()).into_message())
        }
    }
}

/// After so long the command of a reload is killed.
const LONGEST_RELOAD: Duration = Duration::from_mins(1);
