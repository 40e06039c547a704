//! The state directory: a lock, and segments by their numbers.
//!
//! ```text
//!   /var/lib/k1s/  lock          held while a k1s runs: flock(2)
//!                  state-1       segments, in order of their numbers
//!                  state-2
//!                  damaged-…     a segment that was damaged, kept for people
//! ```

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::os;

/// The directory, which no other k1s uses as long as this lives.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    handle: File,
    _lock: File,
}

impl Directory {
    /// Opens the directory, which is created if it is not there, and locks it.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub(super) fn open(path: &Path) -> Result<Directory, String> {
        let failed = |error: io::Error| format!("cannot use the state directory {path:?}: {error}");
        create(path).map_err(failed)?;
        let handle = File::open(path).map_err(failed)?;
        let lock =
            options().create(true).truncate(false).open(path.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Directory { path: path.to_owned(), handle, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(format!(
                "the state directory {path:?} is in use by another k1s; each needs its own"
            )),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Its mode, if others than the user who owns it may change which files it has.
    pub(super) fn mode_for_others(&self) -> Option<u32> {
        let mode = self.handle.metadata().ok()?.permissions().mode() & 0o7777;
        (mode & 0o022 != 0).then_some(mode)
    }

    pub(super) fn as_raw_fd(&self) -> RawFd {
        self.handle.as_raw_fd()
    }

    /// Makes the names in it safe, where the file system can do that.
    pub(super) fn sync(&self) -> io::Result<()> {
        match self.handle.sync_all() {
            Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
            synced => synced,
        }
    }

    /// Makes safe what is in a segment.
    pub(super) fn sync_segment(&self, number: u64) -> io::Result<()> {
        File::open(segment(&self.path, number))?.sync_data()
    }

    /// A new segment.
    pub(super) fn create(&self, number: u64) -> io::Result<File> {
        options().create_new(true).open(segment(&self.path, number))
    }

    /// A segment to be written on.
    pub(super) fn open_segment(&self, number: u64) -> io::Result<File> {
        options().open(segment(&self.path, number))
    }

    /// Removes a segment. One that stays does not count, and is removed by the next k1s.
    pub(super) fn remove(&self, number: u64) {
        let _ = self.try_remove(number);
    }

    /// Removes a segment that would be in the way. Returns its length.
    pub(super) fn try_remove(&self, number: u64) -> io::Result<u64> {
        let path = segment(&self.path, number);
        let length = std::fs::symlink_metadata(&path)?.len();
        std::fs::remove_file(path).map(|()| length)
    }

    /// Gives a damaged segment another name.
    pub(super) fn put_aside(&self, number: u64) -> io::Result<PathBuf> {
        let name = |count: u64| self.path.join(format!("damaged-{number}.{count}"));
        let free = (1..).map(name).find(|path| !path.exists()).unwrap_or_else(|| name(0));
        std::fs::rename(segment(&self.path, number), &free)?;
        Ok(free)
    }
}

/// Creates the directory, and those that it is in, whose names are made safe.
fn create(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    create(parent)?;
    match DirBuilder::new().mode(0o700).create(path) {
        // What cannot be made safe here may be so all the same: a volume, an overlay.
        Ok(()) => drop(File::open(parent).and_then(|parent| parent.sync_all())),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// The numbers of the segments in a directory, in order.
pub(super) fn segments(path: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("state-"));
        let number = number.and_then(|number| number.parse::<u64>().ok());
        // No other way of writing a number, or a segment would be read twice.
        numbers.extend(number.filter(|number| segment(Path::new(""), *number).as_os_str() == name));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Reads a segment into `bytes`.
///
/// # Errors
/// Why it cannot be read, for people.
pub(super) fn read(path: &Path, number: u64, bytes: &mut Vec<u8>) -> Result<(), String> {
    let path = segment(path, number);
    bytes.clear();
    let read = os::file::open_regular(&path).and_then(|mut file| file.read_to_end(bytes));
    read.map(|_| ()).map_err(|error| format!("cannot read {path:?}: {error}"))
}

/// The path of a segment.
pub(super) fn segment(path: &Path, number: u64) -> PathBuf {
    path.join(format!("state-{number}"))
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}
