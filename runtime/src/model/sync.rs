//! Locks and signals in a model.
//!
//! Owns their rules as their users see them, but for order: whoever waits is served in any order, which includes the shipping one.

#[path = "../sync/error.rs"]
mod error;
#[path = "../sync/lazy_lock.rs"]
mod lazy_lock;
#[path = "../sync/once_lock.rs"]
mod once_lock;
#[path = "../sync/semaphore_guard.rs"]
mod semaphore_guard;

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

pub use self::error::{Cancelled, LockTimeoutError, WaitError};
pub use self::lazy_lock::LazyLock;
pub use self::once_lock::OnceLock;
pub use self::semaphore_guard::SemaphoreGuard;
use super::monitor::Monitor;
use super::{before_deadline, cancel};
use crate::time::Instant;

/// A lock around a `T`.
#[derive(Debug, Default)]
pub struct Mutex<T>(loom::sync::Mutex<T>);

/// The right to use the value.
#[derive(Debug)]
pub struct MutexGuard<'a, T> {
    guard: loom::sync::MutexGuard<'a, T>,
    mutex: &'a Mutex<T>,
}

impl<T> Mutex<T> {
    /// Makes an unlocked mutex.
    pub fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    /// Locks, waiting for whoever holds it.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard { guard: self.0.lock().expect("a panic ends the model"), mutex: self }
    }

    /// As [`lock`](Self::lock), but ended by cancellation.
    ///
    /// # Errors
    /// [`Cancelled`].
    pub fn lock_cancellable(&self) -> Result<MutexGuard<'_, T>, Cancelled> {
        while cancel::may_be_cancelled() {
            if let Some(guard) = self.try_lock() {
                return Ok(guard);
            }
            if cancel::ends_waits() {
                return Err(Cancelled::new(()));
            }
            loom::thread::yield_now();
        }
        Ok(self.lock())
    }

    /// Locks if nobody holds it.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().ok().map(|guard| MutexGuard { guard, mutex: self })
    }

    /// Locks; the time-out passes at the first chance.
    ///
    /// # Errors
    /// [`LockTimeoutError`].
    pub fn lock_timeout(&self, _timeout: Duration) -> Result<MutexGuard<'_, T>, LockTimeoutError> {
        before_deadline(|| self.try_lock()).ok_or(LockTimeoutError)
    }

    /// As [`lock_timeout`](Self::lock_timeout).
    ///
    /// # Errors
    /// [`LockTimeoutError`].
    pub fn lock_deadline(&self, _deadline: Instant) -> Result<MutexGuard<'_, T>, LockTimeoutError> {
        self.lock_timeout(Duration::ZERO)
    }

    /// The value.
    pub fn into_inner(self) -> T {
        self.0.into_inner().expect("a panic ends the model")
    }

    /// The value.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().expect("a panic ends the model")
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

/// A lock around a `T` that many may read or one may write.
#[derive(Debug, Default)]
pub struct RwLock<T>(loom::sync::RwLock<T>);

/// The right to read the value.
pub type RwLockReadGuard<'a, T> = loom::sync::RwLockReadGuard<'a, T>;

/// The right to change the value.
pub type RwLockWriteGuard<'a, T> = loom::sync::RwLockWriteGuard<'a, T>;

impl<T> RwLock<T> {
    /// Makes a lock that nobody holds.
    pub fn new(value: T) -> Self {
        Self(loom::sync::RwLock::new(value))
    }

    /// Locks for reading.
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().expect("a panic ends the model")
    }

    /// Locks for writing.
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().expect("a panic ends the model")
    }

    /// Locks for reading if nobody writes.
    pub fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
        self.0.try_read().ok()
    }

    /// Locks for writing if nobody has the lock.
    pub fn try_write(&self) -> Option<RwLockWriteGuard<'_, T>> {
        self.0.try_write().ok()
    }

    /// Locks for reading; the time-out passes at the first chance.
    ///
    /// # Errors
    /// [`LockTimeoutError`].
    pub fn read_timeout(&self, _timeout: Duration) -> Result<RwLockReadGuard<'_, T>, LockTimeoutError> {
        before_deadline(|| self.try_read()).ok_or(LockTimeoutError)
    }

    /// Locks for writing; the time-out passes at the first chance.
    ///
    /// # Errors
    /// [`LockTimeoutError`].
    pub fn write_timeout(&self, _timeout: Duration) -> Result<RwLockWriteGuard<'_, T>, LockTimeoutError> {
        before_deadline(|| self.try_write()).ok_or(LockTimeoutError)
    }

    /// The value.
    pub fn into_inner(self) -> T {
        self.0.into_inner().expect("a panic ends the model")
    }
}

/// Lets others wait until somebody changes the state behind a mutex and says so.
#[derive(Debug)]
pub struct Condvar(loom::sync::Condvar);

/// Whether [`Condvar::wait_timeout`] ended by its time-out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// Whether no notification came in time.
    pub fn timed_out(self) -> bool {
        self.0
    }
}

impl Condvar {
    /// Makes a condition variable that nobody waits for.
    pub fn new() -> Self {
        Self(loom::sync::Condvar::new())
    }

    /// Unlocks the mutex, waits for a notification, and locks it again.
    ///
    /// # Errors
    /// [`Cancelled`].
    pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> Result<MutexGuard<'a, T>, Cancelled<MutexGuard<'a, T>>> {
        if cancel::may_be_cancelled() {
            // Without a notification, which a wait may do.
            let mutex = guard.mutex;
            drop(guard);
            loom::thread::yield_now();
            let guard = mutex.lock();
            return if cancel::ends_waits() { Err(Cancelled::new(guard)) } else { Ok(guard) };
        }
        let MutexGuard { guard, mutex } = guard;
        Ok(MutexGuard { guard: self.0.wait(guard).expect("a panic ends the model"), mutex })
    }

    /// Waits as long as `condition` holds for the value.
    ///
    /// # Errors
    /// [`Cancelled`].
    pub fn wait_while<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> Result<MutexGuard<'a, T>, Cancelled<MutexGuard<'a, T>>> {
        while condition(&mut guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// Unlocks the mutex, lets the others go on, and locks it again: the time-out passes at the first chance.
    ///
    /// # Errors
    /// [`Cancelled`].
    pub fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        _timeout: Duration,
    ) -> Result<(MutexGuard<'a, T>, WaitTimeoutResult), Cancelled<MutexGuard<'a, T>>> {
        let mutex = guard.mutex;
        drop(guard);
        loom::thread::yield_now();
        let guard = mutex.lock();
        if cancel::ends_waits() { Err(Cancelled::new(guard)) } else { Ok((guard, WaitTimeoutResult(true))) }
    }

    /// As [`wait_timeout`](Self::wait_timeout).
    ///
    /// # Errors
    /// [`Cancelled`].
    pub fn wait_deadline<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        _deadline: Instant,
    ) -> Result<(MutexGuard<'a, T>, WaitTimeoutResult), Cancelled<MutexGuard<'a, T>>> {
        self.wait_timeout(guard, Duration::ZERO)
    }

    /// As long as `condition` holds; the time-out passes at the first chance.
    ///
    /// # Errors
    /// [`Cancelled`].
    pub fn wait_timeout_while<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        timeout: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> Result<(MutexGuard<'a, T>, WaitTimeoutResult), Cancelled<MutexGuard<'a, T>>> {
        if condition(&mut guard) {
            (guard, _) = self.wait_timeout(guard, timeout)?;
        }
        let over = condition(&mut guard);
        Ok((guard, WaitTimeoutResult(over)))
    }

    /// As [`wait_timeout_while`](Self::wait_timeout_while).
    ///
    /// # Errors
    /// [`Cancelled`].
    pub fn wait_deadline_while<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        _deadline: Instant,
        condition: impl FnMut(&mut T) -> bool,
    ) -> Result<(MutexGuard<'a, T>, WaitTimeoutResult), Cancelled<MutexGuard<'a, T>>> {
        self.wait_timeout_while(guard, Duration::ZERO, condition)
    }

    /// Wakes one who waits.
    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    /// Wakes all who wait.
    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}

impl Default for Condvar {
    fn default() -> Self {
        Self::new()
    }
}

/// Permits to be taken and given back.
#[derive(Debug)]
pub struct Semaphore(Monitor<usize>);

impl Semaphore {
    /// Makes a semaphore with that many permits.
    pub fn new(permits: usize) -> Self {
        Self(Monitor::new(permits))
    }

    /// Takes `permits` at once, waiting for them.
    ///
    /// # Errors
    /// [`Cancelled`].
    pub fn acquire(&self, permits: usize) -> Result<(), Cancelled> {
        self.0.wait(|left| left.checked_sub(permits).map(|rest| *left = rest)).ok_or(Cancelled::new(()))
    }

    /// Takes `permits` if they are there.
    #[must_use = "the permits were taken if it says so"]
    pub fn try_acquire(&self, permits: usize) -> bool {
        self.0.look(|left| left.checked_sub(permits).map(|rest| *left = rest)).is_some()
    }

    /// Takes `permits`; the time-out passes at the first chance.
    ///
    /// # Errors
    /// [`WaitError`].
    pub fn acquire_timeout(&self, permits: usize, _timeout: Duration) -> Result<(), WaitError> {
        before_deadline(|| self.try_acquire(permits).then_some(())).ok_or_else(cancel::wait_error)
    }

    /// Gives `permits` back, or adds new ones.
    ///
    /// # Panics
    /// If the permits no longer fit into a `usize`.
    pub fn release(&self, permits: usize) {
        self.0.change(|left| *left = left.checked_add(permits).expect("a semaphore has at most usize::MAX permits"));
    }

    /// Permits that nobody holds.
    pub fn available(&self) -> usize {
        self.0.look(|left| *left)
    }
}

/// Wakes those who wait, without a value and without a mutex.
#[derive(Debug)]
pub struct Notify(Monitor<(bool, u64)>);

impl Notify {
    /// Makes a signal that nobody has given.
    pub fn new() -> Self {
        Self(Monitor::new((false, 0)))
    }

    /// Wakes one who waits, or the next who will.
    pub fn notify_one(&self) {
        self.0.change(|(permit, _)| *permit = true);
    }

    /// Wakes all who wait now.
    pub fn notify_all(&self) {
        self.0.change(|(_, generation)| *generation += 1);
    }

    /// Waits for a notification.
    ///
    /// # Errors
    /// [`Cancelled`].
    pub fn wait(&self) -> Result<(), Cancelled> {
        let mut came = None;
        self.0
            .wait(|(permit, generation)| {
                let came = *came.get_or_insert(*generation);
                (*generation != came || std::mem::take(permit)).then_some(())
            })
            .ok_or(Cancelled::new(()))
    }

    /// Waits for a notification; the time-out passes at the first chance.
    ///
    /// # Errors
    /// [`WaitError`].
    pub fn wait_timeout(&self, _timeout: Duration) -> Result<(), WaitError> {
        let mut came = None;
        before_deadline(|| {
            self.0.look(|(permit, generation)| {
                let came = *came.get_or_insert(*generation);
                (*generation != came || std::mem::take(permit)).then_some(())
            })
        })
        .ok_or_else(cancel::wait_error)
    }
}

impl Default for Notify {
    fn default() -> Self {
        Self::new()
    }
}

/// Lets a fixed number wait until all of them have come.
#[derive(Debug)]
pub struct Barrier {
    needed: usize,
    state: Monitor<(usize, u64)>,
}

/// What a wait at a [`Barrier`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarrierWaitResult(bool);

impl BarrierWaitResult {
    /// Whether the caller is the one of its generation that came last.
    #[must_use]
    pub fn is_leader(self) -> bool {
        self.0
    }
}

impl Barrier {
    /// A barrier for `needed` who wait.
    pub fn new(needed: usize) -> Self {
        Self { needed, state: Monitor::new((0, 0)) }
    }

    /// Waits until as many have come as the barrier is for.
    ///
    /// # Errors
    /// [`Cancelled`].
    pub fn wait(&self) -> Result<BarrierWaitResult, Cancelled> {
        let mut mine = None;
        let passed = self.state.wait(|(come, generation)| match mine {
            None if *come + 1 >= self.needed => {
                (*come, *generation) = (0, *generation + 1);
                Some(BarrierWaitResult(true))
            }
            None => {
                *come += 1;
                mine = Some(*generation);
                None
            }
            Some(mine) => (*generation != mine).then_some(BarrierWaitResult(false)),
        });
        passed.map_or_else(
            || {
                self.state.look(|(come, generation)| match mine {
                    // All came before the caller could leave.
                    Some(mine) if *generation != mine => Ok(BarrierWaitResult(false)),
                    Some(_) => {
                        *come -= 1;
                        Err(Cancelled::new(()))
                    }
                    None => Err(Cancelled::new(())),
                })
            },
            Ok,
        )
    }
}

/// Lets one wait for the end of work whose number need not be known.
pub struct WaitGroup(Arc<Monitor<usize>>);

impl WaitGroup {
    /// A group of one part, the caller's.
    pub fn new() -> Self {
        Self(Arc::new(Monitor::new(1)))
    }

    /// Lets the caller's part go, and waits until all others are gone.
    ///
    /// # Errors
    /// [`Cancelled`].
    pub fn wait(self) -> Result<(), Cancelled> {
        let parts = Arc::clone(&self.0);
        drop(self);
        parts.wait(|parts| (*parts == 0).then_some(())).ok_or(Cancelled::new(()))
    }
}

impl Clone for WaitGroup {
    fn clone(&self) -> Self {
        self.0.look(|parts| *parts += 1);
        Self(Arc::clone(&self.0))
    }
}

impl Drop for WaitGroup {
    fn drop(&mut self) {
        self.0.leave(|parts| *parts -= 1);
    }
}

impl Default for WaitGroup {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for WaitGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WaitGroup")
    }
}
