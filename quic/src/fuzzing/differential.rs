//! What this codec reads and writes, in terms that another one can be held against: numbers and bytes.

use super::sender;
use crate::random::Noise;
use crate::wire::frame::{EncodeFrame, FrameIter};
use crate::wire::header::{Packet, Packets};
use crate::wire::{PacketType, Reader, TransportParameters, Writer};

/// The frames of a payload.
#[derive(Debug)]
pub struct FramesRead {
    /// The type of each; those of PADDING behind each other are one.
    pub types: Vec<u64>,
    /// The frames written again.
    pub again: Vec<u8>,
    /// The code of the error behind them, and the type of the frame that is to blame.
    pub error: Option<(u64, Option<u64>)>,
}

/// Reads the payload of a 1-RTT packet.
pub fn read_frames(payload: &[u8], from_server: bool) -> FramesRead {
    let mut read = FramesRead { types: Vec::new(), again: Vec::new(), error: None };
    for frame in FrameIter::new(payload, PacketType::OneRtt, sender(from_server)) {
        match frame {
            Ok(frame) => {
                read.types.push(u64::from(frame.frame_type().to_wire()));
                let start = read.again.len();
                read.again.resize(start + frame.size(), 0);
                frame.encode(&mut Writer::new(&mut read.again[start..]));
            }
            Err(error) => read.error = Some((error.code.as_u64(), error.frame)),
        }
    }
    read
}

/// A variable-length integer off the front of `input`, and how many bytes it takes.
pub fn read_varint(input: &[u8]) -> Option<(u64, usize)> {
    let mut reader = Reader::new(input);
    let value = reader.varint().ok()?;
    Some((value.as_u64(), reader.position()))
}

/// A packet with protected frames, by what is in the clear.
#[derive(Debug, PartialEq, Eq)]
pub struct PacketRead {
    /// The destination id.
    pub destination: Vec<u8>,
    /// The source id; empty in a short header.
    pub source: Vec<u8>,
    /// The token of an Initial.
    pub token: Vec<u8>,
    /// Bytes of the whole packet.
    pub len: usize,
}

/// The first packet of a datagram, if that is one with protected frames.
pub fn read_packet(datagram: &[u8], local_cid_len: usize) -> Option<PacketRead> {
    match Packets::new(datagram, local_cid_len).next()?.ok()? {
        Packet::Protected(packet) => Some(PacketRead {
            destination: packet.dcid.to_vec(),
            source: packet.scid.to_vec(),
            token: packet.token.to_vec(),
            len: packet.bytes().len(),
        }),
        _ => None,
    }
}

/// Transport parameters that one side sent, written again.
pub fn rewrite_transport_parameters(bytes: &[u8], from_server: bool) -> Option<Vec<u8>> {
    Some(TransportParameters::decode(bytes, sender(from_server)).ok()?.encode(&mut Noise::new(0)))
}

/// Whether both say the same, but for what only this codec knows.
pub fn same_transport_parameters(one: &[u8], other: &[u8], from_server: bool) -> bool {
    let decode = |bytes| {
        let parameters = TransportParameters::decode(bytes, sender(from_server)).ok()?;
        Some(TransportParameters { version_information: None, ..parameters })
    };
    decode(one).is_some() && decode(one) == decode(other)
}
