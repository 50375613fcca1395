//! What a server has counted, in words and in JSON: whom it let in and refused, its threads for handshakes, its tickets.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;
use weald_crypto::{CryptoPoolStats, Times};
use weald_quic::EndpointMetrics;

/// The counts of an endpoint since it came up.
#[derive(Serialize)]
pub(crate) struct Statistics {
    open_connections: usize,
    memory_held: usize,
    memory_limit: usize,
    endpoint: BTreeMap<&'static str, u64>,
    /// Those of `endpoint`'s `refused`, by reason.
    refused: BTreeMap<&'static str, u64>,
    crypto_pool: Option<Pool>,
    tickets: Option<BTreeMap<&'static str, u64>>,
}

#[derive(Serialize)]
struct Pool {
    #[serde(flatten)]
    counts: BTreeMap<&'static str, u64>,
    /// Steps of handshakes that have ended.
    jobs: u64,
    wait: Quantiles,
    job: Quantiles,
}

/// Microseconds: what half, and what all but one of a hundred, are shorter than, to a factor of two.
#[derive(Serialize)]
struct Quantiles {
    p50_us: Option<u128>,
    p99_us: Option<u128>,
    mean_us: u128,
}

impl Statistics {
    pub(crate) fn of(metrics: &EndpointMetrics) -> Self {
        Self {
            open_connections: metrics.open_connections,
            memory_held: metrics.memory_held,
            memory_limit: metrics.memory_limit,
            endpoint: metrics.stats.named().into_iter().collect(),
            refused: metrics.stats.refused.iter().map(|(reason, count)| (reason.name(), count)).collect(),
            crypto_pool: metrics.crypto_pool.as_ref().map(Pool::of),
            tickets: metrics.tickets.map(|tickets| {
                let fill = [("strikes", tickets.strikes), ("strike_capacity", tickets.strike_capacity)];
                tickets.named().into_iter().chain(fill).collect()
            }),
        }
    }
}

impl Pool {
    fn of(stats: &CryptoPoolStats) -> Self {
        let lengths = stats.lengths().into_iter().map(|(name, length)| (name, length as u64));
        Self {
            counts: stats.named().into_iter().chain(lengths).collect(),
            jobs: stats.ran.count(),
            wait: Quantiles::of(&stats.waited),
            job: Quantiles::of(&stats.ran),
        }
    }
}

impl Quantiles {
    fn of(times: &Times) -> Self {
        let quantile = |share| times.quantile(share).map(|time| time.as_micros());
        Self { p50_us: quantile(0.5), p99_us: quantile(0.99), mean_us: times.mean().as_micros() }
    }
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} connections open, {} held", self.open_connections, crate::report::size(self.memory_held as u64))?;
        counts(f, "clients", &self.endpoint)?;
        counts(f, "refused for", &self.refused)?;
        if let Some(Pool { counts: pool, jobs, wait, job }) = &self.crypto_pool {
            write!(f, "; steps of handshakes: {jobs}, {} us each, waited {} us", job.mean_us, wait.mean_us)?;
            counts(f, "their threads", pool)?;
        }
        self.tickets.as_ref().map_or(Ok(()), |tickets| counts(f, "tickets", tickets))
    }
}

/// Those that are not zero, if there are any.
fn counts(f: &mut fmt::Formatter<'_>, what: &str, counts: &BTreeMap<&'static str, u64>) -> fmt::Result {
    let said: Vec<_> =
        counts.iter().filter(|(_, count)| **count > 0).map(|(name, count)| format!("{} {count}", name.replace('_', " "))).collect();
    if said.is_empty() { Ok(()) } else { write!(f, "; {what}: {}", said.join(", ")) }
}
