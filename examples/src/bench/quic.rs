//! `weald bench quic`: bulk throughput beside quinn.

use anyhow::Result;
use indicatif::ProgressBar;
use weald_benches::quic;

/// Bulk throughput of one connection over loopback beside quinn: client and server each on one thread, 1452-byte payloads, ECDSA P-256,
/// AES-128-GCM.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Bytes a transfer.
    #[arg(long, default_value_t = 256 << 20, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    size: u64,
    /// Pairs of runs in each direction.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Print the results as one JSON object.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    // Hidden where standard error is no terminal.
    let bar = ProgressBar::no_length().with_message("transfers");
    let results = quic::bulk(arguments.size, arguments.rounds, |done, all| {
        bar.set_length(all.into());
        bar.set_position(done.into());
    })?;
    bar.finish_and_clear();
    if arguments.json {
        println!("{}", serde_json::to_string(&results)?);
        return Ok(());
    }
    println!("{}", table(&results));
    Ok(())
}

fn table(results: &quic::Bulk) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::UTF8_BORDERS_ONLY);
    table.set_header(["bulk, 1 connection", "weald Gbit/s", "quinn Gbit/s", "weald / quinn", "min - max"]);
    for row in &results.directions {
        let ratio = row.ratio();
        table.add_row([
            row.direction.to_string(),
            format!("{:.2}", quic::median(&row.weald)),
            format!("{:.2}", quic::median(&row.quinn)),
            format!("{:.2}x", ratio.median),
            format!("{:.2} - {:.2}", ratio.min, ratio.max),
        ]);
    }
    table
}
