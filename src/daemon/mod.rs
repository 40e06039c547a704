//! The poll loop: the only place that waits, and the only one that knows both the pure core and
//! the world.
//!
//! ```text
//!   poll ─▶ read the clocks once ─▶ each event: find its source, feed it
//!     ▲                                        │
//!     └──── timers, drain again ◀── drain: act on processes for the supervisor,
//!                                   write the answers that peers wait for
//! ```
//!
//! - `sockets`: where the API listens; `peers`: its connections.
//! - `outputs`: the pipes that jobs write to; `logfiles`: the log files of jobs.
//! - `init`: what `k1s init` does as the first process of a container.
//! - `processes`: spawns, reaps and signals for the supervisor; `leftovers`: finds and stops what
//!   runs have left outside of their groups; `census`: which run each orphan belongs to.
//! - `probes`: attempts of probes by HTTP and TCP; `notices`: what runs say about themselves.
//! - `store`: stores the state; `former`: stops what an earlier k1s has left.
//! - `meter`: the memory and CPU time of runs; `vitals`: figures of k1s itself.
//! - `reload`: reads the config again.
//! - `shares`: how much of a turn each of them may take.
//! - `console`: k1s's own stdout and stderr; `log` and `journal`: the messages of k1s itself.
//!
//! Tokens count up and are never used again, so an event for something that is gone does no harm.
//! No source may hold up the loop: each has a share of a turn. A source that has used up its share
//! is marked ready, and goes on in the next turn, before the loop waits again.
//! Nothing here decides what happens to a job.

mod census;
mod console;
mod former;
mod init;
mod journal;
mod leftovers;
mod log;
mod logfiles;
mod meter;
mod notices;
mod outputs;
mod peers;
mod probes;
mod processes;
mod reload;
mod shares;
mod sockets;
mod store;
mod vitals;

use std::collections::BTreeSet;
use std::fmt::Display;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::api::Api;
use crate::config::{self, Environment, Live, LogFormat, LogLevel, Settings};
use crate::job::{JobId, JobSpec, Signal};
pub use crate::os::file::{read as read_config, read_now as read_file};
pub use crate::os::{Startup, prepare};

use crate::os;
use crate::supervisor::{self, Heritage, Supervisor, Topic};
use crate::time::{Mono, Now};

use console::Console;
use former::Former;
use init::Init;
use journal::Journal;
use log::{Log, Message};
use outputs::{Outputs, Sinks};
use peers::Peers;
use processes::Processes;
use reload::Reloader;
use shares::EVENTS_A_TURN;
use sockets::{LISTENERS, Listeners};
use store::{Inherited, Store};
use vitals::Turns;

pub use crate::os::clock::{Clock, now};
pub use crate::os::local::default_path as default_socket;
pub use store::{Contents, contents};

/// A running k1s.
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
    store: Option<Store>,
    former: Former,
    console: Console,
    journal: Journal,
    init: Option<Init>,
    reloader: Reloader,
    is_pid_1: bool,
    now: Now,
    turns: Turns,
    /// Ignored signals that were logged; each is logged once.
    ignored: BTreeSet<Signal>,
    noted: Noted,
    exit_code: Option<u8>,
}

/// When what may happen often was last logged.
#[derive(Debug, Default)]
struct Noted {
    /// That accepting a connection failed.
    accept: Option<Mono>,
    /// That a request was refused for its token.
    forbidden: Option<Mono>,
}

/// What k1s was started as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// A supervisor: `k1s`.
    Supervisor,
    /// The first process of a container: `k1s init`.
    Init {
        /// The executable and its arguments.
        command: Vec<String>,
        /// Whether to listen on the port, and not on the unix socket alone.
        opens_port: bool,
    },
}

impl Daemon {
    /// Opens everything that is needed, and registers the jobs of the config. Nothing runs yet.
    /// k1s reads the time from `clock` alone.
    ///
    /// # Errors
    /// What could not be opened, for people: the port is in use, there are too few descriptors.
    pub fn new(
        settings: Settings,
        role: Role,
        startup: &Startup,
        mut clock: Clock,
    ) -> Result<Daemon, String> {
        let (mut console, now) = (console_of(&settings.live, &role), clock.now());
        note_obstacles(startup, &clock, &mut console, now);
        let (audience, init, command, opens_port) = match role {
            Role::Supervisor => (os::signals::Audience::Daemon, None, None, true),
            Role::Init { command, opens_port } => {
                (os::signals::Audience::Init, Some(Init::new()), Some(command), opens_port)
            }
        };
        let spawner = os::Spawner::new(startup).map_err(failed("cannot prepare for jobs"))?;
        let poll = Poll::new().map_err(failed("cannot create the poll"))?;
        let mut signals =
            os::signals::install(audience).map_err(failed("cannot listen to signals"))?;
        let children = os::signals::SignalFd::new().map_err(failed("cannot watch children"))?;
        let registry = poll.registry();
        let mut listeners = Listeners::open(&settings.fixed, opens_port, registry)?;
        if let Some((level, note)) = listeners.take_note() {
            console.note(level, &note, now);
        }
        let directory = config::working_directory();
        let main = command.map(|command| init::main_job(command, &directory)).transpose()?;
        let outputs = Outputs::with_limit(settings.live.output_disk_bytes);
        let forward = settings.live.forward;
        let api = api(&settings.live, directory);
        let peers = Peers::of(listeners, api, &settings.live.http, startup.max_descriptors);
        let reloader = Reloader::new(&settings);
        let (supervisor, store, former) = supervisor(settings, main, startup.is_pid_1, now)?;
        let disk = store.as_ref().map(Store::event);
        let sources =
            [(Some(children.as_raw_fd()), CHILDREN), (clock.watch(), CLOCK), (disk, STORE)];
        watch_all(registry, &mut signals, &sources).map_err(failed("cannot watch for events"))?;
        let processes = Processes::new(spawner, forward, supervisor.instance());
        Ok(Daemon {
            poll,
            signals,
            children,
            clock,
            supervisor,
            peers,
            outputs,
            processes,
            store,
            former,
            console,
            journal: Journal::default(),
            init,
            reloader,
            is_pid_1: startup.is_pid_1,
            now,
            turns: Turns::since(now.wall),
            ignored: BTreeSet::new(),
            noted: Noted::default(),
            exit_code: None,
        })
    }

    /// The address that the API listens on, as in a URL: `127.0.0.1:1298`, `[::1]:1298`; `None`
    /// when it has none.
    pub fn address(&self) -> Option<String> {
        self.peers.address()
    }

    /// The unix socket that the API listens on; `None` when it has none.
    pub fn socket(&self) -> Option<PathBuf> {
        self.peers.path().map(Path::to_owned)
    }

    /// Writes a message to stderr, whatever the level of the log.
    pub fn say(&mut self, level: LogLevel, text: &dyn Display) {
        self.console.say(&Message::note(level, text), self.now);
        self.console.flush(self.now);
    }

    /// The config is the file at this path, to be read again on request.
    pub fn read_again_from(&mut self, path: PathBuf, environment: Environment) {
        self.reloader.read_from(path, environment);
    }

    /// Runs until k1s has shut down, and returns the exit code.
    pub fn run(mut self) -> u8 {
        let mut events = Events::with_capacity(EVENTS_A_TURN);
        os::memory::give_back_code();
        loop {
            self.drain();
            if let Some(code) = self.exit_code {
                self.store_last();
                self.peers.serve_last(&mut self.supervisor, self.now);
                self.end(code);
                return code;
            }
            self.console.flush(self.now);
            self.outputs.resume(&self.console);
            self.console.settle(self.poll.registry());
            self.wait(&mut events);
            self.read_clock();
            for event in &events {
                match event.token() {
                    SIGNALS => self.handle_signals(),
                    CHILDREN => self.processes.handle_child_ended(self.now),
                    CLOCK => self.clock.handle_watch(),
                    STORE => self.handle_synced(),
                    token if LISTENERS.contains(&token) => self.peers.handle_listener(token),
                    token if self.console.handle_event(token) => {}
                    _ if self.outputs.handle_event(event) => {}
                    _ if self.processes.notices.handle_event(event) => {}
                    _ if self.processes.probes.handle_event(event) => {}
                    _ => self.peers.handle_event(event),
                }
            }
            self.read_outputs();
            self.processes.read_notices(&mut self.supervisor, self.now);
            self.processes.probes.serve(self.poll.registry(), &mut self.supervisor, self.now);
            let left = self.outputs.left_to_followers();
            self.peers.serve_ready(self.poll.registry(), &mut self.supervisor, left, self.now);
            self.forget_departed();
            self.reload();
            self.reap();
            self.tell_ends();
            self.stop_former();
            self.processes.look_around(&mut self.supervisor, self.now);
            self.measure();
            self.drain();
            self.supervisor.handle_timeout(self.now);
            self.peers.handle_timeout(&mut self.supervisor, self.now);
            self.outputs.files.go_on(self.now);
        }
    }

    fn forget_departed(&mut self) {
        if self.supervisor.has_departed() {
            let read = self.peers.jobs_read();
            self.supervisor.forget_departed(|job| read.contains(&job));
        }
    }

    fn read_outputs(&mut self) {
        let Daemon { supervisor, console, now, .. } = self;
        self.outputs.read(&mut Sinks { supervisor, console, now: *now });
    }

    /// Reaps when that is due. SIGCHLD is read only now: while one is pending no other comes
    /// (signal(7)), so k1s can sleep; once it is read, the next child that ends sends another.
    fn reap(&mut self) {
        if self.processes.reap_timeout().is_none_or(|at| at > self.now.mono) {
            return;
        }
        for signal in self.children.drain() {
            self.handle_signal(signal);
        }
        self.processes.reap(&mut self.outputs, &mut self.supervisor, self.now);
    }

    fn tell_ends(&mut self) {
        let Daemon { supervisor, console, now, .. } = self;
        self.processes.tell_ends(&mut self.outputs, Sinks { supervisor, console, now: *now });
    }

    /// Does what the supervisor wants, then wakes the answers that wait for what has changed.
    fn drain(&mut self) {
        if let Some(store) = &mut self.store {
            store.append(&mut self.supervisor, self.now);
        }
        let exit = self.processes.perform(
            &mut self.supervisor,
            &mut self.outputs,
            self.store.as_mut(),
            self.poll.registry(),
            self.init.as_ref(),
            self.now,
        );
        self.exit_code = self.exit_code.or(exit);
        if let Some(init) = &mut self.init {
            init.deliver(&self.supervisor);
        }
        self.leave_room();
        if self.peers.take_freed() | self.processes.probes.take_freed() {
            self.supervisor.handle_freed(self.now);
        }
        self.report_log_files();
        while let Some(topic) = self.supervisor.poll_changed() {
            self.handle_changed(topic);
        }
        self.tell_of_store();
        self.note_accept_error();
        self.note_forbidden();
        self.note_refused();
    }

    /// Shares descriptors: what jobs have comes first, then clients of the API, then probes.
    fn leave_room(&mut self) {
        let Daemon { processes, peers, outputs, .. } = self;
        let of_jobs = outputs.descriptors() + processes.notices.descriptors();
        let probes = &mut processes.probes;
        peers.leave_room(of_jobs + probes.descriptors());
        probes.leave_room(peers.max_descriptors(), of_jobs + peers.connections());
    }

    /// Wakes everything that waits for this topic.
    fn handle_changed(&mut self, topic: Topic) {
        match topic {
            Topic::Job(key) => {
                if let Some(job) = self.supervisor.job_of(key) {
                    let is_on = job.spec().output.forward;
                    self.outputs.set_forwarding(key, is_on, &mut self.console, self.now);
                    self.outputs.set_files(key, job.id(), job.spec(), self.now);
                    self.report_log_files();
                }
            }
            Topic::Output(_) | Topic::Measured | Topic::LogFilesReopened => {}
            Topic::Reloaded | Topic::Saved | Topic::Batches => {}
            Topic::Events => {
                self.journal.write(self.supervisor.events(), &mut self.console, self.now);
                if self.supervisor.events().has_surplus() && !self.peers.follow_events() {
                    self.supervisor.shrink_events();
                }
            }
        }
        self.peers.wake(topic);
    }

    fn handle_synced(&mut self) {
        if let Some(store) = &mut self.store {
            store.handle_synced(&mut self.supervisor, self.now);
        }
    }

    fn tell_of_store(&mut self) {
        while let Some((level, text)) = self.store.as_mut().and_then(Store::poll_note) {
            self.console.note(level, &text, self.now);
        }
    }

    /// Stops what an earlier k1s has left, when it is time to look.
    fn stop_former(&mut self) {
        if self.former.poll_timeout().is_none_or(|at| at > self.now.mono) {
            return;
        }
        for id in self.former.go_on(self.now) {
            self.supervisor.handle_former_gone(&id, self.now);
        }
        if self.former.is_over()
            && let Some(store) = &mut self.store
        {
            store.forget_former(self.supervisor.instance(), self.now);
        }
    }

    /// k1s ends: answers wait for the last of the state.
    fn store_last(&mut self) {
        if let Some(store) = &mut self.store {
            store.finish(&mut self.supervisor, self.now);
        }
        self.tell_of_store();
    }

    fn report_log_files(&mut self) {
        while let Some((number, files)) = self.outputs.files.poll_reopened() {
            self.supervisor.handle_log_files_reopened(number, files);
        }
        while let Some((owner, path, event)) = self.outputs.files.poll_event() {
            self.supervisor.handle_log_file(owner, path, event, self.now);
        }
    }

    fn note_accept_error(&mut self) {
        if let Some(error) = self.peers.poll_accept_error()
            && self.noted.accept.is_none_or(|at| self.now.mono >= at + NOTE_PAUSE)
        {
            self.noted.accept = Some(self.now.mono);
            let text = format_args!("cannot accept a connection: {error}; trying again");
            self.console.note(LogLevel::Warn, &text, self.now);
        }
    }

    /// Requests that their token does not allow: one line in a while, however many there are.
    fn note_forbidden(&mut self) {
        if self.noted.forbidden.is_none_or(|at| self.now.mono >= at + NOTE_PAUSE)
            && let Some(refused) = self.peers.poll_refused()
        {
            self.noted.forbidden = Some(self.now.mono);
            self.console.note(LogLevel::Warn, &refused, self.now);
        }
    }

    fn note_refused(&mut self) {
        while let Some((job, run, sender)) = self.processes.notices.poll_refused() {
            let sender = sender.map_or("a process of another namespace".to_owned(), |pid| {
                format!("process {}", pid.0)
            });
            let text = format_args!(
                "{job}: run {}: {sender} has sent a notice and is none of the run's, or is gone; \
                 such notices are dropped, and this is not logged again for the run",
                run.number
            );
            self.console.note(LogLevel::Debug, &text, self.now);
        }
    }

    /// Waits until something happens or is due, or not at all while something is ready.
    fn wait(&mut self, events: &mut Events) {
        let is_busy =
            self.supervisor.has_spawns() || self.outputs.has_more() || self.peers.has_more();
        let is_busy = is_busy || self.supervisor.has_actions();
        let is_busy = is_busy || self.reloader.is_busy() || self.supervisor.has_reloads();
        let is_busy = is_busy || self.has_to_store();
        let is_busy = is_busy || self.processes.has_more() || self.processes.is_measuring();
        let is_busy =
            is_busy || self.processes.notices.has_more() || self.processes.probes.has_more();
        if !is_busy {
            os::memory::give_back();
        }
        let timeout = if is_busy { Some(Duration::ZERO) } else { self.sleep() };
        if let Err(error) = self.poll.poll(events, timeout) {
            // EINTR comes with every signal that has a handler, which also causes an event. Any
            // other error would be a bug of k1s; for PID 1 it is better to spin than to end.
            debug_assert_eq!(error.kind(), io::ErrorKind::Interrupted);
        }
    }

    fn has_to_store(&self) -> bool {
        self.store.as_ref().is_some_and(|store| store.has_more() || self.supervisor.has_unsaved())
    }

    /// How long to sleep: until the first deadline, or without limit. The turn ends.
    fn sleep(&mut self) -> Option<Duration> {
        let elapsed = os::clock::elapsed();
        self.turns.end(elapsed);
        let now = os::clock::to_mono(elapsed);
        let job = self.supervisor.poll_timeout().map(|at| punctual(at.since(now)));
        let files = self.outputs.files.poll_timeout();
        let store = self.store.as_ref().and_then(Store::poll_timeout);
        let (peers, processes) = (self.peers.poll_timeout(), self.processes.poll_timeout());
        let others = [peers, processes, files, store, self.former.poll_timeout()];
        let others = others.into_iter().flatten().map(|at| at.since(now));
        let wait = job.into_iter().chain(others).min()?;
        Some(self.clock.longest_sleep().map_or(wait, |longest| wait.min(longest)))
    }

    fn handle_signals(&mut self) {
        for signal in os::signals::drain(&mut self.signals) {
            self.handle_signal(signal);
        }
    }

    fn handle_signal(&mut self, signal: Signal) {
        let ends = match &self.init {
            Some(_) => signal == Signal::TERM,
            None => [Signal::TERM, Signal::INT, Signal::QUIT].contains(&signal),
        };
        if ends {
            self.console.note(LogLevel::Info, &format_args!("received {signal}"), self.now);
            let code = if self.init.is_some() { init::NEVER_RAN } else { 0 };
            self.supervisor.shutdown(code, self.now);
        } else if let Some(init) = &mut self.init {
            init.forward(signal, &self.supervisor);
        } else if signal == Signal::HUP {
            self.handle_hangup();
        } else {
            self.ignore(signal);
        }
    }

    fn ignore(&mut self, signal: Signal) {
        if self.ignored.insert(signal) {
            let text = format_args!("{signal} is ignored, and not logged again");
            self.console.note(LogLevel::Info, &text, self.now);
        }
    }

    /// Reads the clocks, once a turn.
    fn read_clock(&mut self) {
        self.now = self.clock.now();
        self.turns.begin(self.clock.elapsed());
        if self.clock.take_step() {
            self.supervisor.handle_clock_step(self.now);
        }
    }

    /// The end of k1s: as PID 1 it kills everything else. Output of jobs is still written, as long
    /// as its reader takes it.
    fn end(&mut self, code: u8) {
        if self.is_pid_1 {
            let _ = os::signalling::stop_all(Signal::KILL);
        }
        self.outputs.finish_lines(&mut self.console, self.now);
        self.outputs.files.finish(self.now);
        self.report_log_files();
        self.journal.write(self.supervisor.events(), &mut self.console, self.now);
        let text = format_args!("shut down; exit code {code}");
        self.console.note(LogLevel::Info, &text, self.now);
        // The command of `init` has printed it for a reader of its own, so k1s delivers it for as
        // long as the shutdown may take.
        let deadline = self.supervisor.shutdown_deadline().filter(|_| self.init.is_some());
        self.console.finish(&mut self.poll, deadline.unwrap_or_default(), self.now);
        if let Some(init) = &self.init {
            init.end();
        }
    }
}

/// Says what this machine keeps k1s from.
fn note_obstacles(startup: &Startup, clock: &Clock, console: &mut Console, now: Now) {
    let unwatched = clock.watch().is_none().then(|| UNWATCHED_NOTE.to_owned());
    for note in startup.notes.iter().cloned().chain(os::obstacle()).chain(unwatched) {
        console.note(LogLevel::Warn, &note, now);
    }
    console.flush(now);
}

/// The line for stderr, in this format, that says why k1s cannot start.
pub fn error_line(format: LogFormat, error: &str) -> Vec<u8> {
    let level = LogLevel::Error;
    let message = Message::note(level, &error);
    Log { format, level }.lines(&message, os::clock::now().wall)
}

/// `k1s init` without an API logs only warnings and errors by default.
fn console_of(settings: &Live, role: &Role) -> Console {
    let is_bare = matches!(role, Role::Init { opens_port: false, .. });
    let most = if is_bare { LogLevel::Warn } else { LogLevel::Debug };
    let log = Log { format: settings.log_format, level: settings.log_level.min(most) };
    Console::new(log, settings.forward.unwrap_or(config::Forward::Prefix))
}

/// What the job needs and this machine does not have, as far as that can be seen before it runs:
/// for `k1s check`.
pub fn missing(id: &JobId, spec: &JobSpec) -> Vec<String> {
    let directory = &spec.command.working_directory;
    let file = spec.output.file.as_ref().map(|file| file.path_for(id, 1, directory));
    os::missing(&spec.command, file.as_deref())
}

fn api(settings: &Live, directory: String) -> Api {
    let api = Api::new(settings.tokens.clone(), directory, settings.time_zone.clone());
    if settings.ui { api } else { api.without_page() }
}

/// The supervisor with its first jobs: those that an earlier k1s had, those of the config, in the
/// order of the file, then the command of `init`. And what the state is stored in.
fn supervisor(
    settings: Settings,
    main: Option<(JobId, JobSpec)>,
    is_pid_1: bool,
    now: Now,
) -> Result<(Supervisor, Option<Store>, Former), String> {
    let instance = os::instance_id();
    let inherited = settings.fixed.state.as_ref().map(|state| store::open(state, &instance, now));
    let inherited = inherited.transpose()?;
    let mut supervisor = Supervisor::new(
        supervisor::Settings {
            instance,
            job_limit: settings.live.max_jobs,
            output_memory: settings.live.output_memory_bytes,
            shutdown_timeout: settings.live.shutdown_timeout,
            main: main.as_ref().map(|(id, _)| id.clone()),
        },
        now,
    );
    if is_pid_1 {
        supervisor.own_namespace();
    }
    if main.is_some() {
        init::refuse_main(&settings.jobs)?;
    }
    let jobs = settings.jobs.into_iter().map(|job| (job.id, job.spec)).collect();
    let (heritage, store, former) = match inherited {
        Some(Inherited { heritage, store, former }) => {
            supervisor.keep_state();
            (heritage, Some(store), former)
        }
        None => (Heritage::default(), None, Former::default()),
    };
    let refused = |refusal| format!("the jobs of the config: {refusal:?}");
    let most = settings.live.max_jobs;
    supervisor.restore(heritage, jobs, main, most, now).map_err(refused)?;
    Ok((supervisor, store, former))
}

/// To wake several processes at once, the kernel may let each sleep longer by a thousandth, up to
/// 0.1 s (Linux, fs/select.c, `select_estimate_accuracy`). A run due every minute would be 60 ms
/// late, so a long sleep ends that much earlier, and a short one follows.
fn punctual(wait: Duration) -> Duration {
    if wait < LONG_SLEEP { wait } else { wait - (wait / 1000).min(MOST_SLACK) }
}

fn failed(what: &'static str) -> impl Fn(io::Error) -> String {
    move |error| format!("{what}: {error}")
}

fn watch_all(
    registry: &mio::Registry,
    signals: &mut os::signals::Signals,
    sources: &[(Option<i32>, Token)],
) -> io::Result<()> {
    registry.register(signals, SIGNALS, Interest::READABLE)?;
    let mut sources = sources.iter().filter_map(|(fd, token)| Some((fd.as_ref()?, *token)));
    sources
        .try_for_each(|(fd, token)| registry.register(&mut SourceFd(fd), token, Interest::READABLE))
}

const SIGNALS: Token = Token(0);
const CHILDREN: Token = Token(1);
const CLOCK: Token = Token(2);
const STORE: Token = Token(8);
/// The first token of connections and pipes.
const FIRST_TOKEN: usize = 16;
const LONG_SLEEP: Duration = Duration::from_secs(2);
const MOST_SLACK: Duration = Duration::from_millis(100);
const UNWATCHED_NOTE: &str = "this system does not report changes of its clock: after one, runs of \
     cron expressions may be up to a minute late";
const NOTE_PAUSE: Duration = Duration::from_secs(10);
