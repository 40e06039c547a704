//! fdatasync(2) without a wait.
//!
//! A disk may take seconds, and nobody else is to wait for it. A helper makes the call, and tells of
//! its end by an eventfd: a task of k1s that lives for one call, on its own stack. It shares k1s's
//! memory and descriptors, and does nothing but system calls: it allocates nothing, keeps no state,
//! and takes no signal, so that k1s is single-threaded in all that matters.
//!
//! Why not otherwise:
//!
//! - A child process would be a child of k1s that is no run and no leftover, in every look for those
//!   and in every wait. And it would outlive a k1s that is killed, with the lock of the directory,
//!   while it waits for the disk. A task ends with k1s, and who waits for the end of k1s knows that
//!   the lock is free.
//! - fork(2) would copy the page tables of k1s each time.
//! - io_uring(7) is forbidden in most containers.

use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow};

/// Calls fdatasync(2) for k1s.
#[derive(Debug)]
pub struct Syncer {
    event: OwnedFd,
    stack: Box<[u128]>,
    call: Box<Call>,
    is_busy: bool,
}

/// What the helper does, in memory that it shares with k1s.
#[derive(Debug, Default)]
struct Call {
    event: AtomicI32,
    descriptors: [AtomicI32; MOST_FILES],
    count: AtomicU32,
    /// The directory, or [`NONE`].
    directory: AtomicI32,
    /// The first error, or 0.
    errno: AtomicI32,
}

/// The system's reason.
pub fn reason(error: &io::Error) -> &'static str {
    super::errno_of(error).desc()
}

/// Whether there is no space left.
pub fn is_full(error: &io::Error) -> bool {
    matches!(super::errno_of(error), Errno::ENOSPC | Errno::EDQUOT)
}

impl Syncer {
    /// # Errors
    /// There is no descriptor for the event.
    pub fn new() -> io::Result<Syncer> {
        // SAFETY: the call has no pointer.
        let event = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        let event = Errno::result(event)?;
        // SAFETY: it was just opened, and nobody else has it.
        let event = unsafe { OwnedFd::from_raw_fd(event) };
        let stack = vec![0; STACK_BYTES / size_of::<u128>()].into_boxed_slice();
        let call = Box::<Call>::default();
        call.event.store(event.as_raw_fd(), Ordering::Relaxed);
        Ok(Syncer { event, stack, call, is_busy: false })
    }

    /// Becomes readable when the call has ended.
    pub fn event(&self) -> RawFd {
        self.event.as_raw_fd()
    }

    /// Whether a call is under way.
    pub fn is_busy(&self) -> bool {
        self.is_busy
    }

    /// Begins to make these files safe, [`MOST_FILES`] at most, and then the names in a directory:
    /// the event tells of the end. They must stay open until then. If no helper can be had, it is
    /// done here and now.
    pub fn begin(&mut self, files: &[RawFd], directory: Option<RawFd>) {
        for (place, file) in self.call.descriptors.iter().zip(files) {
            place.store(*file, Ordering::Relaxed);
        }
        let count = u32::try_from(files.len().min(MOST_FILES)).unwrap_or(0);
        self.call.count.store(count, Ordering::Relaxed);
        self.call.directory.store(directory.unwrap_or(NONE), Ordering::Relaxed);
        self.call.errno.store(0, Ordering::Release);
        self.is_busy = true;
        if self.clone_helper().is_err() {
            sync_all(&self.call);
            let one = 1u64.to_ne_bytes();
            // SAFETY: the pointer and the length are those of `one`.
            unsafe { libc::write(self.event(), one.as_ptr().cast(), one.len()) };
        }
    }

    fn clone_helper(&mut self) -> nix::Result<()> {
        let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        let flags = libc::CLONE_VM
            | libc::CLONE_FS
            | libc::CLONE_FILES
            | libc::CLONE_SIGHAND
            | libc::CLONE_THREAD
            | libc::CLONE_SYSVSEM;
        let top = self.stack.as_mut_ptr_range().end.cast::<c_void>();
        let argument = ptr::from_ref::<Call>(&self.call).cast_mut().cast::<c_void>();
        // SAFETY: the stack is used by nobody else, since the helper before has told of its end, after
        // which it uses none; both it and the call live as long as k1s, because `Drop` leaks them
        // while the helper is there. `run` uses no memory but those two, and makes only system
        // calls. The helper has k1s's thread pointer, which `run` does not use.
        let helper = unsafe { libc::clone(run, top, flags, argument) };
        let helper = Errno::result(helper);
        // Cannot fail: the mask was in force before.
        let _ = mask.thread_set_mask();
        helper.map(|_| ())
    }

    /// Waits until the call has ended.
    pub fn wait(&self) {
        let mut event = libc::pollfd { fd: self.event(), events: libc::POLLIN, revents: 0 };
        // SAFETY: the pointer is to one such structure.
        while unsafe { libc::poll(&raw mut event, 1, -1) } < 0 && Errno::last() == Errno::EINTR {}
    }

    /// The event has come: how the call has ended.
    pub fn end(&mut self) -> Option<io::Result<()>> {
        let mut count = [0u8; 8];
        // SAFETY: the pointer and the length are those of `count`.
        let read = unsafe { libc::read(self.event(), count.as_mut_ptr().cast(), count.len()) };
        if read < 0 || !std::mem::take(&mut self.is_busy) {
            return None;
        }
        Some(match self.call.errno.load(Ordering::Acquire) {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        })
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        if self.is_busy {
            Box::leak(std::mem::take(&mut self.stack));
            Box::leak(std::mem::take(&mut self.call));
        }
    }
}

/// The helper's main function. Its last two system calls use no stack, because with the first of
/// them k1s may use it again.
extern "C" fn run(argument: *mut c_void) -> c_int {
    // SAFETY: it is the call that `clone_helper` passes, which lives until the event is told.
    let call = unsafe { &*argument.cast::<Call>() };
    sync_all(call);
    let event = call.event.load(Ordering::Relaxed);
    tell_and_exit(event, &ONE)
}

fn sync_all(call: &Call) {
    let count = call.count.load(Ordering::Relaxed) as usize;
    let note = |failed| {
        if failed != 0 {
            let _ = call.errno.compare_exchange(0, failed, Ordering::AcqRel, Ordering::Relaxed);
        }
    };
    for file in call.descriptors.iter().take(count) {
        note(sync(libc::SYS_fdatasync, file.load(Ordering::Relaxed)));
    }
    // Names are data of a directory for some file systems, and for others not. Some cannot do this.
    let directory = call.directory.load(Ordering::Relaxed);
    if directory != NONE {
        let failed = sync(libc::SYS_fsync, directory);
        note(if failed == libc::EINVAL { 0 } else { failed });
    }
}

/// fdatasync(2) or fsync(2), without errno, which belongs to k1s. Returns 0 or the error.
#[cfg(target_arch = "x86_64")]
fn sync(call: libc::c_long, file: RawFd) -> c_int {
    let result: isize;
    // SAFETY: the call has no pointer, and changes no register but these.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") call as isize => result,
            in("rdi") file as isize,
            out("rcx") _, out("r11") _,
            options(nostack),
        );
    }
    c_int::try_from(result.wrapping_neg()).unwrap_or(0).max(0)
}

#[cfg(target_arch = "x86_64")]
fn tell_and_exit(event: RawFd, one: &'static [u8; 8]) -> ! {
    // SAFETY: writes the eight bytes of a static, and ends this task alone.
    unsafe {
        std::arch::asm!(
            "syscall",
            "mov eax, {exit}",
            "xor edi, edi",
            "syscall",
            "ud2",
            exit = const libc::SYS_exit,
            in("rax") libc::SYS_write as isize,
            in("rdi") event as isize,
            in("rsi") one.as_ptr(),
            in("rdx") one.len(),
            options(noreturn, nostack),
        );
    }
}

/// fdatasync(2) or fsync(2), without errno, which belongs to k1s. Returns 0 or the error.
#[cfg(target_arch = "aarch64")]
fn sync(call: libc::c_long, file: RawFd) -> c_int {
    let result: isize;
    // SAFETY: the call has no pointer, and changes no register but these.
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") call,
            inlateout("x0") file as isize => result,
            options(nostack),
        );
    }
    c_int::try_from(result.wrapping_neg()).unwrap_or(0).max(0)
}

#[cfg(target_arch = "aarch64")]
fn tell_and_exit(event: RawFd, one: &'static [u8; 8]) -> ! {
    // SAFETY: writes the eight bytes of a static, and ends this task alone.
    unsafe {
        std::arch::asm!(
            "svc 0",
            "mov x8, {exit}",
            "mov x0, 0",
            "svc 0",
            "brk 1",
            exit = const libc::SYS_exit,
            in("x8") libc::SYS_write,
            in("x0") event as isize,
            in("x1") one.as_ptr(),
            in("x2") one.len(),
            options(noreturn, nostack),
        );
    }
}

static ONE: [u8; 8] = 1u64.to_ne_bytes();

/// How many files may be made safe in one call.
pub const MOST_FILES: usize = 6;
const NONE: RawFd = -1;
const STACK_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn wait(syncer: &mut Syncer) -> io::Result<()> {
        assert!(syncer.is_busy());
        syncer.wait();
        syncer.end().unwrap()
    }

    #[test]
    fn each_call_ends_once_and_says_how() {
        let mut syncer = Syncer::new().unwrap();
        assert!(syncer.end().is_none(), "nothing was begun");
        let directory = File::open("/").unwrap();
        let (pipe, _) = io::pipe().unwrap();
        for _ in 0..1000 {
            syncer.begin(&[], Some(directory.as_raw_fd()));
            // /proc and other roots may not be synced; both are an end.
            let _ = wait(&mut syncer);
            assert!(syncer.end().is_none());
            syncer.begin(&[pipe.as_raw_fd(), directory.as_raw_fd()], None);
            let error = wait(&mut syncer).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "a pipe has no disk");
        }
    }
}
