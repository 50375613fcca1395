//! `weald stress`: the runtime under load, with nothing lost.

use std::time::Duration;

use anyhow::Result;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use weald_benches::stress::{self, Options, Summary};

use crate::report::table;

/// Pass messages and wake-ups between coroutines and threads, and check that none is lost, doubled or out of order.
///
/// All kinds of channels, yields, parks and time-outs run at once on one runtime; at last a shutdown unwinds coroutines parked in every
/// way, and their drops are counted. A lost wake-up shows as a lane that stands still for 10 s, and is an error that names the seed.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Messages through all channels together; 1e9 means a thousand million.
    #[arg(long, default_value = "1e9", value_name = "N", value_parser = count)]
    messages: u64,
    /// Yields and parks.
    #[arg(long, default_value = "1e8", value_name = "N", value_parser = count)]
    switches: u64,
    /// Coroutines that the shutdown unwinds.
    #[arg(long, default_value = "1e5", value_name = "N", value_parser = count)]
    unwound: u64,
    /// Workers of the runtime.
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    workers: u16,
    /// End the messages and switches after this many seconds, whatever is left of them.
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Seed of the runtime and of the time-outs; random if not given.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Print the results as one JSON object.
    #[arg(long)]
    json: bool,
}

/// A count, also in the form 1e9.
fn count(text: &str) -> Result<u64, String> {
    let number = match text.split_once(['e', 'E']) {
        Some((digits, zeros)) => {
            digits.parse().ok().zip(zeros.parse().ok()).and_then(|(digits, zeros)| 10_u64.checked_pow(zeros)?.checked_mul(digits))
        }
        None => text.parse().ok(),
    };
    number.ok_or_else(|| format!("{text} is not a count such as 5000 or 1e9"))
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let options = Options {
        messages: arguments.messages,
        switches: arguments.switches,
        unwound: arguments.unwound,
        workers: arguments.workers.into(),
        seed: arguments.seed.unwrap_or_else(|| fastrand::Rng::new().u64(..)),
        limit: arguments.seconds.map(Duration::from_secs),
    };
    // Hidden where standard error is no terminal.
    let bar = ProgressBar::no_length().with_style(
        ProgressStyle::with_template("{bar:30} {human_pos} of {human_len}, {per_sec}, {eta} left  seed {msg}").expect("a fixed template"),
    );
    bar.set_message(options.seed.to_string());
    let summary = stress::run(&options, |done, all| {
        bar.set_length(all);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    if arguments.json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        print(&summary);
    }
    Ok(())
}

fn print(summary: &Summary) {
    let mut rows: Vec<_> =
        summary.lanes.iter().map(|lane| (lane.name.clone(), format!("{} in {:.1} s", HumanCount(lane.operations), lane.seconds))).collect();
    let rate = |operations: u64| format!("{} ({:.1} M/s)", HumanCount(operations), operations as f64 / summary.seconds / 1e6);
    rows.push(("all messages, none lost".to_owned(), rate(summary.messages)));
    rows.push(("all switches".to_owned(), rate(summary.switches)));
    rows.push(("waits that timed out".to_owned(), HumanCount(summary.timeouts).to_string()));
    rows.push(("unwound at the shutdown, all dropped".to_owned(), HumanCount(summary.unwound).to_string()));
    println!("{}", table(&rows));
    println!("{:.1} s with {} workers, seed {}", summary.seconds, summary.workers, summary.seed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read() {
        assert_eq!([count("1e9"), count("5000"), count("25E3")], [Ok(1_000_000_000), Ok(5_000), Ok(25_000)]);
        assert!(["", "e9", "1e", "1e99", "-1", "1.5"].iter().all(|text| count(text).is_err()));
    }
}
