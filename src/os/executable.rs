//! Whether an executable can be executed without a wait.
//!
//! If a process holds a lease on a file (fcntl(2), F_SETLEASE), the kernel asks it to give it up
//! when the file is executed, and waits for `fs.lease-break-time`, 45 s. k1s would be suspended as
//! long. open(2) with O_NONBLOCK asks the holder as well, but returns at once, so that k1s can try
//! again later.
//!
//! It cannot help with a file that k1s may not read, nor with a lease that is taken between the
//! check and execve.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, stat};

use super::failure::SpawnError;

/// Checks the first candidate that is a file, which is the one that execve(2) takes, and the
/// interpreter that its first line names. Any other error is left to execve.
///
/// # Errors
/// [`SpawnError::Shortage`]: a process holds a lease on one of them.
pub(super) fn is_free(candidates: &[CString], directory: &str) -> Result<(), SpawnError> {
    let paths = candidates.iter().map(|path| Path::new(OsStr::from_bytes(path.to_bytes())));
    for path in paths {
        let path = Path::new(directory).join(path);
        let Some(head) = look(&path)? else { continue };
        if let Some(interpreter) = interpreter(&head) {
            look(&Path::new(directory).join(interpreter))?;
        }
        return Ok(());
    }
    Ok(())
}

/// The beginning of the file; `None` when there is no such file. Only regular files are opened:
/// opening others has effects, such as letting the writer of a FIFO go on.
fn look(path: &Path) -> Result<Option<Vec<u8>>, SpawnError> {
    let kind = stat(path).map(|stat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT);
    if kind != Ok(SFlag::S_IFREG) {
        return Ok(None);
    }
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    match open(path, flags, Mode::empty()) {
        Ok(fd) => {
            let mut head = Vec::new();
            let _ = File::from(fd).take(HEAD_BYTES).read_to_end(&mut head);
            Ok(Some(head))
        }
        Err(Errno::EWOULDBLOCK) => {
            let path = path.display();
            Err(SpawnError::Shortage(format!(
                "executable {path}: another process holds a lease on it (EWOULDBLOCK)"
            )))
        }
        Err(_) => Ok(Some(Vec::new())),
    }
}

/// The interpreter that `#!` names: execve(2).
fn interpreter(head: &[u8]) -> Option<&Path> {
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let mut words = line.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
    words.next().map(|word| Path::new(OsStr::from_bytes(word)))
}

/// As much as the kernel reads: BINPRM_BUF_SIZE of linux/binfmts.h.
const HEAD_BYTES: u64 = 256;
