//! Owns the typed part of a task: one allocation with the header, the closure and later its result, and the functions by which who knows
//! the header alone gets at them.
//!
//! It does not own who may use the stage, and when: the module above says it.

use std::cell::{Cell, UnsafeCell};
use std::marker::PhantomData;
use std::mem::{self, ManuallyDrop};
use std::ptr::{self, NonNull};
use std::thread::ThreadId;

use super::{Attributes, Header, JoinError, JoinHandle, Rare, TaskPtr, Unstarted, refusal};
use crate::contained::contained;
use crate::lent_waiter;
use crate::primitive::atomic::AtomicPtr;
use crate::task_state::TaskState;

/// What depends on the types of a task. Each takes the header of a task of these types.
pub(super) struct VTable {
    /// Runs the closure and stores the result. On the task's own stack.
    pub(super) run: unsafe fn(NonNull<Header>),
    /// Drops the closure and stores the error.
    pub(super) refuse: unsafe fn(NonNull<Header>, JoinError),
    /// Moves the `Result<T, JoinError>` to the pointer.
    pub(super) take_result: unsafe fn(NonNull<Header>, *mut ()),
    /// Drops what the stage holds.
    pub(super) drop_stage: unsafe fn(NonNull<Header>),
    /// Frees the memory.
    pub(super) free: unsafe fn(NonNull<Header>),
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

/// Makes a task, with the scheduler's reference and the join handle. In a simulation only one thread may touch it.
pub(crate) fn new<F, T>(f: F, id: u64, mut attributes: Attributes, only_thread: Option<ThreadId>) -> (Unstarted, JoinHandle<T>)
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
        rare: (only_thread.is_some() || attributes != Attributes::default()).then(|| Box::new(Rare { attributes, only_thread })),
    };
    let stage = UnsafeCell::new(ManuallyDrop::new(Stage::<F, T>::Unstarted(f)));
    let task = NonNull::from(Box::leak(Box::new(Task { header, stage })));
    let task = TaskPtr(task.cast());
    (Unstarted(task), JoinHandle { task, result: PhantomData })
}
