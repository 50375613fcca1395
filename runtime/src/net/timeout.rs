//! The timeouts of a socket.
//!
//! Owns how long blocking reads or writes wait, as `set_read_timeout` and `set_write_timeout` set it.

use std::io;
use std::time::Duration;

use crate::primitive::atomic::{AtomicU64, Ordering};
use crate::wait_list::Limit;

/// Nanoseconds; zero is none.
#[derive(Default)]
pub(super) struct Timeout(AtomicU64);

impl Timeout {
    /// Refuses zero, which std does, too: who would not wait has the `try_` calls.
    pub(super) fn set(&self, timeout: Option<Duration>) -> io::Result<()> {
        let nanos = timeout.map_or(0, |timeout| u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX));
        if timeout.is_some() && nanos == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a timeout of zero"));
        }
        // Relaxed: a setting, it orders nothing.
        self.0.store(nanos, Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn get(&self) -> Option<Duration> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }

    /// When a call that begins now ends.
    pub(super) fn limit(&self) -> Limit {
        self.get().map_or(Limit::Never, Limit::After)
    }
}
