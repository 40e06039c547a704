//! The poll loop: the one place that waits, and the one that sees both the pure core and the
//! world.
//!
//! ```text
//!   poll ─▶ one reading of the clocks ─▶ each event: find its source, feed it
//!     ▲                                             │
//!     └──── timers, drain again ◀── drain: what the supervisor wants is done to processes,
//!                                   what peers wait for is written
//! ```
//!
//! - `peers`: the listening socket and every connection of the API.
//! - `outputs`: the pipes that jobs write to.
//! - `init`: what a container's first process has beyond that.
//! - `processes`: spawning, reaping, signalling, for the supervisor.
//!
//! Tokens count up and are never used again, so an event for something that is gone is found
//! nowhere and harmless. No source may hold the loop: each has a share of a turn, and one that
//! has used it up is marked ready and goes on in the next, before the loop waits again.
//! Nothing here decides what becomes of a job.

mod init;
mod outputs;
mod peers;
mod processes;

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::api::Api;
use crate::config;
use crate::job::{JobId, JobSpec, Signal};
pub use crate::os::{Startup, prepare};

use crate::os;
use crate::supervisor::{self, Supervisor};
use crate::time::{Mono, Now};

use init::Init;
use outputs::Outputs;
use peers::Peers;
use processes::Processes;

pub use crate::os::clock::{Clock, now};

/// k1s, running.
#[expect(missing_debug_implementations, reason = "the signals of signal-hook have none")]
pub struct Daemon {
    poll: Poll,
    signals: os::signals::Signals,
    children: os::signals::SignalFd,
    clock: Clock,
    supervisor: Supervisor,
    peers: Peers,
    outputs: Outputs,
    processes: Processes,
    init: Option<Init>,
    is_pid_1: bool,
    now: Now,
    /// The revision of the supervisor that waiting answers have seen.
    shown: u64,
    exit_code: Option<u8>,
}

/// What k1s was started for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// To supervise.
    Supervisor,
    /// To be the first process of a container: `k1s init`.
    Init {
        /// The executable and its arguments.
        command: Vec<String>,
        /// Whether anybody is to reach the API.
        opens_api: bool,
    },
}

impl Daemon {
    /// Opens all that is needed, and registers the jobs of the config. Nothing runs yet. All
    /// that k1s knows of the time it learns from `clock`.
    ///
    /// # Errors
    /// What could not be opened, for people: the port is in use, descriptors have run out.
    pub fn new(
        settings: config::Settings,
        role: Role,
        startup: &Startup,
        mut clock: Clock,
    ) -> Result<Daemon, String> {
        let (audience, init, command, opens_api) = match role {
            Role::Supervisor => (os::signals::Audience::Daemon, None, None, true),
            Role::Init { command, opens_api } => {
                (os::signals::Audience::Init, Some(Init::new()), Some(command), opens_api)
            }
        };
        let spawner = os::Spawner::new(startup).map_err(failed("cannot prepare for jobs"))?;
        let poll = Poll::new().map_err(failed("cannot create the poll"))?;
        let mut signals =
            os::signals::install(audience).map_err(failed("cannot listen to signals"))?;
        let children = os::signals::SignalFd::new().map_err(failed("cannot watch children"))?;
        let registry = poll.registry();
        registry
            .register(&mut signals, SIGNALS, Interest::READABLE)
            .and_then(|()| watch(registry, children.as_raw_fd(), CHILDREN))
            .and_then(|()| clock.watch().map_or(Ok(()), |fd| watch(registry, fd, CLOCK)))
            .map_err(failed("cannot watch for events"))?;
        let peers = match opens_api {
            true => Peers::listen(&settings.http, startup.max_descriptors, registry)?,
            false => Peers::nobody(),
        };
        let directory = config::Environment::of_process().directory;
        let main = command.map(|command| init::main_job(command, &directory)).transpose()?;
        let now = clock.now();
        let api = Api::new(settings.http.token.as_bytes().to_vec(), directory);
        let supervisor = supervisor(settings, main, now)?;
        Ok(Daemon {
            poll,
            signals,
            children,
            clock,
            supervisor,
            peers: peers.serve(api),
            outputs: Outputs::default(),
            processes: Processes::new(spawner),
            init,
            is_pid_1: startup.is_pid_1,
            now,
            shown: 0,
            exit_code: None,
        })
    }

    /// The address that the API listens on, as in a URL: `127.0.0.1:1298`, `[::1]:1298`; `None`
    /// when it is not open.
    pub fn address(&self) -> Option<String> {
        self.peers.address()
    }

    /// Runs until everything was asked to end and has, and returns the exit code.
    pub fn run(mut self) -> u8 {
        let mut events = Events::with_capacity(EVENTS_A_TURN);
        loop {
            self.drain();
            if let Some(code) = self.exit_code {
                self.end_namespace();
                return code;
            }
            self.wait(&mut events);
            self.read_clock();
            for event in &events {
                match event.token() {
                    SIGNALS => self.handle_signals(),
                    CHILDREN => self.processes.handle_children(&self.children),
                    CLOCK => self.clock.handle_watch(),
                    peers::LISTENER => self.peers.handle_listener(),
                    _ if self.outputs.handle_event(event) => {}
                    _ => self.peers.handle_event(event),
                }
            }
            self.outputs.read(&mut self.supervisor);
            self.peers.serve_ready(self.poll.registry(), &mut self.supervisor, self.now);
            self.processes.reap(&mut self.outputs, &mut self.supervisor, self.now);
            self.drain();
            self.supervisor.handle_timeout(self.now);
            self.peers.handle_timeout(&mut self.supervisor, self.now);
        }
    }

    /// Does what the supervisor wants, and lets answers go on that wait for it.
    fn drain(&mut self) {
        let exit = self.processes.perform(
            &mut self.supervisor,
            &mut self.outputs,
            self.poll.registry(),
            self.init.as_ref(),
            self.now,
        );
        self.exit_code = self.exit_code.or(exit);
        if let Some(init) = &mut self.init {
            init.deliver(&self.supervisor);
        }
        self.peers.leave_room(self.outputs.descriptors());
        let revision = self.supervisor.revision();
        if std::mem::replace(&mut self.shown, revision) != revision {
            self.peers.wake_waiting();
        }
    }

    /// Waits until something happens or is due; not at all while something is ready.
    fn wait(&mut self, events: &mut Events) {
        let is_busy = self.supervisor.has_spawns()
            || self.processes.has_more()
            || self.outputs.has_more()
            || self.peers.has_more();
        let timeout = if is_busy { Some(Duration::ZERO) } else { self.sleep() };
        if let Err(error) = self.poll.poll(events, timeout) {
            // EINTR is every signal that has a handler: its own event tells of it. Anything else
            // would be k1s's own mistake; to spin is better than to end, as PID 1.
            debug_assert_eq!(error.kind(), io::ErrorKind::Interrupted);
        }
    }

    /// How long to sleep: until the first deadline, or for ever.
    fn sleep(&self) -> Option<Duration> {
        let deadlines = [self.supervisor.poll_timeout(), self.peers.poll_timeout()];
        let first: Mono = deadlines.into_iter().flatten().min()?;
        let wait = first.since(os::clock::mono());
        Some(self.clock.longest_sleep().map_or(wait, |longest| wait.min(longest)))
    }

    fn handle_signals(&mut self) {
        for signal in os::signals::drain(&mut self.signals) {
            let ends = match &self.init {
                Some(_) => signal == Signal::TERM,
                None => [Signal::TERM, Signal::INT, Signal::QUIT].contains(&signal),
            };
            if ends {
                self.supervisor.shutdown(0, self.now);
            } else if let Some(init) = &mut self.init {
                init.forward(signal, &self.supervisor);
            }
        }
    }

    /// The one reading of a turn.
    fn read_clock(&mut self) {
        self.now = self.clock.now();
        if self.clock.take_step() {
            self.supervisor.handle_clock_step(self.now);
        }
    }

    /// As PID 1, nothing outlives k1s.
    fn end_namespace(&self) {
        if self.is_pid_1 {
            let _ = os::process::kill_all();
        }
    }
}

/// The supervisor with its first jobs: those of the config in the order of the file, then the
/// command of `init`.
fn supervisor(
    settings: config::Settings,
    main: Option<(JobId, JobSpec)>,
    now: Now,
) -> Result<Supervisor, String> {
    let mut supervisor = Supervisor::new(
        supervisor::Settings {
            instance: os::instance_id(),
            job_limit: settings.max_jobs,
            output_memory: settings.output_memory_bytes,
            shutdown_timeout: settings.shutdown_timeout,
            main: main.as_ref().map(|(id, _)| id.clone()),
        },
        now,
    );
    if main.is_some() && settings.jobs.iter().any(|(id, _)| id.as_str() == init::MAIN) {
        return Err("job.main: under `k1s init`, `main` is the command's id".to_owned());
    }
    for (id, spec) in settings.jobs.into_iter().chain(main) {
        let name = id.clone();
        supervisor.create(id, spec, now).map_err(|refusal| format!("job.{name}: {refusal:?}"))?;
    }
    Ok(supervisor)
}

fn failed(what: &'static str) -> impl Fn(io::Error) -> String {
    move |error| format!("{what}: {error}")
}

fn watch(registry: &mio::Registry, fd: i32, token: Token) -> io::Result<()> {
    registry.register(&mut SourceFd(&fd), token, Interest::READABLE)
}

const SIGNALS: Token = Token(0);
const CHILDREN: Token = Token(1);
const CLOCK: Token = Token(2);
/// The first token that is handed out to connections and pipes.
const FIRST_TOKEN: usize = 16;
const EVENTS_A_TURN: usize = 256;
