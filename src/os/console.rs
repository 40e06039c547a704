//! k1s's own standard output and error, written to without ever waiting for a reader.
//!
//! Setting O_NONBLOCK on descriptor 1 would change it for everybody who shares it: the shell
//! that started k1s, the rest of a pipeline. So each kind of file has its own way:
//!
//! | it is | k1s |
//! |---|---|
//! | a pipe, a terminal | opens it anew through `/proc/self/fd/N`, non-blocking: a description of its own |
//! | the same, and opening is refused | asks poll(2) first, writes at most `PIPE_BUF` bytes |
//! | a socket | `send` with `MSG_DONTWAIT` |
//! | a file, `/dev/null` | writes; epoll refuses these with `EPERM`, and they never wait |
//! | closed | drops everything |

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};
use nix::sys::stat::{Mode, SFlag, fstat};

use crate::job::Stream;

/// One of k1s's own two streams.
#[derive(Debug)]
pub struct Console(Kind);

#[derive(Debug)]
enum Kind {
    /// A description of k1s's own, non-blocking.
    Reopened(File),
    /// Shared, and it may block: poll first.
    Shared(RawFd),
    /// Shared, each send says that it does not wait.
    Socket(RawFd),
    /// Never waits for anybody.
    Direct(RawFd),
    /// Everything written is dropped.
    Sink,
}

impl Console {
    /// The stream as k1s was started with it.
    pub fn new(stream: Stream) -> Console {
        Console::of(match stream {
            Stream::Stdout => 1,
            Stream::Stderr => 2,
        })
    }

    /// Writes what can be written without waiting; how much that was, in bytes.
    ///
    /// # Errors
    /// `WouldBlock`: nothing for now, wait for [`pollable`](Self::pollable) to be writable.
    /// Any other is the reader's or the disk's, such as `EPIPE` (nobody reads any more; k1s
    /// has SIGPIPE blocked) or `ENOSPC`: what was to be written is lost, k1s goes on.
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

    /// The descriptor to wait on for room, or `None` when it never waits: it cannot be
    /// registered with epoll then, nor needs to be.
    pub fn pollable(&self) -> Option<RawFd> {
        match &self.0 {
            Kind::Reopened(file) => Some(file.as_raw_fd()),
            Kind::Shared(fd) | Kind::Socket(fd) => Some(*fd),
            Kind::Direct(_) | Kind::Sink => None,
        }
    }

    fn of(fd: RawFd) -> Console {
        let Ok(flags) = fcntl(borrow(fd), FcntlArg::F_GETFL) else {
            return Console(Kind::Sink);
        };
        let readable_only = flags & OFlag::O_ACCMODE.bits() == OFlag::O_RDONLY.bits();
        let Ok(status) = fstat(borrow(fd)) else {
            return Console(Kind::Sink);
        };
        let file_type = SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT;
        Console(if readable_only {
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

fn reopen(fd: RawFd) -> nix::Result<File> {
    let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    let path = format!("/proc/self/fd/{fd}");
    open(path.as_str(), flags, Mode::empty()).map(File::from)
}

/// poll(2) says that a pipe has room when `PIPE_BUF` bytes fit.
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
    // SAFETY: never closed while a Console is in use; should it be, calls fail with EBADF.
    unsafe { BorrowedFd::borrow_raw(fd) }
}
