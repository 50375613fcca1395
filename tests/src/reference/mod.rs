//! Ours and another stack, quinn-proto, as senders and receivers of bulk data over the same simulated path.
//!
//! Owns: the path, the tuning that both stacks are given, and the measurement. Does not own the stacks' ends, which are [`ours`]
//! and [`quinn`]. Invariant: both stacks get the same windows, datagram size, timers and network, so that a difference is
//! recovery's, congestion control's or the pacer's.

pub mod ours;
pub mod quinn;

use std::fmt::{self, Display};
use std::time::Duration;

use weald_quic::Algorithm;
use weald_runtime::JoinHandle;
use weald_runtime::sim::LinkConfig;

use crate::world;

/// The streams that a transfer is spread over. quinn-proto closes a connection when a stream has more than 1,024 gaps, and a slow
/// start that ends in a full queue leaves more than these, were they all on one stream.
pub const STREAMS: usize = 16;

/// What an end does with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Opens the streams and writes until the connection ends.
    Send,
    /// Reads what arrives for so long from the handshake on, then closes the connection.
    Receive(Duration),
}

/// What both stacks are told.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// The congestion controller.
    pub controller: Algorithm,
    /// What a stream and a connection may hold unread, and a sender unacknowledged, in bytes.
    pub window: u32,
}

/// A QUIC implementation. Each end has a connection and gives back how many bytes it read.
pub trait Stack: Sync {
    /// Its name in tables.
    fn name(&self) -> &'static str;

    /// Waits for a connection at [`world::server_address`], on a coroutine of its own.
    fn serve(&self, seed: u64, tuning: &Tuning, role: Role) -> JoinHandle<u64>;

    /// Connects to it, from [`world::client_address`].
    fn connect(&self, seed: u64, tuning: &Tuning, role: Role) -> u64;
}

/// The stacks.
pub static STACKS: [&dyn Stack; 2] = [&ours::Weald, &quinn::Quinn];

/// A path, the same in both directions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Path {
    /// The round-trip time of an empty path.
    pub rtt: Duration,
    /// The probability that a datagram is lost.
    pub loss: f64,
    /// What passes, in bytes of UDP payload a second.
    pub rate: u64,
}

impl Path {
    /// The bandwidth-delay product in bytes.
    #[must_use]
    pub fn product(&self) -> u64 {
        (self.rate as f64 * self.rtt.as_secs_f64()) as u64
    }

    /// What waits before more is dropped: the bandwidth-delay product, so that a sawtooth of halves keeps the link full, and
    /// what a small router has at least.
    #[must_use]
    pub fn queue(&self) -> u64 {
        self.product().max(65_536)
    }

    /// How long a measurement on it takes: slow start is over in 30 round trips, and must not weigh more than a few per cent.
    #[must_use]
    pub fn span(&self) -> Duration {
        (self.rtt * 200).max(Duration::from_secs(10))
    }

    fn link(&self) -> LinkConfig {
        LinkConfig {
            delay: self.rtt / 2,
            loss: self.loss,
            rate: Some(self.rate),
            queue: usize::try_from(self.queue()).expect("a queue that fits into memory"),
            ..LinkConfig::default()
        }
    }
}

impl Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms, {} % loss", self.rtt.as_millis(), self.loss * 100.0)
    }
}

/// Who sends to whom.
#[derive(Clone, Copy)]
pub struct Pairing {
    /// Sends.
    pub sender: &'static dyn Stack,
    /// Receives.
    pub receiver: &'static dyn Stack,
    /// The sender made the connection; otherwise it accepted it.
    pub upload: bool,
}

impl Display for Pairing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.sender.name(), self.receiver.name())
    }
}

/// Every stack to every stack, itself first.
pub fn pairings(upload: bool) -> impl Iterator<Item = Pairing> {
    STACKS.iter().flat_map(move |sender| STACKS.iter().map(move |receiver| Pairing { sender: *sender, receiver: *receiver, upload }))
}

/// The bytes a second that a receiver's application gets in `span` from the handshake on.
pub fn goodput(seed: u64, path: &Path, tuning: &Tuning, pairing: Pairing, span: Duration) -> f64 {
    let Pairing { sender, receiver, upload } = pairing;
    let tuning = *tuning;
    let bytes = world::simulate_untraced(seed, path.link(), || {
        let (server, client) = if upload { (receiver, sender) } else { (sender, receiver) };
        let (serves, connects) = if upload { (Role::Receive(span), Role::Send) } else { (Role::Send, Role::Receive(span)) };
        let serving = server.serve(seed, &tuning, serves);
        let bytes = client.connect(seed, &tuning, connects);
        bytes.max(serving.join().expect("the server's end does not panic"))
    });
    bytes as f64 / span.as_secs_f64()
}
