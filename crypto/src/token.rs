//! Sealed tokens: bytes that a server gives away and gets back, which nobody else can read, change or make (RFC 9000, 8.1).
//!
//! Owns the seal, AES-128-GCM under a key that follows from a secret and the number of a period. What a token says, how long
//! it is good for and whether it was used before are the endpoint's business.

use std::fmt;

use crate::TAG_LEN;
use crate::backend::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use crate::backend::hmac;

/// Bytes of the nonce in front of a token.
const NONCE_LEN: usize = 12;

/// A key that seals and opens tokens.
///
/// Whoever has the same secret and period opens what another sealed: the workers of a process, the servers behind one
/// address, a process after its restart. At most 2^32 tokens are to be sealed in one period, so that random nonces do not
/// meet; a day is a good one.
pub struct TokenKey(LessSafeKey);

impl TokenKey {
    /// Bytes by which a token is longer than what it says.
    pub const OVERHEAD: usize = NONCE_LEN + TAG_LEN;

    /// The key of one period. Keys of different periods have nothing in common.
    pub fn new(secret: &[u8; 32], period: u64) -> Self {
        let mut label = *b"weald address validation token: ........";
        label[32..].copy_from_slice(&period.to_be_bytes());
        let key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), &label);
        let key = UnboundKey::new(&AES_128_GCM, &key.as_ref()[..16]).expect("the key has its algorithm's length");
        Self(LessSafeKey::new(key))
    }

    /// Seals `plain`. Only the same `context` opens it again. `nonce` must not repeat under one key: 12 bytes that nobody can
    /// predict.
    pub fn seal(&self, nonce: [u8; NONCE_LEN], plain: &[u8], context: &[u8]) -> Vec<u8> {
        let mut token = Vec::with_capacity(plain.len() + Self::OVERHEAD);
        token.extend_from_slice(&nonce);
        token.extend_from_slice(plain);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.0.seal_in_place_separate_tag(nonce, Aad::from(context), &mut token[NONCE_LEN..]);
        token.extend_from_slice(tag.expect("a token is far shorter than an AEAD's limit").as_ref());
        token
    }

    /// What was sealed. `None` if it was not under this key and with this context, or was changed since.
    pub fn open(&self, token: &[u8], context: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = token.split_first_chunk::<NONCE_LEN>()?;
        let mut opened = sealed.to_vec();
        let len = self.0.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(context), &mut opened).ok()?.len();
        opened.truncate(len);
        Some(opened)
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_and_nothing_else_does() {
        let key = TokenKey::new(&[7; 32], 3);
        let token = key.seal([1; 12], b"what it says", b"for whom");
        assert_eq!(token.len(), 12 + TokenKey::OVERHEAD);
        assert_eq!(key.open(&token, b"for whom").as_deref(), Some(&b"what it says"[..]));
        // The key follows from secret and period alone.
        assert_eq!(TokenKey::new(&[7; 32], 3).open(&token, b"for whom").as_deref(), Some(&b"what it says"[..]));
        for other in [TokenKey::new(&[7; 32], 4), TokenKey::new(&[8; 32], 3)] {
            assert_eq!(other.open(&token, b"for whom"), None);
        }
        assert_eq!(key.open(&token, b"for another"), None);
        for bit in 0..token.len() * 8 {
            let mut changed = token.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key.open(&changed, b"for whom"), None, "bit {bit}");
        }
        for len in 0..token.len() {
            assert_eq!(key.open(&token[..len], b"for whom"), None, "{len} bytes");
        }
    }

    #[test]
    fn a_token_shows_nothing_of_what_it_says() {
        let key = TokenKey::new(&[7; 32], 3);
        let plain = [0; 64];
        let (one, two) = (key.seal([1; 12], &plain, b""), key.seal([2; 12], &plain, b""));
        assert!(one[12..].iter().zip(&two[12..]).filter(|(one, two)| one == two).count() < 10);
        assert_eq!(key.open(&key.seal([3; 12], b"", b""), b"").as_deref(), Some(&[][..]));
    }
}
