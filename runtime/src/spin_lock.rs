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

    /// Pauses before a contender's second try: a holder that comes once is gone by then.
    #[cfg(not(loom))]
    const FIRST_PAUSES: u32 = 8;
    /// Pauses before each further try: 3 us, or 10 where one takes 40 ns. A holder that is still there takes the lock again and again, as
    /// senders do that fill a channel, and each look at it costs that holder the cache line: 400 ns between two virtual processors, as
    /// much as 40 messages. Four senders on two workers took 19 ns a message with it, 22 with 64 pauses, 36 with 16.
    #[cfg(not(loom))]
    const PAUSES: u32 = 256;
    /// Tries after which a contender yields its time slice as well: the holder may have been preempted.
    #[cfg(not(loom))]
    const TRIES: u32 = 4;

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
            let mut tries = 1;
            loop {
                wait(tries);
                // Without a look: it would take the cache line away from the holder just as well, and the try again.
                if self.try_lock() {
                    return;
                }
                tries += 1;
            }
        }

        /// The caller holds the lock.
        #[inline]
        pub(super) fn unlock(&self) {
            // Release pairs with the Acquire in `try_lock`.
            self.locked.store(false, Ordering::Release);
        }
    }

    /// Waits after so many tries.
    #[cfg(not(loom))]
    fn wait(tries: u32) {
        if tries >= TRIES {
            std::thread::yield_now();
        }
        for _ in 0..if tries == 1 { FIRST_PAUSES } else { PAUSES } {
            spin_loop();
        }
    }

    #[cfg(loom)]
    fn wait(_tries: u32) {
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
