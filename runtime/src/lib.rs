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
//! The [`guide`] explains the concepts, warns of the pitfalls, and shows the way here from threads, may and tokio.
//!
//! # What a coroutine may rely on
//!
//! - Until its first run a coroutine may be started by any worker; from then on it stays on one thread, so that thread-locals
//!   and `Rc` work as on a thread. [`spawn_on`] chooses the worker, [`spawn_local`] takes closures that are not `Send`.
//! - A panic ends its coroutine and is the error of its [`JoinHandle`]. In a program built with `panic = "abort"` it ends the process, and a
//!   [shutdown](Runtime::shutdown) leaks, and names, the coroutines that do not end when their calls are cancelled: they cannot be unwound.
//! - A stack has 96 KiB by default ([`Builder::stack_size`]). Overflowing it ends the process with the coroutine's name.
//!   What needs a large stack and does not block runs in [`on_worker_stack`].
//! - Other coroutines of the same thread run while one is parked: a `RefCell` borrow, a `std` lock guard or
//!   `stdout().lock()` held over a park is seen by them.
//!
//! # Model-checking your own code
//!
//! Built with `RUSTFLAGS="--cfg loom"` the crate is a model of itself: [`spawn`], [`channel`], [`select!`], [`sync`], `park` and
//! `yield_now` are small types over [loom](https://docs.rs/loom), and `weald_runtime::loom` is loom itself. A test that uses them
//! inside of `loom::model` runs for every order in which its coroutines can meet, up to the number of preemptions in
//! `LOOM_MAX_PREEMPTIONS`. What your code does between the calls it does in atomics of `weald_runtime::loom::sync::atomic`, if loom is
//! to see it.
//!
//! ```ignore
//! // tests/loom.rs; run with: RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=2 cargo test --release --test loom
//! #![cfg(loom)]
//! use weald_runtime::{channel, loom, spawn};
//!
//! #[test]
//! fn the_last_worker_to_leave_hands_the_sum_over() {
//!     loom::model(|| {
//!         let (numbers, inbox) = channel::bounded(1);
//!         let adders: Vec<_> = (1..=2).map(|number| {
//!             let numbers = numbers.clone();
//!             spawn(move || numbers.send(number).unwrap())
//!         }).collect();
//!         drop(numbers);
//!         assert_eq!(inbox.into_iter().sum::<u32>(), 3);
//!         for adder in adders {
//!             adder.join().unwrap();
//!         }
//!     });
//! }
//! ```
//!
//! In the models a deadline passes at the first chance, after everybody else could make a step, so that both outcomes are
//! explored; a coroutine is cancelled by a [`CancellationToken`] that it is inside of, and by nothing else; a select takes the first of its
//! arms that are ready, and two of them do not meet on a rendezvous channel. Sockets, files, hooks, runtimes with their builders and
//! handles, `unblock`, `coroutine_local!` and the simulation have no model. A model that fails while a [`scope`](fn@scope) waits ends the
//! process, with its message. What Weald itself does is checked with the shipping code:
//! `just loom` in its repository.
//!
//! # Unsafe code
//!
//! It stands in the modules that are marked below, and nowhere else.
#![deny(unsafe_code)]
#![cfg_attr(all(loom, test), expect(dead_code, reason = "the models are built without the scheduler, which uses what they leave unused"))]

#[cfg(any(not(loom), test))]
mod blocking;
#[cfg(not(loom))]
mod builder;
#[cfg(any(not(loom), test))]
mod cancel;
#[cfg(any(not(loom), test))]
pub mod channel;
#[cfg(any(not(loom), test))]
mod contained;
#[cfg(any(not(loom), test))]
#[allow(unsafe_code)]
mod coroutine;
#[cfg(not(any(loom, miri, weald_baton)))]
mod debugger;
#[cfg(not(loom))]
pub mod dump;
#[cfg(not(loom))]
#[doc(hidden)]
pub mod embedding;
#[cfg(any(not(loom), test))]
mod fatal;
#[cfg(not(loom))]
pub mod guide;
#[cfg(not(loom))]
mod hook;
#[cfg(any(not(loom), test))]
#[allow(unsafe_code)]
mod lent_waiter;
#[cfg(not(loom))]
mod local;
#[cfg(not(loom))]
pub mod metrics;
#[cfg(all(loom, not(test)))]
#[allow(unsafe_code)]
mod model;
#[cfg(not(loom))]
pub mod net;
#[cfg(any(not(loom), test))]
mod park;
#[cfg(any(not(loom), test))]
mod primitive;
#[cfg(any(not(loom), test))]
mod reactor;
#[cfg(any(not(loom), test))]
#[allow(unsafe_code)]
mod scheduler;
#[cfg(not(loom))]
#[allow(unsafe_code)]
mod scope;
#[cfg(any(not(loom), test))]
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
#[cfg(any(not(loom), test))]
#[allow(unsafe_code)]
mod spin_lock;
#[cfg(any(not(loom), test))]
#[allow(unsafe_code)]
pub mod sync;
#[cfg(not(loom))]
#[allow(unsafe_code)]
mod sys;
#[cfg(not(loom))]
#[allow(unsafe_code)]
mod task;
#[cfg(any(not(loom), test))]
#[cfg_attr(all(test, loom), allow(unsafe_code))]
mod task_state;
pub mod time;
#[cfg(any(not(loom), test))]
mod timer_wheel;
#[cfg(any(not(loom), test))]
#[allow(unsafe_code)]
mod wait_list;
#[cfg(not(loom))]
mod watchdog;

#[cfg(not(loom))]
pub use self::blocking::{UnblockError, unblock, unblock_deadline, unblock_timeout};
#[cfg(not(loom))]
pub use self::builder::{Handle, Runtime, RuntimeBuilder, run};
#[cfg(any(not(loom), test))]
pub use self::cancel::{CancellationToken, DropGuard};
#[cfg(not(loom))]
pub use self::hook::{Hook, HookHandle, HookId, Progress, RoundContext};
#[cfg(not(loom))]
pub use self::local::CoroutineLocal;
#[cfg(not(loom))]
pub use self::park::{Coroutine, current, no_park, park, park_timeout, shield, try_park, try_park_timeout};
#[cfg(not(loom))]
pub use self::scheduler::shutdown::ShutdownReport;
#[cfg(not(loom))]
pub use self::scope::{Scope, ScopedJoinHandle, scope};
#[cfg(not(loom))]
pub use self::spawn::{
    Builder, is_cancelled, on_worker_stack, sleep, sleep_until, spawn, spawn_local, spawn_on, try_sleep, try_sleep_until, worker_index,
    yield_now,
};
#[cfg(not(loom))]
pub use self::task::{JoinError, JoinHandle, PanicPayload};

#[cfg(all(loom, not(test)))]
pub use self::model::*;
#[cfg(all(loom, not(test)))]
pub use loom;
