//! The ids by which the peer reaches us: which are active, which of them the peer is yet to be told, and their rotation.
//!
//! Invariants: at most twice as many ids are active as the peer stores, those that it was asked to retire included; a peer
//! that retires none gets no more. Active sequence numbers ascend.

use super::violation;
use crate::error::TransportError;
use crate::handle::IdIssuer;
use crate::id::{CidSequence, ConnectionId, ResetToken};
use crate::token::Token;
use crate::wire::FrameWriter;
use crate::wire::frame::{NewConnectionId, RetireConnectionId};

/// Ids that we keep active at the peer, if it allows as many: enough for a few path changes.
const ISSUED: u8 = 4;

/// Before a rotation is over, there are those it takes out of use besides.
const MAX_ACTIVE: usize = 2 * ISSUED as usize;

/// The ids by which the peer reaches us.
pub(crate) struct LocalIds {
    issuer: IdIssuer,
    handshake: ConnectionId,
    active: [u32; MAX_ACTIVE],
    count: u8,
    /// Of the active ones, by place, those to announce.
    owed: u8,
    limit: u8,
    /// A rotation was asked for while the one before is not over.
    wants_rotation: bool,
    /// The peer was asked to retire all below.
    retire_prior_to: u32,
}

impl LocalIds {
    /// Issues the id of the handshake, sequence number 0. `None` if the issuer is used up.
    pub(crate) fn new(mut issuer: IdIssuer) -> Option<(Self, ResetToken)> {
        let (sequence, handshake, token) = issuer.issue()?;
        let mut active = [0; MAX_ACTIVE];
        active[0] = sequence;
        Some((Self { issuer, handshake, active, count: 1, owed: 0, limit: 1, wants_rotation: false, retire_prior_to: 0 }, token))
    }

    /// The id in our long headers.
    pub(crate) fn handshake_id(&self) -> ConnectionId {
        self.handshake
    }

    /// The peer said how many ids it stores (RFC 9000 18.2).
    pub(crate) fn on_peer_parameters(&mut self, active_connection_id_limit: u64) {
        self.limit = active_connection_id_limit.min(ISSUED.into()) as u8;
        self.replenish();
    }

    /// Issues new ids, and asks the peer to use no others from then on (RFC 9000 5.1.2). If it has not retired those of an
    /// earlier rotation yet, this one begins when it has.
    pub(crate) fn rotate(&mut self) {
        // Before the peer said how many it stores, and for one that stores but the first, there are no others.
        if self.limit < 2 {
            return;
        }
        if self.count > self.limit {
            self.wants_rotation = true;
            return;
        }
        self.wants_rotation = false;
        let first = self.issuer.issued();
        for _ in 0..self.limit {
            if !self.issue() {
                break;
            }
        }
        if self.issuer.issued() > first {
            self.retire_prior_to = first;
        }
    }

    pub(crate) fn on_retire(&mut self, frame: &RetireConnectionId, packet_id: &[u8]) -> Result<(), TransportError> {
        let sequence = frame.sequence.as_u64();
        // RFC 9000 19.16: never issued, or the id that carried the frame.
        if sequence >= u64::from(self.issuer.issued()) {
            return Err(violation("RETIRE_CONNECTION_ID of an id that was never issued"));
        }
        let sequence = sequence as u32;
        if self.issuer.sequence(packet_id) == Some(sequence) {
            return Err(violation("RETIRE_CONNECTION_ID of the id that the packet was sent to"));
        }
        if let Some(at) = self.place(sequence) {
            self.active.copy_within(at + 1..usize::from(self.count), at);
            self.count -= 1;
            let below = (1 << at) - 1;
            self.owed = (self.owed & below) | (self.owed >> 1 & !below);
            self.replenish();
            if self.wants_rotation {
                self.rotate();
            }
        }
        Ok(())
    }

    /// Whether the peer has retired all there were, and there are no more to give.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn has_pending(&self) -> bool {
        self.owed != 0
    }

    pub(crate) fn write_frames(&mut self, out: &mut FrameWriter<'_>) {
        while self.owed != 0 {
            let at = self.owed.trailing_zeros();
            let sequence = self.active[at as usize];
            let (id, reset_token) = self.issuer.reissue(sequence);
            // RFC 9000 19.15: no frame retires its own id.
            let retire_prior_to = CidSequence::from(self.retire_prior_to.min(sequence));
            let sequence = CidSequence::from(sequence);
            let frame = NewConnectionId { sequence, retire_prior_to, id, reset_token };
            if !out.frame(&frame, Token::NewConnectionId(sequence)) {
                return;
            }
            self.owed &= !(1 << at);
        }
    }

    pub(crate) fn on_lost(&mut self, sequence: CidSequence) {
        // A retired id has reached the peer; its loss no longer matters.
        if let Some(at) = u32::try_from(sequence.as_u64()).ok().and_then(|sequence| self.place(sequence)) {
            self.owed |= 1 << at;
        }
    }

    #[cfg(test)]
    pub(crate) fn reissue(&self, sequence: u32) -> (ConnectionId, ResetToken) {
        self.issuer.reissue(sequence)
    }

    #[cfg(test)]
    pub(crate) fn issuer(&mut self) -> &mut IdIssuer {
        &mut self.issuer
    }

    /// The active sequence numbers.
    #[cfg(test)]
    pub(crate) fn active(&self) -> &[u32] {
        &self.active[..usize::from(self.count)]
    }

    fn place(&self, sequence: u32) -> Option<usize> {
        self.active[..usize::from(self.count)].iter().position(|active| *active == sequence)
    }

    /// Those that the peer is asked to retire do not count.
    fn replenish(&mut self) {
        let usable = |ids: &Self| ids.active[..usize::from(ids.count)].iter().filter(|active| **active >= ids.retire_prior_to).count();
        while usable(self) < self.limit.into() && self.issue() {}
    }

    /// Says whether there was one more.
    fn issue(&mut self) -> bool {
        if usize::from(self.count) == MAX_ACTIVE {
            return false;
        }
        let Some(sequence) = self.issuer.issue_later() else { return false };
        self.active[usize::from(self.count)] = sequence;
        self.owed |= 1 << self.count;
        self.count += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::TransportErrorCode;
    use crate::handle::{ConnectionHandle, EndpointKeys};

    fn ids(limit: u64) -> LocalIds {
        let issuer = EndpointKeys::new(&[1; 32], 0, 0).issuer(0, ConnectionHandle::new(3, 0));
        let (mut ids, _) = LocalIds::new(issuer).unwrap();
        ids.on_peer_parameters(limit);
        ids
    }

    /// Sequence number and retirement of each frame.
    fn frames(ids: &mut LocalIds) -> Vec<(u64, u64)> {
        let mut tokens = Vec::new();
        let mut buf = [0; 1200];
        let mut out = FrameWriter::new(&mut buf, &mut tokens);
        ids.write_frames(&mut out);
        let written = out.finish();
        let frames = crate::wire::frame::FrameIter::new(&buf[..written.len], crate::wire::PacketType::OneRtt, crate::Side::Server);
        let mut found = Vec::new();
        for frame in frames {
            if let Ok(crate::wire::frame::Frame::NewConnectionId(frame)) = frame {
                found.push((frame.sequence.as_u64(), frame.retire_prior_to.as_u64()));
            }
        }
        found
    }

    fn retire(ids: &mut LocalIds, sequence: u32) -> Result<(), TransportErrorCode> {
        let frame = RetireConnectionId { sequence: CidSequence::from(sequence) };
        ids.on_retire(&frame, &[]).map_err(|error| error.code)
    }

    #[test]
    fn a_peer_has_as_many_as_it_stores_and_no_more_than_four() {
        // RFC 9000 5.1.1
        for (limit, expected) in [(2, 2), (4, 4), (1000, 4), (u64::MAX, 4)] {
            let mut ids = ids(limit);
            assert_eq!(frames(&mut ids).len() + 1, expected);
            assert!(!ids.has_pending());
            retire(&mut ids, 1).unwrap();
            assert_eq!(frames(&mut ids), [(expected as u64, 0)]);
        }
    }

    #[test]
    fn a_rotation_asks_for_all_earlier_ones_and_waits_for_the_one_before() {
        // RFC 9000 5.1.2
        let mut ids = ids(4);
        assert_eq!(frames(&mut ids), [(1, 0), (2, 0), (3, 0)]);
        ids.rotate();
        assert_eq!(frames(&mut ids), [(4, 4), (5, 4), (6, 4), (7, 4)]);
        // A peer that retires none gets no more.
        for _ in 0..1000 {
            ids.rotate();
        }
        assert_eq!((frames(&mut ids), ids.active().len()), (vec![], 8));
        // What was lost of the old ones is told as something to retire.
        ids.on_lost(CidSequence::from(2u32));
        assert_eq!(frames(&mut ids), [(2, 2)]);
        for sequence in [1, 3, 0] {
            retire(&mut ids, sequence).unwrap();
            assert_eq!(frames(&mut ids), []);
        }
        retire(&mut ids, 2).unwrap();
        assert_eq!(frames(&mut ids), [(8, 8), (9, 8), (10, 8), (11, 8)]);
        // A new one that is retired is made up for, as soon as there is room.
        retire(&mut ids, 9).unwrap();
        assert_eq!((frames(&mut ids), ids.active()), (vec![(12, 8)], &[4, 5, 6, 7, 8, 10, 11, 12][..]));
    }

    #[test]
    fn losses_are_told_again_until_the_id_is_retired() {
        let mut ids = ids(4);
        frames(&mut ids);
        for sequence in [3u32, 1, 3] {
            ids.on_lost(CidSequence::from(sequence));
        }
        retire(&mut ids, 2).unwrap();
        assert_eq!(frames(&mut ids), [(1, 0), (3, 0), (4, 0)]);
        ids.on_lost(CidSequence::from(2u32));
        assert!(!ids.has_pending());
    }

    #[test]
    fn the_last_usable_id_can_be_retired_as_often_as_one_likes() {
        // CVE-2025-7054
        let mut ids = ids(4);
        for sequence in 0..100_000 {
            retire(&mut ids, sequence).unwrap();
            retire(&mut ids, sequence).unwrap();
            assert_eq!(ids.active().len(), 4);
            frames(&mut ids);
        }
        // RFC 9000 19.16
        assert_eq!(retire(&mut ids, 100_004), Err(TransportErrorCode::PROTOCOL_VIOLATION));
        let carrier = ids.reissue(100_001).0;
        let frame = RetireConnectionId { sequence: CidSequence::from(100_001u32) };
        assert_eq!(ids.on_retire(&frame, &carrier).unwrap_err().code, TransportErrorCode::PROTOCOL_VIOLATION);
    }

    #[test]
    fn after_all_ids_there_are_none() {
        let mut ids = ids(4);
        ids.issuer().skip_to(u32::MAX - 2);
        for sequence in 0..4 {
            retire(&mut ids, sequence).unwrap();
        }
        assert_eq!(ids.active(), [u32::MAX - 2, u32::MAX - 1]);
        ids.rotate();
        assert_eq!(ids.retire_prior_to, 0, "nothing new, nothing to retire for it");
        for sequence in [u32::MAX - 2, u32::MAX - 1] {
            assert!(!ids.is_exhausted());
            retire(&mut ids, sequence).unwrap();
        }
        assert!(ids.is_exhausted());
    }
}
