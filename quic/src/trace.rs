//! What a connection tells whoever watches it: packets with their frames, losses, timeouts, and how it stands.
//!
//! Owns the events and the interface of those who take them. Does not own their form on paper: a text for people, or qlog, is an
//! implementation of [`Trace`]. Events are told by the parts where things happen; `frames` is the view of a packet's payload.
//!
//! Invariants: nothing is formatted, copied or allocated for an event, and without a trace it is not even made; a trace changes
//! nothing of what the connection does.

mod frames;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

pub use self::frames::{Frames, TracedFrame};
use crate::config::TransportConfig;
use crate::ecn::EcnMark;
use crate::error::ConnectionError;
use crate::id::ConnectionId;
use crate::path::Path;
use crate::side::Side;
use crate::time::Instant;
use crate::wire::{PacketNumber, PacketType, Version};

/// Takes the events of one connection, in their order.
///
/// It is called in the midst of the connection's work, on the thread that does it and with the connection locked: it must not
/// block, nor call anything of the connection's.
pub trait Trace: Send {
    /// Something happened at `now`, which never falls.
    fn event(&mut self, now: Instant, event: &TraceEvent<'_>);
}

/// Makes the traces of new connections, for [`TransportConfig::trace`]. One value serves all connections of its configuration, from
/// all workers.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use weald_quic::time::Instant;
/// use weald_quic::{Trace, TraceEvent, TraceFactory, TraceStart, TransportConfig};
///
/// /// Counts the CRYPTO frames of all connections, to see how often a handshake repeats itself.
/// #[derive(Clone, Debug, Default)]
/// struct CryptoFrames(Arc<AtomicU64>);
///
/// impl TraceFactory for CryptoFrames {
///     fn build(&self, _: TraceStart) -> Option<Box<dyn Trace>> {
///         Some(Box::new(self.clone()))
///     }
/// }
///
/// impl Trace for CryptoFrames {
///     fn event(&mut self, _: Instant, event: &TraceEvent<'_>) {
///         if let TraceEvent::Sent(packet) = event {
///             let count = packet.frames.iter().filter(|frame| frame.name() == "CRYPTO").count();
///             self.0.fetch_add(count as u64, Ordering::Relaxed);
///         }
///     }
/// }
///
/// let frames = CryptoFrames::default();
/// let transport = TransportConfig::default().trace(frames.clone());
/// ```
pub trait TraceFactory: fmt::Debug + Send + Sync {
    /// The trace of a connection that begins, `None` if this one is not watched.
    fn build(&self, start: TraceStart) -> Option<Box<dyn Trace>>;
}

/// Which connection begins.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct TraceStart {
    /// When.
    pub now: Instant,
    /// Which end of it this is.
    pub side: Side,
    /// The peer's address.
    pub remote: SocketAddr,
    /// The address at this end, if known.
    pub local: Option<IpAddr>,
    /// The id that the client's very first packet went to: both ends know it, and no other connection has it.
    pub original: ConnectionId,
}

/// What happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum TraceEvent<'a> {
    /// A datagram came in. What became of the packets in it follows.
    DatagramReceived {
        /// Bytes of UDP payload.
        size: usize,
        /// Its mark.
        ecn: Option<EcnMark>,
    },
    /// A packet came in that is the peer's own, and none that came before. What it caused follows.
    Received(TracedPacket<'a>),
    /// A packet came in that waits for its keys.
    Kept {
        /// What it is.
        packet_type: PacketType,
        /// Bytes, header and tag included.
        size: usize,
    },
    /// A packet came in, or what should be one, and had no effect.
    Dropped {
        /// Bytes.
        size: usize,
        /// Why.
        reason: DropReason,
    },
    /// A packet goes out.
    Sent(TracedPacket<'a>),
    /// The datagram with the packets that went out since the last one.
    DatagramSent {
        /// Bytes of UDP payload.
        size: usize,
        /// Its mark.
        ecn: Option<EcnMark>,
    },
    /// A packet that was sent is declared lost.
    Lost {
        /// What it was.
        packet_type: PacketType,
        /// Its number.
        number: PacketNumber,
    },
    /// The losses span persistent congestion (RFC 9002 section 7.6).
    PersistentCongestion,
    /// An acknowledgement or a loss was taken in: this is how the path stands since.
    Metrics(TraceMetrics),
    /// Time has come for something.
    Timeout(TraceTimer),
    /// A server asked for proof of our address, and we begin anew (RFC 9000 section 17.2.5).
    Retry,
    /// From now on the connection goes by this version: the server has agreed to it, or does not speak the one before and we begin
    /// anew (RFC 9368 section 2).
    VersionChanged(Version),
    /// From now on packets are sealed with new keys (RFC 9001 section 6).
    KeysUpdated {
        /// Updates so far, this one included.
        updates: u64,
    },
    /// The connection enters a state.
    State(TraceState<'a>),
}

/// A packet in the clear.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TracedPacket<'a> {
    /// What it is.
    pub packet_type: PacketType,
    /// Its number.
    pub number: PacketNumber,
    /// Bytes, header and tag included.
    pub size: usize,
    /// The spin bit (RFC 9000 section 17.4), which 1-RTT packets alone have.
    pub spin: bool,
    /// The key phase (RFC 9001 section 6), which 1-RTT packets alone have.
    pub key_phase: bool,
    /// What it carries.
    pub frames: Frames<'a>,
}

/// Why a packet had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// It came from another address than the peer's (RFC 9000 section 9).
    OtherAddress,
    /// It is for another connection than the first packet of its datagram (RFC 9000 section 12.2).
    OtherConnection,
    /// Its long header names another peer.
    OtherPeer,
    /// Its long header names a version that this connection does not go by.
    OtherVersion,
    /// It is a client's Initial packet in a datagram below 1200 bytes (RFC 9000 section 14.1).
    ShortDatagram,
    /// Its header makes no sense, or is of another version.
    UnknownFormat,
    /// There are no keys for it: not yet, not any more, or never.
    NoKeys,
    /// It is forged or damaged.
    NotAuthentic,
    /// It came before.
    Duplicate,
    /// It is a Retry or Version Negotiation packet that is forged, late, or not for us.
    Unexpected,
}

/// How a path stands, as in [`ConnectionStats`](crate::ConnectionStats).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TraceMetrics {
    /// Congestion window in bytes.
    pub congestion_window: u64,
    /// Bytes in flight.
    pub bytes_in_flight: u64,
    /// Smoothed round-trip time.
    pub rtt: Duration,
    /// The mean deviation of round-trip times.
    pub rtt_variation: Duration,
    /// The shortest round-trip time.
    pub min_rtt: Duration,
}

/// What the time has come for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TraceTimer {
    /// Packets of this type were overtaken too long ago, and are lost.
    Loss(PacketType),
    /// No acknowledgement came for packets of this type: probes go out (RFC 9002 section 6.2).
    Probe(PacketType),
    /// Something is to be sent so that the connection stays alive.
    KeepAlive,
    /// Nothing came for as long as a connection lives without.
    Idle,
    /// The handshake took as long as it may.
    Handshake,
    /// The end of the time that a closed connection listens on.
    Close,
}

/// The state that a connection enters. It begins in none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TraceState<'a> {
    /// The handshake is complete.
    Connected,
    /// The peer is known to be complete as well.
    Confirmed,
    /// This end closes (RFC 9000 section 10.2.1).
    Closing(&'a ConnectionError),
    /// The other end has closed: nothing is sent any more (RFC 9000 section 10.2.2).
    Draining(&'a ConnectionError),
    /// It is over without a word to the peer.
    Ended(&'a ConnectionError),
    /// Nothing is left of it. The last event.
    Drained,
}

/// A connection's trace, if it has one.
pub(crate) struct Tracer(Option<Box<dyn Trace>>);

impl Tracer {
    /// Nobody watches.
    pub(crate) fn none() -> Tracer {
        Tracer(None)
    }

    /// The trace that the configuration wants for a connection.
    pub(crate) fn new(config: &TransportConfig, start: impl FnOnce() -> TraceStart) -> Tracer {
        Tracer(config.trace.as_ref().and_then(|factory| factory.build(start())))
    }

    /// Whether somebody watches.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Tells an event, which is made only if somebody watches.
    #[inline]
    pub(crate) fn tell<'a>(&mut self, now: Instant, event: impl FnOnce() -> TraceEvent<'a>) {
        if let Some(trace) = &mut self.0 {
            trace.event(now, &event());
        }
    }
}

impl TraceMetrics {
    pub(crate) fn of(path: &Path) -> TraceMetrics {
        let rtt = path.rtt();
        TraceMetrics {
            congestion_window: path.window(),
            bytes_in_flight: path.in_flight(),
            rtt: rtt.smoothed(),
            rtt_variation: rtt.variation(),
            min_rtt: rtt.min(),
        }
    }
}

impl fmt::Display for TracedPacket<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.packet_type, self.number)?;
        if self.packet_type == PacketType::OneRtt {
            write!(f, " spin {} phase {}", u8::from(self.spin), u8::from(self.key_phase))?;
        }
        write!(f, " [{}]", self.frames)
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DropReason::OtherAddress => "from another address",
            DropReason::OtherConnection => "for another connection than the packet before it",
            DropReason::OtherPeer => "from another peer",
            DropReason::OtherVersion => "of another version",
            DropReason::ShortDatagram => "an Initial packet in a short datagram",
            DropReason::UnknownFormat => "no packet of this version",
            DropReason::NoKeys => "no keys for it",
            DropReason::NotAuthentic => "not authentic",
            DropReason::Duplicate => "came before",
            DropReason::Unexpected => "not the answer to our first packet",
        })
    }
}

impl fmt::Display for TraceTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TraceTimer::Loss(packets) => write!(f, "loss of {packets} packets by time"),
            TraceTimer::Probe(packets) => write!(f, "probe of {packets} packets"),
            TraceTimer::KeepAlive => f.write_str("keep-alive"),
            TraceTimer::Idle => f.write_str("idle"),
            TraceTimer::Handshake => f.write_str("handshake"),
            TraceTimer::Close => f.write_str("close"),
        }
    }
}

impl fmt::Display for TraceState<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TraceState::Connected => f.write_str("connected"),
            TraceState::Confirmed => f.write_str("confirmed"),
            TraceState::Closing(error) => write!(f, "closing: {error}"),
            TraceState::Draining(error) => write!(f, "draining: {error}"),
            TraceState::Ended(error) => write!(f, "ended: {error}"),
            TraceState::Drained => f.write_str("drained"),
        }
    }
}
