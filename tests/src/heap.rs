//! What the calling thread has on the heap, counted. A simulation runs on one thread, so that its count is its own whatever other tests
//! do.
//!
//! A binary counts with
//!
//! ```ignore
//! #[global_allocator]
//! static HEAP: weald_tests::heap::Counting = weald_tests::heap::Counting;
//! ```
//!
//! The only `unsafe` of this crate.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, counted.
pub struct Counting;

thread_local! {
    static LIVE: Cell<usize> = const { Cell::new(0) };
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// Bytes that this thread has allocated and nobody has freed here; 0 in a binary that does not count.
pub fn live() -> usize {
    LIVE.get()
}

/// How often this thread has allocated or grown memory.
pub fn allocations() -> u64 {
    ALLOCATIONS.get()
}

/// Bytes that malloc has given out to the whole process and that were not given back, C libraries' pieces and the rounding of each piece
/// included. Takes longer the more pieces were given back: not for a hot path.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn given_out() -> usize {
    // SAFETY: it reads the allocator's own counts, under its own locks.
    let counts = unsafe { libc::mallinfo2() };
    counts.uordblks + counts.hblkhd
}

fn count(added: usize, removed: usize) {
    // A thread that is ending has no counts. What one thread allocates another may free, so that a count can go below zero.
    let _ = LIVE.try_with(|live| live.set(live.get().saturating_add(added).saturating_sub(removed)));
    if added > 0 {
        let _ = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
    }
}

// SAFETY: everything is the system allocator's; counting touches no memory but the thread's own cells, which need no allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: as the caller promised.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size, layout.size());
        // SAFETY: as the caller promised.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}
