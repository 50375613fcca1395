//! Stateless reset tokens: a keyed hash of the connection id (RFC 9000, 10.3.2), and how such values are compared.

use std::fmt;

use subtle::ConstantTimeEq;

use crate::backend::hmac;

/// The static key from which an endpoint derives its stateless reset tokens.
///
/// It must outlive the process if resets are to work after a restart, and be shared by all who answer at one address.
#[derive(Clone)]
pub struct ResetKey(hmac::Key);

impl ResetKey {
    /// A key from 32 random bytes.
    pub fn new(key: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// The token of a connection id: the first 16 bytes of HMAC-SHA256.
    pub fn token(&self, connection_id: &[u8]) -> [u8; 16] {
        let tag = hmac::sign(&self.0, connection_id);
        tag.as_ref()[..16].try_into().expect("HMAC-SHA256 is 32 bytes long")
    }
}

impl fmt::Debug for ResetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResetKey(..)")
    }
}

/// Whether two values are equal, in a time that depends on their lengths alone (RFC 9000, 10.3.1).
pub fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

#[cfg(test)]
mod tests {
    use super::{ResetKey, constant_time_eq};

    #[test]
    fn token_is_hmac_of_id() {
        // RFC 4231, 4.2, whose 20-byte key is padded with zeros to the block as a 32-byte one would be.
        let mut key = [0; 32];
        key[..20].fill(0x0b);
        let token = ResetKey::new(&key).token(b"Hi There");
        assert_eq!(token, 0xb034_4c61_d8db_3853_5ca8_afce_af0b_f12b_u128.to_be_bytes());
        assert_ne!(token, ResetKey::new(&[1; 32]).token(b"Hi There"));
    }

    #[test]
    fn comparison() {
        assert!(constant_time_eq(b"abc", b"abc"));
        assert!(!constant_time_eq(b"abc", b"abd"));
        assert!(!constant_time_eq(b"abc", b"ab"));
    }
}
