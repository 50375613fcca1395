//! The server, and the client on an established connection whose echoes are timed.

use std::{
    io::{BufRead, Write},
    net::Ipv4Addr,
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use thread_priority::{RealtimeThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy};
use weald_crypto::CryptoPool;
use weald_quic::{Connection, Endpoint, EndpointConfig};
use weald_runtime::{Runtime, sleep, spawn, time::Instant};

use super::{
    super::{
        protocol::{Group, Kind, SERVER_NAME, Task},
        weald_side::{client_config, server_config},
    },
    Echoes, Precedence, Served,
};
use crate::process::{cpu_time, keep_behind};

/// Between two echoes: some thousand a second, so that the server has time for others.
const PAUSE: Duration = Duration::from_micros(200);
/// Of so much time percentiles are taken alone.
const WINDOW: Duration = Duration::from_millis(100);
const WARM_UP: Duration = Duration::from_millis(300);

/// Where a process runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// On the server's processor.
    Own,
    /// On that of the client whose echoes are timed.
    Beside,
    /// On the same, at the lowest priority.
    Behind,
}

impl std::str::FromStr for Place {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "own" => Ok(Self::Own),
            "beside" => Ok(Self::Beside),
            "behind" => Ok(Self::Behind),
            other => bail!("there is no place \"{other}\""),
        }
    }
}

impl Place {
    /// Puts this process there, with all threads that it starts from now on.
    pub(super) fn take(self) -> Result<()> {
        keep_behind(usize::from(self != Self::Own), 1)?;
        if self == Self::Behind {
            let lowest = ThreadSchedulePolicy::Normal(thread_priority::NormalThreadSchedulePolicy::Idle);
            thread_priority::set_thread_priority_and_policy(thread_priority::thread_native_id(), ThreadPriority::Min, lowest)
                .map_err(|error| anyhow::anyhow!("no lower priority: {error}"))?;
        }
        Ok(())
    }
}

/// Connections of the kind that everybody makes, of one group.
pub(super) fn task(folder: &str, group: Group) -> Task {
    Task { stack: "weald".to_owned(), group, kind: Kind::Full, tickets: 1, folder: Path::new(folder).to_owned(), port: None }
}

/// A server. To each line it says what it has done.
pub(super) fn serve(folder: &str, threads: usize, place: Place) -> Result<()> {
    place.take()?;
    // Those that a client chooses are in its first packet: the server takes both.
    let config = server_config(&task(folder, Group::X25519), Group::ALL)?;
    let pool = CryptoPool::new(threads);
    let shared = EndpointConfig::new().crypto_pool(pool.clone());
    let runtime = Runtime::builder().name("server").workers(1).build()?;
    let endpoint = runtime.run(|| Endpoint::server_with(&shared, config, (Ipv4Addr::LOCALHOST, 0).into()))?;
    println!("{}", endpoint.local_addr()?.port());
    let accepting = endpoint.clone();
    drop(runtime.handle().spawn(move || {
        while let Some(connection) = accepting.accept() {
            spawn(move || echo(&connection));
        }
    }));
    for line in std::io::stdin().lock().lines() {
        line?;
        let (stats, pool) = (endpoint.stats(), pool.stats());
        let served = Served {
            accepted: stats.accepted,
            retries: stats.retries,
            refused: stats.refused.total(),
            steps: pool.ran.count(),
            here: pool.here,
            used: cpu_time()?.as_secs_f64(),
        };
        say(&served)?;
    }
    Ok(())
}

fn echo(connection: &Connection) {
    while let Ok((mut send, mut receive)) = connection.accept_bi() {
        let mut buffer = [0; 64];
        while receive.read_exact(&mut buffer).is_ok() && send.write_all(&buffer).is_ok() {}
    }
}

/// A client. To each line it times echoes for as many milliseconds.
pub(super) fn time_echoes(folder: &str, port: u16) -> Result<()> {
    keep_behind(1, 1)?;
    let config = client_config(&task(folder, Group::X25519))?;
    let runtime = Runtime::builder().name("client").workers(1).build()?;
    let connection = runtime.run(|| {
        let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?;
        anyhow::Ok(endpoint.connect_with(config, (Ipv4Addr::LOCALHOST, port).into(), SERVER_NAME)?)
    })?;
    let (mut send, mut receive) = runtime.run(|| connection.open_bi())?;
    let mut echo = || -> Result<Duration> {
        let begin = Instant::now();
        send.write_all(&[7; 64])?;
        receive.read_exact(&mut [0; 64])?;
        Ok(begin.elapsed())
    };
    runtime.run(|| measure(WARM_UP, &mut echo))?;
    // On the worker's own thread; it may not be allowed to.
    let first = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
    let raised = runtime
        .run(|| thread_priority::set_thread_priority_and_policy(thread_priority::thread_native_id(), ThreadPriority::Min, first).is_ok());
    say(&if raised { Precedence::RealTime } else { Precedence::Niceness })?;
    for line in std::io::stdin().lock().lines() {
        let span = Duration::from_millis(line?.trim().parse().context("milliseconds")?);
        say(&runtime.run(|| measure(span, &mut echo))?)?;
    }
    Ok(())
}

fn measure(span: Duration, echo: &mut impl FnMut() -> Result<Duration>) -> Result<Echoes> {
    let empty = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3)?;
    let mut all = empty.clone();
    let mut windows = Vec::new();
    let begin = Instant::now();
    while begin.elapsed() < span {
        let mut window = empty.clone();
        let begin = Instant::now();
        while begin.elapsed() < WINDOW {
            window.saturating_record(u64::try_from(echo()?.as_nanos())?);
            sleep(PAUSE);
        }
        windows.push(micros(&window, 0.99));
        all.add(&window)?;
    }
    Ok(Echoes { count: all.len(), p50: micros(&all, 0.5), p90: micros(&all, 0.9), p99: micros(&all, 0.99), windows })
}

fn micros(of: &Histogram<u64>, share: f64) -> f64 {
    of.value_at_quantile(share) as f64 / 1000.0
}

/// A line to who started this process.
pub(super) fn say(what: &impl serde::Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(what)?);
    Ok(std::io::stdout().flush()?)
}
