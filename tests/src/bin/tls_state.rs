//! `tls_state`: what a hundred thousand handshakes leave behind.

use std::process::ExitCode;

use clap::Parser;
use comfy_table::{CellAlignment, Table, presets::UTF8_BORDERS_ONLY};
use weald_tests::heap;
use weald_tests::tls_state::{Account, Stage, measure};

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;

/// Count the bytes that connections hold before, during and after their handshakes.
///
/// Two endpoints in memory do handshakes with certificates, in batches. The heap's bytes are exact,
/// of each end by itself. What C libraries allocate is what malloc has given out beyond that, and
/// contains what malloc adds to each piece. Exits with an error if TLS leaves something behind.
///
/// Examples:
///
///   tls_state
///
///   tls_state --handshakes 1000 --at-once 10 --json
#[derive(Parser)]
// Lines of the comment above are lines of --help: they stay below 96 columns.
#[command(verbatim_doc_comment)]
struct Arguments {
    /// Handshakes in all.
    #[arg(long, value_name = "COUNT", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    handshakes: u32,
    /// Handshakes at a time.
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    at_once: u32,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let account = measure(arguments.handshakes as usize, arguments.at_once as usize, true, |done| {
        if done % 10_000 == 0 && !arguments.json {
            eprintln!("{done} handshakes");
        }
    });
    if arguments.json {
        println!("{}", serde_json::to_string(&account)?);
    } else {
        print(&account);
    }
    Ok(match account.complaint() {
        None => ExitCode::SUCCESS,
        Some(complaint) => {
            eprintln!("{complaint}");
            ExitCode::FAILURE
        }
    })
}

fn print(account: &Account) {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    table.set_header(["bytes a connection", "server", "client", "C libraries and malloc, both"]);
    for held in &account.held {
        let when = match held.stage {
            Stage::Asked => "the server has the ClientHello",
            Stage::Answered => "the server's TLS has answered",
            Stage::HalfComplete => "the client's TLS is complete",
            Stage::Confirmed => "confirmed: TLS is gone",
            Stage::Quiet => "quiet for five seconds",
            Stage::Gone => "closed and dropped",
        };
        let foreign = held.foreign.map_or(String::new(), |bytes| format!("{bytes:.0}"));
        table.add_row([when.to_owned(), format!("{:.0}", held.server), format!("{:.0}", held.client), foreign]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
    let [before, after] = account.heap;
    println!("{} handshakes, {} at a time. The heap: {before} bytes before, {after} after.", account.handshakes, account.at_once);
    if let Some([before, after]) = account.process {
        println!("All that malloc has given out: {before} bytes before, {after} after.");
    }
}
