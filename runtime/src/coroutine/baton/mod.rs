//! Owns the backend for tools that cannot follow a switch of stacks (Miri, ThreadSanitizer): a coroutine is a thread of the
//! system, and a baton goes to and fro between it and its worker, so that exactly one of the two runs.
//!
//! It does not own what the worker's thread knows of itself (`worker_state`), which goes with the baton.
//!
//! Invariants, beside the parent's:
//! - Whoever does not hold the baton waits for it. Its lock orders all that one side did before what the other does next, so
//!   that the rest of the runtime may take the two for one thread.
//! - A coroutine's thread ends when its [`Stack`] is dropped; that of a leaked coroutine waits for ever.
//!
//! What differs from the shipping backend: a user's thread-locals are the coroutine's own and not its worker's, values that are
//! not `Send` go from thread to thread (one at a time), panics are counted for each coroutine, and an overflow is reported by
//! std with the thread's name.

pub(crate) mod arena;
pub(crate) mod overflow;
pub(crate) mod stack;
mod worker_state;

use std::any::Any;
use std::mem::{self, ManuallyDrop};
use std::panic::{self, AssertUnwindSafe};

use self::stack::Stack;
pub(crate) use self::stack::{Pages, give_back};
use self::worker_state::WorkerState;
pub(crate) use self::worker_state::worker_thread;
use super::Suspend;
use crate::fatal::fatal;
use crate::primitive::{Condvar, Mutex, MutexGuard};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Worker,
    Coroutine,
}

/// What is said with the baton.
enum Message {
    /// To the coroutine: run, from its beginning or from where it suspended.
    Run(WorkerState, Option<Entry>),
    /// To the coroutine: what it called is done.
    Returned,
    /// To the coroutine's thread, on which nothing runs: end.
    End,
    /// To the worker.
    Suspended(Suspend),
    /// To the worker: run this, and return.
    Call(*mut (dyn FnMut() + 'static)),
    /// To the worker: the function returned.
    Finished,
    /// Heard.
    None,
}

type Entry = Box<dyn FnOnce(&Yielder)>;

struct Baton {
    state: Mutex<State>,
    passed: Condvar,
}

struct State {
    holder: Side,
    message: Message,
}

// SAFETY: what a message holds goes from one thread to the other, which is what `Send` forbids for an entry that is pinned to
// its worker. Here the two stand for one thread: one runs at a time, and the lock orders them.
unsafe impl Send for State {}

impl Baton {
    /// A new baton, with the worker.
    fn new() -> Self {
        Self { state: Mutex::new(State { holder: Side::Worker, message: Message::None }), passed: Condvar::new() }
    }

    /// Tells the coroutine's thread, on which nothing runs, to end.
    fn end(&self) {
        self.give(&mut self.state.lock(), Message::End);
    }

    /// Gives the baton to the other side with a message, waits for it, and returns the answer.
    fn pass(&self, me: Side, message: Message) -> Message {
        let mut state = self.state.lock();
        debug_assert!(state.holder == me, "only who holds the baton passes it");
        self.give(&mut state, message);
        self.wait(state, me)
    }

    fn give(&self, state: &mut State, message: Message) {
        state.message = message;
        state.holder = match state.holder {
            Side::Worker => Side::Coroutine,
            Side::Coroutine => Side::Worker,
        };
        self.passed.notify_one();
    }

    fn wait<'a>(&'a self, mut state: MutexGuard<'a, State>, me: Side) -> Message {
        while state.holder != me {
            state = self.passed.wait(state);
        }
        mem::replace(&mut state.message, Message::None)
    }
}

/// The life of a coroutine's thread.
fn run(baton: &Baton) {
    let mut message = baton.wait(baton.state.lock(), Side::Coroutine);
    while let Message::Run(worker, Some(entry)) = message {
        let worker = worker.enter();
        if panic::catch_unwind(AssertUnwindSafe(|| entry(&Yielder(baton)))).is_err() {
            // Its worker would wait for ever.
            fatal(format_args!("the function of a coroutine unwound"));
        }
        drop(worker);
        message = baton.pass(Side::Coroutine, Message::Finished);
    }
    debug_assert!(matches!(message, Message::End), "a thread that runs nothing is started or ended");
}

/// The way from a coroutine to its worker. It lies on the coroutine's stack.
pub(crate) struct Yielder(*const Baton);

impl Yielder {
    /// Gives the worker back. Returns when the coroutine is resumed.
    pub(crate) fn suspend(&self, suspend: Suspend) {
        let Message::Run(worker, None) = self.pass(Message::Suspended(suspend)) else {
            unreachable!("a suspended coroutine is resumed or left alone");
        };
        worker.set();
    }

    /// Runs `f` on the worker's thread while the coroutine waits. Its panic is the caller's.
    pub(crate) fn on_parent_stack<F: FnOnce() -> R + Send, R>(&self, f: F) -> R {
        let mut f = Some(f);
        let mut result: Option<Result<R, Box<dyn Any + Send>>> = None;
        let mut call = || {
            let f = f.take().expect("the worker calls once");
            result = Some(panic::catch_unwind(AssertUnwindSafe(f)));
        };
        let call: *mut (dyn FnMut() + '_) = &raw mut call;
        // SAFETY: only the lifetime changes. The pointer is used until the worker has answered, for which `pass` waits.
        let call = unsafe { mem::transmute::<*mut (dyn FnMut() + '_), *mut (dyn FnMut() + 'static)>(call) };
        let Message::Returned = self.pass(Message::Call(call)) else {
            unreachable!("the worker returns from a call before anything else");
        };
        match result.expect("the worker called") {
            Ok(value) => value,
            Err(payload) => panic::resume_unwind(payload),
        }
    }

    fn pass(&self, message: Message) -> Message {
        // SAFETY: a yielder lives as long as `run`'s call of the entry, which borrows the baton.
        unsafe { &*self.0 }.pass(Side::Coroutine, message)
    }
}

/// A function with its own thread.
pub(crate) struct Coroutine {
    /// Until the function has returned.
    stack: Option<ManuallyDrop<Stack>>,
    entry: Option<Entry>,
}

impl Coroutine {
    /// Prepares `entry` to run on `stack` at the first resume.
    pub(crate) fn new(stack: Stack, entry: impl FnOnce(&Yielder) + 'static) -> Self {
        Self { stack: Some(ManuallyDrop::new(stack)), entry: Some(Box::new(entry)) }
    }

    /// Runs it until it suspends, or returns: then there is its stack to take.
    ///
    /// # Panics
    ///
    /// If it has returned before.
    pub(crate) fn resume(&mut self) -> Option<Suspend> {
        let mut message = Message::Run(WorkerState::of_this_thread(), self.entry.take());
        loop {
            let stack = self.stack.as_ref().expect("it has not returned");
            match stack.baton.pass(Side::Worker, message) {
                Message::Suspended(suspend) => return Some(suspend),
                Message::Call(call) => {
                    // SAFETY: the coroutine waits for the answer, and keeps the closure alive until then.
                    unsafe { (*call)() };
                    message = Message::Returned;
                }
                Message::Finished => return None,
                Message::Run(..) | Message::Returned | Message::End | Message::None => unreachable!("for the coroutine"),
            }
        }
    }

    /// The stack of a function that has returned.
    ///
    /// # Panics
    ///
    /// If it was taken.
    pub(crate) fn take_stack(&mut self) -> Stack {
        ManuallyDrop::into_inner(self.stack.take().expect("it is taken once"))
    }
}
