//! What the supervisor wants done to processes, and what becomes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use mio::Registry;

use super::init::{Init, MAIN, Stdio};
use super::outputs::{Outputs, Sinks, Watched};
use crate::config::Forward;
use crate::job::{ExitStatus, Pid, Signal};
use crate::os;
use crate::os::process::{self, Proc};
use crate::supervisor::{Action, Launch, Supervisor, Target};
use crate::time::{Mono, Now};

/// The hands of the supervisor.
#[derive(Debug)]
pub(super) struct Processes {
    spawner: os::Spawner,
    /// Closed while it is looked who is there: that takes a descriptor, and to stop a run is what
    /// frees some.
    spare: Option<OwnedFd>,
    /// `output.forward`, if it was given.
    forward: Option<Forward>,
    /// When to reap, once a child may have ended.
    reap_at: Option<Mono>,
    /// When orphans were reaped, and nothing else, the last time that anything was.
    orphans_at: Option<Mono>,
    /// No orphan was there after the last run had ended, so no run that has ended has left
    /// anything: who could have started it since?
    is_calm: bool,
    /// What was found outside the groups of what is being stopped, by its tag, until nothing
    /// is left.
    strays: BTreeMap<Rc<str>, BTreeSet<Proc>>,
    /// How often in a row nothing was found of what carries a tag while an orphan could not be told.
    doubts: BTreeMap<Rc<str>, u32>,
}

impl Processes {
    pub(super) fn new(spawner: os::Spawner, forward: Option<Forward>) -> Processes {
        Processes {
            spare: spawner.spare_descriptor(),
            spawner,
            forward,
            // Orphans may have been inherited before the loop began.
            reap_at: Some(Mono(0)),
            orphans_at: None,
            is_calm: false,
            strays: BTreeMap::new(),
            doubts: BTreeMap::new(),
        }
    }

    /// A child may have ended: it is reaped in this turn; but while orphans come one upon
    /// another, with those of the next millisecond, as nobody waits for them and a turn for each
    /// would cost more than the orphan.
    pub(super) fn handle_child_ended(&mut self, now: Now) {
        let is_flood = self.orphans_at.is_some_and(|at| now.mono <= at + FLOOD_PAUSE);
        let at = if is_flood { now.mono + FLOOD_PAUSE } else { now.mono };
        self.reap_at.get_or_insert(at);
    }

    /// When [`Processes::reap`] is to be called, if there is anything to reap.
    pub(super) fn poll_timeout(&self) -> Option<Mono> {
        self.reap_at
    }

    /// Reaps what has ended, up to a turn's share: the output that came before an end is read
    /// first, then the supervisor is told.
    pub(super) fn reap(&mut self, outputs: &mut Outputs, mut sinks: Sinks<'_>) {
        let ended: Vec<(Pid, ExitStatus)> =
            std::iter::from_fn(os::reap).take(REAPED_A_TURN).collect();
        let now = sinks.now;
        self.reap_at = (ended.len() == REAPED_A_TURN).then_some(now.mono);
        let count = ended.len();
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
            sinks.supervisor.handle_orphans_reaped(now);
        }
        if count > 0 {
            self.orphans_at = (orphans == count).then_some(now.mono);
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
        for _ in 0..SPAWNS_A_DRAIN {
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
                    Action::Glance { run, leader } => {
                        let hunt = self.hunt(&Target::Group(leader), supervisor);
                        if !process::group_is_there(&hunt) {
                            supervisor.handle_group_gone(run, now);
                        }
                    }
                    Action::Exit { code } => exit = Some(code),
                }
            }
            if stops.0.is_empty() && surveys.is_empty() {
                return exit;
            }
            self.spare = None;
            self.stop(stops, supervisor);
            let mut snapshot = None;
            for (run, target) in surveys {
                let is_left = self.is_left(&target, &mut snapshot, supervisor);
                supervisor.handle_survey(run, is_left, now);
            }
            self.spare = self.spawner.spare_descriptor();
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
                if let Target::Process(pid) = target {
                    process::stop_process(*pid, signal);
                } else if !is_tree {
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
            for hunt in &hunts {
                self.strays.remove(hunt.tag.as_str());
            }
            for hunt in hunts.into_iter().filter(|hunt| !hunt.strays.is_empty()) {
                self.strays.entry(hunt.tag.into()).or_default().extend(hunt.strays);
            }
        }
    }

    /// What is known of a target, and whether its leader still lives.
    fn hunt(&self, target: &Target, supervisor: &Supervisor) -> process::Target {
        let (leader, tag) = match target {
            Target::Process(pid) | Target::Group(pid) => (Some(*pid), None),
            Target::Tree { leader, tag } => (*leader, Some(tag)),
        };
        let mut hunt = process::Target {
            leader: leader.unwrap_or(Pid(0)),
            leader_ended: leader.is_none_or(|leader| !supervisor.is_leader(leader)),
            tag: tag.map(ToString::to_string).unwrap_or_default(),
            strays: BTreeSet::new(),
        };
        let known = self.tags_of(&hunt).filter_map(|tag| self.strays.get(tag));
        hunt.strays = known.flatten().copied().collect();
        hunt
    }

    /// The tags of the target that strays are known by.
    fn tags_of(&self, hunt: &process::Target) -> impl Iterator<Item = &Rc<str>> {
        let first = hunt.tag.as_str();
        let tags = self
            .strays
            .range::<str, _>((Bound::Included(first), Bound::Unbounded))
            .map(|(tag, _)| tag);
        tags.take_while(move |tag| tag.starts_with(first)).filter(|tag| hunt.carries(tag))
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
            if snapshot.is_none() {
                *snapshot = process::Snapshot::take(|pid| supervisor.is_leader(pid));
                self.is_calm = snapshot.as_ref().is_some_and(|snapshot| !snapshot.has_orphans());
            }
            match snapshot {
                // Who cannot look does not know that nothing is left, and looks again later.
                None => true,
                Some(snapshot) if snapshot.is_left(&hunt) => {
                    self.doubts.remove(hunt.tag.as_str());
                    true
                }
                Some(snapshot) => snapshot.may_hide(&hunt) && self.doubt(&hunt.tag),
            }
        };
        if !is_left {
            self.doubts.retain(|tag, _| !hunt.carries(tag));
            for tag in self.tags_of(&hunt).cloned().collect::<Vec<_>>() {
                self.strays.remove(&tag);
            }
        }
        is_left
    }

    /// Whether it is worth another look that an orphan cannot be told. Where many execute programs
    /// for ever, one of them cannot in most looks: they are not to hold up who is not theirs.
    fn doubt(&mut self, tag: &str) -> bool {
        let doubts = self.doubts.entry(tag.into()).or_default();
        *doubts += 1;
        *doubts <= MOST_DOUBTS
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
        match self.start(launch, stdio, outputs, registry) {
            Ok((pid, pipes)) => {
                if let Some(pipes) = pipes {
                    let is_main = stdio.is_some();
                    let default = if is_main { Forward::Raw } else { Forward::Prefix };
                    let forward = self.forward.unwrap_or(default);
                    outputs.open(launch, pipes, forward, is_main);
                }
                supervisor.handle_spawned(launch.run, pid, now);
            }
            Err(os::SpawnError::Failed(failure)) => {
                supervisor.handle_spawn_failed(launch.run, failure, now);
            }
            Err(os::SpawnError::Busy(error)) => {
                supervisor.handle_spawn_deferred(launch.run, error, now);
            }
        }
    }

    /// Its pipes first, unless it writes to k1s's own terminal.
    fn start(
        &mut self,
        launch: &Launch,
        stdio: Option<Stdio>,
        outputs: &mut Outputs,
        registry: &Registry,
    ) -> Result<(Pid, Option<Watched>), os::SpawnError> {
        let (stdin, terminal) = match stdio {
            None => (os::Stdin::Given, None),
            Some(Stdio::Captured) => (os::Stdin::Inherited, None),
            Some(Stdio::Terminal { is_controlling }) => {
                (os::Stdin::Inherited, Some(is_controlling))
            }
        };
        let (pipes, output) = if terminal.is_some() {
            (None, os::Output::Inherited)
        } else {
            let (pipes, ends) = outputs.watch(registry)?;
            (Some(pipes), os::Output::Captured(ends))
        };
        let pid = self.spawner.spawn(os::Launch {
            command: &launch.spec.command,
            job_id: launch.job_id.as_str(),
            run_tag: &launch.tag,
            stdin,
            output,
            controlling_terminal: terminal.unwrap_or(false),
        })?;
        Ok((pid, pipes))
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

/// The loop stands still until the child has called execve(2): half a millisecond, or three on a
/// busy machine. A turn drains twice.
const SPAWNS_A_DRAIN: usize = 2;
/// Each may have left two full pipes: of 64 KiB, or of as much as it has set (pipe(7)).
const REAPED_A_TURN: usize = 32;
const FLOOD_PAUSE: Duration = Duration::from_millis(1);
/// The looks of about a second.
const MOST_DOUBTS: u32 = 7;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LogFormat, LogLevel};
    use crate::daemon::console::Console;
    use crate::daemon::log::Log;
    use crate::os::testing::{in_own_process, shell, spawn, spawner, wait_for_zombie};
    use crate::supervisor::Settings;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

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

    /// Lets one who is no job's end, and reaps.
    fn reap_an_orphan(processes: &mut Processes, supervisor: &mut Supervisor, now: Now) {
        let pid = spawn(&mut spawner(), &shell("exit")).unwrap().pid;
        wait_for_zombie(pid);
        let log = Log { format: LogFormat::Text, level: LogLevel::Error };
        let mut console = Console::new(log, Forward::None);
        processes.reap(&mut Outputs::default(), Sinks { supervisor, console: &mut console, now });
        assert!(!os::process::signal_process(pid, Signal::CONT), "it was reaped");
    }

    #[test]
    fn orphans_that_cannot_be_told_hold_nobody_up_for_ever() {
        let mut processes = Processes::new(spawner(), None);
        let looks =
            |processes: &mut Processes| (1..).take_while(|_| processes.doubt("k.j.")).count();
        assert_eq!(looks(&mut processes), 7);
        let target = Target::Tree { leader: None, tag: "k.j.".into() };
        processes.is_calm = true;
        assert!(!processes.is_left(&target, &mut None, &supervisor()));
        assert_eq!(looks(&mut processes), 7, "each stop has its own");
    }

    #[test]
    fn orphans_that_come_one_upon_another_are_reaped_together() {
        let name =
            "daemon::processes::tests::orphans_that_come_one_upon_another_are_reaped_together";
        in_own_process(name, || {
            let at = |millis| Now { mono: Mono(millis), ..Now::default() };
            let mut processes = Processes::new(spawner(), None);
            let mut supervisor = supervisor();
            reap_an_orphan(&mut processes, &mut supervisor, at(10));
            for (told, reaped) in [(11, 12), (12, 13), (15, 15), (16, 17)] {
                assert_eq!(processes.poll_timeout(), None);
                processes.handle_child_ended(at(told));
                processes.handle_child_ended(at(told + 1));
                assert_eq!(processes.poll_timeout(), Some(Mono(reaped)), "{told}");
                reap_an_orphan(&mut processes, &mut supervisor, at(reaped));
            }
        });
    }
}
