//! What a sent packet carried: one token a frame that must be told of its fate. When the packet is acknowledged or lost,
//! one `match` routes its tokens back to the parts that own the frames. PADDING and close frames leave none.

use crate::id::CidSequence;
use crate::stream_id::{Direction, StreamId};
use crate::wire::PacketNumber;

/// A frame in a sent packet, as its owner needs it back. At most 24 bytes, for a ring holds one for each frame in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// The largest packet number that an ACK frame named: once acknowledged, older ranges need no more reports.
    Ack { largest: PacketNumber },
    /// A piece of the handshake of the packet's own number space.
    Crypto { offset: u64, len: u16 },
    /// A piece of a stream.
    Stream { id: StreamId, offset: u64, len: u16, fin: bool },
    /// RESET_STREAM.
    ResetStream(StreamId),
    /// STOP_SENDING.
    StopSending(StreamId),
    /// MAX_DATA.
    MaxData,
    /// MAX_STREAM_DATA.
    MaxStreamData(StreamId),
    /// MAX_STREAMS.
    MaxStreams(Direction),
    /// DATA_BLOCKED.
    DataBlocked,
    /// STREAM_DATA_BLOCKED.
    StreamDataBlocked(StreamId),
    /// STREAMS_BLOCKED.
    StreamsBlocked(Direction),
    /// NEW_CONNECTION_ID.
    NewConnectionId(CidSequence),
    /// RETIRE_CONNECTION_ID.
    RetireConnectionId(CidSequence),
    /// NEW_TOKEN.
    AddressProof,
    /// PATH_RESPONSE: sent once (RFC 9000 section 13.3).
    PathResponse,
    /// HANDSHAKE_DONE.
    HandshakeDone,
    /// DATAGRAM: never repeated (RFC 9221 section 5).
    Datagram,
    /// PING: a probe, which nobody repeats.
    Ping,
}

const _: () = assert!(size_of::<Token>() <= 24);
