//! HTTP/1.1 and 1.0, as bytes in and bytes out (RFC 9110, RFC 9112): the server's side, and of the
//! client's what a probe needs.
//!
//! ```text
//!   bytes ─▶ connection ─▶ Incoming::Head ─▶ proceed ─▶ Incoming::Request ─┐
//!            │  request: the head, by httparse and stricter rules          │
//!            │  chunked: bodies of unknown length                          ▼
//!   bytes ◀─ connection ◀─ response: heads and framing ◀─ respond, start_stream
//!
//!   client: get ─▶ bytes, bytes ─▶ Answer ─▶ its status
//! ```
//!
//! A [`Connection`] takes what was read and the time, and returns requests; it takes answers, and
//! returns what to write. Nothing here opens a socket, reads a clock, or knows what requests are
//! about. Whatever a peer sends, a connection never panics, and never holds more memory than its
//! [`Limits`] add up to.
//!
//! The codec itself answers what the RFCs call an error, and then ends the connection: two parties
//! that disagree about where a request ends must not go on talking.

mod accept;
mod chunked;
pub mod client;
mod connection;
#[cfg(feature = "properties")]
pub mod properties;
mod request;
mod response;
mod scan;
mod target;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use accept::{MediaRange, media_ranges};
pub use connection::{Connection, Incoming};
pub use request::{Head, Method, Request};
pub use response::{ContentType, Reply, Status};
pub use target::Path;

/// What a peer may use, in one table (contract, section 5). A request over a limit is answered with
/// the status named here, and the connection is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the request line and the headers, including line ends; more is a 431, or a 414 if
    /// it is the request line alone. Trailers may have as much again.
    pub max_head_bytes: usize,
    /// Header lines in a request; more is a 431.
    pub max_headers: usize,
    /// Bytes of the body of a request, without the framing of chunks; more is a 413.
    pub max_body_bytes: usize,
    /// Connections open at a time. The daemon enforces this one, not the codec.
    pub max_connections: usize,
    /// How long the whole head may take, from its first byte; longer is a 408. A new connection
    /// that sends nothing for so long is closed without an answer.
    pub head_timeout: Duration,
    /// How long the whole body may take, from when it was asked for; longer is a 408.
    pub body_timeout: Duration,
    /// How long a connection may be idle between an answer and the next request; longer, and it is
    /// closed without an answer.
    pub idle_timeout: Duration,
    /// When so many bytes wait for the peer to take them, no more requests are read from it, and
    /// streams pause.
    pub max_unsent_bytes: usize,
    /// How long the peer may take no byte of what is to be sent; longer, and the connection is
    /// dropped.
    pub write_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_head_bytes: 16 * 1024,
            max_headers: 100,
            max_body_bytes: 1024 * 1024,
            max_connections: 1024,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
            max_unsent_bytes: 64 * 1024,
            write_timeout: Duration::from_secs(30),
        }
    }
}

/// An error that the codec itself answers before it closes the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ProtocolError {
    status: Status,
    /// For the body. It contains no quotes, so that JSON needs no escaping.
    reason: &'static str,
}

impl ProtocolError {
    fn new(status: Status, reason: &'static str) -> ProtocolError {
        ProtocolError { status, reason }
    }

    fn bad(reason: &'static str) -> ProtocolError {
        ProtocolError::new(Status::BadRequest, reason)
    }
}

/// Adds bytes to a buffer, which doubles as it grows, but not beyond `limit` unless it must.
fn append(buffer: &mut Vec<u8>, bytes: &[u8], limit: usize) {
    let needed = buffer.len() + bytes.len();
    if needed > buffer.capacity() {
        let wanted = needed.max(limit.min(buffer.capacity() * 2));
        buffer.reserve_exact(wanted - buffer.len());
    }
    buffer.extend_from_slice(bytes);
}
