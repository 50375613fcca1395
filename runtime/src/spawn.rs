//! Owns the free functions that a coroutine calls: spawn, sleep, yield, and where it is.
//!
//! Each is a few lines over the worker that runs the caller (`scheduler::current`).

use std::time::Duration;

use crate::Handle;
use crate::cancel::CancellationToken;
use crate::park::{self, Cancellation, Unparked, WaitsFor};
use crate::scheduler::Phase;
use crate::scheduler::current::{self, Place};
use crate::scope::{Scope, ScopedJoinHandle};
use crate::sync::Cancelled;
use crate::task::{self, Attributes, JoinHandle};
use crate::time::Instant;

/// Starts a coroutine. Any worker may begin it; where it first runs it stays.
///
/// ```
/// use weald_runtime::{run, spawn};
///
/// run(|| {
///     let child = spawn(|| 6 * 7);
///     assert_eq!(child.join().expect("no panic"), 42);
///     spawn(|| println!("without a handle it runs on")); // until the runtime ends
/// });
/// ```
///
/// # Panics
///
/// Outside of a runtime (use [`Handle::spawn`](crate::Handle::spawn) there).
#[inline]
#[track_caller]
pub fn spawn<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    match current::with(|local| Some(local?.shared.spawn(f, Attributes::default()))) {
        Some(handle) => handle,
        None => outside(),
    }
}

/// Starts a coroutine on one worker, counted from zero.
///
/// ```
/// use weald_runtime::{Handle, run, spawn_on, worker_index};
///
/// run(|| {
///     let workers = Handle::current().expect("in a runtime").workers();
///     for worker in 0..workers {
///         assert_eq!(spawn_on(worker, worker_index).join().expect("no panic"), Some(worker));
///     }
/// });
/// ```
///
/// # Panics
///
/// Outside of a runtime, or if there is no such worker.
#[track_caller]
pub fn spawn_on<F, T>(worker: usize, f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    Builder::new().spawn_on(worker, f)
}

/// Starts a coroutine on the caller's worker. Neither it nor its result need be `Send`.
///
/// ```
/// use std::{cell::Cell, rc::Rc};
/// use weald_runtime::{run, spawn_local};
///
/// run(|| {
///     let count = Rc::new(Cell::new(0));
///     let shared = Rc::clone(&count);
///     spawn_local(move || shared.set(1)).join().expect("no panic");
///     assert_eq!(count.get(), 1);
/// });
/// ```
///
/// # Panics
///
/// Outside of a runtime.
#[track_caller]
pub fn spawn_local<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + 'static,
    T: 'static,
{
    Builder::new().spawn_local(f)
}

/// Chooses a coroutine's name and stack before it is spawned.
///
/// ```
/// weald_runtime::run(|| {
///     let child = weald_runtime::Builder::new()
///         .name("parser")
///         .stack_size(1 << 20)
///         .spawn(|| weald_runtime::current().name().map(str::to_owned));
///     assert_eq!(child.join().expect("no panic").as_deref(), Some("parser"));
/// });
/// ```
#[derive(Debug, Default)]
#[must_use]
pub struct Builder {
    attributes: Attributes,
    cancellation: Option<CancellationToken>,
}

impl Builder {
    /// No name, and the runtime's stack size.
    pub fn new() -> Self {
        Self::default()
    }

    /// The name in messages: panics, what a shutdown leaks, overflows, dead-locks of a simulation. An uncaught panic is followed by a line
    /// on standard error with the name, or the number, and the line of this call.
    pub fn name(mut self, name: impl Into<Box<str>>) -> Self {
        self.attributes.name = Some(name.into());
        self
    }

    /// Bytes that the coroutine can use of its stack. Up to the runtime's size it costs nothing; beyond, the stack is a
    /// mapping of its own, made and unmapped with the coroutine.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.attributes.stack_size = Some(bytes);
        self
    }

    /// The coroutine runs inside of `token`, as if its function began with [`CancellationToken::run`].
    pub fn cancellation(mut self, token: CancellationToken) -> Self {
        self.cancellation = Some(token);
        self
    }

    /// See [`spawn`].
    ///
    /// # Panics
    ///
    /// Outside of a runtime ([`spawn_in`](Self::spawn_in) is for there).
    #[track_caller]
    pub fn spawn<F, T>(self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let attributes = self.attributes.spawned_here();
        match current::with(|local| Some(local?.shared.spawn(under(self.cancellation, f), attributes))) {
            Some(handle) => handle,
            None => outside(),
        }
    }

    /// As [`Handle::spawn`]: from a plain thread, or into a runtime other than the caller's.
    ///
    /// ```
    /// let runtime = weald_runtime::Runtime::builder().workers(1).build()?;
    /// let child = weald_runtime::Builder::new()
    ///     .name("parser")
    ///     .spawn_in(&runtime.handle(), || weald_runtime::current().name().map(str::to_owned));
    /// assert_eq!(child.join().expect("no panic").as_deref(), Some("parser"));
    /// # Ok::<_, std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn spawn_in<F, T>(self, handle: &Handle, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        handle.shared.spawn(under(self.cancellation, f), self.attributes.spawned_here())
    }

    /// See [`spawn_on`].
    ///
    /// # Panics
    ///
    /// Outside of a runtime, or if there is no such worker.
    #[track_caller]
    pub fn spawn_on<F, T>(self, worker: usize, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let attributes = self.attributes.spawned_here();
        match current::with(|local| Some(local?.shared.try_spawn_on(worker, under(self.cancellation, f), attributes))) {
            Some(Ok(handle)) => handle,
            Some(Err(missing)) => missing.refuse(),
            None => outside(),
        }
    }

    /// Spawns into a scope; see [`Scope::spawn`](crate::Scope::spawn).
    ///
    /// ```
    /// use weald_runtime::{Builder, run, scope};
    ///
    /// run(|| {
    ///     let text = String::from("borrowed");
    ///     let length = scope(|s| Builder::new().name("counter").spawn_scoped(s, || text.len()).join());
    ///     assert_eq!(length.expect("no panic"), 8);
    /// });
    /// ```
    #[track_caller]
    pub fn spawn_scoped<'scope, F, T>(self, scope: &'scope Scope<'scope, '_>, f: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        scope.spawn_with(self.attributes.spawned_here(), under(self.cancellation, f))
    }

    /// See [`spawn_local`].
    ///
    /// # Panics
    ///
    /// Outside of a runtime.
    #[track_caller]
    pub fn spawn_local<F, T>(self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        let attributes = self.attributes.spawned_here();
        let spawned = current::with(|local| {
            let local = local?;
            let (task, handle) = task::new(under(self.cancellation, f), local.next_id(), attributes, local.worker.only_thread);
            local.shared.trace_spawn(&task);
            // Nothing starts in a shutdown; the dropped task is published as cancelled.
            if local.shared.phase() == Phase::Running {
                task.pin_to(&local.worker);
                local.queue.push(task.into_ptr());
            }
            Some(handle)
        });
        match spawned {
            Some(handle) => handle,
            None => outside(),
        }
    }
}

/// Lets the other coroutines of the worker run before the caller goes on.
///
/// # Panics
///
/// Inside of a [`no_park`](crate::no_park).
// See `switched::Coroutine::resume`.
#[inline(always)]
pub fn yield_now() {
    current::yield_now();
}

/// Blocks the calling coroutine, or plain thread, for `duration` at least.
///
/// Cancellation does not end it early ([`try_sleep`] is for that); the last phase of a shutdown unwinds the sleeper.
#[track_caller]
pub fn sleep(duration: Duration) {
    if !duration.is_zero() {
        sleep_out(Instant::now() + duration);
    }
}

/// Blocks the calling coroutine, or plain thread, until `deadline` at least.
///
/// Cancellation does not end it early ([`try_sleep`] is for that); the last phase of a shutdown unwinds the sleeper.
#[track_caller]
pub fn sleep_until(deadline: Instant) {
    if Instant::now() < deadline {
        sleep_out(deadline);
    }
}

/// Parks until the deadline has passed, which a park that times out has seen: the clock, which costs as much as a switch, is not asked.
#[inline]
#[track_caller]
fn sleep_out(deadline: Instant) {
    while park::park_with(Some(deadline), Cancellation::Shielded, WaitsFor::Sleep) != Unparked::TimedOut {}
}

/// As [`sleep`], but ended by cancellation.
///
/// ```
/// use std::time::Duration;
/// use weald_runtime::{run, spawn, try_sleep};
///
/// run(|| {
///     let beat = spawn(|| {
///         let mut beats = 0;
///         while try_sleep(Duration::from_millis(1)).is_ok() {
///             beats += 1;
///         }
///         beats
///     });
///     weald_runtime::sleep(Duration::from_millis(5));
///     beat.cancel();
///     println!("{} beats", beat.join().expect("no panic"));
/// });
/// ```
///
/// # Errors
///
/// [`Cancelled`] if the caller is cancelled before the time is over.
#[track_caller]
pub fn try_sleep(duration: Duration) -> Result<(), Cancelled> {
    if duration.is_zero() { Ok(()) } else { try_sleep_out(Instant::now() + duration) }
}

/// As [`sleep_until`], but ended by cancellation.
///
/// # Errors
///
/// [`Cancelled`] if the caller is cancelled before `deadline`.
#[track_caller]
pub fn try_sleep_until(deadline: Instant) -> Result<(), Cancelled> {
    if Instant::now() < deadline { try_sleep_out(deadline) } else { Ok(()) }
}

/// As [`sleep_out`], but ended by cancellation.
#[inline]
#[track_caller]
fn try_sleep_out(deadline: Instant) -> Result<(), Cancelled> {
    loop {
        match park::park_with(Some(deadline), Cancellation::Returns, WaitsFor::Sleep) {
            Unparked::TimedOut => return Ok(()),
            Unparked::Cancelled => return Err(Cancelled::new(())),
            Unparked::Token => {}
        }
    }
}

/// The number of the worker that runs the caller, counted from zero; `None` outside of a runtime.
#[must_use]
pub fn worker_index() -> Option<usize> {
    current::with(|local| local.map(|local| local.worker.index))
}

/// Whether the caller is told to end, so that its blocking calls return errors of cancellation: by
/// [`JoinHandle::cancel`], by a [`CancellationToken`] that it is inside of, or because its runtime shuts down.
///
/// Who computes for long and waits for nothing asks now and then:
///
/// ```
/// use weald_runtime::{is_cancelled, run, spawn, yield_now};
///
/// run(|| {
///     let search = spawn(|| {
///         let mut candidate = 0_u64;
///         while !is_cancelled() {
///             candidate += 1;
///             yield_now();
///         }
///         candidate
///     });
///     search.cancel();
///     search.join().expect("no panic");
/// });
/// ```
#[must_use]
pub fn is_cancelled() -> bool {
    current::is_cancelled() || park::is_interrupted_thread()
}

/// Runs `f` on the worker's own stack of 2 MiB, for code that needs more than a coroutine has and does not block.
///
/// In place if the caller is no coroutine. A park inside of `f` panics. A panic of `f` goes on in the caller.
///
/// ```
/// use weald_runtime::{on_worker_stack, run};
///
/// fn digest(bytes: &[u8]) -> u64 {
///     let table = std::hint::black_box([1_u64; 50_000]); // 400 KB of stack
///     bytes.iter().map(|&byte| table[usize::from(byte)]).sum()
/// }
///
/// run(|| assert_eq!(on_worker_stack(|| digest(b"borrowed")), 8));
/// ```
pub fn on_worker_stack<F, R>(f: F) -> R
where
    F: FnOnce() -> R + Send,
{
    current::on_worker_stack(f)
}

/// `f`, run inside of the token if there is one.
fn under<F: FnOnce() -> T, T>(token: Option<CancellationToken>, f: F) -> impl FnOnce() -> T {
    move || match token {
        Some(token) => token.run(f),
        None => f(),
    }
}

#[cold]
#[track_caller]
fn outside() -> ! {
    debug_assert_eq!(current::place(), Place::Thread);
    panic!("spawn outside of a runtime: call it inside of run(..), or use Handle::spawn");
}
