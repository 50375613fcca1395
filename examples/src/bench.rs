//! `weald bench`: measurements beside other stacks, in one run.

mod handshake;
mod plot;
mod quic;
mod runtime;

use anyhow::Result;

/// Measure beside other stacks, alternating, in one run: compare ratios, never absolute figures of different days.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    Handshake(handshake::Arguments),
    Quic(quic::Arguments),
    Runtime(runtime::Arguments),
}

pub(crate) fn run(command: Command) -> Result<()> {
    match command {
        Command::Handshake(arguments) => handshake::run(&arguments),
        Command::Quic(arguments) => quic::run(&arguments),
        Command::Runtime(arguments) => runtime::run(&arguments),
    }
}
