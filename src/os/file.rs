//! Files that k1s reads: the config, a token.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::Mode;

/// Reads a whole file, of at most `most` bytes. It may be a pipe, as with `-c <(…)`, or a FIFO
/// without a writer. While there is nothing to read, a signal that asks k1s to end ends this call,
/// although all signals are blocked ([`prepare`](super::prepare)) and no handler is installed yet.
///
/// # Errors
/// It cannot be opened or read, it is larger, or such a signal came.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    let mut file = File::from(open(path, flags, Mode::empty())?);
    let ends = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP];
    let signals = ends.into_iter().collect::<SigSet>();
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let (mut bytes, mut buffer) = (Vec::new(), [0; BUFFER_BYTES]);
    loop {
        // A FIFO without a writer reads as if at its end, so wait for it by poll.
        wait(&file, &signals)?;
        match file.read(&mut buffer) {
            Ok(0) => return Ok(bytes),
            Ok(count) => bytes.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
        if bytes.len() as u64 > most {
            return Err(too_large(most));
        }
    }
}

/// Reads a whole file, of at most `most` bytes, without waiting: while k1s supervises.
///
/// # Errors
/// It cannot be opened or read, it is larger, or not a regular file.
pub fn read_now(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    let file = File::from(open(path, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("is not a regular file, which alone is read while k1s runs"));
    }
    if metadata.len() > most {
        return Err(too_large(most));
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(too_large(most)) } else { Ok(bytes) }
}

fn too_large(most: u64) -> io::Error {
    io::Error::new(ErrorKind::FileTooLarge, format!("is larger than {most} bytes"))
}

fn wait(file: &File, signals: &SignalFd) -> io::Result<()> {
    let ready = |fd: &PollFd| fd.revents().is_some_and(|events| !events.is_empty());
    loop {
        let mut fds = [
            PollFd::new(file.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            result => result?,
        };
        let [file, signals] = &fds;
        if ready(file) {
            return Ok(());
        }
        if ready(signals) {
            return Err(io::Error::other("a signal came while nothing could be read from it"));
        }
    }
}

const BUFFER_BYTES: usize = 16 * 1024;
