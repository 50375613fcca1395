//! Both ends of a connection in one simulation, and what they say to each other.
//!
//! Every byte follows from the seed: keys, the network's faults and the data. A failure prints the seed and how to repeat it.

use std::net::SocketAddr;
use std::time::Duration;

use weald_crypto::{Certificates, simulation};
use weald_quic::{ClientConfig, Connection, Endpoint, RecvStream, SendStream, ServerConfig, TransportConfig};
use weald_runtime::sim::{self, LinkConfig, NetworkConfig, Simulation};
use weald_runtime::spawn;

use crate::trace_file::{self, Log};

/// What both ends speak.
pub const ALPN: &[u8] = b"weald-test";

/// Where the server is.
pub fn server_address() -> SocketAddr {
    "10.0.0.1:443".parse().expect("an address")
}

/// Where a client is: host `number` of a network of 65,535, any port.
pub fn client_address(number: u16) -> SocketAddr {
    let [high, low] = number.to_be_bytes();
    SocketAddr::from(([10, 1, high, low], 0))
}

/// A client's TLS.
pub fn client_tls(seed: u64) -> weald_crypto::ClientConfig {
    let builder = weald_crypto::ClientConfig::builder().alpn([ALPN]).roots(simulation::roots()).simulation(seed);
    builder.build().expect("the fixture is valid")
}

/// A client that verifies the server.
pub fn client_config(seed: u64, transport: TransportConfig) -> ClientConfig {
    ClientConfig::new(client_tls(seed)).transport(transport)
}

/// A server with the fixture certificate.
pub fn server_config(seed: u64, transport: TransportConfig) -> ServerConfig {
    server_config_with_chain(seed, transport, 1)
}

/// A server that sends the fixture certificate `certificates` times, as one with a long chain would.
pub fn server_config_with_chain(seed: u64, transport: TransportConfig, certificates: usize) -> ServerConfig {
    ServerConfig::new(server_tls(seed, certificates)).transport(transport)
}

/// A server that takes early data.
pub fn early_server_config(seed: u64, transport: TransportConfig) -> ServerConfig {
    ServerConfig::new(server_tls_builder(seed, 1).early_data(true).build().expect("the fixture is valid")).transport(transport)
}

/// A server's TLS, with a chain of so many certificates.
pub fn server_tls(seed: u64, certificates: usize) -> weald_crypto::ServerConfig {
    server_tls_builder(seed, certificates).build().expect("the fixture is valid")
}

/// The same, to be changed.
pub fn server_tls_builder(seed: u64, certificates: usize) -> weald_crypto::ServerConfigBuilder {
    let (chain, key) = simulation::server_credentials();
    let chain: Vec<Vec<u8>> = chain.iter().map(<[u8]>::to_vec).collect();
    let chain = Certificates::from_der(chain.into_iter().cycle().take(certificates));
    weald_crypto::ServerConfig::builder().alpn([ALPN]).certificate(chain, key).simulation(seed)
}

/// `len` bytes that follow from `seed`.
pub fn payload(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

/// Compares what arrived with `payload(seed, len)`, and says where they differ.
///
/// # Panics
/// If they do.
pub fn assert_payload(arrived: &[u8], seed: u64, len: usize) {
    assert_eq!(arrived.len(), len, "bytes that arrived");
    let expected = payload(seed, len);
    if let Some(at) = arrived.iter().zip(&expected).position(|(arrived, expected)| arrived != expected) {
        panic!("byte {at} of {len} arrived changed");
    }
}

/// Runs `f` in a simulation over links that are all alike. If it panics, its seed is printed.
pub fn simulate<T>(seed: u64, link: LinkConfig, f: impl FnOnce() -> T) -> T {
    let network = NetworkConfig { link, ..NetworkConfig::default() };
    run(Simulation::new(seed).network(network), seed, f)
}

/// The same with a log for `f` to give to its connections. If it panics, what they and the network did lies in
/// `target/traces/NAME-SEED.txt`; with `WEALD_TRACES` in the environment in any case.
pub fn record<T>(name: &str, seed: u64, link: LinkConfig, f: impl FnOnce(&Log) -> T) -> T {
    struct Recording<'a>(&'a str, u64, Log);
    impl Drop for Recording<'_> {
        fn drop(&mut self) {
            let Self(name, seed, log) = self;
            if std::thread::panicking() || std::env::var_os("WEALD_TRACES").is_some() {
                match trace_file::write(name, *seed, &format!("{name}, seed {seed}"), log, &sim::trace()) {
                    Ok(path) => eprintln!("what happened: {}", path.display()),
                    Err(error) => eprintln!("no trace was written: {error}"),
                }
            }
        }
    }
    simulate(seed, link, || {
        let recording = Recording(name, seed, Log::new());
        f(&recording.2)
    })
}

/// The same without a trace.
pub fn simulate_untraced<T>(seed: u64, link: LinkConfig, f: impl FnOnce() -> T) -> T {
    run(Simulation::new(seed).network(NetworkConfig { link, trace: false, ..NetworkConfig::default() }), seed, f)
}

fn run<T>(simulation: Simulation, seed: u64, f: impl FnOnce() -> T) -> T {
    struct Named(u64);
    impl Drop for Named {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("the simulation that failed has seed {}", self.0);
            }
        }
    }
    let _named = Named(seed);
    simulation.run(f)
}

/// A connection between two endpoints of this simulation, of which `serve` has the server's end on a coroutine of its own, and
/// `request` the client's end. Returns what `request` does once both are done.
pub fn connect<T>(
    seed: u64,
    client: TransportConfig,
    server: TransportConfig,
    serve: impl FnOnce(Connection) + Send + 'static,
    request: impl FnOnce(&Connection) -> T,
) -> T {
    let server = Endpoint::server(server_config(seed, server), server_address()).expect("a server");
    let accepting = server.clone();
    let serving = spawn(move || serve(accepting.accept().expect("a connection comes")));
    let client_endpoint = Endpoint::client(client_address(1)).expect("a client");
    let connection =
        client_endpoint.connect_with(client_config(seed, client), server_address(), simulation::SERVER_NAME).expect("a connection");
    let result = request(&connection);
    connection.close(0_u32.into(), b"done");
    serving.join().expect("the server does not panic");
    for endpoint in [client_endpoint, server] {
        endpoint.close(0_u32.into(), b"");
        endpoint.wait_idle();
    }
    result
}

/// Sends `payload(seed, len)` and the end of the stream.
pub fn send(stream: &mut SendStream, seed: u64, len: usize) {
    stream.write_all(&payload(seed, len)).expect("it is sent");
    stream.finish().expect("it is open");
}

/// Receives `payload(seed, len)` and the end of the stream.
pub fn receive(stream: &mut RecvStream, seed: u64, len: usize) {
    let arrived = stream.read_to_end(len).expect("it arrives");
    assert_payload(&arrived, seed, len);
}

/// A handshake, then `len` bytes each way at the same time on one stream, compared at both ends.
pub fn exchange(seed: u64, len: usize, client: TransportConfig, server: TransportConfig) {
    let serve = move |connection: Connection| {
        let (mut out, mut input) = connection.accept_bi().expect("a stream comes");
        let sending = spawn(move || send(&mut out, seed + 1, len));
        receive(&mut input, seed, len);
        sending.join().expect("it does not panic");
        connection.closed();
    };
    connect(seed, client, server, serve, |connection| {
        let (mut out, mut input) = connection.open_bi().expect("a stream");
        let sending = spawn(move || {
            send(&mut out, seed, len);
            // All of it is acknowledged, so that closing the connection discards nothing.
            assert_eq!(out.stopped().expect("the connection lives"), None);
        });
        receive(&mut input, seed + 1, len);
        sending.join().expect("it does not panic");
    });
}

/// A link that takes 10 ms.
pub fn link() -> LinkConfig {
    LinkConfig { delay: Duration::from_millis(10), ..LinkConfig::default() }
}
