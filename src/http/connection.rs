//! One connection: bytes and time in, requests and bytes out.
//!
//! ```text
//!           head complete          proceed          body complete
//!   Head ───────────────▶ Decide ─────────▶ Body ────────────────▶ Answer
//!    ▲                      │ respond         │ too large,           │ respond, or
//!    │                      │                 │ late, malformed      │ stream … finish
//!    ├── connection stays ──┴─────────────────│──────────────────────┤
//!    │                                        ▼                      │
//!  idle              Finished ◀─ Linger ◀─ Flush ◀── or it ends ─────┘
//! ```
//!
//! A connection handles one request at a time. What the peer has sent beyond it waits in `input`,
//! and while that is too much, nothing is read from the socket. A connection ends in three steps:
//! the answer is sent (`Flush`), the writing side is shut down, and input is discarded until the
//! peer has closed, too (`Linger`; RFC 9112, section 9.6). Closing a socket with unread input would
//! send a reset, and the peer would lose what it has not read yet, such as the answer that says
//! what was wrong.

use std::mem;
use std::rc::Rc;
use std::time::Duration;

use super::chunked::Chunked;
use super::request::{BodyLength, Head, Method, Request, Version, parse_head};
use super::response::{
    CONTINUE, Framing, LAST_CHUNK, Persistence, Reply, write_chunk, write_sized, write_stream_head,
};
use super::scan::HeadScan;
use super::{Limits, ProtocolError, Status, append};
use crate::time::{Mono, Now};

/// The server side of one connection.
///
/// After each `handle_…` and each answer, call [`poll`](Connection::poll) until it returns `None`,
/// and then do what the connection wants: [`unsent`](Connection::unsent),
/// [`wants_read`](Connection::wants_read),
/// [`wants_shutdown_write`](Connection::wants_shutdown_write),
/// [`is_finished`](Connection::is_finished), [`deadline`](Connection::deadline).
#[derive(Debug)]
pub struct Connection {
    limits: Rc<Limits>,
    state: State,
    /// What was read; the part from `taken` on is still to be used. Empty buffers use no memory.
    input: Vec<u8>,
    taken: usize,
    /// What is to be written; the part before `sent` was written.
    output: Vec<u8>,
    sent: usize,
    /// When the peer last took output, or when output began to wait.
    progress: Mono,
    /// All that the peer has sent was read.
    eof: bool,
    /// The peer has ended its side; what it has sent may not be read yet.
    is_half_closed: bool,
    /// A request was answered: this peer speaks HTTP.
    served: bool,
}

/// What a peer has sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// The head of a request. Either read its body with [`Connection::proceed`], or answer at once,
    /// which refuses the body.
    Head(Head),
    /// The whole request, to be answered now or later.
    Request(Request),
}

#[derive(Debug)]
enum State {
    /// Between requests, or within a head.
    Head {
        scan: HeadScan,
        since: Mono,
    },
    /// A head was returned, to be proceeded with or answered.
    Decide {
        exchange: Exchange,
        body: BodyLength,
    },
    Body(Box<Reading>),
    /// A request was returned, to be answered.
    Answer {
        exchange: Exchange,
    },
    /// An answer is produced in parts.
    Stream {
        framing: Framing,
        stays: bool,
    },
    /// The last answer is being sent; input is discarded.
    Flush {
        discarded: usize,
    },
    /// Everything was sent, and the writing side is shut down; input is discarded.
    Linger {
        discarded: usize,
        until: Mono,
    },
    Finished,
}

/// What an answer needs to know about its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Exchange {
    version: Version,
    is_head: bool,
    keep_alive: bool,
}

/// A request whose body is being read.
#[derive(Debug)]
struct Reading {
    head: Head,
    exchange: Exchange,
    body: Vec<u8>,
    rest: Rest,
    since: Mono,
}

/// What is still missing of a body.
#[derive(Debug)]
enum Rest {
    Bytes(usize),
    Chunks(Chunked),
}

impl Connection {
    /// A new connection, just accepted.
    pub fn new(limits: Rc<Limits>, now: Now) -> Connection {
        Connection {
            limits,
            state: State::Head { scan: HeadScan::default(), since: now.mono },
            input: Vec::new(),
            taken: 0,
            output: Vec::new(),
            sent: 0,
            progress: now.mono,
            eof: false,
            is_half_closed: false,
            served: false,
        }
    }

    /// Whether to read from the socket. Not while enough input waits to be answered, or the peer
    /// does not take its answers.
    pub fn wants_read(&self) -> bool {
        let has_room = self.buffered().len() <= self.limits.max_head_bytes;
        !self.eof
            && match &self.state {
                State::Head { .. } => has_room && !self.is_clogged(),
                State::Decide { .. }
                | State::Body(_)
                | State::Answer { .. }
                | State::Stream { .. } => has_room,
                State::Flush { discarded } => *discarded < MAX_DISCARDED_BYTES,
                State::Linger { .. } => true,
                State::Finished => false,
            }
    }

    /// The peer has sent these bytes. All are taken, so the buffer may exceed its limit by one
    /// read.
    pub fn handle_bytes(&mut self, bytes: &[u8], now: Now) {
        let is_caught_up = self.buffered().is_empty();
        // Empty lines do not extend the timeout.
        let begins_head =
            !self.has_begun_head() && !bytes.iter().all(|byte| b"\r\n".contains(byte));
        let mut rest = bytes;
        match &mut self.state {
            State::Head { since, .. } if is_caught_up || begins_head => *since = now.mono,
            State::Body(reading) if is_caught_up => match reading.feed(bytes, &self.limits) {
                Ok(count) => rest = bytes.get(count..).unwrap_or_default(),
                Err(error) => return self.refuse(error, now),
            },
            State::Head { .. }
            | State::Body(_)
            | State::Decide { .. }
            | State::Answer { .. }
            | State::Stream { .. } => {}
            State::Flush { discarded } => {
                *discarded = discarded.saturating_add(bytes.len());
                return;
            }
            State::Linger { discarded, .. } => {
                *discarded = discarded.saturating_add(bytes.len());
                if *discarded > MAX_DISCARDED_BYTES {
                    self.finish();
                }
                return;
            }
            State::Finished => return,
        }
        self.input.drain(..mem::take(&mut self.taken));
        append(&mut self.input, rest, self.limits.max_head_bytes.saturating_add(rest.len()));
    }

    /// The peer will send no more than what is still to be read.
    pub fn handle_half_closed(&mut self) {
        self.is_half_closed = true;
    }

    /// The peer will send no more, and all was read. Its requests so far are still answered.
    pub fn handle_eof(&mut self) {
        self.eof = true;
        self.is_half_closed = true;
        if let State::Linger { .. } = self.state {
            self.finish();
        }
    }

    /// Whether the peer has closed its sending side. Then only a failing write shows whether it
    /// still receives.
    pub fn is_half_closed(&self) -> bool {
        self.is_half_closed
    }

    /// Finds out whether a peer that has closed its sending side still waits for its answer: sends
    /// an interim answer, which resets the connection if the peer is gone. In HTTP/1.1 any answer
    /// may follow an interim one, which clients ignore (RFC 9110, section 15.2); 1.0 has none.
    pub fn probe(&mut self, now: Now) {
        if let State::Answer { exchange } = &self.state
            && exchange.version == Version::Http11
        {
            self.room(now).extend_from_slice(CONTINUE);
        }
    }

    /// The next thing that the peer has sent; `None` until there is more, or the request before is
    /// answered. Each request is returned twice: its head, and then the whole.
    pub fn poll(&mut self, now: Now) -> Option<Incoming> {
        let polled = match &self.state {
            State::Head { .. } if self.is_clogged() => return None,
            State::Head { .. } => self.poll_head(),
            State::Body(_) => self.poll_body(),
            State::Decide { .. }
            | State::Answer { .. }
            | State::Stream { .. }
            | State::Flush { .. }
            | State::Linger { .. }
            | State::Finished => return None,
        };
        polled.unwrap_or_else(|error| {
            self.refuse(error, now);
            None
        })
    }

    /// Reads the body of the request whose head was just returned.
    pub fn proceed(&mut self, head: Head, now: Now) {
        let State::Decide { exchange, body } = self.state else {
            return;
        };
        let rest = match body {
            BodyLength::None => Rest::Bytes(0),
            BodyLength::Known(length) => match usize::try_from(length) {
                Ok(length) if length <= self.limits.max_body_bytes => Rest::Bytes(length),
                _ => {
                    let error = ProtocolError::new(Status::ContentTooLarge, "body too large");
                    return self.refuse(error, now);
                }
            },
            BodyLength::Chunked => Rest::Chunks(Chunked::new()),
        };
        let reading = Reading { exchange, body: Vec::new(), since: now.mono, rest, head };
        let is_awaited = reading.head.expects_continue && !reading.is_complete();
        if is_awaited && self.buffered().is_empty() {
            self.room(now).extend_from_slice(CONTINUE);
        }
        self.state = State::Body(Box::new(reading));
    }

    /// Whether a request was returned that has no answer yet.
    #[cfg(feature = "properties")]
    pub(super) fn is_waiting_for_answer(&self) -> bool {
        matches!(self.state, State::Decide { .. } | State::Answer { .. })
    }

    /// Answers the request that was returned last. `body` appends to the output; for HEAD it is
    /// also called, for the length. Does nothing if no request waits, such as when the connection
    /// has ended meanwhile.
    pub fn respond(&mut self, reply: Reply<'_>, now: Now, body: impl FnOnce(&mut Vec<u8>)) {
        let Some((exchange, stays)) = self.exchange_in_hand(&reply) else {
            return;
        };
        let persistence = exchange.persistence(stays);
        write_sized(self.room(now), &reply, persistence, now.wall, !exchange.is_head, body);
        self.end_answer(stays, now);
    }

    /// Begins an answer of unknown length: in chunks, or in HTTP/1.0 until the connection is
    /// closed. Returns false if there is nothing to push: the request was a HEAD, which is now
    /// answered, or no request waits.
    #[must_use]
    pub fn start_stream(&mut self, reply: Reply<'_>, now: Now) -> bool {
        let Some((exchange, stays)) = self.exchange_in_hand(&reply) else {
            return false;
        };
        let (framing, stays) = match exchange.version {
            Version::Http10 => (Framing::UntilClose, false),
            Version::Http11 => (Framing::Chunked, stays),
        };
        let persistence = exchange.persistence(stays);
        write_stream_head(self.room(now), &reply, persistence, now.wall, framing);
        if exchange.is_head {
            self.end_answer(stays, now);
        } else {
            self.state = State::Stream { framing, stays };
        }
        !exchange.is_head
    }

    /// Whether an answer is being produced in parts.
    pub fn is_streaming(&self) -> bool {
        matches!(self.state, State::Stream { .. })
    }

    /// Whether an answer is being produced in parts and has room for more.
    pub fn wants_output(&self) -> bool {
        matches!(self.state, State::Stream { .. }) && !self.is_clogged()
    }

    /// Adds what `write` appends to the answer, as one chunk.
    pub fn push(&mut self, now: Now, write: impl FnOnce(&mut Vec<u8>)) {
        if let State::Stream { framing, .. } = self.state {
            let output = self.room(now);
            match framing {
                Framing::Chunked => write_chunk(output, write),
                Framing::UntilClose => write(output),
            }
        }
    }

    /// Ends an answer that is produced in parts.
    pub fn finish_stream(&mut self, now: Now) {
        if let State::Stream { framing, stays } = self.state {
            match framing {
                Framing::Chunked => self.room(now).extend_from_slice(LAST_CHUNK),
                Framing::UntilClose => {}
            }
            self.end_answer(stays, now);
        }
    }

    /// What to write to the socket.
    pub fn unsent(&self) -> &[u8] {
        self.output.get(self.sent..).unwrap_or_default()
    }

    /// Whether too much waits for the peer to take it: until it has taken some,
    /// [`poll`](Connection::poll) returns nothing, whatever was read.
    pub fn is_clogged(&self) -> bool {
        self.unsent().len() >= self.limits.max_unsent_bytes.max(1)
    }

    /// The socket has taken so many bytes of [`unsent`](Connection::unsent).
    pub fn handle_sent(&mut self, count: usize, now: Now) {
        if count == 0 {
            return;
        }
        let was_clogged = self.is_clogged();
        self.progress = now.mono;
        self.sent = self.output.len().min(self.sent.saturating_add(count));
        if self.sent == self.output.len() {
            self.output = Vec::new();
            self.sent = 0;
        }
        let starts_anew = !self.has_begun_head() || (was_clogged && !self.is_clogged());
        if let State::Head { since, .. } = &mut self.state
            && starts_anew
        {
            // The timeout for a request does not run while the peer takes its answers.
            *since = now.mono;
        }
    }

    /// Whether to shut down the writing side of the socket: the last answer was sent, and the peer
    /// may still be sending.
    pub fn wants_shutdown_write(&self) -> bool {
        matches!(self.state, State::Flush { .. }) && self.unsent().is_empty() && !self.eof
    }

    /// The writing side was shut down. Input is discarded for a while, so that no reset overtakes
    /// the answer.
    pub fn handle_shutdown_write(&mut self, now: Now) {
        if let State::Flush { discarded } = self.state {
            let until = now.mono + LINGER_TIME;
            self.state = State::Linger { discarded, until };
        }
    }

    /// Whether to drop the socket.
    pub fn is_finished(&self) -> bool {
        match self.state {
            State::Finished => true,
            State::Flush { .. } => self.eof && self.unsent().is_empty(),
            State::Head { .. }
            | State::Decide { .. }
            | State::Body(_)
            | State::Answer { .. }
            | State::Stream { .. }
            | State::Linger { .. } => false,
        }
    }

    /// The size of its buffers, in bytes.
    pub fn buffer_bytes(&self) -> usize {
        let body = match &self.state {
            State::Body(reading) => reading.body.capacity(),
            State::Head { .. }
            | State::Decide { .. }
            | State::Answer { .. }
            | State::Stream { .. }
            | State::Flush { .. }
            | State::Linger { .. }
            | State::Finished => 0,
        };
        self.input.capacity() + self.output.capacity() + body
    }

    /// Since when the connection has been idle between requests; `None` when it is not.
    pub fn idle_since(&self) -> Option<Mono> {
        match self.state {
            State::Head { since, .. } if !self.has_begun_head() && self.unsent().is_empty() => {
                Some(since)
            }
            State::Head { .. }
            | State::Decide { .. }
            | State::Body(_)
            | State::Answer { .. }
            | State::Stream { .. }
            | State::Flush { .. }
            | State::Linger { .. }
            | State::Finished => None,
        }
    }

    /// When to call [`handle_deadline`](Connection::handle_deadline), if nothing else happens. A
    /// request that waits for its answer has no deadline, unless the peer is slow to take earlier
    /// answers.
    pub fn deadline(&self) -> Option<Mono> {
        let deadlines = [self.write_deadline(), self.state_deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// Acts on the deadline if it has passed.
    pub fn handle_deadline(&mut self, now: Now) {
        let is_due = |deadline: Option<Mono>| deadline.is_some_and(|at| at <= now.mono);
        if is_due(self.write_deadline()) {
            return self.finish();
        }
        if !is_due(self.state_deadline()) {
            return;
        }
        let late = |reason| ProtocolError::new(Status::RequestTimeout, reason);
        match &self.state {
            State::Head { .. } if !self.has_begun_head() => self.finish(),
            State::Head { .. } => self.refuse(late("the head took too long"), now),
            State::Body(_) => self.refuse(late("the body took too long"), now),
            State::Linger { .. } => self.finish(),
            State::Decide { .. }
            | State::Answer { .. }
            | State::Stream { .. }
            | State::Flush { .. }
            | State::Finished => {}
        }
    }

    /// The bytes of memory that the buffers use.
    #[cfg(feature = "properties")]
    pub(super) fn memory(&self) -> usize {
        let body = match &self.state {
            State::Body(reading) => reading.body.capacity(),
            State::Head { .. }
            | State::Decide { .. }
            | State::Answer { .. }
            | State::Stream { .. }
            | State::Flush { .. }
            | State::Linger { .. }
            | State::Finished => 0,
        };
        self.input.capacity() + self.output.capacity() + body
    }

    fn poll_head(&mut self) -> Result<Option<Incoming>, ProtocolError> {
        let State::Head { scan, .. } = &mut self.state else {
            return Ok(None);
        };
        let input = self.input.get(self.taken..).unwrap_or_default();
        let Some(end) = scan.advance(input, &self.limits)? else {
            if self.eof && !scan.is_blank(input) {
                return Err(ProtocolError::bad("the head is cut off"));
            }
            if self.eof {
                self.end();
            }
            return Ok(None);
        };
        let bytes = input.get(scan.start()..end).unwrap_or_default();
        let head = parse_head(bytes, &self.limits)?;
        self.take(end);
        self.state = State::Decide {
            exchange: Exchange {
                version: head.version,
                is_head: head.method == Method::Head,
                keep_alive: head.keep_alive,
            },
            body: head.body_length,
        };
        Ok(Some(Incoming::Head(head)))
    }

    fn poll_body(&mut self) -> Result<Option<Incoming>, ProtocolError> {
        let State::Body(reading) = &mut self.state else {
            return Ok(None);
        };
        let input = self.input.get(self.taken..).unwrap_or_default();
        let count = reading.feed(input, &self.limits)?;
        if !reading.is_complete() {
            self.take(count);
            return match self.eof {
                true => Err(ProtocolError::bad("the body is cut off")),
                false => Ok(None),
            };
        }
        let answer = State::Answer { exchange: reading.exchange };
        self.take(count);
        let State::Body(reading) = mem::replace(&mut self.state, answer) else {
            return Ok(None);
        };
        Ok(Some(Incoming::Request(Request { head: reading.head, body: reading.body })))
    }

    /// The request that is to be answered, and whether the connection goes on after that: not when
    /// a body was sent or announced that is refused.
    fn exchange_in_hand(&self, reply: &Reply<'_>) -> Option<(Exchange, bool)> {
        let (exchange, is_read) = match self.state {
            State::Decide { exchange, body } => {
                (exchange, matches!(body, BodyLength::None | BodyLength::Known(0)))
            }
            State::Answer { exchange } => (exchange, true),
            State::Head { .. }
            | State::Body(_)
            | State::Stream { .. }
            | State::Flush { .. }
            | State::Linger { .. }
            | State::Finished => return None,
        };
        Some((exchange, exchange.keep_alive && is_read && !reply.close))
    }

    fn end_answer(&mut self, stays: bool, now: Now) {
        self.served = true;
        if stays {
            let scan = HeadScan::default();
            let since = now.mono;
            self.state = State::Head { scan, since };
        } else {
            self.end();
        }
    }

    /// Answers with an error, and ends the connection.
    fn refuse(&mut self, error: ProtocolError, now: Now) {
        let is_head = match &self.state {
            State::Head { scan, .. } => {
                self.buffered().get(scan.start()..).is_some_and(|head| head.starts_with(b"HEAD "))
            }
            State::Decide { exchange, .. } | State::Answer { exchange } => exchange.is_head,
            State::Body(reading) => reading.exchange.is_head,
            State::Stream { .. } | State::Flush { .. } | State::Linger { .. } | State::Finished => {
                false
            }
        };
        write_sized(
            self.room(now),
            &Reply::json(error.status),
            Persistence::Close,
            now.wall,
            !is_head,
            |body| {
                body.extend_from_slice(b"{\"error\":\"");
                body.extend_from_slice(error.reason.as_bytes());
                body.extend_from_slice(b"\"}\n");
            },
        );
        self.end();
    }

    /// There is nothing more to send.
    fn end(&mut self) {
        self.drop_input();
        self.state = State::Flush { discarded: 0 };
    }

    /// There is nothing more to do.
    fn finish(&mut self) {
        self.drop_input();
        self.output = Vec::new();
        self.sent = 0;
        self.state = State::Finished;
    }

    fn drop_input(&mut self) {
        self.input = Vec::new();
        self.taken = 0;
    }

    /// What was read and is still to be used.
    fn buffered(&self) -> &[u8] {
        self.input.get(self.taken..).unwrap_or_default()
    }

    /// Whether a part of the next request was read, not only empty lines before it.
    fn has_begun_head(&self) -> bool {
        matches!(&self.state, State::Head { scan, .. } if !scan.is_blank(self.buffered()))
    }

    fn take(&mut self, count: usize) {
        self.taken += count;
        if self.taken >= self.input.len() {
            self.drop_input();
        }
    }

    /// Where to append what is to be sent. The part that was sent is removed only when it is the
    /// larger half, so that each byte is moved once at most.
    fn room(&mut self, now: Now) -> &mut Vec<u8> {
        if self.unsent().is_empty() {
            self.progress = now.mono;
        }
        if self.sent > self.output.len() / 2 {
            self.output.drain(..mem::take(&mut self.sent));
        }
        &mut self.output
    }

    fn write_deadline(&self) -> Option<Mono> {
        (!self.unsent().is_empty()).then(|| self.progress + self.limits.write_timeout)
    }

    fn state_deadline(&self) -> Option<Mono> {
        let limits = &self.limits;
        match &self.state {
            State::Head { .. } if self.is_clogged() => None,
            State::Head { since, .. } if self.has_begun_head() => {
                Some(*since + limits.head_timeout)
            }
            State::Head { .. } if !self.unsent().is_empty() => None,
            State::Head { since, .. } if self.served => Some(*since + limits.idle_timeout),
            State::Head { since, .. } => Some(*since + limits.head_timeout),
            State::Body(reading) => Some(reading.since + limits.body_timeout),
            State::Linger { until, .. } => Some(*until),
            State::Decide { .. }
            | State::Answer { .. }
            | State::Stream { .. }
            | State::Flush { .. }
            | State::Finished => None,
        }
    }
}

impl Exchange {
    fn persistence(self, stays: bool) -> Persistence {
        match (stays, self.version) {
            (false, _) => Persistence::Close,
            (true, Version::Http10) => Persistence::KeepAlive,
            (true, Version::Http11) => Persistence::Default,
        }
    }
}

impl Reading {
    /// Takes bytes up to the end of the body; returns how many.
    fn feed(&mut self, bytes: &[u8], limits: &Limits) -> Result<usize, ProtocolError> {
        match &mut self.rest {
            Rest::Bytes(left) => {
                let whole = self.body.len() + *left;
                let count = bytes.len().min(*left);
                append(&mut self.body, bytes.get(..count).unwrap_or_default(), whole);
                *left -= count;
                Ok(count)
            }
            Rest::Chunks(chunked) => chunked.decode(bytes, &mut self.body, limits),
        }
    }

    fn is_complete(&self) -> bool {
        match &self.rest {
            Rest::Bytes(left) => *left == 0,
            Rest::Chunks(chunked) => chunked.is_complete(),
        }
    }
}

/// How long input is discarded after the last answer.
const LINGER_TIME: Duration = Duration::from_secs(5);

/// How much input is discarded after the last answer: enough for a client that sends the whole of a
/// large body before it reads the answer.
const MAX_DISCARDED_BYTES: usize = 16 * 1024 * 1024;
