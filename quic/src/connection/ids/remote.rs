//! The ids by which we reach the peer: the one in use, spare ones, and those retired.
//!
//! Invariants: no more than `active_connection_id_limit` are active; at most twice as many retirements wait for their
//! acknowledgement, and the last [`REMEMBERED`] after it are known, so that an id that comes again under another number is
//! noticed. The id in use has the lowest sequence number of all active ones, so that whatever is below it was retired.

use super::violation;
use crate::error::{TransportError, TransportErrorCode};
use crate::id::{CidSequence, ConnectionId, ResetToken};
use crate::token::Token;
use crate::wire::FrameWriter;
use crate::wire::frame::{NewConnectionId, RetireConnectionId};

/// Retired ids that are remembered after the peer knows of it.
const REMEMBERED: usize = 8;

/// The ids by which we reach the peer.
pub(crate) struct RemoteIds {
    current: RemoteId,
    spare: Vec<RemoteId>,
    /// All below were retired by the peer.
    retire_prior_to: CidSequence,
    /// Retired ids, in the order of their retirement.
    retired: Vec<Retired>,
    limit: usize,
}

#[derive(Clone, Copy)]
struct RemoteId {
    sequence: CidSequence,
    id: ConnectionId,
    token: Option<ResetToken>,
}

struct Retired {
    sequence: CidSequence,
    id: ConnectionId,
    state: Retirement,
}

/// How far the peer knows of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Retirement {
    Owed,
    Sent,
    Acknowledged,
}

impl RemoteIds {
    /// `limit`: our `active_connection_id_limit`.
    pub(crate) fn new(first: ConnectionId, limit: u8) -> Self {
        let limit = limit.into();
        let current = RemoteId { sequence: CidSequence::ZERO, id: first, token: None };
        Self { current, spare: Vec::new(), retire_prior_to: CidSequence::ZERO, retired: Vec::new(), limit }
    }

    /// Bytes held outside of the value itself.
    pub(crate) fn memory(&self) -> usize {
        self.spare.capacity() * size_of::<RemoteId>() + self.retired.capacity() * size_of::<Retired>()
    }

    /// The id to send to.
    pub(crate) fn current(&self) -> ConnectionId {
        self.current.id
    }

    /// The token whose arrival means that the peer lost this connection (RFC 9000 10.3.1).
    pub(crate) fn reset_token(&self) -> Option<ResetToken> {
        self.current.token
    }

    /// The peer chose another id in a Retry or in its first packet (RFC 9000 7.2).
    pub(crate) fn replace_first(&mut self, id: ConnectionId) {
        self.current.id = id;
    }

    /// The token of the id of the handshake came with the server's transport parameters.
    pub(crate) fn on_first_reset_token(&mut self, token: ResetToken) {
        if self.current.sequence == CidSequence::ZERO {
            self.current.token = Some(token);
        }
    }

    /// The id that came with a server's preferred address, number 1 (RFC 9000 5.1.1). We stay where we are; it is an id
    /// like any other.
    pub(crate) fn on_preferred(&mut self, id: ConnectionId, token: ResetToken) -> Result<(), TransportError> {
        // RFC 9000 18.2
        if self.current.id.is_empty() {
            let reason = "a preferred address from a server without connection ids";
            return Err(TransportErrorCode::TRANSPORT_PARAMETER_ERROR.because(reason));
        }
        if id == self.current.id {
            return Err(TransportErrorCode::TRANSPORT_PARAMETER_ERROR.because("a preferred address with the id of the handshake"));
        }
        self.spare.push(RemoteId { sequence: CidSequence::ZERO.next(), id, token: Some(token) });
        Ok(())
    }

    pub(crate) fn on_new(&mut self, frame: &NewConnectionId) -> Result<(), TransportError> {
        let NewConnectionId { sequence, retire_prior_to, .. } = *frame;
        // RFC 9000 19.15
        if self.current.id.is_empty() {
            return Err(violation("NEW_CONNECTION_ID from a peer without connection ids"));
        }
        if retire_prior_to > sequence {
            return Err(TransportErrorCode::FRAME_ENCODING_ERROR.because("NEW_CONNECTION_ID retires more than it issues"));
        }
        let new = RemoteId { sequence, id: frame.id, token: Some(frame.reset_token) };
        let mut known = false;
        for old in std::iter::once(&self.current).chain(&self.spare) {
            if (old.sequence == sequence) != (old.id == new.id) {
                return Err(violation("NEW_CONNECTION_ID reuses a sequence number or an id"));
            }
            if old.sequence == sequence {
                if old.token.is_some_and(|token| token != frame.reset_token) {
                    return Err(violation("NEW_CONNECTION_ID changes a reset token"));
                }
                known = true;
            }
        }
        for retired in &self.retired {
            let same = retired.sequence == sequence;
            if same != (retired.id == new.id) {
                return Err(violation("NEW_CONNECTION_ID reuses a sequence number or an id that was retired"));
            }
            known |= same;
        }
        if !known {
            // RFC 9000 19.15: an id below an earlier Retire Prior To is retired at once, and so is one that we passed over.
            if sequence < self.retire_prior_to || sequence < self.current.sequence {
                self.retire(new)?;
            } else {
                self.spare.push(new);
            }
        }
        if retire_prior_to > self.retire_prior_to {
            self.retire_prior_to = retire_prior_to;
            self.retire_below(retire_prior_to)?;
        }
        if 1 + self.spare.len() > self.limit {
            return Err(TransportErrorCode::CONNECTION_ID_LIMIT_ERROR.because("more active connection ids than active_connection_id_limit"));
        }
        Ok(())
    }

    /// Uses another of the peer's ids from now on, and retires the one in use (RFC 9000 5.1.2). False if there is no other, or
    /// the peer is slow to acknowledge earlier retirements.
    pub(crate) fn rotate(&mut self) -> bool {
        let is_possible = !self.spare.is_empty() && self.unacknowledged() < 2 * self.limit;
        is_possible && self.retire_current().is_ok()
    }

    pub(crate) fn has_pending(&self) -> bool {
        self.retired.iter().any(|retired| retired.state == Retirement::Owed)
    }

    pub(crate) fn write_frames(&mut self, out: &mut FrameWriter<'_>) {
        for retired in self.retired.iter_mut().filter(|retired| retired.state == Retirement::Owed) {
            let sequence = retired.sequence;
            if !out.frame(&RetireConnectionId { sequence }, Token::RetireConnectionId(sequence)) {
                return;
            }
            retired.state = Retirement::Sent;
        }
    }

    pub(crate) fn on_acked(&mut self, sequence: CidSequence) {
        self.set(sequence, Retirement::Acknowledged);
        let is_known = |retired: &Retired| retired.state == Retirement::Acknowledged;
        if self.retired.iter().filter(|retired| is_known(retired)).count() > REMEMBERED
            && let Some(oldest) = self.retired.iter().position(is_known)
        {
            self.retired.remove(oldest);
        }
    }

    pub(crate) fn on_lost(&mut self, sequence: CidSequence) {
        self.set(sequence, Retirement::Owed);
    }

    fn set(&mut self, sequence: CidSequence, state: Retirement) {
        for retired in &mut self.retired {
            // What is acknowledged stays so, whatever is thought of a later packet.
            if retired.sequence == sequence && retired.state != Retirement::Acknowledged {
                retired.state = state;
            }
        }
    }

    fn unacknowledged(&self) -> usize {
        self.retired.iter().filter(|retired| retired.state != Retirement::Acknowledged).count()
    }

    fn retire_below(&mut self, bound: CidSequence) -> Result<(), TransportError> {
        let mut at = 0;
        while at < self.spare.len() {
            if self.spare[at].sequence < bound {
                let old = self.spare.swap_remove(at);
                self.retire(old)?;
            } else {
                at += 1;
            }
        }
        if self.current.sequence < bound {
            self.retire_current()?;
        }
        Ok(())
    }

    /// Goes on with the lowest of the spare ones.
    fn retire_current(&mut self) -> Result<(), TransportError> {
        let lowest = (0..self.spare.len()).min_by_key(|at| self.spare[*at].sequence);
        let Some(lowest) = lowest else {
            return Err(violation("NEW_CONNECTION_ID leaves no connection id"));
        };
        let old = std::mem::replace(&mut self.current, self.spare.swap_remove(lowest));
        self.retire(old)
    }

    fn retire(&mut self, old: RemoteId) -> Result<(), TransportError> {
        // RFC 9000 5.1.2: a peer that withholds acknowledgements must not grow this without bound.
        if self.unacknowledged() >= 2 * self.limit {
            return Err(TransportErrorCode::CONNECTION_ID_LIMIT_ERROR.because("too many retirements of connection ids are unacknowledged"));
        }
        self.retired.push(Retired { sequence: old.sequence, id: old.id, state: Retirement::Owed });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(sequence: u32, retire_prior_to: u32, fill: u8) -> NewConnectionId {
        NewConnectionId {
            sequence: CidSequence::from(sequence),
            retire_prior_to: CidSequence::from(retire_prior_to),
            id: ConnectionId::new(&[fill; 8]).unwrap(),
            reset_token: ResetToken::from([fill; 16]),
        }
    }

    fn remote() -> RemoteIds {
        RemoteIds::new(ConnectionId::new(&[0; 8]).unwrap(), 4)
    }

    #[test]
    fn an_issued_id_is_used_when_the_current_one_is_retired() {
        let mut ids = remote();
        ids.on_new(&frame(1, 0, 1)).unwrap();
        ids.on_new(&frame(1, 0, 1)).unwrap();
        assert_eq!(ids.current().as_slice(), [0; 8]);
        ids.on_new(&frame(2, 1, 2)).unwrap();
        assert_eq!(ids.current().as_slice(), [1; 8]);
        assert_eq!(ids.reset_token().unwrap(), ResetToken::from([1; 16]));
        assert!(ids.has_pending());
    }

    #[test]
    fn rules_of_new_connection_id() {
        // RFC 9000 19.15
        let code = |result: Result<(), TransportError>| result.unwrap_err().code;
        assert_eq!(code(remote().on_new(&frame(1, 2, 1))), TransportErrorCode::FRAME_ENCODING_ERROR);
        assert_eq!(code(remote().on_new(&frame(1, 0, 0))), TransportErrorCode::PROTOCOL_VIOLATION);
        let mut ids = remote();
        ids.on_new(&frame(1, 0, 1)).unwrap();
        assert_eq!(code(ids.on_new(&frame(1, 0, 2))), TransportErrorCode::PROTOCOL_VIOLATION);
        assert_eq!(code(ids.on_new(&frame(2, 0, 1))), TransportErrorCode::PROTOCOL_VIOLATION);
        let mut empty = RemoteIds::new(ConnectionId::EMPTY, 4);
        assert_eq!(code(empty.on_new(&frame(1, 0, 1))), TransportErrorCode::PROTOCOL_VIOLATION);
        for sequence in 2..4 {
            ids.on_new(&frame(sequence, 0, sequence as u8)).unwrap();
        }
        assert_eq!(code(ids.on_new(&frame(4, 0, 4))), TransportErrorCode::CONNECTION_ID_LIMIT_ERROR);
    }

    #[test]
    fn retirements_that_are_never_acknowledged_are_bounded() {
        // RFC 9000 5.1.2; CVE-2024-22189
        let mut ids = remote();
        let refused = (1..1_000_000u32).find_map(|sequence| {
            let mut frame = frame(sequence, sequence, 1);
            frame.id = ConnectionId::new(&sequence.to_be_bytes()).unwrap();
            ids.on_new(&frame).err()
        });
        assert_eq!(refused.unwrap().code, TransportErrorCode::CONNECTION_ID_LIMIT_ERROR);
        assert!(ids.retired.len() <= 8);
    }

    /// The sequence numbers of the retirements that are owed.
    fn owed(ids: &mut RemoteIds) -> Vec<u64> {
        let owed = ids.retired.iter_mut().filter(|retired| retired.state == Retirement::Owed);
        owed.map(|retired| {
            retired.state = Retirement::Sent;
            retired.sequence.as_u64()
        })
        .collect()
    }

    #[test]
    fn a_rotation_takes_the_next_spare_id() {
        let mut ids = remote();
        assert!(!ids.rotate(), "there is no other");
        for sequence in [3, 1, 2] {
            ids.on_new(&frame(sequence, 0, sequence as u8)).unwrap();
        }
        for sequence in 1..=3 {
            assert!(ids.rotate());
            assert_eq!(ids.current().as_slice(), [sequence; 8]);
            assert_eq!(ids.reset_token().unwrap(), ResetToken::from([sequence; 16]));
        }
        assert!(!ids.rotate());
        assert_eq!(owed(&mut ids), [0, 1, 2]);
        // One that is told again stays retired, and one that was late is retired at once.
        ids.on_new(&frame(2, 0, 2)).unwrap();
        assert_eq!(owed(&mut ids), []);
        for sequence in 4..=6 {
            ids.on_new(&frame(sequence, 0, sequence as u8)).unwrap();
        }
        // A peer that acknowledges nothing lets us change as often as the bound on retirements allows.
        let mut next = 7;
        while ids.rotate() {
            ids.on_new(&frame(next, 0, next as u8)).unwrap();
            next += 1;
        }
        assert_eq!(ids.unacknowledged(), 8);
        ids.on_acked(CidSequence::from(0u32));
        assert!(ids.rotate());
    }

    #[test]
    fn an_id_that_was_retired_does_not_come_back_under_another_number() {
        // RFC 9000 19.15
        let retired = || {
            let mut ids = remote();
            ids.on_new(&frame(1, 0, 1)).unwrap();
            ids.on_new(&frame(2, 2, 2)).unwrap();
            assert_eq!(owed(&mut ids), [1, 0]);
            ids
        };
        for acknowledged in [false, true] {
            for (sequence, fill) in [(3, 1), (1, 9), (3, 0), (0, 9)] {
                let mut ids = retired();
                if acknowledged {
                    ids.on_acked(CidSequence::from(0u32));
                    ids.on_acked(CidSequence::from(1u32));
                }
                // The same again is a repetition.
                ids.on_new(&frame(1, 0, 1)).unwrap();
                let error = ids.on_new(&frame(sequence, 0, fill)).unwrap_err();
                assert_eq!(error.code, TransportErrorCode::PROTOCOL_VIOLATION, "{sequence} {fill} {acknowledged}");
            }
        }
    }

    #[test]
    fn what_is_remembered_of_retired_ids_is_bounded() {
        let mut ids = remote();
        for sequence in 1..100_000u32 {
            let mut frame = frame(sequence, sequence, 1);
            frame.id = ConnectionId::new(&sequence.to_be_bytes()).unwrap();
            ids.on_new(&frame).unwrap();
            assert_eq!(owed(&mut ids), [u64::from(sequence) - 1]);
            ids.on_lost(CidSequence::from(sequence - 1));
            assert_eq!(owed(&mut ids), [u64::from(sequence) - 1]);
            ids.on_acked(CidSequence::from(sequence - 1));
            ids.on_lost(CidSequence::from(sequence - 1));
            assert!(!ids.has_pending());
        }
        assert!(ids.retired.len() <= REMEMBERED);
        // One that is forgotten is retired again, and not used.
        let mut again = frame(7, 0, 1);
        again.id = ConnectionId::new(&7u32.to_be_bytes()).unwrap();
        ids.on_new(&again).unwrap();
        assert_eq!(owed(&mut ids), [7]);
        assert!(!ids.rotate());
    }

    #[test]
    fn the_id_of_a_preferred_address_is_number_one() {
        // RFC 9000 5.1.1, 18.2
        let mut ids = remote();
        let preferred = ConnectionId::new(&[7; 8]).unwrap();
        ids.on_preferred(preferred, ResetToken::from([7; 16])).unwrap();
        ids.on_new(&frame(1, 0, 7)).unwrap();
        let mut other_token = frame(1, 0, 7);
        other_token.reset_token = ResetToken::from([8; 16]);
        for wrong in [frame(1, 0, 8), frame(2, 0, 7), other_token] {
            assert_eq!(ids.on_new(&wrong).unwrap_err().code, TransportErrorCode::PROTOCOL_VIOLATION);
        }
        let same = remote().on_preferred(ConnectionId::new(&[0; 8]).unwrap(), ResetToken::from([7; 16]));
        assert_eq!(same.unwrap_err().code, TransportErrorCode::TRANSPORT_PARAMETER_ERROR);
        let empty = RemoteIds::new(ConnectionId::EMPTY, 4).on_preferred(preferred, ResetToken::from([7; 16]));
        assert_eq!(empty.unwrap_err().code, TransportErrorCode::TRANSPORT_PARAMETER_ERROR);
    }
}
