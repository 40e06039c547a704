//! Acts on processes for the supervisor, and reports to it what happens to them.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use mio::Registry;

use super::console::Forwarder;
use super::init::{Init, MAIN, Stdio};
use super::leftovers::{self, Leftovers, Stop};
use super::logfiles::LogFiles;
use super::meter::{Meter, Over};
use super::notices::{self, Notices};
use super::outputs::{Outputs, Sinks, Watched};
use super::probes::Probes;
use super::shares::{ACTIONS_A_DRAIN, ANSWERS_A_TURN, FLOOD_PAUSE, REAPED_A_TURN, SPAWNS_A_DRAIN};
use super::store::Store;
use crate::config::Forward;
use crate::job::{ExitStatus, Pid, Signal, Variables};
use crate::os;
use crate::os::{Reaped, signalling};
use crate::supervisor::{Action, Launch, ProcessKey, Purpose, RunKey, Supervisor, Target};
use crate::time::{Mono, Now};

/// Spawns, signals and reaps for the supervisor.
#[derive(Debug)]
pub(super) struct Processes {
    spawner: os::Spawner,
    /// A reserved descriptor. It is closed while k1s looks for leftovers, which needs one: stopping
    /// a run must work when all others are taken, because that is what frees some.
    reserved: Option<OwnedFd>,
    /// `output.forward`, if it was given.
    forward: Option<Forward>,
    /// When to reap; `None` while no child can have ended.
    reap_at: Option<Mono>,
    /// How runs and commands have ended whose last output is still being read; the supervisor is told
    /// after it.
    ended: BTreeMap<ProcessKey, (Pid, ExitStatus)>,
    /// What runs have read from files, for commands beside them: those have the same environment,
    /// whatever has become of the files.
    read: BTreeMap<RunKey, Rc<Variables>>,
    /// When k1s last reaped, if that reaped only orphans.
    orphans_at: Option<Mono>,
    /// The first part of every `K1S_RUN`.
    instance: String,
    /// What runs say about themselves.
    pub(super) notices: Notices,
    /// Attempts of probes.
    pub(super) probes: Probes,
    leftovers: Leftovers,
    meter: Meter,
    /// The surveys to be answered.
    surveys: Vec<(RunKey, Target)>,
    /// When k1s may look for leftovers again.
    look_at: Mono,
}

impl Processes {
    pub(super) fn new(spawner: os::Spawner, forward: Option<Forward>, instance: &str) -> Processes {
        Processes {
            reserved: spawner.reserved_descriptor(),
            spawner,
            forward,
            // k1s may have inherited orphans before the loop began.
            reap_at: Some(Mono(0)),
            ended: BTreeMap::new(),
            read: BTreeMap::new(),
            orphans_at: None,
            instance: instance.to_owned(),
            notices: Notices::default(),
            probes: Probes::default(),
            leftovers: Leftovers::new(instance),
            meter: Meter::default(),
            surveys: Vec::new(),
            look_at: Mono(0),
        }
    }

    /// From now on `output.forward` is this, for new runs.
    pub(super) fn forward(&mut self, forward: Option<Forward>) {
        self.forward = forward;
    }

    /// A child may have ended: it is reaped in this turn. But after a turn that reaped only
    /// orphans, k1s waits [`FLOOD_PAUSE`] and reaps several at once: nobody waits for them, and a
    /// turn costs more than an orphan.
    pub(super) fn handle_child_ended(&mut self, now: Now) {
        let is_flood = self.orphans_at.is_some_and(|at| now.mono <= at + FLOOD_PAUSE);
        let at = if is_flood { now.mono + FLOOD_PAUSE } else { now.mono };
        self.reap_at.get_or_insert(at);
    }

    /// When [`Processes::reap`] is to be called, if there is anything to reap.
    pub(super) fn reap_timeout(&self) -> Option<Mono> {
        self.reap_at
    }

    /// When there is something to do: to reap, or to answer surveys.
    pub(super) fn poll_timeout(&self) -> Option<Mono> {
        let look = self.waits_for_look().then_some(self.look_at);
        [self.reap_at, look].into_iter().flatten().min()
    }

    /// Reaps children that have ended, up to the share of a turn. The supervisor learns of the end
    /// of a run later, after its output: [`Processes::tell_ends`].
    pub(super) fn reap(&mut self, outputs: &mut Outputs, supervisor: &mut Supervisor, now: Now) {
        let reaped: Vec<Reaped> = std::iter::from_fn(os::reap).take(REAPED_A_TURN).collect();
        self.reap_at = (reaped.len() == REAPED_A_TURN).then_some(now.mono);
        let count = reaped.len();
        let mut orphans = 0;
        for Reaped { pid, status, cpu_time } in reaped {
            self.notices.finish(pid, self.leftovers.tags(), supervisor, now);
            self.leftovers.forget(pid);
            let Some(key) = supervisor.handle_collected(pid) else {
                orphans += 1;
                continue;
            };
            if let ProcessKey::Run(run) = key {
                self.read.remove(&run);
                supervisor.handle_cpu_time(run, cpu_time);
            }
            self.ended.insert(key, (pid, status));
            outputs.finish(key);
        }
        if orphans > 0 {
            supervisor.handle_orphans_reaped(now);
        }
        if count > 0 {
            self.orphans_at = (orphans == count).then_some(now.mono);
        }
    }

    /// Reads what runs say about themselves, up to the share of a turn.
    pub(super) fn read_notices(&mut self, supervisor: &mut Supervisor, now: Now) {
        if self.notices.has_more() {
            // To find out who has sent them takes a descriptor.
            self.reserved = None;
            self.notices.read(self.leftovers.tags(), supervisor, now);
            self.reserved = self.spawner.reserved_descriptor();
        }
    }

    /// Reads the last output of runs that have ended, up to the share of a turn, and tells the
    /// supervisor of each end when its output was read.
    pub(super) fn tell_ends(&mut self, outputs: &mut Outputs, mut sinks: Sinks<'_>) {
        outputs.drain(&mut sinks);
        while let Some(key) = outputs.poll_drained() {
            let Some((pid, status)) = self.ended.remove(&key) else { continue };
            // If another process has its pid by now, nothing is left of the group.
            let is_anothers = sinks.supervisor.is_leader(pid) || signalling::is_there(pid);
            let group_is_alive = !is_anothers && signalling::group_is_there(pid);
            let Sinks { supervisor, now, .. } = &mut sinks;
            match key {
                ProcessKey::Run(run) => {
                    supervisor.handle_run_ended(run, status, group_is_alive, *now);
                }
                ProcessKey::Command(key) => {
                    supervisor.handle_command_ended(key, status, group_is_alive, *now);
                }
            }
        }
    }

    /// Acts on existing processes and spawns new ones for the supervisor, up to the shares of a
    /// turn. Returns the exit code when k1s must end.
    pub(super) fn perform(
        &mut self,
        supervisor: &mut Supervisor,
        outputs: &mut Outputs,
        mut store: Option<&mut Store>,
        registry: &Registry,
        init: Option<&Init>,
        now: Now,
    ) -> Option<u8> {
        let mut exit = None;
        for _ in 0..SPAWNS_A_DRAIN {
            exit = exit.or(self.act(supervisor, &mut outputs.files, now));
            if supervisor.has_actions() {
                return exit;
            }
            let Some(launch) = supervisor.poll_spawn() else { break };
            let is_run = launch.purpose == Purpose::Run;
            if let Some(store) = store.as_deref_mut().filter(|_| is_run) {
                store.note_launch(launch.run, supervisor, now);
            }
            let is_main = is_run && launch.job_id.as_str() == MAIN;
            let stdio = init.filter(|_| is_main).map(|init| init.stdio);
            self.spawn(launch, stdio, supervisor, outputs, registry, now);
        }
        exit = exit.or(self.act(supervisor, &mut outputs.files, now));
        exit
    }

    /// Acts on existing processes, up to the share of a turn.
    fn act(&mut self, supervisor: &mut Supervisor, files: &mut LogFiles, now: Now) -> Option<u8> {
        let mut exit = None;
        for _ in 0..ACTIONS_A_DRAIN {
            let Some(action) = supervisor.poll_action() else { break };
            match action {
                Action::Signal { target, signal } => signal_live(&target, signal, supervisor),
                Action::Stop { target: Target::Process(pid), signal } => {
                    if supervisor.is_leader(pid) {
                        signalling::stop_process(pid, signal);
                    }
                }
                Action::Stop { target: Target::Group(leader), signal } => {
                    if let Some(group) = leftovers::group_number(Some(leader), supervisor) {
                        signalling::stop_group(group, signal);
                    }
                }
                Action::Stop { target: Target::Tree { leader, owner }, signal } => {
                    self.leftovers.stop(Stop { leader, owner, signal });
                }
                Action::Survey { run, target } => self.surveys.push((run, target)),
                Action::Glance { run, leader } => {
                    let group = leftovers::group_number(Some(leader), supervisor);
                    if !group.is_some_and(signalling::group_is_there) {
                        supervisor.handle_group_gone(run, now);
                    }
                }
                Action::Rest { ask } => {
                    let is_left = match ask {
                        true => signalling::stop_all(Signal::TERM),
                        false => signalling::any_is_there(),
                    };
                    supervisor.handle_rest(is_left.unwrap_or(false), now);
                }
                Action::Probe { key, check } => self.probes.ask(key, check),
                Action::EndProbe { key } => self.probes.end(key),
                Action::Measure => self.meter.begin(),
                Action::ReopenLogFiles { number } => files.reopen(number),
                Action::Exit { code } => exit = Some(code),
            }
        }
        exit
    }

    /// Stops trees of processes and answers surveys, up to the share of a turn: one look serves
    /// all. It does not begin while there is more to reap or to stop.
    pub(super) fn look_around(&mut self, supervisor: &mut Supervisor, now: Now) {
        let is_reaping = self.reap_at.is_some_and(|at| at <= now.mono);
        let may_look = self.look_at <= now.mono && !is_reaping && !supervisor.has_actions();
        let looks = may_look && self.waits_for_look();
        if !looks && !self.leftovers.has_more() {
            return;
        }
        self.reserved = None;
        let waiting = self.surveys.get(..ANSWERS_A_TURN).unwrap_or(&self.surveys);
        let answers = self.leftovers.go_on(waiting, may_look, supervisor);
        self.reserved = self.spawner.reserved_descriptor();
        if looks {
            self.look_at = now.mono + self.leftovers.pause();
        }
        let surveys: Vec<_> = self.surveys.drain(..answers.len()).collect();
        for ((run, _), left) in surveys.into_iter().zip(answers) {
            supervisor.handle_survey(run, left, now);
        }
    }

    /// Whether [`Processes::look_around`] has something to do now.
    pub(super) fn has_more(&self) -> bool {
        self.leftovers.has_more()
    }

    fn waits_for_look(&self) -> bool {
        !self.surveys.is_empty() || self.leftovers.wants_look()
    }

    /// Whether a measurement is in progress.
    pub(super) fn is_measuring(&self) -> bool {
        self.meter.is_busy()
    }

    /// Continues a measurement of the memory and CPU time of runs.
    pub(super) fn measure(&mut self, supervisor: &mut Supervisor) -> Option<Over> {
        self.meter.go_on(self.leftovers.tags(), supervisor)
    }

    /// Spawns a run or a command; `stdio` is where the main job of `init` reads and writes.
    fn spawn(
        &mut self,
        launch: Launch,
        stdio: Option<Stdio>,
        supervisor: &mut Supervisor,
        outputs: &mut Outputs,
        registry: &Registry,
        now: Now,
    ) {
        match self.start(&launch, stdio, outputs, registry, now) {
            Ok(Started { pid, pipes, reports }) => {
                self.notices.open(&launch, pid, reports);
                if let Some(pipes) = pipes {
                    let is_main = stdio.is_some();
                    let default = Forwarder::default_mode(is_main);
                    let forward = self.forward.unwrap_or(default);
                    outputs.open(&launch, pipes, forward, is_main);
                }
                supervisor.handle_spawned(launch, pid, now);
            }
            Err(os::SpawnError::Failed(failure)) => {
                supervisor.handle_spawn_failed(launch, failure, now);
            }
            Err(os::SpawnError::Shortage(error)) => {
                supervisor.handle_spawn_deferred(launch, error, now);
            }
        }
    }

    /// Creates the pipes first, unless the run writes to the terminal.
    fn start(
        &mut self,
        launch: &Launch,
        stdio: Option<Stdio>,
        outputs: &mut Outputs,
        registry: &Registry,
        now: Now,
    ) -> Result<Started, os::SpawnError> {
        let (stdin, terminal) = match stdio {
            None => (os::Stdin::Given, None),
            Some(Stdio::Captured) => (os::Stdin::Inherited, None),
            Some(Stdio::Terminal(session)) => (os::Stdin::Inherited, Some(session)),
        };
        let read = match self.read.get(&launch.run) {
            Some(read) => read.clone(),
            None => Rc::new(os::variables_of(&launch.spec.command)?),
        };
        let (pipes, output) = if terminal.is_some() {
            (None, os::Output::Inherited)
        } else {
            let (pipes, ends) = outputs.watch(registry, now)?;
            (Some(pipes), os::Output::Captured(ends))
        };
        let (reports, mut given) = self.notices.watch(launch, &self.instance, registry)?;
        // The command of `init` is what the manager of the container waits for.
        let manager = stdio.and_then(|_| self.spawner.notify_socket());
        given.variables.extend(manager.map(|socket| ("NOTIFY_SOCKET", socket.to_owned())));
        given.variables.extend(launch.call.iter().flat_map(|call| call.variables()));
        let instead = match &launch.purpose {
            Purpose::Run => None,
            Purpose::Command { arguments, main, .. } => {
                given.variables.push(("K1S_PID", main.0.to_string()));
                Some(arguments.as_slice())
            }
        };
        let tag = launch.run.tag().text(&self.instance, &launch.job_id);
        let pid = self.spawner.spawn(os::SpawnRequest {
            command: &launch.spec.command,
            instead,
            read: &read,
            job_id: launch.job_id.as_str(),
            run_tag: &tag,
            variables: &given.variables,
            extra: given.extra,
            mark: self.leftovers.mark(launch.run),
            stdin,
            output,
            session: terminal.unwrap_or(os::Session::Own),
        })?;
        if instead.is_none() && !read.is_empty() && launch.spec.has_commands() {
            self.read.insert(launch.run, read);
        }
        Ok(Started { pid, pipes, reports })
    }
}

/// A run that was spawned.
struct Started {
    pid: Pid,
    /// Its output, unless it writes to the terminal.
    pipes: Option<Watched>,
    /// What it reports on.
    reports: notices::Watched,
}

/// Sends a signal that a user asked for to a live run.
fn signal_live(target: &Target, signal: Signal, supervisor: &Supervisor) {
    match target {
        // It was collected since then: another process may have its pid by now.
        Target::Process(pid) if !supervisor.is_leader(*pid) => {}
        Target::Process(pid) => {
            signalling::signal_process(*pid, signal);
        }
        Target::Group(leader) => {
            if let Some(group) = leftovers::group_number(Some(*leader), supervisor) {
                signalling::signal_group(group, signal);
            }
        }
        // Users can signal a process or a group. What has left the group can only be stopped.
        Target::Tree { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LogFormat, LogLevel};
    use crate::daemon::console::Console;
    use crate::daemon::log::Log;
    use crate::job::{self, JobId, Spelling, Value};
    use crate::os::testing::{in_own_process, shell, spawn, spawner, wait_for_zombie};
    use crate::supervisor::{Settings, State};
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    fn supervisor() -> Supervisor {
        let settings = Settings::for_tests();
        Supervisor::new(settings, Now::default())
    }

    #[test]
    fn a_number_that_is_no_runs_any_more_is_not_signalled() {
        let mut stranger = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = Pid(i32::try_from(stranger.id()).unwrap());
        signal_live(&Target::Process(pid), Signal::KILL, &supervisor());
        drop(stranger.stdin.take());
        assert_eq!(stranger.wait().unwrap().into_raw(), 0);
    }

    /// Lets a process that belongs to no job end, and reaps it.
    fn reap_an_orphan(processes: &mut Processes, supervisor: &mut Supervisor, now: Now) {
        let pid = spawn(&mut spawner(), &shell("exit")).unwrap().pid;
        wait_for_zombie(pid);
        let log = Log { format: LogFormat::Text, level: LogLevel::Error };
        let mut console = Console::new(log, Forward::None);
        let mut outputs = Outputs::default();
        processes.reap(&mut outputs, supervisor, now);
        processes.tell_ends(&mut outputs, Sinks { supervisor, console: &mut console, now });
        assert!(!signalling::signal_process(pid, Signal::CONT), "it was reaped");
    }

    #[test]
    fn the_end_of_a_run_is_told_after_its_output_which_is_read_in_shares() {
        let name = "daemon::processes::tests::\
                    the_end_of_a_run_is_told_after_its_output_which_is_read_in_shares";
        in_own_process(name, || {
            let (mut processes, mut supervisor) =
                (Processes::new(spawner(), None, "k"), supervisor());
            let (poll, mut outputs) = (mio::Poll::new().unwrap(), Outputs::default());
            let log = Log { format: LogFormat::Text, level: LogLevel::Error };
            let mut console = Console::new(log, Forward::Prefix);
            let now = Now::default();
            let text = |text: &str| Value::String(text.to_owned());
            let script = ["-c", "yes '' | head -c 65536"].map(text).into();
            let fields = [
                ("type", text("one-off")),
                ("executable", text("sh")),
                ("arguments", Value::List(script)),
            ];
            let fields = fields.map(|(name, value)| (name.to_owned(), value)).into();
            let spec = job::parse(Value::Table(fields), "/", Spelling::Camel).unwrap();
            supervisor.create(JobId::parse("x").unwrap(), spec, now).unwrap();
            processes.perform(&mut supervisor, &mut outputs, None, poll.registry(), None, now);
            let pid = supervisor.job("x").unwrap().pid().unwrap();
            wait_for_zombie(pid);
            while supervisor.is_leader(pid) {
                processes.reap(&mut outputs, &mut supervisor, now);
            }
            let mut turns = 0;
            while supervisor.job("x").unwrap().state() == State::Running {
                assert!(outputs.has_more() || turns == 0, "no event would tell of the rest");
                let sinks = Sinks { supervisor: &mut supervisor, console: &mut console, now };
                processes.tell_ends(&mut outputs, sinks);
                turns += 1;
            }
            assert!(turns > 1, "65,536 lines are more than a share");
            let job = supervisor.job("x").unwrap();
            assert_eq!(job.state(), State::Succeeded);
            assert_eq!(job.results().next().unwrap().stdout.written(), 65536);
            assert!(!outputs.has_more() && outputs.descriptors() == 0);
        });
    }

    #[test]
    fn orphans_that_come_one_upon_another_are_reaped_together() {
        let name =
            "daemon::processes::tests::orphans_that_come_one_upon_another_are_reaped_together";
        in_own_process(name, || {
            let at = |millis| Now { mono: Mono(millis), ..Now::default() };
            let mut processes = Processes::new(spawner(), None, "k");
            let mut supervisor = supervisor();
            reap_an_orphan(&mut processes, &mut supervisor, at(10));
            for (told, reaped) in [(11, 12), (12, 13), (15, 15), (16, 17)] {
                assert_eq!(processes.reap_timeout(), None);
                processes.handle_child_ended(at(told));
                processes.handle_child_ended(at(told + 1));
                assert_eq!(processes.reap_timeout(), Some(Mono(reaped)), "{told}");
                reap_an_orphan(&mut processes, &mut supervisor, at(reaped));
            }
        });
    }
}
