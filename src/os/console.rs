//! k1s's own standard output and error, written to without ever waiting for a reader.
//!
//! Setting O_NONBLOCK on descriptor 1 would change it for all processes that share it: the shell
//! that started k1s, the rest of a pipeline. So k1s does it differently for each kind of file:
//!
//! | kind | how k1s writes |
//! |---|---|
//! | a pipe, a terminal | opens it again through `/proc/self/fd/N`, non-blocking: its own file description |
//! | the same, but opening is refused | asks poll(2) first, and writes at most `PIPE_BUF` bytes |
//! | a socket | `send` with `MSG_DONTWAIT` |
//! | a file, `/dev/null` | writes: these never block, and epoll refuses them with `EPERM` |
//! | closed | drops everything |

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};
use nix::sys::stat::{Mode, SFlag, fstat};

use crate::job::Stream;

/// One of k1s's own two streams.
#[derive(Debug)]
pub struct OwnStream(Kind);

#[derive(Debug)]
enum Kind {
    /// k1s's own file description, non-blocking.
    Reopened(File),
    /// Shared, and may block: poll first.
    Shared(RawFd),
    /// Shared; each send is non-blocking.
    Socket(RawFd),
    /// Never blocks.
    Direct(RawFd),
    /// Everything written is dropped.
    Sink,
}

impl OwnStream {
    /// The stream that k1s was started with.
    pub fn new(stream: Stream) -> OwnStream {
        OwnStream::of(match stream {
            Stream::Stdout => 1,
            Stream::Stderr => 2,
        })
    }

    /// Writes as much as it can without waiting; returns how many bytes.
    ///
    /// # Errors
    /// `WouldBlock`: nothing can be written now; wait until [`pollable`](Self::pollable) is
    /// writable. Any other error comes from the reader or the disk, such as `EPIPE` (there is no
    /// reader any more; k1s has SIGPIPE blocked) or `ENOSPC`: the bytes are lost, k1s goes on.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Kind::Reopened(file) => file.write(bytes),
            Kind::Shared(fd) => write_when_ready(borrow(*fd), bytes),
            Kind::Socket(fd) => {
                Ok(send(*fd, bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL)?)
            }
            Kind::Direct(fd) => Ok(nix::unistd::write(borrow(*fd), bytes)?),
            Kind::Sink => Ok(bytes.len()),
        }
    }

    /// The descriptor to register with epoll, or `None` when it never blocks.
    pub fn pollable(&self) -> Option<RawFd> {
        match &self.0 {
            Kind::Reopened(file) => Some(file.as_raw_fd()),
            Kind::Shared(fd) | Kind::Socket(fd) => Some(*fd),
            Kind::Direct(_) | Kind::Sink => None,
        }
    }

    fn of(fd: RawFd) -> OwnStream {
        let Ok(flags) = fcntl(borrow(fd), FcntlArg::F_GETFL) else {
            return OwnStream(Kind::Sink);
        };
        let readable_only = flags & OFlag::O_ACCMODE.bits() == OFlag::O_RDONLY.bits();
        let Ok(status) = fstat(borrow(fd)) else {
            return OwnStream(Kind::Sink);
        };
        let file_type = SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT;
        OwnStream(if readable_only {
            Kind::Sink
        } else if file_type == SFlag::S_IFSOCK {
            Kind::Socket(fd)
        } else if file_type == SFlag::S_IFIFO || nix::unistd::isatty(borrow(fd)) == Ok(true) {
            reopen(fd).map_or(Kind::Shared(fd), Kind::Reopened)
        } else {
            Kind::Direct(fd)
        })
    }
}

/// Waits until nobody reads stdout any more: a pipe or a socket that is closed at the other end, a
/// terminal that has hung up. Of a file that never comes, nor where waiting is refused.
pub fn wait_until_unread() {
    loop {
        let mut watched = [PollFd::new(borrow(1), PollFlags::empty())];
        match poll(&mut watched, PollTimeout::NONE) {
            Ok(_) => return,
            Err(Errno::EINTR) => {}
            Err(_) => loop {
                std::thread::park();
            },
        }
    }
}

/// Whether stdout and stderr are the same file, as with `2>&1` or on a terminal: then what is
/// written to one may end up in the middle of a line of the other.
pub fn is_one_file() -> bool {
    let identity = |fd| fstat(borrow(fd)).map(|s| (s.st_dev, s.st_ino, s.st_rdev));
    identity(1).is_ok_and(|stdout| identity(2) == Ok(stdout))
}

fn reopen(fd: RawFd) -> nix::Result<File> {
    let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    let path = format!("/proc/self/fd/{fd}");
    open(path.as_str(), flags, Mode::empty()).map(File::from)
}

/// poll(2) says that a pipe is writable when `PIPE_BUF` bytes fit.
fn write_when_ready(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let mut wanted = [PollFd::new(fd, PollFlags::POLLOUT)];
    if poll(&mut wanted, PollTimeout::ZERO)? == 0 {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    let piece = bytes.get(..libc::PIPE_BUF).unwrap_or(bytes);
    Ok(nix::unistd::write(fd, piece)?)
}

/// The standard descriptors are open from [`prepare`](super::prepare) to the end.
fn borrow(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: never closed while a OwnStream is in use; if it were, calls would fail with EBADF.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::testing::{blocking, in_own_process, may_become_others};
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    use std::io::{ErrorKind, Read};
    use std::os::fd::{AsFd, OwnedFd};

    fn console(fd: &impl AsFd) -> OwnStream {
        OwnStream::of(fd.as_fd().as_raw_fd())
    }

    fn is_blocking(fd: &impl AsFd) -> bool {
        fcntl(fd, FcntlArg::F_GETFL).unwrap() & OFlag::O_NONBLOCK.bits() == 0
    }

    /// Writes until there is no room; then reads it all, and writes again.
    fn check_full(console: &mut OwnStream, shared: &OwnedFd, reader: OwnedFd) {
        let mut written = 0;
        let error = loop {
            match console.write(&[b'x'; 10_000]) {
                Ok(n) => written += n,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        assert!(written >= 1000, "{written}");
        assert!(is_blocking(shared), "shared by others, who expect it to wait");
        assert!(console.pollable().is_some());
        blocking(&reader);
        let mut reader = File::from(reader);
        reader.read_exact(&mut vec![0; written]).unwrap();
        assert_eq!(console.write(b"y").unwrap(), 1);
    }

    #[test]
    fn a_full_pipe_does_not_block_and_stays_blocking_for_others() {
        let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
        let mut console = console(&writer);
        assert!(matches!(console.0, Kind::Reopened(_)));
        check_full(&mut console, &writer, reader);
    }

    #[test]
    fn a_pipe_that_cannot_be_opened_anew_does_not_block() {
        let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
        let mut console = OwnStream(Kind::Shared(writer.as_raw_fd()));
        check_full(&mut console, &writer, reader);
    }

    #[test]
    fn a_full_socket_does_not_block() {
        let (family, flags) = (AddressFamily::Unix, SockFlag::SOCK_CLOEXEC);
        let (reader, writer) = socketpair(family, SockType::Stream, None, flags).unwrap();
        let mut console = console(&writer);
        assert!(matches!(console.0, Kind::Socket(_)));
        check_full(&mut console, &writer, reader);
    }

    #[test]
    fn a_full_terminal_does_not_block() {
        let pty = nix::pty::openpty(None, None).unwrap();
        let mut raw = nix::sys::termios::tcgetattr(&pty.slave).unwrap();
        nix::sys::termios::cfmakeraw(&mut raw);
        nix::sys::termios::tcsetattr(&pty.slave, nix::sys::termios::SetArg::TCSANOW, &raw).unwrap();
        let mut console = console(&pty.slave);
        assert!(matches!(console.0, Kind::Reopened(_)));
        check_full(&mut console, &pty.slave, pty.master);
    }

    #[test]
    fn files_are_written_to_directly() {
        let path = std::env::temp_dir().join(format!("k1s-os-console-{}", std::process::id()));
        let file = File::create(&path).unwrap();
        let mut to_file = console(&file);
        assert_eq!(to_file.write(b"hello").unwrap(), 5);
        assert_eq!(to_file.pollable(), None);
        assert_eq!(std::fs::read(&path).unwrap(), b"hello");
        let read_only = File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(console(&read_only).0, Kind::Sink));
        let null = File::options().write(true).open("/dev/null").unwrap();
        assert_eq!(console(&null).write(&[0; 100_000]).unwrap(), 100_000);
        let full = File::options().write(true).open("/dev/full").unwrap();
        let error = console(&full).write(b"x").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
    }

    #[test]
    fn a_closed_descriptor_swallows_everything() {
        let mut console = OwnStream::of(999_999);
        assert_eq!(console.write(b"hello").unwrap(), 5);
        assert_eq!(console.pollable(), None);
    }

    #[test]
    fn a_reader_that_is_gone_is_an_error_of_the_write() {
        let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
        let mut before = console(&writer);
        drop(reader);
        for console in [&mut before, &mut console(&writer)] {
            let error = console.write(b"x").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        }
    }

    #[test]
    fn a_hidden_process_of_an_ordinary_user_opens_its_own_pipe_anew() {
        let name =
            "os::console::tests::a_hidden_process_of_an_ordinary_user_opens_its_own_pipe_anew";
        if !may_become_others(name) {
            return;
        }
        in_own_process(name, || {
            // SAFETY: takes a number.
            unsafe { libc::setuid(4715) };
            let startup = crate::os::prepare();
            assert_eq!(startup.notes, Vec::<String>::new());
            assert_eq!(nix::sys::prctl::get_dumpable(), Ok(false));
            let (_reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
            assert!(matches!(console(&writer).0, Kind::Reopened(_)));
        });
    }
}
