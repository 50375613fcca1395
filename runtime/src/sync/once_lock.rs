//! A value that is made once, by whoever needs it first; the others park meanwhile.
//!
//! Owns whose turn it is to make it. The value lies in std's cell, which never waits here: it is filled by the one whose turn it is. The models of
//! `--cfg loom` have the same.

use std::fmt;

use super::Mutex;

/// A cell that is written once, as `std::sync::OnceLock`. Std's blocks the worker while another coroutine makes the value, and if that
/// one waits on the same worker, then for ever; here they park.
///
/// ```
/// use std::time::Duration;
/// use weald_runtime::{run, scope, sleep, sync::OnceLock};
///
/// static ANSWER: OnceLock<u32> = OnceLock::new();
///
/// run(|| {
///     let answer = || {
///         *ANSWER.get_or_init(|| {
///             sleep(Duration::from_millis(1));
///             42
///         })
///     };
///     scope(|s| {
///         s.spawn(|| assert_eq!(answer(), 42));
///         assert_eq!(answer(), 42);
///     });
///     assert_eq!(ANSWER.get(), Some(&42));
/// });
/// ```
pub struct OnceLock<T> {
    value: std::sync::OnceLock<T>,
    /// Held while the value is made.
    turn: Mutex<()>,
}

impl<T> OnceLock<T> {
    /// Makes an empty cell.
    #[cfg(not(loom))]
    #[must_use]
    pub const fn new() -> Self {
        Self { value: std::sync::OnceLock::new(), turn: Mutex::new(()) }
    }

    /// Makes an empty cell.
    #[cfg(loom)]
    #[must_use]
    pub fn new() -> Self {
        Self { value: std::sync::OnceLock::new(), turn: Mutex::new(()) }
    }

    /// The value, if it has been made.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        // Loom does not see what std's cell orders.
        #[cfg(loom)]
        let _ordered = self.turn.try_lock()?;
        self.value.get()
    }

    /// The value, if it has been made.
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.value.get_mut()
    }

    /// Fills the cell, waiting for one who is about to.
    ///
    /// # Errors
    /// The value, if the cell is full.
    ///
    /// # Panics
    /// As [`get_or_init`](Self::get_or_init).
    #[track_caller]
    pub fn set(&self, value: T) -> Result<(), T> {
        let _turn = self.turn.lock();
        self.value.set(value)
    }

    /// The value, which `f` makes if there is none; one makes it, and the others wait, whom cancellation does not end.
    ///
    /// If `f` panics the cell stays empty, and the next one makes the value. An `f` that needs the cell itself waits for ever.
    ///
    /// # Panics
    /// With `f`'s panic; and if it would have to wait on a worker's own stack, as in a hook.
    ///
    /// # Aborts
    /// If it would have to wait in a coroutine that is unwinding.
    #[track_caller]
    pub fn get_or_init(&self, f: impl FnOnce() -> T) -> &T {
        match self.get_or_try_init(|| Ok::<T, std::convert::Infallible>(f())) {
            Ok(value) => value,
            Err(never) => match never {},
        }
    }

    /// As [`get_or_init`](Self::get_or_init), for what may fail: the cell stays empty then, and the next one tries again.
    ///
    /// # Errors
    /// That of `f`.
    ///
    /// # Panics
    /// As [`get_or_init`](Self::get_or_init).
    #[track_caller]
    pub fn get_or_try_init<E>(&self, f: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        match self.get() {
            Some(value) => Ok(value),
            None => self.init(f),
        }
    }

    #[cold]
    #[track_caller]
    fn init<E>(&self, f: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        let _turn = self.turn.lock();
        match self.value.get() {
            Some(value) => Ok(value),
            None => {
                let value = f()?;
                // It is empty: only who has the turn fills it.
                Ok(self.value.get_or_init(|| value))
            }
        }
    }

    /// The value, if it has been made.
    pub fn into_inner(self) -> Option<T> {
        self.value.into_inner()
    }

    /// Takes the value out; the cell is empty then.
    pub fn take(&mut self) -> Option<T> {
        self.value.take()
    }
}

impl<T> Default for OnceLock<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> From<T> for OnceLock<T> {
    fn from(value: T) -> Self {
        Self { value: std::sync::OnceLock::from(value), turn: Mutex::new(()) }
    }
}

impl<T: Clone> Clone for OnceLock<T> {
    fn clone(&self) -> Self {
        Self { value: self.get().cloned().map_or_else(std::sync::OnceLock::new, From::from), turn: Mutex::new(()) }
    }
}

impl<T: PartialEq> PartialEq for OnceLock<T> {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl<T: Eq> Eq for OnceLock<T> {}

impl<T: fmt::Debug> fmt::Debug for OnceLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.get() {
            Some(value) => f.debug_tuple("OnceLock").field(value).finish(),
            None => f.write_str("OnceLock(<empty>)"),
        }
    }
}
