//! Owns the dump of a runtime: every coroutine by state and place, and the workers that hold them.
//!
//! It does not own the way to a worker (`scheduler::shared`), nor what a task tells of itself (`task::inspect`). Each worker looks
//! at its own coroutines, between two of them, and answers; who asked waits.
//!
//! A process that stands still, or only its core, is looked at with gdb: `source runtime/gdb/weald.py` in the repository, then `weald
//! coroutines` lists those that have started, and `weald coroutine NUMBER bt` prints the backtrace of a parked one. It needs no debug
//! information. Of cores it needs those that the kernel writes: gdb's own lack the stacks.
//!
//! Invariants:
//! - The memory of a dump does not grow with the number of coroutines: they are counted by state and place, and each such group
//!   keeps [`INDIVIDUALS`] of its members at most.
//! - An answer that comes too late finds the request closed, and is not made.

mod jobs;

pub use self::jobs::JobGroup;
pub use crate::park::WaitsFor;

use std::collections::BTreeMap;
use std::fmt;
use std::panic::Location;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use crate::Handle;
use crate::park::{self, Waiter};
use crate::primitive::{Condvar, Mutex};
use crate::scheduler::counters::NOBODY;
use crate::scheduler::current::{self, Local, Place};
use crate::scheduler::probe::{Probed, probe};
use crate::scheduler::{Command, Phase, Shared, WorkerShared};
use crate::sim::node;
use crate::task::TaskPtr;
use crate::time::Instant;

/// Members of a group that are described one by one.
pub const INDIVIDUALS: usize = 100;
/// How long a worker may take until it begins to answer; one that is longer in a coroutine, or waits so long for a processor, is
/// reported as stuck.
const BEGIN_TIME: Duration = Duration::from_millis(100);
/// How long an answer may take; see [`Handle::dump`] for what it costs.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// What the coroutines of a runtime were doing, as of one moment a worker. [`Handle::dump`] makes it.
///
/// Displayed it is text: a line for each group, then a paragraph for each coroutine, up to [`INDIVIDUALS`] of a group.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Dump {
    /// The runtime has ended: its workers have nothing to answer any more.
    pub ended: bool,
    /// One for each worker, in their order.
    pub workers: Vec<WorkerDump>,
    /// Coroutines that no worker has taken yet: they were spawned, and are counted only.
    pub not_taken: usize,
    /// All coroutines that have a worker, by what they do and where; the largest group first.
    pub groups: Vec<Group>,
    /// Up to [`INDIVIDUALS`] coroutines of each group, by their numbers.
    pub coroutines: Vec<CoroutineDump>,
    /// [Blocking jobs](crate::unblock), by the call; the largest group first. Those too whose coroutine has left them.
    pub jobs: Vec<JobGroup>,
}

/// A worker, as of its answer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WorkerDump {
    /// Its number, counted from zero.
    pub index: usize,
    /// False: the worker did not answer within 100 ms, and its coroutines are missing. A coroutine holds it that neither parks nor
    /// yields, or the system gave it no processor.
    pub answered: bool,
    /// The coroutine that holds a worker which did not answer.
    pub held_by: Option<HeldBy>,
    /// Its coroutines, those included that have not run but can run nowhere else.
    pub coroutines: usize,
}

/// A coroutine that holds its worker, and what is known of it from outside.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HeldBy {
    /// Its number.
    pub id: u64,
    /// Its name, up to 64 octets of it. This and the following are known only in a runtime that has a
    /// [watchdog](crate::RuntimeBuilder::watchdog), which may interrupt the worker's thread.
    pub name: Option<String>,
    /// Where it was spawned.
    pub spawned_at: Option<&'static Location<'static>>,
    /// The functions on its stack, the innermost first.
    pub trace: Vec<String>,
}

/// What a coroutine does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum CoroutineState {
    /// It runs: it is the one that made the dump.
    Running,
    /// It can run, and waits for its turn.
    Runnable,
    /// It waits in a blocking call.
    Parked,
    /// It has not run yet.
    Unstarted,
}

/// Coroutines in the same state at the same place.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Group {
    /// What they do.
    pub state: CoroutineState,
    /// The blocking call that they are in, or, being runnable, were woken from; `None` for those that are in none.
    pub parked_at: Option<&'static Location<'static>>,
    /// What that call waits for.
    pub waits_for: Option<WaitsFor>,
    /// Where those that are in no blocking call were spawned.
    pub spawned_at: Option<&'static Location<'static>>,
    /// How many they are.
    pub count: usize,
    /// How long the one that is parked the longest has been.
    pub longest: Option<Duration>,
    /// The call is [`unblock`](crate::unblock), or one of its like.
    pub in_unblock: bool,
}

/// One coroutine.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CoroutineDump {
    /// Its number, as [`Coroutine::id`](crate::Coroutine::id) gives it.
    pub id: u64,
    /// The name given by [`Builder::name`](crate::Builder::name).
    pub name: Option<String>,
    /// The name of the [node](crate::sim::Node) that it belongs to, in a simulation.
    pub node: Option<String>,
    /// What it does.
    pub state: CoroutineState,
    /// The worker that it is pinned to.
    pub worker: usize,
    /// The blocking call that it is in, or was woken from and has not returned from: the caller's line.
    pub parked_at: Option<&'static Location<'static>>,
    /// What that call waits for.
    pub waits_for: Option<WaitsFor>,
    /// The time since it parked there, by the worker's clock, which is late by what the coroutine had run before.
    pub parked_for: Option<Duration>,
    /// Where it was spawned: the caller's line.
    pub spawned_at: Option<&'static Location<'static>>,
    /// It waits for a [blocking job](crate::unblock).
    pub in_unblock: bool,
    /// It is in a call that a cancellation does not end.
    pub shielded: bool,
    /// It was cancelled: blocking calls return errors.
    pub cancelled: bool,
    /// Its stack, if it has run.
    pub stack: Option<StackUse>,
}

/// What a coroutine's stack takes, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StackUse {
    /// In use at its last park; zero if it has never parked.
    pub used: usize,
    /// Spent memory: whole pages, as deep as the stack has been since they were last given back.
    pub resident: usize,
    /// As much as it can use.
    pub size: usize,
}

impl Handle {
    /// Asks every worker what its coroutines do, from a coroutine or a plain thread, while they run.
    ///
    /// A coroutine that asks is itself described as running. Each worker looks between two coroutines; one that does not come to it within
    /// 100 ms is reported as such, without its coroutines. The look takes 0.2 us of the worker's time a coroutine where there are 100,000
    /// (`cargo run --release -p weald-benches --bin ablation` in the repository). In a [hook](crate::Hook), in
    /// [`on_worker_stack`](crate::on_worker_stack) and while a panic unwinds the call blocks its worker for that time.
    ///
    /// ```
    /// use weald_runtime::{Handle, channel, dump::CoroutineState, run, spawn, yield_now};
    ///
    /// run(|| {
    ///     let (sender, receiver) = channel::bounded::<u32>(1);
    ///     let waiting = spawn(move || receiver.recv());
    ///     let handle = Handle::current().expect("inside of a runtime");
    ///     let at = loop {
    ///         let dump = handle.dump();
    ///         match dump.groups.iter().find(|group| group.state == CoroutineState::Parked) {
    ///             Some(group) => break group.parked_at,
    ///             None => yield_now(),
    ///         }
    ///     };
    ///     assert_eq!(at.map(|at| at.file()), Some(file!()));
    ///     drop(sender);
    ///     assert!(waiting.join().expect("no panic").is_err());
    /// });
    /// ```
    #[must_use]
    #[track_caller]
    pub fn dump(&self) -> Dump {
        take(&self.shared)
    }
}

#[track_caller]
fn take(shared: &Arc<Shared>) -> Dump {
    let request = Arc::new(Request {
        asker: Asker::current(),
        answers: Mutex::new(Answers { closed: false, workers: shared.workers.iter().map(|_| Answer::None).collect() }),
    });
    // No other request's while this one is there.
    let number = Arc::as_ptr(&request).addr();
    let own = current::with(|local| {
        let local = local.filter(|local| Arc::ptr_eq(&local.shared, shared))?;
        request.answer(local);
        Some(local.worker.index)
    });
    // A stopped runtime has no worker that could answer.
    let ended = shared.phase() == Phase::Stopped;
    if !ended {
        for worker in shared.workers.iter().filter(|worker| Some(worker.index) != own) {
            let request = Arc::clone(&request);
            worker.command(Command::Inspect(number, Box::new(move |local| request.answer(local))));
        }
        request.wait();
    }
    let sections = request.close();
    for (_, silent) in sections.iter().zip(&shared.workers).filter(|(section, _)| section.is_none()) {
        silent.withdraw(number);
    }
    let mut dump = Dump::merge(sections, shared.spawns.len());
    dump.ended = ended;
    if let Some(pool) = &shared.blocking {
        dump.add_jobs(pool);
    }
    for (silent, worker) in dump.workers.iter_mut().zip(&shared.workers).filter(|(silent, _)| !silent.answered) {
        silent.held_by = HeldBy::of(worker);
    }
    dump
}

/// A question to all workers.
struct Request {
    asker: Asker,
    answers: Mutex<Answers>,
}

struct Answers {
    /// Nobody waits any more.
    closed: bool,
    workers: Vec<Answer>,
}

enum Answer {
    None,
    Begun,
    Done(Section),
}

/// How the one who asks waits.
enum Asker {
    Parks(Waiter),
    /// On a worker's own stack, inside of a `no_park`, and while unwinding, where a coroutine cannot be left.
    Blocks(Condvar),
}

impl Asker {
    fn current() -> Self {
        match current::place() {
            Place::WorkerStack | Place::NoPark(_) => Self::Blocks(Condvar::new()),
            Place::Coroutine if std::thread::panicking() => Self::Blocks(Condvar::new()),
            Place::Coroutine | Place::Thread => Self::Parks(Waiter::current()),
        }
    }

    fn wake(&self) {
        match self {
            Self::Parks(waiter) => waiter.unpark(),
            Self::Blocks(condvar) => condvar.notify_one(),
        }
    }
}

impl Request {
    /// On a worker: looks at its coroutines, unless it is too late.
    fn answer(&self, local: &Local) {
        let index = local.worker.index;
        {
            let mut answers = self.answers.lock();
            if answers.closed {
                return;
            }
            answers.workers[index] = Answer::Begun;
        }
        let section = Section::of(local);
        self.answers.lock().workers[index] = Answer::Done(section);
        self.asker.wake();
    }

    /// Waits for the answers, for those that have not begun only for a while.
    #[track_caller]
    fn wait(&self) {
        let start = Instant::now();
        loop {
            let deadline = {
                let answers = self.answers.lock();
                if answers.workers.iter().all(|answer| matches!(answer, Answer::Done(_))) {
                    break;
                }
                let begun = answers.workers.iter().any(|answer| matches!(answer, Answer::Begun));
                let begin = start + BEGIN_TIME;
                if !begun || Instant::now() < begin { begin } else { start + ANSWER_TIME }
            };
            if Instant::now() >= deadline {
                break;
            }
            match &self.asker {
                Asker::Parks(_) => _ = park::park_shielded_until(Some(deadline)),
                Asker::Blocks(condvar) => {
                    let answers = self.answers.lock();
                    if !answers.workers.iter().all(|answer| matches!(answer, Answer::Done(_))) {
                        drop(condvar.wait_timeout(answers, deadline - Instant::now()));
                    }
                }
            }
        }
    }

    fn close(&self) -> Vec<Option<Section>> {
        let mut answers = self.answers.lock();
        answers.closed = true;
        std::mem::take(&mut answers.workers)
            .into_iter()
            .map(|answer| match answer {
                Answer::Done(section) => Some(section),
                Answer::None | Answer::Begun => None,
            })
            .collect()
    }
}

/// One worker's answer.
#[derive(Default)]
struct Section {
    coroutines: usize,
    /// By address of the locations, which compare faster than their text; the same place may have several.
    groups: BTreeMap<(CoroutineState, usize), Members>,
}

struct Members {
    group: Group,
    individuals: Vec<CoroutineDump>,
}

impl Section {
    fn of(local: &Local) -> Self {
        let mut section = Self::default();
        let now = Instant::now();
        local.commit_last();
        let running = local.running.get();
        local.started.for_each(|task| {
            let runs = running == Some(task);
            section.add(task, runs.then_some(CoroutineState::Running), local.worker.index, now);
        });
        local.queue.for_each(|task| {
            if !task.is_started() {
                section.add(task, Some(CoroutineState::Unstarted), local.worker.index, now);
            }
        });
        section
    }

    fn add(&mut self, task: TaskPtr, state: Option<CoroutineState>, worker: usize, now: Instant) {
        self.coroutines += 1;
        let seen = task.inspect();
        let state = state.unwrap_or(if seen.parked { CoroutineState::Parked } else { CoroutineState::Runnable });
        let parked_at = seen.parked_at.map(|(location, _)| location);
        let parked_for = seen.parked_at.map(|(_, since)| now.saturating_duration_since(since));
        let place = parked_at.or(seen.spawned_at);
        let members = self.groups.entry((state, place.map_or(0, |place| ptr::from_ref(place).addr()))).or_insert_with(|| {
            let spawned_at = if parked_at.is_some() { None } else { seen.spawned_at };
            let group = Group { state, parked_at, waits_for: seen.waits_for, spawned_at, count: 0, longest: None, in_unblock: false };
            Members { group, individuals: Vec::new() }
        });
        members.group.count += 1;
        members.group.longest = members.group.longest.max(parked_for);
        if members.individuals.len() < INDIVIDUALS {
            members.individuals.push(CoroutineDump {
                id: seen.id,
                name: seen.name.map(str::to_owned),
                node: node::name_of(seen.id).map(|name| name.as_ref().to_owned()),
                state,
                worker,
                parked_at,
                waits_for: seen.waits_for,
                parked_for,
                spawned_at: seen.spawned_at,
                in_unblock: false,
                shielded: seen.shielded,
                cancelled: seen.cancelled,
                stack: seen.stack.map(|(bounds, stack_pointer)| StackUse {
                    used: bounds.used(stack_pointer),
                    resident: bounds.resident(),
                    size: bounds.usable(),
                }),
            });
        }
    }
}

impl HeldBy {
    fn of(worker: &WorkerShared) -> Option<Self> {
        let id = worker.counters.running.get();
        match probe(worker) {
            Some(Probed { id, name, spawned_at, trace }) => Some(Self { id, name, spawned_at, trace }),
            None => (id != NOBODY).then_some(Self { id, name: None, spawned_at: None, trace: Vec::new() }),
        }
    }
}

impl Dump {
    fn merge(sections: Vec<Option<Section>>, not_taken: usize) -> Self {
        let workers = sections.iter().enumerate().map(|(index, section)| WorkerDump {
            index,
            answered: section.is_some(),
            held_by: None,
            coroutines: section.as_ref().map_or(0, |section| section.coroutines),
        });
        let workers = workers.collect();
        let mut merged = BTreeMap::<_, Members>::new();
        for (_, members) in sections.into_iter().flatten().flat_map(|section| section.groups) {
            let Group { state, parked_at, spawned_at, count, longest, .. } = members.group;
            match merged.get_mut(&(state, parked_at, spawned_at)) {
                None => {
                    merged.insert((state, parked_at, spawned_at), members);
                }
                Some(present) => {
                    present.group.count += count;
                    present.group.longest = present.group.longest.max(longest);
                    let room = INDIVIDUALS - present.individuals.len();
                    present.individuals.extend(members.individuals.into_iter().take(room));
                }
            }
        }
        let (mut groups, individuals): (Vec<_>, Vec<_>) = merged.into_values().map(|members| (members.group, members.individuals)).unzip();
        groups.sort_by_key(|group| std::cmp::Reverse(group.count));
        let mut coroutines = individuals.concat();
        coroutines.sort_by_key(|coroutine| (coroutine.state, coroutine.id));
        Self { workers, not_taken, groups, coroutines, jobs: Vec::new(), ended: false }
    }

    /// How many coroutines there are, less those of workers that did not answer.
    #[must_use]
    pub fn count(&self) -> usize {
        self.not_taken + self.workers.iter().map(|worker| worker.coroutines).sum::<usize>()
    }
}

impl fmt::Display for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ended {
            writeln!(f, "the runtime has ended")?;
            let held = self.workers.iter().filter_map(|worker| Some((worker.index, worker.held_by.as_ref()?)));
            for (worker, held_by) in held {
                write!(f, "worker {worker} has not\n{held_by}")?;
            }
            return Ok(());
        }
        writeln!(f, "{} coroutines on {} workers", self.count(), self.workers.len())?;
        for worker in self.workers.iter().filter(|worker| !worker.answered) {
            writeln!(f, "worker {} did not answer, and its coroutines are missing", worker.index)?;
            if let Some(held_by) = &worker.held_by {
                write!(f, "{held_by}")?;
            }
        }
        for group in &self.groups {
            writeln!(f, "{group}")?;
        }
        if self.not_taken > 0 {
            writeln!(f, "{:>9} not started, and not taken by a worker", self.not_taken)?;
        }
        for group in &self.jobs {
            writeln!(f, "{group}")?;
        }
        for coroutine in &self.coroutines {
            write!(f, "\n{coroutine}")?;
        }
        let left = self.workers.iter().map(|worker| worker.coroutines).sum::<usize>() - self.coroutines.len();
        if left > 0 {
            writeln!(f, "\nand {left} more in the groups above")?;
        }
        Ok(())
    }
}

impl fmt::Display for HeldBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "    held by coroutine {}", self.id)?;
        if let Some(name) = &self.name {
            write!(f, " '{name}'")?;
        }
        writeln!(f)?;
        for line in &self.trace {
            writeln!(f, "        {line}")?;
        }
        if let Some(at) = self.spawned_at {
            writeln!(f, "        spawned at {at}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>9} {}{}", self.count, self.state, if self.in_unblock { " in unblock" } else { "" })?;
        match (self.parked_at, self.spawned_at) {
            (Some(at), _) if self.state == CoroutineState::Parked => {
                write!(f, " at {at}{}", Reason(self.waits_for.filter(|_| !self.in_unblock), " (", ")"))?
            }
            (Some(at), _) => write!(f, ", in a call at {at}")?,
            (None, Some(at)) => write!(f, ", spawned at {at}")?,
            (None, None) => {}
        }
        if let Some(longest) = self.longest {
            write!(f, ", for up to {}", Rounded(longest))?;
        }
        Ok(())
    }
}

impl fmt::Display for CoroutineDump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "coroutine {}", self.id)?;
        if let Some(name) = &self.name {
            write!(f, " '{name}'")?;
        }
        write!(f, " [{}", self.state)?;
        if let Some(time) = self.parked_for {
            write!(f, " {}", Rounded(time))?;
        }
        if self.in_unblock {
            f.write_str(", in unblock")?;
        } else if self.state == CoroutineState::Parked {
            Reason(self.waits_for, ", ", "").fmt(f)?;
        }
        write!(f, ", worker {}", self.worker)?;
        if let Some(node) = &self.node {
            write!(f, ", node '{node}'")?;
        }
        if self.shielded {
            f.write_str(", not cancellable")?;
        }
        if self.cancelled {
            f.write_str(", cancelled")?;
        }
        writeln!(f, "]")?;
        if let Some(at) = self.parked_at {
            writeln!(f, "    at {at}")?;
        }
        if let Some(at) = self.spawned_at {
            writeln!(f, "    spawned at {at}")?;
        }
        if let Some(StackUse { used, resident, size }) = self.stack {
            writeln!(f, "    stack: {used} bytes used, {} KiB resident, of {} KiB", resident / 1024, size / 1024)?;
        }
        Ok(())
    }
}

impl fmt::Display for CoroutineState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Runnable => "runnable",
            Self::Parked => "parked",
            Self::Unstarted => "not started",
        })
    }
}

/// What is waited for, if that is known, between two texts.
struct Reason(Option<WaitsFor>, &'static str, &'static str);

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self(None | Some(WaitsFor::Other), ..) => Ok(()),
            Self(Some(waits_for), before, after) => write!(f, "{before}{waits_for}{after}"),
        }
    }
}

/// A time without digits that nobody reads.
struct Rounded(Duration);

impl fmt::Display for Rounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            0 => write!(f, "{}ms", self.0.as_millis()),
            seconds @ 1..60 => write!(f, "{seconds}.{}s", self.0.subsec_millis() / 100),
            seconds @ 60..3600 => write!(f, "{}m{}s", seconds / 60, seconds % 60),
            seconds => write!(f, "{}h{}m", seconds / 3600, seconds / 60 % 60),
        }
    }
}
