//! What a process does on a signal, added to what it did before.
//!
//! Owns the registration of a bell to ring; the chain of handlers is `signal-hook-registry`'s.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use signal_hook_registry::SigId;

use super::event_fd::EventFd;
use crate::primitive::atomic::{AtomicU64, Ordering};

/// Signals that have come and were not taken, and a bell that rings for each.
pub(crate) struct PendingSignals {
    /// Bit `n - 1` for signal `n`; Linux has 64.
    bits: AtomicU64,
    bell: EventFd,
}

/// Signals that are caught until this is dropped.
pub(crate) struct CaughtSignals {
    pending: Arc<PendingSignals>,
    actions: Vec<SigId>,
}

impl CaughtSignals {
    /// Catches none yet.
    pub(crate) fn new() -> io::Result<CaughtSignals> {
        let pending = PendingSignals { bits: AtomicU64::new(0), bell: EventFd::new()? };
        Ok(CaughtSignals { pending: Arc::new(pending), actions: Vec::new() })
    }

    /// Catches a signal, too. Its default action is off from now on, for good.
    pub(crate) fn add(&mut self, signal: i32) -> io::Result<()> {
        if !(1..=64).contains(&signal) || signal_hook_registry::FORBIDDEN.contains(&signal) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("signal {signal} cannot be caught")));
        }
        let pending = Arc::clone(&self.pending);
        let action = move || {
            // Release pairs with the Acquire in `take`.
            pending.bits.fetch_or(1 << (signal - 1), Ordering::Release);
            let _ = pending.bell.ring();
        };
        // SAFETY: the action is async-signal-safe: an atomic operation and a write(2) to an eventfd that it keeps open; the
        // registry keeps errno.
        self.actions.push(unsafe { signal_hook_registry::register(signal, action) }?);
        Ok(())
    }

    /// Takes one of the signals that have come, the one with the lowest number.
    pub(crate) fn take(&self) -> Option<i32> {
        // Acquire pairs with the Release in the action: what its thread did before is seen.
        let lowest = |bits: u64| bits.checked_sub(1).map(|less| bits & less);
        let bits = self.pending.bits.fetch_update(Ordering::Acquire, Ordering::Relaxed, lowest).ok()?;
        Some(bits.trailing_zeros() as i32 + 1)
    }
}

/// The bell.
impl AsFd for CaughtSignals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pending.bell.as_fd()
    }
}

impl Drop for CaughtSignals {
    fn drop(&mut self) {
        for action in self.actions.drain(..) {
            signal_hook_registry::unregister(action);
        }
    }
}
