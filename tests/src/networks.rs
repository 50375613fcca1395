//! Networks drawn from seeds, from perfect to hardly usable, and a megabyte through each.
//!
//! Owns how a seed becomes a network and a transfer, and what must hold: not one byte is lost, altered or repeated, and a seed
//! gives the same trace each time. Who runs which seeds is the caller's business.

use std::fmt;
use std::time::Duration;

use weald_crypto::simulation;
use weald_quic::{Algorithm, ConnectionStats, Endpoint, RecvStream, SendStream, TransportConfig};
use weald_runtime::sim::{self, LinkConfig, TraceEntry};
use weald_runtime::time::Instant;
use weald_runtime::{JoinHandle, spawn};

use crate::trace_file::Log;
use crate::world::{client_address, client_config, payload, server_address, server_config, simulate, simulate_untraced};

/// What a transfer moves in each of its directions, in bytes.
pub const MEGABYTE: usize = 1_000_000;

/// Every so many seeds are run twice, to compare their traces.
pub const TWICE_EVERY: u64 = 100;

/// How many probe timeouts an end waits for a word from the other, unless told otherwise. Each round of probes waits twice as long as
/// the one before (RFC 9002, 6.2.1), so that twenty are four rounds to an end whose estimate is that of [`Scenario`], and up to
/// eight where round trips vary less than assumed there. Where 30 % are lost and 10 % damaged each way, a datagram fails to arrive in 37
/// of 100 cases, both of a round in 14, and a round with one answer in 46. So even a flawless end gives up by chance: four rounds in
/// a row fail in 4 of 100 silences, eight in 2 of 1,000, and an end that the other's probes reach hears of it before. Of the seeds
/// from 0 to 10,000 none does.
pub const PATIENCE: u32 = 20;

/// A network and what is done on it. The same seed gives the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// What it was drawn from.
    pub seed: u64,
    /// The time there and back: 0.1 to 2000 ms, evenly over its logarithm.
    pub rtt: Duration,
    /// Each direction's probability of losing a datagram, 0 to 0.3.
    pub loss: f64,
    /// That of holding one back, 0 to 0.5, by [`reorder_delay`](Self::reorder_delay).
    pub reorder: f64,
    /// How long one is held back: up to the time there and back, so that packets of several rounds mix.
    pub reorder_delay: Duration,
    /// The probability of repeating one, 0 to 0.2.
    pub duplicate: f64,
    /// The probability of flipping a bit in one, 0 to 0.1.
    pub corrupt: f64,
    /// Both ends' congestion control.
    pub congestion: Algorithm,
    /// Bytes from client to server, and back.
    pub bytes: [usize; 2],
    /// Streams that they are spread over, 1 to 8.
    pub streams: usize,
    /// Both ends' handshake and idle timeouts, in probe timeouts of this network; never less than the default. [`PATIENCE`].
    pub patience: u32,
}

/// What a transfer took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report {
    /// Virtual time from the first packet until both ends were done.
    pub time: Duration,
    /// What the client counted.
    pub client: ConnectionStats,
}

impl Scenario {
    /// What `seed` gives.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let rtt = Duration::from_nanos((100_000.0 * 20_000_f64.powf(rng.f64())) as u64);
        // One fault in four is left out, so that each is met without the others.
        let mut upto = |most: f64| if rng.u8(..4) == 0 { 0.0 } else { rng.f64() * most };
        let [loss, reorder, duplicate, corrupt] = [0.3, 0.5, 0.2, 0.1].map(&mut upto);
        let reorder_delay = rtt.mul_f64(rng.f64());
        let congestion = if rng.bool() { Algorithm::Cubic } else { Algorithm::NewReno };
        // A request of one and a response of the other, or both at once.
        let bytes = [[MEGABYTE, 100], [100, MEGABYTE], [MEGABYTE, MEGABYTE]][rng.usize(..3)];
        let streams = rng.usize(1..=8);
        Self { seed, rtt, loss, reorder, reorder_delay, duplicate, corrupt, congestion, bytes, streams, patience: PATIENCE }
    }

    fn link(&self) -> LinkConfig {
        LinkConfig {
            delay: self.rtt / 2,
            loss: self.loss,
            reorder: self.reorder,
            reorder_delay: self.reorder_delay,
            duplicate: self.duplicate,
            corrupt: self.corrupt,
            ..LinkConfig::default()
        }
    }

    /// The probe timeout on this network (RFC 9002, 6.2.1): at first that of the initial estimate, and later that of a round trip
    /// that varies, where most acknowledgements are lost or late, by as much as itself.
    fn probe_timeout(&self) -> Duration {
        /// RFC 9002, 6.2.2: assumed before the first measurement.
        const INITIAL_RTT: Duration = Duration::from_millis(333);
        /// RFC 9000, 18.2: what both ends may keep an acknowledgement back for.
        const MAX_ACK_DELAY: Duration = Duration::from_millis(25);
        let slowest = self.rtt + 2 * self.reorder_delay;
        let first = 3 * INITIAL_RTT;
        first.max(slowest + 4 * slowest + MAX_ACK_DELAY)
    }

    fn transport(&self) -> TransportConfig {
        let patience = self.patience * self.probe_timeout();
        TransportConfig::default()
            .congestion(self.congestion)
            .handshake_timeout(patience.max(Duration::from_secs(10)))
            .max_idle_timeout(Some(patience.max(Duration::from_secs(30))))
    }

    /// Runs the transfer, and a second time with its trace compared if the seed is one of those.
    ///
    /// # Errors
    ///
    /// What went wrong, if a byte was lost, altered or repeated, or the traces differ.
    pub fn check(&self) -> Result<Report, String> {
        if !self.seed.is_multiple_of(TWICE_EVERY) {
            return simulate_untraced(self.seed, self.link(), || self.transfer(self.transport()));
        }
        let traced = || simulate(self.seed, self.link(), || (self.transfer(self.transport()), sim::trace()));
        let (report, first) = traced();
        let (again, second) = traced();
        if let Some(at) = (0..first.len().max(second.len())).find(|at| first.get(*at) != second.get(*at)) {
            return Err(format!("event {at} differs the second time\n  {:?}\n  {:?}", first.get(at), second.get(at)));
        }
        if report != again {
            return Err(format!("the outcome differs the second time: {report:?}, {again:?}"));
        }
        report
    }

    /// Runs the transfer, and gives what both ends and the network did besides.
    pub fn traced(&self) -> (Result<Report, String>, Log, Vec<TraceEntry>) {
        simulate(self.seed, self.link(), || {
            let log = Log::new();
            (self.transfer(self.transport().trace(log.clone())), log, sim::trace())
        })
    }

    fn transfer(&self, transport: TransportConfig) -> Result<Report, String> {
        let Self { seed, bytes: [up, down], streams, .. } = *self;
        let start = Instant::now();
        let server = Endpoint::server(server_config(seed, transport.clone()), server_address()).map_err(|error| error.to_string())?;
        let accepting = server.clone();
        let serving = spawn(move || {
            // None if the client never came.
            let Some(connection) = accepting.accept() else { return Ok(()) };
            let streams = (0..streams).map(|_| Ok(Stream::new(connection.accept_bi().map_err(told)?, seed, streams)));
            let serving: Vec<_> = streams.map(|stream| stream.map(|stream: Stream| spawn(move || stream.carry(down, up, 1)))).collect();
            let served = join(serving);
            connection.closed();
            served.map_err(|error| format!("the server: {error}"))
        });
        let client = Endpoint::client(client_address(1)).map_err(|error| error.to_string())?;
        let asked = self.ask(&client, transport, up, down);
        for endpoint in [&client, &server] {
            endpoint.close(0_u32.into(), b"");
        }
        let served = serving.join().map_err(|error| error.to_string())?;
        for endpoint in [client, server] {
            endpoint.wait_idle();
        }
        let client = asked.map_err(|error| format!("the client: {error}"))?;
        served?;
        Ok(Report { time: start.elapsed(), client })
    }

    fn ask(&self, client: &Endpoint, transport: TransportConfig, up: usize, down: usize) -> Result<ConnectionStats, String> {
        let Self { seed, streams, .. } = *self;
        let connecting = client.connect_with(client_config(seed, transport), server_address(), simulation::SERVER_NAME);
        let connection = connecting.map_err(|error| format!("it does not connect: {error}"))?;
        let streams = (0..streams).map(|_| Ok(Stream::new(connection.open_bi().map_err(told)?, seed, streams)));
        let asking = streams.map(|stream| stream.map(|stream: Stream| spawn(move || stream.carry(up, down, 0)))).collect();
        join(asking)?;
        let stats = connection.stats();
        connection.close(0_u32.into(), b"done");
        Ok(stats)
    }
}

/// One end of one of the streams.
struct Stream {
    out: SendStream,
    input: RecvStream,
    seed: u64,
    /// Of how many.
    streams: usize,
}

impl Stream {
    fn new((out, input): (SendStream, RecvStream), seed: u64, streams: usize) -> Self {
        Self { out, input, seed, streams }
    }

    /// Sends this stream's share of `sent` bytes while it receives its share of `received`, and waits until both are there.
    /// `side` is 0 at a client.
    fn carry(self, sent: usize, received: usize, side: u64) -> Result<(), String> {
        let Self { mut out, mut input, seed, streams } = self;
        // The streams of a server may come in any order.
        let number = input.id().index();
        let seed = seed.wrapping_add(2 * number);
        let (sent, received) = (share(sent, streams, number), share(received, streams, number));
        let sending = spawn(move || {
            out.write_all(&payload(seed + side, sent)).map_err(told)?;
            out.finish().map_err(told)?;
            // A server's end is told by the client's close, which may be lost.
            if side == 1 {
                return Ok(());
            }
            match out.stopped() {
                Ok(None) => Ok(()),
                other => Err(format!("not all was acknowledged: {other:?}")),
            }
        });
        let arrived = input.read_to_end(received + 1).map_err(told)?;
        let expected = payload(seed + 1 - side, received);
        if arrived != expected {
            let at = arrived.iter().zip(&expected).position(|(arrived, expected)| arrived != expected);
            return Err(format!("stream {number}: {} bytes arrived of {received}, and the first that differs is {at:?}", arrived.len()));
        }
        sending.join().map_err(told)?
    }
}

fn told(error: impl fmt::Display) -> String {
    error.to_string()
}

/// The first error of all, once all have ended.
fn join(coroutines: Vec<Result<JoinHandle<Result<(), String>>, String>>) -> Result<(), String> {
    let ends: Vec<Result<(), String>> = coroutines.into_iter().map(|coroutine| coroutine?.join().map_err(told)?).collect();
    ends.into_iter().collect()
}

/// What one of `streams` streams carries of `bytes`: all but the first the same.
fn share(bytes: usize, streams: usize, number: u64) -> usize {
    let each = bytes / streams;
    if number == 0 { bytes - each * (streams - 1) } else { each }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |probability: f64| format!("{:.1} %", 100.0 * probability);
        write!(
            f,
            "seed {}: RTT {:.1?}, loss {}, reordered {} by {:.1?}, repeated {}, corrupted {}, {:?}, {} bytes up and {} down on {} streams",
            self.seed,
            self.rtt,
            percent(self.loss),
            percent(self.reorder),
            self.reorder_delay,
            percent(self.duplicate),
            percent(self.corrupt),
            self.congestion,
            self.bytes[0],
            self.bytes[1],
            self.streams
        )
    }
}
