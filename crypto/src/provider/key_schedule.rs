//! The key schedule's HKDF, as rustls asks for it, and what it asks for in vain.
//!
//! rustls derives the keys of TLS records and of QUIC packets along with the secrets that they follow from. Here nobody has records, and
//! packets are protected by `keys.rs`: those keys are left out, which were more than a third of all expansions of a handshake.

use std::sync::OnceLock;

use crate::backend::hmac;
use rustls::crypto::cipher::{
    AeadKey, InboundOpaqueMessage, InboundPlainMessage, Iv, MessageDecrypter, MessageEncrypter, OutboundOpaqueMessage,
    OutboundPlainMessage, Tls13AeadAlgorithm, UnsupportedOperationError,
};
use rustls::crypto::hmac::Tag;
use rustls::crypto::tls13::{Hkdf, HkdfExpander, OkmBlock, OutputLengthError};
use rustls::{ConnectionTrafficSecrets, Error};
use zeroize::Zeroizing;

use crate::hkdf::Prk;

/// HKDF with one hash.
pub(super) struct KeySchedule(pub(super) hmac::Algorithm);

impl KeySchedule {
    fn extract(&self, salt: Option<&[u8]>, secret: &[u8]) -> Box<dyn HkdfExpander> {
        // No salt is one of zeros, as long as the hash (RFC 5869, 2.2); HMAC fills up shorter keys with them.
        let salt = hmac::Key::new(self.0, salt.unwrap_or_default());
        self.expander_for_okm(&OkmBlock::new(hmac::sign(&salt, secret).as_ref()))
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
        Box::new(Expander { hash: self.0, secret: okm.clone(), prk: OnceLock::new() })
    }

    fn hmac_sign(&self, key: &OkmBlock, message: &[u8]) -> Tag {
        Tag::new(hmac::sign(&hmac::Key::new(self.0, key.as_ref()), message).as_ref())
    }
}

/// A secret, which becomes a key when something is wanted of it: some are only asked for what nobody needs.
struct Expander {
    hash: hmac::Algorithm,
    secret: OkmBlock,
    prk: OnceLock<Prk>,
}

impl Expander {
    fn prk(&self) -> &Prk {
        self.prk.get_or_init(|| Prk::new(self.hash, self.secret.as_ref()))
    }
}

impl HkdfExpander for Expander {
    fn expand_slice(&self, info: &[&[u8]], output: &mut [u8]) -> Result<(), OutputLengthError> {
        if is_for_nobody(info) {
            output.fill(0);
            return Ok(());
        }
        self.prk().expand(info, output)
    }

    fn expand_block(&self, info: &[&[u8]]) -> OkmBlock {
        let mut output = Zeroizing::new([0; OkmBlock::MAX_LEN]);
        let output = &mut output[..self.hash_len()];
        if !is_for_nobody(info) {
            self.prk().expand(info, output).expect("one hash is within HKDF's limit");
        }
        OkmBlock::new(output)
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
