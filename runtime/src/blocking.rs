//! Owns blocking jobs: functions that block their thread, run on one of a pool so that the coroutine that wants the result parks.
//!
//! The pool's threads and queue are `pool`'s, the hand-over of a job and its result `job`'s, the calls `call`'s.
//!
//! Invariants:
//! - A job runs once, or is given back to its owner; never both.
//! - It owns all that it uses (`'static`), so that nobody must stay for it: an owner who is cancelled, whose time is over, or who
//!   is unwound by a shutdown takes it back if it has not begun, and leaves it to itself otherwise.

#[cfg(not(loom))]
mod call;
mod error;
mod job;
pub(crate) mod pool;

#[cfg(not(loom))]
pub(crate) use self::call::on_a_thread;
#[cfg(not(loom))]
pub use self::call::{unblock, unblock_deadline, unblock_timeout};
#[cfg(not(loom))]
pub use self::error::UnblockError;

#[cfg(all(test, loom))]
mod loom_tests;
