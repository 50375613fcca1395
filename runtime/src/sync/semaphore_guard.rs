//! Permits of a semaphore that go back by themselves.
//!
//! Owns the guard and the calls that give it. The models of `--cfg loom` have the same.

use std::fmt;

use super::{Cancelled, Semaphore};

impl Semaphore {
    /// As [`acquire`](Self::acquire), but the permits go back when the guard is dropped: on an early return and in a panic, too.
    ///
    /// ```
    /// use weald_runtime::sync::Semaphore;
    ///
    /// fn parse(permits: &Semaphore, text: &str) -> Result<u32, Box<dyn std::error::Error>> {
    ///     let _permit = permits.acquire_guard(1)?;
    ///     Ok(text.parse()?)
    /// }
    ///
    /// let permits = Semaphore::new(1);
    /// assert!(parse(&permits, "one").is_err());
    /// assert_eq!(permits.available(), 1);
    /// ```
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    ///
    /// # Panics
    /// As [`acquire`](Self::acquire).
    #[track_caller]
    pub fn acquire_guard(&self, permits: usize) -> Result<SemaphoreGuard<'_>, Cancelled> {
        self.acquire(permits)?;
        Ok(SemaphoreGuard { semaphore: self, permits })
    }

    /// As [`try_acquire`](Self::try_acquire), with a guard.
    pub fn try_acquire_guard(&self, permits: usize) -> Option<SemaphoreGuard<'_>> {
        self.try_acquire(permits).then(|| SemaphoreGuard { semaphore: self, permits })
    }
}

/// Permits that go back when this is dropped; see [`Semaphore::acquire_guard`].
#[must_use = "the permits go back as soon as the guard is dropped"]
pub struct SemaphoreGuard<'a> {
    semaphore: &'a Semaphore,
    permits: usize,
}

impl Drop for SemaphoreGuard<'_> {
    fn drop(&mut self) {
        self.semaphore.release(self.permits);
    }
}

impl fmt::Debug for SemaphoreGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SemaphoreGuard").field("permits", &self.permits).finish_non_exhaustive()
    }
}
