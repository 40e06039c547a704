//! What the supervisor wants done to processes, and what becomes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use mio::Registry;

use super::init::{Init, MAIN, Stdio};
use super::outputs::{Outputs, Sinks};
use crate::config::Forward;
use crate::job::{ExitStatus, Pid, Signal};
use crate::os::{self, process};
use crate::supervisor::{Action, Launch, Supervisor, Target};
use crate::time::Now;

/// The hands of the supervisor.
#[derive(Debug)]
pub(super) struct Processes {
    spawner: os::Spawner,
    /// `output.forward`, if it was given.
    forward: Option<Forward>,
    /// Whether children may have ended that have not been reaped.
    has_children_to_reap: bool,
    /// No orphan was there after the last run had ended, so no run that has ended has left
    /// anything: who could have started it since?
    is_calm: bool,
    /// What is being stopped, with what was found of it, until nothing is left.
    hunted: BTreeMap<Hunted, process::Target>,
}

type Hunted = (Option<Pid>, Rc<str>);

impl Processes {
    pub(super) fn new(spawner: os::Spawner, forward: Option<Forward>) -> Processes {
        // Orphans may have been inherited before the loop began.
        Processes {
            spawner,
            forward,
            has_children_to_reap: true,
            is_calm: false,
            hunted: BTreeMap::new(),
        }
    }

    /// Whether there is work that no event will tell of.
    pub(super) fn has_more(&self) -> bool {
        self.has_children_to_reap
    }

    /// SIGCHLD has come: signals of one kind are one, so all that have ended are reaped.
    pub(super) fn handle_child_ended(&mut self) {
        self.has_children_to_reap = true;
    }

    /// Reaps what has ended, up to a turn's share: the output that came before an end is read
    /// first, then the supervisor is told.
    pub(super) fn reap(&mut self, outputs: &mut Outputs, mut sinks: Sinks<'_>) {
        if !self.has_children_to_reap {
            return;
        }
        let ended: Vec<(Pid, ExitStatus)> =
            std::iter::from_fn(os::reap).take(REAPED_A_TURN).collect();
        self.has_children_to_reap = ended.len() == REAPED_A_TURN;
        let mut orphans = 0;
        for (pid, status) in ended {
            let Some(run) = sinks.supervisor.run_of(pid) else {
                orphans += 1;
                continue;
            };
            self.is_calm = false;
            outputs.finish(run, &mut sinks);
            let group = process::Target {
                leader: pid,
                leader_ended: true,
                tag: String::new(),
                strays: Default::default(),
            };
            let group_is_alive = process::group_is_there(&group);
            sinks.supervisor.handle_exit(pid, status, group_is_alive, sinks.now);
        }
        if orphans > 0 {
            sinks.supervisor.handle_orphans_reaped(sinks.now);
        }
    }

    /// Does all that the supervisor wants done to processes that are there, and spawns a turn's
    /// share of those it wants. Returns the exit code when k1s is to end.
    pub(super) fn perform(
        &mut self,
        supervisor: &mut Supervisor,
        outputs: &mut Outputs,
        registry: &Registry,
        init: Option<&Init>,
        now: Now,
    ) -> Option<u8> {
        let mut exit = None;
        for _ in 0..SPAWNS_A_TURN {
            exit = exit.or(self.act(supervisor, now));
            let Some(launch) = supervisor.poll_spawn() else { break };
            let stdio = init.filter(|_| launch.job_id.as_str() == MAIN).map(|init| init.stdio);
            self.spawn(&launch, stdio, supervisor, outputs, registry, now);
        }
        exit = exit.or(self.act(supervisor, now));
        exit
    }

    fn act(&mut self, supervisor: &mut Supervisor, now: Now) -> Option<u8> {
        let mut exit = None;
        loop {
            let mut stops = Stops::default();
            let mut surveys = Vec::new();
            while let Some(action) = supervisor.poll_action() {
                match action {
                    Action::Signal { target, signal } => self.signal(&target, signal, supervisor),
                    Action::Stop { target, signal } => stops.add(target, signal),
                    Action::Survey { run, target } => surveys.push((run, target)),
                    Action::Exit { code } => exit = Some(code),
                }
            }
            self.stop(stops, supervisor);
            if surveys.is_empty() {
                return exit;
            }
            let mut snapshot = None;
            for (run, target) in surveys {
                let is_left = self.is_left(&target, &mut snapshot, supervisor);
                supervisor.handle_survey(run, is_left, now);
            }
        }
    }

    /// Sends a signal that somebody asked for to a live run.
    fn signal(&self, target: &Target, signal: Signal, supervisor: &Supervisor) {
        match target {
            // It was collected since that was asked: its number may be a stranger's by now.
            Target::Process(pid) if !supervisor.is_leader(*pid) => {}
            Target::Process(pid) => {
                process::signal_process(*pid, signal);
            }
            Target::Group(_) | Target::Tree { .. } => {
                process::signal_group(&self.hunt(target, supervisor), signal);
            }
        }
    }

    /// Sends each signal to all of its targets in one walk.
    fn stop(&mut self, stops: Stops, supervisor: &Supervisor) {
        for (signal, mut targets) in stops.0 {
            targets.retain(|target| {
                let is_tree = matches!(target, Target::Tree { .. });
                if !is_tree {
                    process::stop_group(&self.hunt(target, supervisor), signal);
                }
                is_tree
            });
            if targets.is_empty() {
                continue;
            }
            let mut hunts: Vec<_> =
                targets.iter().map(|target| self.hunt(target, supervisor)).collect();
            process::signal_runs(&mut hunts, signal, |pid| supervisor.is_leader(pid));
            for (target, hunt) in targets.iter().zip(hunts) {
                if let Target::Tree { leader, tag } = target {
                    self.hunted.insert((*leader, tag.clone()), hunt);
                }
            }
        }
    }

    /// What is known of a target, and whether its leader still lives.
    fn hunt(&self, target: &Target, supervisor: &Supervisor) -> process::Target {
        let (leader, tag) = match target {
            Target::Process(pid) | Target::Group(pid) => (Some(*pid), None),
            Target::Tree { leader, tag } => (*leader, Some(tag)),
        };
        process::Target {
            leader: leader.unwrap_or(Pid(0)),
            leader_ended: leader.is_none_or(|leader| !supervisor.is_leader(leader)),
            tag: tag.map(ToString::to_string).unwrap_or_default(),
            strays: tag.map(|tag| self.known_strays(leader, tag)).unwrap_or_default(),
        }
    }

    /// What was found of a target before. A run may have been hunted by its own tag, and then by
    /// that of its job: both are one hunt.
    fn known_strays(&self, leader: Option<Pid>, tag: &Rc<str>) -> BTreeSet<process::Proc> {
        let of_leader = self.hunted.range((leader, Rc::from(""))..);
        of_leader
            .take_while(|((hunted, _), _)| *hunted == leader)
            .filter(|((_, hunted), _)| leader.is_some() || hunted == tag)
            .flat_map(|(_, target)| target.strays.iter().copied())
            .collect()
    }

    /// Whether any process of the target is left. All that are asked about at once share a
    /// snapshot, which is taken when the cheap answers do not do.
    fn is_left(
        &mut self,
        target: &Target,
        snapshot: &mut Option<process::Snapshot>,
        supervisor: &Supervisor,
    ) -> bool {
        let hunt = self.hunt(target, supervisor);
        let is_gone = match target {
            Target::Process(_) | Target::Group(_) => !process::group_is_there(&hunt),
            Target::Tree { leader: None, .. } => self.is_calm && hunt.strays.is_empty(),
            Target::Tree { leader: Some(_), .. } => false,
        };
        let is_left = !is_gone && {
            let take = || process::Snapshot::take(|pid| supervisor.is_leader(pid));
            let snapshot = snapshot.get_or_insert_with(take);
            self.is_calm = snapshot.is_whole() && !snapshot.has_orphans();
            !snapshot.is_whole()
                || snapshot.group_is_alive(&hunt)
                || !snapshot.strays(&hunt).is_empty()
        };
        if !is_left && let Target::Tree { leader, tag } = target {
            match leader {
                Some(_) => self.hunted.retain(|(hunted, _), _| hunted != leader),
                None => drop(self.hunted.remove(&(None, tag.clone()))),
            }
        }
        is_left
    }

    /// `stdio` is where the main job of `init` reads and writes.
    fn spawn(
        &mut self,
        launch: &Launch,
        stdio: Option<Stdio>,
        supervisor: &mut Supervisor,
        outputs: &mut Outputs,
        registry: &Registry,
        now: Now,
    ) {
        let (stdin, output, controlling_terminal) = match stdio {
            None => (os::Stdin::Given, os::Output::Captured, false),
            Some(Stdio::Captured) => (os::Stdin::Inherited, os::Output::Captured, false),
            Some(Stdio::Terminal { is_controlling }) => {
                (os::Stdin::Inherited, os::Output::Inherited, is_controlling)
            }
        };
        let started = self.spawner.spawn(&os::Launch {
            command: &launch.spec.command,
            job_id: launch.job_id.as_str(),
            run_tag: &launch.tag,
            stdin,
            output,
            controlling_terminal,
        });
        match started {
            Ok(spawned) => {
                if let Some(pipes) = spawned.output {
                    let default = if stdio.is_some() { Forward::Raw } else { Forward::Prefix };
                    outputs.open(launch, pipes, self.forward.unwrap_or(default), registry);
                }
                supervisor.handle_spawned(launch.run, spawned.pid, now);
            }
            Err(os::SpawnError::Failed(failure)) => {
                supervisor.handle_spawn_failed(launch.run, failure, now);
            }
            Err(os::SpawnError::Busy(error)) => {
                supervisor.handle_spawn_deferred(launch.run, error, now);
            }
        }
    }
}

/// What is to be stopped, by the signal, in the order in which it was wanted.
#[derive(Default)]
struct Stops(Vec<(Signal, Vec<Target>)>);

impl Stops {
    fn add(&mut self, target: Target, signal: Signal) {
        match self.0.iter_mut().find(|(known, _)| *known == signal) {
            Some((_, targets)) => targets.push(target),
            None => self.0.push((signal, vec![target])),
        }
    }
}

/// A spawn takes about half a millisecond, in which the loop stands still.
const SPAWNS_A_TURN: usize = 4;
const REAPED_A_TURN: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::testing::spawner;
    use crate::supervisor::Settings;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    fn supervisor() -> Supervisor {
        let settings = Settings {
            instance: "k".to_owned(),
            job_limit: 1,
            output_memory: 0,
            shutdown_timeout: Duration::from_secs(9),
            main: None,
        };
        Supervisor::new(settings, Now::default())
    }

    #[test]
    fn a_number_that_is_no_runs_any_more_is_not_signalled() {
        let mut stranger = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = Pid(i32::try_from(stranger.id()).unwrap());
        let processes = Processes::new(spawner(), None);
        processes.signal(&Target::Process(pid), Signal::KILL, &supervisor());
        drop(stranger.stdin.take());
        assert_eq!(stranger.wait().unwrap().into_raw(), 0);
    }

    /// A run that took too long is stopped by its own tag; a kill then stops it by its job's.
    #[test]
    fn strays_that_were_found_are_known_whatever_the_tag_of_the_hunt() {
        let mut processes = Processes::new(spawner(), None);
        let tree = |leader: Option<i32>, tag: &str| Target::Tree {
            leader: leader.map(Pid),
            tag: tag.into(),
        };
        let stray = process::Proc { pid: Pid(77), start_time: 1 };
        let mut found = processes.hunt(&tree(Some(5), "k.job.1"), &supervisor());
        found.strays.insert(stray);
        processes.hunted.insert((Some(Pid(5)), "k.job.1".into()), found.clone());
        processes.hunted.insert((None, "k.other.".into()), found);
        for (leader, tag, is_known) in [
            (Some(5), "k.job.", true),
            (Some(5), "k.job.1", true),
            (Some(6), "k.job.1", false),
            (None, "k.job.", false),
            (None, "k.other.", true),
        ] {
            let strays = processes.hunt(&tree(leader, tag), &supervisor()).strays;
            assert_eq!(strays.contains(&stray), is_known, "{leader:?} {tag}");
        }
    }
}
