//! How long the echo of an established connection takes while handshakes flood its server: a crowd of clients at once, or first packets of
//! clients that never go on, at ten times what the server can take in. With threads for the steps of handshakes and without.
//!
//! Owns the order of the runs, and what is made of them. `sides` are the server and the client whose echoes are timed, `noise` is who disturbs
//! them.
//!
//! The server has a processor of its own; the client and the noise share another, where the client goes first, so that it waits for its server
//! and not for the noise. Noise that is aimed elsewhere tells what is left of that. Quiet and noise alternate on one server, and settings
//! alternate over the rounds, each time with a new server.

mod noise;
mod sides;

use std::{fmt, fs, time::Duration};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::{
    Folder, Pair, Side, WITHOUT_POOL,
    protocol::{Group, Kind, Task},
};
use crate::{quic::median, runtime::Launcher};

/// The first argument of all sides.
pub(super) const SIDE: &str = "echo";

/// How many times its capacity a flooded server gets.
const FLOOD: f64 = 10.0;
/// Handshakes of which the capacity is measured.
const SAMPLE: u64 = 1000;
/// What an echo may take in noise, beside what it takes in quiet.
const GOAL: f64 = 2.0;
/// Who asks again after this long has lost a packet: the first probe timeout (RFC 9002 6.2.2 and its initial RTT).
const PROBE_TIMEOUT: f64 = 999.0;

/// What is to be measured.
#[derive(Debug, Clone)]
pub struct Options {
    /// How often each setting is measured.
    pub rounds: u32,
    /// For how long it is quiet, and for how long there is noise.
    pub span: Duration,
    /// Clients of the crowd.
    pub clients: u32,
    /// Threads of the server's pool where it is on.
    pub threads: u32,
}

/// What was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Handshakes a second that fill the server's processor, with the steps between packets.
    pub capacity: f64,
    /// First packets a second of the flood.
    pub rate: f64,
    /// How the client whose echoes are timed goes before the noise on their processor.
    pub precedence: Option<Precedence>,
    /// One entry a setting.
    pub rows: Vec<Row>,
    /// What is to hold of them.
    pub goals: Vec<Goal>,
}

/// One setting.
#[derive(Debug, Serialize)]
pub struct Row {
    /// What the noise is.
    pub noise: Noise,
    /// Whether the noise goes to another server, or to a socket that nobody reads.
    pub elsewhere: bool,
    /// Threads of the server's pool; with none, steps of handshakes run between packets.
    pub threads: u32,
    /// One entry a round.
    pub rounds: Vec<Round>,
}

/// One round of a setting.
#[derive(Debug, Serialize)]
pub struct Round {
    /// Echoes before the noise began.
    pub quiet: Echoes,
    /// Echoes meanwhile.
    pub noisy: Echoes,
    /// What the noise did.
    pub noise: Noised,
    /// What the server did meanwhile.
    pub server: Served,
    /// Datagrams that the server's socket had no room for.
    pub dropped: u64,
}

/// Who disturbs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Noise {
    /// Clients that handshake at once, and again when all are done.
    Crowd,
    /// First packets of clients that never go on.
    Flood,
}

/// What makes the client of the echoes go before the noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precedence {
    /// Its worker has a real-time priority.
    RealTime,
    /// It may have none, so the noise has the system's lowest priority.
    Niceness,
}

/// Round trips of 64 bytes, in microseconds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Echoes {
    /// How many.
    pub count: u64,
    /// Of all: half take no longer.
    pub p50: f64,
    /// Of all: nine of ten take no longer.
    pub p90: f64,
    /// Of all: 99 of 100 take no longer.
    pub p99: f64,
    /// The 99th percentile of each tenth of a second. Their median leaves out what spoils some of them and not all, such as what else the
    /// machine does.
    pub windows: Vec<f64>,
}

/// What the noise did.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Noised {
    /// Seconds.
    pub elapsed: f64,
    /// Handshakes that were complete, or packets sent.
    pub done: u64,
    /// Handshakes that the server refused.
    pub refused: u64,
    /// Handshakes that failed otherwise.
    pub failed: u64,
    /// Milliseconds that half of the complete handshakes took at most.
    pub median: f64,
    /// Milliseconds of the slowest of them.
    pub slowest: f64,
}

/// What the server did.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Served {
    /// Connections accepted.
    pub accepted: u64,
    /// Retry packets sent.
    pub retries: u64,
    /// Clients refused.
    pub refused: u64,
    /// Steps of handshakes.
    pub steps: u64,
    /// Those of them that ran between packets.
    pub here: u64,
    /// Seconds of processor time.
    pub used: f64,
}

/// Something that is to hold.
#[derive(Debug, Serialize)]
pub struct Goal {
    /// What.
    pub what: String,
    /// What was measured.
    pub measured: f64,
    /// What it is to be at most.
    pub at_most: f64,
    /// Whether it is.
    pub kept: bool,
}

impl Noise {
    const ALL: [Self; 2] = [Self::Crowd, Self::Flood];
}

impl fmt::Display for Noise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Crowd => "crowd",
            Self::Flood => "flood",
        })
    }
}

impl Row {
    /// The median over the rounds of what `of` says of each.
    pub fn median(&self, of: impl Fn(&Round) -> f64) -> f64 {
        median(&self.rounds.iter().map(of).collect::<Vec<_>>())
    }

    /// The sum over the rounds.
    pub fn sum(&self, of: impl Fn(&Round) -> u64) -> u64 {
        self.rounds.iter().map(of).sum()
    }

    /// The greatest of the rounds.
    pub fn most(&self, of: impl Fn(&Round) -> f64) -> f64 {
        self.rounds.iter().map(of).fold(0.0, f64::max)
    }

    /// How much longer than in quiet 99 of 100 echoes take at most in noise: the median over the rounds.
    pub fn slowdown(&self) -> f64 {
        self.median(|round| round.noisy.p99 / round.quiet.p99)
    }

    /// The same by the medians of windows.
    pub fn slowdown_of_windows(&self) -> f64 {
        self.median(|round| median(&round.noisy.windows) / median(&round.quiet.windows))
    }
}

/// Measures. `launcher` starts this program as a side; `progress` hears how many of how many rounds are done.
///
/// # Errors
///
/// If there are no two processors, or a side fails.
pub fn measure(options: &Options, launcher: &Launcher, mut progress: impl FnMut(u32, u32, &str)) -> Result<Report> {
    let folder = Folder::with_identity()?;
    let folder_name = folder.0.display().to_string();
    let capacity = capacity(&folder, launcher)?;
    let mut report = Report { capacity, rate: capacity * FLOOD, precedence: None, rows: Vec::new(), goals: Vec::new() };
    for noise in Noise::ALL {
        for (threads, elsewhere) in [(0, false), (options.threads, false), (options.threads, true)] {
            report.rows.push(Row { noise, elsewhere, threads, rounds: Vec::new() });
        }
    }
    let all = report.rows.len() as u32 * options.rounds;
    for done in 0..all {
        let row = &mut report.rows[done as usize % 6];
        progress(done, all, &row.noise.to_string());
        let (round, precedence) = Setting { options, launcher, folder: &folder_name, rate: report.rate }
            .measure(row)
            .with_context(|| format!("{}, {} threads", row.noise, row.threads))?;
        row.rounds.push(round);
        report.precedence = Some(precedence);
    }
    report.goals = goals(&report);
    Ok(report)
}

/// Handshakes a second that fill a processor of the server.
fn capacity(folder: &Folder, launcher: &Launcher) -> Result<f64> {
    let task =
        Task { stack: WITHOUT_POOL.to_owned(), group: Group::X25519, kind: Kind::Full, tickets: 1, folder: folder.0.clone(), port: None };
    let mut pair = Pair::start(launcher, &task)?;
    pair.run(SAMPLE / 4)?;
    let batch = pair.run(SAMPLE)?;
    Ok(batch.handshakes as f64 / batch.server.as_secs_f64())
}

/// What is common to all rounds.
struct Setting<'a> {
    options: &'a Options,
    launcher: &'a Launcher,
    folder: &'a str,
    rate: f64,
}

impl Setting<'_> {
    fn measure(&self, row: &Row) -> Result<(Round, Precedence)> {
        let mut server = self.start(&["server", &row.threads.to_string(), "own"])?;
        let port = server.port()?;
        let mut client = self.start(&["client", &port.to_string()])?;
        let precedence = serde_json::from_str(&client.line()?).context("the client does not say how it goes first")?;
        let place = if precedence == Precedence::Niceness { "behind" } else { "beside" };
        // A server that others disturb is on the processor of the noise.
        let mut other = (row.elsewhere && row.noise == Noise::Crowd).then(|| self.start(&["server", "0", place])).transpose()?;
        let target = match &mut other {
            Some(other) => other.port()?,
            None if row.elsewhere => 0,
            None => port,
        };
        let mut noise = match row.noise {
            Noise::Crowd => self.start(&["crowd", &target.to_string(), &self.options.clients.to_string(), place])?,
            Noise::Flood => self.start(&["flood", &target.to_string(), &self.rate.to_string(), place])?,
        };
        noise.await_ready()?;

        let span = self.options.span.as_millis().to_string();
        let quiet = serde_json::from_str(&client.ask(&span)?)?;
        let (served, dropped) = (serde_json::from_str(&server.ask("")?)?, dropped(port)?);
        noise.tell("begin")?;
        let noisy = serde_json::from_str(&client.ask(&span)?)?;
        let noised = serde_json::from_str(&noise.ask("end")?)?;
        let then: Served = serde_json::from_str(&server.ask("")?)?;
        Ok((Round { quiet, noisy, noise: noised, server: then.since(&served), dropped: self::dropped(port)? - dropped }, precedence))
    }

    fn start(&self, role: &[&str]) -> Result<Side> {
        let [role, rest @ ..] = role else { bail!("no role") };
        let words = [&[SIDE, role, self.folder], rest].concat();
        Side::start(self.launcher, &words.into_iter().map(str::to_owned).collect::<Vec<_>>())
    }
}

impl Served {
    fn since(&self, before: &Self) -> Self {
        Self {
            accepted: self.accepted - before.accepted,
            retries: self.retries - before.retries,
            refused: self.refused - before.refused,
            steps: self.steps - before.steps,
            here: self.here - before.here,
            used: self.used - before.used,
        }
    }
}

fn goals(report: &Report) -> Vec<Goal> {
    let mut goals = Vec::new();
    for row in report.rows.iter().filter(|row| row.threads > 0 && !row.elsewhere) {
        let mut goal = |what: &str, measured: f64, at_most: f64| {
            goals.push(Goal { what: format!("{}: {what}", row.noise), measured, at_most, kept: measured <= at_most });
        };
        goal("p99 of echoes in noise, times that in quiet", row.slowdown(), GOAL);
        if row.noise == Noise::Crowd {
            goal("handshakes that failed", row.sum(|round| round.noise.failed + round.noise.refused) as f64, 0.0);
            goal("slowest handshake, ms: no first packet waits for a probe timeout", row.most(|round| round.noise.slowest), PROBE_TIMEOUT);
        }
        goal("datagrams that the server's socket had no room for", row.sum(|round| round.dropped) as f64, 0.0);
    }
    goals
}

/// Datagrams that the socket of a port had no room for, as the kernel counts them.
fn dropped(port: u16) -> Result<u64> {
    let table = fs::read_to_string("/proc/net/udp").context("cannot read /proc/net/udp")?;
    dropped_of(&table, port).with_context(|| format!("no socket has port {port}"))
}

/// `  sl  local_address rem_address   st tx_queue:rx_queue ... drops`, a line a socket.
fn dropped_of(table: &str, port: u16) -> Option<u64> {
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let line = lines.find(|words| words.get(1).is_some_and(|address| address.ends_with(&format!(":{port:04X}"))))?;
    line.last()?.parse().ok()
}

/// The life of a side: `ROLE FOLDER ...`.
pub(super) fn side(arguments: &[&str]) -> Result<()> {
    let [role, folder, rest @ ..] = arguments else { bail!("a side of the echo takes ROLE FOLDER and more") };
    match (*role, rest) {
        ("server", [threads, place]) => sides::serve(folder, threads.parse()?, place.parse()?),
        ("client", [port]) => sides::time_echoes(folder, port.parse()?),
        ("crowd", [port, clients, place]) => noise::crowd(folder, port.parse()?, clients.parse()?, place.parse()?),
        ("flood", [port, rate, place]) => noise::flood(folder, port.parse()?, rate.parse()?, place.parse()?),
        _ => bail!("there is no side \"{}\"", arguments.join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_count_of_what_a_socket_dropped() {
        let table = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n  \
                     396: 0100007F:B5E4 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 97911 2 0000000000000000 17\n";
        assert_eq!((dropped_of(table, 0xb5e4), dropped_of(table, 0x5e4), dropped_of(table, 443)), (Some(17), None, None));
    }

    #[test]
    fn goals_are_of_the_server_that_has_threads() {
        let echoes = |p99| Echoes { p99, ..Echoes::default() };
        let round = |noisy, slowest, dropped| Round {
            quiet: echoes(100.0),
            noisy: echoes(noisy),
            noise: Noised { slowest, ..Noised::default() },
            server: Served::default(),
            dropped,
        };
        let row = |noise, threads, elsewhere, rounds| Row { noise, elsewhere, threads, rounds };
        let rows = vec![
            row(Noise::Crowd, 0, false, vec![round(5000.0, 1.0, 9)]),
            row(Noise::Crowd, 1, false, vec![round(150.0, 30.0, 0), round(199.0, 1200.0, 0), round(900.0, 40.0, 0)]),
            row(Noise::Flood, 1, false, vec![round(201.0, 0.0, 1)]),
            row(Noise::Flood, 1, true, vec![round(7000.0, 0.0, 7)]),
        ];
        let goals = goals(&Report { capacity: 1.0, rate: 10.0, precedence: None, rows, goals: vec![] });
        let judged: Vec<_> = goals.iter().map(|goal| (goal.measured, goal.kept)).collect();
        assert_eq!(judged, [(1.99, true), (0.0, true), (1200.0, false), (0.0, true), (2.01, false), (1.0, false)]);
    }
}
