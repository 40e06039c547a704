//! The sockets of the API: those that listen, and those of connections.
//!
//! ```text
//!   TCP         ─┐
//!                ├─ in turn ─▶ accept ─▶ Socket, Origin
//!   unix socket ─┘
//! ```
//!
//! Events are edge-triggered: a listener remembers that there may be a peer to accept until it says
//! that there is none.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use mio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use mio::{Interest, Registry, Token};

use crate::access::Origin;
use crate::config::{Fixed, LogLevel};
use crate::os;
use crate::os::local::{LocalError, LocalUser, SocketFile, listen_at, user_of};

/// The tokens of listeners.
pub(super) const LISTENERS: [Token; 2] = [NETWORK, LOCAL];

/// The listening sockets.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    /// In the order in which they are asked next.
    all: VecDeque<Listener>,
    /// Why there is no unix socket where there could be one.
    note: Option<(LogLevel, String)>,
}

#[derive(Debug)]
struct Listener {
    kind: Kind,
    /// There may be a peer to accept.
    is_ready: bool,
}

#[derive(Debug)]
enum Kind {
    Network(TcpListener, SocketAddr),
    /// The file is removed before the listener is closed.
    Local(SocketFile, UnixListener),
}

/// The socket of a connection.
#[derive(Debug)]
pub(super) enum Socket {
    Network(TcpStream),
    Local(UnixStream),
}

impl Listeners {
    /// Opens the unix socket, and with `opens_network` the port.
    ///
    /// # Errors
    /// Why one of them cannot be opened, for people. A unix socket that nobody has asked for is no
    /// error.
    pub(super) fn open(
        settings: &Fixed,
        opens_network: bool,
        registry: &Registry,
    ) -> Result<Listeners, String> {
        let mut listeners = Listeners::default();
        if opens_network {
            listeners.open_network(SocketAddr::new(settings.host, settings.port), registry)?;
        }
        if let Some(socket) = &settings.socket {
            match listeners.open_local(&socket.path, registry) {
                Err((_, why)) if !socket.is_default => return Err(why),
                Err(note) => listeners.note = Some(note),
                Ok(()) => {}
            }
        }
        Ok(listeners)
    }

    fn open_network(&mut self, wanted: SocketAddr, registry: &Registry) -> Result<(), String> {
        let failed = |error: io::Error| match error.kind() {
            ErrorKind::AddrInUse => {
                format!(
                    "cannot listen on {wanted}: the port is in use; another one is set by PORT or http.port"
                )
            }
            _ => format!("cannot listen on {wanted}: {error}"),
        };
        let mut listener = TcpListener::bind(wanted).map_err(failed)?;
        os::socket::prepare_listener(&listener).map_err(failed)?;
        registry.register(&mut listener, NETWORK, Interest::READABLE).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        self.add(Kind::Network(listener, address));
        Ok(())
    }

    fn open_local(&mut self, path: &Path, registry: &Registry) -> Result<(), (LogLevel, String)> {
        let place = path.display();
        let failed =
            |why: &str| (LogLevel::Debug, format!("cannot listen on unix://{place}: {why}"));
        let (file, listener) = listen_at(path).map_err(|error| match error {
            LocalError::Taken => {
                let why = "another k1s answers there; http.socket or K1S_SOCKET sets another one";
                (LogLevel::Warn, format!("cannot listen on unix://{place}: {why}"))
            }
            LocalError::Failed(why) => failed(&why),
        })?;
        let mut listener = UnixListener::from_std(listener);
        registry
            .register(&mut listener, LOCAL, Interest::READABLE)
            .map_err(|error| failed(&error.to_string()))?;
        self.add(Kind::Local(file, listener));
        Ok(())
    }

    fn add(&mut self, kind: Kind) {
        self.all.push_back(Listener { kind, is_ready: true });
    }

    /// Why there is no unix socket, unless there is none on purpose; once.
    pub(super) fn take_note(&mut self) -> Option<(LogLevel, String)> {
        self.note.take()
    }

    /// The address of the port, as in a URL.
    pub(super) fn address(&self) -> Option<String> {
        self.all.iter().find_map(|listener| match &listener.kind {
            Kind::Network(_, address) => Some(match address.ip() {
                IpAddr::V4(ip) => format!("{ip}:{}", address.port()),
                IpAddr::V6(ip) => format!("[{ip}]:{}", address.port()),
            }),
            Kind::Local(..) => None,
        })
    }

    /// The path of the unix socket.
    pub(super) fn path(&self) -> Option<&Path> {
        self.all.iter().find_map(|listener| match &listener.kind {
            Kind::Network(..) => None,
            Kind::Local(file, _) => Some(file.path()),
        })
    }

    /// A listener, to reserve a descriptor with.
    pub(super) fn any(&self) -> Option<BorrowedFd<'_>> {
        self.all.front().map(|listener| match &listener.kind {
            Kind::Network(listener, _) => listener.as_fd(),
            Kind::Local(_, listener) => listener.as_fd(),
        })
    }

    /// There is a peer to accept on the listener with this token.
    pub(super) fn handle_event(&mut self, token: Token) {
        for listener in self.all.iter_mut().filter(|listener| listener.kind.token() == token) {
            listener.is_ready = true;
        }
    }

    /// Whether there may be a peer to accept.
    pub(super) fn is_ready(&self) -> bool {
        self.all.iter().any(|listener| listener.is_ready)
    }

    /// There may be peers to accept on all of them, or they are not asked for now.
    pub(super) fn set_ready(&mut self, is_ready: bool) {
        self.all.iter_mut().for_each(|listener| listener.is_ready = is_ready);
    }

    /// Accepts a peer, from each listener in its turn; `None`: there is none.
    pub(super) fn accept(&mut self) -> Option<io::Result<(Socket, Origin)>> {
        for _ in 0..self.all.len() {
            let mut listener = self.all.pop_front()?;
            let accepted = listener.is_ready.then(|| listener.kind.accept());
            let is_over = |error: &io::Error| error.kind() == ErrorKind::WouldBlock;
            let has_none = accepted.as_ref().is_some_and(|it| it.as_ref().is_err_and(is_over));
            listener.is_ready &= !has_none;
            self.all.push_back(listener);
            if accepted.is_some() && !has_none {
                return accepted;
            }
        }
        None
    }
}

impl Kind {
    fn token(&self) -> Token {
        match self {
            Kind::Network(..) => NETWORK,
            Kind::Local(..) => LOCAL,
        }
    }

    fn accept(&self) -> io::Result<(Socket, Origin)> {
        match self {
            Kind::Network(listener, _) => {
                listener.accept().map(|(stream, _)| (Socket::Network(stream), Origin::Network))
            }
            Kind::Local(_, listener) => {
                let (stream, _) = listener.accept()?;
                let LocalUser { uid, is_owner } = user_of(&stream)?;
                let origin = if is_owner { Origin::Owner { uid } } else { Origin::Other { uid } };
                Ok((Socket::Local(stream), origin))
            }
        }
    }
}

impl Socket {
    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        match self {
            Socket::Network(stream) => registry.register(stream, token, interest),
            Socket::Local(stream) => registry.register(stream, token, interest),
        }
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Network(stream) => stream.read(buffer),
            Socket::Local(stream) => stream.read(buffer),
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Network(stream) => stream.write(bytes),
            Socket::Local(stream) => stream.write(bytes),
        }
    }

    /// Sends no more.
    pub(super) fn shut_write(&self) -> io::Result<()> {
        match self {
            Socket::Network(stream) => stream.shutdown(Shutdown::Write),
            Socket::Local(stream) => stream.shutdown(Shutdown::Write),
        }
    }
}

const NETWORK: Token = Token(3);
const LOCAL: Token = Token(6);
