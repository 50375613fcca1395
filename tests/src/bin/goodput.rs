//! What bulk transfers get of a link of 100 Mbit/s with loss and delay, ours and quinn-proto's, in virtual time.
//!
//! Owns the matrix and its report. Does not own the measurement, which is `weald_tests::reference`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clap::Parser;
use comfy_table::{CellAlignment, Table, presets::UTF8_BORDERS_ONLY};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use weald_quic::{Algorithm, ControllerFactory};
use weald_tests::reference::{Pairing, Path, Tuning, goodput, pairings};

/// What we promise, as a share of what quinn-proto gets, and of the link where nothing is lost.
const OF_REFERENCE: f64 = 0.95;
const OF_LINK: f64 = 0.9;

/// Measures goodput over a simulated path, ours against quinn-proto's with the same controller.
///
/// Each measurement runs on one thread in virtual time and follows from its seed; all processors are used. The exit code is 1 if
/// a goal is missed: 0.95 times quinn-proto's goodput, and 0.9 of the link where nothing is lost.
#[derive(Parser)]
struct Arguments {
    /// Controllers.
    #[arg(long, value_delimiter = ',', default_values_t = ["new_reno".to_owned(), "cubic".to_owned()])]
    controller: Vec<String>,
    /// Round-trip times in milliseconds.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 20, 100, 300])]
    rtt: Vec<u64>,
    /// Losses in per cent, each way.
    #[arg(long, value_delimiter = ',', default_values_t = [0.0, 0.1, 1.0, 5.0])]
    loss: Vec<f64>,
    /// The rate of the link in Mbit/s.
    #[arg(long, default_value_t = 100)]
    rate: u64,
    /// Seeds for each cell, whose results are averaged; where nothing is lost all are alike, and one is run.
    ///
    /// Few losses scatter widely: over 16 seeds the ratio of NewReno at 300 ms and 1 % has been 0.93 and 1.00, over 300 it is 0.97.
    /// All cells with 100 take some ten minutes on two processors.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// Seconds of virtual time for each measurement. Default: 10, or 200 round trips if that is longer.
    #[arg(long)]
    seconds: Option<u64>,
    /// The client sends, rather than the server.
    #[arg(long)]
    upload: bool,
    /// Measures each stack to the other one, too.
    #[arg(long)]
    across: bool,
    /// Prints a line of JSON for each cell, rather than a table.
    #[arg(long)]
    json: bool,
}

/// A row of the report.
struct Cell {
    controller: Algorithm,
    path: Path,
}

/// A measurement: of which cell, by whom, with which seed.
struct Job {
    cell: usize,
    pairing: Pairing,
    seed: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let cells = match cells(&arguments) {
        Ok(cells) => cells,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let results = measure(&arguments, &cells);
    if arguments.json {
        cells.iter().zip(&results).for_each(|(cell, result)| println!("{}", line(&arguments, cell, result)));
    } else {
        println!("{}", table(&cells, &results));
    }
    let missed = cells.iter().zip(&results).filter(|(cell, result)| !reaches(cell, result)).count();
    eprintln!("{} of {} cells reach the goals", cells.len() - missed, cells.len());
    ExitCode::from(u8::from(missed > 0))
}

fn cells(arguments: &Arguments) -> Result<Vec<Cell>, String> {
    let mut cells = Vec::new();
    for name in &arguments.controller {
        let controller: Algorithm = name.parse().map_err(|error| format!("{error}"))?;
        for rtt in &arguments.rtt {
            for loss in &arguments.loss {
                if !(0.0..=100.0).contains(loss) || *rtt == 0 || arguments.rate == 0 {
                    return Err("a loss is 0 to 100 per cent; a round-trip time and a rate are at least 1".to_owned());
                }
                let path = Path { rtt: Duration::from_millis(*rtt), loss: loss / 100.0, rate: arguments.rate * 125_000 };
                cells.push(Cell { controller, path });
            }
        }
    }
    Ok(cells)
}

/// Goodput in bytes a second by pairing, for each cell.
type Results = BTreeMap<(&'static str, &'static str), f64>;

fn measure(arguments: &Arguments, cells: &[Cell]) -> Vec<Results> {
    let mut jobs = Vec::new();
    for (cell, of) in cells.iter().enumerate() {
        let seeds = if of.path.loss > 0.0 { arguments.seeds.max(1) } else { 1 };
        for pairing in pairings(arguments.upload).filter(|pairing| arguments.across || pairing.sender.name() == pairing.receiver.name()) {
            jobs.extend((1..=seeds).map(|seed| Job { cell, pairing, seed }));
        }
    }
    // The longest first, so that the threads end together.
    jobs.sort_by_key(|job| std::cmp::Reverse(span(arguments, &cells[job.cell])));
    let progress = ProgressBar::new(jobs.len() as u64);
    progress.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} {eta} {msg}").expect("a template"));
    let sums: Mutex<Vec<BTreeMap<_, (f64, u32)>>> = Mutex::new(cells.iter().map(|_| BTreeMap::new()).collect());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let cell = &cells[job.cell];
                    progress.set_message(format!("{}, {}, {}", cell.controller.name(), cell.path, job.pairing));
                    let tuning = Tuning { controller: cell.controller, window: window(&cell.path) };
                    let bytes = goodput(job.seed, &cell.path, &tuning, job.pairing, span(arguments, cell));
                    let mut sums = sums.lock().expect("no thread panics");
                    let (sum, seeds) = sums[job.cell].entry((job.pairing.sender.name(), job.pairing.receiver.name())).or_default();
                    *sum += bytes;
                    *seeds += 1;
                    progress.inc(1);
                }
            });
        }
    });
    progress.finish_and_clear();
    let sums = sums.into_inner().expect("no thread panics");
    sums.into_iter().map(|cell| cell.into_iter().map(|(pairing, (sum, seeds))| (pairing, sum / f64::from(seeds))).collect()).collect()
}

fn span(arguments: &Arguments, cell: &Cell) -> Duration {
    arguments.seconds.map_or(cell.path.span(), Duration::from_secs)
}

/// Far above what the path and its queue hold, so that flow control is not what is measured.
fn window(path: &Path) -> u32 {
    u32::try_from(4 * (path.product() + path.queue())).unwrap_or(u32::MAX).max(1 << 20)
}

fn ours(result: &Results) -> f64 {
    result[&("weald", "weald")]
}

/// Ours as a share of the other's.
fn ratio(result: &Results) -> f64 {
    ours(result) / result[&("quinn", "quinn")].max(1.0)
}

fn reaches(cell: &Cell, result: &Results) -> bool {
    ratio(result) >= OF_REFERENCE && (cell.path.loss > 0.0 || ours(result) >= OF_LINK * cell.path.rate as f64)
}

fn megabits(bytes: f64) -> f64 {
    bytes * 8.0 / 1e6
}

fn line(arguments: &Arguments, cell: &Cell, result: &Results) -> serde_json::Value {
    let goodput: serde_json::Map<_, _> = result
        .iter()
        .map(|((sender, receiver), bytes)| (format!("{sender}_to_{receiver}"), json!((megabits(*bytes) * 1000.0).round() / 1000.0)))
        .collect();
    json!({
        "controller": cell.controller.name(),
        "rtt_ms": u64::try_from(cell.path.rtt.as_millis()).unwrap_or(u64::MAX),
        "loss_percent": cell.path.loss * 100.0,
        "rate_mbit_per_s": megabits(cell.path.rate as f64),
        "queue_bytes": cell.path.queue(),
        "seconds": span(arguments, cell).as_secs(),
        "upload": arguments.upload,
        "goodput_mbit_per_s": goodput,
        "ratio": (ratio(result) * 1000.0).round() / 1000.0,
        "reaches_goal": reaches(cell, result),
    })
}

fn table(cells: &[Cell], results: &[Results]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    let pairings: Vec<_> = results.first().into_iter().flat_map(BTreeMap::keys).collect();
    let names = pairings.iter().map(|(sender, receiver)| format!("{sender} to {receiver}"));
    let head = ["controller", "rtt ms", "loss %"].into_iter().map(str::to_owned).chain(names);
    table.set_header(head.chain(["ratio", "of link", ""].into_iter().map(str::to_owned)));
    for (cell, result) in cells.iter().zip(results) {
        let mut row = vec![cell.controller.name().to_owned(), cell.path.rtt.as_millis().to_string(), (cell.path.loss * 100.0).to_string()];
        row.extend(result.values().map(|bytes| format!("{:.2}", megabits(*bytes))));
        row.push(format!("{:.3}", ratio(result)));
        row.push(format!("{:.3}", ours(result) / cell.path.rate as f64));
        row.push(if reaches(cell, result) { String::new() } else { "missed".to_owned() });
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
