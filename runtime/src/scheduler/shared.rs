//! Owns the state that several threads reach: of each worker (inbox, bell, commands) and of the whole runtime.
//!
//! Invariants: as in the parent module; what is here has no owner thread and so no borrow of one.

use std::io;
use std::sync::Arc;
use std::thread::ThreadId;

use super::counters::Counters;
use super::current::{self, Local};
use super::idle::{Idle, Rung, Sleeper};
use super::inbox::Inbox;
use super::phase::{Phase, Phases};
use super::shutdown::Exits;
use super::spawn_queue::SpawnQueues;
use super::trace;
use crate::blocking::pool::Pool;
use crate::contained::discard;
use crate::coroutine::arena::Arena;
use crate::coroutine::worker_thread;
use crate::hook::{Hook, HookHandle, HookId};
use crate::primitive::Mutex;
use crate::primitive::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::reactor::{ReactorHandle, ReactorWaker};
use crate::sim;
use crate::task::{self, Attributes, Header, JoinError, JoinHandle, TaskPtr, Unstarted};

/// What a worker is told to do between two coroutines.
pub(crate) enum Command {
    AddHook(HookId, Box<dyn FnOnce(HookHandle) -> Box<dyn Hook> + Send>),
    RemoveHook(HookId),
    /// Looks at the worker's own half, and touches nothing. It must not panic. The number is what it is
    /// [withdrawn](WorkerShared::withdraw) by.
    Inspect(usize, Box<dyn FnOnce(&Local) + Send>),
}

/// The half of a worker that everyone may use.
pub(crate) struct WorkerShared {
    pub(crate) index: usize,
    pub(crate) inbox: Inbox<Header>,
    pub(crate) sleeper: Sleeper,
    /// `None` in a simulation, whose driver looks at every worker and whose sockets are not the kernel's.
    pub(crate) reactor: Option<(ReactorHandle, ReactorWaker)>,
    /// In a simulation, the only thread that may touch it.
    pub(crate) only_thread: Option<ThreadId>,
    rung: Rung,
    commands: Mutex<Vec<Command>>,
    has_commands: AtomicBool,
    /// During a shutdown, how many coroutines are left; `usize::MAX` before the worker has counted.
    pub(crate) remaining: AtomicUsize,
    /// How often its bell was rung. Beside the system call, the locked instruction is nothing.
    pub(crate) rings: AtomicU64,
    pub(crate) counters: Counters,
    /// Its thread, while that may be interrupted (`probe`).
    pub(crate) thread: Mutex<Option<libc::pid_t>>,
}

impl WorkerShared {
    pub(crate) fn new(index: usize, reactor: Option<(ReactorHandle, ReactorWaker)>, only_thread: Option<ThreadId>) -> Self {
        Self {
            index,
            inbox: Inbox::new(),
            sleeper: Sleeper::new(),
            reactor,
            only_thread,
            rung: Rung::new(),
            commands: Mutex::new(Vec::new()),
            has_commands: AtomicBool::new(false),
            remaining: AtomicUsize::new(usize::MAX),
            rings: AtomicU64::new(0),
            counters: Counters::new(),
            thread: Mutex::new(None),
        }
    }

    /// Hands over a task that is this worker's and that the caller owns: one that it woke, or a pinned one before its first
    /// run.
    pub(crate) fn enqueue(&self, task: TaskPtr) {
        self.refuse_foreign_thread();
        // SAFETY: the caller owns the task, so it is in no queue; it is not done before it has run.
        unsafe { self.inbox.push(task.node()) };
        #[cfg(test)]
        tests::pushed();
        self.ring_if_asleep();
    }

    /// Makes the worker run a round soon.
    pub(crate) fn ring(&self) {
        self.refuse_foreign_thread();
        self.rung.set();
        self.ring_if_asleep();
    }

    pub(crate) fn command(&self, command: Command) {
        self.refuse_foreign_thread();
        self.commands.lock().push(command);
        // Ordering: Release pairs with the Acquire in `take_commands`, though the lock orders the content.
        self.has_commands.store(true, Ordering::Release);
        self.ring_if_asleep();
    }

    pub(crate) fn take_commands(&self) -> Vec<Command> {
        // Ordering: Acquire pairs with the Release in `command`; the plain load keeps the usual round free of a write.
        if !self.has_commands.load(Ordering::Acquire) || !self.has_commands.swap(false, Ordering::Acquire) {
            return Vec::new();
        }
        std::mem::take(&mut self.commands.lock())
    }

    /// Takes an inspection back that the worker has not come to.
    pub(crate) fn withdraw(&self, number: usize) {
        let is_it = |command: &mut Command| matches!(command, Command::Inspect(its, _) if *its == number);
        let withdrawn: Vec<_> = self.commands.lock().extract_if(.., is_it).collect();
        drop(withdrawn);
    }

    /// A round begins, which is all that a ring asks for.
    pub(crate) fn answer_ring(&self) {
        self.rung.answer();
    }

    /// Whether somebody gave this worker something. Asked behind the fence before a sleep.
    pub(crate) fn has_work(&self) -> bool {
        !self.inbox.is_empty() || self.rung.is_set() || self.has_commands.load(Ordering::Relaxed)
    }

    fn ring_if_asleep(&self) {
        if self.sleeper.must_ring() {
            self.ring_bell();
        }
    }

    /// For who has claimed the ring.
    pub(crate) fn ring_bell(&self) {
        if let Some((_, waker)) = &self.reactor {
            self.rings.fetch_add(1, Ordering::Relaxed);
            waker.ring();
        }
    }

    /// After the end: publishes that what came too late will not run, and drops the commands. The chain of an inbox may be
    /// taken by anyone; a started task goes back into it, for a worker that is late and may still unwind it.
    pub(crate) fn refuse_unstarted(&self) {
        let mut started = Vec::new();
        self.inbox.drain(|node| {
            let task = TaskPtr::from_node(node);
            if task.is_started() { started.push(node) } else { task.refuse(JoinError::ShutDown) }
        });
        for node in started {
            // SAFETY: just taken out, so it is in no queue; a task that was not run to its end is alive.
            unsafe { self.inbox.push(node) };
        }
        for command in self.take_commands() {
            // What it holds may belong to others who wait for its end; a panic in its drop is nobody's.
            discard(command);
        }
    }

    /// A simulation repeats only if nothing outside touches it.
    pub(crate) fn refuse_foreign_thread(&self) {
        if let Some(only) = self.only_thread
            && worker_thread() != only
        {
            panic!("a thread outside of the simulation touched one of its coroutines");
        }
    }
}

impl Drop for WorkerShared {
    fn drop(&mut self) {
        self.refuse_unstarted();
    }
}

/// There is no worker of that number.
pub(crate) struct NoWorker {
    worker: usize,
    workers: usize,
}

impl NoWorker {
    #[cold]
    #[track_caller]
    pub(crate) fn refuse(self) -> ! {
        panic!("no worker {}: this runtime has {}", self.worker, self.workers);
    }
}

/// What the workers of one runtime share.
pub(crate) struct Shared {
    pub(crate) workers: Vec<Arc<WorkerShared>>,
    pub(crate) spawns: SpawnQueues<Unstarted>,
    pub(crate) idle: Idle,
    pub(crate) arena: Arc<Arena>,
    pub(crate) exits: Exits,
    /// `None` in a simulation, which has one thread.
    pub(crate) blocking: Option<Arc<Pool>>,
    /// Whether coroutines have spans, see `trace`.
    pub(crate) traces: bool,
    phase: Phases,
    next_outside_id: AtomicU64,
    next_hook: AtomicU64,
}

impl Shared {
    pub(crate) fn new(
        workers: Vec<Arc<WorkerShared>>,
        spawns: SpawnQueues<Unstarted>,
        arena: Arc<Arena>,
        blocking: Option<Arc<Pool>>,
        traces: bool,
    ) -> Self {
        Self {
            workers,
            spawns,
            idle: Idle::default(),
            arena,
            exits: Exits::default(),
            blocking,
            traces,
            phase: Phases::new(),
            next_outside_id: AtomicU64::new(1),
            next_hook: AtomicU64::new(1),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase.now()
    }

    /// Goes on to a later phase, and makes every worker see it.
    pub(crate) fn enter_phase(&self, phase: Phase) {
        self.phase.enter(phase);
        for worker in &self.workers {
            worker.ring();
        }
    }

    /// Spawns a coroutine that any worker may start.
    pub(crate) fn spawn<F, T>(self: &Arc<Self>, f: F, attributes: Attributes) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        current::with(|local| match local.filter(|local| Arc::ptr_eq(&local.shared, self)) {
            Some(local) => {
                let (task, handle) = task::new(f, local.next_id(), attributes, local.worker.only_thread);
                self.trace_spawn(&task);
                // Nothing starts in a shutdown; a task that is not pushed is dropped, and so published as cancelled.
                if self.phase() == Phase::Running {
                    local.spawned.push(task);
                    // The only worker is the one that asks.
                    if self.workers.len() > 1 {
                        self.call_help(local.worker.index + 1);
                    }
                }
                handle
            }
            None => {
                self.workers[0].refuse_foreign_thread();
                let (task, handle) = task::new(f, self.outside_id(), attributes, self.workers[0].only_thread);
                self.trace_spawn(&task);
                self.spawns.push_from_outside(task);
                self.call_help(0);
                if self.phase() == Phase::Stopped {
                    self.spawns.clear();
                }
                handle
            }
        })
    }

    /// Spawns a coroutine on one worker.
    ///
    /// # Panics
    ///
    /// If there is no such worker.
    #[track_caller]
    pub(crate) fn spawn_on<F, T>(self: &Arc<Self>, worker: usize, f: F, attributes: Attributes) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        match self.try_spawn_on(worker, f, attributes) {
            Ok(handle) => handle,
            Err(missing) => missing.refuse(),
        }
    }

    /// Spawns a coroutine on one worker, if there is that worker. Apart, so that a panic can name the caller's line, which it cannot from
    /// inside of a closure.
    pub(crate) fn try_spawn_on<F, T>(self: &Arc<Self>, worker: usize, f: F, attributes: Attributes) -> Result<JoinHandle<T>, NoWorker>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let Some(home) = self.workers.get(worker) else {
            return Err(NoWorker { worker, workers: self.workers.len() });
        };
        let id = current::with(|local| match local.filter(|local| Arc::ptr_eq(&local.shared, self)) {
            Some(local) => local.next_id(),
            None => self.outside_id(),
        });
        let (task, handle) = task::new(f, id, attributes, home.only_thread);
        self.trace_spawn(&task);
        task.pin_to(home);
        // SAFETY: that of an `Arc`, which `self` has.
        unsafe { current::enqueue(Arc::as_ptr(home), task.into_ptr()) };
        if self.phase() == Phase::Stopped {
            // The worker may have looked for the last time already.
            home.refuse_unstarted();
        }
        Ok(handle)
    }

    /// Tells of a spawn, if anybody wants to hear of it.
    #[inline]
    pub(crate) fn trace_spawn(&self, task: &Unstarted) {
        if self.traces {
            trace::spawned(&task.inspect());
        }
    }

    /// Installs a hook.
    pub(crate) fn add_hook(&self, worker: usize, make: Box<dyn FnOnce(HookHandle) -> Box<dyn Hook> + Send>) -> io::Result<HookId> {
        let Some(home) = self.workers.get(worker) else {
            let message = format!("no worker {worker}: this runtime has {}", self.workers.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        };
        if self.phase() != Phase::Running {
            return Err(io::Error::other("the runtime is shutting down"));
        }
        let id = HookId { worker, number: self.next_hook.fetch_add(1, Ordering::Relaxed) };
        if home.only_thread.is_some() {
            sim::node::on_add_hook(id);
        }
        home.command(Command::AddHook(id, make));
        if self.phase() == Phase::Stopped {
            // The worker may have looked for the last time already.
            home.refuse_unstarted();
        }
        Ok(id)
    }

    pub(crate) fn remove_hook(&self, id: HookId) {
        let Some(home) = self.workers.get(id.worker) else { return };
        // A stopped worker has dropped its hooks.
        if self.phase() == Phase::Stopped {
            return;
        }
        home.command(Command::RemoveHook(id));
        if self.phase() == Phase::Stopped {
            // As in `add_hook`.
            home.refuse_unstarted();
        }
    }

    /// Stealable work was published: wakes one sleeper, unless somebody looks for work already.
    #[inline]
    pub(crate) fn call_help(&self, first: usize) {
        if let Some(worker) = self.idle.claim_help(&self.workers, first, |worker| &worker.sleeper) {
            worker.ring_bell();
        }
    }

    /// How many coroutines other threads have spawned.
    pub(crate) fn spawned_outside(&self) -> u64 {
        self.next_outside_id.load(Ordering::Relaxed) - 1
    }

    fn outside_id(&self) -> u64 {
        self.next_outside_id.fetch_add(1, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::Weak;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::hook::{Progress, RoundContext};
    use crate::time::Instant;
    use crate::{Runtime, park, spawn, yield_now};

    thread_local! {
        static AFTER_PUSH: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
    }

    /// A task was handed over to the worker of another thread, which has not been looked at yet.
    pub(super) fn pushed() {
        if let Ok(Some(then)) = AFTER_PUSH.try_with(|then| then.borrow_mut().take()) {
            then();
        }
    }

    #[test]
    fn a_wake_from_outside_keeps_the_worker_until_it_has_rung() {
        let runtime = Runtime::builder().workers(1).build().expect("a runtime");
        let home = Arc::downgrade(&runtime.handle().shared.workers[0]);
        let (dropped, hear) = mpsc::channel::<()>();
        let waker = runtime.run(|| {
            let (me, home) = (park::current(), Weak::clone(&home));
            let waker = std::thread::Builder::new().spawn(move || {
                AFTER_PUSH.set(Some(Box::new(move || {
                    // The other end is dropped when the runtime was.
                    assert!(hear.recv_timeout(Duration::from_secs(30)) == Err(mpsc::RecvTimeoutError::Disconnected));
                    assert!(home.strong_count() > 0, "it is about to be looked at");
                })));
                me.unpark();
            });
            let waker = waker.expect("a thread");
            // Keeps the worker awake, which nobody rings.
            drop(spawn(|| {
                while !crate::is_cancelled() {
                    yield_now();
                }
            }));
            crate::park();
            waker
        });
        drop(runtime);
        drop(dropped);
        waker.join().expect("the worker is there");
        assert_eq!(home.strong_count(), 0, "nobody keeps it");
    }

    #[test]
    fn commands_that_nobody_will_take_are_not_kept() {
        struct Idle;
        impl Hook for Idle {
            fn poll(&mut self, _: &mut RoundContext<'_>) -> Progress {
                Progress::Idle
            }

            fn flush(&mut self, _: &mut RoundContext<'_>) -> Progress {
                Progress::Idle
            }

            fn next_timeout(&self) -> Option<Instant> {
                None
            }
        }
        let runtime = Runtime::builder().workers(1).build().expect("a runtime");
        let handle = runtime.handle();
        let commands = || handle.shared.workers[0].commands.lock().len();
        let hook = handle.add_hook(0, |_| Box::new(Idle)).expect("it runs");
        // The worker may be past its commands in this round, and take the coroutine first.
        while commands() > 0 {
            std::thread::yield_now();
        }
        let (release, held) = mpsc::channel::<()>();
        let (begun, begins) = mpsc::channel();
        let holds = handle.spawn(move || {
            begun.send(()).expect("the test listens");
            held.recv().expect_err("released")
        });
        begins.recv().expect("it begins");
        for _ in 0..2 {
            assert!(!handle.dump().workers[0].answered);
        }
        assert_eq!(commands(), 0, "inspections of a worker that is held");
        drop(release);
        holds.join().expect("no panic");
        assert!(runtime.shutdown(Duration::from_secs(1)).is_clean());
        handle.remove_hook(hook);
        assert_eq!(commands(), 0, "commands to a worker that has stopped");
    }
}
