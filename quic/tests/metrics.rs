//! What an endpoint counts, as the recorder of the `metrics` facade gets it.

#![cfg(feature = "metrics")]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metrics::{Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use weald_crypto::simulation::{SERVER_NAME, roots, server_credentials};
use weald_crypto::{CryptoPool, CryptoPoolStats, NamedGroup, TicketStats, Times, Version};
use weald_quic::{
    ClientConfig, Connection, EarlyData, Endpoint, EndpointConfig, EndpointMetrics, EndpointStats, Refusal, ServerConfig, ServerLimits,
};
use weald_runtime::time::Instant;
use weald_runtime::{Runtime, sleep, spawn};

type Seen = Arc<Mutex<BTreeMap<String, f64>>>;

/// Remembers what each name was last set to.
struct Cell(String, Seen);

impl Cell {
    fn put(&self, value: f64) {
        let before = self.1.lock().unwrap().insert(self.0.clone(), value);
        assert_eq!(before, None, "{} is published twice", self.0);
    }
}

impl CounterFn for Cell {
    fn increment(&self, _: u64) {
        panic!("counters are set");
    }
    fn absolute(&self, value: u64) {
        self.put(value as f64);
    }
}

impl GaugeFn for Cell {
    fn increment(&self, _: f64) {
        panic!("gauges are set");
    }
    fn decrement(&self, _: f64) {
        panic!("gauges are set");
    }
    fn set(&self, value: f64) {
        self.put(value);
    }
}

struct Remembers(Seen);

impl Remembers {
    fn cell(&self, key: &Key) -> Arc<Cell> {
        let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        Arc::new(Cell(format!("{}[{}]", key.name(), labels.join(",")), Arc::clone(&self.0)))
    }
}

impl Recorder for Remembers {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.cell(key))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.cell(key))
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        panic!("there are none")
    }
}

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// What a server has counted to which a client came, came again with early data, and once more when there was no room for it; one step
/// of its handshakes panicked.
fn counted() -> EndpointMetrics {
    let mut counted = None;
    Runtime::builder().workers(1).build().unwrap().run(|| {
        let (chain, key) = server_credentials();
        let tls = weald_crypto::ServerConfig::builder().alpn([b"test"]).certificate(chain, key).early_data(true).build().unwrap();
        let pool = CryptoPool::new(1);
        let config = ServerConfig::new(tls).limits(ServerLimits::default().max_connections(Some(2)));
        let server = Endpoint::server_with(&EndpointConfig::new().crypto_pool(pool.clone()), config, loopback()).unwrap();
        let address = server.local_addr().unwrap();
        let accepting = server.clone();
        spawn(move || Vec::from_iter(std::iter::from_fn(|| accepting.accept())));
        assert!(pool.submit(|| panic!("of this test")).is_ok());

        let client = Endpoint::client(loopback()).unwrap();
        // Its first flight is one packet: each that is refused counts.
        let tls = weald_crypto::ClientConfig::builder().alpn([b"test"]).roots(roots()).groups([NamedGroup::X25519]).build().unwrap();
        client.set_default_client_config(ClientConfig::new(tls.clone()));
        let first = client.connect(address, SERVER_NAME).unwrap();
        until(|| [Version::V1, Version::V2].iter().any(|version| tls.remembers(*version, SERVER_NAME)));
        let second = client.connect_0rtt(address, SERVER_NAME).unwrap();
        second.open_uni().unwrap().write_all(b"early").unwrap();
        assert_eq!(second.wait_handshake().unwrap(), EarlyData::Accepted);
        assert!(client.connect(address, SERVER_NAME).is_err());
        until(|| server.stats().refused.total() == 1 && server.metrics().tickets.unwrap().issued == 2 && pool.stats().running == 0);
        counted = Some(server.metrics());
        let _: [Connection; 2] = [first, second];
    });
    counted.unwrap()
}

#[track_caller]
fn until(condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(20));
        sleep(Duration::from_millis(1));
    }
}

#[test]
fn what_an_endpoint_its_pool_and_its_tickets_count_is_published() {
    let counted = counted();
    let seen = Seen::default();
    metrics::with_local_recorder(&Remembers(Arc::clone(&seen)), || counted.publish("test"));
    let seen = seen.lock().unwrap();
    let value = |name: &str| seen.get(&format!("{name}[endpoint=test]")).copied().unwrap_or_else(|| panic!("no {name} in {seen:?}"));
    let labelled = |name: &str, label: &str| seen[&format!("{name}[endpoint=test,{label}]")];

    assert_eq!(value("weald_quic_accepted_total"), 2.0);
    assert_eq!(value("weald_quic_refused_total"), 1.0);
    for reason in Refusal::ALL {
        let expected = if reason == Refusal::Limit { 1.0 } else { 0.0 };
        assert_eq!(labelled("weald_quic_refusals_total", &format!("reason={}", reason.name())), expected);
    }
    for name in ["overloaded", "retries", "invalid_tokens", "resets", "version_negotiations", "validated"] {
        assert!(value(&format!("weald_quic_{name}_total")) <= 2.0);
    }
    assert_eq!(value("weald_quic_connections_open"), 2.0);
    assert!(value("weald_quic_memory_limit_bytes") > value("weald_quic_memory_held_bytes"));

    assert_eq!((value("weald_crypto_panics_total"), value("weald_crypto_threads")), (1.0, 1.0));
    for name in ["jobs_queued", "jobs_running", "threads_stuck", "threads_written_off_total", "jobs_not_taken_total"] {
        assert_eq!(value(&format!("weald_crypto_{name}")), 0.0, "{name}");
    }
    let pool = counted.crypto_pool.unwrap();
    for (name, times) in [("weald_crypto_wait_seconds", pool.waited), ("weald_crypto_job_seconds", pool.ran)] {
        assert_eq!(value(&format!("{name}_count")), times.count() as f64);
        assert_eq!(value(&format!("{name}_sum")), times.sum.as_secs_f64());
        // Each bucket counts those before it, too.
        let below = |bound: &str| labelled(&format!("{name}_bucket"), &format!("le={bound}"));
        assert!(below("0.000001") <= below("0.001024") && below("0.001024") <= below("+Inf"));
        assert_eq!((below("0.000001"), below("+Inf")), (times.buckets[0] as f64, times.count() as f64));
    }
    assert!(value("weald_crypto_job_seconds_count") >= 3.0 && value("weald_crypto_job_seconds_sum") > 0.0);

    assert_eq!((value("weald_tickets_issued_total"), value("weald_tickets_resumed_total")), (2.0, 1.0));
    assert_eq!((value("weald_tickets_early_data_accepted_total"), value("weald_tickets_strikes")), (1.0, 1.0));
    assert!(value("weald_tickets_strike_capacity") > 1e6);
    for reason in ["rejected", "replayed", "elsewhere", "other_terms", "register_full"] {
        assert_eq!(value(&format!("weald_tickets_early_data_{reason}_total")), 0.0, "{reason}");
    }
    for reason in ["unopened", "expired", "other_version"] {
        assert_eq!(value(&format!("weald_tickets_{reason}_total")), 0.0, "{reason}");
    }

    let endpoint = EndpointStats::default().named().len() + Refusal::ALL.len() + 3;
    let pool = CryptoPoolStats::default();
    let pool = pool.named().len() + pool.lengths().len() + pool.times().len() * (Times::BUCKETS + 2);
    let tickets = TicketStats::default().named().len() + 2;
    assert_eq!(seen.len(), endpoint + pool + tickets);
}
