//! QUIC version 1 (RFC 9000, 9001, 9002).
//!
//! The protocol is a set of values without I/O, clock or threads: time, randomness and datagrams are passed in.

#![forbid(unsafe_code)]

mod chunk;
mod config;
mod connection;
mod endpoint;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod id;
mod path;
mod recovery;
mod side;
mod stats;
mod stream_id;
mod streams;
pub mod time;
mod token;
mod wire;

pub use chunk::{Chunk, ChunkMut, Pool};
pub use config::{ClientConfig, ServerConfig, TransportConfig};
pub use connection::{Connection, CryptoDone, CryptoJob, DatagramMeta, Event, Transmit};
pub use endpoint::{
    AcceptError, ConnectError, ConnectionHandle, Endpoint, EndpointEvent, EndpointKeys, Incoming, Routed, SteeringKey,
};
pub use error::{
    ApplicationClose, ApplicationCode, ConnectionClose, ConnectionError, TransportError,
    TransportErrorCode,
};
pub use id::{CidSequence, ConnectionId, ResetToken};
pub use path::EcnMark;
pub use recovery::congestion::{
    AckedPacket, Algorithm, CongestionSignal, Controller, UnknownAlgorithm,
};
pub use side::Side;
pub use stats::{ConnectionStats, EndpointStats};
pub use stream_id::{Direction, StreamId};
pub use streams::{ReadError, StreamEvent, WriteError};
pub use weald_crypto as crypto;
pub use wire::{PacketNumber, VarInt, VarIntOverflow, Version};
