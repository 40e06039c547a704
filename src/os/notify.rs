//! The socket on which a run reports by sd_notify(3): datagrams, each with the pid of its sender.
//!
//! Its name is abstract (unix(7)), because a scratch image has no directory for another. Anyone in
//! the network namespace may send to it, so the caller looks at who has: the kernel says it
//! (`SO_PASSCRED`), and only who has CAP_SYS_ADMIN may name another process, as systemd-notify(1)
//! does with its parent.
//!
//! Descriptors that come with a datagram are never received: there is no room for them, so the
//! kernel closes them. That is what `BARRIER=1` waits for.

use std::ffi::c_void;
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, bind as bind_socket, setsockopt, socket, sockopt,
};

use super::SpawnError;
use super::random;
use crate::job::Pid;

/// A socket with a name of its own: non-blocking, close-on-exec.
#[derive(Debug)]
pub struct NotifySocket {
    /// The socket.
    pub fd: OwnedFd,
    /// The value of `NOTIFY_SOCKET`.
    pub variable: String,
}

/// A datagram that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// How much of the buffer it takes; `None` if it did not fit in.
    pub length: Option<usize>,
    /// Who has sent it; `None` for a process that this pid namespace does not see.
    pub sender: Option<Pid>,
}

impl NotifySocket {
    /// Opens a socket for a run, which the short text names. A random number makes it a name that
    /// nobody can have taken before.
    ///
    /// # Errors
    /// [`SpawnError::Shortage`], whatever the reason: it is not the job's fault.
    pub fn open(run: &str) -> Result<NotifySocket, SpawnError> {
        let name = format!("k1s/{run}/{:016x}", random::number());
        let failed = |errno: Errno| SpawnError::shortage("notify socket", &errno.into());
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Unix, SockType::Datagram, flags, None).map_err(failed)?;
        // Before it has a name: each datagram is to come with the pid of its sender.
        setsockopt(&fd, sockopt::PassCred, &true).map_err(failed)?;
        let address = UnixAddr::new_abstract(name.as_bytes()).map_err(failed)?;
        bind_socket(fd.as_raw_fd(), &address).map_err(failed)?;
        Ok(NotifySocket { fd, variable: format!("@{name}") })
    }
}

/// Receives the next datagram.
///
/// # Errors
/// `EAGAIN`: there is none.
pub fn receive(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<Datagram> {
    let mut part =
        libc::iovec { iov_base: buffer.as_mut_ptr().cast::<c_void>(), iov_len: buffer.len() };
    let mut control = Control { space: [0; CONTROL_BYTES] };
    // SAFETY: all zeros are a msghdr without a name, parts or control messages.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = (&raw mut control).cast::<c_void>();
    header.msg_controllen = CONTROL_BYTES;
    // SAFETY: the header points to a buffer and to space for control messages, each with its
    // length, which outlive the call.
    let length = unsafe {
        libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC)
    };
    let length = Errno::result(length)?.unsigned_abs();
    let is_whole = header.msg_flags & libc::MSG_TRUNC == 0;
    Ok(Datagram { length: is_whole.then_some(length), sender: sender_in(&header) })
}

/// The pid in the first control message, which holds the credentials: the kernel writes them first
/// (Linux, net/core/scm.c and include/net/scm.h, `scm_recv`).
fn sender_in(header: &libc::msghdr) -> Option<Pid> {
    // SAFETY: the kernel has filled the header's control messages, which are still there.
    let first = unsafe { libc::CMSG_FIRSTHDR(header).as_ref() }?;
    let needed = size_of::<libc::cmsghdr>() + size_of::<libc::ucred>();
    let is_credentials = (first.cmsg_level, first.cmsg_type)
        == (libc::SOL_SOCKET, libc::SCM_CREDENTIALS)
        && first.cmsg_len >= needed;
    if !is_credentials {
        return None;
    }
    // SAFETY: the message is long enough for a ucred behind its header.
    let credentials = unsafe { ptr::read_unaligned(libc::CMSG_DATA(first).cast::<libc::ucred>()) };
    (credentials.pid > 0).then_some(Pid(credentials.pid))
}

/// Space for control messages, aligned as their headers must be: cmsg(3).
#[repr(C, align(8))]
struct Control {
    space: [u8; CONTROL_BYTES],
}

/// Enough for the credentials, and too little for descriptors behind them.
const CONTROL_BYTES: usize =
    size_of::<libc::cmsghdr>() + size_of::<libc::ucred>().next_multiple_of(8);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::proc::own_pid;
    use crate::os::testing::{in_own_process, open_descriptors};
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    use nix::unistd::{pipe, read};
    use std::io::IoSlice;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    fn sender(socket: &NotifySocket) -> UnixDatagram {
        let name = socket.variable.strip_prefix('@').unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        sender.connect_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap();
        sender
    }

    #[test]
    fn a_datagram_comes_with_the_pid_of_its_sender() {
        let socket = NotifySocket::open("i-1.1").unwrap();
        let mut buffer = [0; 8];
        let error = receive(&socket.fd, &mut buffer).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let sender = sender(&socket);
        for text in ["READY=1", "", "12345678", "123456789"] {
            sender.send(text.as_bytes()).unwrap();
            let datagram = receive(&socket.fd, &mut buffer).unwrap();
            let length = Some(text.len()).filter(|length| *length <= 8);
            assert_eq!(datagram, Datagram { length, sender: Some(own_pid()) });
            assert_eq!(length.map(|length| &buffer[..length]), length.map(|_| text.as_bytes()));
        }
    }

    #[test]
    fn each_has_a_name_of_its_own_and_is_nobody_else_s() {
        let [one, other] = [(); 2].map(|()| NotifySocket::open("i-1.1").unwrap());
        assert_ne!(one.variable, other.variable);
        assert!(one.variable.starts_with("@k1s/i-1.1/"));
        assert_eq!(fcntl(&one.fd, FcntlArg::F_GETFD), Ok(libc::FD_CLOEXEC));
        let flags = OFlag::from_bits_retain(fcntl(&one.fd, FcntlArg::F_GETFL).unwrap());
        assert!(flags.contains(OFlag::O_NONBLOCK));
    }

    #[test]
    fn descriptors_are_closed_and_not_received() {
        let name = "os::notify::tests::descriptors_are_closed_and_not_received";
        in_own_process(name, || {
            let socket = NotifySocket::open("i-1.1").unwrap();
            let sender = sender(&socket);
            let (reader, writer) = pipe().unwrap();
            let barrier = [writer.as_raw_fd()];
            let message = ControlMessage::ScmRights(&barrier);
            let text = [IoSlice::new(b"BARRIER=1")];
            sendmsg::<()>(sender.as_raw_fd(), &text, &[message], MsgFlags::empty(), None).unwrap();
            drop(writer);
            let before = open_descriptors();
            let datagram = receive(&socket.fd, &mut [0; 64]).unwrap();
            assert_eq!(datagram, Datagram { length: Some(9), sender: Some(own_pid()) });
            assert_eq!(open_descriptors(), before);
            assert_eq!(read(&reader, &mut [0]), Ok(0), "nobody has the other end any more");
        });
    }
}
