//! Memory: what is in use of it, and what goes back to the system.
//!
//! glibc keeps what was freed for whatever comes next: once ten thousand jobs have come and gone,
//! ten megabytes that nobody uses would stay resident for ever. To look for what can be given back
//! takes a while, malloc_trim(3): some tens of milliseconds for some hundred megabytes. What is in
//! use is counted, so that it is done when much was freed and not otherwise.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Gives back to the system what was freed, if that is at least as much as is still in use, and at
/// least a megabyte: so it is done once for each time that memory has grown twofold.
pub fn give_back() {
    IN_USE.with(|in_use| {
        let Bytes { now, most } = in_use.get();
        if most.saturating_sub(now) >= now.max(LEAST_BYTES) {
            in_use.set(Bytes { now, most: now });
            trim();
        }
    });
}

/// What is in use, in bytes.
pub fn in_use() -> usize {
    IN_USE.with(|in_use| in_use.get().now)
}

fn trim() {
    // SAFETY: takes a number; what is in use is not touched.
    #[cfg(target_env = "gnu")]
    unsafe {
        nix::libc::malloc_trim(0);
    }
}

/// The system's allocator, and how much it has handed out.
#[derive(Debug)]
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[derive(Clone, Copy, Debug, Default)]
struct Bytes {
    now: usize,
    /// The most since something was given back.
    most: usize,
}

thread_local! {
    // k1s is one thread. Where there are more, in tests, what one of them frees for another is
    // counted wrong, which does no harm.
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

// Not in line: it would take 37 KB. SAFETY: all of it is the system's, called with the very
// arguments that came.
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
