//! Owns a task: one allocation with a header, the closure and later its result, and the handles to it.
//!
//! It does not own the state word's transitions (`task_state`) nor decide where a task runs (`scheduler`).
//!
//! Who may touch what:
//! - The *scheduler's reference* exists from the spawn until the result is published. While a task is unstarted it is an
//!   [`Unstarted`]; then it belongs to the home worker's list of started tasks. Queues hold plain [`TaskPtr`]s, which that
//!   reference keeps alive, so that a wake touches no count. It and the join handle are bits of the state word; only
//!   [`TaskRef`]s are counted.
//! - The stage (closure, result) belongs to who runs the task until `finish`, then to whichever of the join handle and the
//!   worker comes last, as `task_state` says. The last reference frees memory and drops nothing of the user's.
//! - `Owner` is for the home worker's thread only. It lies at the top of the task's stack and is gone with it.

#[cfg(not(any(miri, weald_baton)))]
pub(crate) mod debugger;
mod fetch;
mod inspect;
mod join;
mod join_arm;
mod join_error;
mod lists;
pub(crate) mod refusal;
mod trim;

pub(crate) use self::inspect::Inspection;
pub use self::join::JoinHandle;
pub(crate) use self::join_error::panic_message;
pub use self::join_error::{JoinError, PanicPayload};
pub(crate) use self::lists::{StartedTasks, TaskQueue};
pub(crate) use self::trim::Spare;

use std::cell::{Cell, UnsafeCell};
use std::io;
use std::marker::PhantomData;
use std::mem::{self, ManuallyDrop};
use std::panic::{self, AssertUnwindSafe, Location};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::thread::ThreadId;

use crate::contained::{Payload, contained, discard};
use crate::coroutine::arena::StackCache;
use crate::coroutine::overflow::Running;
use crate::coroutine::stack::{Stack, TOP_SIZE};
use crate::coroutine::{Coroutine, Suspend, Yielder, stack_pointer, worker_thread};
use crate::fatal::{FatalDrop, fatal};
use crate::lent_waiter::{self, LentWaiter};
use crate::local::Locals;
use crate::park::{self, WaitsFor};
use crate::primitive::atomic::{AtomicPtr, Ordering};
use crate::scheduler::WorkerShared;
use crate::scheduler::current;
use crate::scheduler::inbox::Node;
use crate::scheduler::trace;
use crate::task_state::{Memory, TaskState, Wake};
use crate::time::Instant;

/// The payload with which a shutdown unwinds a stack. It passes by the panic hook.
pub(crate) struct ShutdownUnwind;

/// What the spawner chooses, and what its runtime adds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) name: Option<Box<str>>,
    pub(crate) stack_size: Option<usize>,
    /// Where the spawner stands in the source.
    pub(crate) spawned_at: Option<&'static Location<'static>>,
    /// In a simulation, the only thread that may touch the task.
    pub(crate) only_thread: Option<ThreadId>,
}

impl Attributes {
    /// Takes the caller's place in the source for the spawner's.
    #[track_caller]
    pub(crate) fn spawned_here(self) -> Self {
        Self { spawned_at: Some(Location::caller()), ..self }
    }

    /// For a task of that worker's runtime.
    #[inline]
    pub(crate) fn in_runtime_of(self, worker: &WorkerShared) -> Self {
        Self { only_thread: worker.only_thread, ..self }
    }
}

/// The part of a task that does not depend on its types.
pub(crate) struct Header {
    state: TaskState,
    /// The link of whichever queue the task stands in: at most one.
    next: AtomicPtr<Header>,
    /// Null until the first run. For the home worker's thread only.
    owner: Cell<*const Owner>,
    vtable: &'static VTable,
    /// Where it runs; set before the first run, for good. The lowest bit is [`SIMULATED`]. Valid while the task is started and
    /// not done: a worker that stops with such a task is leaked.
    home: AtomicPtr<WorkerShared>,
    /// The joiner, a `LentWaiter`. Who may use the slot, `task_state` says; it is null again before the joiner goes on.
    joiner: AtomicPtr<()>,
    id: u64,
    spawned_at: Option<&'static Location<'static>>,
    /// What else the spawner chose, which is rare.
    attributes: Option<Box<Attributes>>,
}

/// In the pointer to a home: it is one of a simulation.
const SIMULATED: usize = 1;

// A task's panic is caught and becomes its result; what its cells hold is valid after each statement.
impl panic::RefUnwindSafe for Header {}

/// What the home worker knows of a task that has a stack.
struct Owner {
    coroutine: UnsafeCell<Coroutine>,
    yielder: Cell<*const Yielder>,
    /// What the overflow handler prints.
    overflow: Running,
    parked_at: Cell<Option<&'static Location<'static>>>,
    /// The worker's coarse clock, and the stack pointer of the function that parks, at the last park.
    parked_since: Cell<Instant>,
    parked_stack: Cell<usize>,
    /// The `parked_since` of the last park in which the stack was looked at for spare pages.
    looked_since: Cell<Instant>,
    /// How often pages were given back.
    trims: Cell<u8>,
    shielded: Cell<bool>,
    /// What the last park is, or was, for.
    waits_for: Cell<WaitsFor>,
    /// Empty before the first run and after the last.
    locals: Locals,
    /// Inside of a `shield(..)`.
    shield: Cell<bool>,
    /// Woken by its own worker before its park was committed; until it runs.
    woken_uncommitted: Cell<bool>,
    /// The permit came with such a wake. (Any other is a bit of the state word.)
    permitted: Cell<bool>,
    previous_started: Cell<Option<TaskPtr>>,
    next_started: Cell<Option<TaskPtr>>,
}

const _: () = assert!(size_of::<Owner>() <= TOP_SIZE);

struct VTable {
    /// Runs the closure and stores the result. On the task's own stack.
    run: unsafe fn(NonNull<Header>),
    /// Drops the closure and stores the error.
    refuse: unsafe fn(NonNull<Header>, JoinError),
    /// Moves the `Result<T, JoinError>` to the pointer.
    take_result: unsafe fn(NonNull<Header>, *mut ()),
    /// Drops what the stage holds.
    drop_stage: unsafe fn(NonNull<Header>),
    /// Frees the memory.
    free: unsafe fn(NonNull<Header>),
}

#[repr(C)]
struct Task<F, T> {
    header: Header,
    stage: UnsafeCell<ManuallyDrop<Stage<F, T>>>,
}

enum Stage<F, T> {
    Unstarted(F),
    Finished(Result<T, JoinError>),
    Empty,
}

impl<F: FnOnce() -> T, T> Task<F, T> {
    const VTABLE: VTable =
        VTable { run: Self::run, refuse: Self::refuse, take_result: Self::take_result, drop_stage: Self::drop_stage, free: Self::free };

    /// # Safety
    ///
    /// `header` begins a `Task<F, T>`, and the caller owns the stage.
    unsafe fn replace(header: NonNull<Header>, stage: Stage<F, T>) -> Stage<F, T> {
        let task = header.cast::<Self>().as_ptr();
        // SAFETY: passed on to the caller.
        unsafe { mem::replace(&mut **(*task).stage.get(), stage) }
    }

    unsafe fn run(header: NonNull<Header>) {
        // SAFETY: the vtable's contract.
        let Stage::Unstarted(f) = (unsafe { Self::replace(header, Stage::Empty) }) else {
            unreachable!("a task runs once");
        };
        let task = TaskPtr(header);
        let returned = contained(f);
        if task.state().is_unwanted() {
            return task.end_unwanted(returned);
        }
        let result = match (returned, task.locals().end()) {
            (Ok(value), Err(payload)) => contained(|| drop(value)).and(Err(payload)),
            (returned, _) => returned,
        };
        let result = result.map_err(|payload| task.failed(payload));
        // SAFETY: as above.
        unsafe { Self::replace(header, Stage::Finished(result)) };
    }

    unsafe fn refuse(header: NonNull<Header>, error: JoinError) {
        // SAFETY: the vtable's contract.
        let unstarted = unsafe { Self::replace(header, Stage::Empty) };
        let dropped = contained(|| refusal::drop_for(&error, unstarted));
        let error = dropped.map_or_else(|payload| JoinError::panicked(payload.into_inner()), |()| error);
        // SAFETY: as above.
        unsafe { Self::replace(header, Stage::Finished(Err(error))) };
    }

    unsafe fn take_result(header: NonNull<Header>, result: *mut ()) {
        // SAFETY: the vtable's contract; `result` has room for the result.
        unsafe {
            let Stage::Finished(value) = Self::replace(header, Stage::Empty) else {
                unreachable!("the result is taken once, when it is there");
            };
            result.cast::<Result<T, JoinError>>().write(value);
        }
    }

    unsafe fn drop_stage(header: NonNull<Header>) {
        // SAFETY: the vtable's contract.
        let stage = unsafe { Self::replace(header, Stage::Empty) };
        if let Stage::Finished(Err(JoinError::Panicked(payload))) = &stage {
            crate::sim::node::on_lost_panic(TaskPtr(header), payload);
        }
        drop(stage);
    }

    unsafe fn free(header: NonNull<Header>) {
        // SAFETY: the last reference is gone; the stage is empty or its content deliberately leaked.
        drop(unsafe { Box::from_raw(header.cast::<Self>().as_ptr()) });
    }
}

/// A plain pointer to a task, kept alive by the scheduler's reference. It compares and copies; it owns nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct TaskPtr(NonNull<Header>);

/// A counted reference to a task, for waiters and handles.
pub(crate) struct TaskRef(TaskPtr);

/// The scheduler's reference to a task that has not run. Dropped, it publishes that the task was cancelled.
pub(crate) struct Unstarted(TaskPtr);

// SAFETY: a TaskRef gives access to the state word, the home, the name and the number, all of which are Sync, and to the
// joiner and the stage under the protocol of `task_state`; never to `Owner`.
unsafe impl Send for TaskRef {}
// SAFETY: as for Send.
unsafe impl Sync for TaskRef {}
// SAFETY: `Unstarted` values that leave their thread are made by `spawn`, which requires the closure to be Send; those of
// `spawn_local` are turned into pointers on the worker at once.
unsafe impl Send for Unstarted {}

// SAFETY: `next` is the one link, and a task is in one queue at most: `task_state` gives each wake's task to one caller.
unsafe impl Node for Header {
    fn link(&self) -> &AtomicPtr<Self> {
        &self.next
    }
}

/// Makes a task, with the scheduler's reference and the join handle.
pub(crate) fn new<F, T>(f: F, id: u64, mut attributes: Attributes) -> (Unstarted, JoinHandle<T>)
where
    F: FnOnce() -> T + 'static,
    T: 'static,
{
    let header = Header {
        state: TaskState::new(),
        next: AtomicPtr::new(ptr::null_mut()),
        owner: Cell::new(ptr::null()),
        vtable: &Task::<F, T>::VTABLE,
        home: AtomicPtr::new(ptr::null_mut()),
        joiner: AtomicPtr::new(lent_waiter::none()),
        id,
        spawned_at: attributes.spawned_at.take(),
        attributes: (attributes != Attributes::default()).then(|| Box::new(attributes)),
    };
    let stage = UnsafeCell::new(ManuallyDrop::new(Stage::<F, T>::Unstarted(f)));
    let task = NonNull::from(Box::leak(Box::new(Task { header, stage })));
    let task = TaskPtr(task.cast());
    (Unstarted(task), JoinHandle { task, result: PhantomData })
}

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

impl Unstarted {
    /// Hands the scheduler's reference over to the worker that will run the task.
    pub(crate) fn into_ptr(self) -> TaskPtr {
        ManuallyDrop::new(self).0
    }

    /// A look at it.
    pub(crate) fn inspect(&self) -> Inspection<'_> {
        self.0.inspect()
    }

    /// Pins the task to a worker before its first run.
    pub(crate) fn pin_to(&self, home: &Arc<WorkerShared>) {
        self.0.pin_to(home);
    }

    /// Publishes that the task will not run.
    pub(crate) fn refuse(self, error: JoinError) {
        self.into_ptr().refuse(error);
    }
}

impl Drop for Unstarted {
    fn drop(&mut self) {
        self.0.refuse(JoinError::ShutDown);
    }
}

impl Clone for TaskRef {
    fn clone(&self) -> Self {
        self.0.to_ref()
    }
}

impl Drop for TaskRef {
    fn drop(&mut self) {
        if self.0.state().drop_reference() == Memory::Free {
            // SAFETY: the last reference.
            unsafe { self.0.free() };
        }
    }
}

impl TaskRef {
    fn header(&self) -> &Header {
        // SAFETY: the reference keeps the task alive.
        unsafe { self.0.0.as_ref() }
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.header().name()
    }

    pub(crate) fn id(&self) -> u64 {
        self.header().id
    }

    /// Sets the token, and enqueues the task where it lives if it is parked.
    pub(crate) fn unpark(&self) {
        if current::wake_uncommitted(self.0) || self.wake(TaskState::unpark) == Wake::Enqueue {
            self.enqueue();
        }
    }

    /// As [`unpark`](Self::unpark), with the permit.
    pub(crate) fn permit(&self) {
        if current::wake_uncommitted(self.0) {
            self.0.owner().permitted.set(true);
            self.enqueue();
        } else if self.wake(TaskState::permit) == Wake::Enqueue {
            self.enqueue();
        }
    }

    /// Cancels the task until it ends the interruption. On `Wake::Enqueue` the caller owes it an [`enqueue`](Self::enqueue).
    pub(crate) fn interrupt(&self) -> Wake {
        self.wake(TaskState::interrupt)
    }

    /// Cancels the task for good.
    pub(crate) fn cancel(&self) {
        self.0.cancel();
    }

    pub(crate) fn is_done(&self) -> bool {
        self.header().state.is_done()
    }

    /// For the running task itself; see `TaskState::end_interrupt`.
    pub(crate) fn end_interrupt(&self) {
        self.header().state.end_interrupt();
    }

    #[inline]
    fn wake(&self, wake: impl FnOnce(&TaskState) -> Wake) -> Wake {
        // Before the state changes: afterwards the wake would be lost.
        self.0.refuse_foreign_thread();
        wake(&self.header().state)
    }

    /// Enqueues the task, which the caller owns by a wake, where it lives.
    pub(crate) fn enqueue(&self) {
        self.0.enqueue();
    }
}

impl Header {
    fn name(&self) -> Option<&str> {
        self.attributes.as_ref()?.name.as_deref()
    }
}

/// Methods for the home worker, but for `from_node` and `node`.
impl TaskPtr {
    /// The task of an inbox's node.
    pub(crate) fn from_node(node: NonNull<Header>) -> Self {
        Self(node)
    }

    /// The inbox's node of the task.
    pub(crate) fn node(self) -> NonNull<Header> {
        self.0
    }

    fn header<'a>(self) -> &'a Header {
        // SAFETY: queues and lists hold pointers to tasks that are not done, and those the scheduler's reference keeps
        // alive; no caller in this file keeps the reference beyond `finish`.
        unsafe { self.0.as_ref() }
    }

    pub(crate) fn state<'a>(self) -> &'a TaskState {
        &self.header().state
    }

    pub(crate) fn id(self) -> u64 {
        self.header().id
    }

    /// Says which coroutine has panicked: the panic's message names the thread, which runs many.
    #[cold]
    fn tell_panic(self) {
        let (id, name, spawned_at) = self.identity();
        let coroutine = name.map_or_else(|| format!("coroutine {id}"), |name| format!("coroutine '{name}'"));
        let spawned_at = spawned_at.map_or_else(String::new, |location| format!(", spawned at {location}"));
        eprintln!("  in {coroutine}{}{spawned_at}", crate::sim::node::place_of(id).unwrap_or_default());
    }

    /// Whether the name was given, and where the task is parked: for messages.
    pub(crate) fn describe(self) -> String {
        let header = self.header();
        let mut text = match header.name() {
            Some(name) => format!("coroutine '{name}'"),
            None => format!("coroutine {}", header.id),
        };
        if let Some(location) = self.is_started().then(|| self.owner().parked_at.get()).flatten() {
            text.push_str(&format!(" parked at {location}"));
        }
        text
    }

    /// A counted reference.
    pub(crate) fn to_ref(self) -> TaskRef {
        self.state().add_reference();
        TaskRef(self)
    }

    /// # Safety
    ///
    /// Nobody knows of the task any more.
    unsafe fn free(self) {
        // SAFETY: passed on to the caller.
        unsafe { (self.header().vtable.free)(self.0) };
    }

    pub(crate) fn pin_to(self, home: &Arc<WorkerShared>) {
        let simulated = if home.only_thread.is_some() { SIMULATED } else { 0 };
        let home = Arc::as_ptr(home).cast_mut().map_addr(|address| address | simulated);
        // Ordering: Relaxed; who enqueues a woken task has it from the worker's `commit_park`.
        self.header().home.store(home, Ordering::Relaxed);
    }

    /// A simulation repeats only if nothing outside touches it.
    #[inline]
    pub(crate) fn refuse_foreign_thread(self) {
        // Ordering: Relaxed; a task that has no home yet has not run, and so is not parked.
        let home = self.header().home.load(Ordering::Relaxed);
        if home.addr() & SIMULATED != 0 {
            self.refuse_another_thread();
        }
    }

    /// For a task of a simulation. Not by its home, which may be gone with the simulation.
    #[cold]
    fn refuse_another_thread(self) {
        let only = self.header().attributes.as_ref().and_then(|attributes| attributes.only_thread);
        if only != Some(worker_thread()) {
            panic!("a thread outside of the simulation touched one of its coroutines");
        }
    }

    /// Cancels the task for good. For who holds a reference or the join handle.
    pub(crate) fn cancel(self) {
        self.refuse_foreign_thread();
        if self.state().cancel() == Wake::Enqueue {
            self.enqueue();
        }
    }

    /// Puts a task that the caller owns by its wake into the queue of its home.
    #[inline]
    pub(crate) fn enqueue(self) {
        // Ordering: Relaxed; the wake acquired what the worker committed.
        let home = self.header().home.load(Ordering::Relaxed).map_addr(|address| address & !SIMULATED);
        // SAFETY: the task was parked, so it is started and not done; see `Header::home`.
        unsafe { current::enqueue(home, self) };
    }

    #[inline]
    pub(crate) fn is_started(self) -> bool {
        !self.header().owner.get().is_null()
    }

    /// For started tasks.
    #[inline]
    fn owner<'a>(self) -> &'a Owner {
        // SAFETY: set by `start`, to what lives until the task's stack is given back, after which nobody asks.
        unsafe { &*self.header().owner.get() }
    }

    /// Gives an unstarted task its stack.
    pub(crate) fn start(self, stacks: &mut StackCache) -> io::Result<()> {
        let header = self.header();
        let stack = stacks.take(header.attributes.as_ref().and_then(|attributes| attributes.stack_size))?;
        let name = header.name().map(ptr::from_ref);
        let owner = stack.top().cast::<Owner>();
        let overflow = Running::new(&stack, name, header.id);
        let coroutine = Coroutine::new(stack, move |yielder| {
            self.owner().yielder.set(yielder);
            // SAFETY: the task is unstarted until here and runs once; its stage is the runner's.
            unsafe { (self.header().vtable.run)(self.0) };
        });
        let content = Owner {
            coroutine: UnsafeCell::new(coroutine),
            yielder: Cell::new(ptr::null()),
            overflow,
            parked_at: Cell::new(None),
            parked_since: Cell::new(Instant::default()),
            parked_stack: Cell::new(0),
            looked_since: Cell::new(Instant::default()),
            trims: Cell::new(0),
            shielded: Cell::new(false),
            waits_for: Cell::new(WaitsFor::Other),
            locals: Locals::default(),
            shield: Cell::new(false),
            woken_uncommitted: Cell::new(false),
            permitted: Cell::new(false),
            previous_started: Cell::new(None),
            next_started: Cell::new(None),
        };
        // SAFETY: the top of a stack that nothing runs on is its owner's, large enough and aligned.
        unsafe { owner.write(content) };
        header.owner.set(owner.as_ptr());
        Ok(())
    }

    /// Runs the started task until it suspends, or ends: then there is its stack to take.
    #[inline]
    pub(crate) fn resume(self) -> Option<Suspend> {
        // SAFETY: on the home worker; while the coroutine runs nobody else reaches this cell.
        unsafe { &mut *self.owner().coroutine.get() }.resume()
    }

    /// The stack of a task that has ended, on which its owner's part lies.
    pub(crate) fn take_stack(self) -> Stack {
        // SAFETY: as in `resume`.
        unsafe { &mut *self.owner().coroutine.get() }.take_stack()
    }

    /// What the overflow handler prints of a started task.
    #[cfg(not(any(miri, weald_baton)))]
    pub(crate) fn overflow(self) -> *const Running {
        &raw const self.owner().overflow
    }

    /// Leaves the task's stack, from within it. Returns when it is resumed.
    #[inline]
    pub(crate) fn suspend(self, suspend: Suspend) {
        // SAFETY: set at the start of the coroutine, which is the caller: the yielder is on its live stack.
        unsafe { &*self.owner().yielder.get() }.suspend(suspend);
    }

    /// Runs `f` on the worker's stack, from within the coroutine.
    pub(crate) fn on_worker_stack<R>(self, f: impl FnOnce() -> R + Send) -> R {
        // SAFETY: as in `suspend`.
        unsafe { &*self.owner().yielder.get() }.on_parent_stack(f)
    }

    /// Notes where and how the task is about to park.
    pub(crate) fn set_park(self, location: Option<&'static Location<'static>>, shielded: bool) {
        let owner = self.owner();
        owner.parked_at.set(location);
        owner.shielded.set(shielded);
    }

    /// Notes what the task is about to park for.
    #[inline(always)]
    pub(crate) fn note_wait(self, waits_for: WaitsFor) {
        self.owner().waits_for.set(waits_for);
    }

    /// Notes when the task is about to park, and how deep its stack is there. To be called by the function that suspends it,
    /// whose frame counts.
    #[inline(always)]
    pub(crate) fn note_park(self, now: Instant) {
        let owner = self.owner();
        owner.parked_since.set(now);
        owner.parked_stack.set(stack_pointer());
    }

    /// The task's coroutine-locals.
    pub(crate) fn locals<'a>(self) -> &'a Locals {
        &self.owner().locals
    }

    /// Whether the task shields all its parks from cancellation.
    pub(crate) fn shield<'a>(self) -> &'a Cell<bool> {
        &self.owner().shield
    }

    /// Whether a wake found the task parked but not committed. For the home worker's thread.
    #[inline]
    pub(crate) fn woken_uncommitted<'a>(self) -> &'a Cell<bool> {
        &self.owner().woken_uncommitted
    }

    /// Consumes the permit, if there is one. By the task itself.
    pub(crate) fn take_permit(self) -> bool {
        // Both, for they are one.
        self.owner().permitted.take() | self.state().take_permit()
    }

    pub(crate) fn is_shielded(self) -> bool {
        self.owner().shielded.get()
    }

    /// The task, whose function has just returned, has no join handle: what it returned is dropped here, on its own stack, where
    /// that may block and use its locals. They end, and the stage stays empty.
    fn end_unwanted<T>(self, returned: Result<T, Payload>) {
        match returned.map(|value| contained(|| drop(value))) {
            Ok(Ok(())) => {}
            Ok(Err(payload)) if payload.is::<ShutdownUnwind>() => {}
            Ok(Err(_)) => self.result_panicked(),
            Err(payload) => self.lose(self.failed(payload)),
        }
        if let Err(payload) = self.locals().end() {
            self.lose(self.failed(payload));
        }
    }

    /// An error that nobody asks for.
    #[cold]
    fn lose(self, error: JoinError) {
        if let JoinError::Panicked(payload) = &error {
            crate::sim::node::on_lost_panic(self, payload);
        }
        discard(error);
    }

    #[cold]
    fn result_panicked(self) {
        tracing::error!(coroutine = self.id(), "the result of a detached coroutine panicked in its drop");
    }

    /// The task's function, or one of its locals, has panicked: tells those who want to hear of it.
    #[cold]
    fn failed(self, payload: Payload) -> JoinError {
        if payload.is::<ShutdownUnwind>() {
            return JoinError::ShutDown;
        }
        self.tell_panic();
        trace::panicked(payload.get());
        JoinError::panicked_in(self.header().name(), payload.into_inner())
    }

    /// Publishes an error for a task that never ran.
    pub(crate) fn refuse(self, error: JoinError) {
        // SAFETY: the task never ran, so the stage belongs to the holder of the scheduler's reference.
        unsafe { (self.header().vtable.refuse)(self.0, error) };
        self.finish();
    }

    /// Publishes the result, wakes the joiner and gives up the scheduler's reference. The stack has been left.
    pub(crate) fn finish(self) {
        let header = self.header();
        // Ordering: Relaxed; compared only. It is what the coroutine that has stopped here wrote, or not that coroutine.
        let beside_joiner = current::is_parking(header.joiner.load(Ordering::Relaxed));
        let finished = beside_joiner.then(|| header.state.finish_beside_joiner()).flatten().unwrap_or_else(|| {
            header.state.finish(|| {
                // SAFETY: nobody will join, so the result is the finisher's.
                let drop_stage = || unsafe { (header.vtable.drop_stage)(self.0) };
                if contained(drop_stage).is_err() {
                    self.result_panicked();
                }
            })
        });
        if finished.wake_joiner {
            // Ordering: Relaxed; `finish` acquired the registration, so the slot is ours.
            let joiner = LentWaiter::from_raw(header.joiner.load(Ordering::Relaxed));
            // SAFETY: the joiner stays until the slot is null.
            let woken = joiner.map(|joiner| unsafe { joiner.wake() });
            // Ordering: Release pairs with the Acquire in `join::Registered`. The last touch: the joiner may free the task.
            header.joiner.store(lent_waiter::none(), Ordering::Release);
            if let Some(woken) = woken {
                woken.unpark();
            }
        }
        if finished.memory == Memory::Free {
            // SAFETY: as the state says.
            unsafe { self.free() };
        }
    }
}
