//! The runtime under load, with every promise checked that a message, a wake-up or a destructor could break.
//!
//! `lanes` has the work: teams of coroutines and plain threads that pass messages or wake each other, all at once on one runtime. This file
//! starts them, watches them, and adds up. A lane that makes no progress while it has work left has lost a wake-up: the run ends with an
//! error, and its runtime is left as it is. At last coroutines parked in every way are unwound by a shutdown, and their drops counted.

mod lanes;
mod shutdown;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use weald_runtime::{Runtime, time::Instant};

/// Without progress for this long, a lane has lost a wake-up: far longer than any wait of it.
const STALLED: Duration = Duration::from_secs(10);
/// From one look at the lanes to the next.
const WATCH: Duration = Duration::from_millis(100);

/// How much of everything.
#[derive(Debug, Clone)]
pub struct Options {
    /// Messages through all channels together, at least; a few more, so that every kind has its part.
    pub messages: u64,
    /// Yields and parks across the workers.
    pub switches: u64,
    /// Coroutines that a shutdown unwinds.
    pub unwound: u64,
    /// Workers of the runtime.
    pub workers: usize,
    /// Seeds the runtime and the time-outs.
    pub seed: u64,
    /// Ends the lanes after this long, whatever is left of them.
    pub limit: Option<Duration>,
}

/// What was done.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// The run's seed.
    pub seed: u64,
    /// Workers of the runtime.
    pub workers: usize,
    /// Messages that went through channels; each was counted, and its order checked, by its receiver.
    pub messages: u64,
    /// Yields and parks.
    pub switches: u64,
    /// Waits that timed out, on either side, without losing a message.
    pub timeouts: u64,
    /// Coroutines unwound by the shutdown, each with its drops counted.
    pub unwound: u64,
    /// Time of the lanes, in seconds.
    pub seconds: f64,
    /// One entry a lane.
    pub lanes: Vec<LaneSummary>,
}

/// What one lane did.
#[derive(Debug, Serialize)]
pub struct LaneSummary {
    /// Kind of the lane.
    pub name: String,
    /// Messages or switches.
    pub operations: u64,
    /// Until its last one, in seconds.
    pub seconds: f64,
}

/// What a lane shows of itself while it runs.
struct Meter {
    name: String,
    /// Operations that it is to do.
    quota: u64,
    /// Operations done, a little behind.
    done: AtomicU64,
    /// Set once all its tasks are joined.
    ended: AtomicBool,
    /// It is to end early.
    stop: Arc<AtomicBool>,
}

impl Meter {
    // All orderings here are relaxed: the numbers publish nothing; what a lane's tasks return is published by their joins.
    fn add(&self, operations: u64) {
        self.done.fetch_add(operations, Ordering::Relaxed);
    }

    fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// What a lane's check came to.
struct Outcome {
    operations: u64,
    timeouts: u64,
    elapsed: Duration,
}

/// Runs everything; `progress` hears how many of how many operations are done.
///
/// # Errors
///
/// If a lane makes no progress, a message is lost, doubled or out of order, a destructor does not run, or a coroutine does not end. The
/// text names the seed. The process should end then: the runtime that failed still stands.
pub fn run(options: &Options, mut progress: impl FnMut(u64, u64)) -> Result<Summary> {
    let runtime =
        Runtime::builder().name("stress").workers(options.workers).seed(options.seed).build().context("cannot start the runtime")?;
    let stop = Arc::new(AtomicBool::new(false));
    let started = Instant::now();
    let lanes: Vec<_> = lanes::plan(options)
        .into_iter()
        .map(|(name, quota, lane)| {
            let meter = Arc::new(Meter { name, quota, done: AtomicU64::new(0), ended: AtomicBool::new(false), stop: Arc::clone(&stop) });
            let (own, handle) = (Arc::clone(&meter), runtime.handle());
            // A lane is led by a thread: it joins coroutines and threads alike, and its quota is done when it ends.
            let leader = thread::Builder::new().name(format!("lane {}", meter.name)).spawn(move || {
                let outcome = lane(&handle, &own);
                own.ended.store(true, Ordering::Relaxed);
                outcome
            });
            Ok((meter, leader.context("cannot start a thread")?))
        })
        .collect::<Result<_>>()?;
    let meters: Vec<_> = lanes.iter().map(|(meter, _)| Arc::clone(meter)).collect();
    if let Err(error) = watch(&meters, &stop, options.limit, started, &mut progress) {
        // Its drop would wait for coroutines that nothing wakes.
        std::mem::forget(runtime);
        return Err(error.context(format!("seed {}", options.seed)));
    }
    let seconds = started.elapsed().as_secs_f64();
    let mut summary = Summary {
        seed: options.seed,
        workers: options.workers,
        messages: 0,
        switches: 0,
        timeouts: 0,
        unwound: 0,
        seconds,
        lanes: Vec::new(),
    };
    for (meter, leader) in lanes {
        let failed = || format!("seed {}, lane {}", options.seed, meter.name);
        let outcome = leader.join().map_err(|_| anyhow::anyhow!("its leader panicked")).flatten().with_context(failed)?;
        if meter.name.starts_with(lanes::SWITCHES) {
            summary.switches += outcome.operations;
        } else {
            summary.messages += outcome.operations;
        }
        summary.timeouts += outcome.timeouts;
        summary.lanes.push(LaneSummary {
            name: meter.name.clone(),
            operations: outcome.operations,
            seconds: outcome.elapsed.as_secs_f64(),
        });
    }
    let report = runtime.shutdown(Duration::from_secs(5));
    ensure!(report.is_clean(), "seed {}: the runtime did not end: {report:?}", options.seed);
    summary.unwound = shutdown::unwind(options).with_context(|| format!("seed {}, shutdown", options.seed))?;
    Ok(summary)
}

/// Waits until all lanes have ended; the error is a lane that stands still, with the state of all.
fn watch(
    meters: &[Arc<Meter>],
    stop: &AtomicBool,
    limit: Option<Duration>,
    started: Instant,
    progress: &mut impl FnMut(u64, u64),
) -> Result<()> {
    let all = meters.iter().map(|meter| meter.quota).sum();
    let mut seen: Vec<_> = meters.iter().map(|_| (0, started)).collect();
    loop {
        weald_runtime::sleep(WATCH);
        progress(meters.iter().map(|meter| meter.done().min(meter.quota)).sum(), all);
        if limit.is_some_and(|limit| started.elapsed() >= limit) {
            stop.store(true, Ordering::Relaxed);
        }
        let now = Instant::now();
        for (meter, (done, at)) in meters.iter().zip(&mut seen) {
            if meter.done() != *done {
                (*done, *at) = (meter.done(), now);
            }
            if now - *at > STALLED && !meter.ended.load(Ordering::Relaxed) {
                bail!("lane {} stands still for {} s\n{}", meter.name, STALLED.as_secs(), state(meters));
            }
        }
        if meters.iter().all(|meter| meter.ended.load(Ordering::Relaxed)) {
            return Ok(());
        }
    }
}

fn state(meters: &[Arc<Meter>]) -> String {
    let lines = meters.iter().map(|meter| {
        let ended = if meter.ended.load(Ordering::Relaxed) { ", ended" } else { "" };
        format!("  {}: {} of {}{ended}\n", meter.name, meter.done(), meter.quota)
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_run_loses_nothing() {
        let options = Options { messages: 200_000, switches: 20_000, unwound: 500, workers: 2, seed: 7, limit: None };
        let mut last = (0, 0);
        let summary = run(&options, |done, all| last = (done, all)).unwrap();
        assert!(summary.messages >= options.messages, "{summary:?}");
        assert!(summary.switches >= options.switches, "{summary:?}");
        assert_eq!((summary.unwound, last.0), (500, last.1), "{summary:?}");
        assert!(summary.timeouts > 0, "no time-out raced with a message: {summary:?}");
    }

    #[test]
    fn a_limit_ends_it_early_with_all_sums_right() {
        let limit = Some(Duration::from_millis(200));
        let options = Options { messages: 1 << 40, switches: 1 << 40, unwound: 10, workers: 2, seed: 8, limit };
        let summary = run(&options, |_, _| {}).unwrap();
        assert!(summary.messages > 1_000 && summary.messages < 1 << 40, "{summary:?}");
    }

    #[test]
    fn a_lane_that_stands_still_is_named() {
        let meter = |name: &str| {
            let stop = Arc::new(AtomicBool::new(false));
            Arc::new(Meter { name: name.to_owned(), quota: 10, done: AtomicU64::new(3), ended: AtomicBool::new(false), stop })
        };
        let text = state(&[meter("one"), meter("other")]);
        assert_eq!(text, "  one: 3 of 10\n  other: 3 of 10\n");
    }
}
