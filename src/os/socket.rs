//! Options of the API's sockets, on both ends, and reserved descriptors.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};

/// Sets options that each accepted connection inherits from its listener, without a call for each:
/// answers are sent at once (`TCP_NODELAY`), and a peer that has disappeared is noticed after about
/// two minutes of silence (`SO_KEEPALIVE`): tcp(7).
///
/// # Errors
/// It is not a TCP socket.
pub fn prepare_listener(listener: &impl AsFd) -> io::Result<()> {
    setsockopt(listener, sockopt::TcpNoDelay, &true)?;
    setsockopt(listener, sockopt::KeepAlive, &true)?;
    setsockopt(listener, sockopt::TcpKeepIdle, &KEEPALIVE_IDLE_SECONDS)?;
    setsockopt(listener, sockopt::TcpKeepInterval, &KEEPALIVE_INTERVAL_SECONDS)?;
    setsockopt(listener, sockopt::TcpKeepCount, &KEEPALIVE_PROBES)?;
    Ok(())
}

/// Lets a connection to a k1s end when nothing has come from its machine for a minute, also while
/// it is only listened to: tcp(7).
///
/// # Errors
/// It is not a TCP socket.
pub fn notice_dead_peer(stream: &impl AsFd) -> io::Result<()> {
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &SILENT_SECONDS)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &PROBE_SECONDS)?;
    setsockopt(stream, sockopt::TcpUserTimeout, &DEAD_MILLIS)?;
    Ok(())
}

/// A reserved descriptor: closing it frees one for something else.
///
/// # Errors
/// `EMFILE`: there is none left.
pub fn reserve_descriptor(of: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    of.try_clone_to_owned()
}

/// Whether a call failed because of a shortage of descriptors or memory, not because of the peer.
pub fn is_shortage(error: &io::Error) -> bool {
    let shortages = [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM];
    shortages.contains(&super::errno_of(error))
}

const KEEPALIVE_IDLE_SECONDS: u32 = 60;
const KEEPALIVE_INTERVAL_SECONDS: u32 = 15;
const KEEPALIVE_PROBES: u32 = 4;
/// After so long without a byte it is asked whether the peer is there, and again.
const SILENT_SECONDS: u32 = 30;
const PROBE_SECONDS: u32 = 10;
/// Without an answer for so long, to a question or to what was sent, it is not.
const DEAD_MILLIS: u32 = 60_000;

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::getsockopt;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn an_accepted_connection_inherits_what_the_listener_was_set_to() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        prepare_listener(&listener).unwrap();
        let _peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert!(getsockopt(&accepted, sockopt::TcpNoDelay).unwrap());
        assert!(getsockopt(&accepted, sockopt::KeepAlive).unwrap());
        assert_eq!(getsockopt(&accepted, sockopt::TcpKeepIdle), Ok(KEEPALIVE_IDLE_SECONDS));
    }

    #[test]
    fn a_connection_asks_whether_its_peer_is_there() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        notice_dead_peer(&stream).unwrap();
        assert!(getsockopt(&stream, sockopt::KeepAlive).unwrap());
        assert_eq!(getsockopt(&stream, sockopt::TcpKeepIdle), Ok(SILENT_SECONDS));
        assert_eq!(getsockopt(&stream, sockopt::TcpKeepInterval), Ok(PROBE_SECONDS));
        assert_eq!(getsockopt(&stream, sockopt::TcpUserTimeout), Ok(DEAD_MILLIS));
    }
}
