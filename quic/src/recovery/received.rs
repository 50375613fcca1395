//! Packets that came in: which are duplicates, what to acknowledge, and when (RFC 9000 section 13.2).
//!
//! Owns: the received numbers of one space as ranges, the ECN counts, and the decision to acknowledge now or later. Does not
//! own: the ACK frame's bytes (`wire::frame`), or when our ACKs are acknowledged (`connection::space` says so).
//!
//! Invariants: at most [`MAX_RANGES`] ranges, ascending, with a gap between any two; no range lies below `floor`, and
//! whatever is below it counts as received, so that nothing is taken twice; once a packet came, there is a range.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::ConnectionLimits;
use crate::ecn::EcnMark;
use crate::time::Instant;
use crate::wire::PacketNumber;
use crate::wire::frame::EcnCounts;

/// Ranges kept at most: a peer that leaves out every second number costs 1 KiB and no more.
pub(crate) const MAX_RANGES: usize = ConnectionLimits::MOST_ACK_RANGES as usize;

/// Ranges kept without an allocation.
const INLINE_RANGES: usize = 8;

/// RFC 9000 section 13.2.2: an ACK for every second ack-eliciting packet at least.
const ACK_ELICITING_THRESHOLD: u8 = 2;

/// Silences of a peer that grow so often in a row are probe timeouts, which double (RFC 9002 section 6.2.1).
const PROBES_IN_A_ROW: u8 = 2;

/// A packet that is further from the one before it comes after others that were lost: two of a probe, as far as it seems. Numbers may
/// be left out on purpose, one at a time.
const MISSING_PROBES: u64 = 2;

/// Received packet numbers of one space.
#[derive(Debug)]
pub(crate) struct Received {
    ranges: Ranges,
    /// Numbers below are taken as received.
    floor: PacketNumber,
    /// When the largest number arrived.
    largest_at: Instant,
    largest_ack_eliciting: Option<PacketNumber>,
    ecn: EcnCounts,
    /// Ack-eliciting packets since the last ACK; stops counting at the threshold.
    ack_eliciting: u8,
    /// When an ACK is due.
    ack_at: Option<Instant>,
    /// How long the peer was silent before its last ack-eliciting packet, in microseconds; of two that came as one, the first.
    silence: u32,
    /// Whether the last one was the second of two.
    was_second: bool,
    /// How often in a row the silence has grown as a back-off does; stops counting at the threshold.
    grown: u8,
    max_ack_delay: Duration,
    max_ranges: u8,
}

impl Received {
    /// Nothing came yet. An ACK is put off for `max_ack_delay` at most: zero in Initial and Handshake spaces (RFC 9000
    /// section 13.2.1).
    pub(crate) fn new(max_ack_delay: Duration) -> Received {
        Received {
            ranges: Ranges::new(),
            floor: PacketNumber::ZERO,
            largest_at: Instant::from_nanos(0),
            largest_ack_eliciting: None,
            ecn: EcnCounts::default(),
            ack_eliciting: 0,
            ack_at: None,
            silence: 0,
            was_second: false,
            grown: 0,
            max_ack_delay,
            max_ranges: ConnectionLimits::MOST_ACK_RANGES,
        }
    }

    /// Keeps no more than so many ranges, up to [`MAX_RANGES`].
    pub(crate) fn limit_ranges(&mut self, count: u8) {
        self.max_ranges = count.min(ConnectionLimits::MOST_ACK_RANGES);
    }

    /// Bytes held outside of the value itself.
    pub(crate) fn memory(&self) -> usize {
        match self.ranges.storage {
            Storage::Inline(_) => 0,
            Storage::Boxed(_) => size_of::<[Range; MAX_RANGES]>(),
        }
    }

    /// Whether a packet was received before, or is so old that this is not known any more.
    pub(crate) fn is_duplicate(&self, number: PacketNumber) -> bool {
        number < self.floor || self.ranges.find(number).is_ok()
    }

    /// The largest number received, from which the next is decoded.
    pub(crate) fn largest(&self) -> Option<PacketNumber> {
        self.ranges.as_slice().last().map(|range| range.end)
    }

    /// Takes in a packet that is no duplicate and was processed whole. It `arrived` earlier if it waited for its keys, which its
    /// ACK tells the peer (RFC 9000 section 13.2.5).
    pub(crate) fn on_packet(
        &mut self,
        now: Instant,
        arrived: Instant,
        number: PacketNumber,
        is_ack_eliciting: bool,
        mark: Option<EcnMark>,
    ) {
        debug_assert!(!self.is_duplicate(number));
        if is_ack_eliciting && let Some(largest) = self.largest() {
            self.on_silence(arrived - self.largest_at, number.distance_from(largest) > MISSING_PROBES);
        }
        if self.largest().is_none_or(|largest| largest < number) {
            self.largest_at = arrived;
        }
        match mark {
            Some(EcnMark::Ect0) => self.ecn.ect0 += 1,
            Some(EcnMark::Ect1) => self.ecn.ect1 += 1,
            Some(EcnMark::Ce) => self.ecn.ce += 1,
            None => {}
        }
        let start = self.insert(number);
        if is_ack_eliciting {
            self.schedule_ack(now, number, start, mark);
        }
    }

    /// Whether an ack-eliciting packet awaits its ACK, so that one goes along with whatever is sent next.
    pub(crate) fn is_ack_pending(&self) -> bool {
        self.ack_at.is_some()
    }

    /// When an ACK must be sent even alone; in the past if at once.
    pub(crate) fn ack_deadline(&self) -> Option<Instant> {
        self.ack_at
    }

    /// An ACK frame with the newest ranges was written.
    pub(crate) fn on_ack_written(&mut self) {
        self.ack_at = None;
        self.ack_eliciting = 0;
    }

    /// Whether the peer's packets come as probes do that nobody answers, each later than the one before: it may be that our
    /// ACKs do not arrive.
    pub(crate) fn is_peer_probing(&self) -> bool {
        self.grown >= PROBES_IN_A_ROW
    }

    /// An ACK goes with a packet that the peer must answer, and is repeated until it does.
    pub(crate) fn on_ack_ensured(&mut self) {
        self.grown = 0;
    }

    /// How long the largest packet has waited (RFC 9000 section 13.2.5).
    pub(crate) fn ack_delay(&self, now: Instant) -> Duration {
        now - self.largest_at
    }

    /// The peer has our ACK of `largest`: older ranges need no more reports (RFC 9000 section 13.2.4). The ACK is at least a
    /// round trip old, so that packets which fill its gaps only now were given up by the peer.
    pub(crate) fn on_ack_acked(&mut self, largest: PacketNumber) {
        let Some(above) = largest.next() else { return };
        self.ranges.forget_below(above);
        if let Some(first) = self.ranges.as_slice().first() {
            self.floor = self.floor.max(above.min(first.start));
        }
    }

    /// What was received and is remembered, the newest first.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = RangeInclusive<PacketNumber>> + Clone {
        self.ranges.as_slice().iter().rev().map(|range| range.start..=range.end)
    }

    /// The ECN counts to report, if there are any.
    pub(crate) fn ecn(&self) -> Option<EcnCounts> {
        Some(self.ecn).filter(|counts| *counts != EcnCounts::default())
    }

    /// An ack-eliciting packet came after so long, and probes may be missing before it.
    fn on_silence(&mut self, silence: Duration, are_missing: bool) {
        let silence = u32::try_from(silence.as_micros()).unwrap_or(u32::MAX);
        let is_second = silence < self.silence / 4;
        if is_second && !self.was_second {
            // The second of two probes tells nothing.
            self.was_second = true;
            return;
        }
        // Longer by less than a doubling where probes in between were lost.
        let has_grown = silence > self.silence.saturating_add(self.silence / 32);
        // Of packets that were missed in between, the last was twice as far away.
        let times = if are_missing && silence / 4 >= self.silence { PROBES_IN_A_ROW } else { 1 };
        self.grown = if has_grown { (self.grown + times).min(PROBES_IN_A_ROW) } else { 0 };
        self.silence = silence;
        self.was_second = false;
    }

    /// Says where the range of the number starts.
    fn insert(&mut self, number: PacketNumber) -> PacketNumber {
        let Err(index) = self.ranges.find(number) else {
            return number;
        };
        let slice = self.ranges.as_mut_slice();
        let joins_below = index > 0 && slice[index - 1].end.next() == Some(number);
        let joins_above = slice.get(index).is_some_and(|above| number.next() == Some(above.start));
        match (joins_below, joins_above) {
            (true, true) => {
                slice[index - 1].end = slice[index].end;
                let start = slice[index - 1].start;
                self.ranges.remove(index);
                start
            }
            (true, false) => {
                slice[index - 1].end = number;
                slice[index - 1].start
            }
            (false, true) => {
                slice[index].start = number;
                number
            }
            (false, false) => {
                self.insert_alone(index, number);
                number
            }
        }
    }

    fn insert_alone(&mut self, mut index: usize, number: PacketNumber) {
        if self.ranges.as_slice().len() >= self.max_ranges.into() {
            // RFC 9000 section 13.2.3: the oldest range goes, and nothing below it is accepted again.
            let oldest = if index == 0 { number } else { self.ranges.remove(0).end };
            self.floor = oldest.next().unwrap_or(PacketNumber::MAX);
            if index == 0 {
                return;
            }
            index -= 1;
        }
        self.ranges.insert(index, Range { start: number, end: number });
    }

    /// RFC 9000 section 13.2.1, 13.2.2: at once if reordered, missing or marked, and for every second packet.
    fn schedule_ack(&mut self, now: Instant, number: PacketNumber, start: PacketNumber, mark: Option<EcnMark>) {
        let is_in_order = match self.largest_ack_eliciting {
            Some(largest) if number < largest => false,
            Some(largest) => largest.next().is_none_or(|next| start <= next.max(self.floor)),
            None => start <= self.floor,
        };
        self.largest_ack_eliciting = self.largest_ack_eliciting.max(Some(number));
        self.ack_eliciting = (self.ack_eliciting + 1).min(ACK_ELICITING_THRESHOLD);
        let is_immediate = !is_in_order || self.ack_eliciting == ACK_ELICITING_THRESHOLD || mark == Some(EcnMark::Ce);
        let at = if is_immediate { now } else { now + self.max_ack_delay };
        self.ack_at = Some(self.ack_at.map_or(at, |earlier| earlier.min(at)));
    }
}

/// Numbers `start` to `end`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    start: PacketNumber,
    end: PacketNumber,
}

impl Range {
    const EMPTY: Range = Range { start: PacketNumber::ZERO, end: PacketNumber::ZERO };
}

/// A short sorted list of ranges, on the heap only when there are many.
#[derive(Debug)]
struct Ranges {
    len: u8,
    storage: Storage,
}

#[derive(Debug)]
enum Storage {
    Inline([Range; INLINE_RANGES]),
    Boxed(Box<[Range; MAX_RANGES]>),
}

impl Ranges {
    fn new() -> Ranges {
        Ranges { len: 0, storage: Storage::Inline([Range::EMPTY; INLINE_RANGES]) }
    }

    fn as_slice(&self) -> &[Range] {
        let all: &[Range] = match &self.storage {
            Storage::Inline(ranges) => ranges,
            Storage::Boxed(ranges) => &**ranges,
        };
        &all[..usize::from(self.len)]
    }

    fn as_mut_slice(&mut self) -> &mut [Range] {
        let all: &mut [Range] = match &mut self.storage {
            Storage::Inline(ranges) => ranges,
            Storage::Boxed(ranges) => &mut **ranges,
        };
        &mut all[..usize::from(self.len)]
    }

    /// The range that holds a number, or the index at which one would be inserted. Numbers mostly belong to the last.
    fn find(&self, number: PacketNumber) -> Result<usize, usize> {
        let ranges = self.as_slice();
        let index = match ranges.last() {
            Some(last) if number > last.end => ranges.len(),
            Some(last) if number >= last.start => ranges.len() - 1,
            _ => ranges.partition_point(|range| range.end < number),
        };
        match ranges.get(index) {
            Some(range) if range.start <= number => Ok(index),
            _ => Err(index),
        }
    }

    /// Inserts before `index`; there are less than [`MAX_RANGES`].
    fn insert(&mut self, index: usize, range: Range) {
        let len = usize::from(self.len);
        if let Storage::Inline(ranges) = &self.storage
            && len == INLINE_RANGES
        {
            let mut boxed = Box::new([Range::EMPTY; MAX_RANGES]);
            boxed[..len].copy_from_slice(ranges);
            self.storage = Storage::Boxed(boxed);
        }
        self.len += 1;
        let ranges = self.as_mut_slice();
        ranges.copy_within(index..len, index + 1);
        ranges[index] = range;
    }

    fn remove(&mut self, index: usize) -> Range {
        let ranges = self.as_mut_slice();
        let removed = ranges[index];
        ranges.copy_within(index + 1.., index);
        self.len -= 1;
        removed
    }

    /// Drops what is below `number`, except the largest number of all.
    fn forget_below(&mut self, number: PacketNumber) {
        let Some(last) = self.as_slice().last().copied() else {
            return;
        };
        let number = number.min(last.end);
        let gone = self.as_slice().partition_point(|range| range.end < number);
        self.as_mut_slice().copy_within(gone.., 0);
        self.len -= gone as u8;
        let first = &mut self.as_mut_slice()[0];
        first.start = first.start.max(number);
        self.unbox();
    }

    /// Goes back to inline storage once few are left; not at the limit, lest one range more or less allocates each time.
    fn unbox(&mut self) {
        if let Storage::Boxed(ranges) = &self.storage
            && usize::from(self.len) <= INLINE_RANGES / 2
        {
            let mut inline = [Range::EMPTY; INLINE_RANGES];
            inline.copy_from_slice(&ranges[..INLINE_RANGES]);
            self.storage = Storage::Inline(inline);
        }
    }
}

#[cfg(test)]
mod tests;
