//! The API's sockets: the listener, and every connection.
//!
//! ```text
//!   accept ─▶ Peer { socket, Connection, Later } ─▶ served a share a turn, while it is ready
//!                                                └▶ dropped: it is over, late, or makes room
//! ```
//!
//! Events are edges: a peer remembers that its socket can be read or written until the socket
//! says that it cannot.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};

use super::FIRST_TOKEN;
use crate::api::{Api, Later};
use crate::config::Http;
use crate::http::{Connection, Incoming, Limits};
use crate::os;
use crate::supervisor::Supervisor;
use crate::time::{Mono, Now};
use crate::timer::TimerWheel;

/// The token of the listening socket.
pub(super) const LISTENER: Token = Token(3);

/// Everybody who talks to the API.
#[derive(Debug)]
pub(super) struct Peers {
    listener: Option<TcpListener>,
    address: Option<SocketAddr>,
    limits: Rc<Limits>,
    api: Option<Api>,
    peers: BTreeMap<Token, Peer>,
    /// Those who have not shown the token; the oldest first.
    strangers: BTreeSet<Token>,
    /// Those whose answer waits for a job.
    waiting: BTreeSet<Token>,
    ready: VecDeque<Token>,
    /// Somebody may wait to be accepted.
    can_accept: bool,
    /// When to try again to accept, after descriptors had run out.
    accept_again: Option<Mono>,
    /// Why nobody could be accepted, until it is asked for.
    accept_error: Option<io::Error>,
    timers: TimerWheel<Token>,
    last_token: usize,
    buffer: Box<[u8]>,
}

#[derive(Debug)]
struct Peer {
    socket: TcpStream,
    connection: Connection,
    later: Option<Later>,
    can_read: bool,
    can_write: bool,
    /// Its end was told: a read that is short is not the last.
    is_read_closed: bool,
    is_ready: bool,
    is_shut: bool,
}

/// What a peer is left with after its share of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Served {
    /// It waits for an event.
    Waits,
    /// It has used up its share, and could go on.
    HasMore,
    /// It is over.
    Over,
}

impl Peers {
    /// Opens the listening socket.
    ///
    /// # Errors
    /// Why it cannot, for people.
    pub(super) fn listen(
        http: &Http,
        max_descriptors: u64,
        registry: &Registry,
    ) -> Result<Peers, String> {
        let wanted = SocketAddr::new(http.host, http.port);
        let failed = |error: io::Error| match error.kind() {
            ErrorKind::AddrInUse => {
                format!(
                    "cannot listen on {wanted}: the port is in use; another one is set by PORT or http.port"
                )
            }
            _ => format!("cannot listen on {wanted}: {error}"),
        };
        let mut listener = TcpListener::bind(wanted).map_err(failed)?;
        registry.register(&mut listener, LISTENER, Interest::READABLE).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let mut limits = http.limits.clone();
        let half = usize::try_from(max_descriptors / 2).unwrap_or(usize::MAX);
        limits.max_connections = limits.max_connections.min(half).max(1);
        Ok(Peers {
            listener: Some(listener),
            address: Some(address),
            limits: Rc::new(limits),
            can_accept: true,
            ..Peers::nobody()
        })
    }

    /// Listens to nobody.
    pub(super) fn nobody() -> Peers {
        Peers {
            listener: None,
            address: None,
            limits: Rc::default(),
            api: None,
            peers: BTreeMap::new(),
            strangers: BTreeSet::new(),
            waiting: BTreeSet::new(),
            ready: VecDeque::new(),
            can_accept: false,
            accept_again: None,
            accept_error: None,
            timers: TimerWheel::new(os::clock::now().mono),
            last_token: FIRST_TOKEN + 1,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
        }
    }

    /// Answers with this API.
    pub(super) fn serve(self, api: Api) -> Peers {
        Peers { api: Some(api), ..self }
    }

    /// The address that it listens on, as in a URL.
    pub(super) fn address(&self) -> Option<String> {
        self.address.map(|address| match address.ip() {
            IpAddr::V4(ip) => format!("{ip}:{}", address.port()),
            IpAddr::V6(ip) => format!("[{ip}]:{}", address.port()),
        })
    }

    /// Why nobody could be accepted since it was last asked.
    pub(super) fn poll_accept_error(&mut self) -> Option<io::Error> {
        self.accept_error.take()
    }

    /// Somebody waits to be accepted.
    pub(super) fn handle_listener(&mut self) {
        self.can_accept = true;
    }

    /// Something has happened to a connection, if it is still there.
    pub(super) fn handle_event(&mut self, event: &Event) {
        let Some(peer) = self.peers.get_mut(&event.token()) else { return };
        peer.can_read |= event.is_readable() || event.is_read_closed() || event.is_error();
        peer.can_write |= event.is_writable() || event.is_write_closed() || event.is_error();
        peer.is_read_closed |= event.is_read_closed();
        self.make_ready(event.token());
    }

    /// Whether there is work that no event will tell of.
    pub(super) fn has_more(&self) -> bool {
        self.can_accept || !self.ready.is_empty()
    }

    /// When [`Peers::handle_timeout`] is to be called at the latest.
    pub(super) fn poll_timeout(&self) -> Option<Mono> {
        [self.timers.next(), self.accept_again].into_iter().flatten().min()
    }

    /// Accepts whoever waits, and serves each peer that is ready a share.
    pub(super) fn serve_ready(
        &mut self,
        registry: &Registry,
        supervisor: &mut Supervisor,
        now: Now,
    ) {
        if self.can_accept {
            self.accept(registry, now);
        }
        for _ in 0..self.ready.len() {
            let Some(token) = self.ready.pop_front() else { break };
            self.serve_one(token, supervisor, now);
        }
    }

    /// Acts on deadlines that have come.
    pub(super) fn handle_timeout(&mut self, supervisor: &mut Supervisor, now: Now) {
        if self.accept_again.is_some_and(|at| at <= now.mono) {
            self.accept_again = None;
            self.can_accept = true;
        }
        while let Some(token) = self.timers.expire(now.mono) {
            if let Some(peer) = self.peers.get_mut(&token) {
                peer.connection.handle_deadline(now);
            }
            self.serve_one(token, supervisor, now);
        }
    }

    /// Jobs have changed: lets the answers go on that wait for one.
    pub(super) fn go_on_waiting(&mut self, supervisor: &mut Supervisor, now: Now) {
        for token in self.waiting.iter().copied().collect::<Vec<_>>() {
            self.serve_one(token, supervisor, now);
        }
    }

    fn make_ready(&mut self, token: Token) {
        if let Some(peer) = self.peers.get_mut(&token)
            && !std::mem::replace(&mut peer.is_ready, true)
        {
            self.ready.push_back(token);
        }
    }

    fn accept(&mut self, registry: &Registry, now: Now) {
        for _ in 0..ACCEPTS_A_TURN {
            let Some(listener) = &self.listener else { return };
            match listener.accept() {
                Ok((socket, _)) => self.welcome(socket, registry, now),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.can_accept = false;
                    return;
                }
                // The peer has gone again, or a signal came: accept(2).
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Descriptors or memory have run out: the edge is gone, so look again when a
                // connection has ended, or in a while.
                Err(error) => {
                    self.accept_error = Some(error);
                    self.can_accept = false;
                    self.accept_again = Some(now.mono + ACCEPT_PAUSE);
                    self.make_room();
                    return;
                }
            }
        }
    }

    fn welcome(&mut self, mut socket: TcpStream, registry: &Registry, now: Now) {
        while self.peers.len() >= self.limits.max_connections {
            self.make_room();
        }
        self.last_token += 2;
        let token = Token(self.last_token);
        let _ = socket.set_nodelay(true);
        if registry.register(&mut socket, token, Interest::READABLE | Interest::WRITABLE).is_err() {
            return;
        }
        let connection = Connection::new(self.limits.clone(), now);
        if let Some(at) = connection.deadline() {
            self.timers.set(token, at);
        }
        let peer = Peer {
            socket,
            connection,
            later: None,
            can_read: true,
            can_write: true,
            is_read_closed: false,
            is_ready: false,
            is_shut: false,
        };
        self.peers.insert(token, peer);
        self.strangers.insert(token);
        self.make_ready(token);
    }

    /// Drops the oldest peer that has not shown the token, else the one that is idle for longest,
    /// else the oldest.
    fn make_room(&mut self) {
        let idle = || {
            let since =
                |(token, peer): (&Token, &Peer)| Some((peer.connection.idle_since()?, *token));
            self.peers.iter().filter_map(since).min().map(|(_, token)| token)
        };
        let oldest = || self.peers.keys().next().copied();
        if let Some(token) = self.strangers.first().copied().or_else(idle).or_else(oldest) {
            self.drop_peer(token);
        }
    }

    fn drop_peer(&mut self, token: Token) {
        self.peers.remove(&token);
        self.strangers.remove(&token);
        self.waiting.remove(&token);
        self.timers.cancel(&token);
        if self.accept_again.take().is_some() {
            self.can_accept = true;
        }
    }

    fn serve_one(&mut self, token: Token, supervisor: &mut Supervisor, now: Now) {
        let (Some(peer), Some(api)) = (self.peers.get_mut(&token), &self.api) else { return };
        peer.is_ready = false;
        let mut showed_token = false;
        let served = peer.serve(api, supervisor, &mut self.buffer, &mut showed_token, now);
        if showed_token {
            self.strangers.remove(&token);
        }
        if served == Served::Over {
            return self.drop_peer(token);
        }
        let later = peer.later.as_ref();
        if later.is_some_and(Later::waits_for_a_job) {
            self.waiting.insert(token);
        } else {
            self.waiting.remove(&token);
        }
        let deadlines = [peer.connection.deadline(), later.and_then(Later::deadline)];
        match deadlines.into_iter().flatten().min() {
            Some(at) => self.timers.set(token, at),
            None => {
                self.timers.cancel(&token);
            }
        }
        if served == Served::HasMore {
            self.make_ready(token);
        }
    }
}

impl Peer {
    /// Answers what has come, writes what is to be sent, reads what there is: a share of each.
    fn serve(
        &mut self,
        api: &Api,
        supervisor: &mut Supervisor,
        buffer: &mut [u8],
        showed_token: &mut bool,
        now: Now,
    ) -> Served {
        for _ in 0..ROUNDS_A_TURN {
            let has_more = self.answer(api, supervisor, showed_token, now);
            if self.write(now).is_err() {
                return Served::Over;
            }
            if self.connection.is_finished() {
                return Served::Over;
            }
            if has_more || self.can_go_on() {
                continue;
            }
            if !self.can_read || !self.connection.wants_read() {
                return Served::Waits;
            }
            if self.read(buffer, now).is_err() {
                return Served::Over;
            }
        }
        Served::HasMore
    }

    /// Whether an answer under way has room again.
    fn can_go_on(&self) -> bool {
        matches!(self.later, Some(Later::Listing(_)))
            && self.connection.wants_output()
            && self.can_write
    }

    /// Answers requests that have come; returns whether there may be more of them.
    fn answer(
        &mut self,
        api: &Api,
        supervisor: &mut Supervisor,
        showed_token: &mut bool,
        now: Now,
    ) -> bool {
        for _ in 0..REQUESTS_A_ROUND {
            if let Some(later) = &mut self.later {
                if !later.go_on(supervisor, &mut self.connection, now) {
                    return false;
                }
                self.later = None;
            }
            let Some(incoming) = self.connection.poll(now) else { return false };
            if let Incoming::Head(head) = &incoming {
                *showed_token |= api.knows(head);
            }
            self.later = api.handle(incoming, &mut self.connection, supervisor, now);
        }
        true
    }

    /// Writes what the socket takes.
    fn write(&mut self, now: Now) -> Result<(), ()> {
        while self.can_write && !self.connection.unsent().is_empty() {
            match self.socket.write(self.connection.unsent()) {
                Ok(0) => return Err(()),
                Ok(count) => self.connection.handle_sent(count, now),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.can_write = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(()),
            }
        }
        if self.connection.wants_shutdown_write() && !std::mem::replace(&mut self.is_shut, true) {
            let _ = self.socket.shutdown(Shutdown::Write);
            self.connection.handle_shutdown_write(now);
        }
        Ok(())
    }

    /// Reads once.
    fn read(&mut self, buffer: &mut [u8], now: Now) -> Result<(), ()> {
        match self.socket.read(buffer) {
            Ok(0) => {
                self.can_read = false;
                self.connection.handle_eof();
            }
            Ok(count) => {
                // A short read empties the socket: epoll(7). Its end is told by an event.
                self.can_read = count == buffer.len() || self.is_read_closed;
                self.connection.handle_bytes(buffer.get(..count).unwrap_or_default(), now);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.can_read = false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Err(()),
        }
        Ok(())
    }
}

const BUFFER_BYTES: usize = 16 * 1024;
const ACCEPTS_A_TURN: usize = 32;
const ROUNDS_A_TURN: usize = 8;
const REQUESTS_A_ROUND: usize = 32;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
