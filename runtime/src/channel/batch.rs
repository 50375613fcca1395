//! The messages that receivers have taken out of a channel's buffer at once, to take one after the other without disturbing senders.
//!
//! Owns their lock and the flag that says whether there are any. Does not own when a batch is taken or put back (the parent
//! module).
//!
//! Invariants:
//! - The flag rises only under the channel's lock and the batch's, and falls under the batch's. So whoever sees it down under the
//!   channel's lock knows that the batch is empty and stays so until that lock is given back.
//! - The batch's lock is taken before the channel's, or tried.

use std::collections::VecDeque;

use crate::{
    primitive::atomic::{AtomicBool, Ordering},
    spin_lock::{SpinGuard, SpinLock},
};

/// On cache lines of its own: senders do not touch it while there is room.
#[repr(align(128))]
pub(super) struct Batch<T> {
    filled: AtomicBool,
    messages: SpinLock<VecDeque<T>>,
}

impl<T> Batch<T> {
    pub(super) fn new() -> Self {
        Self { filled: AtomicBool::new(false), messages: SpinLock::new(VecDeque::new()) }
    }

    /// Whether there may be messages; exact if it says no under the channel's lock.
    #[inline]
    pub(super) fn is_filled(&self) -> bool {
        // Ordering: Relaxed, the locks order it (see above). Without them it says only where to look first.
        self.filled.load(Ordering::Relaxed)
    }

    /// Takes the next message.
    #[inline(always)]
    pub(super) fn pop(&self) -> Option<T> {
        if !self.is_filled() {
            return None;
        }
        let mut messages = self.messages.lock();
        let message = messages.pop_front();
        if messages.is_empty() {
            self.filled.store(false, Ordering::Relaxed);
        }
        message
    }

    /// Lends the messages to be changed in any way, and then looks whether there are any.
    ///
    /// Called with the channel's lock, if `messages` may be filled.
    pub(super) fn update<R>(&self, mut messages: SpinGuard<'_, VecDeque<T>>, update: impl FnOnce(&mut VecDeque<T>) -> R) -> R {
        let result = update(&mut messages);
        self.filled.store(!messages.is_empty(), Ordering::Relaxed);
        result
    }

    /// Takes the batch's lock; the caller does not hold the channel's.
    pub(super) fn lock(&self) -> SpinGuard<'_, VecDeque<T>> {
        self.messages.lock()
    }

    /// Takes the batch's lock if nobody has it.
    pub(super) fn try_lock(&self) -> Option<SpinGuard<'_, VecDeque<T>>> {
        self.messages.try_lock()
    }
}
