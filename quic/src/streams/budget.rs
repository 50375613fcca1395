//! Owns how much written data may wait on a connection: on one stream, and on all of them together.
//!
//! Does not own the data, nor who waits for room (`transmit`). The sums are kept by [`SendBudget::change`], through which
//! every change of a sending part goes.
//!
//! Invariants:
//! - `held` is the sum over all streams of what was written and not acknowledged, `finishing` the number of those that were
//!   finished and not acknowledged to the end.
//! - All streams together hold `limit` bytes at most, and [`RESERVED`] for each of them. So a stream whose data goes nowhere
//!   slows the others down and never stops them.

use super::send::Send;
use crate::config::SendWindow;

/// What a stream may hold however much the others do: a buffer of the smallest size.
const RESERVED: u64 = 2048;

/// A window that follows congestion control is not smaller than this.
const MIN_AUTO_WINDOW: u32 = 64 * 1024;

/// Writers that wait for the connection's room are woken when this part of it is free, so that not every acknowledgement
/// wakes all of them.
const WAKE_FRACTION: u64 = 4;

/// Sums over all sending parts, and their bounds.
#[derive(Debug)]
pub(super) struct SendBudget {
    held: u64,
    finishing: u32,
    limit: u32,
    window: u32,
    /// Bound of a window that follows congestion control; `None` if it is fixed.
    max_auto: Option<u32>,
    /// Memory is short: no more than what is reserved.
    squeezed: bool,
}

/// How much one stream may hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Of itself.
    pub(super) window: u64,
    /// Beyond what it holds already, for the sake of the others.
    pub(super) shared: u64,
}

impl Room {
    /// How many bytes more a stream may take that holds `held`.
    pub(super) fn beyond(self, held: u64) -> u64 {
        self.window.saturating_sub(held).min(self.shared.max(RESERVED.saturating_sub(held)))
    }

    /// Whether the connection leaves a stream that holds `held` less than its own window does.
    pub(super) fn is_shared_short(self, held: u64) -> bool {
        self.beyond(held) < self.window.saturating_sub(held)
    }
}

impl SendBudget {
    /// At most `limit` bytes on all streams, and `window` on each.
    pub(super) fn new(window: SendWindow, limit: u32) -> Self {
        let (window, max_auto) = match window {
            SendWindow::Fixed(bytes) => (bytes.max(1), None),
            SendWindow::Auto { max } => (MIN_AUTO_WINDOW.min(max).max(1), Some(max)),
        };
        Self { held: 0, finishing: 0, limit, window, max_auto, squeezed: false }
    }

    /// Bytes written and not acknowledged.
    pub(super) fn held(&self) -> u64 {
        self.held
    }

    /// Whether a stream was finished of which something was not acknowledged.
    pub(super) fn is_finishing(&self) -> bool {
        self.finishing > 0
    }

    /// What any stream may hold now.
    pub(super) fn room(&self) -> Room {
        Room { window: self.window.into(), shared: self.shared() }
    }

    /// Whether there is room enough to wake who waits for the connection's.
    pub(super) fn is_roomy(&self) -> bool {
        self.shared() >= (u64::from(self.limit) / WAKE_FRACTION).max(1)
    }

    /// The congestion window has changed. Twice as much in the buffer keeps the network busy while acknowledgements are on
    /// their way back and the writer is woken.
    pub(super) fn on_congestion_window(&mut self, bytes: u64) {
        if let Some(max) = self.max_auto {
            let window = u32::try_from(bytes.saturating_mul(2)).unwrap_or(u32::MAX);
            self.window = window.max(MIN_AUTO_WINDOW).min(max).max(1);
        }
    }

    /// Memory is short, or no longer.
    pub(super) fn squeeze(&mut self, squeezed: bool) {
        self.squeezed = squeezed;
    }

    /// Changes a stream's sending part, and the sums with it.
    pub(super) fn change<T>(&mut self, send: &mut Send, change: impl FnOnce(&mut Send) -> T) -> T {
        let (held, finishing) = (send.held(), send.is_finishing());
        let result = change(send);
        self.held = self.held - held + send.held();
        self.finishing = self.finishing - u32::from(finishing) + u32::from(send.is_finishing());
        result
    }

    fn shared(&self) -> u64 {
        if self.squeezed { 0 } else { u64::from(self.limit).saturating_sub(self.held) }
    }
}
