//! Simulates the supervisor in a hostile world, from a seed.
//!
//! ```text
//!   chance ──► requests, clock steps, late timers ──► Supervisor ──► signals, surveys, spawns
//!                                                        ▲                  │
//!                exits in bursts, failed spawns, output  │                  ▼
//!                                                        └───────────────  World
//! ```
//!
//! A step is a turn of the loop, as in the daemon: time passes, things happen, the actions of the
//! core are done, timers expire. After each step `check` verifies what must always hold; other
//! checks are where they can fail: at a spawn, a signal, an exit. At the end everything is removed
//! or shut down, which must end and leave nothing.
//!
//! Clients follow the jobs' logs and the events meanwhile: `followers`, held against what was written
//! by `readers`.
//!
//! What jobs wait for in others is checked in `depend`, and the order of stops in `order`.
//!
//! Chance comes from a seed, or from the bytes of a fuzzer.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a property that does not hold panics"
)]

mod calls;
mod commands;
mod crashes;
mod declare;
mod depend;
mod followers;
mod order;
mod probes;
mod readers;
mod rng;
mod specs;
mod world;
mod written;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::job::spec::{Concurrency, Critical, Kind, RestartPolicy};
use crate::job::{ExitStatus, JobId, JobSpec, Pid, Signal, SpawnFailure, Stream};
use crate::supervisor::{
    Action, Counts, Job, JobKey, Launch, Left, Milestone, Owner, ProcessKey, Progress, Purpose,
    Put, Refusal, RunKey, RunOutcome, Selection, Settings, State, Supervisor, Target, Together,
    Usage, Verb, Vitals,
};
use crate::time::{Mono, Now, Wall};

use calls::Calls;
use commands::Commands;
pub use crashes::{CRASHES, play_crashes};
use followers::{Followers, Scene};
use order::Order;
use probes::{Patience, Probes, SIGN, Signs};
use rng::Rng;
use world::World;
use written::Written;

/// Plays a seed for so many turns, and then to its end. With `is_traced`, writes its last events to
/// stderr when it fails. Adds what happened to `tally`.
pub fn play(seed: u64, turns: u64, is_traced: bool, tally: &mut Tally) {
    let mut sim = Sim::new(seed, Rng::new(seed), is_traced);
    for _ in 0..turns {
        sim.turn();
        if sim.exited {
            break;
        }
    }
    sim.wind_up();
    tally.add(&sim.tally);
    *tally.0.entry("reused pids").or_default() += sim.world.reused_pids;
}

/// Plays as the bytes decide, until they are used up, and then to its end.
pub fn check_supervisor(data: &[u8]) {
    let seed = data.iter().fold(0, |sum: u64, byte| sum.rotate_left(7) ^ u64::from(*byte));
    let mut sim = Sim::new(seed, Rng::of_bytes(data, seed), false);
    while !sim.rng.is_used_up() && !sim.exited {
        sim.turn();
    }
    sim.wind_up();
}

struct Sim {
    seed: u64,
    rng: Rng,
    /// The fewer ids, the more often requests name the same job.
    ids: &'static [&'static str],
    /// In how many percent of turns a shutdown is asked for again.
    impatience: u64,
    now: Now,
    supervisor: Supervisor,
    settings: Settings,
    world: World,
    followers: Followers,
    config: declare::Config,
    /// The number of the next event that is counted.
    events_read: u64,
    calls: Calls,
    /// How often somebody has written something.
    writes: u64,
    jobs: BTreeMap<JobKey, JobModel>,
    runs: BTreeMap<RunKey, RunModel>,
    /// First processes of runs that were not reaped yet.
    leaders: BTreeSet<Pid>,
    /// Runs whose first process was collected, and whose end was not reported yet.
    draining: Vec<(RunKey, Pid, ExitStatus)>,
    probes: Probes,
    commands: Commands,
    shutdown: Option<ShutdownModel>,
    /// What was last stopped together.
    order: Option<Order>,
    exited: bool,
    /// The core does not know of the last clock step yet.
    is_step_unseen: bool,
    /// A user has asked for a signal in this turn.
    is_signalled: bool,
    /// There are no more requests, and every spawn succeeds.
    is_winding_up: bool,
    trace: Trace,
    tally: Tally,
}

/// What is known of a job, whether it is still listed or not.
struct JobModel {
    id: JobId,
    is_removed: bool,
    /// It has had other specifications.
    is_replaced: bool,
    created: u64,
    /// Its results, as long as the history is.
    results: VecDeque<(u64, u8)>,
    /// How many runs have ended, and how many bytes they have written.
    ended: u64,
    written: u64,
    output: Written,
    /// The CPU time of its runs that was told, in milliseconds.
    used: u64,
    last_launched: u64,
    /// Deferred runs.
    deferred: BTreeSet<u64>,
    /// The longest grace period, the shortest timeout and the shortest period that it ever had.
    grace: u64,
    timeout: Option<u64>,
    patience: Patience,
    period: u64,
    replaces: bool,
    allows: bool,
    is_cron: bool,
    /// It is restarted when another job has a new run.
    renews: bool,
    /// How often it was started, and how often a request or a clock step gave a reason to.
    starts: u64,
    reasons: u64,
    /// Until it is asked to start: how many runs it was asked for. No other may start.
    idle: Option<u64>,
    /// What was said to come no more, and how many reasons there were then to do anything.
    never: BTreeMap<Milestone, u64>,
}

#[derive(Default)]
struct RunModel {
    started: u64,
    /// A user has asked for its end.
    is_asked: bool,
    is_over: bool,
    /// Its CPU time in milliseconds, and how much of that was told.
    used: u64,
    told: u64,
    /// What was told last was not all.
    was_part: bool,
    signs: Signs,
}

struct ShutdownModel {
    /// By when everything must be killed.
    deadline: u64,
    /// When it was.
    killed_at: Option<u64>,
}

impl Sim {
    fn new(seed: u64, mut rng: Rng, is_traced: bool) -> Sim {
        let now = Now { mono: Mono(rng.below(100_000)), wall: Wall(START) };
        let settings = Settings {
            instance: "k".into(),
            job_limit: 8,
            output_memory: rng.pick(&[10_000, 10_000, 300_000]),
            shutdown_timeout: Duration::from_millis(rng.pick(&[0, 1_000, 9_000])),
            main: rng.percent(20).then(|| JobId::parse(IDS[0]).unwrap()),
        };
        let followers = Followers::new(&mut rng);
        Sim {
            seed,
            ids: &IDS[..rng.pick(&[1, 2, 6])],
            impatience: rng.pick(&[0, 0, 10, 100]),
            rng,
            now,
            supervisor: Supervisor::new(settings.clone(), now),
            settings,
            world: World::default(),
            followers,
            config: declare::Config::default(),
            events_read: 0,
            calls: Calls::default(),
            writes: 0,
            jobs: BTreeMap::new(),
            runs: BTreeMap::new(),
            leaders: BTreeSet::new(),
            draining: Vec::new(),
            probes: Probes::default(),
            commands: Commands::default(),
            shutdown: None,
            order: None,
            exited: false,
            is_step_unseen: false,
            is_signalled: false,
            is_winding_up: false,
            trace: Trace { seed, is_on: is_traced, lines: VecDeque::new() },
            tally: Tally::default(),
        }
    }

    /// One turn of the loop.
    fn turn(&mut self) {
        self.tally.count("turn");
        self.pass_time();
        for _ in 0..self.rng.below(4) {
            self.event();
            self.notice_shutdown();
        }
        if self.followers.read_logs() && self.rng.percent(50) {
            self.write();
        }
        self.drain();
        self.fire_timers();
        self.follow();
        self.count_events();
        self.check();
        self.is_signalled = false;
    }

    fn follow(&mut self) {
        let Sim { followers, supervisor, jobs, draining, ids, now, rng, tally, .. } = self;
        let (ids, now) = (*ids, *now);
        followers.turn(&mut Scene { supervisor, jobs, draining, ids, now, rng, tally });
    }

    /// Fires timers until none is due. A core whose timers are always due would make the loop spin.
    fn fire_timers(&mut self) {
        for _ in 0..MOST_ROUNDS {
            self.supervisor.handle_timeout(self.now);
            if let Some(shutdown) = &mut self.shutdown
                && self.now.mono.0 >= shutdown.deadline
            {
                shutdown.killed_at.get_or_insert(self.now.mono.0);
            }
            self.drain();
            if self.supervisor.poll_timeout().is_none_or(|at| at > self.now.mono) {
                return;
            }
        }
        panic!("the core is never content: {:?}", self.supervisor.poll_timeout());
    }

    // Time.

    fn pass_time(&mut self) {
        let now = self.now.mono.0;
        let timer = self.supervisor.poll_timeout().map(|at| at.0);
        let next = [timer, self.world.next_end()].into_iter().flatten().min();
        let to_next = next.map_or(0, |at| at.saturating_sub(now)).min(LONGEST_SLEEP);
        let millis = match self.rng.below(20) {
            0..=3 => 0,
            4..=6 => self.rng.below(50),
            7..=15 => to_next,
            16..=18 => to_next + self.rng.below(3_000),
            _ => to_next + self.rng.below(120_000),
        };
        self.now = Now { mono: Mono(now + millis), wall: Wall(self.now.wall.0 + millis as i64) };
        self.world.pass(self.now.mono.0);
        if millis > 0 {
            self.note("pass", |_| format!("{millis} ms"));
        }
    }

    fn step_clock(&mut self) {
        let step = self.rng.pick(&STEPS) * if self.rng.percent(50) { 1 } else { -1 };
        // Otherwise the clock would leave the calendar in the end.
        let step = if (self.now.wall.0 - START + step).abs() > FARTHEST { -step } else { step };
        let (before, old) = (self.next_runs(), self.now.wall);
        self.now.wall.0 += step;
        self.jobs.values_mut().for_each(|job| job.reasons += 1);
        self.note("step", |_| format!("{step} ms"));
        let was_seen = !self.is_step_unseen;
        self.is_step_unseen = self.rng.percent(20);
        if self.is_step_unseen {
            return;
        }
        self.supervisor.handle_clock_step(self.now);
        let after = self.next_runs();
        let now = self.now.wall;
        // What is still to come stays; a clock that was set back adds only what comes before.
        let to_come = |next: &Wall| was_seen && *next > now.max(old);
        for (key, before) in before.into_iter().filter(|(_, next)| to_come(next)) {
            let after = after[&key];
            assert!(now < after && after <= before, "{before:?}, now {after:?}, at {now:?}");
            assert!(step < 0 || after == before, "{before:?}, now {after:?}");
        }
    }

    /// The next runs by the calendar.
    fn next_runs(&self) -> BTreeMap<JobKey, Wall> {
        let keys = self.ids.iter().filter_map(|id| self.supervisor.job(id));
        keys.filter(|job| specs::is_by_calendar(job.spec()))
            .filter_map(|job| Some((job.key(), job.next_run_at(self.now)?)))
            .collect()
    }

    // Events.

    fn event(&mut self) {
        match self.rng.below(100) {
            0..=34 => self.reap(),
            35..=39 => self.report_ends(),
            40..=46 => self.write(),
            47..=49 => self.hear(),
            50..=52 => self.step_clock(),
            53..=55 if self.is_step_unseen => {
                self.is_step_unseen = false;
                self.supervisor.handle_clock_step(self.now);
            }
            53..=55 => {
                let unknown =
                    self.supervisor.handle_exit(Pid(1_000), ExitStatus::Code(0), false, self.now);
                assert_eq!(unknown, None, "nobody knows that process");
                self.supervisor.handle_orphans_reaped(self.now);
                self.note("unknown orphan", |_| String::new());
            }
            56 if self.rng.percent(5) => self.shut_down(),
            56 if self.rng.percent(50) => self.ask_all(),
            56 => {
                self.supervisor.measure();
            }
            57..=66 if self.shutdown.is_some() && self.rng.percent(self.impatience) => {
                self.shut_down()
            }
            _ => self.request(),
        }
    }

    /// A burst of exits: some or all of the zombies, in any order.
    fn reap(&mut self) {
        let mut zombies = self.world.zombies();
        let most = if self.rng.percent(70) { zombies.len() as u64 } else { self.rng.below(3) };
        let mut has_orphans = false;
        for _ in 0..most.min(zombies.len() as u64) {
            let pid = zombies.swap_remove(self.rng.below(zombies.len() as u64) as usize);
            let run = self.world.get(pid).run;
            let status = self.world.reap(pid);
            let is_leader = self.leaders.remove(&Pid(pid));
            if is_leader {
                let model = self.runs.get_mut(&run).unwrap();
                let job = self.jobs.get_mut(&run.job).unwrap();
                job.used += model.used - model.told;
                self.supervisor.handle_cpu_time(run, Duration::from_millis(model.used));
                self.draining.push((run, Pid(pid), status));
            }
            let command = self.take_command(Pid(pid));
            let told = self.supervisor.handle_collected(Pid(pid));
            let own = is_leader.then_some(ProcessKey::Run(run));
            assert_eq!(told, own.or(command.map(ProcessKey::Command)), "whose was {pid}?");
            assert!(!self.supervisor.is_leader(Pid(pid)), "{pid} is gone");
            has_orphans |= told.is_none();
            self.note("collected", |_| format!("{pid}, {told:?}"));
            if let Some(command) = command {
                self.end_command(command, Pid(pid), status);
            }
        }
        if has_orphans {
            self.supervisor.handle_orphans_reaped(self.now);
            self.note("orphans", |_| String::new());
        }
        // Most runs have no more output than can be read at once.
        if self.is_winding_up || self.rng.percent(60) {
            self.report_ends();
        }
    }

    /// The output of some or all runs that have ended is read.
    fn report_ends(&mut self) {
        let all = self.draining.len() as u64;
        let is_all = self.is_winding_up || self.rng.percent(70);
        let most = if is_all { all } else { self.rng.below(3).min(all) };
        for _ in 0..most {
            let next = self.rng.below(self.draining.len() as u64) as usize;
            let (run, pid, status) = self.draining.swap_remove(next);
            let has_group = self.world.has_group(pid);
            self.supervisor.handle_run_ended(run, status, has_group, self.now);
            self.note("exit", |_| format!("{pid:?} {status:?}, group {has_group}, {run:?}"));
            self.runs.get_mut(&run).unwrap().is_over = true;
            self.record(run, exit_code(status));
            self.heed_calls();
            self.notice_shutdown();
        }
    }

    fn record(&mut self, run: RunKey, code: u8) {
        let job = self.jobs.get_mut(&run.job).unwrap();
        job.results.push_back((run.number, code));
        job.ended += 1;
        job.output.end(run.number, self.now);
    }

    fn write(&mut self) {
        let live = self.leaders.iter().map(|pid| self.world.get(pid.0).run);
        let runs: Vec<RunKey> = live.chain(self.draining.iter().map(|(run, ..)| *run)).collect();
        if runs.is_empty() {
            return;
        }
        let run = self.rng.pick(&runs);
        let bytes = written::something(&mut self.writes, &mut self.rng);
        let stream = self.rng.pick(&STREAMS);
        let text = String::from_utf8_lossy(&bytes);
        self.runs.get_mut(&run).unwrap().signs.good |= text.contains(SIGN);
        self.supervisor.handle_output(run, stream, &bytes, self.now);
        let job = self.jobs.get_mut(&run.job).unwrap();
        job.written += bytes.len() as u64;
        job.output.add(run.number, stream, &bytes, self.now);
        self.note("write", |_| format!("{run:?} {}", bytes.len()));
        assert!(self.supervisor.output_memory() <= self.settings.output_memory);
    }

    // Requests.

    fn request(&mut self) {
        let id = self.rng.pick(self.ids);
        let key = self.supervisor.job(id).map(Job::key);
        let state = self.supervisor.job(id).map(Job::state);
        let choice = self.rng.below(100);
        let now = self.now;
        let (name, answer) = match choice {
            0..=25 => return self.create(id),
            26..=39 => return self.put(id),
            40..=44 => return self.declare(),
            45..=48 => return self.stop_together(),
            49..=59 => ("kill", self.supervisor.kill(id, now)),
            60..=69 => ("remove", self.supervisor.remove(id, now)),
            70..=77 => ("start", self.supervisor.start(id, now)),
            78..=85 => ("restart", self.supervisor.restart(id, now)),
            86..=93 => ("run", self.supervisor.run(id, now)),
            94..=95 => {
                self.is_signalled = true;
                ("reload", self.supervisor.reload_job(id, now))
            }
            _ => {
                let group = self.rng.percent(50);
                let signal = self.rng.pick(&[Signal::TERM, Signal::CONT, Signal::KILL]);
                self.is_signalled = true;
                ("signal", self.supervisor.signal(id, signal, group, now))
            }
        };
        self.note(name, |_| format!("{id} {state:?}: {answer:?}"));
        let Some(key) = key else {
            return assert_eq!(answer, Err(Refusal::NotFound));
        };
        self.requested(name, id, key, answer);
    }

    /// Asks some of the jobs, which are few, and are asked at once.
    fn ask_all(&mut self) {
        let signal = Signal::CONT;
        let (name, verb) = self.rng.pick(&[
            ("kill", Verb::Kill),
            ("start", Verb::Start),
            ("restart", Verb::Restart),
            ("run", Verb::Run),
            ("reload", Verb::Reload),
            ("signal", Verb::Signal { signal, group: false }),
        ]);
        let state = self.rng.pick(&[None, None, Some("running"), Some("idle")]);
        let job_type = self.rng.pick(&[None, None, Some("cron"), Some("continuous")]);
        let selection = Selection { state, job_type, ..Selection::default() };
        self.is_signalled |= matches!(name, "signal" | "reload");
        let before: Vec<_> = self.supervisor.jobs_after(None).map(Job::key).collect();
        let answer = self.supervisor.ask_all(selection.clone(), verb, self.now);
        self.note("ask all", |_| format!("{name} {selection:?}: {answer:?}"));
        let Ok(batch) = answer else {
            return assert!(self.shutdown.is_some(), "{answer:?}");
        };
        assert!(batch.is_done());
        for id in (0..).map_while(|index| batch.job_at(index)) {
            let key = self.supervisor.job(id.as_str()).map(Job::key).unwrap();
            assert!(before.contains(&key));
            self.requested(name, id.as_str(), key, Ok(()));
        }
    }

    /// A user has asked the job for something.
    fn requested(&mut self, name: &str, id: &str, key: JobKey, answer: Result<(), Refusal>) {
        let is_main = self.is_main(id);
        let job = self.jobs.get_mut(&key).unwrap();
        job.is_removed |= name == "remove" && !is_main;
        job.reasons += u64::from(matches!(name, "start" | "restart" | "run" | "kill"));
        if answer.is_ok() {
            job.rouse(name);
            if matches!(name, "kill" | "remove") {
                self.calls.forget(key);
            }
        }
        if answer.is_ok() && matches!(name, "kill" | "remove" | "restart") {
            self.ask(Some(key));
            self.forget_order_of(key);
        }
        if name == "kill" && answer.is_ok() {
            assert!(self.supervisor.job(id).unwrap().is_kill_requested());
        }
        let is_free = self.supervisor.job(id).is_none();
        assert!(name != "remove" || is_free != is_main, "the id is free at once");
    }

    fn create(&mut self, id: &str) {
        let spec = specs::random(&mut self.rng);
        let there = self.supervisor.job(id).is_some();
        let parsed = JobId::parse(id).unwrap();
        let answer = self.supervisor.create(parsed, spec.clone(), self.now);
        self.note("create", |_| format!("{id} {}: {answer:?}", specs::text(&spec)));
        match answer {
            Ok(()) => {
                self.check_no_tangle(id);
                self.register(id);
            }
            Err(Refusal::Exists) => assert!(there),
            Err(Refusal::ShuttingDown) => assert!(self.shutdown.is_some()),
            Err(Refusal::Tangled) => self.check_tangle(id, &spec),
            Err(refusal) => assert_eq!(refusal, Refusal::TooManyJobs),
        }
    }

    fn put(&mut self, id: &str) {
        let old = self.supervisor.job(id).map(|job| (job.key(), job.spec().clone()));
        let spec = match &old {
            Some((_, old)) if self.rng.percent(80) => specs::variant(old, &mut self.rng),
            Some(_) | None => specs::random(&mut self.rng),
        };
        if let Some((key, old)) = &old {
            self.jobs.get_mut(key).unwrap().trim(old);
        }
        let parsed = JobId::parse(id).unwrap();
        let answer = self.supervisor.put(parsed, spec.clone(), self.now);
        self.note("put", |_| format!("{id} {}: {answer:?}", specs::text(&spec)));
        match answer {
            Ok(Put::Created) => {
                self.check_no_tangle(id);
                self.register(id);
            }
            Ok(Put::Replaced) => {
                self.check_no_tangle(id);
                let (key, old) = old.unwrap();
                self.forget_failures(key);
                let job = self.jobs.get_mut(&key).unwrap();
                job.is_replaced = true;
                job.learn(&spec);
                if !old.is_same_process(&spec) {
                    self.ask(Some(key));
                }
            }
            Ok(Put::Unchanged) => {
                let spec = match self.is_main(id) {
                    true => JobSpec { critical: Critical::Yes, autostart: true, ..spec },
                    false => spec,
                };
                assert_eq!(old.unwrap().1, spec);
            }
            Err(Refusal::ShuttingDown) => assert!(self.shutdown.is_some()),
            Err(Refusal::TooManyJobs) => assert!(old.is_none()),
            Err(Refusal::Tangled) => self.check_tangle(id, &spec),
            Err(refusal) => {
                assert_eq!(refusal, Refusal::OtherType);
                assert_ne!(specs::type_of(&old.unwrap().1), specs::type_of(&spec));
            }
        }
    }

    fn register(&mut self, id: &str) {
        let job = self.supervisor.job(id).unwrap();
        let mut model = JobModel {
            id: job.id().clone(),
            is_removed: false,
            is_replaced: false,
            created: self.now.mono.0,
            results: VecDeque::new(),
            ended: 0,
            written: 0,
            output: Written::default(),
            used: 0,
            last_launched: 0,
            deferred: BTreeSet::new(),
            grace: 0,
            timeout: None,
            patience: Patience::default(),
            period: u64::MAX,
            replaces: false,
            allows: false,
            is_cron: matches!(job.spec().kind, Kind::Cron(_)),
            renews: false,
            starts: 0,
            reasons: 2,
            idle: (!job.spec().autostart).then_some(0),
            never: BTreeMap::new(),
        };
        model.learn(job.spec());
        assert!(self.jobs.insert(job.key(), model).is_none(), "a key is used again");
    }

    /// A user asked for the end of all runs of a job, or of all jobs.
    fn ask(&mut self, key: Option<JobKey>) {
        let asked = self.runs.iter_mut().filter(|(run, _)| key.is_none_or(|key| run.job == key));
        asked.for_each(|(_, run)| run.is_asked = true);
    }

    fn shut_down(&mut self) {
        let now = self.now.mono.0;
        if let Some(shutdown) = &mut self.shutdown {
            shutdown.killed_at.get_or_insert(now);
        }
        self.supervisor.shutdown(0, self.now);
        self.note("shutdown", |_| String::new());
        self.notice_shutdown();
    }

    /// A critical job may have begun the shutdown.
    fn notice_shutdown(&mut self) {
        if !self.supervisor.is_shutting_down() {
            return assert!(self.shutdown.is_none());
        }
        if self.shutdown.is_none() {
            let deadline = self.now.mono.0 + self.settings.shutdown_timeout.as_millis() as u64;
            self.shutdown = Some(ShutdownModel { deadline, killed_at: None });
            self.jobs.values_mut().for_each(|job| job.reasons += 1);
            self.order(&IDS);
            self.ask(None);
        }
    }

    // What the core wants.

    fn drain(&mut self) {
        self.notice_shutdown();
        let most = if self.is_winding_up { u64::MAX } else { self.rng.pick(&[0, 1, 2, 100, 100]) };
        let mut spawns = 0;
        loop {
            while let Some(action) = self.supervisor.poll_action().filter(|_| !self.exited) {
                self.act(action);
            }
            if spawns == most || self.exited {
                return;
            }
            spawns += 1;
            let Some(launch) = self.supervisor.poll_spawn() else {
                return;
            };
            self.spawn(launch);
            self.notice_shutdown();
        }
    }

    fn act(&mut self, action: Action) {
        self.note("action", |_| format!("{action:?}"));
        match action {
            Action::Signal { target, signal } => self.signal(&target, signal),
            Action::Stop { target, signal } => {
                if let Target::Group(leader) = target {
                    self.cut_command(leader);
                }
                if signal != Signal::KILL {
                    let members = self.world.members(&target, &self.leaders);
                    members.into_iter().for_each(|pid| self.check_order(pid));
                }
                self.signal(&target, signal);
                if signal != Signal::KILL {
                    self.signal(&target, Signal::CONT);
                }
            }
            Action::Survey { run, target } => {
                let members = self.world.members(&target, &self.leaders);
                for pid in &members {
                    let owner = self.world.get(*pid).run.job;
                    assert_eq!(owner, run.job, "{run:?} waits for {pid}, which is not its own");
                }
                // A look may be incomplete, and then cannot say that nothing is left.
                let is_whole = self.is_winding_up || self.rng.percent(80);
                let left = match (members.is_empty(), is_whole) {
                    (true, true) => Left::Nothing,
                    (false, _) | (_, false) => Left::Something,
                };
                if !is_whole {
                    self.tally.count("look not whole");
                }
                self.supervisor.handle_survey(run, left, self.now);
                self.notice_shutdown();
                self.note("survey", |_| format!("{run:?}: {members:?}"));
            }
            Action::Glance { run, leader } => {
                if self.world.members(&Target::Group(leader), &self.leaders).is_empty() {
                    self.supervisor.handle_group_gone(run, self.now);
                    self.notice_shutdown();
                }
            }
            Action::Probe { key, check } => self.begin_attempt(key, &check),
            Action::EndProbe { key } => self.end_attempt(key),
            Action::Rest { .. } => panic!("k1s is not the first process"),
            Action::Measure => self.tell_usage(),
            Action::ReopenLogFiles { number } => {
                self.supervisor.handle_log_files_reopened(number, 0);
            }
            Action::Exit { .. } => self.exit(),
        }
    }

    /// A process may end while it is looked up, and its time be missing in the sum once.
    fn tell_usage(&mut self) {
        let before = self.supervisor.measured();
        for pid in self.leaders.clone() {
            let key = self.world.get(pid.0).run;
            let run = self.runs.get_mut(&key).unwrap();
            run.used += self.rng.below(1000);
            let is_part = !run.was_part && self.rng.percent(20);
            run.was_part = is_part;
            let told = if is_part { self.rng.below(run.used + 1) } else { run.used };
            let job = self.jobs.get_mut(&key.job).unwrap();
            job.used += told.saturating_sub(run.told);
            run.told = run.told.max(told);
            let cpu_time = Duration::from_millis(told);
            let usage = Usage { processes: 1, resident_bytes: 4096, cpu_time };
            self.supervisor.handle_usage(Owner::Run(key), usage);
        }
        self.supervisor.handle_measured(Vitals::default());
        assert_eq!(self.supervisor.measured(), before + 1);
        self.note("measure", |_| String::new());
    }

    fn signal(&mut self, target: &Target, signal: Signal) {
        let now = self.now.mono.0;
        for pid in self.world.members(target, &self.leaders) {
            let process = self.world.get(pid);
            assert!(
                self.is_signalled || self.may_be_ended(process.run) || process.is_beside(target),
                "{signal} for {pid} of {:?}, which nobody wants to end",
                process.run,
            );
            if let Target::Tree { owner, .. } = target {
                assert!(owner.covers(process.run), "{pid} of {:?} for {owner:?}", process.run);
            }
            let process = self.world.get_mut(pid);
            if signal == Signal::KILL {
                process.killed_at.get_or_insert(now);
            } else if !self.is_signalled {
                process.asked_at.get_or_insert(now);
            }
            self.world.signal(pid, signal, now, &mut self.rng);
        }
        self.world.pass(now);
    }

    /// Whether there is a reason to signal a run.
    fn may_be_ended(&self, run: RunKey) -> bool {
        self.runs[&run].is_asked || self.may_be_ended_unasked(run)
    }

    /// Whether there is another than that a user has asked for it.
    fn may_be_ended_unasked(&self, run: RunKey) -> bool {
        let (model, job) = (&self.runs[&run], &self.jobs[&run.job]);
        let lived = self.now.mono.0 - model.started;
        model.is_over
            || job.replaces
            || job.renews
            || job.timeout.is_some_and(|timeout| lived >= timeout)
            || job.patience.may_be_over(&model.signs, lived)
    }

    fn exit(&mut self) {
        assert!(!self.exited, "a second exit");
        self.exited = true;
        let shutdown = self.shutdown.as_ref().expect("a shutdown");
        let gave_up = shutdown.killed_at.is_some_and(|at| self.now.mono.0 >= at + GIVE_UP);
        for (pid, process) in self.world.findable() {
            assert!(gave_up, "{pid} of {:?} outlives k1s", process.run);
            assert!(process.killed_at.is_some(), "{pid} of {:?} was not killed", process.run);
        }
        assert!(gave_up || self.draining.is_empty(), "an end was not reported");
        self.tally.count(if gave_up { "gave up" } else { "ended" });
    }

    // Spawns.

    fn spawn(&mut self, launch: Launch) {
        let run = launch.run;
        if launch.purpose != Purpose::Run {
            return self.spawn_command(launch);
        }
        self.check_spawn(&launch);
        self.heed_calls();
        self.calls.check_launch(&launch);
        let job = self.jobs.get_mut(&run.job).unwrap();
        let is_new = !job.deferred.remove(&run.number);
        job.starts += u64::from(is_new);
        if let Some(asked) = job.idle.as_mut().filter(|_| is_new) {
            assert!(*asked > 0, "{run:?} of an idle job is started, and nobody asked for it");
            *asked -= 1;
        }
        job.last_launched = job.last_launched.max(run.number);
        let outcome = if self.is_winding_up { 99 } else { self.rng.below(100) };
        match outcome {
            0..=9 => {
                job.deferred.insert(run.number);
                self.supervisor.handle_spawn_deferred(launch, "EAGAIN".into(), self.now);
                self.note("deferred", |_| format!("{run:?}"));
            }
            10..=19 => {
                let failure = SpawnFailure { exit_code: 127, error: "gone".into() };
                self.record(run, 127);
                self.supervisor.handle_spawn_failed(launch, failure, self.now);
                self.heed_calls();
                self.note("spawn failed", |_| format!("{run:?}"));
            }
            _ => {
                let now = self.now.mono.0;
                let pid = self.world.spawn(run, now, &mut self.rng);
                let model = RunModel { started: now, ..RunModel::default() };
                assert!(self.runs.insert(run, model).is_none(), "{run:?} runs twice");
                assert!(self.leaders.insert(pid));
                self.note("spawn", |_| format!("{run:?}: {pid:?}"));
                self.supervisor.handle_spawned(launch, pid, self.now);
            }
        }
    }

    fn check_spawn(&self, launch: &Launch) {
        let run = launch.run;
        let job = &self.jobs[&run.job];
        assert!(self.shutdown.is_none(), "{run:?} is started in a shutdown");
        assert!(!job.is_removed, "{run:?} of a removed job is started");
        let listed = self.supervisor.job(job.id.as_str()).unwrap();
        assert_eq!(listed.key(), run.job);
        assert!(!listed.is_kill_requested(), "{run:?} of a killed job is started");
        self.check_conditions(listed);
        assert_eq!(launch.job_id, job.id);
        if !job.deferred.contains(&run.number) {
            assert!(run.number > job.last_launched, "{run:?} after {}", job.last_launched);
        }
        for (pid, process) in self.world.findable() {
            let other = process.run.job;
            if other == run.job {
                let is_in_way = !job.allows && process.group != pid;
                assert!(!is_in_way, "{run:?} is started beside {pid} of {:?}", process.run);
            } else {
                assert_ne!(self.jobs[&other].id, job.id, "{run:?} beside {:?}", process.run);
            }
        }
        for pid in &self.leaders {
            let other = self.world.get(pid.0).run;
            assert!(job.allows || other.job != run.job, "{run:?} is started beside {other:?}");
        }
        for (other, ..) in &self.draining {
            assert!(job.allows || other.job != run.job, "{run:?} is started before {other:?}");
        }
    }

    // What must hold after every turn.

    fn check(&mut self) {
        if self.exited {
            return;
        }
        for pid in &self.leaders {
            let run = self.world.get(pid.0).run;
            assert_eq!(self.supervisor.run_of(*pid), Some(run), "whose process is {pid:?}?");
        }
        assert!(self.supervisor.live_runs() >= self.leaders.len());
        assert!(self.supervisor.output_memory() <= self.settings.output_memory);
        self.check_jobs();
        self.check_health();
        self.check_commands();
        self.check_totals();
        self.check_grace();
        self.check_shutdown();
    }

    fn check_jobs(&mut self) {
        let (mut after, mut kept, mut is_pending) = (None, 0, self.supervisor.live_runs() > 0);
        self.heed_calls();
        while let Some(job) = self.supervisor.job_after(after) {
            self.calls.check(job);
            assert!(after.is_none_or(|after| job.key() > after), "the order of the list");
            after = Some(job.key());
            let model = self.jobs.get_mut(&job.key()).unwrap();
            assert!(!model.is_removed, "{} is listed", model.id);
            model.check(job, self.now, self.is_step_unseen);
            check_message(job, &self.supervisor.message(job, self.now));
            depend::check_waiting(&self.supervisor, job, self.now);
            assert!(self.shutdown.is_some() || model.may_be(job), "{} is over", model.id);
            kept +=
                job.results().map(|r| r.stdout.allocated() + r.stderr.allocated()).sum::<usize>();
            is_pending |= job.next_run_at(self.now).is_some();
            is_pending |= has_time_to_live(job) && !self.is_awaited(job.id());
        }
        assert!(kept <= self.supervisor.output_memory());
        is_pending |= self.shutdown.is_some();
        assert!(is_pending || self.supervisor.poll_timeout().is_none(), "a timer for nothing");
        if is_pending && self.supervisor.live_runs() == 0 {
            assert!(self.supervisor.poll_timeout().is_some(), "no timer for what is to come");
        }
    }

    /// What is counted of all jobs is what has happened to them, gone or not.
    fn check_totals(&self) {
        let totals = self.supervisor.totals();
        let ended: u64 = self.jobs.values().map(|job| job.ended).sum();
        let written: u64 = self.jobs.values().map(|job| job.written).sum();
        assert_eq!(RunOutcome::ALL.iter().map(|o| totals.runs(*o)).sum::<u64>(), ended);
        assert_eq!(STREAMS.iter().map(|stream| totals.output(*stream)).sum::<u64>(), written);
        let jobs = || self.ids.iter().filter_map(|id| self.supervisor.job(id));
        assert!(totals.restarts >= jobs().map(Job::restarts).sum());
        assert!(totals.skipped.missed >= jobs().map(|job| job.skipped().missed).sum());
    }

    /// A process that was asked to end was killed after its grace period.
    fn check_grace(&self) {
        let now = self.now.mono.0;
        for (pid, process) in self.world.findable() {
            let grace = self.jobs[&process.run.job].grace;
            let is_late = process.asked_at.is_some_and(|at| now > at + grace);
            assert!(!is_late || process.killed_at.is_some(), "{pid} of {:?}", process.run);
        }
    }

    fn check_shutdown(&self) {
        let Some(shutdown) = &self.shutdown else {
            return;
        };
        assert!(self.supervisor.live_runs() > 0, "a shutdown waits for nothing");
        let is_late = shutdown.killed_at.is_some_and(|at| self.now.mono.0 >= at + GIVE_UP);
        assert!(!is_late, "the shutdown has no end");
    }

    /// Whether this is the main job, which stays until k1s ends.
    fn is_main(&self, id: &str) -> bool {
        self.settings.main.as_ref().is_some_and(|main| main.as_str() == id)
    }

    /// Removes everything, or shuts down: that ends, and nothing is left.
    fn wind_up(&mut self) {
        self.is_winding_up = true;
        if self.exited {
            return;
        }
        if self.shutdown.is_none() && self.seed.is_multiple_of(2) {
            self.note("wind up", |_| String::new());
            if self.seed.is_multiple_of(4) {
                self.ask_together(Together::Remove, &IDS);
            }
            for id in IDS {
                if let Some(key) = self.supervisor.job(id).map(Job::key) {
                    self.supervisor.remove(id, self.now).unwrap();
                    self.jobs.get_mut(&key).unwrap().is_removed = !self.is_main(id);
                    self.ask(Some(key));
                    self.notice_shutdown();
                }
            }
        } else if self.shutdown.is_none() {
            self.shut_down();
        }
        for _ in 0..MOST_LAST_TURNS {
            self.drain();
            self.fire_timers();
            self.follow();
            self.check();
            let timer = self.supervisor.poll_timeout().map(|at| at.0);
            let has_ended = !self.world.zombies().is_empty() || !self.draining.is_empty();
            let zombie = has_ended.then_some(self.now.mono.0);
            let next = [timer, zombie, self.world.next_end()].into_iter().flatten().min();
            let Some(next) = next.filter(|_| !self.exited) else {
                break;
            };
            let millis = next.saturating_sub(self.now.mono.0);
            self.now.mono.0 += millis;
            self.now.wall.0 += millis as i64;
            self.world.pass(self.now.mono.0);
            self.reap();
        }
        if self.shutdown.is_some() {
            return assert!(self.exited, "the shutdown has no end");
        }
        let Sim { followers, supervisor, jobs, draining, ids, now, rng, tally, .. } = self;
        let (ids, now) = (*ids, *now);
        followers.wind_up(&mut Scene { supervisor, jobs, draining, ids, now, rng, tally });
        assert!(self.supervisor.job_after(None).is_none());
        assert_eq!(self.supervisor.live_runs(), 0);
        assert_eq!(self.supervisor.output_memory(), 0);
        assert_eq!(self.supervisor.poll_timeout(), None);
        assert!(self.supervisor.poll_spawn().is_none());
        assert_eq!(self.world.living().count(), 0, "something is left");
    }

    /// Checks what was told of calls since the last time.
    fn heed_calls(&mut self) {
        let Sim { calls, supervisor, jobs, tally, .. } = self;
        calls.heed(supervisor, jobs, tally);
    }

    fn note(&mut self, event: &'static str, text: impl FnOnce(&Sim) -> String) {
        self.tally.count(event);
        if self.trace.is_on {
            let line = format!("{} {event} {}", self.now.mono.0, text(self));
            self.trace.push(line);
        }
    }
}

impl JobModel {
    /// Records a specification that it has or had.
    fn learn(&mut self, spec: &JobSpec) {
        self.grace = self.grace.max(spec.stop.timeout.as_millis() as u64);
        let timeout = spec.timeout.map(|timeout| timeout.as_millis() as u64);
        self.timeout = [self.timeout, timeout].into_iter().flatten().min();
        self.patience.learn(spec);
        self.reasons += 1;
        self.renews |= spec.depends_on.values().any(|on| on.restart);
        if let Kind::Cron(cron) = &spec.kind {
            self.period = self.period.min(specs::period(&cron.schedule));
            self.replaces |= cron.concurrency == Concurrency::Replace;
            self.allows |= cron.concurrency == Concurrency::Allow;
        }
    }

    /// A user has asked for something: a job may be idle until then. A cron job that is run stays
    /// so.
    fn rouse(&mut self, request: &str) {
        match (request, self.is_cron) {
            ("run", true) => self.idle = self.idle.map(|asked| asked + 1),
            ("start" | "restart" | "run", _) => self.idle = None,
            _ => {}
        }
    }

    /// Forgets the results that its history has no room for.
    fn trim(&mut self, spec: &JobSpec) {
        while self.results.len() > spec.output.history_limit {
            self.results.pop_front();
        }
    }

    fn check(&mut self, job: &Job, now: Now, is_step_unseen: bool) {
        self.trim(job.spec());
        let results = job.results().map(|result| (result.number, result.exit_code()));
        assert!(results.eq(self.results.iter().copied()), "{}: {:?}", self.id, self.results);
        self.check_counts(job);
        if let Some(next) = job.next_run_at(now)
            && !is_step_unseen
        {
            assert!(next > now.wall, "{} was due at {next:?}, and it is {now:?}", self.id);
        }
        self.check_progress(job);
        assert!(self.idle.is_some() || job.state() != State::Idle, "{} was started", self.id);
        match &job.spec().kind {
            Kind::Cron(_) => {
                let elapsed = now.mono.0 - self.created;
                let most = elapsed / self.period + self.reasons;
                assert!(self.starts <= most, "{}: {} starts, not {most}", self.id, self.starts);
            }
            Kind::Continuous { .. } | Kind::OneOff { .. } => {}
        }
    }

    /// What it has reached is how it is, and what it never will does not come by itself.
    fn check_progress(&mut self, job: &Job) {
        let state = job.state();
        for (milestone, is_so) in [
            (Milestone::Ended, is_over(job)),
            (Milestone::Succeeded, state == State::Succeeded),
            (Milestone::Ready, matches!(state, State::Running | State::Succeeded)),
        ] {
            let progress = job.progress(milestone);
            // Beside a run that is still to start, or is being stopped, another may be running.
            let may_wait = self.allows || job.spec().readiness.is_some();
            let is_beside = milestone == Milestone::Ready && may_wait;
            let is_reached = progress == Progress::Reached;
            assert!(is_reached == is_so || is_beside, "{}, {state:?}: {milestone:?}", self.id);
            let before = self.never.get(&milestone).copied();
            assert!(!is_reached || before != Some(self.reasons), "{}: {milestone:?}", self.id);
            if progress == Progress::Never {
                self.never.insert(milestone, self.reasons);
            }
        }
    }

    /// Whatever its specification has been, all that has happened to it is counted.
    fn check_counts(&self, job: &Job) {
        let none = Counts::default();
        let counts = job.counts().unwrap_or(&none);
        assert_eq!(RunOutcome::ALL.iter().map(|o| counts.runs(*o)).sum::<u64>(), self.ended);
        assert_eq!(STREAMS.iter().map(|stream| counts.output(*stream)).sum::<u64>(), self.written);
        assert_eq!(counts.cpu_time(), Duration::from_millis(self.used), "{}", self.id);
        let spawned = self.ended - counts.runs(RunOutcome::SpawnFailed);
        assert_eq!(counts.durations().count(), spawned, "{}: durations", self.id);
    }

    /// Whether the job may be in its state: one that is always restarted does not end.
    fn may_be(&self, job: &Job) -> bool {
        let Kind::Continuous { restart, .. } = &job.spec().kind else {
            return true;
        };
        let goes_on = restart.policy == RestartPolicy::Always && restart.max_restarts.is_none();
        !goes_on || !is_over(job) || job.is_kill_requested() || self.is_replaced
    }
}

/// The message must be a sentence that fits the state.
fn check_message(job: &Job, message: &str) {
    let state = job.state();
    let says: &[&str] = match state {
        State::Idle => &["only by request"],
        State::Waiting => &["as soon as the removed job of the same id is gone", "waits for "],
        State::Starting => &["is about to be started", "cannot be started yet"],
        State::Running => &["has been running for", "the last of its output is being read"],
        State::Backoff => &["starts again in"],
        State::Scheduled => &["its next run is due in", "is suspended", "no more times"],
        State::Stopping => &["is being stopped", "leftovers", "had ended before", "beside it"],
        State::Succeeded => &["ended with exit code 0"],
        State::Failed => &["ended", "could not be started"],
        State::Killed => &["was stopped"],
    };
    assert!(says.iter().any(|text| message.contains(text)), "{}, {state:?}: {message}", job.id());
    let is_sentence = message.is_ascii() && message.len() < 400 && !message.ends_with(' ');
    assert!(is_sentence, "{}, {state:?}: {message:?}", job.id());
}

fn is_over(job: &Job) -> bool {
    matches!(job.state(), State::Succeeded | State::Failed | State::Killed)
}

fn has_time_to_live(job: &Job) -> bool {
    is_over(job) && matches!(&job.spec().kind, Kind::OneOff { ttl_after_finished: Some(_), .. })
}

fn exit_code(status: ExitStatus) -> u8 {
    match status {
        ExitStatus::Code(code) => code,
        ExitStatus::Signal(signal) => 128 + signal.number() as u8,
    }
}

/// The last events, told when the seed fails.
struct Trace {
    seed: u64,
    is_on: bool,
    lines: VecDeque<String>,
}

impl Trace {
    fn push(&mut self, line: String) {
        if self.lines.len() == TRACED {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        if self.is_on && std::thread::panicking() {
            for line in &self.lines {
                eprintln!("{line}");
            }
            eprintln!("to play it again: K1S_SIM_SEED={}", self.seed);
        }
    }
}

/// How often each kind of event has happened.
#[derive(Debug, Default)]
pub struct Tally(pub BTreeMap<&'static str, u64>);

impl Tally {
    fn count(&mut self, event: &'static str) {
        *self.0.entry(event).or_default() += 1;
    }

    fn add(&mut self, other: &Tally) {
        for (event, count) in &other.0 {
            *self.0.entry(event).or_default() += count;
        }
    }
}

/// All of these must happen in a run of many seeds, or it has not tested everything.
pub const EVENTS: &[&str] = &[
    "action",
    "answer",
    "ask all",
    "attempt",
    "attempt given up",
    "blocked",
    "call refused",
    "called",
    "collected",
    "command",
    "command cut short",
    "command deferred",
    "command ended",
    "command failed",
    "create",
    "cut",
    "declare",
    "deferred",
    "ended",
    "event read",
    "exit",
    "follow events",
    "follow log",
    "followed to the end",
    "gave up",
    "in order",
    "kill",
    "line read",
    "look not whole",
    "lost told",
    "measure",
    "notice",
    "orphans",
    "pass",
    "put",
    "ready",
    "reload",
    "remove",
    "renewed",
    "restart",
    "resume events",
    "reused pids",
    "run",
    "shutdown",
    "signal",
    "spawn",
    "spawn failed",
    "start",
    "step",
    "survey",
    "tangled",
    "together",
    "unhealthy",
    "unknown orphan",
    "waits",
];

const STREAMS: [Stream; 2] = [Stream::Stdout, Stream::Stderr];
const IDS: [&str; 6] = ["a", "b", "c", "a.1", "d", "e"];

/// 2026-03-28T00:00:00Z, a day before the clocks of Berlin change.
const START: i64 = 1_774_656_000_000;
const STEPS: [i64; 6] = [1, 1_000, 3_600_000, 86_400_000, 10 * 365 * 86_400_000, 3 * 3_600_000 + 1];
const FARTHEST: i64 = 30 * 365 * 86_400_000;
const LONGEST_SLEEP: u64 = 86_400_000;

/// How long a shutdown waits for killed processes, as in the core.
const GIVE_UP: u64 = 1_000;
const MOST_ROUNDS: usize = 50;
const MOST_LAST_TURNS: usize = 5_000;
const TRACED: usize = 150;
