//! A congestion controller of one's own: `cargo run --example controller -p weald`.
//!
//! It keeps to a rate that was agreed on, as on a leased line, whatever is lost: here on a simulated link of 20 Mbit/s with 2 % loss,
//! beside CUBIC, which takes each loss for a full queue.

use std::time::Duration;

use weald_crypto::simulation::{SERVER_NAME, roots, server_credentials};
use weald_quic::time::Instant;
use weald_quic::{
    AckedPacket, Algorithm, ClientConfig, CongestionSignal, Controller, ControllerFactory, ControllerStart, Endpoint, RttSample,
    ServerConfig, TransportConfig,
};
use weald_runtime::sim::{LinkConfig, NetworkConfig, Simulation};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const SIZE: usize = 4_000_000;

/// The controller, and the factory that copies it for each path.
#[derive(Clone, Debug)]
struct Leased {
    /// Bytes a second.
    rate: u64,
    rtt: Duration,
}

#[rustfmt::skip]
impl ControllerFactory for Leased {
    fn name(&self) -> &str { "leased" }
    fn build(&self, _: ControllerStart) -> Box<dyn Controller> { Box::new(self.clone()) }
}

#[rustfmt::skip]
impl Controller for Leased {
    fn on_rtt(&mut self, sample: RttSample) { self.rtt = sample.smoothed; }
    fn on_acked(&mut self, _: AckedPacket) {}
    fn on_congestion(&mut self, _: Instant, _: Instant, _: CongestionSignal) {}
    fn on_persistent_congestion(&mut self) {}
    fn on_mtu(&mut self, _: u16) {}
    /// Two round trips' worth, so that the rate is what limits.
    fn window(&self) -> u64 { (self.rate as f64 * self.rtt.as_secs_f64() * 2.0) as u64 }
    fn in_slow_start(&self) -> bool { false }
    fn pacing_rate(&self) -> Option<u64> { Some(self.rate) }
}

fn main() -> Result<()> {
    let leased = Leased { rate: 2_400_000, rtt: Duration::from_millis(100) };
    for transport in [TransportConfig::wan().congestion(Algorithm::Cubic), TransportConfig::wan().congestion(leased)] {
        let link = LinkConfig { delay: Duration::from_millis(20), loss: 0.02, rate: Some(2_500_000), ..LinkConfig::default() };
        let network = NetworkConfig { link, ..NetworkConfig::default() };
        let time = Simulation::new(1).network(network).run(|| transfer(transport))?;
        println!("{} kB/s", SIZE as u128 / time.as_millis());
    }
    Ok(())
}

/// A client fetches some megabytes from a server with this transport.
fn transfer(transport: TransportConfig) -> Result<Duration> {
    let (chain, key) = server_credentials();
    let tls = weald_crypto::ServerConfig::builder().alpn([b"bulk"]).certificate(chain, key).simulation(1).build()?;
    let server = Endpoint::server(ServerConfig::new(tls).transport(transport), "10.0.0.1:443".parse()?)?;
    let serving = weald_runtime::spawn(move || -> Result<()> {
        let connection = server.accept().ok_or("the endpoint closed")?;
        let mut stream = connection.open_uni()?;
        stream.write_all(&vec![7; SIZE])?;
        stream.finish()?;
        connection.close_after_flush(Duration::from_secs(60))?;
        Ok(())
    });
    let tls = weald_crypto::ClientConfig::builder().alpn([b"bulk"]).roots(roots()).simulation(2).build()?;
    let client = Endpoint::client("10.0.0.2:0".parse()?)?;
    let connection = client.connect_with(ClientConfig::new(tls), "10.0.0.1:443".parse()?, SERVER_NAME)?;
    let (began, mut stream) = (weald_runtime::time::Instant::now(), connection.accept_uni()?);
    stream.read_exact(&mut vec![0; SIZE])?;
    let time = began.elapsed();
    serving.join().map_err(|error| error.to_string())??;
    Ok(time)
}
