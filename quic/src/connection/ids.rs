//! The connection ids of both sides: which we issued, which the peer issued, and what of either is owed to the peer.
//!
//! Owns NEW_CONNECTION_ID and RETIRE_CONNECTION_ID (RFC 9000 5.1, 19.15, 19.16). How our ids are made is the endpoint's
//! business: the issuer is lent at the start.
//!
//! Invariants: at most `active_connection_id_limit` of either side's ids are active; at most twice as many retirements
//! are owed to the peer.

use std::collections::VecDeque;

use crate::error::{TransportError, TransportErrorCode};
use crate::handle::IdIssuer;
use crate::id::{CidSequence, ConnectionId, ResetToken};
use crate::token::Token;
use crate::wire::FrameWriter;
use crate::wire::frame::{NewConnectionId, RetireConnectionId};

/// Ids that we keep active at the peer, if it allows as many: enough for a few path changes.
const ISSUED: u64 = 4;

/// The ids by which the peer reaches us.
pub(crate) struct LocalIds {
    issuer: IdIssuer,
    handshake: ConnectionId,
    active: Vec<u32>,
    /// Sequence numbers to announce.
    pending: VecDeque<u32>,
    limit: u64,
}

impl LocalIds {
    /// Issues the id of the handshake, sequence number 0. `None` if the issuer is used up.
    pub(crate) fn new(mut issuer: IdIssuer) -> Option<(Self, ResetToken)> {
        let (sequence, handshake, token) = issuer.issue()?;
        Some((Self { issuer, handshake, active: vec![sequence], pending: VecDeque::new(), limit: 1 }, token))
    }

    /// The id in our long headers.
    pub(crate) fn handshake_id(&self) -> ConnectionId {
        self.handshake
    }

    /// The peer said how many ids it stores (RFC 9000 18.2).
    pub(crate) fn on_peer_parameters(&mut self, active_connection_id_limit: u64) {
        self.limit = active_connection_id_limit.min(ISSUED);
        self.replenish();
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
        if let Some(at) = self.active.iter().position(|active| *active == sequence) {
            self.active.swap_remove(at);
            self.pending.retain(|pending| *pending != sequence);
            self.replenish();
        }
        Ok(())
    }

    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(crate) fn write_frames(&mut self, out: &mut FrameWriter<'_>) {
        while let Some(sequence) = self.pending.front().copied() {
            let (id, reset_token) = self.issuer.reissue(sequence);
            let sequence = CidSequence::from(sequence);
            let frame = NewConnectionId { sequence, retire_prior_to: CidSequence::ZERO, id, reset_token };
            if !out.frame(&frame, Token::NewConnectionId(sequence)) {
                return;
            }
            self.pending.pop_front();
        }
    }

    pub(crate) fn on_lost(&mut self, sequence: CidSequence) {
        // A retired id has reached the peer; its loss no longer matters.
        if let Some(sequence) = self.active.iter().copied().find(|active| CidSequence::from(*active) == sequence)
            && !self.pending.contains(&sequence)
        {
            self.pending.push_back(sequence);
        }
    }

    #[cfg(test)]
    pub(crate) fn reissue(&self, sequence: u32) -> (ConnectionId, ResetToken) {
        self.issuer.reissue(sequence)
    }

    fn replenish(&mut self) {
        while (self.active.len() as u64) < self.limit {
            let Some((sequence, ..)) = self.issuer.issue() else { return };
            self.active.push(sequence);
            self.pending.push_back(sequence);
        }
    }
}

/// The ids by which we reach the peer.
pub(crate) struct RemoteIds {
    current: RemoteId,
    spare: Vec<RemoteId>,
    /// All below were retired by the peer.
    retire_prior_to: CidSequence,
    /// Retirements the peer has yet to acknowledge.
    retiring: Vec<Retiring>,
    limit: usize,
}

#[derive(Clone, Copy)]
struct RemoteId {
    sequence: CidSequence,
    id: ConnectionId,
    token: Option<ResetToken>,
}

struct Retiring {
    sequence: CidSequence,
    owed: bool,
}

impl RemoteIds {
    /// `limit`: our `active_connection_id_limit`.
    pub(crate) fn new(first: ConnectionId, limit: usize) -> Self {
        let current = RemoteId { sequence: CidSequence::ZERO, id: first, token: None };
        Self { current, spare: Vec::new(), retire_prior_to: CidSequence::ZERO, retiring: Vec::new(), limit }
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
        let retired_before = self.retiring.iter().any(|retiring| retiring.sequence == sequence);
        if !known && !retired_before {
            if sequence < self.retire_prior_to {
                // RFC 9000 19.15: an id below an earlier Retire Prior To is retired at once.
                self.retire(sequence)?;
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

    pub(crate) fn has_pending(&self) -> bool {
        self.retiring.iter().any(|retiring| retiring.owed)
    }

    pub(crate) fn write_frames(&mut self, out: &mut FrameWriter<'_>) {
        for retiring in self.retiring.iter_mut().filter(|retiring| retiring.owed) {
            let sequence = retiring.sequence;
            if !out.frame(&RetireConnectionId { sequence }, Token::RetireConnectionId(sequence)) {
                return;
            }
            retiring.owed = false;
        }
    }

    pub(crate) fn on_acked(&mut self, sequence: CidSequence) {
        self.retiring.retain(|retiring| retiring.sequence != sequence);
    }

    pub(crate) fn on_lost(&mut self, sequence: CidSequence) {
        for retiring in &mut self.retiring {
            retiring.owed |= retiring.sequence == sequence;
        }
    }

    fn retire_below(&mut self, bound: CidSequence) -> Result<(), TransportError> {
        let mut at = 0;
        while at < self.spare.len() {
            if self.spare[at].sequence < bound {
                let old = self.spare.swap_remove(at);
                self.retire(old.sequence)?;
            } else {
                at += 1;
            }
        }
        if self.current.sequence < bound {
            // The frame that raised the bound brought an id at or above it.
            let lowest = (0..self.spare.len()).min_by_key(|at| self.spare[*at].sequence);
            let Some(lowest) = lowest else {
                return Err(violation("NEW_CONNECTION_ID leaves no connection id"));
            };
            let old = std::mem::replace(&mut self.current, self.spare.swap_remove(lowest));
            self.retire(old.sequence)?;
        }
        Ok(())
    }

    fn retire(&mut self, sequence: CidSequence) -> Result<(), TransportError> {
        // RFC 9000 5.1.2: a peer that withholds acknowledgements must not grow this without bound.
        if self.retiring.len() >= 2 * self.limit {
            return Err(TransportErrorCode::CONNECTION_ID_LIMIT_ERROR.because("too many retirements of connection ids are unacknowledged"));
        }
        self.retiring.push(Retiring { sequence, owed: true });
        Ok(())
    }
}

fn violation(reason: &'static str) -> TransportError {
    TransportErrorCode::PROTOCOL_VIOLATION.because(reason)
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
        assert!(ids.retiring.len() <= 8);
    }
}
