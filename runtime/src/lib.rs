//! A green-thread runtime: straight-line blocking code on coroutines, a worker thread a processor.
//!
//! Names are those of `std::thread`. [`run`] makes a [`Runtime`] and runs a function on it; [`spawn`] starts a coroutine
//! beside it; everything that waits parks the coroutine and leaves the worker to others.
//!
//! ```
//! use std::time::Duration;
//!
//! let total = weald_runtime::run(|| {
//!     let squares: Vec<_> = (1..=10_u64)
//!         .map(|number| {
//!             weald_runtime::spawn(move || {
//!                 weald_runtime::sleep(Duration::from_millis(1));
//!                 number * number
//!             })
//!         })
//!         .collect();
//!     squares.into_iter().map(|square| square.join().expect("it does not panic")).sum::<u64>()
//! });
//! assert_eq!(total, 385);
//! ```
//!
//! # What a coroutine may rely on
//!
//! - Until its first run a coroutine may be started by any worker; from then on it stays on one thread, so that thread-locals
//!   and `Rc` work as on a thread. [`spawn_on`] chooses the worker, [`spawn_local`] takes closures that are not `Send`.
//! - A panic ends its coroutine and is the error of its [`JoinHandle`].
//! - A stack has 96 KiB by default ([`Builder::stack_size`]). Overflowing it ends the process with the coroutine's name.
//!   What needs a large stack and does not block runs in [`on_worker_stack`].
//! - Other coroutines of the same thread run while one is parked: a `RefCell` borrow, a `std` lock guard or
//!   `stdout().lock()` held over a park is seen by them.
//!
//! # Unsafe code
//!
//! It stands in the modules that are marked below, and nowhere else.
#![deny(unsafe_code)]
#![cfg_attr(loom, expect(dead_code, reason = "the models are built without the scheduler, which uses what they leave unused"))]

#[cfg(not(loom))]
mod builder;
mod cancel;
pub mod channel;
#[cfg(not(loom))]
#[allow(unsafe_code)]
mod coroutine;
#[cfg(not(loom))]
pub mod dump;
#[cfg(not(loom))]
#[doc(hidden)]
pub mod embedding;
#[cfg(not(loom))]
mod hook;
#[allow(unsafe_code)]
mod lent_waiter;
#[cfg(not(loom))]
mod local;
#[cfg(not(loom))]
pub mod metrics;
#[cfg(not(loom))]
pub mod net;
mod park;
mod primitive;
mod reactor;
#[allow(unsafe_code)]
mod scheduler;
#[cfg(not(loom))]
#[allow(unsafe_code)]
mod scope;
#[allow(unsafe_code)]
pub mod select;
#[cfg(not(loom))]
pub mod signal;
#[cfg(not(loom))]
mod sigquit;
#[cfg(not(loom))]
pub mod sim;
#[cfg(not(loom))]
mod spawn;
#[allow(unsafe_code)]
mod spin_lock;
#[allow(unsafe_code)]
pub mod sync;
#[cfg(not(loom))]
#[allow(unsafe_code)]
mod sys;
#[cfg(not(loom))]
#[allow(unsafe_code)]
mod task;
#[cfg_attr(all(test, loom), allow(unsafe_code))]
mod task_state;
pub mod time;
#[cfg(not(loom))]
mod timer_wheel;
#[allow(unsafe_code)]
mod wait_list;
#[cfg(not(loom))]
mod watchdog;

#[cfg(not(loom))]
pub use self::builder::{Handle, Runtime, RuntimeBuilder, run};
pub use self::cancel::{CancellationToken, DropGuard};
#[cfg(not(loom))]
pub use self::hook::{Hook, HookHandle, HookId, Progress, RoundContext};
#[cfg(not(loom))]
pub use self::local::CoroutineLocal;
#[cfg(not(loom))]
pub use self::park::{Coroutine, current, no_park, park, park_timeout, shield};
#[cfg(not(loom))]
pub use self::scheduler::shutdown::ShutdownReport;
#[cfg(not(loom))]
pub use self::scope::{Scope, ScopedJoinHandle, scope};
#[cfg(not(loom))]
pub use self::spawn::{
    Builder, is_cancelled, on_worker_stack, sleep, sleep_until, spawn, spawn_local, spawn_on, try_sleep, worker_index, yield_now,
};
#[cfg(not(loom))]
pub use self::task::{JoinError, JoinHandle};
