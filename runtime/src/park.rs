//! Owns suspension: `park` is the only way in which a coroutine or a thread of Weald waits, and a [`Waiter`] the only way
//! to wake it. Channels, locks, timers, sockets and joins are loops over the two.
//!
//! It does not own the state word (`task_state`), stacks, or queues; a coroutine's park is a switch to its worker, which
//! commits it after the stack is left.
//!
//! Invariants, those of `std::thread::park`:
//! - Everyone who can wait has one token. `unpark` sets it, `park_until` consumes it. A token set before the park makes
//!   the park return at once, so the order *publish what to look at; unpark* against *register; look; park* loses nothing.
//! - Whatever waits consumes tokens that are not its own. So the user's `unpark` sets a permit besides, which only the user's
//!   own [`park`] consumes: a lock taken, a message received or a coroutine joined meanwhile loses nothing either.
//! - A return says nothing about the caller's condition; callers loop.
//! - Waking allocates nothing and takes no lock of the waiter's choosing.

mod thread_parker;
mod waits_for;

use std::cell::Cell;
use std::fmt;
#[cfg(not(loom))]
use std::panic::Location;
#[cfg(not(loom))]
use std::time::Duration;

pub(crate) use self::thread_parker::ThreadParker;
pub use self::waits_for::WaitsFor;
use crate::primitive::{Arc, thread_local};
#[cfg(not(loom))]
use crate::scheduler::current::{self, Parking, Place};
#[cfg(not(loom))]
use crate::sync::Cancelled;
#[cfg(not(loom))]
use crate::task::TaskRef;
#[cfg(not(loom))]
use crate::task_state::Wake;
use crate::time::Instant;

thread_local! {
    static THREAD: PlainThread = PlainThread::new();
}

/// What cancellation does to a park.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cancellation {
    /// It ends it.
    Returns,
    /// Nothing, until a shutdown's last phase unwinds the stack.
    Shielded,
}

/// Why a park came back.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unparked {
    /// Somebody unparked the caller; the token is consumed.
    Token,
    /// The deadline passed and no token was there.
    TimedOut,
    /// The caller is cancelled, by its handle, by a token that it is inside of, or by its runtime's shutdown. Level-triggered:
    /// every later park says so again. The caller gives up with an error.
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
            Place::Coroutine | Place::NoPark(_) => return Self(Kind::Coroutine(current::task())),
            Place::WorkerStack => refuse_worker_stack(),
            Place::Thread => {}
        }
        Self(Kind::Thread(THREAD.with(|thread| Arc::clone(&thread.parker))))
    }

    /// Cancels the waiter until it ends that itself. Whoever gets `true` calls [`resume_interrupted`](Self::resume_interrupted):
    /// the waiter runs no more until then.
    #[must_use]
    pub(crate) fn interrupt(&self) -> bool {
        match &self.0 {
            #[cfg(not(loom))]
            Kind::Coroutine(task) => task.interrupt() == Wake::Enqueue,
            Kind::Thread(parker) => {
                parker.interrupt();
                false
            }
        }
    }

    /// The second half of an interruption that found the waiter parked: apart, because it may ring a worker and the first
    /// half happens under a lock.
    pub(crate) fn resume_interrupted(&self) {
        match &self.0 {
            #[cfg(not(loom))]
            Kind::Coroutine(task) => task.enqueue(),
            Kind::Thread(_) => unreachable!("a thread is interrupted in one go"),
        }
    }

    /// Takes an interruption of the caller itself back.
    pub(crate) fn end_interrupt(&self) {
        match &self.0 {
            #[cfg(not(loom))]
            Kind::Coroutine(task) => task.end_interrupt(),
            Kind::Thread(parker) => parker.end_interrupt(),
        }
    }

    /// Sets the token, and makes the waiter run if it is parked.
    pub(crate) fn unpark(&self) {
        match &self.0 {
            #[cfg(not(loom))]
            Kind::Coroutine(task) => task.unpark(),
            Kind::Thread(parker) => parker.unpark(),
        }
    }

    /// Sets the token and the permit: the user's own token, which no wait of the runtime's consumes. Makes the waiter run if it is parked.
    #[cfg(any(not(loom), test))]
    pub(crate) fn permit(&self) {
        match &self.0 {
            #[cfg(not(loom))]
            Kind::Coroutine(task) => task.permit(),
            Kind::Thread(parker) => parker.permit(),
        }
    }

    #[cfg(not(loom))]
    fn name(&self) -> Option<&str> {
        match &self.0 {
            Kind::Coroutine(task) => task.name(),
            Kind::Thread(parker) => parker.name(),
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

/// Blocks the calling coroutine or thread until its token is set, the deadline passes, or it is cancelled.
///
/// While the coroutine is unwinding from a panic it never suspends (the thread's panic count would be charged to others):
/// without a token it returns `Cancelled`.
///
/// # Panics
///
/// On a worker's own stack, and inside [`no_park`](crate::no_park). At the end of a shutdown's grace it unwinds the coroutine
/// with a private payload.
#[inline(always)]
#[track_caller]
pub fn park_until(deadline: Option<Instant>) -> Unparked {
    park_with(deadline, Cancellation::Returns, WaitsFor::Other)
}

/// As [`park_until`] for waits that cannot fail: cancellation does not end it, only a shutdown's final unwinding does.
///
/// Never returns [`Unparked::Cancelled`].
///
/// # Aborts
///
/// If the coroutine is unwinding and would have to wait: a clean-up that cannot be cancelled must not block.
#[inline(always)]
#[track_caller]
pub(crate) fn park_shielded_until(deadline: Option<Instant>) -> Unparked {
    park_with(deadline, Cancellation::Shielded, WaitsFor::Other)
}

/// [`park_until`], or the same shielded; `waits_for` is what a dump says.
// Inlined, and what is not calls and returns on one side of the switch: see `switched::Coroutine::resume`.
#[inline(always)]
#[track_caller]
pub(crate) fn park_with(deadline: Option<Instant>, cancellation: Cancellation, waits_for: WaitsFor) -> Unparked {
    #[cfg(not(loom))]
    return match &mut begin_park(deadline, cancellation, waits_for) {
        // Not moved out: a copy of what has just been written, in other widths, would wait for the writes.
        Ok(parking) => loop {
            parking.suspend();
            if let Some(unparked) = parking.end() {
                break unparked;
            }
        },
        Err(unparked) => *unparked,
    };
    #[cfg(loom)]
    {
        let _no_dumps = waits_for;
        THREAD.with(|thread| thread.park_until(deadline, cancellation))
    }
}

/// Begins to park a coroutine. Everything else has parked when it returns, as a coroutine has that had not to wait.
#[cfg(not(loom))]
#[track_caller]
fn begin_park(deadline: Option<Instant>, cancellation: Cancellation, waits_for: WaitsFor) -> Result<Parking, Unparked> {
    match current::place() {
        // Who unwinds is not suspended, and a second panic would end the process.
        Place::NoPark(since) if !std::thread::panicking() => refuse_no_park(since),
        Place::Coroutine | Place::NoPark(_) => current::begin_park(deadline, cancellation, waits_for),
        Place::WorkerStack => refuse_worker_stack(),
        Place::Thread => Err(THREAD.with(|thread| thread.park_until(deadline, cancellation))),
    }
}

/// Whether the caller's blocking calls return their error of cancellation. The runtime's shutdown is asked for elsewhere.
#[cfg(not(loom))]
pub(crate) fn is_interrupted_thread() -> bool {
    current::place() == Place::Thread && THREAD.with(|thread| thread.parker.is_interrupted())
}

/// Whether the caller is inside of a [`shield`].
#[cfg(not(loom))]
pub(crate) fn is_shielded() -> bool {
    match current::place() {
        Place::Coroutine | Place::NoPark(_) => current::running().shield().get(),
        Place::WorkerStack | Place::Thread => THREAD.with(|thread| thread.shielded.get()),
    }
}

/// Runs `f` with blocking calls that wait although the caller is cancelled: for clean-up that has to send, flush or join.
///
/// [`is_cancelled`](crate::is_cancelled) still says what is so. The last phase of a shutdown, which unwinds what has not
/// ended, passes through.
///
/// ```
/// use weald_runtime::{Builder, CancellationToken, channel, shield};
///
/// weald_runtime::run(|| {
///     let token = CancellationToken::new();
///     token.cancel();
///     let (refused, told) = channel::bounded(1);
///     let (sender, receiver) = channel::bounded::<&str>(1);
///     let child = Builder::new().cancellation(token).spawn(move || {
///         refused.send(receiver.recv()).expect("there is room");
///         shield(|| receiver.recv())
///     });
///     assert_eq!(told.recv(), Ok(Err(channel::RecvError::Cancelled)));
///     sender.send("a last word").expect("the receiver waits");
///     assert_eq!(child.join().expect("no panic"), Ok("a last word"));
/// });
/// ```
#[cfg(not(loom))]
pub fn shield<R>(f: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            replace_shield(self.0);
        }
    }
    let _restore = Restore(replace_shield(true));
    f()
}

#[cfg(not(loom))]
fn replace_shield(shielded: bool) -> bool {
    match current::place() {
        Place::Coroutine | Place::NoPark(_) => current::replace_shield(shielded),
        Place::WorkerStack | Place::Thread => THREAD.with(|thread| thread.shielded.replace(shielded)),
    }
}

/// Runs `f`, in which a call that would suspend the coroutine (or block the thread) panics and says where `no_park` was
/// called: for code that other coroutines of the same worker must not run in the middle of, as it holds a `RefCell` borrow,
/// a `std` lock, or a pointer into its stack.
///
/// A call that need not wait goes on as ever.
///
/// ```
/// let runtime = weald_runtime::Runtime::builder().workers(1).build()?;
/// let refused = runtime.handle().spawn(|| weald_runtime::no_park(weald_runtime::park)).join();
/// assert!(refused.expect_err("it panicked").to_string().contains("no_park"));
/// # Ok::<_, std::io::Error>(())
/// ```
#[cfg(not(loom))]
#[track_caller]
pub fn no_park<R>(f: impl FnOnce() -> R) -> R {
    struct Restore(Option<&'static Location<'static>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            THREAD.with(|thread| thread.no_park.set(self.0));
        }
    }
    let since = Location::caller();
    match current::place() {
        Place::Coroutine | Place::NoPark(_) => current::no_park(since, f),
        // Nothing parks there anyway.
        Place::WorkerStack => f(),
        Place::Thread => {
            let _restore = Restore(THREAD.with(|thread| thread.no_park.replace(Some(since))));
            f()
        }
    }
}

/// Blocks the calling coroutine (or plain thread) until its token is available, and consumes it; as `std::thread::park`.
///
/// No other call consumes it, so the condition waited for may be looked at with locks, channels and all else that waits. It
/// may return without an [`unpark`](Coroutine::unpark) that was meant for it, so call it in a loop around that condition.
/// Cancellation does not end it ([`try_park`] is for that); the last phase of a shutdown unwinds who is parked.
///
/// ```
/// use std::sync::{Arc, atomic::{AtomicBool, Ordering}};
/// use weald_runtime::{park, run, spawn};
///
/// run(|| {
///     let ready = Arc::new(AtomicBool::new(false));
///     let seen = Arc::clone(&ready);
///     let waiting = spawn(move || {
///         while !seen.load(Ordering::Acquire) {
///             park();
///         }
///     });
///     ready.store(true, Ordering::Release);
///     waiting.coroutine().unpark();
///     waiting.join().expect("no panic");
/// });
/// ```
#[cfg(not(loom))]
#[track_caller]
pub fn park() {
    park_for_permit(None);
}

/// As [`park`], but not longer than `timeout`.
#[cfg(not(loom))]
#[track_caller]
pub fn park_timeout(timeout: Duration) {
    park_for_permit(Some(Instant::now() + timeout));
}

#[cfg(any(not(loom), test))]
#[inline(always)]
#[track_caller]
fn park_for_permit(deadline: Option<Instant>) {
    while !take_permit() && park_with(deadline, Cancellation::Shielded, WaitsFor::Unpark) != Unparked::TimedOut {}
}

#[cfg(not(loom))]
#[track_caller]
fn try_park_for_permit(deadline: Option<Instant>) -> Result<(), Cancelled> {
    while !take_permit() {
        match park_with(deadline, Cancellation::Returns, WaitsFor::Unpark) {
            Unparked::Token => {}
            Unparked::TimedOut => return Ok(()),
            Unparked::Cancelled => return Err(Cancelled::new(())),
        }
    }
    Ok(())
}

#[cfg(any(not(loom), test))]
fn take_permit() -> bool {
    #[cfg(not(loom))]
    match current::place() {
        Place::Coroutine | Place::NoPark(_) => return current::running().take_permit(),
        // It has none, and cannot wait for one.
        Place::WorkerStack => return false,
        Place::Thread => {}
    }
    THREAD.with(|thread| thread.parker.take_permit())
}

/// As [`park`], but ended by cancellation, at once if the caller is cancelled and has no token.
///
/// ```
/// use std::sync::{Arc, atomic::{AtomicBool, Ordering}};
/// use weald_runtime::{run, spawn, try_park};
///
/// run(|| {
///     let ready = Arc::new(AtomicBool::new(false));
///     let seen = Arc::clone(&ready);
///     let waiting = spawn(move || {
///         while !seen.load(Ordering::Acquire) {
///             if try_park().is_err() {
///                 return "cancelled";
///             }
///         }
///         "ready"
///     });
///     waiting.cancel();
///     assert_eq!(waiting.join().expect("no panic"), "cancelled");
/// });
/// ```
///
/// # Errors
///
/// [`Cancelled`] if the caller is cancelled.
#[cfg(not(loom))]
#[track_caller]
pub fn try_park() -> Result<(), Cancelled> {
    try_park_for_permit(None)
}

/// As [`try_park`], but not longer than `timeout`.
///
/// # Errors
///
/// [`Cancelled`] if the caller is cancelled.
#[cfg(not(loom))]
#[track_caller]
pub fn try_park_timeout(timeout: Duration) -> Result<(), Cancelled> {
    try_park_for_permit(Some(Instant::now() + timeout))
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

    /// For a handle that was made [from a task](Self::from_task).
    pub(crate) fn cancel(&self) {
        self.task().cancel();
    }

    /// As [`cancel`](Self::cancel): whether the coroutine has ended.
    pub(crate) fn is_finished(&self) -> bool {
        self.task().is_done()
    }

    fn task(&self) -> &TaskRef {
        match &self.0.0 {
            Kind::Coroutine(task) => task,
            Kind::Thread(_) => unreachable!("made of a task"),
        }
    }

    /// Makes the token available, and so ends a present or the next [`park`].
    pub fn unpark(&self) {
        self.0.permit();
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
    THREAD.with(|thread| f(&thread.parker))
}

/// Panics where a wait would.
#[cfg(not(loom))]
#[track_caller]
pub(crate) fn refuse_where_nothing_blocks() {
    match current::place() {
        Place::Coroutine => {}
        Place::WorkerStack => refuse_worker_stack(),
        Place::NoPark(since) => refuse_no_park(since),
        Place::Thread => {
            if let Some(since) = THREAD.with(|thread| thread.no_park.get()) {
                refuse_no_park(since);
            }
        }
    }
}

#[cfg(not(loom))]
#[cold]
#[track_caller]
pub(crate) fn refuse_no_park(since: &Location<'_>) -> ! {
    panic!("cannot block inside of the no_park(..) at {since}");
}

/// What a plain thread keeps for itself.
struct PlainThread {
    parker: Arc<ThreadParker>,
    shielded: Cell<bool>,
    #[cfg(not(loom))]
    no_park: Cell<Option<&'static Location<'static>>>,
}

impl PlainThread {
    fn new() -> Self {
        Self {
            parker: Arc::new(ThreadParker::new()),
            shielded: Cell::new(false),
            #[cfg(not(loom))]
            no_park: Cell::new(None),
        }
    }

    #[track_caller]
    fn park_until(&self, deadline: Option<Instant>, cancellation: Cancellation) -> Unparked {
        #[cfg(not(loom))]
        if let Some(since) = self.no_park.get()
            && !std::thread::panicking()
        {
            refuse_no_park(since);
        }
        let cancellation = if self.shielded.get() { Cancellation::Shielded } else { cancellation };
        self.parker.park_until(deadline, cancellation)
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
    use crate::wait_list::loom_tests::model;
    use loom::thread;

    /// A flag published before `unpark` is seen by the thread that parks until it is.
    #[test]
    fn loom_park_never_misses_a_wake() {
        model(|| {
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

    /// A thread is unparked by its user while it waits for something else: its own park finds that, whichever tokens the wait has met.
    #[test]
    fn loom_permit_of_a_thread_outlives_a_wait() {
        model(|| {
            let flag = Arc::new(AtomicBool::new(false));
            let (waiter, unparked) = (Waiter::current(), Waiter::current());
            let setter = {
                let flag = Arc::clone(&flag);
                thread::spawn(move || {
                    flag.store(true, Ordering::Relaxed);
                    waiter.unpark();
                })
            };
            let user = thread::spawn(move || unparked.permit());
            while !flag.load(Ordering::Relaxed) {
                assert_eq!(park_until(None), Unparked::Token);
            }
            park_for_permit(None);
            user.join().expect("the user does not panic");
            setter.join().expect("the setter does not panic");
            assert!(!take_permit(), "it was one");
        });
    }
}
