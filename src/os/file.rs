//! Files that k1s reads: the config, a token.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, makedev, stat};

/// Reads the config itself, of at most `most` bytes. It may be a pipe, as with `-c <(…)`, or a FIFO
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

/// Reads a file that the config names, of at most `most` bytes, and the config itself while k1s
/// supervises: nothing waits.
///
/// # Errors
/// As of [`open_regular`], it cannot be read, or it is larger.
pub fn read_now(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = open_regular(path)?;
    if file.metadata()?.len() > most {
        return Err(too_large(most));
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(too_large(most)) } else { Ok(bytes) }
}

/// Opens a file to read it: a regular one, or /dev/null, which is an empty one. Opening others has
/// effects, such as letting the writer of a FIFO go on, and reading them may wait.
///
/// # Errors
/// It cannot be opened, or is another kind of file: an error without an errno.
pub fn open_regular(path: &Path) -> io::Result<File> {
    check_regular(&stat(path)?)?;
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    let file = open(path, flags, Mode::empty())?;
    // It may have been replaced meanwhile.
    check_regular(&fstat(&file)?)?;
    Ok(File::from(file))
}

fn check_regular(found: &FileStat) -> io::Result<()> {
    let kind = SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT;
    let is_null = kind == SFlag::S_IFCHR && found.st_rdev == makedev(1, 3);
    match kind == SFlag::S_IFREG || is_null {
        true => Ok(()),
        false => Err(io::Error::other("is not a regular file")),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_and_dev_null_are_read_without_waiting() {
        let read = |path: &str| {
            let bytes = read_now(Path::new(path), 10_000).map_err(|error| error.to_string());
            bytes.map(|bytes| bytes.len())
        };
        assert_eq!(read("/dev/null"), Ok(0));
        assert!(read(file!()).is_ok_and(|length| length > 1000));
        assert_eq!(read("Cargo.lock"), Err("is larger than 10000 bytes".to_owned()));
        for path in ["/dev/zero", "/dev", "/dev/tty"] {
            assert_eq!(read(path), Err("is not a regular file".to_owned()), "{path}");
        }
        let missing = read_now(Path::new("/no/such/file"), 1).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
    }
}
