//! Bytes to values and back: no state, no time, no keys. Everything here may be fed by a stranger, so nothing here panics
//! on any input.

pub(crate) mod frame;
mod frame_writer;
pub(crate) mod header;
mod packet_number;
mod packet_type;
mod reader;
mod transport_parameters;
mod varint;
mod version;
mod writer;

pub(crate) use frame_writer::{FrameWriter, WrittenFrames};
pub use packet_number::PacketNumber;
pub(crate) use packet_number::TruncatedPacketNumber;
pub(crate) use packet_type::PacketType;
pub(crate) use reader::{Reader, Truncated};
pub(crate) use transport_parameters::TransportParameters;
pub use varint::{VarInt, VarIntOverflow};
pub use version::Version;
pub(crate) use writer::Writer;
