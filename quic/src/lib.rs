//! QUIC version 1 (RFC 9000, 9001, 9002).
//!
//! The protocol is a set of values without I/O, clock or threads: time, randomness and datagrams are passed in.

#![forbid(unsafe_code)]

mod chunk;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod id;
mod side;
mod stream_id;
mod streams;
pub mod time;
mod token;
mod wire;

pub use chunk::{Chunk, ChunkMut, Pool};
pub use error::{ApplicationClose, ApplicationCode, ConnectionClose, ConnectionError, TransportError, TransportErrorCode};
pub use id::{CidSequence, ConnectionId, ResetToken};
pub use side::Side;
pub use stream_id::{Direction, StreamId};
pub use streams::{ReadError, StreamEvent, WriteError};
pub use wire::{PacketNumber, VarInt, VarIntOverflow, Version};
