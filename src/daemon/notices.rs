//! What runs say about themselves: by sd_notify(3) on a socket, or by a newline on a descriptor.
//!
//! ```text
//!   watch ─▶ open ─▶ ready ──▶ read, a share a turn ──▶ a newline, or its end ──▶ closed (a pipe)
//!                      ▲              │
//!                      └──────────────┘   the first process ends: the rest is read ──▶ closed
//! ```
//!
//! Everyone may send to the socket, so k1s looks at who has: the first process of the run, which
//! is known by its pid, or another of its processes, which is known by the mark of the run, its
//! session, or its ancestors. Who is gone when k1s looks is nobody's: `systemd-notify` therefore
//! waits until its message was read (`BARRIER=1`), or sends it in the name of its parent.

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use mio::event::Event;
use mio::unix::SourceFd;
use mio::unix::pipe::Receiver;
use mio::{Interest, Registry, Token};

use super::shares::{LAST_NOTICES, NOTICES_A_TURN};
use crate::job::notice::{self, Notice};
use crate::job::spec::{Check, Probe};
use crate::job::tag::RunTag;
use crate::job::{JobId, Pid};
use crate::os::notify::NotifySocket;
use crate::os::{self, Membership, Tags};
use crate::supervisor::{Launch, Purpose, RunKey, Supervisor};
use crate::time::Now;

/// All that runs report on.
#[derive(Debug)]
pub(super) struct Notices {
    sources: BTreeMap<Token, Source>,
    /// The sources of a run, by its first process.
    runs: BTreeMap<Pid, Vec<Token>>,
    /// Sources that may have more to read.
    ready: VecDeque<Token>,
    /// The first process that was refused, for each run that has refused one.
    refused: VecDeque<(JobId, RunKey, Option<Pid>)>,
    last_token: usize,
    buffer: Box<[u8]>,
}

#[derive(Debug)]
struct Source {
    run: RunKey,
    job: JobId,
    leader: Pid,
    end: End,
    is_ready: bool,
    has_refused: bool,
}

/// k1s's end of what a run reports on.
#[derive(Debug)]
enum End {
    Socket(NotifySocket),
    Pipe(Receiver),
}

/// What a run that is about to be spawned will report on. When dropped, it is no longer watched.
#[derive(Debug, Default)]
pub(super) struct Watched(Vec<(Token, End)>);

/// What a run is given to report.
#[derive(Debug, Default)]
pub(super) struct Given {
    /// Variables for its environment.
    pub(super) variables: Vec<(&'static str, String)>,
    /// A descriptor, and its number there.
    pub(super) extra: Option<(OwnedFd, RawFd)>,
}

/// The outcome of a read.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Got {
    /// These notices; there may be more.
    Notices(Vec<Notice>),
    /// A notice from a process that is none of the run's.
    Refused(Option<Pid>),
    /// Nothing for now.
    Nothing,
    /// All that there will ever be.
    Last(Option<Notice>),
}

impl Default for Notices {
    fn default() -> Notices {
        Notices {
            sources: BTreeMap::new(),
            runs: BTreeMap::new(),
            ready: VecDeque::new(),
            refused: VecDeque::new(),
            last_token: FIRST_TOKEN,
            buffer: vec![0; MOST_BYTES].into_boxed_slice(),
        }
    }
}

impl Notices {
    /// Opens what a run is to report on, if it is, and watches it.
    ///
    /// # Errors
    /// [`os::SpawnError::Shortage`].
    pub(super) fn watch(
        &mut self,
        launch: &Launch,
        instance: &str,
        registry: &Registry,
    ) -> Result<(Watched, Given), os::SpawnError> {
        let (mut watched, mut given) = (Watched::default(), Given::default());
        // A command beside a run does not report for it.
        if launch.purpose != Purpose::Run {
            return Ok((watched, given));
        }
        if launch.spec.is_notified() {
            let tag = launch.run.tag();
            let socket = NotifySocket::open(&format!("{instance}-{}.{}", tag.job, tag.run))?;
            given.variables.push(("NOTIFY_SOCKET", socket.variable.clone()));
            watched.0.push((self.next_token(), End::Socket(socket)));
        }
        if let Some(time) = launch.spec.watchdog() {
            given.variables.push(("WATCHDOG_USEC", time.as_micros().to_string()));
        }
        if let Some(Probe { check: Check::Fd { number }, .. }) = launch.spec.readiness.as_deref() {
            let (read, write) = os::pipe::reported()?;
            given.extra = Some((write, *number));
            watched.0.push((self.next_token(), End::Pipe(Receiver::from(read))));
        }
        for (token, end) in &mut watched.0 {
            let registered = match end {
                End::Socket(socket) => {
                    let fd = socket.fd.as_raw_fd();
                    registry.register(&mut SourceFd(&fd), *token, Interest::READABLE)
                }
                End::Pipe(pipe) => registry.register(pipe, *token, Interest::READABLE),
            };
            registered.map_err(|error| os::SpawnError::shortage("epoll", &error))?;
        }
        Ok((watched, given))
    }

    /// The run was spawned with it.
    pub(super) fn open(&mut self, launch: &Launch, leader: Pid, watched: Watched) {
        for (token, end) in watched.0 {
            let (run, job) = (launch.run, launch.job_id.clone());
            let source = Source { run, job, leader, end, is_ready: false, has_refused: false };
            self.sources.insert(token, source);
            self.runs.entry(leader).or_default().push(token);
        }
    }

    /// How many descriptors are open.
    pub(super) fn descriptors(&self) -> usize {
        self.sources.len()
    }

    /// Whether the event is about one of them.
    pub(super) fn handle_event(&mut self, event: &Event) -> bool {
        let Some(source) = self.sources.get_mut(&event.token()) else { return false };
        if !std::mem::replace(&mut source.is_ready, true) {
            self.ready.push_back(event.token());
        }
        true
    }

    /// Whether there is something to read for which no event will come.
    pub(super) fn has_more(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Reads what is ready, one after another, up to the share of a turn.
    pub(super) fn read(&mut self, tags: &Tags, supervisor: &mut Supervisor, now: Now) {
        for _ in 0..NOTICES_A_TURN {
            let Some(token) = self.ready.pop_front() else { return };
            if self.read_once(token, tags, supervisor, now) {
                self.ready.push_back(token);
            } else if let Some(source) = self.sources.get_mut(&token) {
                source.is_ready = false;
            }
        }
    }

    /// The first process of a run has ended: reads what it has said last, and closes what it has
    /// reported on.
    pub(super) fn finish(
        &mut self,
        leader: Pid,
        tags: &Tags,
        supervisor: &mut Supervisor,
        now: Now,
    ) {
        for token in self.runs.remove(&leader).unwrap_or_default() {
            for _ in 0..LAST_NOTICES {
                if !self.read_once(token, tags, supervisor, now) {
                    break;
                }
            }
            self.sources.remove(&token);
        }
    }

    /// A run that has refused a notice for the first time, and who has sent it: a process that is
    /// none of the run's, or is gone.
    pub(super) fn poll_refused(&mut self) -> Option<(JobId, RunKey, Option<Pid>)> {
        self.refused.pop_front()
    }

    /// Reads once, and tells the supervisor; returns whether there may be more.
    fn read_once(
        &mut self,
        token: Token,
        tags: &Tags,
        supervisor: &mut Supervisor,
        now: Now,
    ) -> bool {
        let Some(source) = self.sources.get_mut(&token) else { return false };
        let run = source.run;
        match source.read(&mut self.buffer, tags) {
            Got::Notices(notices) => {
                for notice in notices {
                    supervisor.handle_notice(run, notice, now);
                }
                true
            }
            Got::Refused(sender) => {
                if !std::mem::replace(&mut source.has_refused, true) {
                    self.refused.push_back((source.job.clone(), run, sender));
                }
                true
            }
            Got::Nothing => false,
            Got::Last(notice) => {
                self.sources.remove(&token);
                if let Some(notice) = notice {
                    supervisor.handle_notice(run, notice, now);
                }
                false
            }
        }
    }

    fn next_token(&mut self) -> Token {
        self.last_token += 1;
        Token(self.last_token)
    }
}

impl Source {
    fn read(&mut self, buffer: &mut [u8], tags: &Tags) -> Got {
        loop {
            let got = match &mut self.end {
                End::Socket(socket) => os::notify::receive(&socket.fd, buffer).map(|datagram| {
                    let text = datagram.length.and_then(|length| buffer.get(..length));
                    let notices = notice::parse(text.unwrap_or_default());
                    let sender = datagram.sender;
                    let is_ours = |pid| is_of_run(pid, self.run.tag(), self.leader, tags);
                    // `BARRIER=1` says nothing, and its sender may be gone as soon as it is read.
                    if !notices.is_empty() && !sender.is_some_and(is_ours) {
                        return Got::Refused(sender);
                    }
                    Got::Notices(notices)
                }),
                End::Pipe(pipe) => pipe.read(buffer).map(|length| match buffer.get(..length) {
                    Some([]) | None => Got::Last(None),
                    Some(bytes) if bytes.contains(&b'\n') => Got::Last(Some(Notice::Newline)),
                    Some(_) => Got::Notices(Vec::new()),
                }),
            };
            return match (got, &self.end) {
                (Ok(got), _) => got,
                (Err(error), _) if error.kind() == ErrorKind::Interrupted => continue,
                (Err(error), _) if error.kind() == ErrorKind::WouldBlock => Got::Nothing,
                // A shortage of memory: the next datagram causes an event.
                (Err(_), End::Socket(_)) => Got::Nothing,
                (Err(_), End::Pipe(_)) => Got::Last(None),
            };
        }
    }
}

/// Whether a process is of the run. What its mark says counts more than where it is.
fn is_of_run(sender: Pid, run: RunTag, leader: Pid, tags: &Tags) -> bool {
    if sender == leader {
        return true;
    }
    let Some(stat) = os::stat_of(sender) else { return false };
    match tags.read(&stat) {
        Membership::Run(tag) => tag == Tags::short(run),
        Membership::Unknown | Membership::Hidden => {
            stat.session == leader || descends_from(stat.parent, leader)
        }
    }
}

/// Whether `ancestor` is this process or above it.
fn descends_from(process: Pid, ancestor: Pid) -> bool {
    let parent = |pid: &Pid| os::stat_of(*pid).map(|stat| stat.parent);
    let mut line = std::iter::successors(Some(process), parent).take(MOST_ANCESTORS);
    line.any(|pid| pid == ancestor)
}

/// More than any process has.
const MOST_ANCESTORS: usize = 64;
/// As systemd: a longer datagram says nothing.
const MOST_BYTES: usize = 4096;
/// Far above all tokens of connections and pipes, which count up, too.
const FIRST_TOKEN: usize = 1 << (usize::BITS - 2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Signal;
    use crate::os::signalling::signal_process;
    use crate::os::testing::{in_own_process, shell, spawn_with_child, spawner, wait};

    /// The processes of a shell that has a child, in a session of its own or not.
    #[test]
    fn processes_are_known_by_mark_by_session_and_by_descent() {
        let name = "daemon::notices::tests::processes_are_known_by_mark_by_session_and_by_descent";
        in_own_process(name, || {
            let tags = Tags::new("k");
            let (run, other) = (RunTag { job: 1, run: 1 }, RunTag { job: 1, run: 2 });
            for (mark, command) in [
                (tags.mark(run), "setsid sleep 1000 & echo $!; exec sleep 1000"),
                (None, "sleep 1000 & echo $!; exec sleep 1000"),
                (None, "setsid sleep 1000 & echo $!; exec sleep 1000"),
            ] {
                let (leader, child) = spawn_with_child(&mut spawner(), &shell(command), mark);
                let is_of = |tag, leader| is_of_run(child, tag, leader, &tags);
                assert!(is_of(run, leader) && is_of_run(leader, run, leader, &tags), "{command}");
                assert_eq!(is_of(other, leader), mark.is_none(), "a mark counts more");
                let stranger = os::own_pid();
                assert!(!is_of_run(stranger, run, leader, &tags));
                assert!(!is_of(other, Pid(i32::MAX)), "{command}");
                // A shell would reap it; what the shell executes does not.
                let name = || std::fs::read_to_string(format!("/proc/{}/comm", leader.0)).unwrap();
                while name() != "sleep\n" {
                    std::thread::yield_now();
                }
                assert!(signal_process(child, Signal::KILL));
                while !os::stat_of(child).unwrap().is_dead {
                    std::thread::yield_now();
                }
                assert!(is_of(run, leader), "who has ended and was not reaped is known");
                assert!(signal_process(leader, Signal::KILL));
                wait(leader);
            }
        });
    }
}
