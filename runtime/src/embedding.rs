//! What other crates of the workspace build blocking calls of their own on. Not for applications, and not stable.
//!
//! Owns nothing: each item is the runtime's, shown to those who know its rules.

pub use crate::park::{Unparked, park_until};

use crate::scheduler::current;
use crate::sim::network::Network;

/// Whether the calling thread drives a simulation, so that randomness has to come from [`seed`].
#[must_use]
pub fn is_simulated() -> bool {
    Network::current().is_some()
}

/// The next number of the calling worker's seeded generator; `None` outside of a runtime.
#[must_use]
pub fn seed() -> Option<u64> {
    current::with(|local| local.map(|local| local.rng.borrow_mut().u64(..)))
}
