//! Owns the snapshot of what an endpoint counts, and its names for the `metrics` facade.
//!
//! It does not own the counting, which goes on whether anybody looks or not: the protocol's endpoint, the pool of threads and the
//! tickets count for themselves.

use weald_crypto::{CryptoPoolStats, TicketStats};

use crate::stats::EndpointStats;

/// What an endpoint did so far, and what it holds: [`Endpoint::metrics`](crate::Endpoint::metrics) reads it, without asking any
/// worker. Each count is exact; together they are of no one moment.
///
/// Memory, threads and tickets may be shared with other endpoints. Then their counts are those of all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointMetrics {
    /// What it did with datagrams that are for no connection, and with clients that want one.
    pub stats: EndpointStats,
    /// Connections, those included that are about to close.
    pub open_connections: usize,
    /// Bytes that all connections of its [`Governor`](crate::Governor) hold.
    pub memory_held: usize,
    /// Bytes that they may hold.
    pub memory_limit: usize,
    /// The threads for handshakes. `None` in a simulation.
    pub crypto_pool: Option<CryptoPoolStats>,
    /// The tickets that a server gives its clients. `None` if it gives none.
    pub tickets: Option<TicketStats>,
}

#[cfg(feature = "metrics")]
impl EndpointMetrics {
    /// Gives all of it to the process's recorder of the `metrics` facade; call it once in a while, or when the recorder is read.
    /// Everything has the label `endpoint`.
    ///
    /// | names | kind | what |
    /// |-|-|-|
    /// | `weald_quic_<name>_total` | counter | each of [`EndpointStats::named`] |
    /// | `weald_quic_refusals_total` | counter | those of `weald_quic_refused_total` by the label `reason`: a [name](crate::Refusal::name) |
    /// | `weald_quic_connections_open`, `weald_quic_memory_held_bytes`, `weald_quic_memory_limit_bytes` | gauge | |
    /// | `weald_crypto_<name>_total` | counter | each of [`CryptoPoolStats::named`] |
    /// | `weald_crypto_<name>` | gauge | each of [`CryptoPoolStats::lengths`] |
    /// | `weald_crypto_wait_seconds`, `weald_crypto_job_seconds` | histogram | how long steps of TLS waited for a thread, and how long they took |
    /// | `weald_tickets_<name>_total` | counter | each of [`TicketStats::named`] |
    /// | `weald_tickets_strikes`, `weald_tickets_strike_capacity` | gauge | used tickets that are remembered, and at most |
    ///
    /// The pool keeps its histograms itself, so that they are published as Prometheus writes them down: a counter
    /// `.._bucket` for each label `le`, which counts all that took no longer, a counter `.._count`, and a gauge `.._sum`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// use weald_quic::Endpoint;
    /// use weald_runtime::{sleep, spawn};
    ///
    /// fn publish_every_ten_seconds(endpoint: Endpoint) {
    ///     spawn(move || {
    ///         loop {
    ///             endpoint.metrics().publish("public");
    ///             sleep(Duration::from_secs(10));
    ///         }
    ///     });
    /// }
    /// ```
    pub fn publish(&self, endpoint: &str) {
        let publish = Publisher { endpoint };
        for (name, count) in self.stats.named() {
            publish.counter(format!("weald_quic_{name}_total"), None, count);
        }
        for (reason, count) in self.stats.refused.iter() {
            publish.counter("weald_quic_refusals_total".to_owned(), Some(("reason", reason.name().to_owned())), count);
        }
        publish.gauge("weald_quic_connections_open".to_owned(), self.open_connections as f64);
        publish.gauge("weald_quic_memory_held_bytes".to_owned(), self.memory_held as f64);
        publish.gauge("weald_quic_memory_limit_bytes".to_owned(), self.memory_limit as f64);
        if let Some(pool) = &self.crypto_pool {
            pool.named().into_iter().for_each(|(name, count)| publish.counter(format!("weald_crypto_{name}_total"), None, count));
            pool.lengths().into_iter().for_each(|(name, length)| publish.gauge(format!("weald_crypto_{name}"), length as f64));
            pool.times().into_iter().for_each(|(name, times)| publish.histogram(&format!("weald_crypto_{name}_seconds"), &times));
        }
        if let Some(tickets) = &self.tickets {
            tickets.named().into_iter().for_each(|(name, count)| publish.counter(format!("weald_tickets_{name}_total"), None, count));
            publish.gauge("weald_tickets_strikes".to_owned(), tickets.strikes as f64);
            publish.gauge("weald_tickets_strike_capacity".to_owned(), tickets.strike_capacity as f64);
        }
    }
}

#[cfg(feature = "metrics")]
struct Publisher<'a> {
    endpoint: &'a str,
}

#[cfg(feature = "metrics")]
impl Publisher<'_> {
    fn counter(&self, name: String, label: Option<(&'static str, String)>, count: u64) {
        metrics::counter!(name, self.labels(label)).absolute(count);
    }

    fn gauge(&self, name: String, value: f64) {
        metrics::gauge!(name, self.labels(None)).set(value);
    }

    fn histogram(&self, name: &str, times: &weald_crypto::Times) {
        let mut count = 0;
        for (index, bucket) in times.buckets.iter().enumerate() {
            count += bucket;
            let bound = weald_crypto::Times::bound(index).map_or("+Inf".to_owned(), |bound| bound.as_secs_f64().to_string());
            self.counter(format!("{name}_bucket"), Some(("le", bound)), count);
        }
        self.counter(format!("{name}_count"), None, count);
        self.gauge(format!("{name}_sum"), times.sum.as_secs_f64());
    }

    fn labels(&self, other: Option<(&'static str, String)>) -> Vec<metrics::Label> {
        let endpoint = metrics::Label::new("endpoint", self.endpoint.to_owned());
        [endpoint].into_iter().chain(other.map(|(key, value)| metrics::Label::new(key, value))).collect()
    }
}
