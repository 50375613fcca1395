//! Who of the clients that ask gets in, and how the others are turned away.
//!
//! Owns the decision, in the order of its cost: from the header alone, then from a token, then from the first packet itself.
//! Does not own the limits (`crate::config`), nor what stands in an answer (`retry`).
//!
//! Invariants: nothing is kept for a client before its first packet has authenticated; a token makes one connection; a client
//! that is not accepted is told so, within the budget of answers, or asked to come again with a Retry.

use super::accept::{AcceptError, Incoming, Validation};
use super::slots::Occupant;
use super::token::{Lifetimes, TokenBody, TokenVerdict};
use super::{Endpoint, Routed, retry};
use crate::config::{RetryPolicy, ServerLimits};
use crate::connection::{Connection, DatagramMeta};
use crate::containment::{Panicked, contain};
use crate::error::TransportErrorCode;
use crate::handle::ConnectionHandle;
use crate::id::ConnectionId;
use crate::pressure::{Pressure, Shortage};
use crate::refusal::Refusal;
use crate::time::Instant;

/// What is to be done with a client that asks for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// [`Endpoint::accept`] it.
    Accept,
    /// Let it show that it owns its address: [`Endpoint::retry`].
    Retry,
    /// There is no room, for this reason: [`Endpoint::refuse`] it.
    Refuse(Refusal),
}

impl Endpoint {
    /// What is to be done with a client, by the limits and the policy of the configuration, and as what is short allows. An
    /// answer for the caller to act on: it changes nothing.
    pub fn admit(&self, incoming: &Incoming, shortage: Shortage) -> Admission {
        let Some(server) = &self.server else { return Admission::Refuse(Refusal::Closed) };
        let limits = &server.limits;
        if shortage.processors == Pressure::Full {
            return Admission::Refuse(Refusal::Processors);
        }
        if shortage.memory == Pressure::Full {
            return Admission::Refuse(Refusal::Memory);
        }
        if limits.max_connections.is_some_and(|limit| self.keys.accepted() >= limit) {
            return Admission::Refuse(Refusal::Limit);
        }
        let pending = self.pending_handshakes();
        let wants_retry = match server.retry {
            RetryPolicy::Never => false,
            RetryPolicy::UnderLoad => {
                shortage.worst() == Pressure::High || pending >= limits.load_threshold().min(limits.max_pending_handshakes)
            }
            RetryPolicy::Always => true,
        };
        if wants_retry && !incoming.is_validated() {
            return Admission::Retry;
        }
        if pending >= limits.max_pending_handshakes { Admission::Refuse(Refusal::Limit) } else { Admission::Accept }
    }

    /// Makes a connection for a client, and lets it receive the datagram that asked for it.
    ///
    /// # Errors
    /// [`AcceptError`] if there is no connection: the datagram is forged, or the endpoint is full.
    pub fn accept(
        &mut self,
        now: Instant,
        incoming: Incoming,
        datagram: &[u8],
        meta: DatagramMeta,
    ) -> Result<(ConnectionHandle, Connection), AcceptError> {
        let accepted = self.try_accept(now, incoming, datagram, meta);
        match &accepted {
            Ok(_) => {
                self.stats.accepted += 1;
                self.stats.validated += u64::from(incoming.is_validated());
            }
            Err(error) => self.count_refusal(error.reason()),
        }
        accepted
    }

    /// The Retry packet that asks a client to show that it owns its address (RFC 9000 8.1.2). `None` if it did already.
    pub fn retry(&mut self, now: Instant, incoming: Incoming) -> Option<Vec<u8>> {
        if !incoming.may_retry() {
            return None;
        }
        // RFC 9000 17.2.5.1: not the id that the client made up. Initial keys follow from it, as from that.
        let source = ConnectionId::new(&self.unpredictable()).unwrap_or(ConnectionId::EMPTY);
        let body = TokenBody::Retry { original: incoming.original, retry_source: source };
        let token = self.seal_token(now, &incoming, body);
        self.stats.retries += 1;
        Some(retry::retry(&incoming, source, &token))
    }

    /// The packet that tells a client that it is not accepted (RFC 9000 5.2.2), for a reason that is counted and not told. `None` if
    /// too many were answered just now.
    pub fn refuse(&mut self, now: Instant, incoming: Incoming, reason: Refusal) -> Option<Vec<u8>> {
        self.count_refusal(reason);
        self.close(now, &incoming, TransportErrorCode::CONNECTION_REFUSED)
    }

    /// Looks at the token of a first packet, if it has one.
    pub(super) fn validate(&mut self, now: Instant, mut incoming: Incoming, token: &[u8]) -> Routed {
        let Some(server) = &self.server else { return Routed::Dropped };
        let ServerLimits { retry_token_lifetime: retry, token_lifetime: address, .. } = server.limits;
        let lifetimes = Lifetimes { retry, address };
        let time = self.clock.read(now);
        incoming.validation = match self.tokens.open(time, lifetimes, &incoming, token) {
            TokenVerdict::Nothing => Validation::None,
            TokenVerdict::Retry { original: first, used: token } => Validation::Retry { first, token },
            TokenVerdict::Address(token) => Validation::Address(token),
            TokenVerdict::InvalidRetry => {
                self.stats.invalid_tokens += 1;
                // RFC 9000 8.1.2: a second Retry would be ignored, so that the client learns the truth at once.
                return self.close(now, &incoming, TransportErrorCode::INVALID_TOKEN).map_or(Routed::Dropped, Routed::Answer);
            }
        };
        Routed::Incoming(incoming)
    }

    fn try_accept(
        &mut self,
        now: Instant,
        incoming: Incoming,
        datagram: &[u8],
        meta: DatagramMeta,
    ) -> Result<(ConnectionHandle, Connection), AcceptError> {
        let server = self.server.clone().ok_or(AcceptError::NotServing)?;
        if self.initials.len() >= server.limits.max_pending_handshakes {
            return Err(AcceptError::Full);
        }
        let handle = self.slots.take(Occupant::Accepted).ok_or(AcceptError::Full)?;
        if !self.keys.enter(server.limits.max_connections) {
            self.slots.free(handle);
            return Err(AcceptError::Full);
        }
        let lent = self.lend(handle);
        let connection = contain("a client's first packet", || {
            let mut connection = Connection::server(now, &server, &incoming, meta.local, lent)?;
            connection.receive(now, datagram, meta, &mut self.scratch);
            Some(connection)
        });
        let accepted = match connection {
            // What is not authentic leaves nothing behind (RFC 9000 5.2.2).
            Ok(Some(connection)) if !connection.has_heard() => Err(AcceptError::Unauthenticated),
            Ok(Some(connection)) => self.spend_token(&incoming).map(|()| connection),
            Ok(None) => Err(AcceptError::Full),
            Err(Panicked) => Err(AcceptError::Defect),
        };
        match accepted {
            Ok(mut connection) => {
                if !server.limits.token_lifetime.is_zero() {
                    let agreed = [connection.version()];
                    let versions = if connection.is_version_open() { &server.versions[..] } else { &agreed };
                    let token = |version| (version, self.seal_token(now, &Incoming { version, ..incoming }, TokenBody::Address));
                    connection.give_token(versions.iter().copied().map(token).collect());
                }
                self.initials.insert(incoming.remote, incoming.original, handle);
                Ok((handle, connection))
            }
            Err(error) => {
                self.free(handle);
                Err(error)
            }
        }
    }

    /// RFC 9000 8.1.4: a token proves an address once.
    fn spend_token(&mut self, incoming: &Incoming) -> Result<(), AcceptError> {
        match incoming.validation {
            Validation::None => Ok(()),
            Validation::Retry { token, .. } | Validation::Address(token) => {
                if self.tokens.spend(token) {
                    Ok(())
                } else {
                    Err(AcceptError::TokenUsed)
                }
            }
        }
    }

    fn seal_token(&mut self, now: Instant, incoming: &Incoming, body: TokenBody) -> Vec<u8> {
        let [nonce @ .., _, _, _, _] = self.unpredictable();
        self.tokens.seal(self.clock.read(now), nonce, incoming.remote, incoming.version, body)
    }

    fn close(&mut self, now: Instant, incoming: &Incoming, code: TransportErrorCode) -> Option<Vec<u8>> {
        // Its keys cost several hashes, which a flood gets no more of than of answers.
        if !self.answers.take(now) {
            return None;
        }
        let [source @ .., _, _, _, _, _, _, _, _] = self.unpredictable();
        let source: [u8; 8] = source;
        Some(retry::close(incoming, ConnectionId::new(&source).unwrap_or(ConnectionId::EMPTY), code))
    }
}
