//! The runtime beside its peers: may, tokio, smol, kanal, plain threads and Go, and a minimal scheduler as the floor.
//!
//! Every contestant runs in a process of its own (`child`), kept to as many processors as it has workers, and does the same work in its
//! own words (`blocking`, `asynchronous`, `floor`, Go's program), checking what came out of it. This file owns the order: for each
//! benchmark, number of operations fitted to the time of a sample, then rounds over all contestants in turn, each beginning with another
//! one. What came out is in `report`.

mod asynchronous;
mod benchmark;
mod blocking;
mod child;
mod contestant;
mod environment;
mod floor;
mod go;
mod may_side;
mod report;
mod sample;
mod smol_side;
mod threads_side;
mod tokio_side;
mod weald_side;

use std::time::Duration;

use anyhow::{Result, ensure};
use weald_runtime::time::Instant;

pub use self::{
    benchmark::{Benchmark, Better, Channel, Scale},
    child::{Launcher, serve},
    contestant::Contestant,
    report::{Environment, Goal, Ratio, Report, Row, Samples},
};
use self::{
    child::Child,
    go::Program,
    sample::{Answer, Request},
};

/// Tasks of the benchmark of yielding among others.
const YIELDERS: u64 = 1_000;
/// Time of a timer that does not fire during a benchmark.
const FAR: Duration = Duration::from_secs(10);
/// Turns of a sample of timers, of which the median one counts: other work on the processors falls on some.
const TIMER_TURNS: u64 = 20;
/// Bytes of a datagram of the echo.
const ECHO_SIZE: usize = 64;
/// Parked tasks of the idle runtime.
const IDLE_TASKS: u64 = 1_000;
/// From the last action to a measurement of what rests.
const SETTLING: Duration = Duration::from_millis(300);
/// Stack that coroutines use before they park, in bytes.
const TRIMMED_STACK: usize = 32 * 1024;
/// How long those coroutines are parked when they are weighed.
const TRIMMING: Duration = Duration::from_secs(5);
/// Tasks that every contestant can hold, for those that cannot hold a million: may needs two mappings each, of 65,530.
const FEWER_TASKS: u64 = 30_000;
/// A contestant whose sample takes longer gives one.
const SLOW: Duration = Duration::from_secs(3);

/// What to measure.
#[derive(Debug, Clone)]
pub struct Options {
    /// The peers, or only Weald and the floor.
    pub peers: bool,
    /// Short samples and smaller counts: coarse figures soon.
    pub quick: bool,
    /// Samples of each contestant.
    pub rounds: u32,
    /// Benchmarks, in the order of the table.
    pub benchmarks: Vec<Benchmark>,
}

/// What a run tells while it goes on.
#[derive(Debug, Clone, Copy)]
pub enum News<'a> {
    /// A sample is about to be taken.
    Sampling(Progress),
    /// A row of the report is there.
    Row(&'a Row),
}

/// How far a run has come.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Samples taken.
    pub done: u64,
    /// Samples in all.
    pub all: u64,
    /// What is being measured.
    pub benchmark: Benchmark,
    /// With how many workers.
    pub workers: usize,
    /// By whom.
    pub contestant: Contestant,
}

/// Measures. A peer that fails is noted in the report.
///
/// # Errors
///
/// If Weald or the floor fails, a contestant cannot be started, or Go is there and does not build its program.
pub fn measure(options: &Options, launcher: &Launcher, mut tell: impl FnMut(News<'_>)) -> Result<Report> {
    let started = Instant::now();
    ensure!(options.rounds > 0, "there is nothing to tell of no rounds");
    let processors = std::thread::available_parallelism()?.get();
    let go = if options.peers { Program::build()? } else { None };
    let contestants: Vec<_> = Contestant::ALL
        .into_iter()
        .filter(|contestant| options.peers || matches!(contestant, Contestant::Weald | Contestant::Floor))
        .collect();
    let plan: Vec<_> = options
        .benchmarks
        .iter()
        .flat_map(|benchmark| benchmark.workers().iter().map(|workers| (*benchmark, *workers)))
        .filter(|(_, workers)| *workers <= processors)
        .collect();
    let all = plan
        .iter()
        .map(|(benchmark, _)| contestants.len() as u64 * u64::from(rounds(*benchmark, options) + 1 - first_round(*benchmark)))
        .sum();
    let mut done = 0;
    let mut rows = Vec::new();
    for (benchmark, workers) in plan {
        let mut race = Race { benchmark, workers, launcher, go: go.as_ref(), quick: options.quick };
        let mut lanes: Vec<_> = contestants.iter().map(|contestant| Lane::new(*contestant, benchmark.fixed_count(options.quick))).collect();
        for round in first_round(benchmark)..=rounds(benchmark, options) {
            for index in 0..lanes.len() {
                // Each round begins with another one, so that nobody always follows the same neighbour.
                let turn = (index + round as usize) % lanes.len();
                let lane = &mut lanes[turn];
                tell(News::Sampling(Progress { done, all, benchmark, workers, contestant: lane.contestant }));
                race.sample(lane, round)?;
                done += 1;
            }
        }
        for figure in 0..benchmark.figures().len() {
            let samples = lanes.iter().map(|lane| (lane.contestant, lane.samples(workers, figure)));
            rows.push(Row::new(benchmark, workers, figure, samples.collect()));
            tell(News::Row(&rows[rows.len() - 1]));
        }
    }
    let environment = environment::read(processors, go.as_ref().map(|program| program.version.clone()))?;
    Ok(Report { environment, rounds: options.rounds, quick: options.quick, seconds: started.elapsed().as_secs_f64(), rows })
}

/// Rounds that count: fewer where a sample takes seconds by its nature.
fn rounds(benchmark: Benchmark, options: &Options) -> u32 {
    match benchmark {
        Benchmark::Memory | Benchmark::MemoryTrimmed => options.rounds.min(2),
        Benchmark::IdleCpu => options.rounds.min(3),
        _ => options.rounds,
    }
}

/// Round 0 fits the count and warms a process up; it is left out where each sample has a process of its own and a given count.
fn first_round(benchmark: Benchmark) -> u32 {
    u32::from(benchmark.uses_up_its_process())
}

/// One contestant in one benchmark.
struct Lane {
    contestant: Contestant,
    child: Option<Child>,
    /// Operations of a sample: given, or fitted in round 0.
    count: u64,
    /// One entry a round.
    taken: Vec<Vec<f64>>,
    fewer_tasks: Option<u64>,
    note: Option<String>,
    /// It takes no further samples.
    ended: bool,
}

impl Lane {
    fn new(contestant: Contestant, count: u64) -> Self {
        Self { contestant, child: None, count, taken: Vec::new(), fewer_tasks: None, note: None, ended: false }
    }

    fn end(&mut self, note: impl Into<String>) {
        self.child = None;
        self.note = Some(note.into());
        self.ended = true;
    }

    fn samples(&self, workers: usize, figure: usize) -> Samples {
        let mut samples =
            Samples::new(self.contestant, workers, self.taken.iter().filter_map(|figures| figures.get(figure).copied()).collect());
        samples.fewer_tasks = self.fewer_tasks;
        samples.note.clone_from(&self.note);
        samples
    }
}

/// One benchmark with one number of workers.
struct Race<'a> {
    benchmark: Benchmark,
    workers: usize,
    launcher: &'a Launcher,
    go: Option<&'a Program>,
    quick: bool,
}

impl Race<'_> {
    /// Takes a sample. That of round 0 fits the count and warms up, and counts only for who is slow.
    fn sample(&mut self, lane: &mut Lane, round: u32) -> Result<()> {
        if lane.ended {
            return Ok(());
        }
        if lane.contestant == Contestant::Go && self.go.is_none() {
            lane.end("not installed");
            return Ok(());
        }
        let started = Instant::now();
        let answer =
            if round == 0 { self.fit(lane) } else { self.ask(lane, lane.count).map(|answer| answer.map(|answer| (answer, lane.count))) };
        match answer {
            Ok(Some((answer, count))) => {
                lane.count = count;
                let slow = started.elapsed() > SLOW && self.benchmark.scale() != Scale::Reported;
                if round > 0 || slow {
                    lane.taken.push(self.figures(&answer));
                }
                if slow {
                    lane.child = None;
                    lane.ended = true;
                    lane.note = Some("slow: one sample".to_owned());
                }
            }
            Ok(None) => lane.end("has no such thing"),
            Err(error) if matches!(lane.contestant, Contestant::Weald | Contestant::Floor) => {
                return Err(error.context(format!("{}: {}, {} workers", lane.contestant, self.benchmark, self.workers)));
            }
            Err(error) if lane.fewer_tasks.is_none() && self.benchmark == Benchmark::Memory && !self.quick => {
                tracing::info!(contestant = %lane.contestant, %error, "trying fewer tasks");
                lane.child = None;
                lane.fewer_tasks = Some(FEWER_TASKS);
                lane.count = FEWER_TASKS;
                return self.sample(lane, round);
            }
            Err(error) => lane.end(format!("failed: {error:#}")),
        }
        Ok(())
    }

    /// Looks for the number of operations that fills a sample; `None` if the contestant has no means to do the benchmark.
    fn fit(&self, lane: &mut Lane) -> Result<Option<(Answer, u64)>> {
        if matches!(self.benchmark.scale(), Scale::Seconds | Scale::Reported) {
            return Ok(self.ask(lane, lane.count)?.map(|answer| (answer, lane.count)));
        }
        let target = Duration::from_millis(if self.quick { 20 } else { 100 });
        let mut count = 1_000;
        loop {
            let Some(answer) = self.ask(lane, count)? else { return Ok(None) };
            if answer.elapsed >= target / 4 {
                let fitted = count as f64 * target.as_secs_f64() / answer.elapsed.as_secs_f64();
                return Ok(Some((answer, (fitted as u64).max(1_000))));
            }
            // Eight times more, unless that is sure to be too many.
            let most = target.as_nanos() as u64 * count / (answer.elapsed.as_nanos() as u64).max(1);
            count = most.clamp(count * 2, count * 8);
        }
    }

    fn ask(&self, lane: &mut Lane, count: u64) -> Result<Option<Answer>> {
        let program = (lane.contestant == Contestant::Go).then(|| self.go.map(Program::path)).flatten();
        let child = match &mut lane.child {
            Some(child) => child,
            empty => empty.insert(Child::start(self.launcher, lane.contestant, self.workers, program.as_deref())?),
        };
        let limit = Duration::from_secs(if self.quick { 30 } else { 90 });
        let answer = child.ask(Request { benchmark: self.benchmark, count }, limit);
        if self.benchmark.uses_up_its_process() || answer.is_err() {
            lane.child = None;
        }
        let answer = answer?;
        if let Some(answer) = &answer {
            let expected = if self.benchmark.scale() == Scale::Reported { self.benchmark.figures().len() } else { 0 };
            ensure!(answer.figures.len() == expected, "{} figures instead of {expected}", answer.figures.len());
        }
        Ok(answer)
    }

    fn figures(&self, answer: &Answer) -> Vec<f64> {
        let (operations, seconds) = (answer.operations as f64, answer.elapsed.as_secs_f64());
        match self.benchmark.scale() {
            Scale::Nanoseconds => vec![seconds * 1e9 / operations],
            Scale::MillionsPerSecond => vec![operations / seconds / 1e6],
            Scale::ThousandsPerSecond => vec![operations / seconds / 1e3],
            Scale::Seconds => vec![seconds],
            Scale::Reported => answer.figures.clone(),
        }
    }
}
