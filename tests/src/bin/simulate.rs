//! Runs the megabyte of [`weald_tests::networks`] over any range of seeds.

use std::io::{self, IsTerminal, Write};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Parser;
use serde::Serialize;
use weald_runtime::time::Instant;
use weald_tests::networks::{PATIENCE, Report, Scenario};
use weald_tests::{seeds, trace_file};

/// Send a megabyte through networks drawn from seeds, and check that not one byte is lost,
/// altered or repeated, and that every hundredth seed gives the same trace twice.
///
/// A seed that fails is printed with the command that repeats it, and the others go on. Exits
/// with an error if any failed.
///
/// Examples:
///
///   cargo run --profile test -p weald-tests --bin simulate -- --seeds 0..10000
///
///   cargo run --profile test -p weald-tests --bin simulate -- --seeds 0..1000000 --json
#[derive(Parser)]
// Lines of the comment above are lines of --help: they stay below 96 columns.
#[command(verbatim_doc_comment, max_term_width = 100)]
struct Arguments {
    /// Which seeds: the first, two dots, and the one after the last.
    #[arg(long, value_name = "A..B", value_parser = range)]
    seeds: Range<u64>,
    /// Simulations at a time; all processors by default.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Probe timeouts after which an end gives the other up, if that is more than the default timeouts.
    #[arg(long, value_name = "COUNT", default_value_t = PATIENCE, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    patience: u32,
    /// Write what both ends and the network did to `target/traces`, one file a seed.
    #[arg(long)]
    trace: bool,
    /// Print the summary as one JSON object.
    #[arg(long)]
    json: bool,
}

fn range(text: &str) -> anyhow::Result<Range<u64>> {
    let (start, end) = text.split_once("..").context("a range is A..B")?;
    let range =
        start.parse().context("what is before the dots is no number")?..end.parse().context("what is behind the dots is no number")?;
    ensure!(!range.is_empty(), "there is no seed in it");
    Ok(range)
}

/// What `--json` prints.
#[derive(Clone, Debug, Default, Serialize)]
struct Summary {
    seeds: u64,
    failed: Vec<u64>,
    /// Of all simulations together.
    virtual_seconds: f64,
    seconds: f64,
    packets_sent: u64,
    packets_lost: u64,
    probe_timeouts: u64,
    /// The seed that took the most virtual time, and how much.
    slowest: Option<(u64, f64)>,
}

impl Summary {
    fn add(&mut self, seed: u64, report: Option<Report>) {
        self.seeds += 1;
        let Some(Report { time, client }) = report else {
            self.failed.push(seed);
            return;
        };
        self.virtual_seconds += time.as_secs_f64();
        self.packets_sent += client.packets_sent;
        self.packets_lost += client.packets_lost;
        self.probe_timeouts += client.probe_timeouts;
        if self.slowest.is_none_or(|(_, longest)| time.as_secs_f64() > longest) {
            self.slowest = Some((seed, time.as_secs_f64()));
        }
    }

    fn progress(&self, total: u64, start: Instant) -> String {
        let elapsed = start.elapsed().as_secs_f64();
        let rate = self.seeds as f64 / elapsed.max(1e-9);
        let left = Duration::from_secs_f64((total - self.seeds) as f64 / rate.max(1e-9));
        format!("{} of {total} seeds, {} failed, {rate:.1} a second, {} s left", self.seeds, self.failed.len(), left.as_secs())
    }
}

/// Runs a scenario once, and says where its trace lies.
fn write_trace(scenario: &Scenario) -> Result<Report, String> {
    let (report, log, network) = scenario.traced();
    let path = trace_file::write("network", scenario.seed, &scenario.to_string(), &log, &network).map_err(|error| error.to_string())?;
    eprintln!("{}", path.display());
    report
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let start = Instant::now();
    let total = arguments.seeds.end - arguments.seeds.start;
    let shared = Mutex::new((Summary::default(), start));
    let threads = arguments.threads.map_or_else(seeds::processors, usize::from);
    seeds::for_each(arguments.seeds.clone(), threads, |seed| {
        let scenario = Scenario { patience: arguments.patience, ..Scenario::new(seed) };
        let run = || if arguments.trace { write_trace(&scenario) } else { scenario.check() };
        let checked = catch_unwind(AssertUnwindSafe(run));
        let checked = checked.unwrap_or_else(|_| Err("a panic, which is printed above".to_owned()));
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        let (summary, told) = &mut *shared;
        if let Err(why) = &checked {
            eprintln!("\nFAILED  {scenario}\n        {why}");
            eprintln!(
                "        cargo run --profile test -p weald-tests --bin simulate -- --patience {} --seeds {seed}..{}",
                scenario.patience,
                seed + 1
            );
        }
        summary.add(seed, checked.ok());
        // A terminal sees it move; a log gets a line now and then.
        let (pause, end) = if io::stderr().is_terminal() { (1, "\r") } else { (30, "\n") };
        if told.elapsed() >= Duration::from_secs(pause) {
            *told = Instant::now();
            eprint!("{}{end}", summary.progress(total, start));
        }
    });
    let (mut summary, _) = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
    summary.seconds = start.elapsed().as_secs_f64();
    summary.failed.sort_unstable();
    let printed = if arguments.json {
        serde_json::to_string(&summary).map_err(io::Error::from)
    } else {
        Ok(format!(
            "{} seeds in {:.1} s ({:.1} ms of a processor each): {} failed\n{} packets sent, {} lost, {} probe timeouts, {:.0} s of virtual time",
            summary.seeds,
            summary.seconds,
            summary.seconds * 1e3 * threads as f64 / summary.seeds as f64,
            summary.failed.len(),
            summary.packets_sent,
            summary.packets_lost,
            summary.probe_timeouts,
            summary.virtual_seconds
        ))
    };
    let printed = printed.and_then(|text| writeln!(io::stdout(), "{text}"));
    if printed.is_ok() && summary.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
