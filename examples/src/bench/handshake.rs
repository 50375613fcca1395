//! `weald bench handshake`: handshakes a second and what they cost, beside TLS alone and other stacks; and what they do to an echo.

use std::time::Duration;

use anyhow::{Context, Result};
use comfy_table::{Cell, CellAlignment, Table, presets::UTF8_BORDERS_ONLY};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use weald_benches::{
    handshake::{
        self, Options, Report, Row, echo,
        protocol::{Group, Kind},
    },
    quic::median,
    runtime::Launcher,
};

/// Handshakes a second, and the processor time that each takes at either end, beside rustls in memory and quinn.
///
/// Every server and every client is a process of its own, servers on one processor and clients on another; a client keeps 64 connections
/// going, each of which is closed 10 ms after its handshake. ECDSA P-256, AES-128-GCM. "rustls" is TLS alone, both ends in one thread and
/// messages handed over in memory: what a handshake of QUIC costs cannot be less. Rounds alternate over all stacks; ratios are taken
/// round by round. "weald, pool off" has no threads for handshakes: their steps run between packets.
///
/// Then the echo of 64 bytes on an established connection is timed, in quiet and while handshakes flood the server: a crowd that handshakes at
/// once, and first packets of clients that never go on, at ten times what the server's processor can take in. The same with the pool off, as the
/// reason for the pool, and with the noise aimed elsewhere, as what the machine alone does. The server has a processor of its own; on the other
/// the client goes before the noise, by a real-time priority if it may have one.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Measure s2n-quic and quiche as well; the first time builds them, for minutes, and takes cmake, a C++ compiler and libclang.
    #[arg(long)]
    peers: bool,
    /// Print the results as one JSON object.
    #[arg(long)]
    json: bool,
    /// Handshakes of a sample.
    #[arg(long, default_value_t = 2000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    handshakes: u64,
    /// Samples of each stack.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Session tickets that servers give after each handshake; those of resumed handshakes give one at least.
    #[arg(long, default_value_t = 1, value_name = "N")]
    tickets: u8,
    /// Only these groups.
    #[arg(long, value_name = "GROUP", value_parser = group, num_args = 1.., value_delimiter = ',')]
    groups: Vec<Group>,
    /// Only these kinds: full, resumed, 0rtt.
    #[arg(long, value_name = "KIND", value_parser = kind, num_args = 1.., value_delimiter = ',')]
    kinds: Vec<Kind>,
    /// Only these parts: costs, echo.
    #[arg(long, value_enum, value_name = "PART", num_args = 1.., value_delimiter = ',', default_values_t = [Part::Costs, Part::Echo])]
    parts: Vec<Part>,
    /// Seconds of quiet, and of noise, in a round of the echo.
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Clients of the crowd.
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    clients: u32,
    /// Threads of the echoing server's pool where it is on.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: u32,
    /// Be a side: its stack, group, kind, tickets, folder and port; or echo, role, folder and what that needs.
    #[arg(long, hide = true, num_args = 4..=6, value_name = "WORD")]
    side: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Handshakes a second and processor time.
    Costs,
    /// An established echo while handshakes flood the server.
    Echo,
}

#[derive(Serialize)]
struct Output {
    #[serde(flatten)]
    costs: Option<Report>,
    echo: Option<echo::Report>,
}

fn group(name: &str) -> Result<Group, String> {
    Group::from_name(name).ok_or_else(|| format!("choose of {}", Group::ALL.iter().map(|one| one.name()).collect::<Vec<_>>().join(", ")))
}

fn kind(name: &str) -> Result<Kind, String> {
    Kind::from_name(name).ok_or_else(|| format!("choose of {}", Kind::ALL.iter().map(|one| one.name()).collect::<Vec<_>>().join(", ")))
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if !arguments.side.is_empty() {
        return handshake::side(&arguments.side);
    }
    let or_all = |chosen: &[Group]| if chosen.is_empty() { Group::ALL.to_vec() } else { chosen.to_vec() };
    let options = Options {
        peers: arguments.peers,
        handshakes: arguments.handshakes,
        rounds: arguments.rounds,
        tickets: arguments.tickets,
        groups: or_all(&arguments.groups),
        kinds: if arguments.kinds.is_empty() { Kind::ALL.to_vec() } else { arguments.kinds.clone() },
    };
    let launcher = Launcher {
        program: std::env::current_exe().context("cannot find this program")?,
        arguments: ["bench", "handshake", "--side"].map(str::to_owned).to_vec(),
    };
    // Hidden where standard error is no terminal.
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} of {duration}  {msg}").expect("a fixed template");
    let bar = ProgressBar::no_length().with_style(style);
    let progress = |done: u32, all: u32, what: &str| {
        bar.set_length(all.into());
        bar.set_position(done.into());
        bar.set_message(what.to_owned());
    };
    let has = |part| arguments.parts.contains(&part);
    let costs = has(Part::Costs).then(|| handshake::measure(&options, &launcher, progress)).transpose()?;
    let echo = echo::Options {
        rounds: arguments.rounds,
        span: Duration::from_secs(arguments.seconds),
        clients: arguments.clients,
        threads: arguments.threads,
    };
    let echo = has(Part::Echo).then(|| echo::measure(&echo, &launcher, progress)).transpose()?;
    bar.finish_and_clear();
    if arguments.json {
        println!("{}", serde_json::to_string(&Output { costs, echo })?);
        return Ok(());
    }
    if let Some(report) = costs {
        println!("{}", table(&report));
        for row in report.rows.iter().filter(|row| row.note.is_some()) {
            println!("{}, {}, {}: {}", row.stack, row.group, row.kind, row.note.as_deref().unwrap_or_default());
        }
    }
    if let Some(report) = echo {
        print_echo(&report, arguments);
    }
    Ok(())
}

fn print_echo(report: &echo::Report, arguments: &Arguments) {
    println!("{}", echo_table(report));
    println!(
        "crowd: {} clients with X25519MLKEM768 at once, again and again; flood: {:.0} first packets a second with X25519, ten times the {:.0} \
         handshakes that fill the server's processor.",
        arguments.clients, report.rate, report.capacity
    );
    match report.precedence {
        Some(echo::Precedence::RealTime) => println!("The client's worker has a real-time priority, before the noise on its processor."),
        Some(echo::Precedence::Niceness) => println!("The client may have no real-time priority; the noise has the lowest there is."),
        None => {}
    }
    for goal in &report.goals {
        let verdict = if goal.kept { "kept" } else { "MISSED" };
        println!("{verdict}: {}: {:.2}, at most {}", goal.what, goal.measured, goal.at_most);
    }
}

fn echo_table(report: &echo::Report) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    table.set_header([
        "noise",
        "pool",
        "p50 us",
        "in noise",
        "p99 us",
        "in noise",
        "",
        "p99 of 0.1 s",
        "noise/s",
        "server us each",
        "accepted",
        "Retry",
        "refused",
        "failed",
        "median, slowest ms",
        "dropped",
    ]);
    for row in &report.rows {
        let is_crowd = row.noise == echo::Noise::Crowd;
        let each = row.median(|round| round.server.used * 1e6 / round.noise.done.max(1) as f64);
        let here = !row.elsewhere;
        let cells = [
            format!("{:.0}", row.median(|round| round.quiet.p50)),
            format!("{:.0}", row.median(|round| round.noisy.p50)),
            format!("{:.0}", row.median(|round| round.quiet.p99)),
            format!("{:.0}", row.median(|round| round.noisy.p99)),
            format!("{:.2}x", row.slowdown()),
            format!("{:.2}x", row.slowdown_of_windows()),
            format!("{:.0}", row.median(|round| round.noise.done as f64 / round.noise.elapsed)),
            if here { format!("{each:.1}") } else { String::new() },
            if here { row.sum(|round| round.server.accepted).to_string() } else { String::new() },
            if here { row.sum(|round| round.server.retries).to_string() } else { String::new() },
            if here { row.sum(|round| round.server.refused).to_string() } else { String::new() },
            if is_crowd { row.sum(|round| round.noise.refused + round.noise.failed).to_string() } else { String::new() },
            if is_crowd {
                format!("{:.0}, {:.0}", row.median(|round| round.noise.median), row.most(|round| round.noise.slowest))
            } else {
                String::new()
            },
            if here { row.sum(|round| round.dropped).to_string() } else { String::new() },
        ];
        let pool = match (row.elsewhere, row.threads) {
            (true, _) => "(elsewhere)".to_owned(),
            (false, 0) => "off".to_owned(),
            (false, threads) => threads.to_string(),
        };
        let mut line = vec![Cell::new(row.noise), Cell::new(pool)];
        line.extend(cells.map(|text| Cell::new(text).set_alignment(CellAlignment::Right)));
        table.add_row(line);
    }
    table
}

fn table(report: &Report) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    table.set_header(["", "", "", "handshakes/s", "server us", "- rustls", "weald /", "client us", "weald /", "resumed", "0-RTT"]);
    for row in report.rows.iter().filter(|row| !row.server.is_empty()) {
        let tls = report.beside(row, "rustls");
        let weald = report.beside(row, "weald");
        let ratio = |of: fn(&Row) -> &Vec<f64>| {
            let ratio = weald.filter(|weald| weald.stack != row.stack).and_then(|weald| weald.ratio(row, of));
            ratio.map_or_else(String::new, |ratio| format!("{:.2}x ({:.2}-{:.2})", ratio.median, ratio.min, ratio.max))
        };
        let over = tls.filter(|tls| tls.stack != row.stack).map(|tls| median(&row.server) - median(&tls.server));
        let cells = [
            if row.rate.is_empty() { String::new() } else { format!("{:.0}", median(&row.rate)) },
            format!("{:.0}", median(&row.server)),
            over.map_or_else(String::new, |over| format!("{over:+.0}")),
            ratio(|row| &row.server),
            format!("{:.0}", median(&row.client)),
            ratio(|row| &row.client),
            format!("{:.0} %", row.resumed * 100.0),
            format!("{:.0} %", row.early * 100.0),
        ];
        let mut line = vec![Cell::new(row.kind), Cell::new(row.group), Cell::new(&row.stack)];
        line.extend(cells.map(|text| Cell::new(text).set_alignment(CellAlignment::Right)));
        table.add_row(line);
    }
    table
}
