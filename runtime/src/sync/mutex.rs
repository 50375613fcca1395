//! Mutual exclusion for coroutines: a contended `lock` parks.
//!
//! Owns the lock word and the rule who gets the lock next. The word is `LOCKED | WAITERS`; free and uncontended it is one
//! compare-and-swap each way.
//!
//! Invariants:
//! - `WAITERS` is set only by one who holds the list's lock and is about to enter it, and cleared only by the mutex's holder
//!   with the list's lock when nobody is left. So whoever unlocks and does not see it has nobody to wake.
//! - Only the mutex's holder clears `LOCKED`.
//!
//! Fairness: an unlock frees the mutex and wakes the first waiter, who competes with whoever comes along (handing the lock
//! over each time would make every contended section wait for a switch). A waiter who was woken once and lost says so,
//! and is handed the lock the next time it is first. So nobody loses more than once.

use std::{
    fmt,
    marker::PhantomData,
    ops::{Deref, DerefMut},
    time::Duration,
};

use super::{Cancelled, LockTimeoutError};
use crate::{
    park::WaitsFor,
    primitive::{
        UnsafeCell,
        atomic::{AtomicU32, Ordering},
        const_unless_loom,
    },
    spin_lock::SpinLock,
    time::Instant,
    wait_list::{self, Limit, Outcome, Source, WaitList},
};

/// A lock around a `T`. Not poisoned by panics.
///
/// A guard may be held over a park: others wait for it, but their worker does not.
///
/// ```
/// use weald_runtime::sync::Mutex;
///
/// let counter = Mutex::new(0);
/// *counter.lock() += 1;
/// assert_eq!(counter.into_inner(), 1);
/// ```
pub struct Mutex<T: ?Sized> {
    raw: RawMutex,
    value: UnsafeCell<T>,
}

// SAFETY: the mutex lends `T` to one holder at a time, on whatever thread; that is a transfer of `T`.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}
// SAFETY: as above: `&Mutex<T>` gives `&mut T` to one thread at a time and never `&T` to two.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}

/// The right to use the value; unlocks when dropped.
#[must_use = "the mutex is unlocked as soon as the guard is dropped"]
pub struct MutexGuard<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
    /// Not `Send`, as std's: code that relies on the one must not break with the other.
    not_send: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives `&T` only.
unsafe impl<T: ?Sized + Sync> Sync for MutexGuard<'_, T> {}

impl<T> Mutex<T> {
    const_unless_loom! {
        /// Makes an unlocked mutex.
        pub fn new(value: T) -> Self {
            Self { raw: RawMutex::new(), value: UnsafeCell::new(value) }
        }
    }

    /// The value, without locking: nobody else can have it.
    pub fn into_inner(self) -> T {
        // SAFETY: `self` is owned, so nobody else has the cell; it is not used, nor dropped, again.
        let value = self.value.with_mut(|value| unsafe { value.read() });
        std::mem::forget(self);
        value
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Locks, waiting for whoever holds it. Not ended by cancellation ([`lock_cancellable`](Self::lock_cancellable) is).
    ///
    /// # Panics
    /// If it would have to wait on a worker's own stack, as in a hook; use [`try_lock`](Self::try_lock) there.
    ///
    /// # Aborts
    /// If it would have to wait in a coroutine that is unwinding.
    #[inline]
    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        if !self.raw.try_lock_uncontended() {
            let locked = self.raw.lock_contended(&self.raw, Limit::Never);
            debug_assert!(locked, "without a deadline and uncancelled, the wait ends with the lock");
        }
        self.guard()
    }

    /// As [`lock`](Self::lock), but ended by cancellation. A free mutex is locked even so.
    ///
    /// ```
    /// use weald_runtime::{run, spawn, sync::Mutex};
    /// use std::sync::Arc;
    ///
    /// run(|| {
    ///     let mutex = Arc::new(Mutex::new(()));
    ///     let held = mutex.lock();
    ///     let wanted = Arc::clone(&mutex);
    ///     let waiting = spawn(move || wanted.lock_cancellable().is_err());
    ///     waiting.cancel();
    ///     assert!(waiting.join().expect("no panic"));
    ///     drop(held);
    /// });
    /// ```
    ///
    /// # Errors
    /// [`Cancelled`] if the caller is cancelled while it waits.
    ///
    /// # Panics
    /// As [`lock`](Self::lock).
    #[track_caller]
    pub fn lock_cancellable(&self) -> Result<MutexGuard<'_, T>, Cancelled> {
        if self.raw.try_lock_uncontended() || self.raw.lock_contended(&Cancellable(&self.raw), Limit::Never) {
            Ok(self.guard())
        } else {
            Err(Cancelled::new(()))
        }
    }

    /// Locks if nobody holds it.
    #[inline]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.raw.try_lock().then(|| self.guard())
    }

    /// Locks, waiting at most `timeout`.
    ///
    /// # Errors
    /// [`LockTimeoutError`] if the time was not enough.
    ///
    /// # Panics
    /// As [`lock`](Self::lock).
    #[track_caller]
    pub fn lock_timeout(&self, timeout: Duration) -> Result<MutexGuard<'_, T>, LockTimeoutError> {
        self.lock_limited(Limit::After(timeout))
    }

    /// Locks, waiting until `deadline`.
    ///
    /// # Errors
    /// [`LockTimeoutError`] if the time was not enough.
    ///
    /// # Panics
    /// As [`lock`](Self::lock).
    #[track_caller]
    pub fn lock_deadline(&self, deadline: Instant) -> Result<MutexGuard<'_, T>, LockTimeoutError> {
        self.lock_limited(Limit::At(deadline))
    }

    #[track_caller]
    fn lock_limited(&self, limit: Limit) -> Result<MutexGuard<'_, T>, LockTimeoutError> {
        if self.raw.try_lock_uncontended() || self.raw.lock_contended(&self.raw, limit.resolve()) {
            Ok(self.guard())
        } else {
            Err(LockTimeoutError)
        }
    }

    /// The value, without locking: nobody else can have it.
    pub fn get_mut(&mut self) -> &mut T {
        // SAFETY: `&mut self` is exclusive.
        self.value.with_mut(|value| unsafe { &mut *value })
    }

    /// The raw mutex is locked and the guard is its only owner.
    fn guard(&self) -> MutexGuard<'_, T> {
        MutexGuard { mutex: self, not_send: PhantomData }
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> From<T> for Mutex<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.try_lock() {
            Some(value) => f.debug_tuple("Mutex").field(&&*value).finish(),
            None => f.write_str("Mutex(<locked>)"),
        }
    }
}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    pub(super) fn mutex(&self) -> &'a Mutex<T> {
        self.mutex
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the lock; `&self` keeps `deref_mut` away.
        self.mutex.value.with(|value| unsafe { &*value })
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard holds the lock, and `&mut self` makes this the only reference through it.
        self.mutex.value.with_mut(|value| unsafe { &mut *value })
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.mutex.raw.unlock();
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

const FREE: u32 = 0;
const LOCKED: u32 = 1;
const WAITERS: u32 = 2;

/// The mutex without its value.
struct RawMutex {
    word: AtomicU32,
    waiters: SpinLock<WaitList<Turn>>,
}

/// What a waiter may expect when it is first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// To be woken, and to compete for the lock.
    Compete,
    /// To be handed the lock: it has competed and lost.
    Insist,
    /// It was handed the lock.
    Granted,
}

impl RawMutex {
    const_unless_loom! {
        fn new() -> Self {
            Self { word: AtomicU32::new(FREE), waiters: SpinLock::new(WaitList::new()) }
        }
    }

    #[inline]
    fn try_lock_uncontended(&self) -> bool {
        // Acquire pairs with the Release in `unlock` and `unlock_contended`.
        self.word.compare_exchange(FREE, LOCKED, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    fn try_lock(&self) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        while word & LOCKED == 0 {
            // Acquire pairs with the Release in `unlock` and `unlock_contended`.
            match self.word.compare_exchange_weak(word, word | LOCKED, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(found) => word = found,
            }
        }
        false
    }

    /// Takes the lock, or leaves the mark that makes its holder look at the list, whose lock the caller has.
    fn try_lock_or_mark(&self) -> bool {
        loop {
            if self.try_lock() {
                return true;
            }
            // Relaxed: the list's lock orders what the unlocker will look at.
            match self.word.compare_exchange(LOCKED, LOCKED | WAITERS, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return false,
                Err(found) if found == LOCKED | WAITERS => return false,
                Err(_) => {}
            }
        }
    }

    /// Whether the lock was got before the limit. `source` is this mutex, as one whose waits a cancellation ends or does not.
    #[cold]
    #[track_caller]
    fn lock_contended(&self, source: &impl Source<State = WaitList<Turn>, Payload = Turn>, limit: Limit) -> bool {
        let mut turn = Turn::Compete;
        loop {
            let waiters = self.waiters.lock();
            if self.try_lock_or_mark() {
                return true;
            }
            match wait_list::wait(source, turn, waiters, limit) {
                // The previous holder's writes come with the delivery's Release and Acquire.
                (Turn::Granted, Outcome::Claimed) => return true,
                (_, Outcome::Claimed) => turn = Turn::Insist,
                (_, Outcome::TimedOut | Outcome::Cancelled) => return false,
            }
        }
    }

    #[inline]
    fn unlock(&self) {
        // Release pairs with the Acquire in the `try_lock`s.
        if self.word.compare_exchange(LOCKED, FREE, Ordering::Release, Ordering::Relaxed).is_err() {
            self.unlock_contended();
        }
    }

    #[cold]
    fn unlock_contended(&self) {
        let mut waiters = self.waiters.lock();
        // The word is `LOCKED | WAITERS`, and with the list's lock nobody else changes it, so that plain stores do.
        let Some(first) = waiters.claim_first() else {
            // Release pairs with the Acquire in the `try_lock`s; here and below.
            self.word.store(FREE, Ordering::Release);
            return;
        };
        let followers = if first.has_followers() { WAITERS } else { 0 };
        let handed_over = first.with_payload(|turn| {
            let insists = *turn == Turn::Insist;
            if insists {
                *turn = Turn::Granted;
            }
            insists
        });
        self.word.store(if handed_over { LOCKED | followers } else { followers }, Ordering::Release);
        let waiter = first.deliver();
        drop(waiters);
        waiter.unpark();
    }
}

impl Source for RawMutex {
    type State = WaitList<Turn>;
    type Payload = Turn;

    const CANCELLABLE: bool = false;

    fn waits_for(&self) -> WaitsFor {
        WaitsFor::Lock
    }

    fn waiters(state: &mut WaitList<Turn>) -> &mut WaitList<Turn> {
        state
    }

    fn abandon(&self, turn: &mut Turn, claimed: bool) {
        // One who was woken to compete owes the next waiter a wake, unless somebody holds the lock, whose unlock will do it.
        if *turn == Turn::Granted || (claimed && self.try_lock()) {
            self.unlock();
        }
    }
}

/// A mutex whose waits a cancellation ends.
struct Cancellable<'a>(&'a RawMutex);

impl Source for Cancellable<'_> {
    type State = WaitList<Turn>;
    type Payload = Turn;

    fn waits_for(&self) -> WaitsFor {
        WaitsFor::Lock
    }

    fn waiters(state: &mut WaitList<Turn>) -> &mut WaitList<Turn> {
        state
    }

    fn abandon(&self, turn: &mut Turn, claimed: bool) {
        self.0.abandon(turn, claimed);
    }
}
