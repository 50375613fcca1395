//! Owns the making of a runtime: how many workers, which stacks, which seed; and the handles to it.
//!
//! It does not own what workers do (`scheduler`).

use std::fmt;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use crate::blocking::pool::{Limits, Pool};
use crate::coroutine::arena::{Arena, GUARD_SIZE, SLOT_SIZE};
use crate::coroutine::overflow::SignalStack;
use crate::fatal::fatal;
use crate::hook::{Hook, HookHandle, HookId};
use crate::reactor::Reactor;
use crate::scheduler::current::{self, Place};
use crate::scheduler::probe;
use crate::scheduler::shutdown::{self, ShutdownReport};
use crate::scheduler::worker::Worker;
use crate::scheduler::{Shared, WorkerShared, spawn_queue};
use crate::scope::{self, Scope};
use crate::sigquit;
use crate::sys::affinity::Processors;
use crate::sys::timer_slack;
use crate::task::{self, Attributes, JoinError, JoinHandle};
use crate::watchdog::{DEFAULT_HOLD, Watch, Watchdog};

/// Bytes that a coroutine can use of its stack by default: a slot of 128 KiB less its guard of 32 KiB.
pub(crate) const DEFAULT_STACK_SIZE: usize = SLOT_SIZE - GUARD_SIZE;
/// That of a thread of std's, whatever `RUST_MIN_STACK` says.
const DEFAULT_WORKER_STACK_SIZE: usize = 2 << 20;
/// A million stacks are 128 GiB of address space, of 128 TiB, and cost nothing until they are touched.
const DEFAULT_MAX_COROUTINES: usize = 1 << 20;
/// Long enough that faulting the pages in again, at 2 us each, does not matter to whoever was parked.
const DEFAULT_TRIM_AFTER: Duration = Duration::from_secs(1);
/// How long a dropped runtime waits for its coroutines after it cancelled them.
const DROP_GRACE: Duration = Duration::from_millis(200);

/// Runs `f` as a coroutine on a new default [`Runtime`], returns its result, and shuts the runtime down.
///
/// Coroutines that `f` has spawned and not joined are cancelled when it returns.
///
/// ```
/// let name = String::from("world");
/// let greeting = weald_runtime::run(|| format!("hello, {name}")); // it may borrow
/// assert_eq!(greeting, "hello, world");
/// ```
///
/// # Panics
///
/// With `f`'s panic; inside of a runtime; and if the system refuses threads, memory or descriptors.
#[track_caller]
pub fn run<F, T>(f: F) -> T
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    match Runtime::new() {
        Ok(runtime) => runtime.run(f),
        Err(error) => panic!("cannot make a runtime: {error}"),
    }
}

/// Workers, their coroutines and their sockets.
///
/// Dropping it shuts it down with a grace of 200 ms: blocking calls return errors, then what still runs is unwound; see
/// [`shutdown`](Self::shutdown).
///
/// ```
/// use std::time::Duration;
/// use weald_runtime::{Runtime, spawn};
///
/// let runtime = Runtime::builder().workers(2).name("crawler").build()?;
/// let pages = runtime.run(|| spawn(|| 3).join().expect("no panic"));
/// assert_eq!(pages, 3);
/// let report = runtime.shutdown(Duration::from_secs(5));
/// assert!(report.is_clean(), "{report}");
/// # Ok::<_, std::io::Error>(())
/// ```
pub struct Runtime {
    handle: Handle,
    threads: Vec<thread::JoinHandle<()>>,
    watchdog: Option<Watchdog>,
}

// Nothing in a runtime is left half done by a panic: coroutines' panics are caught, and the thread handles are opaque.
impl panic::UnwindSafe for Runtime {}
impl panic::RefUnwindSafe for Runtime {}

impl Runtime {
    /// A runtime with one worker a processor.
    ///
    /// # Errors
    ///
    /// What the system says when it refuses address space, descriptors or threads.
    pub fn new() -> io::Result<Self> {
        Self::builder().build()
    }

    /// Chooses before making.
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder::default()
    }

    /// A handle to spawn and to install hooks from anywhere.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs `f` as a coroutine, which may borrow, and blocks the calling thread until it has returned. Other coroutines go
    /// on when it has.
    ///
    /// # Panics
    ///
    /// With `f`'s panic; and on a worker (inside of a coroutine, spawn instead).
    #[track_caller]
    pub fn run<F, T>(&self, f: F) -> T
    where
        F: FnOnce() -> T + Send,
        T: Send,
    {
        assert!(current::place() == Place::Thread, "run inside of a runtime would block its worker: use spawn");
        let attributes = Attributes { name: Some("main".into()), ..Attributes::default() }.spawned_here();
        match task::run_borrowed(f, |closure| self.handle.shared.spawn(closure, attributes)) {
            Ok(value) => value,
            Err(JoinError::Panicked(payload)) => panic::resume_unwind(payload.into_inner()),
            Err(error) => panic!("{error}"),
        }
    }

    /// Ends all coroutines and returns what became of them. First every blocking call returns its error of cancellation
    /// and nothing new starts; coroutines that have not ended after `grace` are unwound, as if their park panicked; and those
    /// that do not end even so are leaked, and named in the report; in a program built with `panic = "abort"` nothing can be unwound, and
    /// all of them are. [Blocking jobs](crate::unblock) have `grace` to end, too; none is
    /// stopped, and those that still run are named.
    ///
    /// The grace is the time that coroutines have to end by themselves, not that of the whole call. Unwinding goes on beyond it for as long as
    /// in each second some coroutine ends, and workers have another second to stop: who swallows the unwinding, or never
    /// parks, makes the call last some 2 s longer.
    ///
    /// Dropping the runtime does the same with a grace of 200 ms, and logs what was leaked. A runtime that is dropped on one of its own workers,
    /// as the last owner's coroutine may do, ends in the background.
    ///
    /// # Panics
    ///
    /// On one of the runtime's own workers, which would wait for itself. The runtime ends in the background then.
    #[track_caller]
    pub fn shutdown(mut self, grace: Duration) -> ShutdownReport {
        assert!(
            !self.is_callers(),
            "Runtime::shutdown on one of the runtime's own workers would wait for itself: call it outside of the runtime, or drop the Runtime, \
             which then ends in the background"
        );
        self.end(grace)
    }

    /// Whether the caller is on a worker of this runtime.
    fn is_callers(&self) -> bool {
        current::with(|local| local.is_some_and(|local| Arc::ptr_eq(&local.shared, &self.handle.shared)))
    }

    /// Ends the runtime on a thread of its own.
    fn end_in_background(&mut self) {
        let ending = Runtime { handle: self.handle.clone(), threads: std::mem::take(&mut self.threads), watchdog: self.watchdog.take() };
        // Without a thread there is nobody who could end it.
        let ending = std::mem::ManuallyDrop::new(ending);
        let thread = std::thread::Builder::new().name("weald-end".into()).spawn(move || drop(std::mem::ManuallyDrop::into_inner(ending)));
        if let Err(error) = thread {
            tracing::error!(%error, "no thread to end a runtime that was dropped on its own worker: it runs on");
        }
    }

    fn end(&mut self, grace: Duration) -> ShutdownReport {
        let report = shutdown::shut_down(&self.handle.shared, grace);
        drop(self.watchdog.take());
        if report.workers_ended() {
            for thread in self.threads.drain(..) {
                // A worker's own panic was printed when it happened.
                let _ = thread.join();
            }
        }
        report
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if self.threads.is_empty() {
            return;
        }
        if self.is_callers() {
            self.end_in_background();
        } else {
            let _ = self.end(DROP_GRACE);
        }
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("workers", &self.handle.workers()).finish_non_exhaustive()
    }
}

/// Reaches a runtime from anywhere. Cheap to clone; it does not keep the runtime running.
///
/// ```
/// let runtime = weald_runtime::Runtime::builder().workers(1).build()?;
/// let handle = runtime.handle();
/// let plain = std::thread::spawn(move || handle.spawn(|| "from a thread").join());
/// assert_eq!(plain.join().unwrap().expect("no panic"), "from a thread");
/// # Ok::<_, std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Handle {
    pub(crate) shared: Arc<Shared>,
}

impl Handle {
    pub(crate) fn from_shared(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The runtime whose worker the caller runs on.
    #[must_use]
    pub fn current() -> Option<Self> {
        current::with(|local| local.map(|local| Self { shared: Arc::clone(&local.shared) }))
    }

    /// Spawns a coroutine; see [`spawn`](crate::spawn).
    #[track_caller]
    pub fn spawn<F, T>(&self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.shared.spawn(f, Attributes::default().spawned_here())
    }

    /// Spawns a coroutine on one worker; see [`spawn_on`](crate::spawn_on).
    ///
    /// # Panics
    ///
    /// If there is no such worker.
    #[track_caller]
    pub fn spawn_on<F, T>(&self, worker: usize, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.shared.spawn_on(worker, f, Attributes::default().spawned_here())
    }

    /// Runs `f`, on the calling coroutine or plain thread, with a scope on this runtime; see [`scope`](fn@crate::scope).
    ///
    /// # Panics
    ///
    /// As `scope`, but for a caller outside of a runtime.
    #[track_caller]
    pub fn scope<'env, F, T>(&self, f: F) -> T
    where
        F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
    {
        scope::scope_on(self.clone(), f)
    }

    /// The number of workers. They are counted from zero.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.shared.workers.len()
    }

    /// Installs a hook on one worker. `make` runs there, in a later round, with the means to ring the worker; sockets that it
    /// makes belong to that worker.
    ///
    /// # Errors
    ///
    /// There is no such worker, or the runtime is shutting down.
    pub fn add_hook<M>(&self, worker: usize, make: M) -> io::Result<HookId>
    where
        M: FnOnce(HookHandle) -> Box<dyn Hook> + Send + 'static,
    {
        self.shared.add_hook(worker, Box::new(make))
    }

    /// Drops a hook, on its worker, in a later round.
    pub fn remove_hook(&self, id: HookId) {
        self.shared.remove_hook(id);
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("workers", &self.workers()).finish_non_exhaustive()
    }
}

/// Chooses how a [`Runtime`] is made.
#[derive(Clone, Debug)]
#[must_use]
pub struct RuntimeBuilder {
    workers: Option<usize>,
    stack_size: usize,
    worker_stack_size: usize,
    max_coroutines: usize,
    name: String,
    seed: Option<u64>,
    dump_on_sigquit: bool,
    watch: Watch,
    blocking: Limits,
    pin_workers: bool,
    on_worker_start: Option<WorkerHook>,
    on_worker_stop: Option<WorkerHook>,
    trace_coroutines: bool,
    trim_after: Option<Duration>,
}

/// What a worker's thread calls with its number.
#[derive(Clone)]
struct WorkerHook(Arc<dyn Fn(usize) + Send + Sync>);

impl fmt::Debug for WorkerHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WorkerHook(..)")
    }
}

impl Default for RuntimeBuilder {
    fn default() -> Self {
        Self {
            workers: None,
            stack_size: DEFAULT_STACK_SIZE,
            worker_stack_size: DEFAULT_WORKER_STACK_SIZE,
            max_coroutines: DEFAULT_MAX_COROUTINES,
            name: "weald".to_owned(),
            seed: None,
            dump_on_sigquit: false,
            watch: Watch { hold: (cfg!(debug_assertions) && !cfg!(miri)).then_some(DEFAULT_HOLD), deadlock: false },
            blocking: Limits::default(),
            pin_workers: false,
            on_worker_start: None,
            on_worker_stop: None,
            trace_coroutines: false,
            trim_after: Some(DEFAULT_TRIM_AFTER),
        }
    }
}

impl RuntimeBuilder {
    /// Worker threads, at least one. Default: one a processor that the process may use.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers.max(1));
        self
    }

    /// Bytes that a coroutine can use of its stack, 16 KiB at least. Default: 96 KiB. A stack costs the pages that it
    /// touches; below each lies a guard of 32 KiB besides.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = bytes;
        self
    }

    /// Bytes of a worker's own stack, on which hooks and [`on_worker_stack`](crate::on_worker_stack) run. Default: 2 MiB.
    ///
    /// ```
    /// let runtime = weald_runtime::Runtime::builder().workers(1).worker_stack_size(16 << 20).build()?;
    /// let zeros = runtime.run(|| {
    ///     weald_runtime::on_worker_stack(|| std::hint::black_box([0_u8; 4 << 20]).iter().filter(|&&octet| octet == 0).count())
    /// });
    /// assert_eq!(zeros, 4 << 20);
    /// # Ok::<_, std::io::Error>(())
    /// ```
    pub fn worker_stack_size(mut self, bytes: usize) -> Self {
        self.worker_stack_size = bytes;
        self
    }

    /// Coroutines that can have started and not ended at once, at least one. Default: 1,048,576. It costs address space only.
    ///
    /// Where the system bounds that (`ulimit -v`), or stacks of that size do not fit into it, there are fewer; the error of a spawn that finds
    /// none says how many.
    pub fn max_coroutines(mut self, count: usize) -> Self {
        self.max_coroutines = count.max(1);
        self
    }

    /// Names the worker threads: `name-0`, `name-1`, ... Default: `weald`. Linux shows 15 octets of a thread's name, so that `top` and `perf`
    /// tell the workers of a long name apart no more.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Seeds the workers' generators. Default: a random seed.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// SIGQUIT (`Ctrl-\`, `kill -QUIT`) prints the [dump](Handle::dump) of every runtime of the process to standard error, and the process goes
    /// on. Default: false, so that the runtime takes no signal of a program that it is only a part of.
    ///
    /// It is so for the process from the first runtime made with it. A handler that was there before is called as well.
    pub fn dump_on_sigquit(mut self, dump: bool) -> Self {
        self.dump_on_sigquit = dump;
        self
    }

    /// Names, in a warning of the `tracing` facade, a coroutine that has held its worker for so long without a park or a yield: others
    /// wait meanwhile. Default: 10 ms in debug builds, `None` in others.
    ///
    /// A thread looks twice in that time; ten times a second while all workers sleep. It interrupts a held worker by SIGURG, to get
    /// the stack trace that comes with the warning: a system call that a signal can interrupt may then fail with `Interrupted`.
    pub fn watchdog(mut self, hold: Option<Duration>) -> Self {
        self.watch.hold = hold;
        self
    }

    /// Tells, in an error of the `tracing` facade with a [dump](Handle::dump), when every coroutine has been parked for half a second
    /// without a timer, a socket or a hook that could wake one. Default: false.
    ///
    /// It does not know of plain threads, which may wake coroutines through channels and locks at any time: turn it on where
    /// none do. Nor does it see a dead-lock of some coroutines while others sleep or wait for sockets. A program that waits for
    /// nothing but a signal handler's message looks dead-locked.
    pub fn detect_deadlock(mut self, detect: bool) -> Self {
        self.watch.deadlock = detect;
        self
    }

    /// Threads for [blocking jobs](crate::unblock), at least one; they start as jobs come. Default: 512, because jobs may wait for each
    /// other, and a bound that is reached then stops them all.
    pub fn max_blocking_threads(mut self, threads: usize) -> Self {
        self.blocking.threads = threads.max(1);
        self
    }

    /// How long a thread for blocking jobs waits for its next one until it ends. Default: 10 s.
    pub fn blocking_keep_alive(mut self, time: Duration) -> Self {
        self.blocking.keep_alive = time;
        self
    }

    /// Keeps each worker to one processor: of those that the thread which calls [`build`](Self::build) may run on, the first worker to
    /// the first, and so on, beginning anew when there are more workers. Default: false, since pinning keeps a worker
    /// waiting for a processor that another program uses while others are free.
    ///
    /// A thread that a coroutine starts inherits its worker's processor; those for [blocking jobs](crate::unblock) do not.
    pub fn pin_workers(mut self, pin: bool) -> Self {
        self.pin_workers = pin;
        self
    }

    /// Calls `f` on each worker's thread, with the worker's number, before it does anything else: to set a priority, a name in a
    /// profiler, a thread-local. It is not in a coroutine, and blocks the worker.
    ///
    /// The end of the runtime waits for it. If it panics the process is aborted, since coroutines would wait for their worker for ever.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicUsize, Ordering};
    /// use weald_runtime::Runtime;
    ///
    /// static WORKERS: AtomicUsize = AtomicUsize::new(0);
    /// let runtime = Runtime::builder()
    ///     .workers(2)
    ///     .on_worker_start(|_| drop(WORKERS.fetch_add(1, Ordering::Relaxed)))
    ///     .on_worker_stop(|_| drop(WORKERS.fetch_sub(1, Ordering::Relaxed)))
    ///     .build()?;
    /// runtime.run(|| assert!(WORKERS.load(Ordering::Relaxed) > 0));
    /// drop(runtime);
    /// assert_eq!(WORKERS.load(Ordering::Relaxed), 0);
    /// # Ok::<_, std::io::Error>(())
    /// ```
    pub fn on_worker_start(mut self, f: impl Fn(usize) + Send + Sync + 'static) -> Self {
        self.on_worker_start = Some(WorkerHook(Arc::new(f)));
        self
    }

    /// Calls `f` on each worker's thread, with the worker's number, when all of its coroutines and hooks have ended. A worker with a
    /// coroutine that does not end never comes to it.
    ///
    /// If it panics the process is aborted.
    pub fn on_worker_stop(mut self, f: impl Fn(usize) + Send + Sync + 'static) -> Self {
        self.on_worker_stop = Some(WorkerHook(Arc::new(f)));
        self
    }

    /// Gives each coroutine a span of the `tracing` facade, and tells of its spawn, its parks and its panic. Default: false, which costs
    /// one test a switch.
    ///
    /// The span `coroutine` (level info; fields `id`, `name`, `spawned_at`) begins with the first run and has no parent. It is entered
    /// when the coroutine is resumed and left when it parks, yields or ends, so that everything logged from within is under it. Events
    /// under it: `parks` (trace; field `at`, the line of the blocking call) and `panicked` (warn; `message` is the panic's). The event `spawned`
    /// (debug; fields `coroutine`, `name`, `spawned_at`) is under the spawner's span. That a coroutine holds its worker for
    /// long is told by the [watchdog](Self::watchdog), with its number.
    ///
    /// As in async code, a guard of `Span::enter` must not be held over a blocking call: the thread runs others meanwhile.
    ///
    /// ```
    /// let runtime = weald_runtime::Runtime::builder().trace_coroutines(true).build()?;
    /// runtime.run(|| tracing::info!("under the span of coroutine 'main'"));
    /// # Ok::<_, std::io::Error>(())
    /// ```
    pub fn trace_coroutines(mut self, trace: bool) -> Self {
        self.trace_coroutines = trace;
        self
    }

    /// A coroutine that has been parked for so long gives back the memory of its stack below what it uses. Default: 1 s. `None`: a stack
    /// keeps its memory until its coroutine ends.
    ///
    /// Its worker does so in between, in a fifth of its time at most, 3 us a stack. A stack that was in use again gives memory back
    /// after twice as long a park, up to 64 times.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let runtime = weald_runtime::Runtime::builder().trim_after(Some(Duration::from_millis(100))).build()?;
    /// # Ok::<_, std::io::Error>(())
    /// ```
    pub fn trim_after(mut self, parked: Option<Duration>) -> Self {
        self.trim_after = parked;
        self
    }

    /// Makes the runtime and starts its workers.
    ///
    /// # Errors
    ///
    /// What the system says when it refuses address space, descriptors (three a worker) or threads, or a worker its
    /// [processor](Self::pin_workers); and a [name](Self::name) with a NUL in it.
    pub fn build(self) -> io::Result<Runtime> {
        let count = self.workers.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
        let seed = self.seed.unwrap_or_else(|| fastrand::Rng::new().u64(..));
        if self.name.contains('\0') {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the name of a runtime cannot have a NUL in it"));
        }
        let reactor = |worker| Reactor::new().map_err(|error| for_worker(worker, count, "descriptors", &error));
        let reactors = (0..count).map(reactor).collect::<io::Result<Vec<_>>>()?;
        let workers = reactors
            .iter()
            .enumerate()
            .map(|(index, reactor)| Arc::new(WorkerShared::new(index, Some((reactor.handle(), reactor.waker())), None)))
            .collect();
        let arena = Arc::new(Arena::new(self.stack_size, self.max_coroutines)?);
        let (spawns, own) = spawn_queue::new(count);
        let allowed = self.pin_workers.then(Processors::of_this_thread).transpose()?;
        let processors = allowed.map(|allowed| allowed.numbers());
        let blocking = Pool::new(self.name.clone(), self.blocking).on_processors(allowed);
        let shared = Arc::new(Shared::new(workers, spawns, arena, Some(Arc::new(blocking)), self.trace_coroutines));
        sigquit::register(&self.name, &shared);
        if self.dump_on_sigquit {
            sigquit::enable()?;
        }
        let mut runtime = Runtime { handle: Handle::from_shared(Arc::clone(&shared)), threads: Vec::with_capacity(count), watchdog: None };
        let (confined, confinements) = mpsc::channel();
        for (index, (reactor, spawned)) in reactors.into_iter().zip(own).enumerate() {
            let processor = processors.as_ref().map(|numbers| (numbers[index % numbers.len()], confined.clone()));
            let (start, stop) = (self.on_worker_start.clone(), self.on_worker_stop.clone());
            let shared = Arc::clone(&shared);
            let name = format!("{}-{index}", self.name);
            let probed = self.watch.hold.is_some();
            let thread = thread::Builder::new().name(name).stack_size(self.worker_stack_size).spawn(move || {
                if let Some((number, confined)) = processor {
                    // Not received by a builder that has failed already.
                    let _ = confined.send((index, number, Processors::only(number).confine()));
                }
                timer_slack::minimize();
                let signal_stack = SignalStack::install();
                if let Err(error) = &signal_stack {
                    tracing::warn!(%error, "no alternate signal stack: an overflow will end the process without a name");
                }
                let worker = Arc::clone(&shared.workers[index]);
                let _enlisted = probed.then(|| probe::enlist(&worker)).and_then(|enlisted| {
                    enlisted.inspect_err(|error| tracing::warn!(%error, "no handler to interrupt a held worker")).ok()
                });
                // Everything of the user's is caught further in. A worker that is gone would leave its coroutines parked for
                // ever, with no trace of why.
                let life = || {
                    call(start, index);
                    Worker::new(shared, index, spawned, Some(reactor), worker_seed(seed, index)).trim_after(self.trim_after).run();
                    call(stop, index);
                };
                if panic::catch_unwind(AssertUnwindSafe(life)).is_err() {
                    fatal(format_args!("worker {index} of the runtime panicked"));
                }
            });
            // A runtime of which some workers are missing is shut down by its drop.
            runtime.threads.push(thread.map_err(|error| for_worker(index, count, "a thread", &error))?);
        }
        drop(confined);
        for (worker, processor, confined) in confinements {
            confined
                .map_err(|error| io::Error::new(error.kind(), format!("cannot keep worker {worker} to processor {processor}: {error}")))?;
        }
        runtime.watchdog = Watchdog::start(&self.name, &shared, self.watch)?;
        Ok(runtime)
    }
}

/// What the system refuses to one of the workers, after as many as its number.
fn for_worker(worker: usize, workers: usize, what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot get {what} for worker {worker} of {workers}: {error}"))
}

fn call(hook: Option<WorkerHook>, worker: usize) {
    if let Some(WorkerHook(hook)) = hook {
        hook(worker);
    }
}

/// A worker's own seed, different from its neighbours'.
pub(crate) fn worker_seed(seed: u64, worker: usize) -> u64 {
    seed ^ (worker as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
