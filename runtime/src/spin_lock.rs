//! The short lock under every channel and wait list.
//!
//! Owns mutual exclusion for critical sections of tens of nanoseconds that never park, never run a caller's code and
//! never take a second lock. A holder is therefore never suspended by the runtime; only the kernel can preempt it, and
//! then contenders give up their time slice. Not for anything that could block: that is [`crate::sync::Mutex`].
//!
//! A futex lock was rejected: its unlock is a second read-modify-write, which costs as much as the whole critical section.

use std::ops::{Deref, DerefMut};

use crate::primitive::{
    UnsafeCell,
    atomic::{AtomicBool, Ordering},
    spin_loop,
};

/// Rounds of waiting in the processor before a contender yields its time slice: 2^6 pauses are about 2 us, well above any
/// critical section here, so a lock still held after that has a preempted holder.
#[cfg(not(loom))]
const SPIN_ROUNDS: u32 = 6;

/// A spinning lock around `T`.
pub(crate) struct SpinLock<T> {
    locked: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the lock gives `T` to one thread at a time, which is a transfer of `T`, so `T: Send` is enough.
unsafe impl<T: Send> Send for SpinLock<T> {}
// SAFETY: as above; no `&T` is ever shared between threads.
unsafe impl<T: Send> Sync for SpinLock<T> {}

impl<T> SpinLock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { locked: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Takes the lock, spinning while another thread holds it.
    #[inline]
    pub(crate) fn lock(&self) -> SpinGuard<'_, T> {
        // Acquire pairs with the Release in `SpinGuard::drop`.
        if self.locked.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.lock_contended();
        }
        SpinGuard { lock: self }
    }

    #[cold]
    fn lock_contended(&self) {
        let mut backoff = Backoff::default();
        loop {
            backoff.pause();
            // Relaxed: only decides whether trying is worth taking the cache line away from the holder.
            if self.locked.load(Ordering::Relaxed) {
                continue;
            }
            // Acquire pairs with the Release in `SpinGuard::drop`.
            if self.locked.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                return;
            }
        }
    }
}

/// The right to use the value; gives the lock back when dropped.
pub(crate) struct SpinGuard<'l, T> {
    lock: &'l SpinLock<T>,
}

impl<'l, T> SpinGuard<'l, T> {
    /// The lock that this guard holds, to take it again later.
    pub(crate) fn origin(&self) -> &'l SpinLock<T> {
        self.lock
    }
}

impl<T> Deref for SpinGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the lock, so no other thread has a reference; `&self` keeps `deref_mut` away.
        self.lock.value.with(|value| unsafe { &*value })
    }
}

impl<T> DerefMut for SpinGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard holds the lock, and `&mut self` makes this the only reference through it.
        self.lock.value.with_mut(|value| unsafe { &mut *value })
    }
}

impl<T> Drop for SpinGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // Release pairs with the Acquire in `SpinLock::lock`.
        self.lock.locked.store(false, Ordering::Release);
    }
}

#[derive(Default)]
struct Backoff {
    round: u32,
}

impl Backoff {
    fn pause(&mut self) {
        #[cfg(not(loom))]
        if self.round > SPIN_ROUNDS {
            return std::thread::yield_now();
        }
        // Loom counts one hint as a chance for the others; more would only repeat it.
        for _ in 0..if cfg!(loom) { 1 } else { 1u32 << self.round } {
            spin_loop();
        }
        self.round += 1;
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::primitive::Arc;

    #[test]
    fn loom_spin_lock_excludes() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let lock = Arc::new(SpinLock::new(0));
            let other = {
                let lock = lock.clone();
                loom::thread::spawn(move || *lock.lock() += 1)
            };
            *lock.lock() += 1;
            other.join().unwrap();
            assert_eq!(*lock.lock(), 2);
        });
    }
}
