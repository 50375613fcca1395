//! Owns what the workers of a runtime share, and with it how work is handed to a worker from elsewhere.
//!
//! The loop is in `worker`; who may sleep, in `idle`, and who polls before, in `spin`; the coroutines that have not run, in `spawn_queue`; the way in from
//! other threads, in `inbox`; what parked stacks give back, in `trimmer`; what a coroutine sees of its worker, in `current`; what is told of coroutines to who listens, in `trace`; the end
//! of it all, in `shutdown`, and its phases in `phase`.
//!
//! Invariants:
//! - Work is published first, then its worker is rung if it sleeps (`idle`).
//! - The phase only grows. From `Cancelling` on no coroutine begins its first run.

#[cfg(not(loom))]
pub(crate) mod counters;
#[cfg(not(loom))]
pub(crate) mod current;
pub(crate) mod idle;
pub(crate) mod inbox;
mod phase;
#[cfg(not(loom))]
pub(crate) mod probe;
#[cfg(not(loom))]
pub(crate) mod shutdown;
pub(crate) mod spawn_queue;
#[cfg(not(loom))]
mod spin;
#[cfg(not(loom))]
pub(crate) mod trace;
#[cfg(not(loom))]
pub(crate) mod trimmer;
#[cfg(not(loom))]
mod turns;
#[cfg(not(loom))]
pub(crate) mod worker;

#[cfg(not(loom))]
pub(crate) use self::phase::Phase;
#[cfg(not(loom))]
pub(crate) use self::shared::{Command, Shared, WorkerShared};
#[cfg(not(loom))]
mod shared;
