//! Commands beside runs in the simulation: they live and hang at random, and none outlives its run.

use std::collections::{BTreeMap, BTreeSet};

use crate::job::spec::ProbeRole;
use crate::job::{ExitStatus, Pid, SpawnFailure, Stream};
use crate::supervisor::{CommandKey, CommandRole, Launch, ProcessKey, Purpose, RunKey};

use super::Sim;

/// Commands whose first process was not reaped yet, by that.
#[derive(Default)]
pub(super) struct Commands {
    live: BTreeMap<Pid, CommandKey>,
    /// Those that the core has cut short.
    cut: BTreeSet<Pid>,
}

impl Sim {
    /// A command is to be started: the only one of its kind, beside a first process that lives.
    pub(super) fn spawn_command(&mut self, launch: Launch) {
        let (run, key) = (launch.run, launch.key());
        let (ProcessKey::Command(key), Purpose::Command { role, main, .. }) =
            (key, &launch.purpose)
        else {
            unreachable!("{launch:?}");
        };
        let role = *role;
        assert!(self.leaders.contains(main) && self.world.get(main.0).run == run, "{key:?}");
        // In a shutdown a run goes on as before until its turn comes.
        let is_unasked = self.world.get(main.0).asked_at.is_none();
        assert!(role == CommandRole::Stop || is_unasked, "{key:?} beside what is asked to end");
        let is_probe = matches!(role, CommandRole::Probe(_));
        for other in self.commands.live.values().filter(|other| other.run == run) {
            let is_beside = matches!(other.role, CommandRole::Probe(_)) && is_probe;
            assert!(other.role != role && !is_beside, "{key:?} beside {other:?}");
        }
        assert!(!is_probe || !self.asks(run), "{key:?} beside an attempt");
        assert!(role != CommandRole::Stop || self.may_be_ended(run), "{key:?}");
        match self.rng.below(100) {
            0..=9 => {
                self.note("command deferred", |_| format!("{key:?}"));
                self.supervisor.handle_spawn_deferred(launch, "EAGAIN".into(), self.now);
            }
            10..=19 => {
                self.count_attempt(key, false);
                self.note("command failed", |_| format!("{key:?}"));
                let failure = SpawnFailure { exit_code: 127, error: "gone".into() };
                self.supervisor.handle_spawn_failed(launch, failure, self.now);
            }
            _ => {
                let pid = self.world.spawn_command(run, self.now.mono.0, &mut self.rng);
                self.commands.live.insert(pid, key);
                self.note("command", |_| format!("{key:?}: {pid:?}"));
                self.supervisor.handle_spawned(launch, pid, self.now);
            }
        }
    }

    /// Whether the command of a probe is there.
    pub(super) fn has_probe_command(&self, run: RunKey) -> bool {
        let mut commands = self.commands.live.values();
        commands.any(|it| it.run == run && matches!(it.role, CommandRole::Probe(_)))
    }

    /// The command whose first process this is, which was reaped.
    pub(super) fn take_command(&mut self, pid: Pid) -> Option<CommandKey> {
        self.commands.live.remove(&pid)
    }

    /// The first process of a command was collected, and its output was read.
    pub(super) fn end_command(&mut self, key: CommandKey, pid: Pid, status: ExitStatus) {
        let is_good = status == ExitStatus::Code(0);
        if !self.commands.cut.remove(&pid) || !is_good {
            self.count_attempt(key, is_good);
        }
        if self.rng.percent(50) && !key.role.writes_as_run() {
            self.supervisor.handle_command_output(key, Stream::Stdout, b"said\n", self.now);
        }
        let has_group = self.world.has_group(pid);
        self.note("command ended", |_| format!("{key:?} {status:?}, group {has_group}"));
        self.supervisor.handle_command_ended(key, status, has_group, self.now);
        self.notice_shutdown();
    }

    /// The core kills a group: it may be that of a command.
    pub(super) fn cut_command(&mut self, leader: Pid) {
        if let Some(key) = self.commands.live.get(&leader).copied()
            && self.commands.cut.insert(leader)
        {
            self.count_attempt(key, false);
            self.tally.count("command cut short");
        }
    }

    fn count_attempt(&mut self, key: CommandKey, is_good: bool) {
        let CommandRole::Probe(role) = key.role else { return };
        let signs = &mut self.runs.get_mut(&key.run).unwrap().signs;
        match role {
            ProbeRole::Readiness => signs.good |= is_good,
            ProbeRole::Liveness => signs.note_attempt(is_good),
        }
    }

    /// No command outlives its run, or is left in peace when the first process of that has ended.
    pub(super) fn check_commands(&self) {
        for (pid, key) in &self.commands.live {
            let RunKey { job, .. } = key.run;
            let job = self.supervisor.job_numbered(job.number());
            let is_there = job.is_some_and(|job| job.live_runs().any(|run| run == key.run));
            assert!(is_there, "{key:?} outlives its run");
            let is_cut = self.commands.cut.contains(pid);
            let has_leader = self.leaders.iter().any(|pid| self.world.get(pid.0).run == key.run);
            assert!(is_cut || has_leader, "{key:?} outlives the first process of its run");
        }
    }
}
