//! Owns the calls by which a coroutine or thread runs a blocking job: where it runs, and what refuses it.
//!
//! It does not own the way of the job (`job`).

use std::panic::{self, Location};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use super::error::UnblockError;
use super::job::{self, Returned};
use super::pool::{Limits, Origin, Pool};
use crate::park;
use crate::scheduler::current::{self, Place};
use crate::time::Instant;
use crate::wait_list::Limit;

/// For plain threads that want to wait for no longer than so long.
static OF_THE_PROCESS: LazyLock<Arc<Pool>> = LazyLock::new(|| Arc::new(Pool::new("weald".to_owned(), Limits::default())));

/// Runs `f`, which may block its thread, on a thread for such, and parks the calling coroutine until it has returned: for files,
/// name look-ups, databases, C libraries that wait, and long computations. Other coroutines of the worker run meanwhile.
///
/// ```
/// use std::fs;
/// use weald_runtime::{run, spawn, unblock};
///
/// fn first_line(path: &'static str) -> std::io::Result<String> {
///     // The first `?` is for the wait, the second for the file.
///     let text = unblock(move || fs::read_to_string(path))??;
///     Ok(text.lines().next().unwrap_or_default().to_owned())
/// }
///
/// run(|| {
///     let files = ["/proc/version", "/proc/cpuinfo"].map(|path| spawn(move || first_line(path)));
///     for file in files {
///         assert!(!file.join().expect("no panic").expect("it can be read").is_empty());
///     }
/// });
/// ```
///
/// The threads are the runtime's, as many as it takes up to
/// [`max_blocking_threads`](crate::RuntimeBuilder::max_blocking_threads). When all of them run something, `f` waits for its turn, first come,
/// first served. On its thread it is no coroutine: what it calls of this crate blocks that thread, and is not cancelled.
///
/// A plain thread runs `f` in place: nobody else needs the thread. So does a coroutine of a [simulation](crate::sim), on its own
/// stack and in no time, so that the simulation repeats as long as what `f` returns does.
///
/// `f` must be `'static`, because the caller may go on before it ends. That is so when the caller is cancelled (inside of
/// [`shield`](crate::shield) it is not): a function that waits for its turn is given back, and one that runs is left to itself, to drop
/// its result when it ends. The end of a runtime waits for such ones, too, and names those that do not end.
///
/// # Errors
///
/// [`UnblockError`], with the function if it has not begun: the caller is cancelled; or there is no thread, and the system refuses
/// one. It converts to an [`io::Error`](std::io::Error), as in the example.
///
/// # Panics
///
/// With `f`'s panic; in [`no_park`](crate::no_park), and on a worker's own stack, where nothing may wait.
#[track_caller]
pub fn unblock<F, T>(f: F) -> Result<T, UnblockError<F>>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    if is_refused() {
        return Err(UnblockError::Cancelled(Some(f)));
    }
    park::refuse_where_nothing_blocks();
    match pool() {
        Some(pool) => finish(job::run(&pool, f, origin(), Limit::Never)),
        None => Ok(f()),
    }
}

/// As [`unblock`], but does not wait for longer than `timeout`. A plain thread uses one of the process's threads, so as not to wait
/// longer, either. In a simulation `f` takes no time.
///
/// ```
/// use std::{thread, time::Duration};
/// use weald_runtime::unblock_timeout;
///
/// weald_runtime::run(|| {
///     let late = unblock_timeout(Duration::from_millis(1), || thread::park_timeout(Duration::from_millis(50)));
///     // `Timeout(None)`: it has begun, and runs on. `Timeout(Some(job))`: no thread was free in time.
///     assert!(late.is_err_and(|error| error.is_timeout()));
/// });
/// ```
///
/// # Errors
///
/// As `unblock`, and [`UnblockError::Timeout`].
///
/// # Panics
///
/// As `unblock`.
#[track_caller]
pub fn unblock_timeout<F, T>(timeout: Duration, f: F) -> Result<T, UnblockError<F>>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    on_a_thread(f, Limit::After(timeout))
}

/// As [`unblock_timeout`], until `deadline`.
///
/// # Errors
///
/// As `unblock_timeout`.
///
/// # Panics
///
/// As [`unblock`].
#[track_caller]
pub fn unblock_deadline<F, T>(deadline: Instant, f: F) -> Result<T, UnblockError<F>>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    on_a_thread(f, Limit::At(deadline))
}

/// As [`unblock`], on a thread of a pool for plain threads, too, so that their wait can end early.
#[track_caller]
pub(crate) fn on_a_thread<F, T>(f: F, limit: Limit) -> Result<T, UnblockError<F>>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    if is_refused() {
        return Err(UnblockError::Cancelled(Some(f)));
    }
    park::refuse_where_nothing_blocks();
    if let Some(pool) = pool() {
        return finish(job::run(&pool, f, origin(), limit));
    }
    match current::place() {
        Place::Thread => finish(job::run(&OF_THE_PROCESS, f, origin(), limit)),
        // A simulation's.
        Place::Coroutine | Place::NoPark(_) | Place::WorkerStack => Ok(f()),
    }
}

/// The pool of the caller's runtime; a simulation has none.
fn pool() -> Option<Arc<Pool>> {
    current::with(|local| local?.shared.blocking.clone())
}

/// Whether the caller is told not to wait: it is cancelled, or a coroutine that unwinds from a panic.
fn is_refused() -> bool {
    match current::place() {
        Place::Coroutine | Place::NoPark(_) if std::thread::panicking() => true,
        Place::Coroutine | Place::NoPark(_) | Place::Thread => crate::is_cancelled() && !park::is_shielded(),
        Place::WorkerStack => false,
    }
}

#[track_caller]
fn origin() -> Origin {
    let place = Location::caller();
    match current::place() {
        Place::Thread => Origin { place, coroutine: 0, name: None },
        Place::Coroutine | Place::NoPark(_) | Place::WorkerStack => {
            let task = current::task();
            Origin { place, coroutine: task.id(), name: task.name().map(Into::into) }
        }
    }
}

fn finish<F, T>(ended: Result<Returned<T>, UnblockError<F>>) -> Result<T, UnblockError<F>> {
    ended.map(|returned| returned.unwrap_or_else(|payload| panic::resume_unwind(payload)))
}
