//! The connections of the API.
//!
//! ```text
//!   accept ─▶ Peer { socket, Connection, Pending } ─▶ served a share a turn, while it is ready
//!                                                  └▶ dropped: at its end, when it is late, or to
//!                                                     make room
//! ```
//!
//! Peers with long answers, with requests that take much work, and followers are in a queue of
//! their own, so that other requests are answered at once, however much of that is going on. Each
//! queue has a share of a turn.
//!
//! Events are edge-triggered: a peer remembers that its socket can be read or written until the
//! socket says that it cannot.
//!
//! Descriptors are shared with the jobs. Connections may use at most half of them, and leave some
//! for spawning. One more is reserved, so that the owner of the token can still connect when jobs
//! have taken all others.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use mio::event::Event;
use mio::{Registry, Token};

use super::FIRST_TOKEN;
use super::shares::FLOW_WINDOW;
use super::sockets::{Listeners, Socket};
use crate::access::{Caller, Origin};
use crate::api::{Api, Pending, Refused, Want};
use crate::http::{Connection, Incoming, Limits};
use crate::os;
use crate::supervisor::{JobKey, Supervisor, Topic};
use crate::time::{Mono, Now};
use crate::timer::TimerWheel;

/// All clients of the API.
#[derive(Debug)]
pub(super) struct Peers {
    listeners: Listeners,
    limits: Rc<Limits>,
    /// How many descriptors k1s may have, for everything.
    max_descriptors: usize,
    /// How many connections there may be now.
    room: usize,
    /// A reserved descriptor, closed to accept a peer when there is no other.
    reserve: Option<OwnedFd>,
    api: Api,
    peers: BTreeMap<Token, Peer>,
    /// How many connections were ever accepted.
    accepted: u64,
    /// A descriptor was freed since this was last asked.
    has_freed: bool,
    /// Peers that have not sent the token, the oldest first.
    strangers: BTreeSet<Token>,
    /// The topics that answers wait for.
    interest: BTreeSet<(Topic, Token)>,
    /// Peers to which something has happened.
    ready: VecDeque<Token>,
    /// Peers with a long answer, or that have used up a share; new requests need not wait for them.
    backlog: VecDeque<Token>,
    /// How many more bytes may be written for them. If negative, so many were written too much, and
    /// are taken from the next turn.
    backlog_balance: isize,
    /// When to look again whether jobs write less, for which they wait.
    backlog_held_until: Option<Mono>,
    /// When to try to accept again, after descriptors had run out.
    accept_again: Option<Mono>,
    /// Why accepting failed, until this is asked.
    accept_error: Option<io::Error>,
    timers: TimerWheel<Token>,
    last_token: usize,
    buffer: Box<[u8]>,
}

#[derive(Debug)]
struct Peer {
    socket: Socket,
    origin: Origin,
    connection: Connection,
    pending: Option<Pending>,
    /// A request that takes much work, and waits for its turn.
    postponed: Option<Incoming>,
    /// The topic that its answer waits for.
    awaits: Option<Topic>,
    /// Who has sent the request that is being answered.
    caller: Caller,
    /// It has sent the token, or needs none.
    is_known: bool,
    can_read: bool,
    can_write: bool,
    /// An event has reported its end: after a short read there is more to read.
    is_read_closed: bool,
    /// The connection was reset, or failed otherwise.
    is_broken: bool,
    /// It was probed whether it is still there.
    is_probed: bool,
    /// It is in the queue of peers that are ready.
    is_ready: bool,
    is_shut: bool,
}

/// The state of a peer after its share of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Served {
    /// It waits for an event.
    Waits,
    /// It has used up its share, and can go on.
    HasMore,
    /// It is over.
    Over,
}

impl Peers {
    /// Of these listeners. k1s may have so many descriptors open, for everything.
    pub(super) fn of(
        listeners: Listeners,
        api: Api,
        limits: &Limits,
        max_descriptors: u64,
    ) -> Peers {
        let reserve = listeners.any().and_then(|it| os::socket::reserve_descriptor(it).ok());
        let mut peers = Peers {
            listeners,
            limits: Rc::new(limits.clone()),
            max_descriptors: usize::try_from(max_descriptors).unwrap_or(usize::MAX),
            room: 0,
            reserve,
            api,
            peers: BTreeMap::new(),
            accepted: 0,
            has_freed: false,
            strangers: BTreeSet::new(),
            interest: BTreeSet::new(),
            ready: VecDeque::new(),
            backlog: VecDeque::new(),
            backlog_balance: 0,
            backlog_held_until: None,
            accept_again: None,
            accept_error: None,
            timers: TimerWheel::new(os::clock::now().mono),
            last_token: FIRST_TOKEN + 1,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
        };
        peers.leave_room(0);
        peers
    }

    /// From now on answers with this API, and new connections have these limits.
    /// Who may not do any more what they could sees no more of what they asked for.
    pub(super) fn adopt(&mut self, api: Api, limits: &Limits) {
        let mut dropped = Vec::new();
        for (token, peer) in &mut self.peers {
            if !api.still_grants(&peer.caller) {
                self.strangers.insert(*token);
                if peer.forget() {
                    dropped.push(*token);
                }
            }
        }
        dropped.into_iter().for_each(|token| self.drop_peer(token));
        self.api = api;
        self.limits = Rc::new(limits.clone());
    }

    /// Requests that were refused because of what who asked may do, since this was last asked.
    pub(super) fn poll_refused(&self) -> Option<Refused> {
        self.api.poll_refused()
    }

    /// The address that they connect to, as in a URL.
    pub(super) fn address(&self) -> Option<String> {
        self.listeners.address()
    }

    /// The path of the unix socket.
    pub(super) fn path(&self) -> Option<&Path> {
        self.listeners.path()
    }

    /// How many descriptors k1s may have open.
    pub(super) fn max_descriptors(&self) -> usize {
        self.max_descriptors
    }

    /// The number of open connections.
    pub(super) fn connections(&self) -> usize {
        self.peers.len()
    }

    /// The number of connections that were ever accepted.
    pub(super) fn accepted(&self) -> u64 {
        self.accepted
    }

    /// The size of the buffers of all connections, in bytes.
    pub(super) fn buffer_bytes(&self) -> usize {
        self.peers.values().map(|peer| peer.connection.buffer_bytes()).sum()
    }

    /// The number of timers that are set.
    pub(super) fn timers(&self) -> usize {
        self.timers.count()
    }

    /// Why accepting has failed since this was last asked.
    pub(super) fn poll_accept_error(&mut self) -> Option<io::Error> {
        self.accept_error.take()
    }

    /// Whether a connection has ended, and freed its descriptor, since this was last asked.
    pub(super) fn take_freed(&mut self) -> bool {
        std::mem::take(&mut self.has_freed)
    }

    /// There is a peer to accept on the listener with this token.
    pub(super) fn handle_listener(&mut self, token: Token) {
        self.listeners.handle_event(token);
    }

    /// Something has happened to a connection, if it is still there.
    pub(super) fn handle_event(&mut self, event: &Event) {
        let Some(peer) = self.peers.get_mut(&event.token()) else { return };
        peer.can_read |= event.is_readable() || event.is_read_closed() || event.is_error();
        peer.can_write |= event.is_writable() || event.is_write_closed() || event.is_error();
        if event.is_read_closed() {
            peer.is_read_closed = true;
            // While its requests wait for an answer to be sent, neither they nor its end are read.
            peer.connection.handle_half_closed();
        }
        peer.is_broken |= event.is_error();
        self.make_ready(event.token());
    }

    /// Whether there is work for which no event will come.
    pub(super) fn has_more(&self) -> bool {
        let goes_on = !self.backlog.is_empty() && self.backlog_held_until.is_none();
        self.listeners.is_ready() || !self.ready.is_empty() || goes_on
    }

    /// By when [`Peers::handle_timeout`] must be called.
    pub(super) fn poll_timeout(&self) -> Option<Mono> {
        let held = self.backlog_held_until.filter(|_| !self.backlog.is_empty());
        [self.timers.next(), self.accept_again, held].into_iter().flatten().min()
    }

    /// Accepts peers, and serves those that are ready, a share each.
    pub(super) fn serve_ready(
        &mut self,
        registry: &Registry,
        supervisor: &mut Supervisor,
        backlog_bytes: Option<usize>,
        now: Now,
    ) {
        if self.listeners.is_ready() {
            self.accept(registry, now);
        }
        let mut left = SENT_A_TURN;
        for _ in 0..self.ready.len().min(PEERS_A_TURN) {
            if left <= 0 {
                break;
            }
            let Some(token) = self.ready.pop_front() else { break };
            let work = self.serve_queued(token, supervisor, now);
            left -= (work.bytes + work.effort).cast_signed();
        }
        self.serve_backlog(supervisor, backlog_bytes, now);
    }

    /// Serves long answers and followers, up to so many bytes.
    fn serve_backlog(&mut self, supervisor: &mut Supervisor, bytes: Option<usize>, now: Now) {
        self.backlog_balance = match bytes {
            None => SENT_A_TURN,
            Some(bytes) => (self.backlog_balance + bytes.cast_signed()).min(SENT_A_TURN),
        };
        for _ in 0..self.backlog.len().min(PEERS_A_TURN) {
            if self.backlog_balance <= 0 {
                break;
            }
            let Some(token) = self.backlog.pop_front() else { break };
            let work = self.serve_queued(token, supervisor, now);
            let effort = if bytes.is_none() { work.effort } else { 0 };
            self.backlog_balance -= (BYTES_A_SERVICE + work.bytes + effort).cast_signed();
        }
        let is_held_back = bytes.is_some() && self.backlog_balance <= 0;
        self.backlog_held_until = is_held_back.then(|| now.mono + FLOW_WINDOW);
    }

    /// k1s ends: whoever waits for something, or follows it, is sent the last of it, as far as its
    /// socket takes it.
    pub(super) fn serve_last(&mut self, supervisor: &mut Supervisor, now: Now) {
        let waits = |(token, peer): (&Token, &Peer)| peer.pending.is_some().then_some(*token);
        for token in self.peers.iter().filter_map(waits).collect::<Vec<_>>() {
            self.serve_one(token, supervisor, now);
        }
    }

    /// Acts on deadlines that have passed.
    pub(super) fn handle_timeout(&mut self, supervisor: &mut Supervisor, now: Now) {
        if self.accept_again.is_some_and(|at| at <= now.mono) {
            self.accept_again = None;
            self.listeners.set_ready(true);
        }
        while let Some(token) = self.timers.expire(now.mono) {
            if let Some(peer) = self.peers.get_mut(&token) {
                peer.connection.handle_deadline(now);
            }
            self.serve_one(token, supervisor, now);
        }
    }

    /// A topic has changed: lets the answers that wait for it go on in the next turn.
    pub(super) fn wake(&mut self, topic: Topic) {
        let of_topic = (topic, Token(0))..=(topic, Token(usize::MAX));
        let tokens: Vec<Token> = self.interest.range(of_topic).map(|(_, token)| *token).collect();
        for token in tokens {
            // Once is enough, until it waits again.
            self.interest.remove(&(topic, token));
            if let Some(peer) = self.peers.get_mut(&token) {
                peer.awaits = None;
            }
            self.make_ready(token);
        }
    }

    /// Whether any peer follows events.
    pub(super) fn follow_events(&self) -> bool {
        let follows = |peer: &Peer| peer.pending.as_ref().is_some_and(Pending::follows_events);
        self.peers.values().any(follows)
    }

    /// The jobs whose output is being read.
    pub(super) fn jobs_read(&self) -> BTreeSet<JobKey> {
        let pending = self.peers.values().filter_map(|peer| peer.pending.as_ref());
        pending.filter_map(Pending::reads_output_of).collect()
    }

    /// Jobs use so many descriptors: closes connections without the token beyond what is left, so
    /// that there are always some for spawning. Connections with the token are closed only for
    /// others with it.
    pub(super) fn leave_room(&mut self, descriptors_of_jobs: usize) {
        let left = self.max_descriptors.saturating_sub(KEPT_DESCRIPTORS + descriptors_of_jobs);
        let most = self.limits.max_connections.min(self.max_descriptors / 2).max(1);
        self.room = left.max(FEWEST_CONNECTIONS).min(most);
        while self.peers.len() > self.room
            && let Some(stranger) = self.strangers.first().copied()
        {
            self.drop_peer(stranger);
        }
    }

    fn make_ready(&mut self, token: Token) {
        let is_in_answer = |peer: &Peer| peer.connection.is_streaming();
        let goes_on = self.peers.get(&token).is_some_and(is_in_answer);
        self.queue(token, goes_on);
    }

    fn queue(&mut self, token: Token, goes_on: bool) {
        if let Some(peer) = self.peers.get_mut(&token)
            && !std::mem::replace(&mut peer.is_ready, true)
        {
            let queue = if goes_on { &mut self.backlog } else { &mut self.ready };
            queue.push_back(token);
        }
    }

    /// Serves a peer out of one of the queues, if it is still there.
    fn serve_queued(&mut self, token: Token, supervisor: &mut Supervisor, now: Now) -> Work {
        let Some(peer) = self.peers.get_mut(&token) else { return Work::default() };
        peer.is_ready = false;
        let unsent = peer.connection.unsent().len();
        let Work { bytes: sent, effort } = self.serve_one(token, supervisor, now);
        let left = self.peers.get(&token).map_or(0, |peer| peer.connection.unsent().len());
        Work { bytes: (sent + left).saturating_sub(unsent), effort }
    }

    fn accept(&mut self, registry: &Registry, now: Now) {
        for _ in 0..ACCEPTS_A_TURN {
            let Some(accepted) = self.listeners.accept() else { return self.keep_reserve() };
            match accepted {
                Ok((socket, origin)) => self.admit(socket, origin, registry, now),
                // The peer has gone again, or a signal came: accept(2).
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if os::socket::is_shortage(&error) && self.reserve.take().is_some() => {}
                // A shortage of descriptors or memory. No other event will come, so try again when
                // a connection has ended, or in a while.
                Err(error) => {
                    self.listeners.set_ready(false);
                    self.accept_again = Some(now.mono + ACCEPT_PAUSE);
                    if os::socket::is_shortage(&error) {
                        self.make_room();
                    }
                    self.accept_error = Some(error);
                    return;
                }
            }
        }
    }

    fn admit(&mut self, mut socket: Socket, origin: Origin, registry: &Registry, now: Now) {
        while self.peers.len() >= self.room {
            self.make_room();
        }
        // If it has taken the reserved descriptor, another connection is closed. Otherwise the next
        // accept would fail even without a peer, because accept(2) first needs a descriptor, and
        // would drop this connection.
        self.keep_reserve();
        if self.reserve.is_none() {
            self.make_room();
        }
        self.last_token += 2;
        let token = Token(self.last_token);
        if let Err(error) = socket.register(registry, token) {
            // No event would come for it. The peer sees its connection end.
            self.accept_error = Some(error);
            return;
        }
        let connection = Connection::new(self.limits.clone(), now);
        if let Some(at) = connection.deadline() {
            self.timers.set(token, at);
        }
        let is_known = matches!(origin, Origin::Owner { .. });
        let peer = Peer {
            socket,
            origin,
            connection,
            pending: None,
            postponed: None,
            awaits: None,
            caller: Caller::Stranger,
            is_known,
            can_read: true,
            can_write: true,
            is_read_closed: false,
            is_broken: false,
            is_probed: false,
            is_ready: false,
            is_shut: false,
        };
        self.peers.insert(token, peer);
        self.accepted += 1;
        if !is_known {
            self.strangers.insert(token);
        }
        self.make_ready(token);
    }

    /// Drops the oldest peer that has not sent the token; if there is none, the one that is idle
    /// for longest, or else the oldest.
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
        let peer = self.peers.remove(&token);
        self.has_freed |= peer.is_some();
        if let Some(topic) = peer.and_then(|peer| peer.awaits) {
            self.interest.remove(&(topic, token));
        }
        self.strangers.remove(&token);
        self.timers.cancel(&token);
        self.keep_reserve();
        if self.accept_again.take().is_some() {
            self.listeners.set_ready(true);
        }
    }

    /// Reserves a descriptor again, if there is one.
    fn keep_reserve(&mut self) {
        if self.reserve.is_none() {
            self.reserve =
                self.listeners.any().and_then(|it| os::socket::reserve_descriptor(it).ok());
        }
    }

    /// Serves a peer its share of a turn; returns how many bytes it was sent, and the work for it.
    fn serve_one(&mut self, token: Token, supervisor: &mut Supervisor, now: Now) -> Work {
        let Some(peer) = self.peers.get_mut(&token) else { return Work::default() };
        let was_known = peer.is_known;
        let mut work = Work::default();
        let served = peer.serve(&self.api, supervisor, &mut self.buffer, &mut work, now);
        if peer.is_known && !was_known {
            self.strangers.remove(&token);
        }
        if served == Served::Over {
            self.drop_peer(token);
            return work;
        }
        let want = peer.pending.as_ref().map(Pending::want);
        let topic = want.and_then(Want::topic);
        if peer.awaits != topic {
            let before = std::mem::replace(&mut peer.awaits, topic);
            before.map(|topic| self.interest.remove(&(topic, token)));
            topic.map(|topic| self.interest.insert((topic, token)));
        }
        let deadlines = [peer.connection.deadline(), want.and_then(Want::deadline)];
        match deadlines.into_iter().flatten().min() {
            Some(at) => self.timers.set(token, at),
            None => {
                self.timers.cancel(&token);
            }
        }
        if served == Served::HasMore {
            self.queue(token, true);
        }
        work
    }
}

/// What was done for a peer in a turn.
#[derive(Clone, Copy, Debug, Default)]
struct Work {
    /// How many bytes it was sent.
    bytes: usize,
    /// What else was done, in the time that it takes to send so many bytes.
    effort: usize,
}

impl Work {
    /// Whether it is as much as a peer may have of a turn.
    fn is_a_share(self) -> bool {
        self.bytes + self.effort >= BYTES_A_PEER
    }
}

impl Peer {
    /// Who has sent its request may not do any more what they could. Returns whether what it is
    /// being told is not for them.
    fn forget(&mut self) -> bool {
        self.caller = Caller::Stranger;
        self.is_known = false;
        self.pending.as_ref().is_some_and(Pending::shows_jobs)
    }

    /// Answers requests, writes and reads: a share of each.
    fn serve(
        &mut self,
        api: &Api,
        supervisor: &mut Supervisor,
        buffer: &mut [u8],
        work: &mut Work,
        now: Now,
    ) -> Served {
        for _ in 0..ROUNDS_A_TURN {
            if work.is_a_share() {
                return Served::HasMore;
            }
            let was_in_answer = self.is_in_answer();
            let has_more = self.answer(api, supervisor, work, now);
            if self.postponed.is_some() {
                return Served::HasMore;
            }
            self.probe(now);
            let was_clogged = self.connection.is_clogged();
            let Ok(count) = self.write(now) else { return Served::Over };
            work.bytes += count;
            if self.connection.is_finished() {
                return Served::Over;
            }
            if self.is_in_answer() && !was_in_answer {
                return Served::HasMore;
            }
            // Requests were held back while too much was unsent; no event will come for them.
            let has_room_again = was_clogged && !self.connection.is_clogged();
            if has_more || has_room_again || self.can_go_on() {
                continue;
            }
            if !self.can_read || !self.connection.wants_read() {
                return if self.is_broken { Served::Over } else { Served::Waits };
            }
            if self.read(buffer, now).is_err() {
                return Served::Over;
            }
        }
        Served::HasMore
    }

    /// Whether it has an answer that goes on whenever there is room.
    fn is_in_answer(&self) -> bool {
        self.pending.as_ref().map(Pending::want) == Some(Want::Room)
    }

    /// Whether its answer has room again.
    fn can_go_on(&self) -> bool {
        self.is_in_answer() && self.connection.wants_output() && self.can_write
    }

    /// Answers requests that were read; returns whether there may be more.
    fn answer(
        &mut self,
        api: &Api,
        supervisor: &mut Supervisor,
        work: &mut Work,
        now: Now,
    ) -> bool {
        while !work.is_a_share() {
            if let Some(pending) = &mut self.pending {
                let is_slice = pending.want() == Want::Room;
                work.effort += if is_slice { SLICE_EFFORT } else { CHANGE_EFFORT };
                if !pending.go_on(supervisor, &mut self.connection, now) {
                    return false;
                }
                self.pending = None;
                self.is_probed = false;
            }
            let postponed = self.postponed.take();
            let is_next = postponed.is_some();
            let Some(incoming) = postponed.or_else(|| self.connection.poll(now)) else {
                return false;
            };
            if let Incoming::Head(head) = &incoming {
                self.caller = api.identify(head, self.origin);
                self.is_known = self.is_known || self.caller.access().is_some();
            }
            let effort = api.effort(&incoming, &self.caller, supervisor);
            if effort > MUCH_EFFORT && !is_next {
                self.postponed = Some(incoming);
                return true;
            }
            work.effort += effort;
            let Peer { caller, connection, .. } = self;
            self.pending = api.handle(incoming, caller, connection, supervisor, now);
            if self.is_in_answer() {
                return false;
            }
        }
        true
    }

    /// Probes whether a peer that has closed its sending side still waits for its answer, if the
    /// answer waits for a change, which may never come.
    fn probe(&mut self, now: Now) {
        let topic = self.pending.as_ref().and_then(|pending| pending.want().topic());
        if topic.is_some() && self.is_read_closed && !std::mem::replace(&mut self.is_probed, true) {
            self.connection.probe(now);
        }
    }

    /// Writes what the socket takes; returns how much.
    fn write(&mut self, now: Now) -> Result<usize, ()> {
        let mut sent = 0;
        while self.can_write && !self.connection.unsent().is_empty() {
            match self.socket.write(self.connection.unsent()) {
                Ok(0) => return Err(()),
                Ok(count) => {
                    self.connection.handle_sent(count, now);
                    sent += count;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.can_write = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(()),
            }
        }
        if self.connection.wants_shutdown_write() && !std::mem::replace(&mut self.is_shut, true) {
            let _ = self.socket.shut_write();
            self.connection.handle_shutdown_write(now);
        }
        Ok(sent)
    }

    /// Reads once.
    fn read(&mut self, buffer: &mut [u8], now: Now) -> Result<(), ()> {
        match self.socket.read(buffer) {
            Ok(0) => {
                self.can_read = false;
                self.connection.handle_eof();
            }
            Ok(count) => {
                // A short read empties the socket: epoll(7). Its end comes as an event.
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
/// How many peers are served in a turn; the others wait in the order in which they became ready.
const PEERS_A_TURN: usize = 64;
/// A round is one read, some requests, and writing until the socket is full. The second answers
/// what the first has read.
const ROUNDS_A_TURN: usize = 2;
/// How much a peer is sent in a turn, or as much other work for it: 0.1 ms.
const BYTES_A_PEER: usize = 32 * 1024;
/// Requests that take less work do not wait for one that takes so much.
const MUCH_EFFORT: usize = 256 * 1024;
/// How much all peers of a queue are sent in a turn.
const SENT_A_TURN: isize = 256 * 1024;
/// The cost of serving a peer, as the time to send so many bytes.
const BYTES_A_SERVICE: usize = 1024;
/// The work for a slice of an answer, besides what it sends: it may look at many jobs and show
/// none.
const SLICE_EFFORT: usize = 16 * 1024;
/// The work for an answer that a change has woken.
const CHANGE_EFFORT: usize = 1024;
/// Descriptors for k1s itself, and for spawning.
const KEPT_DESCRIPTORS: usize = 25;
/// How many connections there may be even when jobs have taken all descriptors.
const FEWEST_CONNECTIONS: usize = 4;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
