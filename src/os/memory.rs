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

/// Returns the pages of the program's code and constants: most of those that its start has read are
/// not needed again. The others are still in the system's cache, and come back at their next use.
/// To be called once, as the start is over.
pub fn give_back_code() {
    let begin = (&raw const __executable_start).addr().next_multiple_of(PAGE_BYTES);
    let length = (&raw const etext).addr().saturating_sub(begin) / PAGE_BYTES * PAGE_BYTES;
    // SAFETY: the linker puts only what is never written before the end of the code, so these pages
    // are those of the file: what is read there next is the same. Nothing is unmapped.
    unsafe {
        nix::libc::madvise(begin as *mut nix::libc::c_void, length, nix::libc::MADV_DONTNEED);
    }
}

// SAFETY: only their addresses are used. Linkers define them: see end(3) for the second.
unsafe extern "C" {
    safe static __executable_start: u8;
    safe static etext: u8;
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
/// A multiple of the size of a page on all machines: up to 64 KiB.
const PAGE_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_that_is_given_back_comes_back() {
        give_back_code();
        assert_eq!(format!("{:?}", Some("text")), r#"Some("text")"#);
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
