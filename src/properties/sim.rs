//! Simulates the supervisor in a hostile world, from a seed.
//!
//! ```text
//!   chance ──► requests, clock steps, late timers ──► Supervisor ──► signals, surveys, spawns
//!                                                        ▲                  │
//!                exits in bursts, failed spawns, output  │                  ▼
//!                                                        └───────────────  World
//! ```
//!
//! A step is a turn of the loop, as in the daemon: time passes (`clock`), things happen (`exits`,
//! `requests`), the actions of the core are done (`actions`, `spawns`), timers expire. After each
//! step `checks` verifies what must always hold; other checks are where they can fail: at a spawn, a
//! signal, an exit. What is known of jobs and runs, to hold them against, is in `model`. At the end
//! everything is removed or shut down, which must end and leave nothing.
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

mod actions;
mod calls;
mod checks;
mod clock;
mod commands;
mod crashes;
mod declare;
mod depend;
mod exits;
mod followers;
mod model;
mod order;
mod probes;
mod readers;
mod requests;
mod rng;
mod spawns;
mod specs;
mod tally;
mod trace;
mod world;
mod written;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::job::{ExitStatus, JobId, Pid, Stream};
use crate::supervisor::{Job, JobKey, RunKey, Settings, Supervisor, Together};
use crate::time::{Mono, Now, Wall};

use calls::Calls;
use commands::Commands;
pub use crashes::{CRASHES, play_crashes};
use followers::{Followers, Scene};
use model::{JobModel, RunModel, ShutdownModel};
use order::Order;
use probes::Probes;
use rng::Rng;
pub use tally::{EVENTS, Tally};
use trace::Trace;
use world::World;

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
                    self.forget_order_of(key);
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

const STREAMS: [Stream; 2] = [Stream::Stdout, Stream::Stderr];
const IDS: [&str; 6] = ["a", "b", "c", "a.1", "d", "e"];

/// 2026-03-28T00:00:00Z, a day before the clocks of Berlin change.
const START: i64 = 1_774_656_000_000;

/// How long a shutdown waits for killed processes, as in the core.
const GIVE_UP: u64 = 1_000;
const MOST_ROUNDS: usize = 50;
const MOST_LAST_TURNS: usize = 5_000;
