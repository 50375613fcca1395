//! `weald bench runtime`: the runtime beside may, tokio, smol, kanal, threads and Go, and beside the least a scheduler can be.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use comfy_table::{Attribute, Cell, CellAlignment, Table, presets::UTF8_BORDERS_ONLY};
use indicatif::{ProgressBar, ProgressStyle};
use weald_benches::runtime::{self, Benchmark, Contestant, Goal, Launcher, News, Options, Report, Row, Samples};

use super::plot;

/// Speed and memory of the runtime: scheduling, channels, timers, sockets, parked coroutines.
///
/// Each contestant runs in a process of its own, kept to as many processors as it has workers; rounds alternate over all of them. Ratios
/// are of costs (time or memory an operation), so that below 1 is better; the floor is a minimal scheduler loop without any features. Rows
/// are told on standard error as they come, the table with all goals at the end on standard output. All of it with --peers takes
/// eight minutes on two processors, two with --quick.
///
/// What is alike and what is not. "timer" arms a timer of 10 s and cancels it: tokio and smol poll a sleep once and drop it, Go starts and
/// stops a timer; Weald and may arm timers in waits only, so theirs is what a time-out adds to a wait: "timed-wait", a ping-pong whose asker
/// waits 10 s at most, less the same without, both measured in one sample. In ping-pongs Go's channels hold one message, and others' are
/// unbounded. "memory" counts resident memory and page tables of a million parked tasks; stackless tasks weigh what their futures hold,
/// here next to nothing.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Measure may, tokio, smol, kanal, std threads and Go (where installed) as well.
    #[arg(long)]
    peers: bool,
    /// Print the results as one JSON object.
    #[arg(long)]
    json: bool,
    /// Draw the ratios into this file (SVG).
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Short samples, smaller counts, fewer rounds: coarse figures in two minutes.
    #[arg(long)]
    quick: bool,
    /// Only these benchmarks, by the names of the JSON object or what they begin with.
    #[arg(long, value_name = "NAME", num_args = 1.., value_delimiter = ',')]
    only: Vec<String>,
    /// Samples of each contestant; 5, or 3 with --quick.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// Fail if a goal is missed.
    #[arg(long)]
    check: bool,
    /// Be a contestant: its name, its number of workers, and its program if it has one.
    #[arg(long, hide = true, num_args = 2..=3, value_names = ["CONTESTANT", "WORKERS", "PROGRAM"])]
    child: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if let [contestant, workers, program @ ..] = &arguments.child[..] {
        let contestant = Contestant::from_name(contestant).with_context(|| format!("there is no contestant \"{contestant}\""))?;
        return runtime::serve(contestant, workers.parse()?, program.first().map(AsRef::as_ref));
    }
    let options = Options {
        peers: arguments.peers,
        quick: arguments.quick,
        rounds: arguments.rounds.unwrap_or(if arguments.quick { 3 } else { 5 }),
        benchmarks: chosen(&arguments.only)?,
    };
    let launcher = Launcher {
        program: std::env::current_exe().context("cannot find this program")?,
        arguments: ["bench", "runtime", "--child"].map(str::to_owned).to_vec(),
    };
    // Hidden where standard error is no terminal.
    let bar = ProgressBar::no_length()
        .with_style(ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} of {duration}  {msg}").expect("a fixed template"));
    let report = runtime::measure(&options, &launcher, |news| match news {
        News::Sampling(progress) => {
            bar.set_length(progress.all);
            bar.set_position(progress.done);
            bar.set_message(format!("{}, {}: {}", progress.benchmark.title(), workers(progress.workers), progress.contestant));
        }
        News::Row(row) => bar.suspend(|| eprintln!("{}", line(row))),
    })?;
    bar.finish_and_clear();
    if let Some(path) = &arguments.plot {
        plot::draw(&report, path).with_context(|| format!("cannot draw into {}", path.display()))?;
    }
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print(&report);
    }
    let missed = report.rows.iter().filter(|row| !row.reached()).count();
    ensure!(!arguments.check || missed == 0, "{missed} of {} figures miss a goal", report.rows.len());
    Ok(())
}

/// The benchmarks whose names are given, or begin with what is given; all if nothing is.
fn chosen(only: &[String]) -> Result<Vec<Benchmark>> {
    for name in only {
        ensure!(
            Benchmark::ALL.iter().any(|benchmark| benchmark.name().starts_with(name.as_str())),
            "there is no benchmark \"{name}\": choose of {}",
            Benchmark::ALL.map(Benchmark::name).join(", ")
        );
    }
    let wanted = |benchmark: &Benchmark| {
        let exact = only.iter().any(|name| name == benchmark.name());
        // "yield" is a name, and what another name begins with.
        let begins = only.iter().any(|name| Benchmark::from_name(name).is_none() && benchmark.name().starts_with(name.as_str()));
        only.is_empty() || exact || begins
    };
    Ok(Benchmark::ALL.into_iter().filter(wanted).collect())
}

/// A row in one line, while a run goes on.
fn line(row: &Row) -> String {
    let of = |contestant: &str| row.contestants.iter().find(|samples| samples.contestant == contestant).map_or_else(String::new, figure);
    let mut parts = vec![format!("{}: {} {}", name(row), of("weald"), row.unit)];
    if let Some(ratio) = &row.to_floor {
        parts.push(format!("floor {}, {ratio}", of("floor")));
    }
    if let (Some(ratio), Some(peer)) = (&row.to_best_peer, row.best_peer) {
        parts.push(format!("{peer} {}, {ratio}", of(peer)));
    }
    parts.extend(row.goals.iter().map(Goal::to_string));
    parts.join("; ")
}

/// What a row is about.
fn name(row: &Row) -> String {
    let figure = if row.figure.is_empty() { String::new() } else { format!(", {}", row.figure) };
    format!("{}{figure}, {}", row.title, workers(row.workers))
}

fn print(report: &Report) {
    let environment = &report.environment;
    println!("{} processors ({}), Linux {}", environment.processors, environment.processor, environment.kernel);
    let versions: Vec<_> = environment.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    println!("{}", versions.join(", "));
    if !environment.optimised {
        println!("Built without optimisations: the figures say nothing.");
    }
    println!("{}", table(report));
    let goals: Vec<_> = report.rows.iter().flat_map(|row| &row.goals).collect();
    println!(
        "Medians of {} rounds, in {:.0} s. Ratios are of costs, round by round, with the best and the worst: below 1.00x Weald is better.",
        report.rounds, report.seconds
    );
    println!("{} of {} goals reached.", goals.iter().filter(|goal| goal.reached).count(), goals.len());
    for row in &report.rows {
        for goal in row.goals.iter().filter(|goal| !goal.reached) {
            println!("MISSED: {} is {} of {}", name(row), number(goal.value), goal.aim);
        }
    }
    for row in &report.rows {
        for samples in &row.contestants {
            let remark = match (&samples.note, samples.fewer_tasks) {
                (_, Some(tasks)) if !samples.samples.is_empty() => format!("with {tasks} tasks, for it failed to hold more"),
                (Some(note), _) if note != UNSUPPORTED && note != NOT_INSTALLED => note.clone(),
                _ => continue,
            };
            println!("{}, {}, {}: {remark}", row.title, workers(row.workers), samples.contestant);
        }
    }
}

/// What a report notes where nothing went wrong.
const UNSUPPORTED: &str = "has no such thing";
const NOT_INSTALLED: &str = "not installed";

fn table(report: &Report) -> Table {
    let present: Vec<_> =
        Contestant::ALL.into_iter().filter(|contestant| report.rows.iter().any(|row| row.of(*contestant).is_some())).collect();
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    let mut header = vec!["".to_owned(), "workers".to_owned(), "unit".to_owned()];
    header.extend(present.iter().map(Contestant::to_string));
    header.extend(["/ best peer", "/ floor", "goal"].map(str::to_owned));
    table.set_header(header);
    let mut group = "";
    for row in &report.rows {
        if row.group != group {
            if !group.is_empty() {
                table.add_row([""]);
            }
            group = row.group;
            table.add_row([Cell::new(group).add_attribute(Attribute::Bold)]);
        }
        let name = if row.figure.is_empty() { row.title.to_owned() } else { format!("{}, {}", row.title, row.figure) };
        let mut cells = vec![Cell::new(name), right(row.workers.to_string()), Cell::new(row.unit)];
        cells.extend(present.iter().map(|contestant| right(row.of(*contestant).map_or_else(String::new, figure))));
        cells.push(right(match (&row.to_best_peer, row.best_peer) {
            (Some(ratio), Some(peer)) => format!("{ratio} {peer}"),
            _ => String::new(),
        }));
        cells.push(right(row.to_floor.map_or_else(String::new, |ratio| ratio.to_string())));
        cells.push(Cell::new(goals(row)));
        table.add_row(cells);
    }
    table
}

fn right(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// The median, or why there is none.
fn figure(samples: &Samples) -> String {
    let mark = if samples.fewer_tasks.is_some() { "*" } else { "" };
    match (samples.median, samples.note.as_deref()) {
        (Some(median), _) => format!("{}{mark}", number(median)),
        (None, Some(UNSUPPORTED)) => "-".to_owned(),
        (None, Some(NOT_INSTALLED)) => NOT_INSTALLED.to_owned(),
        (None, _) => "failed".to_owned(),
    }
}

/// Three digits, or all before the point.
pub(super) fn number(value: f64) -> String {
    match value {
        ..0.0995 => format!("{value:.3}"),
        ..9.95 => format!("{value:.2}"),
        ..99.5 => format!("{value:.1}"),
        _ => {
            let digits = format!("{value:.0}");
            let head = (digits.len() - 1) % 3 + 1;
            let (head, rest) = digits.split_at(head);
            rest.as_bytes().chunks(3).fold(head.to_owned(), |text, group| text + "," + &String::from_utf8_lossy(group))
        }
    }
}

fn goals(row: &Row) -> String {
    row.goals.iter().map(Goal::to_string).collect::<Vec<_>>().join("\n")
}

fn workers(count: usize) -> String {
    if count == 1 { "1 worker".to_owned() } else { format!("{count} workers") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_their_beginnings_choose() {
        let names = |only: &[&str]| -> Vec<_> {
            let only: Vec<_> = only.iter().map(|name| (*name).to_owned()).collect();
            chosen(&only).unwrap().into_iter().map(Benchmark::name).collect()
        };
        assert_eq!(names(&["yield"]), ["yield"]);
        assert_eq!(names(&["bounded", "timer"]), ["bounded-spsc", "bounded-mpsc", "bounded-mpmc", "timer"]);
        assert_eq!(names(&[]).len(), Benchmark::ALL.len());
        assert!(chosen(&["nothing".to_owned()]).unwrap_err().to_string().contains("ping-pong"));
    }

    #[test]
    fn numbers_are_short() {
        let shown: Vec<_> = [0.0123, 0.5, 14.04, 123.4, 4_500.0, 1_234_567.0].map(number).to_vec();
        assert_eq!(shown, ["0.012", "0.50", "14.0", "123", "4,500", "1,234,567"]);
    }
}
