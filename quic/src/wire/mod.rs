//! Bytes to values and back: no state, no time, no keys. Everything here may be fed by a stranger, so nothing here panics
//! on any input.
//!
//! What is `pub` here leaves the crate through `codec` alone, which test peers use, or by name in the crate's root.

#[cfg_attr(feature = "simulation", allow(missing_docs, reason = "public for tests alone"))]
pub(crate) mod frame;
mod frame_writer;
#[cfg_attr(feature = "simulation", allow(missing_docs, reason = "public for tests alone"))]
pub(crate) mod header;
mod packet_number;
#[cfg_attr(feature = "simulation", allow(missing_docs, reason = "public for tests alone"))]
mod packet_type;
#[cfg_attr(feature = "simulation", allow(missing_docs, reason = "public for tests alone"))]
mod reader;
mod transport_parameters;
mod varint;
mod version;
mod version_information;
#[cfg_attr(feature = "simulation", allow(missing_docs, reason = "public for tests alone"))]
mod writer;

pub(crate) use frame_writer::{FrameWriter, WrittenFrames};
pub use packet_number::{PacketNumber, TruncatedPacketNumber};
pub use packet_type::PacketType;
pub use reader::{Reader, Truncated};
pub use transport_parameters::TransportParameters;
pub use varint::{VarInt, VarIntOverflow};
pub use version::Version;
pub use version_information::VersionInformation;
pub use writer::Writer;
