//! The memory that all connections of a process share: one budget over all of them, since a window for each is no bound for
//! many.
//!
//! Owns the count and the levels at which memory is short. Does not own what follows: connections squeeze their writers and
//! drop what nobody reads (`Connection::set_pressure`), the endpoint lets fewer clients in (`endpoint::admit`), and the driver
//! gives no more data to connections that hold more than [`Governor::share`].
//!
//! Invariants: `held` is the sum of all leases; a lease gives back what it counted when it goes.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::pressure::Pressure;

/// Leases count in pages, so that most changes of a connection's memory change no count that others read.
const PAGE: usize = 4096;

/// What a connection may hold however short memory is.
const SHARE: usize = 64 * 1024;

/// A budget of memory, in bytes, for the connections of all endpoints that are given it.
///
/// Cheap to clone; clones are the same budget.
///
/// ```
/// use weald_quic::{EndpointConfig, Governor};
///
/// // Both endpoints together hold no more than a gigabyte.
/// let governor = Governor::new(1 << 30);
/// let (inside, outside) = (EndpointConfig::new().governor(governor.clone()), EndpointConfig::new().governor(governor));
/// # let _ = (inside, outside);
/// ```
#[derive(Clone)]
pub struct Governor(Arc<Inner>);

struct Inner {
    limit: usize,
    held: AtomicUsize,
}

impl Governor {
    /// A budget of `limit` bytes. Three quarters of it are given without conditions. Past that, servers let in only clients
    /// whose address is known; when all of it is held they let in nobody, writers wait, datagrams that nobody has read are
    /// dropped, and a connection that holds more than 64 KiB is treated as if the network lost what is sent to it.
    pub fn new(limit: usize) -> Governor {
        Governor(Arc::new(Inner { limit, held: AtomicUsize::new(0) }))
    }

    /// The budget in bytes.
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// Bytes held by all connections, each rounded up to pages of 4 KiB.
    pub fn held(&self) -> usize {
        // Relaxed: a count, which orders nothing else.
        self.0.held.load(Ordering::Relaxed)
    }

    /// How short memory is.
    pub fn pressure(&self) -> Pressure {
        let (held, limit) = (self.held(), self.0.limit);
        if held >= limit {
            Pressure::Full
        } else if held >= limit - limit / 4 {
            Pressure::High
        } else {
            Pressure::None
        }
    }

    /// Counts for one connection.
    pub(crate) fn lease(&self) -> Lease {
        Lease { governor: self.clone(), pages: 0 }
    }
}

impl fmt::Debug for Governor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Governor").field("limit", &self.limit()).field("held", &self.held()).finish()
    }
}

/// What one connection holds of the budget.
pub(crate) struct Lease {
    governor: Governor,
    pages: usize,
}

impl Lease {
    /// The connection holds `bytes` now.
    pub(crate) fn set(&mut self, bytes: usize) {
        let pages = bytes.div_ceil(PAGE);
        let held = &self.governor.0.held;
        if pages > self.pages {
            held.fetch_add((pages - self.pages) * PAGE, Ordering::Relaxed);
        } else if pages < self.pages {
            held.fetch_sub((self.pages - pages) * PAGE, Ordering::Relaxed);
        }
        self.pages = pages;
    }

    /// Whether the connection holds more than it may when nothing is left.
    pub(crate) fn is_large(&self) -> bool {
        self.pages * PAGE > SHARE
    }

    /// How short memory is.
    pub(crate) fn pressure(&self) -> Pressure {
        self.governor.pressure()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_all_leases_is_what_is_held() {
        let governor = Governor::new(1 << 20);
        let mut rng = fastrand::Rng::with_seed(1);
        let mut leases: Vec<(Lease, usize)> = (0..20).map(|_| (governor.lease(), 0)).collect();
        for _ in 0..10_000 {
            let at = rng.usize(0..leases.len());
            let bytes = rng.usize(0..100_000);
            leases[at].0.set(bytes);
            leases[at].1 = bytes;
            if rng.u32(0..10) == 0 {
                leases[at] = (governor.lease(), 0);
            }
            assert_eq!(governor.held(), leases.iter().map(|(_, bytes)| bytes.div_ceil(PAGE) * PAGE).sum());
        }
        leases.clear();
        assert_eq!(governor.held(), 0);
    }

    #[test]
    fn memory_is_short_from_three_quarters_on() {
        let governor = Governor::new(400 * PAGE);
        let mut lease = governor.lease();
        let mut at = |pages: usize| {
            lease.set(pages * PAGE);
            (governor.pressure(), lease.is_large())
        };
        assert_eq!(at(0), (Pressure::None, false));
        assert_eq!(at(16), (Pressure::None, false));
        assert_eq!(at(299), (Pressure::None, true));
        assert_eq!(at(300), (Pressure::High, true));
        assert_eq!(at(399), (Pressure::High, true));
        assert_eq!(at(400), (Pressure::Full, true));
        assert_eq!(at(usize::MAX / PAGE / 2), (Pressure::Full, true));
        assert_eq!(at(1), (Pressure::None, false));
        assert_eq!(Governor::new(0).pressure(), Pressure::Full);
    }
}
