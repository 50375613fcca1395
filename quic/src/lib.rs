//! QUIC version 1 (RFC 9000, 9001, 9002).
//!
//! [`protocol`] is a set of values without I/O, clock or threads: time, randomness and datagrams are passed in. With the
//! feature `driver`, which is on by default, the crate's root has them as blocking calls on `weald_runtime`: [`Endpoint`],
//! [`Connection`], [`SendStream`] and [`RecvStream`].

#![forbid(unsafe_code)]

mod chunk;
#[cfg(feature = "simulation")]
#[doc(hidden)]
pub mod codec;
mod config;
mod connection;
mod containment;
#[cfg(feature = "driver")]
mod driver;
mod ecn;
mod endpoint;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
#[cfg(feature = "driver")]
mod governor;
mod handle;
mod id;
mod offset_map;
mod path;
mod path_id;
mod pressure;
mod random;
mod ranges;
mod recovery;
mod refusal;
mod side;
mod stats;
mod stream_id;
mod streams;
pub mod time;
mod token;
mod trace;
mod wire;

pub use config::{ClientConfig, ConnectionLimits, EndpointConfig, RetryPolicy, SendWindow, ServerConfig, ServerLimits, TransportConfig};
pub use connection::{EarlyData, MemoryTokenStore, TokenStore};
#[cfg(feature = "driver")]
pub use driver::{
    Chunk, ClosedStream, ConnectError, Connection, Endpoint, EndpointMetrics, HandshakeInfo, Incoming, ReadError, ReadExactError,
    ReadToEndError, ReceivingDatagram, RecvStream, SendDatagramError, SendStream, StoppedError, WriteError,
};
pub use ecn::EcnMark;
pub use error::{ApplicationClose, ApplicationCode, ConnectionClose, ConnectionError, TransportError, TransportErrorCode};
#[cfg(feature = "driver")]
pub use governor::Governor;
pub use id::{CidSequence, ConnectionId, ResetToken};
pub use recovery::congestion::{
    AckEnd, AckedPacket, Algorithm, CongestionSignal, Controller, ControllerFactory, ControllerStart, RttSample, UnknownAlgorithm,
};
pub use refusal::{Refusal, Refusals};
pub use side::Side;
pub use stats::{ConnectionStats, EndpointStats};
pub use stream_id::{Direction, StreamId};
pub use trace::{
    DropReason, Frames, Trace, TraceEvent, TraceFactory, TraceMetrics, TraceStart, TraceState, TraceTimer, TracedFrame, TracedPacket,
};
pub use wire::{PacketNumber, PacketType, VarInt, VarIntOverflow, Version};

/// The protocol as values without I/O: what a driver is written on.
pub mod protocol {
    pub use crate::chunk::{Chunk, ChunkMut, Pool};
    pub use crate::connection::{
        Connection, CryptoDone, CryptoJob, DatagramEvent, DatagramMeta, Event, Scratch, SendDatagramError, Transmit, WhenFull,
    };
    pub use crate::endpoint::{AcceptError, Admission, ConnectError, Endpoint, EndpointEvent, Incoming, Routed, WallTime};
    pub use crate::handle::{ConnectionHandle, EndpointKeys, SteeringKey};
    pub use crate::pressure::{Pressure, Shortage};
    pub use crate::streams::{ReadError, StreamEvent, WriteError};
}
