//! Packets whose fate is unknown: a ring of 32-byte records in the order of packet numbers, and a ring of the tokens of
//! what they carried.
//!
//! Owns: the records, and which of them an acknowledgement or a threshold settles. Does not own: packet numbers, RTT, timers
//! (`connection::space`), congestion (`path`), or what a token means.
//!
//! Invariants:
//! - records ascend by number and by time sent; the front is outstanding, for what is settled leaves from there;
//! - the tokens of all records lie in the token ring in the same order and without gaps;
//! - of packets that are not in flight only the last of a run has a record. Nobody acknowledges a stream of ACKs, so
//!   without this they would pile up for as long as data comes in. What the last one said covers those before it.
//!
//! After loss detection nothing below the largest acknowledged number less the packet threshold is left. Hence each packet is
//! visited a bounded number of times; a range that lies elsewhere costs one binary search.

use std::collections::{VecDeque, vec_deque};
use std::iter::Copied;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::path_id::PathId;
use crate::recovery::loss::{LossTiming, PACKET_THRESHOLD};
use crate::time::Instant;
use crate::token::Token;
use crate::wire::PacketNumber;

/// Records and tokens for which memory is kept when nothing is outstanding: 3.5 KiB together.
const RETAINED: usize = 64;

/// As many as are kept once the connection has fallen quiet: 448 bytes.
const RETAINED_QUIET: usize = 8;

/// The tokens of one packet, in the order of its frames.
pub(crate) type Tokens<'a> = Copied<vec_deque::Iter<'a, Token>>;

/// What a packet is to recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PacketKind {
    /// Only ACK and CONNECTION_CLOSE frames: not in flight, and never answered.
    AckOnly,
    /// PADDING but nothing that elicits an acknowledgement: in flight.
    Padding,
    /// Elicits an acknowledgement, and is in flight.
    AckEliciting,
    /// Ack-eliciting; its loss tells of the path's MTU and not of congestion (RFC 9000 section 14.4).
    MtuProbe,
}

/// Where a record is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Outstanding,
    Acked,
    /// Lost, and no sign of persistent congestion.
    Lost,
    /// Lost, and one of a run.
    LostOfRun,
    /// Lost, and a run that was persistent congestion ends with it; the next one begins here.
    LostAtEnd,
}

/// A packet that was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SentPacket {
    /// Its number.
    pub(crate) number: PacketNumber,
    /// When it was sent.
    pub(crate) sent: Instant,
    /// The path it was sent on.
    pub(crate) path: PathId,
    /// The place of its first token, counted from the first token of the space; wraps.
    first_token: u32,
    tokens: u16,
    /// Bytes of the whole packet, as congestion control counts them.
    pub(crate) size: u16,
    /// What it is to recovery.
    pub(crate) kind: PacketKind,
    fate: Fate,
    /// It left with a mark of ECN.
    pub(crate) marked: bool,
}

const _: () = assert!(size_of::<SentPacket>() == 32);

impl SentPacket {
    /// A packet on its way to [`SentPackets::on_sent`].
    pub(crate) fn new(number: PacketNumber, sent: Instant, path: PathId, size: u16, kind: PacketKind) -> SentPacket {
        SentPacket { number, sent, path, first_token: 0, tokens: 0, size, kind, fate: Fate::Outstanding, marked: false }
    }

    /// Whether the peer must acknowledge it.
    pub(crate) fn is_ack_eliciting(&self) -> bool {
        matches!(self.kind, PacketKind::AckEliciting | PacketKind::MtuProbe)
    }

    /// Whether it counts towards bytes in flight.
    pub(crate) fn is_in_flight(&self) -> bool {
        self.kind != PacketKind::AckOnly
    }
}

/// What [`SentPackets::detect_lost`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LossSummary {
    /// Packets in flight that were declared lost.
    pub(crate) packets: u32,
    /// When the next packet will be lost by time, if none is acknowledged before.
    pub(crate) next: Option<Instant>,
    /// The losses on the path in use span persistent congestion, with those of earlier calls (RFC 9002 section 7.6). Said once
    /// for each span.
    pub(crate) persistent_congestion: bool,
}

/// The sent packets of one packet number space.
#[derive(Debug, Default)]
pub(crate) struct SentPackets {
    records: VecDeque<SentPacket>,
    tokens: VecDeque<Token>,
    /// The place of the front of `tokens`; wraps, as `SentPacket::first_token` does.
    first_token: u32,
    ack_eliciting: u32,
    /// The run of losses that the front of `records` goes on with.
    run: LostRun,
}

/// When the first of a run of lost packets was sent, between which none was acknowledged (RFC 9002 section 7.6.2). Losses come in
/// the order in which packets were sent, but those of a run may come one by one: the last by time, after others by count.
#[derive(Clone, Copy, Debug, Default)]
struct LostRun(Option<Instant>);

impl LostRun {
    /// What it is after a settled packet.
    fn after(self, record: &SentPacket) -> LostRun {
        match record.fate {
            Fate::Outstanding | Fate::Lost => self,
            Fate::Acked => LostRun(None),
            Fate::LostOfRun => LostRun(self.0.or(Some(record.sent))),
            Fate::LostAtEnd => LostRun(Some(record.sent)),
        }
    }

    /// How long it is with a packet that was sent at `sent`.
    fn span(self, sent: Instant) -> Duration {
        self.0.map_or(Duration::ZERO, |start| sent - start)
    }
}

impl SentPackets {
    /// Bytes held outside of the value itself.
    pub(crate) fn memory(&self) -> usize {
        self.records.capacity() * size_of::<SentPacket>() + self.tokens.capacity() * size_of::<Token>()
    }

    /// Keeps a packet and the tokens of its frames, which are taken out of `tokens`.
    pub(crate) fn on_sent(&mut self, mut packet: SentPacket, tokens: &mut Vec<Token>) {
        debug_assert!(self.records.back().is_none_or(|last| last.number < packet.number && last.sent <= packet.sent));
        if !packet.is_in_flight()
            && let Some(last) = self.records.back()
            && !last.is_in_flight()
            && last.fate == Fate::Outstanding
        {
            self.tokens.truncate(self.tokens.len() - usize::from(last.tokens));
            self.records.pop_back();
        }
        packet.first_token = self.first_token.wrapping_add(self.tokens.len() as u32);
        // A frame takes a byte and a packet has at most 65,535, so that the count fits.
        packet.tokens = tokens.len() as u16;
        self.tokens.extend(tokens.drain(..));
        self.ack_eliciting += u32::from(packet.is_ack_eliciting());
        self.records.push_back(packet);
    }

    /// The record of a packet, if its fate is not known.
    pub(crate) fn outstanding(&self, number: PacketNumber) -> Option<&SentPacket> {
        let index = self.records.binary_search_by_key(&number, |record| record.number).ok()?;
        self.records.get(index).filter(|record| record.fate == Fate::Outstanding)
    }

    /// Whether packets that the peer must acknowledge are outstanding.
    pub(crate) fn has_ack_eliciting(&self) -> bool {
        self.ack_eliciting > 0
    }

    /// Whether nothing is outstanding.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Settles the outstanding packets of a range as acknowledged, and gives each to `acked`.
    pub(crate) fn on_acked(&mut self, range: RangeInclusive<PacketNumber>, mut acked: impl FnMut(&SentPacket, Tokens<'_>)) {
        let start = self.records.partition_point(|record| record.number < *range.start());
        for index in start..self.records.len() {
            let record = &mut self.records[index];
            if record.number > *range.end() {
                break;
            }
            if record.fate == Fate::Outstanding {
                record.fate = Fate::Acked;
                self.settle(index, &mut acked);
            }
        }
        self.drop_settled();
    }

    /// Declares packets lost that an acknowledged one overtook by count or time (RFC 9002 section 6.1), and gives each to
    /// `lost`.
    pub(crate) fn detect_lost(
        &mut self,
        now: Instant,
        largest_acked: PacketNumber,
        timing: &LossTiming,
        mut lost: impl FnMut(&SentPacket, Tokens<'_>),
    ) -> LossSummary {
        let mut summary = LossSummary::default();
        let mut run = self.run;
        for index in 0..self.records.len() {
            let record = &mut self.records[index];
            if record.number > largest_acked {
                break;
            }
            if record.fate != Fate::Outstanding {
                run = run.after(record);
                continue;
            }
            let deadline = record.sent + timing.delay;
            if largest_acked.distance_from(record.number) < PACKET_THRESHOLD && now < deadline {
                if !record.is_in_flight() {
                    continue;
                }
                // Those after it were sent later, and are lost later.
                summary.next = Some(deadline);
                break;
            }
            // RFC 9002 section 7.6.2: both ends are ack-eliciting and were sent after the first RTT sample.
            let counts = record.path == timing.path
                && record.kind == PacketKind::AckEliciting
                && timing.first_sample.is_some_and(|first| record.sent > first);
            record.fate = match counts {
                false => Fate::Lost,
                true if run.span(record.sent) > timing.persistent_congestion => Fate::LostAtEnd,
                true => Fate::LostOfRun,
            };
            run = run.after(record);
            summary.packets += u32::from(record.is_in_flight());
            summary.persistent_congestion |= record.fate == Fate::LostAtEnd;
            self.settle(index, &mut lost);
        }
        self.drop_settled();
        summary
    }

    /// Shows the tokens of the oldest `packets` outstanding ack-eliciting packets, for a probe to repeat. Their fate stays
    /// open: a probe timeout is no sign of loss (RFC 9002 section 6.2).
    pub(crate) fn for_each_oldest(&self, packets: usize, mut visit: impl FnMut(&SentPacket, Tokens<'_>)) {
        let outstanding = |record: &&SentPacket| record.fate == Fate::Outstanding && record.is_ack_eliciting();
        for record in self.records.iter().filter(outstanding).take(packets) {
            visit(record, self.tokens_of(record));
        }
    }

    /// Forgets all packets, and gives those outstanding to `forgotten`.
    pub(crate) fn clear(&mut self, mut forgotten: impl FnMut(&SentPacket, Tokens<'_>)) {
        for record in self.records.iter().filter(|record| record.fate == Fate::Outstanding) {
            forgotten(record, self.tokens_of(record));
        }
        *self = SentPackets::default();
    }

    /// Gives back what is kept for more packets than a few.
    pub(crate) fn shrink(&mut self) {
        self.records.shrink_to(RETAINED_QUIET);
        self.tokens.shrink_to(RETAINED_QUIET);
    }

    fn settle(&mut self, index: usize, settled: &mut impl FnMut(&SentPacket, Tokens<'_>)) {
        let record = &self.records[index];
        self.ack_eliciting -= u32::from(record.is_ack_eliciting());
        settled(record, self.tokens_of(record));
    }

    fn tokens_of(&self, record: &SentPacket) -> Tokens<'_> {
        let start = record.first_token.wrapping_sub(self.first_token) as usize;
        self.tokens.range(start..start + usize::from(record.tokens)).copied()
    }

    fn drop_settled(&mut self) {
        while let Some(front) = self.records.front()
            && front.fate != Fate::Outstanding
        {
            self.run = self.run.after(front);
            self.tokens.drain(..usize::from(front.tokens));
            self.first_token = self.first_token.wrapping_add(front.tokens.into());
            self.records.pop_front();
        }
        if self.records.is_empty() && self.records.capacity().max(self.tokens.capacity()) > RETAINED {
            self.records.shrink_to(RETAINED);
            self.tokens.shrink_to(RETAINED);
        }
    }
}

#[cfg(test)]
mod tests;
