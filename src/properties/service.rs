//! k1s as a peer sees it, without sockets and processes.
//!
//! ```text
//!   bytes ─▶ Connection ─▶ Api ─▶ Supervisor ─▶ every second spawn succeeds, and every signal
//!   bytes ◀─ Connection ◀── (Pending) ◀──┘        that ends a process does so at once
//! ```

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use crate::access::{Access, Caller, Digest, Origin, Scope, Tokens, Visible};
use crate::api::{Api, Pending};
use crate::http::properties::{check_answers, without_interim};
use crate::http::{Connection, Head, Incoming, Limits, Method};
use crate::job::{ExitStatus, Pid, Signal, SpawnFailure, Stream};
use crate::supervisor::{Action, JobKey, Left, ReloadError, Settings, Supervisor, Target, Vitals};
use crate::time::{Mono, Now, Wall};

/// An API with the token `t`, which may do everything, and `r`, `u` and `a`, which may read, run and
/// do everything, for jobs other than `z…`.
pub(super) struct Service {
    pub(super) supervisor: Supervisor,
    api: Api,
    pub(super) now: Now,
    spawns: i32,
    pub(super) alive: BTreeSet<Pid>,
}

/// The connection of one client.
pub(super) struct Peer {
    pub(super) connection: Connection,
    /// Who has sent the request that is being answered.
    caller: Caller,
    pub(super) pending: Option<Pending>,
    /// The heads of its requests.
    pub(super) heads: Vec<Head>,
    answers: Vec<u8>,
}

impl Default for Service {
    fn default() -> Service {
        Service::of_jobs(2)
    }
}

impl Service {
    /// It may have so many jobs.
    pub(super) fn of_jobs(job_limit: usize) -> Service {
        let now = Now { mono: Mono(1_000), wall: Wall(1_774_656_000_000) };
        let settings = Settings {
            instance: "k".into(),
            job_limit,
            output_memory: OUTPUT_MEMORY,
            shutdown_timeout: Duration::from_secs(9),
            main: None,
        };
        Service {
            supervisor: Supervisor::new(settings, now),
            api: Api::new(tokens(), DIRECTORY.into(), "UTC".into()),
            now,
            spawns: 0,
            alive: BTreeSet::new(),
        }
    }

    /// A new client.
    pub(super) fn connect(&self) -> Peer {
        Peer {
            connection: Connection::new(Rc::new(Limits::default()), self.now),
            caller: Caller::Stranger,
            pending: None,
            heads: Vec::new(),
            answers: Vec::new(),
        }
    }

    /// Serves a client that sends these bytes until it has all answers; returns the status and the
    /// body of each.
    pub(super) fn talk(&mut self, bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
        let mut peer = self.connect();
        let mut rest = bytes;
        while !rest.is_empty() && !peer.connection.is_finished() {
            if peer.connection.wants_read() {
                let (piece, after) = rest.split_at(rest.len().min(PIECE));
                peer.connection.handle_bytes(piece, self.now);
                rest = after;
            }
            self.serve(&mut peer);
        }
        peer.connection.handle_eof();
        while !peer.connection.is_finished() {
            self.serve(&mut peer);
        }
        peer.answers()
    }

    /// One turn; if there is nothing to do, time passes.
    fn serve(&mut self, peer: &mut Peer) {
        let is_idle = !self.advance(peer, usize::MAX);
        self.forget_departed(peer.pending.as_ref().and_then(Pending::reads_output_of));
        if is_idle && !peer.connection.is_finished() && !may_read(&peer.connection) {
            let pending = peer.pending.as_ref();
            let deadlines = [
                peer.connection.deadline(),
                pending.and_then(|pending| pending.want().deadline()),
                self.supervisor.poll_timeout(),
            ];
            let Some(next) = deadlines.into_iter().flatten().min() else {
                unreachable!("waits for ever: {:?}", peer.connection);
            };
            self.sleep(next.since(self.now.mono));
            peer.connection.handle_deadline(self.now);
        }
    }

    /// Jobs that are gone are forgotten, unless somebody reads this one.
    pub(super) fn forget_departed(&mut self, read: impl IntoIterator<Item = JobKey>) {
        let read: BTreeSet<JobKey> = read.into_iter().collect();
        self.supervisor.forget_departed(|job| read.contains(&job));
    }

    /// Input, pending answers, output, of which the client takes so much. Returns whether there was
    /// anything to do.
    pub(super) fn advance(&mut self, peer: &mut Peer, takes: usize) -> bool {
        let Peer { connection, caller, pending, heads, answers } = peer;
        let mut is_idle = true;
        while pending.is_none()
            && let Some(incoming) = connection.poll(self.now)
        {
            if let Incoming::Head(head) = &incoming {
                heads.push(head.clone());
                *caller = self.api.identify(head, Origin::Network);
            }
            let supervisor = &mut self.supervisor;
            *pending = self.api.handle(incoming, caller, connection, supervisor, self.now);
            self.perform();
            is_idle = false;
        }
        let is_answered =
            |waiting: &mut Pending| waiting.go_on(&self.supervisor, connection, self.now);
        if pending.as_mut().is_some_and(is_answered) {
            *pending = None;
            is_idle = false;
        }
        let unsent = connection.unsent().len();
        if unsent > 0 {
            let taken = unsent.min(takes);
            answers.extend_from_slice(connection.unsent().get(..taken).unwrap_or_default());
            connection.handle_sent(taken, self.now);
            is_idle &= taken == 0;
        } else if connection.wants_shutdown_write() {
            connection.handle_shutdown_write(self.now);
            is_idle = false;
        }
        !is_idle
    }

    /// Time passes.
    pub(super) fn sleep(&mut self, time: Duration) {
        let slept = time.as_millis() as u64;
        self.now.mono.0 += slept;
        self.now.wall.0 += slept as i64;
        self.supervisor.handle_timeout(self.now);
        self.perform();
    }

    /// Does what the supervisor wants, but not without limit, because a job may be restarted at
    /// once.
    pub(super) fn perform(&mut self) {
        while let Some(reload) = self.supervisor.poll_reload() {
            let outcome = Err(ReloadError::Config("there is no config".into()));
            self.supervisor.handle_reloaded(reload.number, outcome);
        }
        for _ in 0..MOST_ACTIONS {
            if let Some(action) = self.supervisor.poll_action() {
                self.act(action);
            } else if let Some(launch) = self.supervisor.poll_spawn() {
                self.spawns += 1;
                if self.spawns % 2 == 0 {
                    let failure = SpawnFailure { exit_code: 127, error: "gone".into() };
                    self.supervisor.handle_spawn_failed(launch, failure, self.now);
                } else {
                    let pid = Pid(self.spawns);
                    self.alive.insert(pid);
                    let run = launch.run;
                    self.supervisor.handle_spawned(launch, pid, self.now);
                    self.supervisor.handle_output(run, Stream::Stdout, b"\xffout\n", self.now);
                }
            } else {
                return;
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Signal { target, signal } | Action::Stop { target, signal } => {
                let pid = match target {
                    Target::Process(pid) | Target::Group(pid) => Some(pid),
                    Target::Tree { leader, .. } => leader,
                };
                let Some(pid) = pid.filter(|_| [Signal::TERM, Signal::KILL].contains(&signal))
                else {
                    return;
                };
                if self.alive.remove(&pid) {
                    self.supervisor.handle_exit(pid, ExitStatus::Signal(signal), false, self.now);
                }
            }
            Action::Probe { key, .. } => {
                self.supervisor.handle_probe(key, Ok("well".to_owned()), self.now);
            }
            Action::EndProbe { .. } => {}
            Action::Rest { .. } => self.supervisor.handle_rest(false, self.now),
            Action::Survey { run, .. } => {
                self.supervisor.handle_survey(run, Left::Nothing, self.now)
            }
            Action::Glance { run, .. } => self.supervisor.handle_group_gone(run, self.now),
            Action::Measure => self.supervisor.handle_measured(Vitals::default()),
            Action::ReopenLogFiles { number } => {
                self.supervisor.handle_log_files_reopened(number, 0);
            }
            Action::Exit { .. } => {}
        }
    }
}

impl Peer {
    /// The status and the body of each answer.
    pub(super) fn answers(&self) -> Vec<(u16, Vec<u8>)> {
        let methods: Vec<Method> = self.heads.iter().map(|head| head.method).collect();
        check_answers(&without_interim(&self.answers), &methods)
    }
}

fn tokens() -> Tokens {
    let mut tokens = Tokens::of_admin(b"t");
    let visible =
        Visible::matching(("abcdefghijklmnopqrstuvwxy".chars()).map(|c| format!("{c}*")).collect());
    for (secret, scope) in [(b"r", Scope::Read), (b"u", Scope::Run), (b"a", Scope::Admin)] {
        let access = Access::of_token(scope.name(), Digest::of(secret), scope, visible.clone());
        assert_eq!(tokens.add(access), Ok(()));
    }
    tokens
}

/// Whether there may be more to read before time passes.
fn may_read(connection: &Connection) -> bool {
    connection.wants_read() && !connection.is_half_closed()
}

/// k1s's own working directory.
pub(super) const DIRECTORY: &str = "/srv";
/// The most memory for captured output.
pub(super) const OUTPUT_MEMORY: usize = 1 << 20;
/// How much is read at a time.
const PIECE: usize = 1000;
const MOST_ACTIONS: usize = 100;
