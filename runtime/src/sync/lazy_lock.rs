//! A value that is made at its first use.
//!
//! Owns the function that makes it; who makes it, and who waits, is [`OnceLock`]'s. The models of `--cfg loom` have the same.

use std::fmt;
use std::ops::Deref;

use super::{Mutex, OnceLock};

/// A value that is made at its first use, as `std::sync::LazyLock`; who needs it meanwhile parks, where std's blocks the worker.
///
/// ```
/// use std::time::Duration;
/// use weald_runtime::{run, sleep, sync::LazyLock};
///
/// static GREETING: LazyLock<String> = LazyLock::new(|| {
///     sleep(Duration::from_millis(1));
///     "hello".to_owned()
/// });
///
/// run(|| assert_eq!(*GREETING, "hello"));
/// ```
///
/// # Panics
/// A use panics with the function's panic, and so does every later use; otherwise as [`OnceLock::get_or_init`].
pub struct LazyLock<T, F = fn() -> T> {
    value: OnceLock<T>,
    /// Until the value is made.
    make: Mutex<Option<F>>,
}

impl<T, F: FnOnce() -> T> LazyLock<T, F> {
    /// A value that `make` makes when it is first used.
    #[cfg(not(loom))]
    #[must_use]
    pub const fn new(make: F) -> Self {
        Self { value: OnceLock::new(), make: Mutex::new(Some(make)) }
    }

    /// A value that `make` makes when it is first used.
    #[cfg(loom)]
    #[must_use]
    pub fn new(make: F) -> Self {
        Self { value: OnceLock::new(), make: Mutex::new(Some(make)) }
    }

    /// Makes the value if that has not been done, and gives it.
    ///
    /// # Panics
    /// See [`LazyLock`].
    #[inline]
    #[track_caller]
    pub fn force(this: &Self) -> &T {
        this.value.get_or_init(|| {
            // Not held while it is made: it is whose turn it is that keeps others away.
            let make = this.make.lock().take();
            match make {
                Some(make) => make(),
                None => panic!("the function of a LazyLock has panicked before"),
            }
        })
    }
}

impl<T, F: FnOnce() -> T> Deref for LazyLock<T, F> {
    type Target = T;

    #[inline]
    #[track_caller]
    fn deref(&self) -> &T {
        Self::force(self)
    }
}

impl<T: Default> Default for LazyLock<T> {
    fn default() -> Self {
        Self::new(T::default)
    }
}

impl<T: fmt::Debug, F> fmt::Debug for LazyLock<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value.get() {
            Some(value) => f.debug_tuple("LazyLock").field(value).finish(),
            None => f.write_str("LazyLock(<not made>)"),
        }
    }
}
