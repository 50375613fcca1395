//! Owns what lets a first coroutine borrow from its caller: who waits until it has ended, or ends the process.
//!
//! It does not own how it is spawned and driven. Invariant: neither function returns or unwinds while the closure, whose lifetime it has
//! forgotten, is alive.

use std::mem;
use std::panic::{self, AssertUnwindSafe};

use super::{JoinError, JoinHandle};
use crate::fatal::{FatalDrop, fatal};
use crate::park;

/// Runs a borrowing closure as a task and waits for it on the calling thread, which must be a plain one.
///
/// `spawn` gets the closure as if it borrowed nothing.
///
/// # Panics
///
/// Where nothing may block, and in a thread that ends and has nothing any more to wait with. Nothing was spawned then.
#[track_caller]
pub(crate) fn run_borrowed<'a, T: Send + 'a>(
    f: impl FnOnce() -> T + Send + 'a,
    spawn: impl FnOnce(Box<dyn FnOnce() + Send + 'static>) -> JoinHandle<()>,
) -> Result<T, JoinError> {
    park::refuse_where_nothing_blocks();
    let mut result = None;
    let place = &mut result;
    let closure: Box<dyn FnOnce() + Send + '_> = Box::new(move || *place = Some(f()));
    // SAFETY: only the lifetime changes. The closure is gone when `join_shielded` below has returned, because done is published
    // after the closure was consumed or dropped and its stack left; and it returns, or the process ends. A panic in `spawn` drops
    // the closure or leaves it where it can never run.
    let closure = unsafe { mem::transmute::<Box<dyn FnOnce() + Send + '_>, Box<dyn FnOnce() + Send + 'static>>(closure) };
    let handle = spawn(closure);
    let unwound = FatalDrop("cannot wait for a coroutine that borrows from who waits");
    let joined = handle.join_shielded();
    mem::forget(unwound);
    joined?;
    result.ok_or(JoinError::ShutDown)
}

/// As [`run_borrowed`] for a simulation, whose task runs on the calling thread while `drive` does.
///
/// # Aborts
///
/// If the task has not ended when `drive` returns or panics: its stack holds the borrows.
pub(crate) fn run_borrowed_here<'a, T: 'a>(
    f: impl FnOnce() -> T + 'a,
    spawn: impl FnOnce(Box<dyn FnOnce() + 'static>) -> JoinHandle<()>,
    drive: impl FnOnce(&JoinHandle<()>),
) -> Result<T, JoinError> {
    let mut result = None;
    let place = &mut result;
    let closure: Box<dyn FnOnce() + '_> = Box::new(move || *place = Some(f()));
    // SAFETY: only the lifetime changes; below it is made sure that the task has ended, and with it the closure.
    let closure = unsafe { mem::transmute::<Box<dyn FnOnce() + '_>, Box<dyn FnOnce() + 'static>>(closure) };
    let handle = spawn(closure);
    let driven = panic::catch_unwind(AssertUnwindSafe(|| drive(&handle)));
    if !handle.is_finished() {
        fatal(format_args!("the first coroutine of a simulation did not end, and borrows from its caller"));
    }
    driven.map_err(JoinError::panicked)?;
    handle.join()?;
    result.ok_or(JoinError::ShutDown)
}
