//! A packet number space: the numbers of both directions and what became of them (RFC 9000 section 12.3).
//!
//! Owns: the next number, numbers left out on purpose, sent packets, received packets, and when a packet is lost by time.
//! Does not own: keys, RTT and congestion (`path`), the timer over all spaces (`recovery::loss`), or what tokens mean; it hands
//! settled packets with their tokens to a closure, and routes only `Token::Ack`, which is its own.
//!
//! Invariants: no number is used twice; a number that was left out is never sent, and its acknowledgement ends the
//! connection.

use std::time::Duration;

use crate::error::{TransportError, TransportErrorCode};
use crate::path_id::PathId;
use crate::random::Secrets;
use crate::recovery::SpaceId;
use crate::recovery::loss::{LossTiming, SpaceTimes};
use crate::recovery::received::Received;
use crate::recovery::sent::{LossSummary, PacketKind, SentPacket, SentPackets, Tokens};
use crate::time::Instant;
use crate::token::Token;
use crate::wire::frame::{Ack, AckToSend};
use crate::wire::{FrameWriter, PacketNumber, VarInt};

/// A receiver of data sends ACKs that nobody acknowledges, and never learns which ranges the peer knows; after so many in a
/// row one should carry a PING (RFC 9000 section 13.2.4).
const MAX_ACK_ONLY_RUN: u32 = 32;

/// An RTT sample that an ACK gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RttSample {
    /// The path that the acknowledged packet took.
    pub(crate) path: PathId,
    /// From its sending to now.
    pub(crate) sample: Duration,
    /// The delay that the peer reported, not yet bounded.
    pub(crate) delay: Duration,
}

/// What an ACK frame said that was new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AckSummary {
    /// Packets newly acknowledged.
    pub(crate) packets: u32,
    /// The RTT sample (RFC 9002 section 5.1).
    pub(crate) rtt: Option<RttSample>,
    /// Of them those that left with a mark of ECN.
    pub(crate) marked: u64,
    /// The largest number acknowledged so far was raised.
    pub(crate) raised: bool,
}

/// One packet number space of a connection.
#[derive(Debug)]
pub(crate) struct Space {
    id: SpaceId,
    numbers: Numbers,
    sent: SentPackets,
    /// What came in.
    pub(crate) received: Received,
    largest_acked: Option<PacketNumber>,
    /// When the next packet is lost by time.
    loss: Option<Instant>,
    last_ack_eliciting: Option<Instant>,
    ack_only_run: u32,
}

impl Space {
    /// Bytes held outside of the value itself.
    pub(crate) fn memory(&self) -> usize {
        self.sent.memory() + self.received.memory()
    }

    /// Gives back what is kept for more packets than a few.
    pub(crate) fn shrink(&mut self) {
        self.sent.shrink();
    }

    /// An unused space. `max_ack_delay` is our own promise to the peer; Initial and Handshake packets are acknowledged at
    /// once (RFC 9000 section 13.2.1).
    pub(crate) fn new(id: SpaceId, max_ack_delay: Duration) -> Space {
        let max_ack_delay = match id {
            SpaceId::Initial | SpaceId::Handshake => Duration::ZERO,
            SpaceId::Data => max_ack_delay,
        };
        Space {
            id,
            numbers: Numbers::default(),
            sent: SentPackets::default(),
            received: Received::new(max_ack_delay),
            largest_acked: None,
            loss: None,
            last_ack_eliciting: None,
            ack_only_run: 0,
        }
    }

    /// The number of the next packet, `None` when all are used up and the connection must end (RFC 9000 section 12.3).
    pub(crate) fn next_number(&self) -> Option<PacketNumber> {
        self.numbers.next
    }

    /// The largest number that the peer acknowledged, which shortens numbers on the wire.
    pub(crate) fn largest_acked(&self) -> Option<PacketNumber> {
        self.largest_acked
    }

    /// Whether packets that the peer must acknowledge are outstanding.
    pub(crate) fn has_ack_eliciting(&self) -> bool {
        self.sent.has_ack_eliciting()
    }

    /// Whether nothing is outstanding.
    #[cfg(test)]
    pub(crate) fn is_quiet(&self) -> bool {
        self.sent.is_empty()
    }

    /// Whether the next ACK should carry a PING, so that the peer's answer lets old ranges be forgotten, or because the peer
    /// does not hear us: probes of an unanswered PING repeat the ACK (RFC 9000 section 13.2.4).
    pub(crate) fn wants_ping(&self) -> bool {
        (self.ack_only_run >= MAX_ACK_ONLY_RUN && !self.sent.has_ack_eliciting()) || self.is_unheard()
    }

    /// Whether the peer probes again and again, as one that our ACKs do not reach, and nothing of ours is outstanding that would
    /// make us send them once more.
    pub(crate) fn is_unheard(&self) -> bool {
        self.received.is_peer_probing() && !self.sent.has_ack_eliciting()
    }

    /// What the loss timer needs.
    pub(crate) fn times(&self) -> SpaceTimes {
        SpaceTimes { loss: self.loss, last_ack_eliciting: self.last_ack_eliciting.filter(|_| self.sent.has_ack_eliciting()) }
    }

    /// A packet with the number [`Space::next_number`] was sent. Takes the tokens out of `tokens`. In application data the
    /// number after it is left out now and then, as `secrets` has it.
    pub(crate) fn on_sent(&mut self, packet: SentPacket, tokens: &mut Vec<Token>, secrets: &mut Secrets) {
        debug_assert_eq!(Some(packet.number), self.numbers.next);
        if packet.is_ack_eliciting() {
            self.last_ack_eliciting = Some(packet.sent);
            self.ack_only_run = 0;
            self.received.on_ack_ensured();
        } else if packet.kind == PacketKind::AckOnly {
            self.ack_only_run = self.ack_only_run.saturating_add(1);
        }
        self.sent.on_sent(packet, tokens);
        self.numbers.advance(self.id, secrets);
    }

    /// Takes in an ACK frame, and gives each newly acknowledged packet to `acked`. The peer's `ack_delay_exponent` decodes
    /// the delay.
    ///
    /// The caller takes in the RTT sample next, then calls [`Space::detect_lost`].
    ///
    /// # Errors
    /// PROTOCOL_VIOLATION if a packet is acknowledged that was never sent.
    pub(crate) fn on_ack(
        &mut self,
        now: Instant,
        ack: &Ack<'_>,
        ack_delay_exponent: u8,
        mut acked: impl FnMut(&SentPacket, Tokens<'_>),
    ) -> Result<AckSummary, TransportError> {
        let mut summary = AckSummary::default();
        let mut is_ack_eliciting = false;
        let largest = self.sent.outstanding(ack.largest).copied();
        for range in ack.ranges.clone() {
            // RFC 9000 section 13.1: acknowledging what was not sent shows a peer that acknowledges what it did not get.
            if !self.numbers.were_sent(*range.start(), *range.end()) {
                return Err(TransportErrorCode::PROTOCOL_VIOLATION.because("a packet was acknowledged that was never sent"));
            }
            let received = &mut self.received;
            self.sent.on_acked(range, |packet, tokens| {
                summary.packets += 1;
                summary.marked += u64::from(packet.marked);
                is_ack_eliciting |= packet.is_ack_eliciting();
                for token in tokens.clone() {
                    if let Token::Ack { largest } = token {
                        received.on_ack_acked(largest);
                    }
                }
                acked(packet, tokens);
            });
        }
        summary.raised = self.largest_acked.is_none_or(|largest| largest < ack.largest);
        self.largest_acked = self.largest_acked.max(Some(ack.largest));
        if let Some(largest) = largest.filter(|_| is_ack_eliciting) {
            let delay = match self.id {
                // RFC 9002 section 5.3: nobody delays these on purpose.
                SpaceId::Initial => Duration::ZERO,
                SpaceId::Handshake | SpaceId::Data => decode_ack_delay(ack.delay, ack_delay_exponent),
            };
            summary.rtt = Some(RttSample { path: largest.path, sample: now - largest.sent, delay });
        }
        Ok(summary)
    }

    /// Declares packets lost that acknowledged ones overtook, and gives each to `lost`: after each ACK, and when the loss
    /// timer says so.
    pub(crate) fn detect_lost(&mut self, now: Instant, timing: &LossTiming, lost: impl FnMut(&SentPacket, Tokens<'_>)) -> LossSummary {
        let Some(largest_acked) = self.largest_acked else {
            return LossSummary::default();
        };
        let summary = self.sent.detect_lost(now, largest_acked, timing, lost);
        self.loss = summary.next;
        summary
    }

    /// Shows the oldest outstanding ack-eliciting packets, for a probe to repeat what they carried. They stay outstanding.
    pub(crate) fn for_each_oldest(&self, packets: usize, visit: impl FnMut(&SentPacket, Tokens<'_>)) {
        self.sent.for_each_oldest(packets, visit);
    }

    /// Writes an ACK frame if an ack-eliciting packet awaits one, with as many ranges as there is room for; a probe repeats one,
    /// which may have been lost with what the probe is for. Says whether it did. `ack_delay_exponent` is ours.
    pub(crate) fn write_ack(&mut self, now: Instant, ack_delay_exponent: u8, is_probe: bool, out: &mut FrameWriter<'_>) -> bool {
        // Not in a handshake: the first sample of the time there and back would be of a late ACK.
        let is_repeated = is_probe && self.id == SpaceId::Data && self.received.largest().is_some();
        if !self.received.is_ack_pending() && !is_repeated {
            return false;
        }
        let delay = encode_ack_delay(self.received.ack_delay(now), ack_delay_exponent);
        let (ranges, ecn) = (self.received.ranges(), self.received.ecn());
        let is_written = AckToSend::fit(delay, ranges, ecn, out.remaining()).is_some_and(|frame| {
            let largest = frame.largest();
            out.frame(&frame, Token::Ack { largest })
        });
        if is_written {
            self.received.on_ack_written();
        }
        is_written
    }

    /// A Retry came, or 0-RTT was rejected: what was sent is forgotten and given to `forgotten`, to be sent again. Numbers
    /// go on (RFC 9000 section 17.2.5.3).
    pub(crate) fn on_restart(&mut self, forgotten: impl FnMut(&SentPacket, Tokens<'_>)) {
        self.sent.clear(forgotten);
        self.loss = None;
        self.last_ack_eliciting = None;
    }
}

/// The ACK Delay field in time (RFC 9000 section 19.3).
fn decode_ack_delay(delay: VarInt, exponent: u8) -> Duration {
    let micros = u128::from(delay.as_u64()) << exponent.min(20);
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

fn encode_ack_delay(delay: Duration, exponent: u8) -> VarInt {
    VarInt::saturating(u64::try_from(delay.as_micros() >> exponent.min(20)).unwrap_or(u64::MAX))
}

/// Numbers to send, and those left out (RFC 9000 section 21.4: a peer that acknowledges ahead of what arrives gives itself
/// away by acknowledging one that was never sent).
#[derive(Debug)]
struct Numbers {
    next: Option<PacketNumber>,
    /// The last ones left out, in a ring; the oldest are as good as none once the peer's window has passed them.
    skipped: [PacketNumber; Numbers::REMEMBERED],
    skips: u32,
    /// Packets until the next is left out. `None` before the first packet.
    countdown: Option<u32>,
}

impl Default for Numbers {
    fn default() -> Numbers {
        Numbers { next: Some(PacketNumber::ZERO), skipped: [PacketNumber::ZERO; Numbers::REMEMBERED], skips: 0, countdown: None }
    }
}

impl Numbers {
    const REMEMBERED: usize = 8;

    /// The first number is left out after about so many packets. Each gap doubles up to [`Numbers::MAX_PERIOD`], so that a
    /// cheat is found early, and honest peers pay for few holes.
    const MIN_PERIOD: u32 = 32;
    const MAX_PERIOD: u32 = 1 << 16;

    fn advance(&mut self, id: SpaceId, secrets: &mut Secrets) {
        self.next = self.next.and_then(PacketNumber::next);
        // Handshakes are too short to be worth it.
        if id != SpaceId::Data {
            return;
        }
        match self.countdown {
            None => self.countdown = Some(self.draw(secrets)),
            Some(0) => {
                if let Some(skipped) = self.next {
                    self.skipped[self.skips as usize % Numbers::REMEMBERED] = skipped;
                    self.skips = self.skips.saturating_add(1);
                    self.next = skipped.next();
                }
                self.countdown = Some(self.draw(secrets));
            }
            Some(left) => self.countdown = Some(left - 1),
        }
    }

    fn draw(&self, secrets: &mut Secrets) -> u32 {
        let period = (Numbers::MIN_PERIOD << self.skips.min(16)).min(Numbers::MAX_PERIOD);
        secrets.u32(period / 2..period * 3 / 2)
    }

    /// Whether all of `start..=end` were sent.
    fn were_sent(&self, start: PacketNumber, end: PacketNumber) -> bool {
        let is_past = self.next.is_none_or(|next| end < next);
        let mut skipped = self.skipped.iter().take(self.skips as usize);
        is_past && !skipped.any(|skipped| (start..=end).contains(skipped))
    }
}

#[cfg(test)]
mod tests;
