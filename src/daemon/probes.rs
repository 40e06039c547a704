//! Attempts of probes by HTTP and TCP: each is a connection of its own.
//!
//! ```text
//!   ask ─▶ asked ─▶ connecting ─▶ writing ─▶ reading ─▶ leaving ─▶ closed
//!                       │ tcp         http      │ the status is told
//!                       └─▶ told, closed        └─▶ the rest is dropped until the peer closes
//! ```
//!
//! How long an attempt may take is for the supervisor to say: [`Probes::end`]. A connection that is
//! closed with something unread is reset, which servers complain about; so k1s reads on for a while
//! after the status was told.
//!
//! Attempts leave descriptors for everything else. One that has none, or no memory, has failed
//! because of this machine: it counts neither as a success nor as a failure.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::shares::{PROBES_A_TURN, PROBES_BEGUN_A_TURN};
use crate::http::client::{self, Answer};
use crate::job::spec::Check;
use crate::os;
use crate::supervisor::{ProbeKey, Supervisor};
use crate::time::Now;

/// All attempts that are being made.
#[derive(Debug)]
pub(super) struct Probes {
    /// What is to be asked, and in which order. One that was given up meanwhile is only in `order`.
    asked: BTreeMap<ProbeKey, Check>,
    order: VecDeque<ProbeKey>,
    attempts: BTreeMap<Token, Attempt>,
    /// Those that have not been told of.
    going: BTreeMap<ProbeKey, Token>,
    /// Those that have, and whose peers have not closed their sides.
    leaving: BTreeMap<ProbeKey, Token>,
    /// Attempts to which something has happened.
    ready: VecDeque<Token>,
    /// How many attempts there may be now.
    room: usize,
    last_token: usize,
    has_freed: bool,
    buffer: Box<[u8]>,
}

#[derive(Debug)]
struct Attempt {
    key: ProbeKey,
    socket: TcpStream,
    stage: Stage,
    is_ready: bool,
}

#[derive(Debug)]
enum Stage {
    /// What follows depends on the question.
    Connecting(Question),
    /// So much of the request was written.
    Writing { request: Request, written: usize },
    /// The statuses that are good, and what was read of the answer.
    Reading { good: RangeInclusive<u16>, answer: Answer },
    /// So much of the rest was dropped.
    Leaving(usize),
}

#[derive(Debug)]
enum Question {
    /// Whether someone listens.
    Connect,
    /// What the answer is.
    Get(Request),
}

#[derive(Debug)]
struct Request {
    bytes: Vec<u8>,
    good: RangeInclusive<u16>,
}

/// The outcome of a step.
#[derive(Debug)]
enum Step {
    /// The next one can be made at once.
    Next(Stage),
    /// It waits for an event.
    Waits(Stage),
    /// It was found out, and the peer may still have something to say.
    Told(Result<String, String>),
    /// It was found out, and is over.
    Ends(Result<String, String>),
    /// It is over.
    Over,
}

impl Default for Probes {
    fn default() -> Probes {
        Probes {
            asked: BTreeMap::new(),
            order: VecDeque::new(),
            attempts: BTreeMap::new(),
            going: BTreeMap::new(),
            leaving: BTreeMap::new(),
            ready: VecDeque::new(),
            room: 0,
            last_token: FIRST_TOKEN,
            has_freed: false,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
        }
    }
}

impl Probes {
    /// An attempt is to be made: [`Probes::serve`] makes it.
    pub(super) fn ask(&mut self, key: ProbeKey, check: Check) {
        self.asked.insert(key, check);
        self.order.push_back(key);
    }

    /// The attempt is given up; nothing is told of it any more.
    pub(super) fn end(&mut self, key: ProbeKey) {
        self.asked.remove(&key);
        if let Some(token) = self.going.remove(&key) {
            self.close(token);
        }
    }

    /// Everything else uses so many of the descriptors that k1s may have.
    pub(super) fn leave_room(&mut self, max_descriptors: usize, used: usize) {
        self.room = max_descriptors.saturating_sub(KEPT_DESCRIPTORS + used);
    }

    /// How many descriptors are open.
    pub(super) fn descriptors(&self) -> usize {
        self.attempts.len()
    }

    /// Whether a descriptor was freed since this was last asked.
    pub(super) fn take_freed(&mut self) -> bool {
        std::mem::take(&mut self.has_freed)
    }

    /// Whether the event is about one of the attempts.
    pub(super) fn handle_event(&mut self, event: &Event) -> bool {
        let Some(attempt) = self.attempts.get_mut(&event.token()) else { return false };
        if !std::mem::replace(&mut attempt.is_ready, true) {
            self.ready.push_back(event.token());
        }
        true
    }

    /// Whether there is something to do for which no event will come.
    pub(super) fn has_more(&self) -> bool {
        !self.order.is_empty() || !self.ready.is_empty()
    }

    /// Begins attempts, and goes on with those that are ready, up to the shares of a turn.
    pub(super) fn serve(&mut self, registry: &Registry, supervisor: &mut Supervisor, now: Now) {
        for _ in 0..PROBES_BEGUN_A_TURN {
            let Some(key) = self.order.pop_front() else { break };
            let Some(check) = self.asked.remove(&key) else { continue };
            self.begin(key, &check, registry, supervisor, now);
        }
        for _ in 0..PROBES_A_TURN {
            let Some(token) = self.ready.pop_front() else { break };
            self.go_on(token, supervisor, now);
        }
    }

    fn begin(
        &mut self,
        key: ProbeKey,
        check: &Check,
        registry: &Registry,
        supervisor: &mut Supervisor,
        now: Now,
    ) {
        let Some((address, question)) = question(check) else { return };
        if let Some(token) = self.leaving.remove(&key) {
            self.close(token);
        }
        if self.attempts.len() >= self.room {
            return supervisor.handle_probe_deferred(key, now);
        }
        let token = Token(self.last_token + 1);
        let connected = TcpStream::connect(address).and_then(|mut socket| {
            registry.register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
            Ok(socket)
        });
        match connected {
            Ok(socket) => {
                self.last_token += 1;
                let stage = Stage::Connecting(question);
                self.attempts.insert(token, Attempt { key, socket, stage, is_ready: false });
                self.going.insert(key, token);
            }
            Err(error) if os::socket::is_shortage(&error) => {
                supervisor.handle_probe_deferred(key, now);
            }
            Err(error) => supervisor.handle_probe(key, Err(said(&error)), now),
        }
    }

    /// Makes the next step of an attempt, if it is still there.
    fn go_on(&mut self, token: Token, supervisor: &mut Supervisor, now: Now) {
        let Some(attempt) = self.attempts.get_mut(&token) else { return };
        attempt.is_ready = false;
        let stage = std::mem::replace(&mut attempt.stage, Stage::Leaving(0));
        let key = attempt.key;
        match attempt.step(stage, &mut self.buffer) {
            Step::Next(stage) => {
                (attempt.stage, attempt.is_ready) = (stage, true);
                self.ready.push_back(token);
            }
            Step::Waits(stage) => attempt.stage = stage,
            Step::Told(answer) => {
                attempt.is_ready = true;
                self.ready.push_back(token);
                self.going.remove(&key);
                self.leave(key, token);
                supervisor.handle_probe(key, answer, now);
            }
            Step::Ends(answer) => {
                self.going.remove(&key);
                self.close(token);
                supervisor.handle_probe(key, answer, now);
            }
            Step::Over => {
                self.leaving.remove(&key);
                self.close(token);
            }
        }
    }

    /// Lets the peer say the rest, and makes room for that.
    fn leave(&mut self, key: ProbeKey, token: Token) {
        self.leaving.insert(key, token);
        let oldest = self.leaving.iter().min_by_key(|(_, token)| **token);
        if self.leaving.len() > MOST_LEAVING
            && let Some((key, token)) = oldest.map(|(key, token)| (*key, *token))
        {
            self.leaving.remove(&key);
            self.close(token);
        }
    }

    fn close(&mut self, token: Token) {
        self.has_freed |= self.attempts.remove(&token).is_some();
    }
}

impl Attempt {
    fn step(&mut self, stage: Stage, buffer: &mut [u8]) -> Step {
        match stage {
            Stage::Connecting(question) => self.connect(question),
            Stage::Writing { request, written } => self.write(request, written),
            Stage::Reading { good, answer } => self.read(good, answer, buffer),
            Stage::Leaving(dropped) => self.drop_rest(dropped, buffer),
        }
    }

    fn connect(&self, question: Question) -> Step {
        if let Some(error) = self.socket.take_error().unwrap_or_else(Some) {
            return Step::Ends(Err(said(&error)));
        }
        let peer = match self.socket.peer_addr() {
            Ok(peer) => peer,
            Err(error) if error.kind() == ErrorKind::NotConnected => {
                return Step::Waits(Stage::Connecting(question));
            }
            Err(error) => return Step::Ends(Err(said(&error))),
        };
        if is_its_own(&self.socket, peer) {
            return Step::Ends(Err("connected to itself: nobody listens there".to_owned()));
        }
        match question {
            Question::Connect => Step::Ends(Ok("connected".to_owned())),
            Question::Get(request) => Step::Next(Stage::Writing { request, written: 0 }),
        }
    }

    fn write(&mut self, request: Request, written: usize) -> Step {
        let rest = request.bytes.get(written..).unwrap_or_default();
        match self.socket.write(rest) {
            Ok(count) if count < rest.len() => {
                Step::Next(Stage::Writing { request, written: written + count })
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                Step::Waits(Stage::Writing { request, written })
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                Step::Next(Stage::Writing { request, written })
            }
            // After an error there may still be an answer.
            Ok(_) | Err(_) => {
                Step::Next(Stage::Reading { good: request.good, answer: Answer::default() })
            }
        }
    }

    fn read(&mut self, good: RangeInclusive<u16>, mut answer: Answer, buffer: &mut [u8]) -> Step {
        let bytes = match self.socket.read(buffer) {
            Ok(0) => return Step::Ends(Err(answer.handle_eof().to_owned())),
            Ok(count) => buffer.get(..count).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Step::Waits(Stage::Reading { good, answer });
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                return Step::Next(Stage::Reading { good, answer });
            }
            Err(error) => return Step::Ends(Err(said(&error))),
        };
        match answer.handle_bytes(bytes) {
            None => Step::Next(Stage::Reading { good, answer }),
            Some(Ok(status)) if good.contains(&status) => {
                Step::Told(Ok(format!("status {status}")))
            }
            Some(Ok(status)) => {
                let (first, last) = (good.start(), good.end());
                Step::Told(Err(match first == last {
                    true => format!("status {status}, not {first}"),
                    false => format!("status {status}, not {first} to {last}"),
                }))
            }
            Some(Err(error)) => Step::Ends(Err(error)),
        }
    }

    fn drop_rest(&mut self, dropped: usize, buffer: &mut [u8]) -> Step {
        match self.socket.read(buffer) {
            Ok(count) if count > 0 && dropped + count < MOST_DROPPED => {
                Step::Next(Stage::Leaving(dropped + count))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                Step::Waits(Stage::Leaving(dropped))
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                Step::Next(Stage::Leaving(dropped))
            }
            Ok(_) | Err(_) => Step::Over,
        }
    }
}

/// Whether a socket is connected to itself. The kernel may give it the very port that it connects
/// to, if that is free and in the range for clients.
fn is_its_own(socket: &TcpStream, peer: SocketAddr) -> bool {
    socket.local_addr().is_ok_and(|own| own == peer)
}

/// Where to connect to, and what to do then; `None` for kinds that need no connection.
fn question(check: &Check) -> Option<(SocketAddr, Question)> {
    match check {
        Check::Tcp(tcp) => Some((tcp.address, Question::Connect)),
        Check::Http { url, status } => {
            let bytes = client::get(&url.host, &url.target);
            Some((url.address, Question::Get(Request { bytes, good: status.clone() })))
        }
        Check::Exec { .. } | Check::Log { .. } | Check::Notify | Check::Fd { .. } => None,
    }
}

/// What went wrong, for people.
fn said(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        ErrorKind::ConnectionReset => "connection reset".to_owned(),
        ErrorKind::BrokenPipe => "closed without an answer".to_owned(),
        _ => os::reason_of(error),
    }
}

/// How much is read at a time.
const BUFFER_BYTES: usize = 4096;
/// How much of the rest is read after the status was told.
const MOST_DROPPED: usize = 64 * 1024;
/// How many connections may wait for their peers to close them.
const MOST_LEAVING: usize = 32;
/// Descriptors for k1s itself, for spawning and for a few clients of the API.
const KEPT_DESCRIPTORS: usize = 32;
/// Far above all tokens of connections and pipes, which count up, too.
const FIRST_TOKEN: usize = 1 << (usize::BITS - 1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::testing::connected_to_itself;

    /// While nobody listens on such a port, one attempt in 28,000 would find itself there.
    #[test]
    fn a_connection_to_itself_is_known() {
        let socket = TcpStream::from_std(connected_to_itself());
        assert!(is_its_own(&socket, socket.peer_addr().unwrap()));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let socket = TcpStream::from_std(socket);
        assert!(!is_its_own(&socket, socket.peer_addr().unwrap()));
    }

    #[test]
    fn attempts_leave_room_for_everything_else() {
        let mut probes = Probes::default();
        for (max, used, room) in [(0, 0, 0), (32, 0, 0), (40, 5, 3), (1024, 2000, 0)] {
            probes.leave_room(max, used);
            assert_eq!(probes.room, room);
        }
    }
}
