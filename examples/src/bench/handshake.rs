//! `weald bench handshake`: handshakes a second and what they cost, beside TLS alone and other stacks.

use anyhow::{Context, Result};
use comfy_table::{Cell, CellAlignment, Table, presets::UTF8_BORDERS_ONLY};
use indicatif::{ProgressBar, ProgressStyle};
use weald_benches::{
    handshake::{
        self, Options, Report, Row,
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
/// round by round.
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
    /// Be a side: its stack, group, kind, tickets, folder and port.
    #[arg(long, hide = true, num_args = 5..=6, value_name = "WORD")]
    side: Vec<String>,
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
    let report = handshake::measure(&options, &launcher, |done, all, stack| {
        bar.set_length(all.into());
        bar.set_position(done.into());
        bar.set_message(stack.to_owned());
    })?;
    bar.finish_and_clear();
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!("{}", table(&report));
        for row in report.rows.iter().filter(|row| row.note.is_some()) {
            println!("{}, {}, {}: {}", row.stack, row.group, row.kind, row.note.as_deref().unwrap_or_default());
        }
    }
    Ok(())
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
