//! A readers-writer lock for coroutines: contended locks park.
//!
//! Owns the lock word and the line of those who wait. The word is `WRITER | WAITERS | readers`; uncontended it is one
//! compare-and-swap each way.
//!
//! Invariants:
//! - `WAITERS` is set and cleared only with the list's lock. While it is set the lock is taken by nobody but [`grant`]; the
//!   word then only loses readers or its writer.
//! - Whoever leaves the lock free with `WAITERS` set, and whoever leaves the line, calls [`grant`]. So the first in line is
//!   served as soon as it can be.
//!
//! Fairness: first come, first served, with neighbouring readers served together. A waiting writer so holds back the readers
//! that come after it, and no stream of readers starves it. Unlike [`Mutex`](super::Mutex) the lock is always handed over:
//! what is read mostly has few writers, and a barging writer would have every reader wait twice.
//!
//! [`grant`]: RwLock::grant

use std::{
    fmt,
    marker::PhantomData,
    ops::{Deref, DerefMut},
    time::Duration,
};

use super::LockTimeoutError;
use crate::{
    park::WaitsFor,
    primitive::{
        UnsafeCell,
        atomic::{AtomicUsize, Ordering},
        const_unless_loom,
    },
    spin_lock::{SpinGuard, SpinLock},
    time::Instant,
    wait_list::{self, Limit, Outcome, Source, WaitList},
};

/// A lock around a `T` that many may read or one may write. Not poisoned by panics.
///
/// Guards may be held over a park: others wait, but their worker does not. Reading again while one holds a read guard may
/// dead-lock, as with std's: a writer may have come in between.
///
/// ```
/// use weald_runtime::sync::RwLock;
///
/// let routes = RwLock::new(vec!["/"]);
/// {
///     let (one, other) = (routes.read(), routes.read());
///     assert_eq!(one.len() + other.len(), 2);
///     assert!(routes.try_write().is_none());
/// }
/// routes.write().push("/about");
/// assert_eq!(routes.into_inner(), ["/", "/about"]);
/// ```
pub struct RwLock<T: ?Sized> {
    raw: RawRwLock,
    value: UnsafeCell<T>,
}

// SAFETY: the lock owns its value, and moves with it.
unsafe impl<T: ?Sized + Send> Send for RwLock<T> {}
// SAFETY: `&RwLock<T>` gives `&T` to several threads at once, hence Sync, and `&mut T` to one at a time, hence Send.
unsafe impl<T: ?Sized + Send + Sync> Sync for RwLock<T> {}

/// The right to read the value; given back when dropped.
#[must_use = "the lock is given back as soon as the guard is dropped"]
pub struct RwLockReadGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    /// Not `Send`, as std's.
    not_send: PhantomData<*const ()>,
}

/// The right to change the value; given back when dropped.
#[must_use = "the lock is given back as soon as the guard is dropped"]
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    /// Not `Send`, as std's.
    not_send: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives `&T` only.
unsafe impl<T: ?Sized + Sync> Sync for RwLockReadGuard<'_, T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Sync> Sync for RwLockWriteGuard<'_, T> {}

impl<T> RwLock<T> {
    const_unless_loom! {
        /// Makes a lock that nobody holds.
        pub fn new(value: T) -> Self {
            Self { raw: RawRwLock::new(), value: UnsafeCell::new(value) }
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

impl<T: ?Sized> RwLock<T> {
    /// Locks for reading, waiting for a writer to leave and for those in line before the caller. Not ended by cancellation.
    ///
    /// # Panics
    /// If it would have to wait on a worker's own stack, as in a hook; use [`try_read`](Self::try_read) there.
    ///
    /// # Aborts
    /// If it would have to wait in a coroutine that is unwinding.
    #[inline]
    #[track_caller]
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        let locked = self.raw.lock(Access::Read, Limit::Never);
        debug_assert!(locked, "without a deadline and uncancelled, the wait ends with the lock");
        self.read_guard()
    }

    /// Locks for writing, waiting until everybody else has left. Not ended by cancellation.
    ///
    /// # Panics
    /// As [`read`](Self::read).
    ///
    /// # Aborts
    /// As [`read`](Self::read).
    #[inline]
    #[track_caller]
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        let locked = self.raw.lock(Access::Write, Limit::Never);
        debug_assert!(locked, "without a deadline and uncancelled, the wait ends with the lock");
        self.write_guard()
    }

    /// Locks for reading if nobody writes and nobody waits.
    #[inline]
    pub fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
        self.raw.try_lock(Access::Read).then(|| self.read_guard())
    }

    /// Locks for writing if nobody has the lock.
    #[inline]
    pub fn try_write(&self) -> Option<RwLockWriteGuard<'_, T>> {
        self.raw.try_lock(Access::Write).then(|| self.write_guard())
    }

    /// Locks for reading, waiting at most `timeout`.
    ///
    /// # Errors
    /// [`LockTimeoutError`] if the time was not enough.
    ///
    /// # Panics
    /// As [`read`](Self::read).
    #[track_caller]
    pub fn read_timeout(&self, timeout: Duration) -> Result<RwLockReadGuard<'_, T>, LockTimeoutError> {
        if self.raw.lock(Access::Read, Limit::After(timeout)) { Ok(self.read_guard()) } else { Err(LockTimeoutError) }
    }

    /// Locks for reading, waiting until `deadline`.
    ///
    /// # Errors
    /// [`LockTimeoutError`] if the time was not enough.
    ///
    /// # Panics
    /// As [`read`](Self::read).
    #[track_caller]
    pub fn read_deadline(&self, deadline: Instant) -> Result<RwLockReadGuard<'_, T>, LockTimeoutError> {
        if self.raw.lock(Access::Read, Limit::At(deadline)) { Ok(self.read_guard()) } else { Err(LockTimeoutError) }
    }

    /// Locks for writing, waiting at most `timeout`.
    ///
    /// # Errors
    /// [`LockTimeoutError`] if the time was not enough.
    ///
    /// # Panics
    /// As [`read`](Self::read).
    #[track_caller]
    pub fn write_timeout(&self, timeout: Duration) -> Result<RwLockWriteGuard<'_, T>, LockTimeoutError> {
        if self.raw.lock(Access::Write, Limit::After(timeout)) { Ok(self.write_guard()) } else { Err(LockTimeoutError) }
    }

    /// Locks for writing, waiting until `deadline`.
    ///
    /// # Errors
    /// [`LockTimeoutError`] if the time was not enough.
    ///
    /// # Panics
    /// As [`read`](Self::read).
    #[track_caller]
    pub fn write_deadline(&self, deadline: Instant) -> Result<RwLockWriteGuard<'_, T>, LockTimeoutError> {
        if self.raw.lock(Access::Write, Limit::At(deadline)) { Ok(self.write_guard()) } else { Err(LockTimeoutError) }
    }

    /// The value, without locking: nobody else can have it.
    pub fn get_mut(&mut self) -> &mut T {
        // SAFETY: `&mut self` is exclusive.
        self.value.with_mut(|value| unsafe { &mut *value })
    }

    /// The raw lock is held for reading, and the guard owns one of its readers.
    fn read_guard(&self) -> RwLockReadGuard<'_, T> {
        RwLockReadGuard { lock: self, not_send: PhantomData }
    }

    /// The raw lock is held for writing, and the guard is its only owner.
    fn write_guard(&self) -> RwLockWriteGuard<'_, T> {
        RwLockWriteGuard { lock: self, not_send: PhantomData }
    }
}

impl<'a, T: ?Sized> RwLockWriteGuard<'a, T> {
    /// Goes on as a reader. No writer comes in between; readers that are first in line come in.
    pub fn downgrade(guard: Self) -> RwLockReadGuard<'a, T> {
        let lock = guard.lock;
        std::mem::forget(guard);
        lock.raw.downgrade();
        lock.read_guard()
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> From<T> for RwLock<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.try_read() {
            Some(value) => f.debug_tuple("RwLock").field(&&*value).finish(),
            None => f.write_str("RwLock(<locked>)"),
        }
    }
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the lock for reading, so there are only readers.
        self.lock.value.with(|value| unsafe { &*value })
    }
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the lock for writing; `&self` keeps `deref_mut` away.
        self.lock.value.with(|value| unsafe { &*value })
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard holds the lock for writing, and `&mut self` makes this the only reference through it.
        self.lock.value.with_mut(|value| unsafe { &mut *value })
    }
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.raw.unlock(Access::Read);
    }
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.raw.unlock(Access::Write);
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

const WRITER: usize = 1;
const WAITERS: usize = 2;
/// Readers are counted above the flags.
const READER: usize = 4;

/// What one wants of the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

impl Access {
    /// What the holder has of the word.
    fn share(self) -> usize {
        match self {
            Self::Read => READER,
            Self::Write => WRITER,
        }
    }

    /// Whether the word's holders leave room.
    fn fits(self, word: usize) -> bool {
        match self {
            Self::Read => word & WRITER == 0,
            Self::Write => word & !WAITERS == 0,
        }
    }
}

/// The lock without its value.
struct RawRwLock {
    word: AtomicUsize,
    waiters: SpinLock<WaitList<Access>>,
}

impl RawRwLock {
    const_unless_loom! {
        fn new() -> Self {
            Self { word: AtomicUsize::new(0), waiters: SpinLock::new(WaitList::new()) }
        }
    }

    #[inline]
    fn try_lock(&self, access: Access) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        while word & WAITERS == 0 && access.fits(word) {
            // Acquire pairs with the Release in `unlock` and `downgrade`.
            match self.word.compare_exchange_weak(word, word + access.share(), Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(found) => word = found,
            }
        }
        false
    }

    /// Whether the lock was got before the limit.
    #[inline]
    #[track_caller]
    fn lock(&self, access: Access, limit: Limit) -> bool {
        self.try_lock(access) || self.lock_contended(access, limit)
    }

    #[cold]
    #[track_caller]
    fn lock_contended(&self, access: Access, limit: Limit) -> bool {
        let waiters = loop {
            let waiters = self.waiters.lock();
            if self.word.load(Ordering::Relaxed) & WAITERS != 0 {
                break waiters;
            }
            if self.try_lock(access) {
                return true;
            }
            // Relaxed: the list's lock orders what whoever sees the mark will look at.
            if !access.fits(self.word.fetch_or(WAITERS, Ordering::Relaxed)) {
                break waiters;
            }
            // It became free just before, and who left did not see the mark: take it away and try again.
            self.grant(waiters);
        };
        let (_, outcome) = wait_list::wait(self, access, waiters, limit);
        if outcome != Outcome::Claimed {
            self.grant(self.waiters.lock());
        }
        // The former holders' writes come with the delivery's Release and Acquire.
        outcome == Outcome::Claimed
    }

    #[inline]
    fn unlock(&self, access: Access) {
        // Release pairs with the Acquire in `try_lock` and in `grant`.
        let left = self.word.fetch_sub(access.share(), Ordering::Release) - access.share();
        if left == WAITERS {
            self.grant(self.waiters.lock());
        }
    }

    fn downgrade(&self) {
        // Release pairs with the Acquire in `try_lock` and in `grant`.
        let before = self.word.fetch_add(READER - WRITER, Ordering::Release);
        if before & WAITERS != 0 {
            self.grant(self.waiters.lock());
        }
    }

    /// Hands the lock to those first in line as far as it goes.
    #[cold]
    fn grant<'a>(&'a self, mut waiters: SpinGuard<'a, WaitList<Access>>) {
        loop {
            // Acquire pairs with the Release in `unlock`: what the holders did is passed on with the delivery. The word can
            // only become freer until this one is served.
            let word = self.word.load(Ordering::Acquire);
            let Some(first) = waiters.claim_first_if(|access| access.fits(word)) else { break };
            // Relaxed: the delivery publishes.
            self.word.fetch_add(first.with_payload(|access| access.share()), Ordering::Relaxed);
            let waiter = first.deliver();
            // One at a time, since a wake must not fire under the lock.
            drop(waiters);
            waiter.unpark();
            waiters = self.waiters.lock();
        }
        if waiters.is_empty() {
            // Relaxed: `try_lock` takes its Acquire from the releases, of which this exchange continues the sequence.
            self.word.fetch_and(!WAITERS, Ordering::Relaxed);
        }
    }
}

impl Source for RawRwLock {
    type State = WaitList<Access>;
    type Payload = Access;

    const CANCELLABLE: bool = false;

    fn waits_for(&self) -> WaitsFor {
        WaitsFor::Lock
    }

    fn waiters(state: &mut WaitList<Access>) -> &mut WaitList<Access> {
        state
    }

    fn abandon(&self, access: &mut Access, claimed: bool) {
        if claimed {
            self.unlock(*access);
        } else {
            self.grant(self.waiters.lock());
        }
    }
}
