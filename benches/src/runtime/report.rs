//! What came out: statistics of the samples, ratios to the best peer and to the floor, and whether the aims are reached.

use std::fmt;

use serde::Serialize;

use super::{
    benchmark::{Aim, Benchmark, Better, Figure},
    contestant::Contestant,
};
use crate::quic::median;

/// Everything that one run measured.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Where and with what.
    pub environment: Environment,
    /// Samples asked of each contestant; slow ones give fewer.
    pub rounds: u32,
    /// Whether the samples were short and the counts small.
    pub quick: bool,
    /// How long the run took.
    pub seconds: f64,
    /// One entry a benchmark, number of workers and figure.
    pub rows: Vec<Row>,
}

/// Where and with what a run measured.
#[derive(Debug, Serialize)]
pub struct Environment {
    /// Processors that the run could use.
    pub processors: usize,
    /// What the processor calls itself.
    pub processor: String,
    /// The kernel's release.
    pub kernel: String,
    /// Whether the program was built with optimisations.
    pub optimised: bool,
    /// Versions of all that took part.
    pub versions: Vec<(String, String)>,
}

/// One figure of a benchmark.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Its name on the command line.
    pub benchmark: &'static str,
    /// Its name for readers.
    pub title: &'static str,
    /// Its heading.
    pub group: &'static str,
    /// Workers, and processors that the contestants were kept to.
    pub workers: usize,
    /// Which figure; empty if the benchmark has one only.
    pub figure: &'static str,
    /// Unit of the samples.
    pub unit: &'static str,
    /// Which way it is better.
    pub better: Better,
    /// One entry a contestant that took part, in the order of [`Contestant::ALL`].
    pub contestants: Vec<Samples>,
    /// The peer with the best median.
    pub best_peer: Option<&'static str>,
    /// Weald's cost over the best peer's: below 1 it is better.
    pub to_best_peer: Option<Ratio>,
    /// Weald's cost over the floor's.
    pub to_floor: Option<Ratio>,
    /// What Weald is to reach here.
    pub goals: Vec<Goal>,
}

/// The samples of one contestant.
#[derive(Debug, Clone, Serialize)]
pub struct Samples {
    /// Its name.
    pub contestant: &'static str,
    /// In which form it took part.
    pub form: &'static str,
    /// Tasks, if they were fewer than asked for because it could not hold as many.
    pub fewer_tasks: Option<u64>,
    /// Why there are no samples, or fewer.
    pub note: Option<String>,
    /// In the order of the rounds.
    pub samples: Vec<f64>,
    /// Median of the samples.
    pub median: Option<f64>,
    /// The least.
    pub min: Option<f64>,
    /// The greatest.
    pub max: Option<f64>,
}

/// A cost over another one, round by round.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Ratio {
    /// Median of the rounds.
    pub median: f64,
    /// The best round.
    pub min: f64,
    /// The worst round.
    pub max: f64,
}

/// An aim and what was reached of it.
#[derive(Debug, Serialize)]
pub struct Goal {
    /// The aim in words.
    pub aim: String,
    /// What it bounds: a ratio, or the figure itself.
    pub value: f64,
    /// The bound.
    pub limit: f64,
    /// Whether the value is within it.
    pub reached: bool,
}

impl Samples {
    /// Statistics of `samples`.
    pub(super) fn new(contestant: Contestant, workers: usize, samples: Vec<f64>) -> Self {
        let some = |value: f64| (!samples.is_empty()).then_some(value);
        Self {
            contestant: contestant.name(),
            form: contestant.form(workers),
            fewer_tasks: None,
            note: None,
            median: some(median(&samples)),
            min: some(samples.iter().copied().fold(f64::INFINITY, f64::min)),
            max: some(samples.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
            samples,
        }
    }
}

impl Row {
    /// Compares the contestants' samples of the figure of index `figure`.
    pub(super) fn new(benchmark: Benchmark, workers: usize, figure: usize, contestants: Vec<(Contestant, Samples)>) -> Self {
        let better = benchmark.better();
        let of = |wanted: Contestant| contestants.iter().find(|(contestant, _)| *contestant == wanted).map(|(_, samples)| samples);
        let weald = of(Contestant::Weald);
        // Fewer tasks weigh less: such samples are shown, and compared with nothing.
        let best = contestants
            .iter()
            .filter(|(contestant, samples)| benchmark.has_peer(*contestant) && samples.fewer_tasks.is_none())
            .filter_map(|(_, samples)| Some((cost(better, samples.median?), samples)))
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, samples)| samples);
        let to = |other: Option<&Samples>| Ratio::new(better, weald?, other?);
        let (to_best_peer, to_floor, to_threads) = (to(best), to(of(Contestant::Floor)), to(of(Contestant::Threads)));
        let goals = benchmark.aims(workers, figure).iter().filter_map(|aim| {
            let (words, value, limit) = match *aim {
                Aim::BestPeer(limit) => ("best peer", to_best_peer?.median, limit),
                Aim::Floor(limit) => ("floor", to_floor?.median, limit),
                Aim::Threads(limit) => ("threads", to_threads?.median, limit),
                Aim::AtMost(limit) => ("", weald?.median?, limit),
            };
            let aim = if words.is_empty() { format!("<= {limit}") } else { format!("<= {limit}x {words}") };
            Some(Goal { aim, value, limit, reached: value <= limit })
        });
        let goals = goals.collect();
        let Figure { name: figure, unit } = benchmark.figures()[figure];
        Self {
            benchmark: benchmark.name(),
            title: benchmark.title(),
            group: benchmark.group(),
            workers,
            figure,
            unit,
            better,
            best_peer: best.map(|samples| samples.contestant),
            to_best_peer,
            to_floor,
            goals,
            contestants: contestants.into_iter().map(|(_, samples)| samples).collect(),
        }
    }

    /// The samples of one contestant, if it took part.
    pub fn of(&self, contestant: Contestant) -> Option<&Samples> {
        self.contestants.iter().find(|samples| samples.contestant == contestant.name())
    }

    /// Whether all aims are reached.
    pub fn reached(&self) -> bool {
        self.goals.iter().all(|goal| goal.reached)
    }
}

impl Ratio {
    /// Round by round if both gave as many samples; of the medians otherwise. `None` without samples.
    fn new(better: Better, of: &Samples, to: &Samples) -> Option<Self> {
        let ratio = |of: f64, to: f64| cost(better, of) / cost(better, to);
        let ratios: Vec<f64> = if of.samples.len() == to.samples.len() {
            of.samples.iter().zip(&to.samples).map(|(of, to)| ratio(*of, *to)).collect()
        } else {
            vec![ratio(of.median?, to.median?)]
        };
        let ratios: Vec<f64> = ratios.into_iter().filter(|ratio| ratio.is_finite()).collect();
        let (min, max) = ratios.iter().fold((f64::INFINITY, 0.0_f64), |(min, max), ratio| (min.min(*ratio), max.max(*ratio)));
        (!ratios.is_empty()).then(|| Self { median: median(&ratios), min, max })
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if self.median < 9.95 { 2 } else { 0 };
        write!(f, "{:.digits$}x", self.median)?;
        if self.min < self.max {
            write!(f, " ({:.digits$}-{:.digits$})", self.min, self.max)?;
        }
        Ok(())
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", if self.reached { "reached" } else { "MISSED" }, self.aim)
    }
}

/// What is to be small: the figure, or a rate's inverse.
fn cost(better: Better, figure: f64) -> f64 {
    match better {
        Better::Lower => figure,
        Better::Higher => 1.0 / figure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(benchmark: Benchmark, figures: &[(Contestant, &[f64])]) -> Row {
        let samples = figures.iter().map(|(contestant, samples)| (*contestant, Samples::new(*contestant, 1, samples.to_vec())));
        Row::new(benchmark, 1, 0, samples.collect())
    }

    #[test]
    fn times_are_compared_with_the_best_peer_and_the_floor() {
        let row = row(
            Benchmark::Yield,
            &[
                (Contestant::Weald, &[20.0, 22.0, 24.0]),
                (Contestant::Floor, &[10.0, 11.0, 12.0]),
                (Contestant::May, &[60.0, 66.0, 72.0]),
                (Contestant::Tokio, &[300.0]),
            ],
        );
        assert_eq!(row.best_peer, Some("may"));
        let (peer, floor) = (row.to_best_peer.unwrap(), row.to_floor.unwrap());
        assert!((peer.median - 1.0 / 3.0).abs() < 1e-9 && (floor.max - 2.0).abs() < 1e-9, "{peer:?} {floor:?}");
        let reached: Vec<_> = row.goals.iter().map(|goal| (goal.aim.as_str(), goal.reached)).collect();
        assert_eq!(reached, [("<= 1.4x floor", false), ("<= 0.5x best peer", true)]);
        assert!(!row.reached());
    }

    #[test]
    fn rates_are_compared_by_their_inverse_and_threads_are_no_peer_between_tasks() {
        let benchmark = Benchmark::from_name("bounded-spsc").unwrap();
        let row = row(
            benchmark,
            &[(Contestant::Weald, &[20.0]), (Contestant::Tokio, &[10.0]), (Contestant::Kanal, &[25.0]), (Contestant::Threads, &[40.0])],
        );
        assert_eq!(row.best_peer, Some("kanal"));
        assert!((row.to_best_peer.unwrap().median - 1.25).abs() < 1e-9);
        assert!(!row.reached());
    }

    #[test]
    fn without_samples_there_is_nothing_to_compare() {
        let row = row(Benchmark::SpawnJoin, &[(Contestant::Weald, &[1.0]), (Contestant::Go, &[])]);
        assert!(row.best_peer.is_none() && row.to_best_peer.is_none() && row.goals.is_empty());
    }
}
