//! The server's side of HTTP/1.1 and 1.0.

use std::time::Duration;

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
