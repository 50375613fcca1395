//! A clock that stands still until it is told otherwise, for simulations and for tests of what expires.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;

/// What TLS takes for the time of day in a simulation: when certificates are valid, and how old tickets are. Clones are the same
/// clock.
///
/// A new one stands at 2027-01-01 00:00:00 UTC, which the fixture certificate's validity includes.
#[derive(Clone, Debug)]
pub struct Clock(Arc<AtomicU64>);

impl Clock {
    /// A clock that stands at the beginning of 2027.
    pub fn new() -> Self {
        Self(Arc::new(AtomicU64::new(1_798_761_600)))
    }

    /// Moves the clock on, by whole seconds.
    pub fn advance(&self, by: Duration) {
        // Relaxed: one number, which orders nothing else.
        self.0.fetch_add(by.as_secs(), Ordering::Relaxed);
    }

    /// Moves the clock back, by whole seconds, as an operator's correction does.
    pub fn set_back(&self, by: Duration) {
        self.0.fetch_sub(by.as_secs(), Ordering::Relaxed);
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.load(Ordering::Relaxed))))
    }
}
