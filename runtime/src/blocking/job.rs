//! Owns the way of one job: into the pool, and its result back to its owner, or the job itself.
//!
//! It does not own when it runs (`pool`), nor who may wait (`call`).
//!
//! Invariant: an owner's wait ends, or is unwound, only when the job is out of the queue: it has begun, or it was withdrawn.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};

use super::error::UnblockError;
use super::pool::{Origin, Pool, Refused, Ticket, Work};
use crate::channel::{RecvTimeoutError, SendError, oneshot};
use crate::contained::contained;
use crate::primitive::Arc;
use crate::wait_list::Limit;

/// What a function has come to: its result, or its panic.
pub(crate) type Returned<T> = std::thread::Result<T>;

struct Job<F, T> {
    function: F,
    result: oneshot::Sender<Returned<T>>,
}

impl<F, T> Work for Job<F, T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    fn run(self: Box<Self>) {
        let Self { function, result } = *self;
        let returned = panic::catch_unwind(AssertUnwindSafe(function));
        if let Err(SendError::Disconnected(unwanted) | SendError::Cancelled(unwanted)) = result.send(returned)
            && contained(|| drop(unwanted)).is_err()
        {
            tracing::error!("the result of a blocking job that nobody waits for panicked in its drop");
        }
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// A job that may be in the queue: not when this is gone.
struct Submitted<'a> {
    pool: &'a Pool,
    ticket: Ticket,
}

impl Submitted<'_> {
    fn withdraw(&self) -> Option<Box<dyn Work>> {
        self.pool.withdraw(self.ticket)
    }
}

impl Drop for Submitted<'_> {
    fn drop(&mut self) {
        // The owner unwinds, or has withdrawn it already, or has its result.
        drop(self.withdraw());
    }
}

/// Runs `function` on a thread of the pool and waits for its end, as long as `limit` allows.
#[track_caller]
pub(crate) fn run<F, T>(pool: &Arc<Pool>, function: F, origin: Origin, limit: Limit) -> Result<Returned<T>, UnblockError<F>>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let (sender, receiver) = oneshot::channel();
    let taken_back = |work: Box<dyn Work>| {
        let Ok(job) = work.into_any().downcast::<Job<F, T>>() else { unreachable!("a ticket is of one job") };
        job.function
    };
    let ticket = match Pool::submit(pool, Box::new(Job { function, result: sender }), origin) {
        Ok(ticket) => ticket,
        Err(Refused::Closed(work)) => return Err(UnblockError::Cancelled(Some(taken_back(work)))),
        Err(Refused::NoThread(work, error)) => return Err(UnblockError::NoThread(taken_back(work), error)),
    };
    let submitted = Submitted { pool, ticket };
    let early = match receiver.recv_limited(limit) {
        Ok(returned) => return Ok(returned),
        Err(RecvTimeoutError::Disconnected) => unreachable!("a job that has begun sends its result, and one that has not keeps its sender"),
        Err(RecvTimeoutError::Timeout) => UnblockError::Timeout,
        Err(RecvTimeoutError::Cancelled) => UnblockError::Cancelled,
    };
    match submitted.withdraw() {
        Some(work) => Err(early(Some(taken_back(work)))),
        // It may have ended while we left.
        None => receiver.try_recv().map_err(|_| early(None)),
    }
}
