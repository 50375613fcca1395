//! Who takes part, and how each is started.

use std::fmt;

use anyhow::Result;

use super::{
    floor, may_side,
    sample::{Answer, Request},
    smol_side, threads_side, tokio_side, weald_side,
};

/// A runtime or library that does the benchmarks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Contestant {
    /// The runtime that this is all about.
    Weald,
    /// A minimal scheduler on corosensei: what is possible.
    Floor,
    /// Stackful coroutines.
    May,
    /// Futures.
    Tokio,
    /// Futures.
    Smol,
    /// kanal's channels between tokio's tasks.
    Kanal,
    /// std's threads and sockets, crossbeam's channels.
    Threads,
    /// Goroutines.
    Go,
}

impl Contestant {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 8] = [Self::Weald, Self::Floor, Self::May, Self::Tokio, Self::Smol, Self::Kanal, Self::Threads, Self::Go];

    /// The name in tables, in JSON and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Weald => "weald",
            Self::Floor => "floor",
            Self::May => "may",
            Self::Tokio => "tokio",
            Self::Smol => "smol",
            Self::Kanal => "kanal",
            Self::Threads => "threads",
            Self::Go => "go",
        }
    }

    /// The contestant of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|contestant| contestant.name() == name)
    }

    /// In which form it takes part with that many workers.
    pub fn form(self, workers: usize) -> &'static str {
        match (self, workers) {
            (Self::Weald, _) => "coroutines",
            (Self::Floor, _) => "a minimal scheduler on corosensei, one thread",
            (Self::May, _) => "coroutines; a million spawned in batches of 1,000",
            (Self::Tokio, 1) => "current-thread scheduler; several receivers by async-channel",
            (Self::Tokio, _) => "multi-thread scheduler; several receivers by async-channel",
            (Self::Smol, _) => "async-executor (static), async-io, async-channel",
            (Self::Kanal, 1) => "kanal's channels between tasks of tokio's current-thread scheduler",
            (Self::Kanal, _) => "kanal's channels between tasks of tokio's multi-thread scheduler",
            (Self::Threads, _) => "std threads and sockets, crossbeam-channel",
            (Self::Go, _) => "goroutines; channels of capacity 1 for ping-pong",
        }
    }
}

impl fmt::Display for Contestant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A contestant that runs in this process.
pub(super) enum Side {
    Weald(weald_side::Side),
    Floor,
    May(may_side::Side),
    Tokio(tokio_side::Side),
    Smol(smol_side::Side),
    Threads { workers: usize },
}

impl Side {
    /// Starts it; `None` if it is a program of its own, or has no such number of workers.
    pub(super) fn start(contestant: Contestant, workers: usize) -> Result<Option<Self>> {
        Ok(Some(match contestant {
            Contestant::Weald => Self::Weald(weald_side::Side::start(workers)?),
            Contestant::Floor if workers == 1 => Self::Floor,
            Contestant::May => Self::May(may_side::Side::start(workers)),
            Contestant::Tokio | Contestant::Kanal => Self::Tokio(tokio_side::Side::start(workers, contestant == Contestant::Kanal)?),
            Contestant::Smol => Self::Smol(smol_side::Side::start(workers)?),
            Contestant::Threads => Self::Threads { workers },
            Contestant::Floor | Contestant::Go => return Ok(None),
        }))
    }

    /// Does what is asked for; `None` if it has no means to.
    pub(super) fn perform(&self, request: Request) -> Result<Option<Answer>> {
        match self {
            Self::Weald(side) => side.perform(request),
            Self::Floor => floor::perform(request),
            Self::May(side) => side.perform(request),
            Self::Tokio(side) => side.perform(request),
            Self::Smol(side) => side.perform(request),
            Self::Threads { workers } => threads_side::perform(request, *workers),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::benchmark::{Benchmark, Scale},
        *,
    };

    /// Every contestant does every benchmark in small, which checks its own sums.
    #[test]
    fn all_do_what_they_are_asked_for() {
        for contestant in Contestant::ALL {
            // Its timer thread corrupts the heap now and then, which would end this process, and not a child as in a benchmark.
            if contestant == Contestant::May {
                continue;
            }
            for workers in [2, 1] {
                let Some(side) = Side::start(contestant, workers).unwrap() else { continue };
                for benchmark in Benchmark::ALL {
                    if benchmark.uses_up_its_process() || benchmark == Benchmark::SleepersTenThousand {
                        continue;
                    }
                    let count = if benchmark.scale() == Scale::Reported { 2 } else { 2_000 };
                    let answer = side
                        .perform(Request { benchmark, count })
                        .unwrap_or_else(|error| panic!("{contestant}, {workers} workers, {benchmark}: {error:#}"));
                    let Some(answer) = answer else {
                        assert_ne!(contestant, Contestant::Weald, "Weald does all: {benchmark}");
                        continue;
                    };
                    match benchmark.scale() {
                        Scale::Reported => assert_eq!(answer.figures.len(), benchmark.figures().len()),
                        _ => assert!(answer.operations == count && !answer.elapsed.is_zero(), "{contestant} {benchmark}: {answer:?}"),
                    }
                }
            }
        }
    }
}
