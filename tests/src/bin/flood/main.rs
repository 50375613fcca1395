//! `flood`: attacks a `weald serve` process for minutes, and watches its memory and what its honest clients notice.
//!
//! Three processes on one machine: the server as users run it; this one, which measures with honest clients; and the attacker, which is
//! this program again. Each attack has a server of its own, which is measured in quiet first: a request's time is compared within one run.

mod attacks;
mod clients;
mod server;
mod verdict;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use weald_runtime::{Runtime, sleep, time::Instant};

use crate::{
    attacks::{ATTACKS, Attack, Attacking},
    clients::Clients,
    server::Server,
    verdict::{Phase, Second, Verdict},
};

/// What a new server does before its time in quiet is measured.
const WARM_UP: Duration = Duration::from_secs(3);

/// Attack a `weald serve` process, and watch its memory and the requests of honest clients.
///
/// Each attack has a new server on loopback. Honest clients ask for a small file all along: first in
/// quiet, then under attack. An attack is withstood if the server's resident memory is flat from the
/// first third of the attack to its end, no honest request fails, and the honest requests' p99 is at
/// most twice that of the quiet time (medians of the p99s of all seconds).
///
/// The server is target/release/weald: build it with `cargo build --release --bin weald`.
///
/// Examples:
///
///   flood --seconds 600
///
///   flood --attack initials --attack stream-pieces --seconds 60 --json
#[derive(Parser)]
#[command(verbatim_doc_comment)]
struct Arguments {
    /// Attack only so; may be given several times. All attacks if it is not given.
    #[arg(long = "attack", value_name = "NAME", value_parser = attacks::names())]
    attacks: Vec<String>,
    /// How long each attack takes.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(6..))]
    seconds: u64,
    /// How long the same server is measured in quiet before.
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(3..))]
    quiet: u64,
    /// Packets a second that the attacker sends; each attack has its own by default.
    #[arg(long, value_name = "PACKETS")]
    rate: Option<u32>,
    /// The weald program to attack; by default the one beside this program.
    #[arg(long, value_name = "FILE")]
    weald: Option<PathBuf>,
    /// Print one JSON object an attack, with every second of it.
    #[arg(long)]
    json: bool,
    /// Only attack the server at this address, and do so until standard input ends.
    #[arg(long, value_name = "ADDR:PORT", hide = true)]
    only_attack: Option<SocketAddr>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let runtime = Runtime::builder().workers(1).build()?;
    runtime.run(move || match arguments.only_attack {
        Some(server) => attack_only(&arguments, server),
        None => withstand_all(&arguments),
    })
}

/// The attacker's process.
fn attack_only(arguments: &Arguments, server: SocketAddr) -> Result<ExitCode> {
    let attack = chosen(arguments).next().context("no attack is named")?;
    attack.run(server, arguments.rate.unwrap_or(attack.rate));
    Ok(ExitCode::SUCCESS)
}

/// The measuring process.
fn withstand_all(arguments: &Arguments) -> Result<ExitCode> {
    let mut verdicts = Vec::new();
    for attack in chosen(arguments) {
        let verdict = withstand(arguments, attack).with_context(|| format!("attack {}", attack.name))?;
        if arguments.json {
            println!("{}", serde_json::to_string(&verdict)?);
        }
        verdicts.push(verdict);
    }
    if !arguments.json {
        println!("{}", verdict::table(&verdicts));
    }
    let withstood = verdicts.iter().all(|verdict| verdict.withstood);
    Ok(if withstood { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn chosen(arguments: &Arguments) -> impl Iterator<Item = &'static Attack> {
    ATTACKS.iter().filter(|attack| arguments.attacks.is_empty() || arguments.attacks.iter().any(|name| name == attack.name))
}

fn withstand(arguments: &Arguments, attack: &Attack) -> Result<Verdict> {
    let mut server = Server::start(arguments.weald.as_deref())?;
    let clients = Clients::start(server.address)?;
    let bar = progress(arguments, attack)?;
    sleep(WARM_UP);
    clients.take();
    let quiet = watch(&server, &clients, arguments.quiet, &bar)?;
    let rate = arguments.rate.unwrap_or(attack.rate);
    let attacking = Attacking::start(attack, server.address, rate)?;
    let attacked = watch(&server, &clients, arguments.seconds, &bar)?;
    let sent = attacking.stop()?;
    clients.stop();
    bar.finish_and_clear();
    ensure!(server.is_running()?, "the server has ended");
    Ok(Verdict::new(attack, rate, sent, quiet, attacked))
}

/// Looks at the server and takes what its clients measured, each second.
fn watch(server: &Server, clients: &Clients, seconds: u64, bar: &ProgressBar) -> Result<Phase> {
    let mut phase = Phase::default();
    let begin = Instant::now();
    for second in 1..=seconds {
        sleep((begin + Duration::from_secs(second)).saturating_duration_since(Instant::now()));
        let measured = clients.take();
        let second = Second::new(server.resident()?, &measured);
        bar.set_message(second.to_string());
        bar.inc(1);
        phase.seconds.push(second);
    }
    Ok(phase)
}

fn progress(arguments: &Arguments, attack: &Attack) -> Result<ProgressBar> {
    if arguments.json {
        return Ok(ProgressBar::hidden());
    }
    let style = ProgressStyle::with_template("{prefix:15} {bar:30} {eta:>4} to go  {msg}")?;
    Ok(ProgressBar::new(arguments.quiet + arguments.seconds).with_style(style).with_prefix(attack.name))
}
