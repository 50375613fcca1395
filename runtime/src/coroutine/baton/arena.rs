//! Owns the number of coroutines that a runtime may have started at once, which the shipping backend's arena has by its size.
//!
//! It does not own the threads (the parent does), and keeps none in stock: each coroutine gets a fresh one.

use std::io;
use std::sync::Arc;

use super::stack::Stack;
use crate::primitive::Mutex;

/// As in the shipping backend, whose sizes are documented.
pub(crate) const SLOT_SIZE: usize = 128 * 1024;
/// As in the shipping backend, whose sizes are documented.
pub(crate) const GUARD_SIZE: usize = 32 * 1024;

/// The limits of one runtime.
#[derive(Debug)]
pub(crate) struct Arena {
    usable: usize,
    slots: usize,
    used: Mutex<usize>,
}

impl Arena {
    /// Room for `max_coroutines` with `usable` bytes each.
    pub(crate) fn new(usable: usize, max_coroutines: usize) -> io::Result<Self> {
        Ok(Self { usable, slots: max_coroutines, used: Mutex::new(0) })
    }

    /// Stacks that exist: those in use, as none is kept in stock.
    pub(crate) fn used_ever(&self) -> u32 {
        u32::try_from(*self.used.lock()).unwrap_or(u32::MAX)
    }
}

/// One of the coroutines that the arena has room for, until it is dropped.
pub(super) struct Slot(Arc<Arena>);

impl Drop for Slot {
    fn drop(&mut self) {
        *self.0.used.lock() -= 1;
    }
}

/// A worker's way to threads for its coroutines.
pub(crate) struct StackCache(Arc<Arena>);

impl StackCache {
    pub(crate) fn new(arena: Arc<Arena>) -> Self {
        Self(arena)
    }

    /// A thread with a stack of the default size, or with at least `usable` bytes. Fails when the arena is full, or the system
    /// refuses the thread.
    pub(crate) fn take(&mut self, usable: Option<usize>) -> io::Result<Stack> {
        let mut used = self.0.used.lock();
        if *used == self.0.slots {
            let message = format!("all {} coroutine stacks are in use (RuntimeBuilder::max_coroutines)", self.0.slots);
            return Err(io::Error::new(io::ErrorKind::OutOfMemory, message));
        }
        *used += 1;
        drop(used);
        Stack::new(usable.unwrap_or(0).max(self.0.usable), Slot(Arc::clone(&self.0)))
    }

    /// Takes back a stack that nothing runs on.
    pub(crate) fn give(&mut self, stack: Stack) {
        drop(stack);
    }

    /// None is kept, so there is nothing to give back.
    pub(crate) fn cool(&mut self) -> bool {
        false
    }
}
