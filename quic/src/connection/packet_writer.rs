//! One datagram in the making: lays packets behind each other, pads, and seals them.
//!
//! Owns the layout of a datagram (RFC 9000 12.2, 14.1) and packet protection on the way out (RFC 9001 5.3, 5.4). Does not
//! own what the frames are: parts write them into a `FrameWriter` over the payload.
//!
//! A packet is not sealed until the whole datagram is written, so that the last one can be padded. Its payload lies in the
//! datagram, except for the data of a last STREAM frame, which the seal reads from the stream's chunk (scatter seal).
//!
//! Invariants: packets are sealed in the order in which they were begun; an empty packet leaves no trace.

use weald_crypto::TAG_LEN;

use crate::connection::keys::KeyRing;
use crate::connection::{packet_level, space_of};
use crate::id::ConnectionId;
use crate::recovery::SpaceId;
use crate::side::Side;
use crate::trace::{Frames, TracedPacket};
use crate::wire::header::{EncodedHeader, LongHeader, LongType, ShortHeader};
use crate::wire::{PacketNumber, PacketType, TruncatedPacketNumber, Version, Writer, WrittenFrames};

/// A long packet is cut off here: its length field has two bytes, and the datagrams of a handshake are short.
const MAX_LONG_PACKET: usize = 8 * 1024;

/// Header protection samples 16 bytes from four bytes behind the start of the packet number on (RFC 9001 5.4.2), so that
/// packet number and payload without the tag have at least this many.
const MIN_SAMPLED: usize = 4;

/// Less room for frames than this is not worth a header.
const MIN_PAYLOAD: usize = 32;

/// A datagram and the packets in it.
pub(crate) struct DatagramWriter<'b> {
    buf: &'b mut [u8],
    used: usize,
    packets: [Option<(Slot, WrittenFrames)>; 3],
    count: usize,
}

/// What the headers of a datagram's packets say.
pub(crate) struct Header<'a> {
    pub(crate) version: Version,
    pub(crate) destination: ConnectionId,
    pub(crate) source: ConnectionId,
    /// Of Initial packets (RFC 9000 17.2.2).
    pub(crate) token: &'a [u8],
    /// Of 1-RTT packets (RFC 9001 6).
    pub(crate) phase: bool,
    /// Of 1-RTT packets (RFC 9000 17.4).
    pub(crate) spin: bool,
    /// The bit that has one value for all but those who agreed otherwise (RFC 9287).
    pub(crate) fixed: bool,
}

/// A packet whose header is written.
#[derive(Clone, Copy)]
pub(crate) struct Slot {
    packet_type: PacketType,
    number: PacketNumber,
    header: EncodedHeader,
    payload: usize,
    end: usize,
}

/// What a packet is once it is sealed, for the books.
#[derive(Clone, Copy)]
pub(crate) struct SealedPacket {
    pub(crate) packet_type: PacketType,
    pub(crate) space: SpaceId,
    pub(crate) number: PacketNumber,
    /// Bytes, header and tag included.
    pub(crate) size: u16,
    pub(crate) ack_eliciting: bool,
    pub(crate) in_flight: bool,
}

impl<'b> DatagramWriter<'b> {
    /// A datagram of at most `buf.len()` bytes.
    pub(crate) fn new(buf: &'b mut [u8]) -> Self {
        Self { buf, used: 0, packets: [None, None, None], count: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Begins a packet, one for each number space at most and in their order. `None` if there is no room for a useful one.
    pub(crate) fn begin(
        &mut self,
        packet_type: PacketType,
        header: &Header<'_>,
        number: PacketNumber,
        short: TruncatedPacketNumber,
    ) -> Option<Slot> {
        let long = |long_type| LongHeader { long_type, version: header.version, dcid: header.destination, scid: header.source };
        let one_rtt = ShortHeader { dcid: header.destination, spin: header.spin, key_phase: header.phase };
        let long = match packet_type {
            PacketType::Initial => Some(long(LongType::Initial { token: header.token })),
            PacketType::ZeroRtt => Some(long(LongType::ZeroRtt)),
            PacketType::Handshake => Some(long(LongType::Handshake)),
            PacketType::OneRtt => None,
        };
        let size = long.as_ref().map_or_else(|| one_rtt.size(short), |long| long.size(short));
        if self.buf.len() - self.used < size + MIN_PAYLOAD + TAG_LEN {
            return None;
        }
        let mut end = self.buf.len() - TAG_LEN;
        let mut writer = Writer::new(self.buf);
        writer.skip(self.used);
        let fixed = header.fixed;
        let header = match long {
            Some(long) => {
                end = end.min(self.used + MAX_LONG_PACKET);
                long.encode(short, &mut writer)
            }
            None => one_rtt.encode(short, &mut writer),
        };
        if !fixed {
            header.clear_fixed_bit(self.buf);
        }
        Some(Slot { packet_type, number, header, payload: header.range().end, end })
    }

    /// Where the frames of a packet go; the tag's place is not part of it.
    pub(crate) fn payload(&mut self, slot: Slot) -> &mut [u8] {
        &mut self.buf[slot.payload..slot.end]
    }

    /// Adds a packet to the datagram. Returns false, and adds nothing, if it has no frames.
    pub(crate) fn push(&mut self, slot: Slot, written: WrittenFrames) -> bool {
        let len = written.total_len();
        if len == 0 {
            return false;
        }
        self.packets[self.count] = Some((slot, written));
        self.count += 1;
        self.used = slot.payload + len + TAG_LEN;
        let sampled = slot.header.packet_number_len() + len;
        if sampled < MIN_SAMPLED {
            self.pad_last(MIN_SAMPLED - sampled);
        }
        true
    }

    /// Pads the last packet until the datagram has `len` bytes, or as many as fit.
    pub(crate) fn pad_to(&mut self, len: usize) {
        let missing = len.min(self.buf.len()).saturating_sub(self.used);
        if missing > 0 {
            self.pad_last(missing);
        }
    }

    /// Puts PADDING before the frames of the last packet: behind them may be a STREAM frame that ends with the packet.
    fn pad_last(&mut self, len: usize) {
        let Some((slot, written)) = self.count.checked_sub(1).and_then(|last| self.packets[last].as_mut()) else { return };
        let at = slot.payload;
        self.buf.copy_within(at..at + written.len, at + len);
        self.buf[at..at + len].fill(0);
        written.len += len;
        written.in_flight = true;
        self.used += len;
    }

    /// The packets before they are sealed, as a trace of `sender` shows them.
    pub(crate) fn traced(&self, sender: Side) -> impl Iterator<Item = TracedPacket<'_>> {
        self.packets.iter().flatten().map(move |(slot, written)| {
            let packet_type = slot.packet_type;
            let start = slot.header.range().start;
            let (spin, key_phase) = slot.header.spin_and_phase(self.buf);
            let tail = written.tail.as_ref().map_or(0, |tail| tail.len());
            TracedPacket {
                packet_type,
                number: slot.number,
                size: slot.payload + written.total_len() + TAG_LEN - start,
                spin,
                key_phase,
                frames: Frames::new(&self.buf[slot.payload..slot.payload + written.len], tail, packet_type, sender),
            }
        })
    }

    /// Seals all packets, and returns the datagram's length and what is in it.
    pub(crate) fn seal(self, keys: &KeyRing) -> (usize, [Option<SealedPacket>; 3]) {
        let mut sealed = [None; 3];
        for ((slot, written), sealed) in self.packets.into_iter().flatten().zip(&mut sealed) {
            let Some(keys) = keys.local(packet_level(slot.packet_type)) else { continue };
            let tail = written.tail.as_deref().unwrap_or_default();
            let start = slot.header.range().start;
            let end = slot.payload + written.len + tail.len() + TAG_LEN;
            slot.header.set_length(self.buf, end - slot.payload);
            let (header, rest) = self.buf[start..end].split_at_mut(slot.payload - start);
            let (head, tail_and_tag) = rest.split_at_mut(written.len);
            keys.packet.seal(slot.number.as_u64(), header, head, tail, tail_and_tag);
            if let Some(sample) = slot.header.sample(self.buf) {
                let mask = keys.header.mask(sample);
                slot.header.protect(self.buf, mask);
            }
            *sealed = Some(SealedPacket {
                packet_type: slot.packet_type,
                space: space_of(slot.packet_type),
                number: slot.number,
                size: (end - start) as u16,
                ack_eliciting: written.ack_eliciting,
                in_flight: written.in_flight,
            });
        }
        (self.used, sealed)
    }
}
