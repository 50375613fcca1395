//! The server, and the client on an established connection whose echoes are timed.

use std::{
    fmt,
    io::BufRead,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use weald_crypto::{CryptoPool, simulation};
use weald_quic::{ClientConfig, Connection, Endpoint, EndpointConfig, ServerConfig, ServerLimits};
use weald_runtime::{sleep, spawn, time::Instant, unblock};

use crate::ALPN;

/// Between two echoes: some thousand a second, so that the server has time for others.
const PAUSE: Duration = Duration::from_micros(200);

/// Of this much time percentiles are taken: what else the machine does spoils some of such times, and not all.
const WINDOW: Duration = Duration::from_millis(100);

/// Microseconds of the echoes of one window.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub struct Measured {
    pub echoes: u64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
}

/// What the server says at its end.
#[derive(Default, Serialize, Deserialize)]
pub struct Served {
    pub accepted: u64,
    pub retries: u64,
    pub refused: u64,
    pub overloaded: u64,
    /// Steps of handshakes: all, and those that ran between packets.
    pub steps: u64,
    pub here: u64,
    /// Microseconds: the mean step, and what nine of ten waited at most.
    pub step: f64,
    pub wait: f64,
}

impl fmt::Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { accepted, retries, refused, overloaded, steps, here, step, wait } = self;
        write!(f, "server: {accepted} accepted, {retries} Retries, {refused} refused, {overloaded} of both under load; ")?;
        write!(f, "{steps} steps of {step:.0} us, {here} between packets, nine of ten waited less than {wait:.0} us")
    }
}

/// Serves until standard input ends.
pub fn serve(threads: usize) -> Result<()> {
    let (chain, key) = simulation::server_credentials();
    let tls = weald_crypto::ServerConfig::builder().alpn([ALPN]).certificate(chain, key).build()?;
    let pool = CryptoPool::new(threads);
    let shared = EndpointConfig::new().crypto_pool(pool.clone());
    let config = ServerConfig::new(tls).limits(ServerLimits::default());
    let endpoint = Endpoint::server_with(&shared, config, (Ipv4Addr::LOCALHOST, 0).into())?;
    println!("{}", endpoint.local_addr()?);
    let accepting = endpoint.clone();
    spawn(move || {
        while let Some(connection) = accepting.accept() {
            spawn(move || echo(&connection));
        }
    });
    crate::wait_for_the_end();
    let (stats, pool) = (endpoint.stats(), pool.stats());
    let micros = |duration: Duration| duration.as_secs_f64() * 1e6;
    let served = Served {
        accepted: stats.accepted,
        retries: stats.retries,
        refused: stats.refused,
        overloaded: stats.overloaded,
        steps: pool.ran.count(),
        here: pool.here,
        step: micros(pool.ran.mean()),
        wait: pool.waited.quantile(0.9).map_or(0.0, micros),
    };
    println!("{}", serde_json::to_string(&served)?);
    std::process::exit(0);
}

fn echo(connection: &Connection) {
    while let Ok((mut send, mut receive)) = connection.accept_bi() {
        let mut buffer = [0; 64];
        while receive.read_exact(&mut buffer).is_ok() && send.write_all(&buffer).is_ok() {}
    }
}

/// Measures for as many milliseconds as each line of standard input says.
pub fn measure(server: SocketAddr) -> Result<()> {
    let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?;
    let connection = endpoint.connect_with(ClientConfig::new(crate::tls()?), server, "localhost")?;
    let (mut send, mut receive) = connection.open_bi()?;
    let mut echo = || -> Result<Duration> {
        let begin = Instant::now();
        send.write_all(&[7; 64])?;
        receive.read_exact(&mut [0; 64])?;
        Ok(begin.elapsed())
    };
    let warm = Instant::now();
    while warm.elapsed() < Duration::from_millis(500) {
        echo()?;
    }
    println!("ready");
    loop {
        let line = unblock(|| {
            let mut line = String::new();
            std::io::stdin().lock().read_line(&mut line).map(|_| line)
        })
        .map_err(std::io::Error::from)??;
        if line.is_empty() {
            return Ok(());
        }
        let span = Duration::from_millis(line.trim().parse().context("milliseconds")?);
        let begin = Instant::now();
        let mut windows = Vec::new();
        while begin.elapsed() < span {
            let mut histogram = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3)?;
            let begin = Instant::now();
            while begin.elapsed() < WINDOW {
                histogram.saturating_record(u64::try_from(echo()?.as_nanos())?);
                sleep(PAUSE);
            }
            let at = |share| histogram.value_at_quantile(share) as f64 / 1000.0;
            windows.push(Measured { echoes: histogram.len(), p50: at(0.5), p90: at(0.9), p99: at(0.99) });
        }
        println!("{}", serde_json::to_string(&windows)?);
    }
}
