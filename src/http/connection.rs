//! One connection: bytes and time in, requests and bytes out.

use std::rc::Rc;

use super::Limits;
use super::request::{Head, Request};
use super::response::Reply;
use crate::time::{Mono, Now};

/// The server's end of one connection.
///
/// After each `handle_…` and each answer, call [`poll`](Connection::poll) until it has
/// nothing, and then act on what the connection wants: [`unsent`](Connection::unsent),
/// [`wants_read`](Connection::wants_read),
/// [`wants_shutdown_write`](Connection::wants_shutdown_write),
/// [`is_finished`](Connection::is_finished), [`deadline`](Connection::deadline).
#[derive(Debug)]
pub struct Connection {
    limits: Rc<Limits>,
}

/// What a peer has asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// The head of a request; its body has not been read. Either let it come with
    /// [`Connection::proceed`], or answer at once, which refuses the body.
    Head(Head),
    /// The whole request. Answer it now or later.
    Request(Request),
}

impl Connection {
    /// A connection that was just accepted.
    pub fn new(limits: Rc<Limits>, now: Now) -> Connection {
        let _ = now;
        Connection { limits }
    }

    /// Whether to read from the socket. Not while enough is buffered that is not answered
    /// yet, or the peer does not take its answers.
    pub fn wants_read(&self) -> bool {
        let _ = &self.limits;
        false
    }

    /// The peer has sent these bytes.
    pub fn handle_bytes(&mut self, bytes: &[u8], now: Now) {
        let _ = (bytes, now);
    }

    /// The peer will send no more. What it has asked before is still answered.
    pub fn handle_eof(&mut self, now: Now) {
        let _ = now;
    }

    /// Whether the peer has ended its side: after that, only a failing write can tell
    /// whether it still listens.
    pub fn is_half_closed(&self) -> bool {
        false
    }

    /// The next thing that the peer asks; `None` until more has come, or the request before
    /// is answered. Each request comes twice: its head, and then the whole.
    pub fn poll(&mut self, now: Now) -> Option<Incoming> {
        let _ = now;
        None
    }

    /// Lets the body of the request come whose head was just handed out.
    pub fn proceed(&mut self, head: Head, now: Now) {
        let _ = (head, now);
    }

    /// Whether a request was handed out that has no answer yet.
    pub fn is_waiting_for_answer(&self) -> bool {
        false
    }

    /// Answers the request that was handed out last. `body` writes straight behind what is
    /// to be sent; it is run for HEAD too, for the length. Does nothing when no request
    /// waits, such as when the connection has ended meanwhile.
    pub fn respond(&mut self, reply: Reply<'_>, now: Now, body: impl FnOnce(&mut Vec<u8>)) {
        let _ = (reply, now, body);
    }

    /// Begins an answer of unknown length: chunked, in HTTP/1.0 up to the end of the
    /// connection. False when there is nothing to push: it was a HEAD, which is now
    /// answered, or no request waits.
    #[must_use]
    pub fn start_stream(&mut self, reply: Reply<'_>, now: Now) -> bool {
        let _ = (reply, now);
        false
    }

    /// Whether a stream is under way and has room for more.
    pub fn wants_output(&self) -> bool {
        false
    }

    /// Adds what `write` appends to the stream that is under way, as one chunk.
    pub fn push(&mut self, now: Now, write: impl FnOnce(&mut Vec<u8>)) {
        let _ = (now, write);
    }

    /// Ends the stream that is under way.
    pub fn finish_stream(&mut self, now: Now) {
        let _ = now;
    }

    /// What is to be written to the socket.
    pub fn unsent(&self) -> &[u8] {
        &[]
    }

    /// The socket has taken so many bytes of [`unsent`](Connection::unsent).
    pub fn handle_sent(&mut self, count: usize, now: Now) {
        let _ = (count, now);
    }

    /// Whether to shut down the writing side of the socket: the last answer is sent, and the
    /// peer is still sending.
    pub fn wants_shutdown_write(&self) -> bool {
        false
    }

    /// The writing side was shut down. What still comes is thrown away for a while, so that
    /// no reset overtakes the answer.
    pub fn handle_shutdown_write(&mut self, now: Now) {
        let _ = now;
    }

    /// Whether to drop the socket.
    pub fn is_finished(&self) -> bool {
        true
    }

    /// Since when the connection has been idle between requests; `None` when it is not.
    pub fn idle_since(&self) -> Option<Mono> {
        None
    }

    /// When to call [`handle_deadline`](Connection::handle_deadline), if nothing else
    /// happens; `None` while a request waits for its answer.
    pub fn deadline(&self) -> Option<Mono> {
        None
    }

    /// Time has passed: acts on the deadline if it is due.
    pub fn handle_deadline(&mut self, now: Now) {
        let _ = now;
    }

    /// The bytes of memory that the buffers hold.
    pub fn memory(&self) -> usize {
        0
    }
}
