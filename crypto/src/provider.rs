//! What rustls computes with: the library of `backend.rs`, with QUIC packet protection taken out.
//!
//! The cipher suites are copies of the provider's, but for their key schedule (`key_schedule.rs`) and their QUIC algorithm: ours makes keys
//! that do nothing, of length 0. rustls needs one to speak QUIC at all and to say when keys change, but no packet key ever exists inside it;
//! the keys are derived in `keys.rs` from the tapped secrets.

mod key_schedule;

use std::sync::LazyLock;

use rustls::crypto::cipher::{AeadKey, Iv};
use rustls::crypto::{CipherSuiteCommon, CryptoProvider};
use rustls::quic::{Algorithm, HeaderProtectionKey, PacketKey, Tag};
use rustls::{Error, SupportedCipherSuite, Tls13CipherSuite};

use self::key_schedule::{KeySchedule, NoRecords};
use crate::backend::{ALL_CIPHER_SUITES, default_provider, hmac, key_exchange};
use crate::{CipherSuite, NamedGroup};

/// The provider that offers `groups` and `suites`, the most preferred first.
pub(crate) fn provider(groups: &[NamedGroup], suites: &[CipherSuite]) -> CryptoProvider {
    CryptoProvider {
        cipher_suites: suites.iter().map(|&suite| without_packet_protection(suite)).collect(),
        kx_groups: groups.iter().map(|&group| key_exchange(group)).collect(),
        ..default_provider()
    }
}

fn without_packet_protection(suite: CipherSuite) -> SupportedCipherSuite {
    static SHA_256: KeySchedule = KeySchedule(hmac::HMAC_SHA256);
    static SHA_384: KeySchedule = KeySchedule(hmac::HMAC_SHA384);
    static SUITES: LazyLock<[Tls13CipherSuite; CipherSuite::ALL.len()]> = LazyLock::new(|| {
        CipherSuite::ALL.map(|suite| {
            let provided = ALL_CIPHER_SUITES.iter().find(|provided| provided.suite() == suite.tls());
            let provided = provided.and_then(SupportedCipherSuite::tls13).expect("every library has every TLS 1.3 suite");
            Tls13CipherSuite {
                common: CipherSuiteCommon { ..provided.common },
                hkdf_provider: match suite.secret_len() {
                    48 => &SHA_384,
                    _ => &SHA_256,
                },
                aead_alg: &NoRecords,
                quic: Some(&NoPacketProtection),
            }
        })
    });
    let position = CipherSuite::ALL.iter().position(|&known| known == suite).expect("ALL has every suite");
    SupportedCipherSuite::Tls13(&SUITES[position])
}

/// Stands where rustls wants to make packet keys; also the keys that it makes. They protect nothing, and say so.
struct NoPacketProtection;

impl Algorithm for NoPacketProtection {
    fn packet_key(&self, _: AeadKey, _: Iv) -> Box<dyn PacketKey> {
        Box::new(Self)
    }

    fn header_protection_key(&self, _: AeadKey) -> Box<dyn HeaderProtectionKey> {
        Box::new(Self)
    }

    fn aead_key_len(&self) -> usize {
        0
    }
}

impl PacketKey for NoPacketProtection {
    fn encrypt_in_place(&self, _: u64, _: &[u8], _: &mut [u8]) -> Result<Tag, Error> {
        Err(Error::EncryptError)
    }

    fn decrypt_in_place<'a>(&self, _: u64, _: &[u8], _: &'a mut [u8]) -> Result<&'a [u8], Error> {
        Err(Error::DecryptError)
    }

    fn tag_len(&self) -> usize {
        crate::TAG_LEN
    }

    fn confidentiality_limit(&self) -> u64 {
        0
    }

    fn integrity_limit(&self) -> u64 {
        0
    }
}

impl HeaderProtectionKey for NoPacketProtection {
    fn encrypt_in_place(&self, _: &[u8], _: &mut u8, _: &mut [u8]) -> Result<(), Error> {
        Err(Error::EncryptError)
    }

    fn decrypt_in_place(&self, _: &[u8], _: &mut u8, _: &mut [u8]) -> Result<(), Error> {
        Err(Error::DecryptError)
    }

    fn sample_len(&self) -> usize {
        16
    }
}
