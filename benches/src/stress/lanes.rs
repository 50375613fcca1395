//! The lanes: what each passes or wakes, and how it knows that nothing was lost.
//!
//! A message carries its sender and its number there. A receiver checks that the numbers of a sender only grow; the lane, that as many
//! came as were sent, with the same sum. A lane ends early when it is told to, with the same checks.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use fastrand::Rng;
use weald_runtime::{
    Coroutine, Handle, JoinHandle,
    channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, bounded, oneshot, unbounded},
    time::Instant,
};

use super::{Meter, Options, Outcome};

/// How the names of lanes begin that count switches and not messages.
pub(super) const SWITCHES: &str = "switches";

pub(super) type Lane = Box<dyn FnOnce(&Handle, &Arc<Meter>) -> Result<Outcome> + Send>;

/// Messages between two looks at whether to stop, and between two reports of progress where messages are cheap.
const BATCH: u64 = 1024;
/// Messages that may wait in an unbounded channel before its senders let others run.
const BACKLOG: usize = 1 << 16;
const SENDER_SHIFT: u32 = 48;
const SENDERS: usize = 8;
const YIELDERS: u64 = 64;
const PAIRS: u64 = 512;
const THREAD_PAIRS: u64 = 4;
const TIMEOUT_PAIRS: u64 = 16;

/// Who stands at an end of a channel.
#[derive(Clone, Copy)]
struct Tasks {
    coroutines: usize,
    threads: usize,
}

const fn coroutines(coroutines: usize) -> Tasks {
    Tasks { coroutines, threads: 0 }
}

const MIXED: Tasks = Tasks { coroutines: 2, threads: 2 };

/// Name, quota and work of all lanes. The quotas of messages sum to what was asked for, or a little more: most go through the fast
/// channels, and at least a hundredth through each kind.
pub(super) fn plan(options: &Options) -> Vec<(String, u64, Lane)> {
    let mut lanes: Vec<(String, u64, Lane)> = Vec::new();
    let spread = |share: u64, of: u64| (of as u128 * u128::from(share)).div_ceil(10_000) as u64;
    let kinds = [
        ("bounded(256), 1 to 1", 2400, Some(256), coroutines(1), coroutines(1), false),
        ("bounded(256), 4 to 1", 1500, Some(256), coroutines(4), coroutines(1), false),
        ("bounded(256), 4 to 4", 1200, Some(256), coroutines(4), coroutines(4), false),
        ("unbounded, 1 to 1", 1700, None, coroutines(1), coroutines(1), false),
        ("unbounded, 4 to 1", 1000, None, coroutines(4), coroutines(1), false),
        ("unbounded, 4 to 4", 1000, None, coroutines(4), coroutines(4), false),
        ("bounded(256) across workers, 1 to 1", 250, Some(256), coroutines(1), coroutines(1), true),
        ("unbounded across workers, 1 to 1", 250, None, coroutines(1), coroutines(1), true),
        ("bounded(1), 1 to 1", 100, Some(1), coroutines(1), coroutines(1), false),
        ("bounded(1), 4 to 4", 100, Some(1), coroutines(4), coroutines(4), false),
        ("rendezvous, 1 to 1", 100, Some(0), coroutines(1), coroutines(1), false),
        ("rendezvous, 4 to 4", 100, Some(0), coroutines(4), coroutines(4), false),
        ("bounded(256) with threads, 4 to 4", 100, Some(256), MIXED, MIXED, true),
        ("unbounded with threads, 4 to 4", 100, None, MIXED, MIXED, true),
        ("bounded(1) with threads, 4 to 4", 2, Some(1), MIXED, MIXED, true),
        ("rendezvous with threads, 4 to 4", 2, Some(0), MIXED, MIXED, true),
    ];
    for (name, share, capacity, senders, receivers, across) in kinds {
        let quota = spread(share, options.messages);
        let lane: Lane = Box::new(move |handle, meter| messages(handle, meter, capacity, senders, receivers, across));
        lanes.push((name.to_owned(), quota, lane));
    }
    lanes.push(("oneshot".to_owned(), spread(100, options.messages), Box::new(oneshots)));
    let seed = options.seed;
    let timed: Lane = Box::new(move |handle, meter| timeouts(handle, meter, seed));
    lanes.push(("time-outs racing with messages".to_owned(), spread(5, options.messages), timed));
    lanes.push((format!("{SWITCHES}: yields"), spread(9_000, options.switches), Box::new(yields)));
    lanes.push((
        format!("{SWITCHES}: parks across workers"),
        spread(990, options.switches),
        Box::new(|handle, meter| parks(handle, meter, false)),
    ));
    lanes.push((
        format!("{SWITCHES}: parks with threads"),
        spread(10, options.switches),
        Box::new(|handle, meter| parks(handle, meter, true)),
    ));
    lanes
}

/// A task of either sort.
enum Task<T> {
    Coroutine(JoinHandle<T>),
    Thread(thread::JoinHandle<T>),
}

impl<T: Send + 'static> Task<T> {
    fn join(self) -> Result<T> {
        match self {
            Self::Coroutine(handle) => handle.join().map_err(|error| anyhow!("a coroutine: {error}")),
            Self::Thread(handle) => handle.join().map_err(|_| anyhow!("a thread panicked")),
        }
    }
}

/// Starts a task for each of `ends`; `first` is the worker of the first coroutine if they are to be spread over the workers.
fn start<E: Send + 'static, T: Send + 'static>(
    handle: &Handle,
    tasks: Tasks,
    first: Option<usize>,
    ends: Vec<E>,
    work: impl Fn(usize, E) -> T + Clone + Send + 'static,
) -> Result<Vec<Task<T>>> {
    let start = |(index, end): (usize, E)| {
        let work = work.clone();
        let task = move || work(index, end);
        Ok(if index >= tasks.coroutines {
            Task::Thread(thread::Builder::new().spawn(task)?)
        } else if let Some(first) = first {
            Task::Coroutine(handle.spawn_on((first + index) % handle.workers(), task))
        } else {
            Task::Coroutine(handle.spawn(task))
        })
    };
    ends.into_iter().enumerate().map(start).collect()
}

/// How many messages, and their sum.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Tally {
    count: u64,
    sum: u64,
}

impl Tally {
    fn add(&mut self, message: u64) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(message);
    }

    fn merge(self, other: Self) -> Self {
        Self { count: self.count + other.count, sum: self.sum.wrapping_add(other.sum) }
    }
}

fn messages(
    handle: &Handle,
    meter: &Arc<Meter>,
    capacity: Option<usize>,
    senders: Tasks,
    receivers: Tasks,
    across: bool,
) -> Result<Outcome> {
    let started = Instant::now();
    let (sender, receiver) = capacity.map_or_else(unbounded, bounded);
    let count = senders.coroutines + senders.threads;
    let each = meter.quota.div_ceil(count as u64);
    let own = Arc::clone(meter);
    // The second end begins on the other worker.
    let receiving = vec![receiver; receivers.coroutines + receivers.threads];
    let receiving = start(handle, receivers, across.then_some(1), receiving, move |_, receiver| receive_all(&receiver, &own))?;
    let own = Arc::clone(meter);
    let sending =
        start(handle, senders, across.then_some(0), vec![sender; count], move |index, sender| send_all(&sender, index, each, &own))?;
    let sent = sending.into_iter().map(Task::join).try_fold(Tally::default(), |all, tally| anyhow::Ok(all.merge(tally?)));
    let received =
        receiving.into_iter().map(|task| task.join().flatten()).try_fold(Tally::default(), |all, tally| anyhow::Ok(all.merge(tally?)))?;
    // A receiver that failed is why its senders did.
    let sent = sent?;
    ensure!(sent == received, "sent {sent:?}, received {received:?}");
    Ok(Outcome { operations: received.count, timeouts: 0, elapsed: started.elapsed() })
}

fn send_all(sender: &Sender<u64>, index: usize, count: u64, meter: &Meter) -> Tally {
    let mut tally = Tally::default();
    for number in 0..count {
        if number % BATCH == 0 {
            if meter.is_stopped() {
                break;
            }
            while sender.capacity().is_none() && sender.len() > BACKLOG {
                weald_runtime::yield_now();
            }
        }
        let message = (index as u64) << SENDER_SHIFT | number;
        sender.send(message).expect("receivers stay until all senders are gone");
        tally.add(message);
    }
    tally
}

fn receive_all(receiver: &Receiver<u64>, meter: &Meter) -> Result<Tally> {
    let (mut tally, mut next) = (Tally::default(), [0; SENDERS]);
    // Slow kinds report more often.
    let batch = if receiver.capacity().is_some_and(|capacity| capacity < 2) { 16 } else { BATCH };
    for message in receiver {
        let (sender, number) = ((message >> SENDER_SHIFT) as usize, message & ((1 << SENDER_SHIFT) - 1));
        let next = next.get_mut(sender).with_context(|| format!("message {message:#x} of nobody"))?;
        ensure!(number >= *next, "message {number} of sender {sender} came after {}", *next - 1);
        *next = number + 1;
        tally.add(message);
        if tally.count % batch == 0 {
            meter.add(batch);
        }
    }
    meter.add(tally.count % batch);
    Ok(tally)
}

/// Each request brings its own oneshot, over which its number comes back.
fn oneshots(handle: &Handle, meter: &Arc<Meter>) -> Result<Outcome> {
    let started = Instant::now();
    let (requests, asked) = bounded::<(u64, oneshot::Sender<u64>)>(16);
    let answering = start(handle, coroutines(2), Some(1), vec![asked; 2], |_, asked| {
        for (number, answer) in &asked {
            answer.send(!number).expect("whoever asks waits");
        }
    })?;
    let (each, own) = (meter.quota.div_ceil(2), Arc::clone(meter));
    let asking = start(handle, coroutines(2), Some(0), vec![requests; 2], move |_, requests| -> Result<u64> {
        for number in 0..each {
            if number % BATCH == 0 && own.is_stopped() {
                return Ok(number);
            }
            let (sender, receiver) = oneshot::channel();
            requests.send((number, sender)).map_err(|_| anyhow!("nobody answers"))?;
            ensure!(receiver.recv()? == !number, "the answer to {number} is another's");
            if number % 16 == 15 {
                own.add(16);
            }
        }
        own.add(each % 16);
        Ok(each)
    })?;
    let operations = asking.into_iter().map(|task| task.join().flatten()).sum::<Result<u64>>()?;
    answering.into_iter().try_for_each(Task::join)?;
    Ok(Outcome { operations, timeouts: 0, elapsed: started.elapsed() })
}

/// Both sides wait with short time-outs and pause at random. What timed out is tried again; every message must come once, in order.
fn timeouts(handle: &Handle, meter: &Arc<Meter>, seed: u64) -> Result<Outcome> {
    let started = Instant::now();
    let each = meter.quota.div_ceil(TIMEOUT_PAIRS);
    let mut pairs = Vec::new();
    for pair in 0..TIMEOUT_PAIRS {
        let (sender, receiver) = bounded(pair as usize % 3);
        let (own, mut rng) = (Arc::clone(meter), Rng::with_seed(seed ^ pair));
        let sending = handle.spawn_on(pair as usize % handle.workers(), move || {
            let mut missed = 0;
            for number in 0..each {
                if own.is_stopped() {
                    return Ok((number, missed));
                }
                let mut message = number;
                while let Err(error) = sender.send_timeout(message, pause(&mut rng)) {
                    let SendTimeoutError::Timeout(back) = error else { return Err(anyhow!("a send failed: {error}")) };
                    ensure!(back == number, "a send of {number} gave {back} back");
                    message = back;
                    missed += 1;
                }
            }
            Ok((each, missed))
        });
        let (own, mut rng) = (Arc::clone(meter), Rng::with_seed(!seed ^ pair));
        let receiving = handle.spawn_on((pair as usize + 1) % handle.workers(), move || {
            let (mut next, mut missed) = (0, 0);
            loop {
                match receiver.recv_timeout(pause(&mut rng)) {
                    Ok(number) => {
                        ensure!(number == next, "message {number} came instead of {next}");
                        next += 1;
                        own.add(1);
                    }
                    Err(RecvTimeoutError::Timeout) => missed += 1,
                    Err(RecvTimeoutError::Disconnected) => return Ok((next, missed)),
                    Err(error) => return Err(anyhow!("a receive failed: {error}")),
                }
            }
        });
        pairs.push((Task::Coroutine(sending), Task::Coroutine(receiving)));
    }
    let (mut operations, mut missed) = (0, 0);
    for (sending, receiving) in pairs {
        let (sent, received) = (sending.join()??, receiving.join()??);
        ensure!(sent.0 == received.0, "{} sent, {} received", sent.0, received.0);
        operations += received.0;
        missed += sent.1 + received.1;
    }
    Ok(Outcome { operations, timeouts: missed, elapsed: started.elapsed() })
}

/// A time-out; now and then after a sleep that lets the other side's pass.
fn pause(rng: &mut Rng) -> Duration {
    if rng.u8(..) < 16 {
        weald_runtime::sleep(Duration::from_micros(rng.u64(1..200)));
    }
    Duration::from_micros(rng.u64(0..100))
}

fn yields(handle: &Handle, meter: &Arc<Meter>) -> Result<Outcome> {
    let started = Instant::now();
    let (each, own) = (meter.quota.div_ceil(YIELDERS), Arc::clone(meter));
    let ends = vec![(); YIELDERS as usize];
    let yielding = start(handle, coroutines(ends.len()), Some(0), ends, move |_, ()| {
        for number in 0..each {
            if number % BATCH == BATCH - 1 {
                own.add(BATCH);
                if own.is_stopped() {
                    return number;
                }
            }
            weald_runtime::yield_now();
        }
        own.add(each % BATCH);
        each
    })?;
    let operations = yielding.into_iter().map(Task::join).sum::<Result<u64>>()?;
    Ok(Outcome { operations, timeouts: 0, elapsed: started.elapsed() })
}

/// Two tasks that wake each other in turn. Who is woken without its turn parks again; a wake-up that is lost stops the pair.
struct Pair {
    /// Even: the first's turn; odd: the second's. Release when a turn is given, acquire when it is taken.
    turn: AtomicU64,
    first: OnceLock<Coroutine>,
}

/// The turn that ends a pair early.
const ENDED: u64 = u64::MAX;

impl Pair {
    /// Parks until it is the turn of that parity; false at the end.
    fn wait(&self, parity: u64, end: u64) -> bool {
        loop {
            match self.turn.load(Ordering::Acquire) {
                ENDED => return false,
                turn if turn >= end => return false,
                turn if turn % 2 == parity => return true,
                _ => weald_runtime::park(),
            }
        }
    }

    fn lead(&self, second: &Coroutine, end: u64, meter: &Meter) -> u64 {
        let _ = self.first.set(weald_runtime::current());
        let mut own = 0;
        while self.wait(0, end) {
            if meter.is_stopped() {
                self.turn.store(ENDED, Ordering::Release);
                second.unpark();
                return own;
            }
            self.pass(second);
            own += 1;
            // This one's switch and the other's.
            meter.add(2);
        }
        own
    }

    fn follow(&self, end: u64) -> u64 {
        let mut own = 0;
        while self.wait(1, end) {
            self.pass(self.first.get().expect("the first set it before its first turn"));
            own += 1;
        }
        own
    }

    fn pass(&self, to: &Coroutine) {
        self.turn.fetch_add(1, Ordering::Release);
        to.unpark();
    }
}

fn parks(handle: &Handle, meter: &Arc<Meter>, with_threads: bool) -> Result<Outcome> {
    let started = Instant::now();
    let pairs = if with_threads { THREAD_PAIRS } else { PAIRS };
    let end = meter.quota.div_ceil(pairs).next_multiple_of(2);
    let mut tasks = Vec::new();
    for index in 0..pairs {
        let pair = Arc::new(Pair { turn: AtomicU64::new(0), first: OnceLock::new() });
        let following = Arc::clone(&pair);
        let worker = index as usize;
        let (second, known) = if with_threads {
            let (sender, receiver) = mpsc::channel();
            let thread = thread::Builder::new().spawn(move || {
                let _ = sender.send(weald_runtime::current());
                following.follow(end)
            })?;
            (Task::Thread(thread), receiver.recv()?)
        } else {
            let coroutine = handle.spawn_on(worker % handle.workers(), move || following.follow(end));
            let known = coroutine.coroutine();
            (Task::Coroutine(coroutine), known)
        };
        let own = Arc::clone(meter);
        tasks.push(Task::Coroutine(handle.spawn_on((worker + 1) % handle.workers(), move || pair.lead(&known, end, &own))));
        tasks.push(second);
    }
    let operations = tasks.into_iter().map(Task::join).sum::<Result<u64>>()?;
    ensure!(meter.is_stopped() || operations == end * pairs, "{operations} turns instead of {}", end * pairs);
    Ok(Outcome { operations, timeouts: 0, elapsed: started.elapsed() })
}
