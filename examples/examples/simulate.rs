//! A program on a simulated network that loses packets, in virtual time: `cargo run --example simulate -p weald -- [SEED]`.
//!
//! The same seed gives the same run, packet by packet. The program inside is an ordinary one: it would run on real sockets as it is.

use std::net::SocketAddr;
use std::time::Duration;

use weald_crypto::simulation::{SERVER_NAME, roots, server_credentials};
use weald_quic::{ClientConfig, Endpoint, ServerConfig};
use weald_runtime::sim::{LinkConfig, NetworkConfig, Simulation, TraceEntry, Verdict, trace};
use weald_runtime::time::Instant;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const SIZE: usize = 1_000_000;

fn main() -> Result<()> {
    let seed = std::env::args().nth(1).map_or(Ok(1), |argument| argument.parse())?;
    let link = LinkConfig {
        delay: Duration::from_millis(20),
        jitter: Duration::from_millis(2),
        loss: 0.02,
        reorder: 0.01,
        // 20 Mbit/s
        rate: Some(2_500_000),
        ..LinkConfig::default()
    };
    let simulate = || {
        let network = NetworkConfig { link: link.clone(), ..NetworkConfig::default() };
        Simulation::new(seed).network(network).run(|| transfer().map(|time| (time, trace())))
    };
    let (time, trace) = simulate()?;
    println!("seed {seed}: {SIZE} bytes in {} ms of virtual time", time.as_millis());
    summary(&trace);
    let (_, again) = simulate()?;
    println!("the same seed again gives {} trace", if again == trace { "the same" } else { "ANOTHER" });
    Ok(())
}

/// A client fetches a megabyte from a server on another host.
fn transfer() -> Result<Duration> {
    // Real key exchanges are random. These are seeded, and worth nothing outside of a simulation.
    let (chain, key) = server_credentials();
    let server_tls = weald_crypto::ServerConfig::builder().alpn([b"bulk"]).certificate(chain, key).simulation(1).build()?;
    let client_tls = weald_crypto::ClientConfig::builder().alpn([b"bulk"]).roots(roots()).simulation(2).build()?;

    let address: SocketAddr = "10.0.0.1:443".parse()?;
    let server = Endpoint::server(ServerConfig::new(server_tls), address)?;
    let serving = weald_runtime::spawn(move || -> Result<()> {
        let connection = server.accept().ok_or("the endpoint closed")?;
        let mut send = connection.open_uni()?;
        send.write_all(&vec![7; SIZE])?;
        send.finish()?;
        connection.closed();
        Ok(())
    });

    let began = Instant::now();
    let client = Endpoint::client("10.0.0.2:0".parse()?)?;
    let connection = client.connect_with(ClientConfig::new(client_tls), address, SERVER_NAME)?;
    let received = connection.accept_uni()?.read_to_end(SIZE)?;
    let time = began.elapsed();
    if received != vec![7; SIZE] {
        return Err("the bytes that came are not those that were sent".into());
    }
    connection.close(0u32.into(), b"done");
    client.wait_idle();
    serving.join().map_err(|error| error.to_string())??;
    Ok(time)
}

/// Counts what happened to the datagrams of each direction.
fn summary(trace: &[TraceEntry]) {
    for (name, from) in [("server to client", "10.0.0.1"), ("client to server", "10.0.0.2")] {
        let of = |wanted: fn(&Verdict) -> bool| {
            trace.iter().filter(|entry| entry.from.ip().to_string() == from && wanted(&entry.verdict)).count()
        };
        let sent = of(|verdict| matches!(verdict, Verdict::Sent { .. } | Verdict::Reordered { .. }));
        let reordered = of(|verdict| matches!(verdict, Verdict::Reordered { .. }));
        let lost = of(|verdict| matches!(verdict, Verdict::Lost | Verdict::QueueFull));
        println!("{name}: {sent} datagrams passed, {reordered} of them out of order; {lost} were lost");
    }
}
