//! Pipes: one end for the loop, the other for a child.
//!
//! They are created and watched before the child is started. If that fails, nothing is started,
//! because nobody would read its output.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;

use super::SpawnError;

/// k1s's ends of the output of a run: non-blocking, close-on-exec.
#[derive(Debug)]
pub struct ReadEnds {
    /// Reads what it writes to descriptor 1.
    pub stdout: OwnedFd,
    /// Reads what it writes to descriptor 2.
    pub stderr: OwnedFd,
}

/// The ends that a run writes to: blocking, close-on-exec. k1s closes its copies when this is
/// dropped, so that it can read the end of the output.
#[derive(Debug)]
pub struct WriteEnds {
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// Creates the two pipes for the output of a run.
///
/// # Errors
/// [`SpawnError::Shortage`].
pub fn captured() -> Result<(ReadEnds, WriteEnds), SpawnError> {
    let failed = |errno| SpawnError::at("pipe", errno);
    let (stdout, child_stdout) = pipe().map_err(failed)?;
    let (stderr, child_stderr) = pipe().map_err(failed)?;
    Ok((ReadEnds { stdout, stderr }, WriteEnds { stdout: child_stdout, stderr: child_stderr }))
}

/// Creates the pipe on which a run reports that it is ready: the end that k1s reads, and the one
/// for the run.
///
/// # Errors
/// [`SpawnError::Shortage`].
pub fn reported() -> Result<(OwnedFd, OwnedFd), SpawnError> {
    pipe().map_err(|errno| SpawnError::at("pipe", errno))
}

/// Lets the pipe hold 256 KiB, four times as much, so that who fills it has to wait less often;
/// where that is not permitted, as when a user has many (pipe(7), `pipe-user-pages-soft`), it stays
/// as it is.
pub fn widen(pipe: &impl AsFd) {
    let _ = fcntl(pipe, FcntlArg::F_SETPIPE_SZ(WIDE_BYTES));
}

/// How many bytes there are to read: `FIONREAD`, ioctl_pipe(2). The bytes that are there when the
/// first process of a run has ended are drained, and no more.
///
/// # Errors
/// `EBADF`, `ENOTTY`: not a pipe.
pub fn bytes_pending(pipe: &impl AsFd) -> io::Result<usize> {
    let mut pending: libc::c_int = 0;
    // SAFETY: the descriptor is open, and FIONREAD writes one int to the pointer.
    let result = unsafe { libc::ioctl(pipe.as_fd().as_raw_fd(), libc::FIONREAD, &raw mut pending) };
    nix::errno::Errno::result(result)?;
    Ok(usize::try_from(pending).unwrap_or(0))
}

/// A pipe: the read end for k1s is non-blocking, the write end for a child is blocking. Both are
/// close-on-exec. pipe2(2) would make both ends non-blocking, which no program expects of its
/// standard output.
///
/// # Errors
/// `EMFILE`, `ENFILE`, `ENOMEM`: a shortage of this machine.
fn pipe() -> nix::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((read, write))
}

/// What a pipe holds: pipe(7).
pub const COMMON_BYTES: usize = 64 * 1024;
const WIDE_BYTES: libc::c_int = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Write};

    #[test]
    fn only_the_read_end_is_non_blocking_and_both_are_close_on_exec() {
        let (read, write) = pipe().unwrap();
        let flags = |fd: &OwnedFd, what| fcntl(fd, what).unwrap();
        let nonblocking = OFlag::O_NONBLOCK.bits();
        assert_ne!(flags(&read, FcntlArg::F_GETFL) & nonblocking, 0);
        assert_eq!(flags(&write, FcntlArg::F_GETFL) & nonblocking, 0);
        for end in [&read, &write] {
            assert_eq!(flags(end, FcntlArg::F_GETFD), libc::FD_CLOEXEC);
        }
    }

    #[test]
    fn pending_bytes_are_those_not_yet_read() {
        let (read, write) = pipe().unwrap();
        assert_eq!(bytes_pending(&read).unwrap(), 0);
        let (mut read, mut write) = (File::from(read), File::from(write));
        write.write_all(b"hello").unwrap();
        assert_eq!(bytes_pending(&read).unwrap(), 5);
        read.read_exact(&mut [0; 3]).unwrap();
        drop(write);
        assert_eq!(bytes_pending(&read).unwrap(), 2);
    }
}
