//! Owns what code that runs on a worker can reach: the worker's own half ([`Local`]) through a thread-local, and with it
//! parking, yielding and waking from the inside.
//!
//! It does not own the loop that runs coroutines (`worker`).
//!
//! Invariants:
//! - The thread-local is set only while a worker's round is on the thread's stack, which outlives all that it runs.
//! - A coroutine finds the same `Local` before and after each suspension, because it never changes its worker.
//! - No borrow of a `RefCell` here is held over foreign code or a suspension.

use std::cell::{Cell, RefCell};
use std::panic::{self, Location};
use std::ptr;
use std::sync::Arc;

use super::shutdown::UNWINDS;
use super::spawn_queue::SpawnQueue;
use super::{Phase, Shared, WorkerShared};
use crate::coroutine::Suspend;
#[cfg(not(any(miri, weald_baton)))]
use crate::coroutine::overflow::Running;
use crate::fatal::fatal;
use crate::local::Locals;
use crate::park::{self, Cancellation, Unparked, WaitsFor};
use crate::reactor::Patience;
use crate::sim;
use crate::task::{ShutdownUnwind, StartedTasks, TaskPtr, TaskQueue, TaskRef, Unstarted};
use crate::task_state::{Commit, Wake, Wakeup};
use crate::time::Instant;
use crate::timer_wheel::{TimerKey, TimerWheel};

/// How many of those whose deadline has passed are looked at ahead of the one that is woken, so that it need not be waited for.
const FETCHED: usize = 8;

thread_local! {
    static LOCAL: Cell<*const Local> = const { Cell::new(ptr::null()) };
}

/// The part of a worker that its coroutines use; for the worker's thread only.
pub(crate) struct Local {
    pub(crate) shared: Arc<Shared>,
    pub(crate) worker: Arc<WorkerShared>,
    /// Started coroutines that can run, and those pinned here that wait for their first run.
    pub(crate) queue: TaskQueue,
    /// Spawned here, not started, and free to be stolen.
    pub(crate) spawned: SpawnQueue<Unstarted>,
    pub(crate) started: StartedTasks,
    pub(crate) timers: RefCell<TimerWheel<TaskPtr>>,
    pub(crate) rng: RefCell<fastrand::Rng>,
    pub(crate) running: Cell<Option<TaskPtr>>,
    /// The last coroutine that left its stack in order to park. Its park is not committed yet: until then whoever wakes it on this
    /// thread needs no exchange, and others leave a flag for the commit to find. Empty when the round has run its coroutines.
    pub(crate) parking: Cell<Option<TaskPtr>>,
    /// Those who wait for sockets that count as ready.
    pub(crate) patience: Patience,
    confined: Cell<Option<Confined>>,
    first_id: u64,
    /// The time as of the round's last look at the clock: late by a round, at most, or by what one coroutine holds the worker.
    pub(crate) clock: Cell<Instant>,
}

impl Local {
    pub(crate) fn new(shared: Arc<Shared>, worker: Arc<WorkerShared>, spawned: SpawnQueue<Unstarted>, seed: u64) -> Self {
        // The worker's number in the upper bits makes ids unique without a shared counter.
        let first_id = ((worker.index as u64 + 1) << 40) | 1;
        Self {
            shared,
            worker,
            queue: TaskQueue::default(),
            spawned,
            started: StartedTasks::default(),
            timers: RefCell::new(TimerWheel::new(Instant::now())),
            rng: RefCell::new(fastrand::Rng::with_seed(seed)),
            running: Cell::new(None),
            parking: Cell::new(None),
            patience: Patience::default(),
            confined: Cell::new(None),
            first_id,
            clock: Cell::new(Instant::now()),
        }
    }

    /// A number for a new coroutine.
    pub(crate) fn next_id(&self) -> u64 {
        let spawned = &self.worker.counters.spawned;
        let id = self.first_id + spawned.get();
        spawned.bump();
        if self.worker.only_thread.is_some() {
            sim::node::on_spawn(self.running.get().map(TaskPtr::id), id);
        }
        id
    }

    /// Whether other coroutines of the worker can run than one that stands in none of its queues.
    #[inline]
    pub(crate) fn has_others(&self) -> bool {
        !self.queue.is_empty() || !self.spawned.is_empty()
    }

    /// Whether other threads gave the worker something, or anybody something that it may take. Asked behind the fence before a
    /// sleep.
    pub(crate) fn has_news(&self) -> bool {
        self.worker.has_work() || !self.shared.spawns.is_empty()
    }

    /// Commits the park of the last coroutine that left its stack for one, if that was not done: the state words then tell who is
    /// parked.
    #[inline]
    pub(crate) fn commit_last(&self) {
        if let Some(task) = self.parking.take() {
            self.commit(task);
        }
    }

    /// Commits the park of a coroutine of this worker.
    #[inline]
    pub(crate) fn commit(&self, task: TaskPtr) {
        match task.state().commit_park(task.is_shielded()) {
            Commit::Parked => self.worker.counters.parks.bump(),
            Commit::Runnable => self.queue.push(task),
        }
    }

    #[inline(never)]
    fn arm_timer(&self, deadline: Instant, task: TaskPtr) -> TimerKey {
        self.worker.counters.timers.bump();
        self.timers.borrow_mut().insert(deadline, task)
    }

    #[inline(never)]
    fn disarm_timer(&self, timer: TimerKey) {
        let _ = self.timers.borrow_mut().cancel(timer);
    }

    /// Enqueues the coroutines whose deadline has passed.
    pub(crate) fn expire_timers(&self, now: Instant) {
        let wake = |task: TaskPtr| {
            if task.state().time_out() == Wake::Enqueue {
                self.queue.push(task);
            }
        };
        // Those whose headers are on the way from memory.
        let mut fetched = [None; FETCHED];
        let mut oldest = 0;
        self.timers.borrow_mut().expire(now, |task| {
            task.fetch_header();
            if let Some(task) = fetched[oldest].replace(task) {
                wake(task);
            }
            oldest = (oldest + 1) % FETCHED;
        });
        (oldest..oldest + FETCHED).filter_map(|place| fetched[place % FETCHED]).for_each(wake);
    }
}

/// Sets the thread's worker while it lives.
pub(crate) struct Entered {
    former: *const Local,
}

/// The calling thread works for `local` until the guard is dropped, which must be before `local` is.
pub(crate) fn enter(local: &std::rc::Rc<Local>) -> Entered {
    Entered { former: LOCAL.replace(std::rc::Rc::as_ptr(local)) }
}

impl Drop for Entered {
    fn drop(&mut self) {
        LOCAL.set(self.former);
    }
}

/// The thread's worker, to be handed over to the thread of one of its coroutines.
#[cfg(any(miri, weald_baton))]
pub(crate) fn pointer() -> *const Local {
    LOCAL.get()
}

/// Takes over what [`pointer`] gave on the worker's thread, which waits while the calling one runs; or gives it up.
#[cfg(any(miri, weald_baton))]
pub(crate) fn set_pointer(local: *const Local) {
    LOCAL.set(local);
}

/// Lends the thread's worker, if it is one.
#[inline(always)]
pub(crate) fn with<R>(f: impl FnOnce(Option<&Local>) -> R) -> R {
    // SAFETY: set by `enter`, whose guard the worker's round holds on a stack below all that runs in it, and whose `Local`
    // that round keeps alive. A coroutine's thread has it while the worker's waits in that round.
    f(unsafe { LOCAL.get().as_ref() })
}

/// Why the running coroutine must not leave the worker.
#[derive(Clone, Copy, Debug)]
enum Confined {
    /// It has left its stack for the worker's.
    WorkerStack,
    /// It is inside of a `no_park`, which began here.
    NoPark(&'static Location<'static>),
}

/// Where the calling code runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a coroutine, on its stack.
    Coroutine,
    /// In a coroutine, on its stack, inside of the `no_park` that began here.
    NoPark(&'static Location<'static>),
    /// On a worker's own stack, where nothing may wait.
    WorkerStack,
    /// On a thread that is no worker.
    Thread,
}

/// Where the calling code runs.
#[inline]
pub(crate) fn place() -> Place {
    with(|local| match local {
        None => Place::Thread,
        Some(local) if local.running.get().is_none() => Place::WorkerStack,
        Some(local) => match local.confined.get() {
            None => Place::Coroutine,
            Some(Confined::NoPark(since)) => Place::NoPark(since),
            Some(Confined::WorkerStack) => Place::WorkerStack,
        },
    })
}

/// A reference to the running coroutine.
///
/// # Panics
///
/// Outside of a coroutine.
pub(crate) fn task() -> TaskRef {
    in_coroutine(|_, task| task.to_ref())
}

/// The running coroutine, without a count.
///
/// # Panics
///
/// Outside of a coroutine.
#[inline]
pub(crate) fn running() -> TaskPtr {
    in_coroutine(|_, task| task)
}

/// What the overflow handler must know. Safe to call in a signal handler.
#[cfg(not(any(miri, weald_baton)))]
pub(crate) fn running_for_overflow() -> *const Running {
    with(|local| local.and_then(|local| local.running.get()).map_or(ptr::null(), TaskPtr::overflow))
}

/// A park of the running coroutine that has begun: it suspends, then asks for the end, and again if there is none.
pub(crate) struct Parking {
    task: TaskPtr,
    timer: Option<TimerKey>,
    shielded: bool,
}

/// Begins to park the running coroutine; an error, if there is nothing to wait for.
///
/// # Panics
///
/// Outside of a coroutine; and with the private payload of a shutdown.
#[inline(always)]
#[track_caller]
pub(crate) fn begin_park(deadline: Option<Instant>, cancellation: Cancellation, waits_for: WaitsFor) -> Result<Parking, Unparked> {
    let location = Location::caller();
    in_coroutine(|local, task| {
        if std::thread::panicking() {
            return Err(park_while_panicking(task, cancellation, location));
        }
        let shielded = cancellation == Cancellation::Shielded || task.shield().get();
        match task.state().take() {
            Wakeup::Nothing | Wakeup::TimedOut => {}
            found => {
                if let Some(unparked) = not_parked(task, found, shielded) {
                    return Err(unparked);
                }
            }
        }
        task.set_park(Some(location), shielded);
        task.note_wait(waits_for);
        task.note_park(local.clock.get());
        let timer = deadline.map(|deadline| local.arm_timer(deadline, task));
        Ok(Parking { task, timer, shielded })
    })
}

impl Parking {
    /// Leaves the stack. Returns when the coroutine is resumed.
    #[inline(always)]
    pub(crate) fn suspend(&self) {
        self.task.suspend(Suspend::Park);
    }

    /// Why the coroutine was resumed; `None` if for nothing, and it parks on.
    ///
    /// # Panics
    ///
    /// With the private payload of a shutdown.
    pub(crate) fn end(&mut self) -> Option<Unparked> {
        let unparked = if self.task.woken_uncommitted().take() {
            // Wakes that came later are this one.
            let _ = self.task.state().take();
            Some(Unparked::Token)
        } else {
            match self.task.state().resumed() {
                Wakeup::Token => Some(Unparked::Token),
                Wakeup::TimedOut => Some(Unparked::TimedOut),
                Wakeup::Unwind => None,
                Wakeup::Cancelled if !self.shielded => Some(Unparked::Cancelled),
                Wakeup::Cancelled | Wakeup::Nothing => return None,
            }
        };
        if let Some(timer) = self.timer.take() {
            in_coroutine(|local, _| local.disarm_timer(timer));
        }
        self.task.set_park(None, false);
        Some(unparked.unwrap_or_else(|| unwind()))
    }
}

/// What a coroutine found that wanted to park. `None`: it parks all the same.
#[cold]
fn not_parked(task: TaskPtr, found: Wakeup, shielded: bool) -> Option<Unparked> {
    match found {
        Wakeup::Token => Some(Unparked::Token),
        Wakeup::Unwind => {
            task.suspend(Suspend::Yield);
            unwind();
        }
        // Who ignores the answer, or swallows the unwinding, and parks again must not keep the worker from the next
        // phase: hence the yields.
        Wakeup::Cancelled if !shielded => {
            task.suspend(Suspend::Yield);
            if task.state().is_unwinding() {
                unwind();
            }
            Some(Unparked::Cancelled)
        }
        Wakeup::Cancelled | Wakeup::TimedOut | Wakeup::Nothing => None,
    }
}

/// A coroutine that unwinds must not leave its worker: the thread counts panics, and would charge it to the next one.
#[cold]
fn park_while_panicking(task: TaskPtr, cancellation: Cancellation, location: &Location<'_>) -> Unparked {
    if task.state().take() == Wakeup::Token {
        return Unparked::Token;
    }
    if cancellation == Cancellation::Shielded {
        fatal(format_args!("{} would block at {location} while it unwinds from a panic", task.describe()));
    }
    Unparked::Cancelled
}

/// Lends the running coroutine's locals; `None` if none runs here.
pub(crate) fn with_locals<R>(f: impl FnOnce(&Locals) -> R) -> Option<R> {
    with(|local| Some(f(local?.running.get()?.locals())))
}

/// Shields the running coroutine's parks from cancellation, or ends that. Returns what was so before.
pub(crate) fn replace_shield(shielded: bool) -> bool {
    in_coroutine(|_, task| task.shield().replace(shielded))
}

#[cold]
fn unwind() -> ! {
    if !UNWINDS {
        // A shutdown then tells nobody to unwind (`Worker::obey_phase`), and a crash has no other way to end what it ends.
        fatal(format_args!("a simulated node crashes, whose coroutines cannot be unwound with panic = \"abort\""));
    }
    panic::resume_unwind(Box::new(ShutdownUnwind));
}

/// Lets other coroutines of the worker run. On a plain thread, lets other threads run.
// Inlined into the caller's code: see `switched::Coroutine::resume`.
#[inline(always)]
pub(crate) fn yield_now() {
    with(|local| match local.and_then(|local| Some((local, local.running.get()?))) {
        // As in `park`: who unwinds must not leave its worker.
        Some((local, task)) if local.confined.get().is_none() && !std::thread::panicking() => {
            task.suspend(Suspend::Yield);
            if task.state().is_unwinding() {
                unwind();
            }
        }
        _ => yield_in_place(),
    });
}

#[cold]
fn yield_in_place() {
    match place() {
        Place::Thread | Place::WorkerStack => std::thread::yield_now(),
        Place::Coroutine => {}
        Place::NoPark(since) => {
            if !std::thread::panicking() {
                park::refuse_no_park(since);
            }
        }
    }
}

/// Runs `f` on the worker's stack if the caller is a coroutine, and in place otherwise.
pub(crate) fn on_worker_stack<R>(f: impl FnOnce() -> R + Send) -> R {
    if !matches!(place(), Place::Coroutine | Place::NoPark(_)) {
        return f();
    }
    in_coroutine(|local, task| confine(local, Confined::WorkerStack, || task.on_worker_stack(f)))
}

/// Runs `f` in the running coroutine, which must not suspend meanwhile.
pub(crate) fn no_park<R>(since: &'static Location<'static>, f: impl FnOnce() -> R) -> R {
    in_coroutine(|local, _| confine(local, Confined::NoPark(since), f))
}

fn confine<R>(local: &Local, confined: Confined, f: impl FnOnce() -> R) -> R {
    struct Restore<'a>(&'a Local, Option<Confined>);
    impl Drop for Restore<'_> {
        fn drop(&mut self) {
            self.0.confined.set(self.1);
        }
    }
    let _restore = Restore(local, local.confined.replace(Some(confined)));
    f()
}

/// Whether it is the coroutine of this thread's worker whose park is not committed: it has stopped.
#[inline]
pub(crate) fn is_parking(waiter: *mut ()) -> bool {
    with(|local| local.and_then(|local| local.parking.get()).is_some_and(|task| ptr::eq(task.node().as_ptr().cast(), waiter)))
}

/// Wakes a coroutine of this thread's worker whose park is not committed. True: it has its token, and the caller enqueues it.
#[inline]
#[must_use]
pub(crate) fn wake_uncommitted(task: TaskPtr) -> bool {
    with(|local| match local {
        Some(local) if local.parking.get() == Some(task) => {
            local.parking.set(None);
            local.worker.counters.parks.bump();
            task.woken_uncommitted().set(true);
            true
        }
        _ => false,
    })
}

/// Puts a task that the caller owns, by its wake or because it has not begun, into the queue of its home.
///
/// # Safety
///
/// `home` is that of an `Arc`, which somebody has until the task ends.
#[inline]
pub(crate) unsafe fn enqueue(home: *const WorkerShared, task: TaskPtr) {
    with(|local| match local {
        Some(local) if ptr::eq(Arc::as_ptr(&local.worker), home) => local.queue.push(task),
        // SAFETY: passed on to the caller.
        _ => unsafe { enqueue_elsewhere(local, home, task) },
    });
}

/// # Safety
///
/// As for [`enqueue`].
unsafe fn enqueue_elsewhere(local: Option<&Local>, home: *const WorkerShared, task: TaskPtr) {
    // SAFETY: the caller owns the task, which therefore has not ended.
    let beside = unsafe { &*home };
    // The workers of a runtime keep each other.
    if local.and_then(|local| local.shared.workers.get(beside.index)).is_some_and(|worker| ptr::eq(Arc::as_ptr(worker), home)) {
        return beside.enqueue(task);
    }
    // Once it is handed over, the task may end and its runtime be dropped before its worker was looked at for the last time.
    // SAFETY: as above.
    let held = unsafe {
        Arc::increment_strong_count(home);
        Arc::from_raw(home)
    };
    held.enqueue(task);
}

/// Whether the running coroutine is told to end: its worker's runtime shuts down.
pub(crate) fn is_cancelled() -> bool {
    with(|local| {
        local.is_some_and(|local| {
            local.shared.phase() != Phase::Running || local.running.get().is_some_and(|task| task.state().is_cancelled())
        })
    })
}

#[inline(always)]
#[track_caller]
fn in_coroutine<R>(f: impl FnOnce(&Local, TaskPtr) -> R) -> R {
    with(|local| match local.and_then(|local| Some((local, local.running.get()?))) {
        Some((local, task)) => f(local, task),
        None => outside(),
    })
}

#[cold]
#[track_caller]
fn outside() -> ! {
    panic!("called outside of a coroutine");
}
