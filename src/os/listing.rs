//! Lists a directory in small pieces.
//!
//! In `/proc`, each entry costs the kernel some microseconds, and readdir(3) asks for a thousand of
//! them at once: the loop would stand still meanwhile.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::sys::stat::Mode;

/// A directory, read entry by entry. It holds a descriptor.
#[derive(Debug)]
pub(super) struct Listing {
    directory: OwnedFd,
    buffer: [u8; PIECE_BYTES],
    /// The part of the buffer that is read and not used yet.
    unread: std::ops::Range<usize>,
}

impl Listing {
    /// Opens a directory.
    ///
    /// # Errors
    /// That of open(2).
    pub(super) fn open(path: &str) -> io::Result<Listing> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = open(path, flags, Mode::empty())?;
        Ok(Listing { directory, buffer: [0; PIECE_BYTES], unread: 0..0 })
    }

    /// The name of the next entry, `.` and `..` included; `None` at the end.
    ///
    /// # Errors
    /// That of getdents64(2).
    pub(super) fn next(&mut self) -> io::Result<Option<&[u8]>> {
        if self.unread.is_empty() {
            self.unread = 0..self.read()?;
        }
        let entry = self.buffer.get(self.unread.clone()).unwrap_or_default();
        let Some(length) = entry.get(LENGTH..NAME - 1).and_then(|two| two.try_into().ok()) else {
            return Ok(None);
        };
        let length = usize::from(u16::from_ne_bytes(length));
        let name = entry.get(NAME..length).unwrap_or_default();
        self.unread.start = self.unread.end.min(self.unread.start + length.max(1));
        Ok(name.split(|byte| *byte == 0).next())
    }

    /// getdents64(2), as neither std nor nix lets one choose the size of the buffer.
    fn read(&mut self) -> io::Result<usize> {
        let (fd, buffer) = (self.directory.as_raw_fd(), self.buffer.as_mut_ptr());
        // SAFETY: the buffer has so many bytes to write to.
        let read = unsafe { libc::syscall(libc::SYS_getdents64, fd, buffer, PIECE_BYTES) };
        Ok(usize::try_from(Errno::result(read)?).unwrap_or(0))
    }
}

/// Some 12 entries of `/proc`, and more than one with the longest possible name.
const PIECE_BYTES: usize = 320;
/// `struct linux_dirent64`: 8 bytes each for the inode and the offset, 2 for the length of the
/// entry, 1 for its type, then the name, which ends with a zero byte.
const LENGTH: usize = 16;
const NAME: usize = 19;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fs::File;

    #[test]
    fn all_names_are_listed_once_whatever_their_lengths() {
        let directory = std::env::temp_dir().join(format!("k1s-listing-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let mut wanted: BTreeSet<String> = (1..=255).step_by(3).map(|n| "x".repeat(n)).collect();
        for name in &wanted {
            File::create(directory.join(name)).unwrap();
        }
        let mut listing = Listing::open(directory.to_str().unwrap()).unwrap();
        let mut names = Vec::new();
        while let Some(name) = listing.next().unwrap() {
            names.push(String::from_utf8(name.to_vec()).unwrap());
        }
        assert!(listing.next().unwrap().is_none(), "the end stays the end");
        std::fs::remove_dir_all(&directory).unwrap();
        assert!(Listing::open(directory.to_str().unwrap()).is_err());
        wanted.extend([".".to_owned(), "..".to_owned()]);
        assert_eq!(names.len(), wanted.len());
        assert_eq!(names.into_iter().collect::<BTreeSet<_>>(), wanted);
    }
}
