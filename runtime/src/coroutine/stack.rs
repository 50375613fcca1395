//! Owns one stack: its addresses, and the promise that a guard lies below it.
//!
//! It does not own the memory of an arena's slot (`arena` does, and takes the slot back when the stack is dropped through
//! it); a dedicated stack, larger than a slot, owns its own mapping.

use std::mem::offset_of;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use corosensei::stack::StackPointer;

use super::arena::GUARD_SIZE;
use super::memory::{Mapping, Pages, page_size, resident};

/// Bytes at the top of each stack that are not the coroutine's: its owner keeps what it knows of it there, in a page that is
/// touched anyway.
pub(crate) const TOP_SIZE: usize = 256;
/// Stacks begin at the same place in a page, which would be the same lines of the first cache; so they begin at one of so many
/// lines below it (14 to 19 % of a switch at 1,000 to 10,000 stacks).
const COLOURS: usize = 16;
/// What is live at most below the stack pointer of the function that suspends its coroutine: the frames of the calls to the
/// switch, and what it pushes. A test measures less than half of it in a build without optimisation.
pub(super) const SWITCH_FRAMES: usize = 1024;
const CACHE_LINE: usize = 64;

/// Where a stack lies. From low addresses to high: `guard_start`, the guard, `low`, the usable stack, `base`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    guard_start: usize,
    base: usize,
}

impl Bounds {
    pub(super) const GUARD_START: usize = offset_of!(Self, guard_start);
    pub(super) const BASE: usize = offset_of!(Self, base);

    /// The bounds of a region whose lowest [`GUARD_SIZE`] bytes are the guard.
    ///
    /// # Panics
    ///
    /// If nothing is left above the guard.
    pub(super) fn new(guard_start: usize, len: usize) -> Self {
        assert!(len > GUARD_SIZE, "a stack is larger than its guard");
        Self { guard_start, base: guard_start + len }
    }

    /// Bytes that the coroutine can use.
    pub(crate) fn usable(&self) -> usize {
        self.base - self.guard_start - GUARD_SIZE
    }

    /// Whether an access to `address` ran into the guard.
    pub(crate) fn guards(&self, address: usize) -> bool {
        (self.guard_start..self.guard_start + GUARD_SIZE).contains(&address)
    }

    /// Bytes between `stack_pointer` and the base; none if it does not point into the stack.
    pub(crate) fn used(&self, stack_pointer: usize) -> usize {
        self.base.checked_sub(stack_pointer).filter(|&used| used <= self.usable()).unwrap_or(0)
    }

    /// The lowest address of the [`TOP_SIZE`] bytes above the coroutine's part.
    fn top(&self, colour: usize) -> NonZeroUsize {
        NonZeroUsize::new(self.base - TOP_SIZE - colour * CACHE_LINE).expect("no mapping starts at address zero")
    }

    /// Bytes of the usable stack that memory is spent on. One system call.
    pub(crate) fn resident(&self) -> usize {
        resident(self.guard_start + GUARD_SIZE, self.usable())
    }

    /// The whole usable stack.
    pub(super) fn pages(&self) -> Pages {
        Pages::new(self.guard_start + GUARD_SIZE, self.usable())
    }

    /// The whole pages that hold nothing live while a coroutine is suspended that noted its stack pointer before; none if
    /// that does not point into the stack.
    pub(crate) fn unused(&self, stack_pointer: usize) -> Option<Pages> {
        let low = self.guard_start + GUARD_SIZE;
        let live = stack_pointer.checked_sub(SWITCH_FRAMES).filter(|_| stack_pointer <= self.base)?;
        let end = live - live % page_size();
        (low < end).then(|| Pages::new(low, end - low))
    }

    /// The lowest usable address.
    #[cfg(test)]
    pub(super) fn low(&self) -> *mut u8 {
        std::ptr::with_exposed_provenance_mut(self.guard_start + GUARD_SIZE)
    }
}

/// A stack that a coroutine may run on.
#[derive(Debug)]
pub(crate) struct Stack {
    bounds: Bounds,
    /// Where the coroutine's part begins. Every switch asks for it, and to find it out takes a division.
    top: NonZeroUsize,
    memory: Memory,
}

#[derive(Debug)]
enum Memory {
    /// A slot of the arena, by its number.
    Slot(u32),
    /// A mapping of its own.
    Dedicated { _mapping: Mapping },
}

impl Stack {
    /// A stack in the arena's slot.
    pub(super) fn in_slot(bounds: Bounds, slot: u32) -> Self {
        Self { bounds, top: bounds.top(slot as usize % COLOURS), memory: Memory::Slot(slot) }
    }

    /// A stack of its own.
    pub(super) fn dedicated(bounds: Bounds, mapping: Mapping) -> Self {
        Self { bounds, top: bounds.top(0), memory: Memory::Dedicated { _mapping: mapping } }
    }

    /// Where it lies.
    pub(super) fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// The lowest address of the [`TOP_SIZE`] bytes above the coroutine's part, aligned to a cache line.
    pub(crate) fn top(&self) -> NonNull<u8> {
        NonNull::with_exposed_provenance(self.top)
    }

    /// The arena's slot that it occupies, if it does.
    pub(super) fn slot(&self) -> Option<u32> {
        match self.memory {
            Memory::Slot(slot) => Some(slot),
            Memory::Dedicated { .. } => None,
        }
    }
}

// SAFETY: below `top` lies mapped memory of more than MIN_STACK_SIZE bytes above an inaccessible guard of GUARD_SIZE bytes
// (the arena installs it before it makes a `Stack`), page aligned, which lives as long as the `Stack` and its arena, and
// nobody else uses it.
unsafe impl corosensei::stack::Stack for Stack {
    #[inline]
    fn base(&self) -> StackPointer {
        self.top
    }

    fn limit(&self) -> StackPointer {
        NonZeroUsize::new(self.bounds.guard_start).expect("no mapping starts at address zero")
    }
}
