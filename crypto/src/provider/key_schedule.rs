//! The key schedule's HKDF, as rustls asks for it, and what it asks for in vain.
//!
//! rustls derives the keys of TLS records and of QUIC packets along with the secrets that they follow from. Here nobody has records, and
//! packets are protected by `keys.rs`: those keys are left out.

use rustls::crypto::cipher::{
    AeadKey, InboundOpaqueMessage, InboundPlainMessage, Iv, MessageDecrypter, MessageEncrypter, OutboundOpaqueMessage,
    OutboundPlainMessage, Tls13AeadAlgorithm, UnsupportedOperationError,
};
use rustls::crypto::hmac::Tag;
use rustls::crypto::tls13::{Hkdf, HkdfExpander, OkmBlock, OutputLengthError};
use rustls::{ConnectionTrafficSecrets, Error};
use zeroize::Zeroizing;

use crate::backend::hmac;
use crate::hkdf::Prk;

/// HKDF with one hash.
pub(super) struct KeySchedule(pub(super) hmac::Algorithm);

impl KeySchedule {
    fn extract(&self, salt: Option<&[u8]>, secret: &[u8]) -> Box<dyn HkdfExpander> {
        // No salt is one of zeros, as long as the hash (RFC 5869, 2.2); HMAC fills up shorter keys with them.
        Box::new(Extracted(Prk::extract(self.0, salt.unwrap_or_default(), secret)))
    }
}

impl Hkdf for KeySchedule {
    fn extract_from_zero_ikm(&self, salt: Option<&[u8]>) -> Box<dyn HkdfExpander> {
        let zeros = [0; OkmBlock::MAX_LEN];
        self.extract(salt, &zeros[..self.0.digest_algorithm().output_len()])
    }

    fn extract_from_secret(&self, salt: Option<&[u8]>, secret: &[u8]) -> Box<dyn HkdfExpander> {
        self.extract(salt, secret)
    }

    fn expander_for_okm(&self, okm: &OkmBlock) -> Box<dyn HkdfExpander> {
        Box::new(Expanded { hash: self.0, secret: okm.clone() })
    }

    fn hmac_sign(&self, key: &OkmBlock, message: &[u8]) -> Tag {
        Tag::new(hmac::sign(&hmac::Key::new(self.0, key.as_ref()), message).as_ref())
    }
}

/// What is extracted, and expanded several times.
struct Extracted(Prk);

impl HkdfExpander for Extracted {
    fn expand_slice(&self, info: &[&[u8]], output: &mut [u8]) -> Result<(), OutputLengthError> {
        self.0.expand(info, output)
    }

    fn expand_block(&self, info: &[&[u8]]) -> OkmBlock {
        let mut output = Zeroizing::new([0; OkmBlock::MAX_LEN]);
        let output = &mut output[..self.hash_len()];
        self.0.expand(info, output).expect("one hash is within HKDF's limit");
        OkmBlock::new(output)
    }

    fn hash_len(&self) -> usize {
        self.0.output_len()
    }
}

/// What was expanded from that. It is expanded once, if at all.
struct Expanded {
    hash: hmac::Algorithm,
    secret: OkmBlock,
}

impl HkdfExpander for Expanded {
    fn expand_slice(&self, info: &[&[u8]], output: &mut [u8]) -> Result<(), OutputLengthError> {
        if is_for_nobody(info) {
            output.fill(0);
            return Ok(());
        }
        Prk::new(self.hash, self.secret.as_ref()).expand(info, output)
    }

    fn expand_block(&self, info: &[&[u8]]) -> OkmBlock {
        if is_for_nobody(info) {
            return OkmBlock::new(&[0; OkmBlock::MAX_LEN][..self.hash_len()]);
        }
        Extracted(Prk::new(self.hash, self.secret.as_ref())).expand_block(info)
    }

    fn hash_len(&self) -> usize {
        self.hash.digest_algorithm().output_len()
    }
}

/// Whether a label is one of keys that are never used: those of records (RFC 8446, 7.3) and of packets (RFC 9001, 5.1 and 6.1). They are
/// asked for without a context; an application may export keys by the same names, with one.
fn is_for_nobody(info: &[&[u8]]) -> bool {
    // HkdfLabel, in the parts that rustls makes of it. In other parts it is expanded as any other, which costs time alone.
    matches!(info, [_, _, b"tls13 ", label, [0], []] if matches!(*label, b"key" | b"iv") || label.starts_with(b"quic"))
}

/// Stands where rustls wants to protect TLS records, of which QUIC has none (RFC 9001, 4).
pub(super) struct NoRecords;

impl Tls13AeadAlgorithm for NoRecords {
    fn encrypter(&self, _: AeadKey, _: Iv) -> Box<dyn MessageEncrypter> {
        Box::new(Self)
    }

    fn decrypter(&self, _: AeadKey, _: Iv) -> Box<dyn MessageDecrypter> {
        Box::new(Self)
    }

    fn key_len(&self) -> usize {
        0
    }

    fn extract_keys(&self, _: AeadKey, _: Iv) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        Err(UnsupportedOperationError)
    }
}

impl MessageEncrypter for NoRecords {
    fn encrypt(&mut self, _: OutboundPlainMessage<'_>, _: u64) -> Result<OutboundOpaqueMessage, Error> {
        Err(Error::EncryptError)
    }

    fn encrypted_payload_len(&self, payload_len: usize) -> usize {
        payload_len
    }
}

impl MessageDecrypter for NoRecords {
    fn decrypt<'a>(&mut self, _: InboundOpaqueMessage<'a>, _: u64) -> Result<InboundPlainMessage<'a>, Error> {
        Err(Error::DecryptError)
    }
}

#[cfg(test)]
mod tests {
    use crate::backend::hmac;
    use rustls::crypto::tls13::{Hkdf as _, OkmBlock};

    use super::{KeySchedule, is_for_nobody};

    /// As rustls lays an HkdfLabel out.
    fn label<'a>(name: &'a [u8], context: &'a [u8], lengths: &'a [[u8; 1]; 2]) -> [&'a [u8]; 6] {
        [&[0, 16], &lengths[0], b"tls13 ", name, &lengths[1], context]
    }

    #[test]
    fn keys_of_records_and_packets_are_left_out_and_nothing_else() {
        let lengths = [[10], [0]];
        for name in [&b"key"[..], b"iv", b"quic key", b"quic iv", b"quic hp", b"quic ku", b"quicv2 key", b"quicv2 ku"] {
            assert!(is_for_nobody(&label(name, &[], &lengths)), "{name:?}");
            // What an application exports by such a name has a context.
            assert!(!is_for_nobody(&label(name, &[7; 32], &[[10], [32]])), "{name:?}");
        }
        for name in [&b"finished"[..], b"resumption", b"traffic upd", b"derived", b"res master", b"exp master", b"c hs traffic"] {
            assert!(!is_for_nobody(&label(name, &[], &lengths)), "{name:?}");
        }
        let secret = OkmBlock::new(&[9; 32]);
        let expander = KeySchedule(hmac::HMAC_SHA256).expander_for_okm(&secret);
        assert_eq!(expander.expand_block(&label(b"quic ku", &[], &lengths)).as_ref(), [0; 32]);
        assert_ne!(expander.expand_block(&label(b"finished", &[], &lengths)).as_ref(), [0; 32]);
    }

    /// The same keys come of it as of the library's own schedule.
    #[test]
    fn agrees_with_the_provider() {
        for suite in crate::backend::ALL_CIPHER_SUITES.iter().filter_map(rustls::SupportedCipherSuite::tls13) {
            let theirs = suite.hkdf_provider;
            let len = theirs.extract_from_zero_ikm(None).hash_len();
            let ours = KeySchedule(if len == 48 { hmac::HMAC_SHA384 } else { hmac::HMAC_SHA256 });
            let (salt, secret) = (vec![3; len], [5; 32]);
            let lengths = [[8], [0]];
            let info = &label(b"derived", &[], &lengths);
            for salt in [None, Some(&salt[..])] {
                for (ours, theirs) in [
                    (ours.extract_from_zero_ikm(salt), theirs.extract_from_zero_ikm(salt)),
                    (ours.extract_from_secret(salt, &secret), theirs.extract_from_secret(salt, &secret)),
                ] {
                    assert_eq!(ours.expand_block(info).as_ref(), theirs.expand_block(info).as_ref());
                    let (mut our_bytes, mut their_bytes) = ([0; 100], [0; 100]);
                    ours.expand_slice(info, &mut our_bytes).unwrap();
                    theirs.expand_slice(info, &mut their_bytes).unwrap();
                    assert_eq!(our_bytes, their_bytes);
                }
            }
            let okm = OkmBlock::new(&salt);
            assert_eq!(ours.expander_for_okm(&okm).expand_block(info).as_ref(), theirs.expander_for_okm(&okm).expand_block(info).as_ref());
            assert_eq!(ours.hmac_sign(&okm, b"message").as_ref(), theirs.hmac_sign(&okm, b"message").as_ref());
        }
    }
}
