//! Connection ids as values: their bytes, their order of issue, and the token that resets them. Issuing and routing
//! belong to the endpoint and the connection.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

/// A connection id of QUIC version 1: at most 20 bytes, kept inline.
#[derive(Clone, Copy)]
pub struct ConnectionId {
    len: u8,
    bytes: [u8; ConnectionId::MAX_LEN],
}

impl ConnectionId {
    /// The longest connection id of version 1 (RFC 9000 section 17.2).
    pub const MAX_LEN: usize = 20;

    /// The id without bytes, of an endpoint that routes by address.
    pub const EMPTY: ConnectionId = ConnectionId { len: 0, bytes: [0; ConnectionId::MAX_LEN] };

    /// The id with these bytes, `None` if there are more than [`ConnectionId::MAX_LEN`].
    pub fn new(bytes: &[u8]) -> Option<ConnectionId> {
        let mut id = ConnectionId::EMPTY;
        id.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        id.len = bytes.len() as u8;
        Some(id)
    }

    /// The id's bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl Deref for ConnectionId {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl PartialEq for ConnectionId {
    fn eq(&self, other: &ConnectionId) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for ConnectionId {}

impl Hash for ConnectionId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_slice().hash(state);
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectionId({self})")
    }
}

/// The sequence number of a connection id: how many ids its owner issued before it (RFC 9000 section 5.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CidSequence(u64);

impl CidSequence {
    /// The id that the handshake itself established.
    pub const ZERO: CidSequence = CidSequence(0);

    /// The sequence number after this one.
    pub const fn next(self) -> CidSequence {
        CidSequence(self.0 + 1)
    }

    /// The number on the wire.
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

impl From<crate::wire::VarInt> for CidSequence {
    fn from(value: crate::wire::VarInt) -> CidSequence {
        CidSequence(value.as_u64())
    }
}

impl From<u32> for CidSequence {
    fn from(value: u32) -> CidSequence {
        CidSequence(value.into())
    }
}

/// The secret that lets an endpoint which lost a connection's state end it (RFC 9000 section 10.3).
#[derive(Clone, Copy, Eq)]
pub struct ResetToken([u8; ResetToken::LEN]);

impl ResetToken {
    /// Bytes in a token.
    pub const LEN: usize = 16;

    /// The token's bytes.
    pub const fn as_bytes(&self) -> &[u8; ResetToken::LEN] {
        &self.0
    }
}

impl From<[u8; ResetToken::LEN]> for ResetToken {
    fn from(bytes: [u8; ResetToken::LEN]) -> ResetToken {
        ResetToken(bytes)
    }
}

impl PartialEq for ResetToken {
    /// RFC 9000 section 10.3.1: the time taken must not tell how much of a guess was right.
    fn eq(&self, other: &ResetToken) -> bool {
        u128::from_ne_bytes(self.0) ^ u128::from_ne_bytes(other.0) == 0
    }
}

impl Hash for ResetToken {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Debug for ResetToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResetToken(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_id_holds_up_to_twenty_bytes() {
        for len in 0..=20 {
            let bytes: Vec<u8> = (1..=len).collect();
            assert_eq!(ConnectionId::new(&bytes).unwrap().as_slice(), bytes);
        }
        assert!(ConnectionId::new(&[0; 21]).is_none());
        assert_ne!(ConnectionId::new(&[0]).unwrap(), ConnectionId::EMPTY);
        assert_eq!(ConnectionId::new(&[0xab, 0x01]).unwrap().to_string(), "ab01");
    }

    #[test]
    fn reset_token_compares_all_bytes_and_hides_them() {
        let token = ResetToken::from([7; 16]);
        for at in 0..16 {
            let mut other = [7; 16];
            other[at] ^= 0x80;
            assert_ne!(token, ResetToken::from(other));
        }
        assert_eq!(token, ResetToken::from([7; 16]));
        assert_eq!(format!("{token:?}"), "ResetToken(..)");
    }
}
