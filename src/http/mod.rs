//! The server's side of HTTP/1.1 and 1.0, as bytes in and bytes out (RFC 9110, RFC 9112).
//!
//! ```text
//!   bytes ─▶ connection ─▶ Incoming::Head ─▶ proceed ─▶ Incoming::Request ─┐
//!            │  request: the head, by httparse and by rules of our own     │
//!            │  chunked: bodies of unknown length                          ▼
//!   bytes ◀─ connection ◀─ response: heads and framing ◀─ respond, start_stream
//! ```
//!
//! A [`Connection`] is handed what was read and what time it is, and hands back requests;
//! it is handed answers, and hands back what is to be written. Nothing here opens a socket,
//! reads a clock, or knows what the requests are about. Whatever a peer sends, a connection
//! neither panics nor holds more memory than its [`Limits`] add up to.
//!
//! What the RFCs call an error is answered by the codec itself, and ends the connection:
//! two parties that disagree about where a request ends must not go on talking.

mod accept;
mod chunked;
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

/// What a peer may cost, in one table (contract, section 5). What is over a limit is
/// answered with the status named here, and the connection is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the request line and the headers together, line ends included; more is a
    /// 431, and a 414 when it is the request line alone. Trailers have as much again.
    pub max_head_bytes: usize,
    /// Header lines in a request; more is a 431.
    pub max_headers: usize,
    /// Bytes of a request's body, after chunks are put together; more is a 413.
    pub max_body_bytes: usize,
    /// Connections open at a time. The daemon keeps this one, not the codec.
    pub max_connections: usize,
    /// For the whole head to arrive, from its first byte; later is a 408. A new connection
    /// that stays silent for so long is closed without an answer.
    pub head_timeout: Duration,
    /// For the whole body to arrive, from when it was asked for; later is a 408.
    pub body_timeout: Duration,
    /// Between an answer and the next request; later, the connection is closed silently.
    pub idle_timeout: Duration,
    /// Bytes written but not taken by the peer, at which no more requests are read from it
    /// and streams pause.
    pub max_unsent_bytes: usize,
    /// Without the peer taking a single byte of what is to be sent; later, the connection
    /// is dropped.
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

/// What the codec itself answers, and why: then the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Refusal {
    status: Status,
    /// For the body; no quotes, so that it needs no escaping in JSON.
    reason: &'static str,
}

impl Refusal {
    fn new(status: Status, reason: &'static str) -> Refusal {
        Refusal { status, reason }
    }

    fn bad(reason: &'static str) -> Refusal {
        Refusal::new(Status::BadRequest, reason)
    }
}

/// Compares two secrets in a time that depends on their lengths alone, never on where they
/// differ.
pub fn constant_time_eq(left: &[u8], right: &[u8]) -> bool {
    let differences =
        left.iter().zip(right).fold(0, |sum: u8, (a, b)| std::hint::black_box(sum | (a ^ b)));
    left.len() == right.len() && differences == 0
}

/// Adds bytes to a buffer that doubles as it grows, but not beyond `limit` as long as what
/// it must hold is within.
fn append(buffer: &mut Vec<u8>, bytes: &[u8], limit: usize) {
    let needed = buffer.len() + bytes.len();
    if needed > buffer.capacity() {
        let wanted = needed.max(limit.min(buffer.capacity() * 2));
        buffer.reserve_exact(wanted - buffer.len());
    }
    buffer.extend_from_slice(bytes);
}
