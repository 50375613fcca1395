//! Stateless resets: when to send one, what it looks like, and whose token a datagram ends with (RFC 9000 10.3).
//!
//! Invariant: an answer is shorter than what it answers, so that two endpoints that know nothing fall silent.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::route::KeyedHash;
use crate::handle::ConnectionHandle;
use crate::id::ResetToken;

/// Shortest datagram that can be a reset: 5 unpredictable bytes and the token (RFC 9000 10.3).
pub(crate) const MIN_RESET: usize = 5 + ResetToken::LEN;

/// A reset this long looks like a short packet with our longest id and the smallest payload (RFC 9000 10.3).
const USUAL_RESET: usize = 43;

/// The token at the end of a datagram that could be a reset.
pub(crate) fn token_of(datagram: &[u8]) -> Option<ResetToken> {
    if datagram.len() < MIN_RESET {
        return None;
    }
    let tail: [u8; ResetToken::LEN] = datagram[datagram.len() - ResetToken::LEN..].try_into().ok()?;
    Some(ResetToken::from(tail))
}

/// The reset that answers a datagram of `received` bytes, or `None` if there is none that is shorter.
pub(crate) fn reset(token: &ResetToken, received: usize, filler: &[u8; 32]) -> Option<Vec<u8>> {
    // RFC 9000 10.3.3: one byte shorter than what triggered it, so that a loop ends.
    let len = USUAL_RESET.min(received.checked_sub(1)?);
    if len < MIN_RESET {
        return None;
    }
    let mut packet = filler[..len - ResetToken::LEN].to_vec();
    // The first two bits are those of a short header; all else is noise.
    packet[0] = 0x40 | (packet[0] & 0x3f);
    packet.extend_from_slice(token.as_bytes());
    Some(packet)
}

/// The tokens by which peers may reset our connections, by address: a flood of lookups costs one keyed hash each.
pub(crate) struct PeerTokens {
    tokens: HashMap<(SocketAddr, ResetToken), ConnectionHandle, KeyedHash>,
}

impl PeerTokens {
    pub(crate) fn new(hash: KeyedHash) -> Self {
        Self { tokens: HashMap::with_hasher(hash) }
    }

    pub(crate) fn insert(&mut self, remote: SocketAddr, token: ResetToken, handle: ConnectionHandle) {
        self.tokens.insert((remote, token), handle);
    }

    pub(crate) fn remove(&mut self, remote: SocketAddr, token: ResetToken, handle: ConnectionHandle) {
        if self.tokens.get(&(remote, token)) == Some(&handle) {
            self.tokens.remove(&(remote, token));
        }
    }

    /// The connection that this datagram resets.
    pub(crate) fn find(&self, remote: SocketAddr, datagram: &[u8]) -> Option<ConnectionHandle> {
        self.tokens.get(&(remote, token_of(datagram)?)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_shrink_until_there_is_none() {
        // RFC 9000 10.3.3
        let token = ResetToken::from([5; 16]);
        let mut received = 1200;
        let mut answers = 0;
        while let Some(answer) = reset(&token, received, &[0xff; 32]) {
            assert!(answer.len() < received && answer.len() >= MIN_RESET);
            assert_eq!(answer[0] & 0xc0, 0x40);
            assert_eq!(token_of(&answer).unwrap(), token);
            received = answer.len();
            answers += 1;
        }
        assert_eq!((received, answers), (MIN_RESET, 1 + USUAL_RESET - MIN_RESET));
        for short in 0..=MIN_RESET {
            assert!(reset(&token, short, &[0; 32]).is_none());
        }
    }
}
