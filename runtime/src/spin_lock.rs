//! The short lock under every channel and wait list.
//!
//! Owns mutual exclusion for critical sections of tens of nanoseconds that never park, never run a caller's code and
//! never take a second lock. A holder is therefore never suspended by the runtime; only the kernel can preempt it, and
//! then contenders give up their time slice. Not for anything that could block: that is [`crate::sync::Mutex`].
//!
//! A futex lock was rejected: its unlock is a second read-modify-write, which costs as much as the whole critical section.

use std::ops::{Deref, DerefMut};

#[cfg(loom)]
use crate::primitive::{Mutex, MutexGuard};
use crate::primitive::{UnsafeCell, const_unless_loom};

/// A spinning lock around `T`.
///
/// In models of other code its exclusion is loom's mutex, since loom has no fair scheduler and would explore spinning for
/// ever; the spinning itself has a model of its own below.
pub(crate) struct SpinLock<T> {
    #[cfg(not(loom))]
    exclusion: spin::Exclusion,
    #[cfg(loom)]
    exclusion: Mutex<()>,
    value: UnsafeCell<T>,
}

// SAFETY: the lock gives `T` to one thread at a time, which is a transfer of `T`, so `T: Send` is enough.
unsafe impl<T: Send> Send for SpinLock<T> {}
// SAFETY: as above; no `&T` is ever shared between threads.
unsafe impl<T: Send> Sync for SpinLock<T> {}

impl<T> SpinLock<T> {
    const_unless_loom! {
        pub(crate) fn new(value: T) -> Self {
            Self {
                #[cfg(not(loom))]
                exclusion: spin::Exclusion::new(),
                #[cfg(loom)]
                exclusion: Mutex::new(()),
                value: UnsafeCell::new(value),
            }
        }
    }

    /// Takes the lock, spinning while another thread holds it.
    #[inline]
    pub(crate) fn lock(&self) -> SpinGuard<'_, T> {
        #[cfg(not(loom))]
        self.exclusion.lock();
        SpinGuard {
            lock: self,
            #[cfg(loom)]
            _exclusion: self.exclusion.lock(),
        }
    }

    /// Takes the lock if nobody holds it.
    #[inline]
    pub(crate) fn try_lock(&self) -> Option<SpinGuard<'_, T>> {
        #[cfg(not(loom))]
        return self.exclusion.try_lock().then(|| SpinGuard { lock: self });
        #[cfg(loom)]
        return self.exclusion.try_lock().map(|exclusion| SpinGuard { lock: self, _exclusion: exclusion });
    }
}

/// The right to use the value; gives the lock back when dropped.
pub(crate) struct SpinGuard<'l, T> {
    lock: &'l SpinLock<T>,
    #[cfg(loom)]
    _exclusion: MutexGuard<'l, ()>,
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

#[cfg(not(loom))]
impl<T> Drop for SpinGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.exclusion.unlock();
    }
}

/// The exclusion itself.
#[cfg(any(not(loom), test))]
mod spin {
    use crate::primitive::{
        atomic::{AtomicBool, Ordering},
        const_unless_loom, spin_loop,
    };

    /// Rounds of waiting in the processor before a contender yields its time slice: 2^6 pauses are about 2 us, well above
    /// any critical section here, so a lock still held after that has a preempted holder.
    #[cfg(not(loom))]
    const SPIN_ROUNDS: u32 = 6;

    pub(super) struct Exclusion {
        locked: AtomicBool,
    }

    impl Exclusion {
        const_unless_loom! {
            pub(super) fn new() -> Self {
                Self { locked: AtomicBool::new(false) }
            }
        }

        #[inline]
        pub(super) fn lock(&self) {
            if !self.try_lock() {
                self.lock_contended();
            }
        }

        #[inline]
        pub(super) fn try_lock(&self) -> bool {
            // Acquire pairs with the Release in `unlock`.
            self.locked.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
        }

        #[cold]
        fn lock_contended(&self) {
            let mut round = 0;
            loop {
                pause(&mut round);
                // Relaxed: only decides whether trying is worth taking the cache line away from the holder.
                if !self.locked.load(Ordering::Relaxed) && self.try_lock() {
                    return;
                }
            }
        }

        /// The caller holds the lock.
        #[inline]
        pub(super) fn unlock(&self) {
            // Release pairs with the Acquire in `try_lock`.
            self.locked.store(false, Ordering::Release);
        }
    }

    #[cfg(not(loom))]
    fn pause(round: &mut u32) {
        if *round > SPIN_ROUNDS {
            return std::thread::yield_now();
        }
        for _ in 0..1u32 << *round {
            spin_loop();
        }
        *round += 1;
    }

    #[cfg(loom)]
    fn pause(_round: &mut u32) {
        spin_loop();
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::spin::Exclusion;
    use crate::primitive::{Arc, UnsafeCell};
    use crate::wait_list::loom_tests::model;

    #[test]
    fn loom_spin_lock_excludes() {
        model(|| {
            let shared = Arc::new((Exclusion::new(), UnsafeCell::new(0)));
            let add = |shared: &(Exclusion, UnsafeCell<u32>)| {
                shared.0.lock();
                // SAFETY: locked; loom reports it if not.
                shared.1.with_mut(|value| unsafe { *value += 1 });
                shared.0.unlock();
            };
            let other = {
                let shared = shared.clone();
                loom::thread::spawn(move || add(&shared))
            };
            add(&shared);
            other.join().unwrap();
            // SAFETY: the other thread has ended.
            assert_eq!(shared.1.with(|value| unsafe { *value }), 2);
        });
    }
}
