//! What a network does to datagrams loses no byte: each fault by itself, and thousands of networks drawn from seeds.

use std::time::Duration;

use weald_quic::{Connection, TransportConfig};
use weald_runtime::sim::{self, LinkConfig, TraceEntry};
use weald_tests::networks::Scenario;
use weald_tests::seeds::{for_each, processors};
use weald_tests::world::{client_address, connect, exchange, link, receive, send, server_address, simulate, simulate_untraced};

use super::{MEGABYTE, lossy};

/// A handshake and a megabyte each way, for a few seeds.
fn exchange_over(link: &LinkConfig) {
    for seed in 1..=3 {
        simulate_untraced(seed, link.clone(), || exchange(seed, MEGABYTE, TransportConfig::default(), TransportConfig::default()));
    }
}

#[test]
fn a_clean_network() {
    exchange_over(&link());
}

#[test]
fn one_percent_loss() {
    exchange_over(&LinkConfig { loss: 0.01, ..link() });
}

#[test]
fn five_percent_loss() {
    exchange_over(&LinkConfig { loss: 0.05, ..link() });
}

#[test]
fn ten_percent_loss() {
    exchange_over(&LinkConfig { loss: 0.1, ..link() });
}

#[test]
fn reordering() {
    exchange_over(&LinkConfig { reorder: 0.2, reorder_delay: Duration::from_millis(8), ..link() });
}

#[test]
fn jitter() {
    exchange_over(&LinkConfig { jitter: Duration::from_millis(30), ..link() });
}

#[test]
fn duplication() {
    exchange_over(&LinkConfig { duplicate: 0.3, ..link() });
}

#[test]
fn corruption() {
    exchange_over(&LinkConfig { corrupt: 0.05, ..link() });
}

#[test]
fn a_round_trip_of_200_milliseconds() {
    exchange_over(&LinkConfig { delay: Duration::from_millis(100), ..link() });
}

#[test]
fn a_round_trip_of_200_milliseconds_with_loss_and_reordering() {
    exchange_over(&LinkConfig { delay: Duration::from_millis(100), loss: 0.05, reorder: 0.1, ..link() });
}

#[test]
fn a_link_of_ten_megabits() {
    exchange_over(&LinkConfig { rate: Some(1_250_000), ..link() });
}

#[test]
fn everything_at_once() {
    exchange_over(&LinkConfig {
        delay: Duration::from_millis(40),
        jitter: Duration::from_millis(10),
        loss: 0.03,
        reorder: 0.05,
        duplicate: 0.05,
        corrupt: 0.02,
        rate: Some(2_500_000),
        ..link()
    });
}

fn trace_of(seed: u64) -> Vec<TraceEntry> {
    simulate(seed, lossy(), || {
        exchange(seed, 100_000, TransportConfig::default(), TransportConfig::default());
        sim::trace()
    })
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_another() {
    for seed in [1, 2, 77] {
        let (first, second) = (trace_of(seed), trace_of(seed));
        assert!(first.len() > 200, "seed {seed}: {} events", first.len());
        if let Some(at) = (0..first.len().max(second.len())).find(|at| first.get(*at) != second.get(*at)) {
            panic!("seed {seed}: event {at} differs\n  {:?}\n  {:?}", first.get(at), second.get(at));
        }
        assert_ne!(first, trace_of(seed + 1000), "seed {seed}");
    }
}

/// A megabyte from the client in even seeds, from the server in odd ones.
fn one_way(seed: u64) {
    let (to_server, to_client) = if seed.is_multiple_of(2) { (MEGABYTE, 100) } else { (100, MEGABYTE) };
    let serve = move |connection: Connection| {
        let (mut out, mut input) = connection.accept_bi().expect("a stream comes");
        receive(&mut input, seed, to_server);
        send(&mut out, seed + 1, to_client);
        connection.closed();
    };
    connect(seed, TransportConfig::default(), TransportConfig::default(), serve, |connection| {
        let (mut out, mut input) = connection.open_bi().expect("a stream");
        send(&mut out, seed, to_server);
        receive(&mut input, seed + 1, to_client);
    });
}

#[test]
fn a_thousand_lossy_transfers_lose_no_byte() {
    for_each(0..1000, processors(), |seed| simulate_untraced(seed, lossy(), || one_way(seed)));
}

/// What a network does is drawn from the seed, within what a handshake survives in its ten seconds.
#[test]
fn a_thousand_networks_lose_no_byte() {
    for_each(0..1000, processors(), |seed| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut upto = |most: f64| if rng.bool() { rng.f64() * most } else { 0.0 };
        let link = LinkConfig {
            loss: upto(0.1),
            reorder: upto(0.5),
            duplicate: upto(0.3),
            corrupt: upto(0.05),
            delay: Duration::from_micros(50).mul_f64(1.0 + upto(2_000.0)),
            jitter: Duration::from_millis(50).mul_f64(upto(1.0)),
            reorder_delay: Duration::from_millis(1).mul_f64(1.0 + upto(50.0)),
            rate: Some(upto(10_000_000.0) as u64).filter(|rate| *rate > 0).map(|rate| rate + 100_000),
            queue: 10_000 + upto(200_000.0) as usize,
            ..link()
        };
        let mut transport = || {
            let [stream_window, connection_window, send_window] = [(); 3].map(|()| rng.u32(1_000..200_000));
            TransportConfig::default().stream_window(stream_window).connection_window(connection_window).send_window(send_window)
        };
        let (client, server) = (transport(), transport());
        simulate_untraced(seed, link, || exchange(seed, 60_000, client, server));
    });
}

/// What is sent arrives, and most of what is answered does not: whoever is not heard says so again before the other gives up. Probes come at
/// times that double, so in a minute there are few enough for chance to end one connection in a hundred; of these seeds it ends none.
#[test]
fn lost_acknowledgements_end_no_connection() {
    for_each(0..100, processors(), |seed| {
        simulate_untraced(seed, link(), || {
            let network = sim::network().expect("a simulation");
            let transport = || TransportConfig::default().max_idle_timeout(Some(Duration::from_secs(60)));
            let serve = move |connection: Connection| {
                let (mut out, mut input) = connection.accept_bi().expect("a stream comes");
                receive(&mut input, seed, 100_000);
                send(&mut out, seed, 100);
                connection.closed();
            };
            connect(seed, transport(), transport(), serve, |connection| {
                let deaf = LinkConfig { loss: 0.75, ..link() };
                network.set_link(server_address().ip(), client_address(1).ip(), deaf);
                let (mut out, mut input) = connection.open_bi().expect("a stream");
                send(&mut out, seed, 100_000);
                receive(&mut input, seed, 100);
            });
        });
    });
}

/// Loss up to 30 %, reordering up to 50 %, duplication up to 20 %, corruption up to 10 %, 0.1 to 2000 ms there and back. Thousands
/// more: `cargo run --profile test -p weald-tests --bin simulate -- --seeds 0..10000`.
#[test]
fn five_hundred_hard_networks_lose_no_byte() {
    for_each(0..500, processors(), |seed| {
        let scenario = Scenario::new(seed);
        if let Err(why) = scenario.check() {
            panic!("{scenario}: {why}");
        }
    });
}
