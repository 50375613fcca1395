//! Owns a task: one allocation with a header, the closure and later its result, and the handles to it.
//!
//! It does not own the state word's transitions (`task_state`) nor decide where a task runs (`scheduler`).
//!
//! Who may touch what:
//! - The *scheduler's reference* exists from the spawn until the result is published. While a task is unstarted it is an
//!   [`Unstarted`]; then it belongs to the home worker's list of started tasks. Queues hold plain [`TaskPtr`]s, which that
//!   reference keeps alive, so that a wake touches no count.
//! - The stage (closure, result) belongs to who runs the task until `finish`, then to whichever of the join handle and the
//!   worker comes last, as `task_state` says. The last reference frees memory and drops nothing of the user's.
//! - `Owner` is for the home worker's thread only.

mod inspect;
mod join;
mod lists;

pub use self::join::{JoinError, JoinHandle};
pub(crate) use self::lists::{StartedTasks, TaskQueue};

use std::any::Any;
use std::cell::{Cell, OnceCell, UnsafeCell};
use std::io;
use std::marker::PhantomData;
use std::mem::{self, ManuallyDrop};
use std::panic::{self, AssertUnwindSafe, Location};
use std::ptr::{self, NonNull};
use std::sync::{Arc, OnceLock};

use crate::coroutine::arena::StackCache;
use crate::coroutine::overflow::{self, Running};
use crate::coroutine::{Coroutine, Resumed, Suspend, Yielder};
use crate::park::Waiter;
use crate::primitive::atomic::{AtomicPtr, AtomicUsize, Ordering, fence};
use crate::scheduler::WorkerShared;
use crate::scheduler::current;
use crate::scheduler::inbox::Node;
use crate::task_state::{TaskState, Wake};
use crate::time::Instant;

/// The text of a panic, if it has one.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> Option<&str> {
    payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str))
}

/// The payload with which a shutdown unwinds a stack. It passes by the panic hook.
pub(crate) struct ShutdownUnwind;

/// What the spawner chooses.
#[derive(Debug, Default)]
pub(crate) struct Attributes {
    pub(crate) name: Option<Box<str>>,
    pub(crate) stack_size: Option<usize>,
    /// Where the spawner stands in the source.
    pub(crate) spawned_at: Option<&'static Location<'static>>,
}

impl Attributes {
    /// Takes the caller's place in the source for the spawner's.
    #[track_caller]
    pub(crate) fn spawned_here(self) -> Self {
        Self { spawned_at: Some(Location::caller()), ..self }
    }
}

/// The part of a task that does not depend on its types.
pub(crate) struct Header {
    references: AtomicUsize,
    state: TaskState,
    vtable: &'static VTable,
    /// The link of whichever queue the task stands in: at most one.
    next: AtomicPtr<Header>,
    /// Where it runs; set before the first run, for good.
    home: OnceLock<Arc<WorkerShared>>,
    /// The joiner. Who owns the slot, `task_state` says.
    joiner: UnsafeCell<Option<Waiter>>,
    id: u64,
    attributes: Attributes,
    owner: Owner,
}

// A task's panic is caught and becomes its result; what its cells hold is valid after each statement.
impl panic::RefUnwindSafe for Header {}

/// For the home worker's thread only.
struct Owner {
    coroutine: UnsafeCell<Option<Coroutine>>,
    yielder: Cell<*const Yielder>,
    /// What the overflow handler prints; set with the stack.
    overflow: OnceCell<Running>,
    parked_at: Cell<Option<&'static Location<'static>>>,
    /// The worker's coarse clock, and about where the stack ended, at the last park.
    parked_since: Cell<Instant>,
    parked_stack: Cell<usize>,
    shielded: Cell<bool>,
    previous_started: Cell<Option<TaskPtr>>,
    next_started: Cell<Option<TaskPtr>>,
}

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
        let result = panic::catch_unwind(AssertUnwindSafe(f))
            .map_err(|payload| if payload.is::<ShutdownUnwind>() { JoinError::Cancelled } else { JoinError::Panicked(payload) });
        // SAFETY: as above.
        unsafe { Self::replace(header, Stage::Finished(result)) };
    }

    unsafe fn refuse(header: NonNull<Header>, error: JoinError) {
        // SAFETY: the vtable's contract.
        let unstarted = unsafe { Self::replace(header, Stage::Empty) };
        let dropped = panic::catch_unwind(AssertUnwindSafe(|| drop(unstarted)));
        let error = dropped.map_or_else(JoinError::Panicked, |()| error);
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
        drop(unsafe { Self::replace(header, Stage::Empty) });
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

/// Makes a task and its two first references.
pub(crate) fn new<F, T>(f: F, id: u64, attributes: Attributes) -> (Unstarted, JoinHandle<T>)
where
    F: FnOnce() -> T + 'static,
    T: 'static,
{
    let header = Header {
        references: AtomicUsize::new(2),
        state: TaskState::new(),
        vtable: &Task::<F, T>::VTABLE,
        next: AtomicPtr::new(ptr::null_mut()),
        home: OnceLock::new(),
        joiner: UnsafeCell::new(None),
        id,
        attributes,
        owner: Owner {
            coroutine: UnsafeCell::new(None),
            yielder: Cell::new(ptr::null()),
            overflow: OnceCell::new(),
            parked_at: Cell::new(None),
            parked_since: Cell::new(Instant::default()),
            parked_stack: Cell::new(0),
            shielded: Cell::new(false),
            previous_started: Cell::new(None),
            next_started: Cell::new(None),
        },
    };
    let stage = UnsafeCell::new(ManuallyDrop::new(Stage::<F, T>::Unstarted(f)));
    let task = NonNull::from(Box::leak(Box::new(Task { header, stage })));
    let task = TaskPtr(task.cast());
    (Unstarted(task), JoinHandle { task: TaskRef(task), result: PhantomData })
}

/// Runs a borrowing closure as a task and waits for it on the calling thread, which must be a plain one.
///
/// `spawn` gets the closure as if it borrowed nothing.
pub(crate) fn run_borrowed<'a, T: Send + 'a>(
    f: impl FnOnce() -> T + Send + 'a,
    spawn: impl FnOnce(Box<dyn FnOnce() + Send + 'static>) -> JoinHandle<()>,
) -> Result<T, JoinError> {
    let mut result = None;
    let place = &mut result;
    let closure: Box<dyn FnOnce() + Send + '_> = Box::new(move || *place = Some(f()));
    // SAFETY: only the lifetime changes. The closure is gone when `join` below has returned, because done is published after
    // the closure was consumed or dropped and its stack left; and on a plain thread, whose waits are never cancelled, `join`
    // returns only when it was. A panic in `spawn` drops the closure or leaves it where it can never run.
    let closure = unsafe { mem::transmute::<Box<dyn FnOnce() + Send + '_>, Box<dyn FnOnce() + Send + 'static>>(closure) };
    spawn(closure).join()?;
    result.ok_or(JoinError::Cancelled)
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
        eprintln!("fatal: the first coroutine of a simulation did not end, and borrows from its caller");
        std::process::abort();
    }
    driven.map_err(JoinError::Panicked)?;
    handle.join()?;
    result.ok_or(JoinError::Cancelled)
}

impl Unstarted {
    /// Hands the scheduler's reference over to the worker that will run the task.
    pub(crate) fn into_ptr(self) -> TaskPtr {
        ManuallyDrop::new(self).0
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
        self.0.refuse(JoinError::Cancelled);
    }
}

impl Clone for TaskRef {
    fn clone(&self) -> Self {
        // Ordering: Relaxed, the reference from which this one is made keeps the task alive.
        self.header().references.fetch_add(1, Ordering::Relaxed);
        Self(self.0)
    }
}

impl Drop for TaskRef {
    fn drop(&mut self) {
        let header = self.header();
        // Ordering: Release pairs with the Acquire fence of who frees: all use came before.
        if header.references.fetch_sub(1, Ordering::Release) == 1 {
            fence(Ordering::Acquire);
            // SAFETY: the last reference.
            unsafe { (header.vtable.free)(self.0.0) };
        }
    }
}

impl TaskRef {
    fn header(&self) -> &Header {
        // SAFETY: the reference keeps the task alive.
        unsafe { self.0.0.as_ref() }
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.header().attributes.name.as_deref()
    }

    pub(crate) fn id(&self) -> u64 {
        self.header().id
    }

    /// Sets the token, and enqueues the task where it lives if it is parked.
    pub(crate) fn unpark(&self) {
        let header = self.header();
        // A task without a home has not run, and so is not parked.
        let home = header.home.get();
        if let Some(home) = home {
            // Before the state changes: afterwards the wake would be lost.
            home.refuse_foreign_thread();
        }
        if header.state.unpark() == Wake::Enqueue
            && let Some(home) = home.or_else(|| header.home.get())
        {
            current::enqueue(home, self.0);
        }
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

    /// Whether the name was given, and where the task is parked: for messages.
    pub(crate) fn describe(self) -> String {
        let header = self.header();
        let mut text = match &header.attributes.name {
            Some(name) => format!("coroutine '{name}'"),
            None => format!("coroutine {}", header.id),
        };
        if let Some(location) = header.owner.parked_at.get() {
            text.push_str(&format!(" parked at {location}"));
        }
        text
    }

    /// One more reference.
    pub(crate) fn to_ref(self) -> TaskRef {
        // Ordering: Relaxed, as in `TaskRef::clone`; the scheduler's reference keeps the task alive.
        self.header().references.fetch_add(1, Ordering::Relaxed);
        TaskRef(self)
    }

    pub(crate) fn pin_to(self, home: &Arc<WorkerShared>) {
        let _ = self.header().home.set(Arc::clone(home));
    }

    pub(crate) fn is_started(self) -> bool {
        // SAFETY: on the home worker (or, unstarted, in the hands of the only owner).
        unsafe { (*self.header().owner.coroutine.get()).is_some() }
    }

    /// Gives an unstarted task its stack.
    pub(crate) fn start(self, stacks: &mut StackCache) -> io::Result<()> {
        let header = self.header();
        let stack = stacks.take(header.attributes.stack_size)?;
        let name = header.attributes.name.as_deref().map(ptr::from_ref);
        let _ = header.owner.overflow.set(Running::new(&stack, name, header.id));
        let coroutine = Coroutine::new(stack, move |yielder| {
            let header = self.header();
            header.owner.yielder.set(yielder);
            // SAFETY: the task is unstarted until here and runs once; its stage is the runner's.
            unsafe { (header.vtable.run)(self.0) };
        });
        // SAFETY: on the home worker, and nothing runs on the stack.
        unsafe { *header.owner.coroutine.get() = Some(coroutine) };
        Ok(())
    }

    /// Runs the started task until it suspends or ends.
    pub(crate) fn resume(self) -> Resumed {
        let header = self.header();
        overflow::set_running(header.owner.overflow.get());
        // SAFETY: on the home worker; while the coroutine runs nobody else reaches this cell: `is_started` and `start` are
        // called for tasks that do not run.
        let resumed = Coroutine::resume(unsafe { &mut *header.owner.coroutine.get() });
        overflow::set_running(None);
        resumed
    }

    /// Leaves the task's stack, from within it. Returns when it is resumed.
    pub(crate) fn suspend(self, suspend: Suspend) {
        // SAFETY: set at the start of the coroutine, which is the caller: the yielder is on its live stack.
        unsafe { &*self.header().owner.yielder.get() }.suspend(suspend);
    }

    /// Runs `f` on the worker's stack, from within the coroutine.
    pub(crate) fn on_worker_stack<R>(self, f: impl FnOnce() -> R + Send) -> R {
        // SAFETY: as in `suspend`.
        unsafe { &*self.header().owner.yielder.get() }.on_parent_stack(f)
    }

    /// Notes where and how the task is about to park.
    pub(crate) fn set_park(self, location: Option<&'static Location<'static>>, shielded: bool) {
        let owner = &self.header().owner;
        owner.parked_at.set(location);
        owner.shielded.set(shielded);
    }

    /// Notes when the task is about to park, and how deep its stack is there, for dumps.
    #[inline]
    pub(crate) fn note_park(self, now: Instant) {
        let here = 0_u8;
        let owner = &self.header().owner;
        owner.parked_since.set(now);
        owner.parked_stack.set(ptr::from_ref(&here).addr());
    }

    pub(crate) fn is_shielded(self) -> bool {
        self.header().owner.shielded.get()
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
        let finished = header.state.finish();
        if finished.drop_result {
            // SAFETY: nobody will join, so the result is the finisher's.
            let drop_stage = || unsafe { (header.vtable.drop_stage)(self.0) };
            if panic::catch_unwind(AssertUnwindSafe(drop_stage)).is_err() {
                tracing::error!(coroutine = header.id, "the result of a detached coroutine panicked in its drop");
            }
        }
        if finished.wake_joiner {
            // SAFETY: `finish` saw the registration, so the slot is ours.
            if let Some(joiner) = unsafe { (*header.joiner.get()).take() } {
                joiner.unpark();
            }
        }
        drop(TaskRef(self));
    }
}
