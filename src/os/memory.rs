//! Memory: counts what is in use, and returns what is not to the system.
//!
//! glibc keeps freed memory for later: after ten thousand jobs have come and gone, ten megabytes
//! would stay resident for ever. Returning it by malloc_trim(3) takes tens of milliseconds for some
//! hundred megabytes. So k1s counts what is in use, and does it only when much was freed.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Returns freed memory to the system, if it is at least as much as is still in use, and at least a
/// megabyte: so this happens once for each time that memory has doubled.
pub fn give_back() {
    IN_USE.with(|in_use| {
        let Bytes { now, most } = in_use.get();
        if most.saturating_sub(now) >= now.max(LEAST_BYTES) {
            in_use.set(Bytes { now, most: now });
            trim();
        }
    });
}

/// Returns the pages of the program's code: most of those that its start has read are not needed
/// again. The others are still in the system's cache, and come back at their next use. To be called
/// once, as the start is almost over: before anybody is told, who may count k1s's descriptors then.
pub fn give_back_code() {
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return };
    for (begin, length) in maps.lines().filter_map(code) {
        // SAFETY: the mapping is private, of a file, and was never writable, so its pages are those
        // of the file: what is read there next is the same. Nothing is unmapped.
        unsafe {
            nix::libc::madvise(begin as *mut nix::libc::c_void, length, nix::libc::MADV_DONTNEED);
        }
    }
}

/// The address and length of a mapping of code from a file: a line of proc_pid_maps(5).
fn code(line: &str) -> Option<(usize, usize)> {
    let mut words = line.split_ascii_whitespace();
    let (begin, end) = words.next()?.split_once('-')?;
    let is_code = words.next() == Some("r-xp") && words.nth(3)?.starts_with('/');
    let address = |text| usize::from_str_radix(text, 16).ok();
    let (begin, end) = (address(begin)?, address(end)?);
    is_code.then_some((begin, end.saturating_sub(begin)))
}

/// What is in use, in bytes.
pub fn in_use() -> usize {
    IN_USE.with(|in_use| in_use.get().now)
}

fn trim() {
    // SAFETY: takes a number; memory in use is not touched.
    #[cfg(target_env = "gnu")]
    unsafe {
        nix::libc::malloc_trim(0);
    }
}

/// The system's allocator, with a count of the bytes in use.
#[derive(Debug)]
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[derive(Clone, Copy, Debug, Default)]
struct Bytes {
    now: usize,
    /// The most since memory was last returned.
    most: usize,
}

thread_local! {
    // k1s is one thread. In tests there are more, and memory that one frees for another is counted
    // wrong, which does no harm.
    static IN_USE: Cell<Bytes> = const { Cell::new(Bytes { now: 0, most: 0 }) };
}

#[inline(never)]
fn count(more: usize, less: usize) {
    IN_USE.with(|in_use| {
        let Bytes { now, most } = in_use.get();
        let now = now.saturating_add(more).saturating_sub(less);
        in_use.set(Bytes { now, most: most.max(now) });
    });
}

// Not inlined: that would take 37 KB. SAFETY: each call is passed on to the system's allocator with
// the same arguments.
unsafe impl GlobalAlloc for Counting {
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller keeps the promises that System asks for.
        unsafe { System.alloc(layout) }
    }

    #[inline(never)]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    #[inline(never)]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, layout.size());
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, size) }
    }

    #[inline(never)]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}

const LEAST_BYTES: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_known_by_its_mapping() {
        let line = |rights, path| format!("00400000-0040b000 {rights} 00001000 fe:00 12 {path}");
        assert_eq!(code(&line("r-xp", "/k1s")), Some((0x400000, 0xb000)));
        for (rights, path) in [("r--p", "/k1s"), ("rw-p", "/k1s"), ("r-xp", "[vdso]"), ("r-xp", "")]
        {
            assert_eq!(code(&line(rights, path)), None);
        }
        assert_eq!(code("7ffd5-"), None);
        give_back_code();
    }

    #[test]
    fn what_is_given_back_was_freed_and_is_much() {
        let most = || IN_USE.with(|in_use| in_use.get().most);
        give_back();
        let before = most();
        let small = vec![0u8; LEAST_BYTES / 2];
        drop(small);
        give_back();
        assert!(most() >= before + LEAST_BYTES / 2, "it was not worth it");
        let kept = vec![0u8; 2 * LEAST_BYTES];
        let mut freed = vec![0u8; LEAST_BYTES];
        freed.extend(&kept[..LEAST_BYTES]);
        drop(freed);
        give_back();
        assert!(most() >= before + 4 * LEAST_BYTES, "as much is in use");
        drop(kept);
        give_back();
        assert!(most() < before + LEAST_BYTES, "all is free");
    }
}
