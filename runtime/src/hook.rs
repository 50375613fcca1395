//! Owns the contract between a worker and what runs in each of its rounds beside coroutines, such as a QUIC endpoint.
//!
//! It does not own the hooks themselves, which live with their worker.

use std::fmt;
use std::sync::Arc;

use crate::scheduler::{WorkerShared, current};
use crate::time::Instant;

/// Something that runs in every round of one worker, on the worker's own stack. It must not block: a park panics.
///
/// It is made on its worker and never leaves it, so it need not be `Send`. If one of its methods panics, the panic is
/// logged and the hook dropped.
///
/// ```
/// use std::time::Duration;
/// use weald_runtime::{Hook, Progress, RoundContext, Runtime, channel, time::Instant};
///
/// struct Beat {
///     next: Instant,
///     beats: channel::Sender<Instant>,
/// }
///
/// impl Hook for Beat {
///     fn poll(&mut self, context: &mut RoundContext<'_>) -> Progress {
///         if context.now() < self.next {
///             return Progress::Idle;
///         }
///         self.next = context.now() + Duration::from_millis(1);
///         let _ = self.beats.try_send(context.now()); // it must not wait
///         Progress::Busy
///     }
///
///     fn flush(&mut self, _: &mut RoundContext<'_>) -> Progress {
///         Progress::Idle
///     }
///
///     fn next_timeout(&self) -> Option<Instant> {
///         Some(self.next)
///     }
/// }
///
/// let (beats, heard) = channel::bounded(1);
/// let runtime = Runtime::builder().workers(1).build()?;
/// let hook = runtime.handle().add_hook(0, move |_| Box::new(Beat { next: Instant::now(), beats }))?;
/// assert!(heard.recv().expect("a beat") < heard.recv().expect("another"));
/// runtime.handle().remove_hook(hook);
/// # Ok::<_, std::io::Error>(())
/// ```
pub trait Hook {
    /// The start of a round: receive, and handle what is due.
    fn poll(&mut self, context: &mut RoundContext<'_>) -> Progress;

    /// The end of a round, after coroutines ran: send.
    fn flush(&mut self, context: &mut RoundContext<'_>) -> Progress;

    /// When the next round must come even if nothing else happens.
    fn next_timeout(&self) -> Option<Instant>;

    /// Whether the worker may poll for some microseconds before it sleeps, if that has paid before. False while other threads work
    /// for the hook and may be waiting for the processor on which the worker polls. Asked together with
    /// [`next_timeout`](Hook::next_timeout).
    fn may_spin(&self) -> bool {
        true
    }

    /// The last call: the runtime shuts down, all coroutines of the worker have ended.
    fn shutdown(&mut self, context: &mut RoundContext<'_>) {
        let _ = context;
    }
}

/// What a hook says of its work.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing to do: the worker may sleep until the hook's time-out, its sockets' readiness or a ring.
    Idle,
    /// There was, or is, work: the worker begins another round at once.
    Busy,
}

/// What a round lends to a hook.
pub struct RoundContext<'a> {
    pub(crate) now: Instant,
    pub(crate) rng: &'a mut fastrand::Rng,
    pub(crate) worker: usize,
}

impl RoundContext<'_> {
    /// The time at the start of this part of the round.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The worker's seeded generator.
    pub fn rng(&mut self) -> &mut fastrand::Rng {
        self.rng
    }

    /// The worker's number, counted from zero.
    #[must_use]
    pub fn worker(&self) -> usize {
        self.worker
    }
}

impl fmt::Debug for RoundContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoundContext").field("now", &self.now).field("worker", &self.worker).finish_non_exhaustive()
    }
}

/// Names a hook, to remove it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HookId {
    pub(crate) worker: usize,
    pub(crate) number: u64,
}

/// Reaches a hook's worker from anywhere.
#[derive(Clone)]
pub struct HookHandle {
    pub(crate) worker: Arc<WorkerShared>,
}

impl HookHandle {
    /// Makes the worker run a round soon. A system call only if it sleeps.
    pub fn ring(&self) {
        self.worker.ring();
    }

    /// Whether the caller runs on that worker: a round is then under way, and its end is still to come.
    #[must_use]
    pub fn is_current(&self) -> bool {
        current::with(|local| local.is_some_and(|local| Arc::ptr_eq(&local.worker, &self.worker)))
    }
}

impl fmt::Debug for HookHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookHandle").field("worker", &self.worker.index).finish()
    }
}
