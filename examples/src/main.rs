//! `weald`: a demonstration, a server, a client and benchmarks, one program.

mod account;
mod bench;
mod demo;
mod echo;
mod files;
mod get;
mod groups;
mod hq;
mod memory;
mod report;
mod serve;
mod statistics;
mod stress;
mod tls;
mod versions;

use std::process::ExitCode;
use std::sync::LazyLock;

use clap::{Parser, Subcommand};

/// QUIC and HTTP/3 on green threads.
///
/// `weald demo` shows what the stack does on this machine; `weald serve` and `weald get` speak HTTP/3 and HTTP/0.9 over QUIC (hq-interop)
/// with any peer; `weald bench` measures beside other stacks, and `weald stress` looks for lost wake-ups. Set SSLKEYLOGFILE to a file to
/// let Wireshark decrypt what is sent, and WEALD_LOG to `debug` or `trace` to see inside.
#[derive(Parser)]
#[command(version = version(), max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(demo::Arguments),
    Serve(serve::Arguments),
    Get(get::Arguments),
    #[command(subcommand)]
    Bench(bench::Command),
    Stress(stress::Arguments),
}

/// The version, and the library that computes.
fn version() -> &'static str {
    static VERSION: LazyLock<String> = LazyLock::new(|| format!("{} ({})", env!("CARGO_PKG_VERSION"), weald_crypto::LIBRARY));
    &VERSION
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_log();
    let done = match arguments.command {
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Serve(arguments) => serve::run(arguments),
        Command::Get(arguments) => get::run(arguments),
        Command::Bench(command) => bench::run(command),
        Command::Stress(arguments) => stress::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weald: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("WEALD_LOG").unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}
