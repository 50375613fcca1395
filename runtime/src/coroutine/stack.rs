//! Owns one stack: its addresses, and the promise that a guard lies below it.
//!
//! It does not own the memory of an arena's slot (`arena` does, and takes the slot back); a dedicated stack, larger than a slot,
//! owns its own mapping.
//!
//! Invariant: what describes a stack lies at its top, and a [`Stack`] is the way there: it moves as cheaply as a pointer. One that is
//! dropped and not given back is leaked.

use std::mem::offset_of;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use corosensei::stack::StackPointer;

use super::arena::GUARD_SIZE;
use super::memory::{Mapping, Pages, page_size, resident};

/// Bytes at the top of each stack that are not the coroutine's: its owner keeps what it knows of it there, in a page that is
/// touched anyway. Above it stands what describes the stack.
pub(crate) const TOP_SIZE: usize = 192;
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

/// A stack that a coroutine may run on: the address of its top, where the coroutine's part ends and its owner's begins, aligned to a
/// cache line.
#[derive(Debug)]
pub(crate) struct Stack(NonZeroUsize);

/// What describes a stack, [`TOP_SIZE`] bytes above its top.
struct Description {
    bounds: Bounds,
    memory: Memory,
}

const _: () = assert!(size_of::<Description>() <= CACHE_LINE);

enum Memory {
    /// A slot of the arena, by its number.
    Slot(u32),
    /// A mapping of its own.
    Dedicated(Mapping),
}

impl Stack {
    /// For debuggers: where the bounds stand, above the owner's bytes.
    pub(crate) const GUARD_START: usize = offset_of!(Description, bounds) + offset_of!(Bounds, guard_start);
    pub(crate) const BASE: usize = offset_of!(Description, bounds) + offset_of!(Bounds, base);

    /// A stack in the arena's slot.
    ///
    /// # Safety
    ///
    /// As `bounds` says, memory lies there, and the caller has it for itself until nobody uses the stack any more.
    #[inline]
    pub(super) unsafe fn in_slot(bounds: Bounds, slot: u32) -> Self {
        // SAFETY: passed on to the caller.
        unsafe { Self::describe(bounds, slot as usize % COLOURS, Memory::Slot(slot)) }
    }

    /// A stack of its own: all of `mapping`, whose lowest [`GUARD_SIZE`] bytes are the guard.
    pub(super) fn dedicated(mapping: Mapping) -> Self {
        let bounds = Bounds::new(mapping.start(), mapping.len());
        // SAFETY: the mapping is the caller's, and it stays until `release`.
        unsafe { Self::describe(bounds, 0, Memory::Dedicated(mapping)) }
    }

    /// # Safety
    ///
    /// As for `in_slot`.
    #[inline]
    unsafe fn describe(bounds: Bounds, colour: usize, memory: Memory) -> Self {
        let top = bounds.base - (colour + 1) * CACHE_LINE - TOP_SIZE;
        let stack = Self(NonZeroUsize::new(top).expect("no mapping starts at address zero"));
        // SAFETY: above the guard there is room for more than that, and nobody else uses it.
        unsafe { stack.description().write(Description { bounds, memory }) };
        stack
    }

    #[inline]
    fn description(&self) -> *mut Description {
        self.top().as_ptr().wrapping_add(TOP_SIZE).cast()
    }

    /// Where it lies.
    #[inline]
    pub(super) fn bounds(&self) -> &Bounds {
        // SAFETY: written when the stack was made; whoever has the stack keeps its memory.
        unsafe { &(*self.description()).bounds }
    }

    /// The lowest address of the [`TOP_SIZE`] bytes above the coroutine's part, aligned to a cache line.
    #[inline]
    pub(crate) fn top(&self) -> NonNull<u8> {
        NonNull::with_exposed_provenance(self.0)
    }

    /// The stack for what is to run on it.
    ///
    /// # Safety
    ///
    /// Nothing else runs on it, and it is not given back before that is over.
    pub(super) unsafe fn lend(&self) -> Base {
        Base(Self(self.0))
    }

    /// Ends the stack: the arena's slot that it occupied, or `None` if it had a mapping of its own, which is gone.
    #[inline]
    pub(super) fn release(self) -> Option<u32> {
        // SAFETY: as in `bounds`; it is read once, for the stack is consumed.
        match unsafe { self.description().read() }.memory {
            Memory::Slot(slot) => Some(slot),
            Memory::Dedicated(_mapping) => None,
        }
    }
}

/// A stack as what runs on it sees it.
pub(super) struct Base(Stack);

// SAFETY: below the top lies mapped memory of more than MIN_STACK_SIZE bytes above an inaccessible guard of GUARD_SIZE bytes
// (the arena installs it before it makes a `Stack`), page aligned, which lives as long as the `Stack` and its arena, and
// nobody else uses it: see `Stack::lend`.
unsafe impl corosensei::stack::Stack for Base {
    #[inline]
    fn base(&self) -> StackPointer {
        self.0.0
    }

    fn limit(&self) -> StackPointer {
        NonZeroUsize::new(self.0.bounds().guard_start).expect("no mapping starts at address zero")
    }
}
