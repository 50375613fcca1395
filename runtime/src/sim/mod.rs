//! Simulation: a program written on Weald, on one thread with virtual time, virtual workers and a simulated network.
//!
//! Owns the driver: it gives each worker its round, and moves time when all are idle. Time is `clock`'s, datagrams are
//! `network`'s, everything else is the shipping runtime.
//!
//! Invariants:
//! - Same seed, same program: same rounds in the same order, and so the same trace. Nothing here depends on real time, on
//!   addresses or on threads; one that touches a coroutine of a simulation from outside panics.
//! - Time moves only between rounds: to the earliest deadline when nobody has anything to do, and by a microsecond when coroutines
//!   do nothing but yield, so that a loop which waits for a time ends.
//! - When every coroutine is parked and no deadline is left, the run panics and names them.

mod clock;
mod explore;
pub(crate) mod network;
pub(crate) mod node;

pub use self::explore::explore;
pub use self::network::{Burst, LinkConfig, Network, NetworkConfig, Protocol, TraceEntry, Verdict};
pub use self::node::{Node, NodeBuilder, node};

use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use self::clock::Clock;
use crate::builder::{DEFAULT_STACK_SIZE, worker_seed};
use crate::coroutine::arena::Arena;
use crate::coroutine::overflow::SignalStack;
use crate::scheduler::current::{self, Place};
use crate::scheduler::shutdown::{self, UNWIND_GRACE, UNWINDS};
use crate::scheduler::worker::{Round, Worker};
use crate::scheduler::{Phase, Shared, WorkerShared, spawn_queue};
use crate::task::{self, Attributes, JoinError};
use crate::time::Instant;

/// What a round of nothing but yields takes.
const STEP: Duration = Duration::from_micros(1);
/// So many passes at one instant are a loop without end, such as two coroutines that wake each other while they wait for a
/// time; then each further pass takes a [`STEP`].
const PASSES_AN_INSTANT: u32 = 10_000;
/// Virtual time that coroutines have to end after the program has.
const GRACE: Duration = Duration::from_secs(1);
/// Two, so that what crosses workers does so in every simulation.
const DEFAULT_WORKERS: usize = 2;
/// Stacks reserved for one simulation by default; a thousand simulations one after the other should not cost page tables.
const DEFAULT_MAX_COROUTINES: usize = 1 << 17;

/// Runs `f` in a simulation with the default configuration, and returns its result.
///
/// ```
/// use std::time::Duration;
/// use weald_runtime::{sim, sleep, time::Instant};
///
/// let slept = sim::run(7, || {
///     let start = Instant::now();
///     sleep(Duration::from_secs(3600));
///     start.elapsed()
/// });
/// assert_eq!(slept, Duration::from_secs(3600));
/// ```
///
/// # Panics
///
/// As [`Simulation::run`].
#[track_caller]
pub fn run<F, T>(seed: u64, f: F) -> T
where
    F: FnOnce() -> T,
{
    Simulation::new(seed).run(f)
}

/// The network of the simulation that runs the caller, to change its links or read its trace.
#[must_use]
pub fn network() -> Option<Network> {
    Network::current()
}

/// What has happened on the network of the simulation that runs the caller; empty outside of one.
#[must_use]
pub fn trace() -> Vec<TraceEntry> {
    Network::current().map(|network| network.trace()).unwrap_or_default()
}

/// Chooses a simulation's seed, workers and network.
///
/// ```
/// use std::time::Duration;
/// use weald_runtime::sim::{LinkConfig, NetworkConfig, Simulation};
///
/// let link = LinkConfig { delay: Duration::from_millis(40), loss: 0.02, ..LinkConfig::default() };
/// let network = NetworkConfig { link, ..NetworkConfig::default() };
/// let workers = Simulation::new(3).workers(4).network(network).run(|| weald_runtime::Handle::current().map(|handle| handle.workers()));
/// assert_eq!(workers, Some(4));
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Simulation {
    seed: u64,
    workers: usize,
    stack_size: usize,
    max_coroutines: usize,
    lost_panics: bool,
    network: NetworkConfig,
    begin: Instant,
}

impl Simulation {
    /// Two workers and the default network.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            workers: DEFAULT_WORKERS,
            stack_size: DEFAULT_STACK_SIZE,
            max_coroutines: DEFAULT_MAX_COROUTINES,
            lost_panics: false,
            network: NetworkConfig::default(),
            begin: clock::START,
        }
    }

    /// Virtual workers, at least one. They run in turn on the calling thread.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers.max(1);
        self
    }

    /// Bytes that a coroutine can use of its stack; see [`RuntimeBuilder::stack_size`](crate::RuntimeBuilder::stack_size).
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = bytes;
        self
    }

    /// Coroutines that can have started and not ended at once, at least one. Default: 131,072.
    pub fn max_coroutines(mut self, count: usize) -> Self {
        self.max_coroutines = count.max(1);
        self
    }

    /// Whether coroutines may panic that nobody joins, as handlers of a server that goes on. Default: no, and the simulation fails at its
    /// end.
    pub fn allow_lost_panics(mut self, allow: bool) -> Self {
        self.lost_panics = allow;
        self
    }

    /// What the clock shows at first: little on a machine that has just booted. Default: an hour.
    pub fn begin(mut self, now: Instant) -> Self {
        self.begin = now;
        self
    }

    /// What the network does to datagrams.
    pub fn network(mut self, network: NetworkConfig) -> Self {
        self.network = network;
        self
    }

    /// Runs `f` as the first coroutine, on worker 0, until it returns; then ends what it has left, as a shutdown does.
    ///
    /// # Panics
    ///
    /// With `f`'s panic (its seed is printed); when every coroutine is parked and nothing can wake one; when one does not end at the end;
    /// when one panicked that nobody joined, unless [that is allowed](Self::allow_lost_panics); inside of a runtime; with a link that has a probability outside of 0 to 1 or a rate of zero;
    /// and if the system refuses memory. The message carries the seed where the simulation found the fault.
    #[track_caller]
    pub fn run<F, T>(self, f: F) -> T
    where
        F: FnOnce() -> T,
    {
        assert!(current::place() == Place::Thread, "a simulation is a runtime of its own: run it outside of one");
        assert!(Network::current().is_none(), "this thread runs a simulation already");
        self.network.link.check();
        let seed = self.seed;
        let spawned_at = Location::caller();
        let driver = match Driver::new(&self) {
            Ok(driver) => driver,
            Err(error) => panic!("cannot make a simulation: {error}"),
        };
        let network = driver.network.clone();
        let _entered = network.enter();
        let home = Arc::clone(&driver.shared.workers[0]);
        let mut fault = None;
        let result = task::run_borrowed_here(
            f,
            |closure| {
                let attributes = Attributes { name: Some("main".into()), spawned_at: Some(spawned_at), ..Attributes::default() };
                let (main, handle) = task::new(closure, 0, attributes, home.only_thread);
                main.pin_to(&home);
                home.enqueue(main.into_ptr());
                handle
            },
            |main| fault = driver.run_to_end(|| main.is_finished(), self.lost_panics),
        );
        match (result, fault) {
            (Err(JoinError::Panicked(payload)), fault) => {
                // A dead-lock ends in cancelled calls, at whose errors tests panic.
                eprintln!("simulation with seed {seed}: {}", fault.as_deref().unwrap_or("its program panicked"));
                std::panic::resume_unwind(payload.into_inner())
            }
            (_, Some(fault)) => panic!("simulation with seed {seed}: {fault}"),
            (Ok(value), None) => value,
            (Err(error), None) => panic!("simulation with seed {seed}: {error}"),
        }
    }
}

/// Gives rounds to the workers and moves the time.
struct Driver {
    workers: Vec<Worker>,
    shared: Arc<Shared>,
    network: Network,
    clock: Clock,
    rng: fastrand::Rng,
    passes: u32,
    _signal_stack: SignalStack,
}

/// Why driving came to an end.
enum Driven {
    /// The condition holds.
    Done,
    /// The time is over.
    TimeOut,
    /// Nothing will ever happen again.
    Stuck,
}

impl Driver {
    fn new(simulation: &Simulation) -> std::io::Result<Self> {
        let signal_stack = SignalStack::install()?;
        let clock = Clock::start(simulation.begin);
        let thread = std::thread::current().id();
        let count = simulation.workers;
        let shared_workers = (0..count).map(|index| Arc::new(WorkerShared::new(index, None, Some(thread)))).collect();
        let arena = Arc::new(Arena::new(simulation.stack_size, simulation.max_coroutines)?);
        let (spawns, own) = spawn_queue::new(count);
        let shared = Arc::new(Shared::new(shared_workers, spawns, arena, None, false));
        let seed = |number| worker_seed(simulation.seed, number);
        let workers = own
            .into_iter()
            .enumerate()
            .map(|(index, spawned)| Worker::new(Arc::clone(&shared), index, spawned, None, seed(index)))
            .collect();
        let rng = |number| fastrand::Rng::with_seed(seed(number));
        let network = Network::new(simulation.network.clone(), rng(count), rng(count + 2));
        let rng = rng(count + 1);
        Ok(Self { workers, shared, network, clock, rng, passes: 0, _signal_stack: signal_stack })
    }

    /// Runs until `done`, then shuts down. Says what was wrong, if something was.
    fn run_to_end(mut self, done: impl Fn() -> bool, lost_panics: bool) -> Option<String> {
        let fault = match self.drive(None, &done) {
            Driven::Done | Driven::TimeOut => None,
            Driven::Stuck => Some(self.describe_dead_lock()),
        };
        let shared = Arc::clone(&self.shared);
        let phases = [(Phase::Cancelling, GRACE), (Phase::Unwinding, UNWIND_GRACE)];
        for (phase, grace) in phases.into_iter().take(if UNWINDS { 2 } else { 1 }) {
            shared.enter_phase(phase);
            let end = self.clock.now() + grace;
            let _ = self.drive(Some(end), &|| shutdown::is_empty(&shared));
            if shutdown::is_empty(&shared) {
                break;
            }
        }
        shared.enter_phase(Phase::Stopped);
        for worker in self.workers.drain(..) {
            // What it leaks is in the report.
            let _ = worker.stop();
        }
        shared.spawns.clear();
        self.network.forget_events();
        let report = shared.exits.report(shared.workers.len());
        let fault = fault.or_else(|| (!report.is_clean()).then(|| report.to_string()));
        let lost_panic = self.network.nodes.lock().take_lost_panic();
        fault.or_else(|| lost_panic.filter(|_| !lost_panics))
    }

    fn drive(&mut self, end: Option<Instant>, done: &dyn Fn() -> bool) -> Driven {
        loop {
            let round = self.pass();
            if done() {
                return Driven::Done;
            }
            if end.is_some_and(|end| self.clock.now() >= end) {
                return Driven::TimeOut;
            }
            if round.busy {
                self.passes += 1;
                if (round.ran > 0 && round.ran == round.yielded) || self.passes > PASSES_AN_INSTANT {
                    self.clock.step(STEP);
                }
                continue;
            }
            self.passes = 0;
            match self.next_deadline().into_iter().chain(end).min() {
                None => return Driven::Stuck,
                // A hook that neither works nor moves its deadline must not stop the time.
                Some(deadline) if deadline <= self.clock.now() => self.clock.step(STEP),
                Some(deadline) => self.clock.advance_to(deadline),
            }
        }
    }

    /// Delivers what arrives now, and gives each worker a round, beginning with any.
    fn pass(&mut self) -> Round {
        let mut sum = Round { busy: self.network.advance(self.clock.now()) > 0, ..Round::default() };
        if let Some(crash) = node::take_crash() {
            self.workers.iter_mut().for_each(|worker| worker.crash(&crash));
            sum.busy = true;
        }
        let count = self.workers.len();
        let first = self.rng.usize(..count);
        for step in 0..count {
            let round = self.workers[(first + step) % count].round();
            sum.busy |= round.busy;
            sum.ran += round.ran;
            sum.yielded += round.yielded;
        }
        // What one worker gave to another that had its turn before waits in an inbox.
        sum.busy |= self.shared.workers.iter().any(|worker| worker.has_work()) || !self.shared.spawns.is_empty();
        sum
    }

    /// Who waits for what will never come, by node, then in the order of spawning.
    fn describe_dead_lock(&self) -> String {
        let now = self.clock.now();
        let mut parked = Vec::new();
        for worker in &self.workers {
            worker.inspect_started(|coroutine| {
                let node = node::name_of(coroutine.id);
                let mut text = match coroutine.name {
                    Some(name) => format!("coroutine '{name}'"),
                    None => format!("coroutine {}", coroutine.id),
                };
                if let Some((location, since)) = coroutine.parked_at {
                    text.push_str(&format!(" parked at {location} for {:?}", now - since));
                }
                if let Some(node) = &node {
                    text.push_str(&format!(", on node '{node}'"));
                }
                parked.push((node, coroutine.id, text));
            });
        }
        parked.sort();
        let parked: Vec<_> = parked.into_iter().map(|(_, _, text)| text).collect();
        format!("dead-lock at {now:?}, nothing can wake any of:\n  {}", parked.join("\n  "))
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.workers.iter().filter_map(Worker::next_deadline).chain(self.network.next_deadline()).min()
    }
}

#[cfg(test)]
mod tests;
