//! Owns a task as the scheduler sees it: its header, what its home worker knows of it, and the pointer to both.
//!
//! Below it: closure and result (`body`), the handles (`handles`, `join`), the end (`ending`, `refusal`), a first coroutine that borrows
//! (`borrowed`), lists and looks. It does not own the state word's transitions (`task_state`) nor decide where a task runs (`scheduler`).
//!
//! Who may touch what:
//! - The *scheduler's reference* exists from the spawn until the result is published. While a task is unstarted it is an
//!   [`Unstarted`]; then it belongs to the home worker's list of started tasks. Queues hold plain [`TaskPtr`]s, which that
//!   reference keeps alive, so that a wake touches no count. It and the join handle are bits of the state word; only
//!   [`TaskRef`]s are counted.
//! - The stage (closure, result) belongs to who runs the task until `finish`, then to whichever of the join handle and the
//!   worker comes last, as `task_state` says. The last reference frees memory and drops nothing of the user's.
//! - `Owner` is for the home worker's thread only. It lies at the top of the task's stack and is gone with it.

mod body;
mod borrowed;
#[cfg(not(any(miri, weald_baton)))]
pub(crate) mod debugger;
mod ending;
mod fetch;
mod handles;
mod inspect;
mod join;
mod join_arm;
mod join_error;
mod lists;
pub(crate) mod refusal;
mod trim;

use self::body::VTable;
pub(crate) use self::body::new;
pub(crate) use self::borrowed::{run_borrowed, run_borrowed_here};
pub(crate) use self::handles::{TaskRef, Unstarted};
pub(crate) use self::inspect::Inspection;
pub use self::join::JoinHandle;
pub(crate) use self::join_error::panic_message;
pub use self::join_error::{JoinError, PanicPayload};
pub(crate) use self::lists::{StartedTasks, TaskQueue};
pub(crate) use self::trim::Spare;

use std::cell::{Cell, UnsafeCell};
use std::io;
use std::panic::{self, Location};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::thread::ThreadId;

use crate::coroutine::arena::StackCache;
use crate::coroutine::overflow::Running;
use crate::coroutine::stack::{Stack, TOP_SIZE};
use crate::coroutine::{Coroutine, Suspend, Yielder, stack_pointer, worker_thread};
use crate::local::Locals;
use crate::park::WaitsFor;
use crate::primitive::atomic::{AtomicPtr, Ordering};
use crate::scheduler::WorkerShared;
use crate::scheduler::current;
use crate::scheduler::inbox::Node;
use crate::task_state::{TaskState, Wake};
use crate::time::Instant;

/// The payload with which a shutdown unwinds a stack. It passes by the panic hook.
pub(crate) struct ShutdownUnwind;

/// What the spawner chooses.
#[derive(Debug, Default, PartialEq, Eq)]
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
    /// What most tasks do not have.
    rare: Option<Box<Rare>>,
}

/// What few tasks have.
struct Rare {
    /// What else the spawner chose.
    attributes: Attributes,
    /// In a simulation, the only thread that may touch the task.
    only_thread: Option<ThreadId>,
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

/// A plain pointer to a task, kept alive by the scheduler's reference. It compares and copies; it owns nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct TaskPtr(NonNull<Header>);

// SAFETY: `next` is the one link, and a task is in one queue at most: `task_state` gives each wake's task to one caller.
unsafe impl Node for Header {
    fn link(&self) -> &AtomicPtr<Self> {
        &self.next
    }
}

impl Header {
    fn name(&self) -> Option<&str> {
        self.rare.as_ref()?.attributes.name.as_deref()
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
        let only = self.header().rare.as_ref().and_then(|rare| rare.only_thread);
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
    #[inline]
    pub(crate) fn start(self, stacks: &mut StackCache) -> io::Result<()> {
        let header = self.header();
        let stack = stacks.take(header.rare.as_ref().and_then(|rare| rare.attributes.stack_size))?;
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
}
