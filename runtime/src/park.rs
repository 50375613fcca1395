//! Owns suspension: `park` is the only way in which a coroutine or a thread of Weald waits, and a [`Waiter`] the only way
//! to wake it. Channels, locks, timers, sockets and joins are loops over the two.
//!
//! It does not own the state word (`task_state`), stacks, or queues; a coroutine's park is a switch to its worker, which
//! commits it after the stack is left.
//!
//! Invariants, those of `std::thread::park`:
//! - Everyone who can wait has one token. `unpark` sets it, `park_until` consumes it. A token set before the park makes
//!   the park return at once, so the order *publish what to look at; unpark* against *register; look; park* loses nothing.
//! - A return says nothing about the caller's condition; callers loop.
//! - Waking allocates nothing and takes no lock of the waiter's choosing.

use std::fmt;
use std::time::Duration;

use crate::primitive::{Arc, Condvar, Mutex, thread_local};
#[cfg(not(loom))]
use crate::scheduler::current::{self, Cancellation, Place};
#[cfg(not(loom))]
use crate::task::TaskRef;
use crate::time::Instant;

thread_local! {
    static PARKER: Arc<ThreadParker> = Arc::new(ThreadParker::new());
}

/// Why a park came back.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unparked {
    /// Somebody unparked the caller; the token is consumed.
    Token,
    /// The deadline passed and no token was there.
    TimedOut,
    /// The runtime is shutting down. Level-triggered: every later park says so again. The caller gives up with an error.
    Cancelled,
}

/// One who waits: a coroutine or a plain thread.
///
/// A clone is a reference count. A waiter may outlive what it wakes; then `unpark` does nothing.
#[derive(Clone)]
pub(crate) struct Waiter(Kind);

#[derive(Clone)]
enum Kind {
    #[cfg(not(loom))]
    Coroutine(TaskRef),
    Thread(Arc<ThreadParker>),
}

impl Waiter {
    /// The calling coroutine, or the calling thread outside one.
    ///
    /// # Panics
    ///
    /// On a worker's own stack, where nothing may wait: in a hook, or inside [`on_worker_stack`](crate::on_worker_stack).
    #[track_caller]
    pub(crate) fn current() -> Self {
        #[cfg(not(loom))]
        match current::place() {
            Place::Coroutine => return Self(Kind::Coroutine(current::task())),
            Place::WorkerStack => refuse_worker_stack(),
            Place::Thread => {}
        }
        Self(Kind::Thread(PARKER.with(Arc::clone)))
    }

    /// Sets the token, and makes the waiter run if it is parked.
    pub(crate) fn unpark(&self) {
        match &self.0 {
            #[cfg(not(loom))]
            Kind::Coroutine(task) => task.unpark(),
            Kind::Thread(parker) => parker.unpark(),
        }
    }

    #[cfg(not(loom))]
    fn name(&self) -> Option<&str> {
        match &self.0 {
            Kind::Coroutine(task) => task.name(),
            Kind::Thread(parker) => parker.thread.name(),
        }
    }
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            #[cfg(not(loom))]
            Kind::Coroutine(task) => write!(f, "Waiter(coroutine {})", task.id()),
            Kind::Thread(_) => f.write_str("Waiter(thread)"),
        }
    }
}

/// Blocks the calling coroutine or thread until its token is set, the deadline passes, or the runtime shuts down.
///
/// While the coroutine is unwinding from a panic it never suspends (the thread's panic count would be charged to others):
/// without a token it returns `Cancelled`.
///
/// # Panics
///
/// On a worker's own stack. At the end of a shutdown's grace it unwinds the coroutine with a private payload.
#[track_caller]
pub fn park_until(deadline: Option<Instant>) -> Unparked {
    #[cfg(not(loom))]
    match current::place() {
        Place::Coroutine => return current::park(deadline, Cancellation::Returns),
        Place::WorkerStack => refuse_worker_stack(),
        Place::Thread => {}
    }
    PARKER.with(|parker| parker.park_until(deadline))
}

/// As [`park_until`] for waits that cannot fail: a shutdown's cancellation does not end it, only its final unwinding does.
///
/// Never returns [`Unparked::Cancelled`].
///
/// # Aborts
///
/// If the coroutine is unwinding and would have to wait: a clean-up that cannot be cancelled must not block.
#[track_caller]
pub(crate) fn park_shielded_until(deadline: Option<Instant>) -> Unparked {
    #[cfg(not(loom))]
    match current::place() {
        Place::Coroutine => return current::park(deadline, Cancellation::Shielded),
        Place::WorkerStack => refuse_worker_stack(),
        Place::Thread => {}
    }
    PARKER.with(|parker| parker.park_until(deadline))
}

/// Gives the caller a token, for a wait that consumed one which was not its own.
#[cfg(not(loom))]
pub(crate) fn restore_token() {
    Waiter::current().unpark();
}

/// Blocks the calling coroutine (or plain thread) until its token is available, and consumes it; as `std::thread::park`.
///
/// It may return without a token, so call it in a loop around the condition waited for.
#[cfg(not(loom))]
#[track_caller]
pub fn park() {
    let _ = park_shielded_until(None);
}

/// As [`park`], but not longer than `timeout`.
#[cfg(not(loom))]
#[track_caller]
pub fn park_timeout(timeout: Duration) {
    let _ = park_shielded_until(Some(Instant::now() + timeout));
}

/// The calling coroutine; outside of a runtime, the calling thread.
///
/// # Panics
///
/// In a hook or inside [`on_worker_stack`](crate::on_worker_stack), where nothing can be unparked.
#[cfg(not(loom))]
#[track_caller]
#[must_use]
pub fn current() -> Coroutine {
    Coroutine(Waiter::current())
}

/// A handle to a coroutine, as `std::thread::Thread` is to a thread. Cheap to clone, usable from anywhere.
///
/// ```
/// weald_runtime::run(|| {
///     let me = weald_runtime::current();
///     weald_runtime::spawn(move || me.unpark());
///     weald_runtime::park();
/// });
/// ```
#[cfg(not(loom))]
#[derive(Clone)]
pub struct Coroutine(Waiter);

#[cfg(not(loom))]
impl Coroutine {
    pub(crate) fn from_task(task: TaskRef) -> Self {
        Self(Waiter(Kind::Coroutine(task)))
    }

    /// Makes the token available, and so ends a present or the next [`park`].
    pub fn unpark(&self) {
        self.0.unpark();
    }

    /// The name given by [`Builder::name`](crate::Builder::name), or the thread's.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0.name()
    }

    /// A number that no other coroutine of the runtime has; zero for a plain thread.
    #[must_use]
    pub fn id(&self) -> u64 {
        match &self.0.0 {
            Kind::Coroutine(task) => task.id(),
            Kind::Thread(_) => 0,
        }
    }
}

#[cfg(not(loom))]
impl fmt::Debug for Coroutine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coroutine").field("id", &self.id()).field("name", &self.name()).finish()
    }
}

#[cfg(not(loom))]
#[cold]
#[track_caller]
pub(crate) fn refuse_worker_stack() -> ! {
    panic!("cannot block on a worker's own stack: hooks and on_worker_stack(..) must not park");
}

/// Lends the calling thread's handle, which stays where it is while the thread lives.
pub(crate) fn with_parker<R>(f: impl FnOnce(&Arc<ThreadParker>) -> R) -> R {
    PARKER.with(f)
}

/// A plain thread's token.
pub(crate) struct ThreadParker {
    token: Mutex<bool>,
    set: Condvar,
    #[cfg(not(loom))]
    thread: std::thread::Thread,
}

impl ThreadParker {
    fn new() -> Self {
        Self {
            token: Mutex::new(false),
            set: Condvar::new(),
            #[cfg(not(loom))]
            thread: std::thread::current(),
        }
    }

    pub(crate) fn unpark(&self) {
        *self.token.lock() = true;
        self.set.notify_one();
    }

    fn park_until(&self, deadline: Option<Instant>) -> Unparked {
        let mut token = self.token.lock();
        loop {
            if std::mem::take(&mut *token) {
                return Unparked::Token;
            }
            match deadline {
                None => token = self.set.wait(token),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left == Duration::ZERO {
                        return Unparked::TimedOut;
                    }
                    token = self.set.wait_timeout(token, left);
                }
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_token_set_before_the_park_is_kept_once() {
        let me = Waiter::current();
        me.unpark();
        me.unpark();
        assert_eq!(park_until(None), Unparked::Token);
        assert_eq!(park_until(Some(Instant::now())), Unparked::TimedOut);
    }

    #[test]
    fn a_thread_wakes_another() {
        let me = Waiter::current();
        std::thread::scope(|scope| {
            scope.spawn(move || me.unpark());
            assert_eq!(park_until(None), Unparked::Token);
        });
    }

    #[test]
    fn a_thread_times_out_not_early() {
        let deadline = Instant::now() + Duration::from_millis(5);
        assert_eq!(park_until(Some(deadline)), Unparked::TimedOut);
        assert!(Instant::now() >= deadline);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::primitive::atomic::{AtomicBool, Ordering};
    use loom::thread;

    /// A flag published before `unpark` is seen by the thread that parks until it is.
    #[test]
    fn loom_park_never_misses_a_wake() {
        loom::model(|| {
            let flag = Arc::new(AtomicBool::new(false));
            let waiter = Waiter::current();
            let setter = {
                let flag = Arc::clone(&flag);
                thread::spawn(move || {
                    // Ordering: the token's lock orders the flag; Relaxed shows that it does.
                    flag.store(true, Ordering::Relaxed);
                    waiter.unpark();
                })
            };
            while !flag.load(Ordering::Relaxed) {
                assert_eq!(park_until(None), Unparked::Token);
            }
            setter.join().expect("the setter does not panic");
        });
    }
}
