//! The future descriptors 0, 1 and 2 of a child, and the one that it reports on, if it does.
//!
//! They are opened one after another, closed when a later step fails, and otherwise moved to the
//! [`Slots`], from which the child takes them.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::dup3;

use super::errno_of;

/// The future descriptors 0, 1 and 2 of the child, of which `None` keeps k1s's own, and another
/// one, of which `None` is none.
pub(super) type ChildEnds = [Option<OwnedFd>; 4];

/// Low descriptors that hold the child's ends during a spawn, and `/dev/null` between spawns.
#[derive(Debug)]
pub(super) struct Slots {
    /// `/dev/null`, to read and write.
    pub(super) null: OwnedFd,
    slots: [OwnedFd; 4],
}

impl Slots {
    /// `null` is `/dev/null`, to read and write.
    pub(super) fn new(null: OwnedFd) -> nix::Result<Slots> {
        let slot = || {
            let raw = fcntl(&null, FcntlArg::F_DUPFD_CLOEXEC(3))?;
            // SAFETY: the descriptor is new and nobody else's.
            Ok(unsafe { OwnedFd::from_raw_fd(raw) })
        };
        let slots = [slot()?, slot()?, slot()?, slot()?];
        Ok(Slots { null, slots })
    }

    /// Moves the child's ends here, all of them or none; returns their numbers in the same order.
    pub(super) fn fill(&mut self, ends: ChildEnds) -> nix::Result<[Option<RawFd>; 4]> {
        let mut numbers = [None; 4];
        for ((slot, end), number) in self.slots.iter_mut().zip(ends).zip(&mut numbers) {
            let Some(end) = end else { continue };
            if let Err(errno) = dup3(end, slot, OFlag::O_CLOEXEC) {
                self.clear();
                return Err(errno);
            }
            *number = Some(slot.as_raw_fd());
        }
        Ok(numbers)
    }

    /// Closes the child's ends; otherwise k1s would never read the end of the output.
    pub(super) fn clear(&mut self) {
        for slot in &mut self.slots {
            // Fails only if a process has lowered the limit below them (prlimit(2)). Then k1s does
            // not see the end of output, and closes the pipes when the run ends.
            let _ = dup3(&self.null, slot, OFlag::O_CLOEXEC);
        }
    }

    /// The first descriptor above all slots.
    pub(super) fn end(&self) -> u32 {
        let numbers = self.slots.iter().map(AsRawFd::as_raw_fd);
        numbers.max().map_or(3, |highest| highest.unsigned_abs() + 1)
    }
}

/// A file in memory that contains the text and can no longer be changed: memfd_create(2). Unlike a
/// pipe it takes a text of any length at once, and need not be closed to end.
pub(super) fn text_file(text: &str) -> nix::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let no_exec = MFdFlags::from_bits_retain(libc::MFD_NOEXEC_SEAL);
    // Linux before 6.3 does not know MFD_NOEXEC_SEAL; a later one may require it.
    let fd = match memfd_create("stdin", flags | no_exec) {
        Err(Errno::EINVAL) => memfd_create("stdin", flags)?,
        result => result?,
    };
    let mut file = File::from(fd);
    let written = file.write_all(text.as_bytes()).and_then(|()| file.rewind());
    written.map_err(|error| errno_of(&error))?;
    let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals | SealFlag::F_SEAL_SEAL))?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::limits;
    use crate::os::testing::in_own_process;
    use nix::sys::stat::Mode;
    use nix::unistd::{pipe, read};

    /// Another process may lower the limit of descriptors below the slots: prlimit(2).
    #[test]
    fn slots_that_cannot_be_filled_keep_nothing() {
        in_own_process("os::stdio::tests::slots_that_cannot_be_filled_keep_nothing", || {
            let null = nix::fcntl::open("/dev/null", OFlag::O_RDWR, Mode::empty()).unwrap();
            let mut slots = Slots::new(null).unwrap();
            let (reader, first) = pipe().unwrap();
            let second = first.try_clone().unwrap();
            let mut limit = limits::nofile().unwrap();
            limit.rlim_cur = u64::from(slots.end()) - 3;
            limits::set_nofile(limit).unwrap();
            assert_eq!(slots.fill([Some(first), Some(second), None, None]), Err(Errno::EBADF));
            assert_eq!(read(&reader, &mut [0]), Ok(0), "nobody can write any more");
        });
    }
}
