//! The wire format for peers that tests make by hand: frames, headers and transport parameters as this crate reads and writes
//! them. Hidden, and without any promise: it changes as the crate does. Nothing here has state, time or keys.

pub use crate::wire::frame::{
    Ack, AckToSend, ApplicationCloseFrame, Close, Crypto, DataBlocked, Datagram, EcnCounts, EncodeFrame, Frame, FrameIter, FrameType,
    HandshakeDone, MaxData, MaxStreamData, MaxStreams, NewConnectionId, NewToken, PathChallenge, PathResponse, Ping, ResetStream,
    RetireConnectionId, StopSending, Stream, StreamDataBlocked, StreamsBlocked,
};
pub use crate::wire::header::{
    EncodedHeader, HeaderError, LongHeader, LongType, MASK_LEN, Packet, Packets, ProtectedPacket, RETRY_TAG_LEN, Retry, RetryToSend,
    SAMPLE_LEN, ShortHeader, UnsupportedVersion, VersionNegotiation,
};
pub use crate::wire::{PacketType, Reader, TransportParameters, Truncated, TruncatedPacketNumber, Writer};
