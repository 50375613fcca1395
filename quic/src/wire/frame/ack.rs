//! ACK frames (RFC 9000 section 19.3).
//!
//! A received frame is checked whole when it is decoded: no range reaches below zero, and the count of ranges is matched by
//! bytes. Its ranges are then read lazily from the packet, so that a frame costs no allocation.

use std::fmt;
use std::ops::RangeInclusive;

use crate::wire::frame::{EncodeFrame, FrameType, InvalidFrame, varint_size};
use crate::wire::{PacketNumber, Reader, VarInt, Writer};

/// A received ACK frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    /// The largest packet number that is acknowledged.
    pub largest: PacketNumber,
    /// How long the peer held the acknowledgment back, in units of 2^ack_delay_exponent microseconds.
    pub delay: VarInt,
    /// What is acknowledged.
    pub ranges: AckRanges<'a>,
    /// The peer's counts of ECN marks.
    pub ecn: Option<EcnCounts>,
}

/// How many packets came with each mark, in total and in the packet number space of the frame (RFC 9000 section 19.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct EcnCounts {
    pub ect0: u64,
    pub ect1: u64,
    pub ce: u64,
}

impl<'a> Ack<'a> {
    pub(super) fn decode(reader: &mut Reader<'a>, ecn: bool) -> Result<Ack<'a>, InvalidFrame> {
        let largest = PacketNumber::from(reader.varint()?);
        let delay = reader.varint()?;
        let count = reader.varint()?.as_u64();
        // Each further range takes two bytes at least: a count without bytes is found out before the loop over it.
        if count > (reader.remaining() / 2) as u64 {
            return Err(InvalidFrame("more ACK ranges than bytes"));
        }
        let first = reader.varint()?.as_u64();
        let mut smallest = largest.minus(first).ok_or(InvalidFrame("an ACK range reaches below zero"))?;
        let ranges = AckRanges { next: Some((largest, first)), rest: reader.clone(), count };
        for _ in 0..count {
            let gap = reader.varint()?.as_u64();
            let len = reader.varint()?.as_u64();
            smallest =
                below(smallest, gap).and_then(|largest| largest.minus(len)).ok_or(InvalidFrame("an ACK range reaches below zero"))?;
        }
        let ecn = if ecn { Some(EcnCounts::decode(reader)?) } else { None };
        Ok(Ack { largest, delay, ranges, ecn })
    }
}

/// The largest number of the range that lies `gap` below a range which starts at `smallest` (RFC 9000 section 19.3.1).
fn below(smallest: PacketNumber, gap: u64) -> Option<PacketNumber> {
    // A gap is below 2^62, so that the sum does not overflow.
    smallest.minus(gap + 2)
}

impl EcnCounts {
    fn decode(reader: &mut Reader<'_>) -> Result<EcnCounts, InvalidFrame> {
        let ect0 = reader.varint()?.as_u64();
        let ect1 = reader.varint()?.as_u64();
        let ce = reader.varint()?.as_u64();
        Ok(EcnCounts { ect0, ect1, ce })
    }

    fn size(self) -> usize {
        varint_size(self.ect0) + varint_size(self.ect1) + varint_size(self.ce)
    }

    fn encode(self, writer: &mut Writer<'_>) {
        for count in [self.ect0, self.ect1, self.ce] {
            writer.put_varint(VarInt::saturating(count));
        }
    }
}

/// The ranges of a received ACK frame, the newest first; none overlap or touch.
#[derive(Clone)]
pub struct AckRanges<'a> {
    /// The largest number of the next range, and how many numbers of the range are below it.
    next: Option<(PacketNumber, u64)>,
    rest: Reader<'a>,
    count: u64,
}

impl Iterator for AckRanges<'_> {
    type Item = RangeInclusive<PacketNumber>;

    fn next(&mut self) -> Option<RangeInclusive<PacketNumber>> {
        let (largest, len) = self.next.take()?;
        let smallest = largest.minus(len)?;
        if self.count > 0 {
            self.count -= 1;
            let gap = self.rest.varint().ok()?.as_u64();
            let len = self.rest.varint().ok()?.as_u64();
            self.next = Some((below(smallest, gap)?, len));
        }
        Some(smallest..=largest)
    }
}

impl PartialEq for AckRanges<'_> {
    fn eq(&self, other: &AckRanges<'_>) -> bool {
        self.clone().eq(other.clone())
    }
}

impl Eq for AckRanges<'_> {}

impl fmt::Debug for AckRanges<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

/// An ACK frame to send.
#[derive(Clone, Debug)]
pub struct AckToSend<I> {
    delay: VarInt,
    ecn: Option<EcnCounts>,
    largest: PacketNumber,
    /// Newest first.
    ranges: I,
    /// Ranges of `ranges` that are sent.
    count: usize,
    /// Bytes of the sent ranges, without the first one's largest number.
    ranges_size: usize,
}

impl<I> AckToSend<I>
where
    I: Iterator<Item = RangeInclusive<PacketNumber>> + Clone,
{
    /// A frame with as many of the newest ranges as fit into `space` bytes, `None` if not even one does or there is none.
    ///
    /// `ranges` are the received packet numbers, newest first, with at least one number missing between two of them.
    pub fn fit(delay: VarInt, ranges: I, ecn: Option<EcnCounts>, space: usize) -> Option<AckToSend<I>> {
        let first = ranges.clone().next()?;
        let mut frame = AckToSend { delay, ecn, largest: *first.end(), ranges_size: varint_size(range_len(&first)), ranges, count: 1 };
        let fixed = frame.size_without_ranges();
        // The count of further ranges takes 1 byte up to 63 and 2 up to 16383; size_with covers both.
        let size_with = |ranges_size: usize, count: usize| fixed + ranges_size + varint_size(count as u64 - 1);
        if size_with(frame.ranges_size, 1) > space {
            return None;
        }
        let mut smallest = *first.start();
        for range in frame.ranges.clone().skip(1) {
            let ranges_size = frame.ranges_size + varint_size(gap(smallest, &range)) + varint_size(range_len(&range));
            if size_with(ranges_size, frame.count + 1) > space {
                break;
            }
            frame.ranges_size = ranges_size;
            frame.count += 1;
            smallest = *range.start();
        }
        Some(frame)
    }

    /// The largest packet number that the frame acknowledges.
    pub fn largest(&self) -> PacketNumber {
        self.largest
    }

    fn size_without_ranges(&self) -> usize {
        1 + VarInt::from(self.largest).size() + self.delay.size() + self.ecn.map_or(0, EcnCounts::size)
    }
}

/// How many numbers of a range are below its largest.
fn range_len(range: &RangeInclusive<PacketNumber>) -> u64 {
    range.end().distance_from(*range.start())
}

/// The gap field between a range that starts at `smallest` and the next `range` below.
fn gap(smallest: PacketNumber, range: &RangeInclusive<PacketNumber>) -> u64 {
    debug_assert!(smallest.distance_from(*range.end()) >= 2, "ranges touch or are out of order");
    smallest.distance_from(*range.end()).saturating_sub(2)
}

impl<I> EncodeFrame for AckToSend<I>
where
    I: Iterator<Item = RangeInclusive<PacketNumber>> + Clone,
{
    fn frame_type(&self) -> FrameType {
        FrameType::Ack { ecn: self.ecn.is_some() }
    }

    fn size(&self) -> usize {
        self.size_without_ranges() + varint_size(self.count as u64 - 1) + self.ranges_size
    }

    fn encode(&self, writer: &mut Writer<'_>) {
        writer.put_u8(self.frame_type().to_wire());
        writer.put_varint(self.largest);
        writer.put_varint(self.delay);
        writer.put_varint(VarInt::saturating(self.count as u64 - 1));
        let mut previous: Option<PacketNumber> = None;
        for range in self.ranges.clone().take(self.count) {
            if let Some(smallest) = previous {
                writer.put_varint(VarInt::saturating(gap(smallest, &range)));
            }
            writer.put_varint(VarInt::saturating(range_len(&range)));
            previous = Some(*range.start());
        }
        if let Some(ecn) = self.ecn {
            ecn.encode(writer);
        }
    }
}
