//! The algorithms that a handshake can agree on: names, sizes and limits. How they are computed is `keys.rs`; how TLS
//! gets at them is `provider.rs`.

use std::fmt;

use crate::backend::{aead, hmac};

/// A TLS 1.3 cipher suite: the AEAD of packets, and the hash of key derivation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CipherSuite {
    /// TLS_AES_128_GCM_SHA256, which also protects Initial packets (RFC 9001, 5.2).
    Aes128GcmSha256,
    /// TLS_AES_256_GCM_SHA384.
    Aes256GcmSha384,
    /// TLS_CHACHA20_POLY1305_SHA256.
    ChaCha20Poly1305Sha256,
}

impl CipherSuite {
    /// Every suite, in the order in which they are preferred: AES-128 first, as it is the fastest where there are AES
    /// instructions, and strong enough everywhere.
    pub const ALL: [Self; 3] = [Self::Aes128GcmSha256, Self::Aes256GcmSha384, Self::ChaCha20Poly1305Sha256];

    /// The name in IANA's registry.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes128GcmSha256 => "TLS_AES_128_GCM_SHA256",
            Self::Aes256GcmSha384 => "TLS_AES_256_GCM_SHA384",
            Self::ChaCha20Poly1305Sha256 => "TLS_CHACHA20_POLY1305_SHA256",
        }
    }

    /// How many packets one key may protect before it must have been updated (RFC 9001, 6.6).
    ///
    /// ChaCha20-Poly1305 has no limit that a connection's 2^62 packet numbers could reach.
    pub const fn confidentiality_limit(self) -> u64 {
        match self {
            Self::Aes128GcmSha256 | Self::Aes256GcmSha384 => 1 << 23,
            Self::ChaCha20Poly1305Sha256 => u64::MAX,
        }
    }

    /// How many packets may fail to authenticate over all keys of a connection before it must be closed with
    /// AEAD_LIMIT_REACHED (RFC 9001, 6.6).
    pub const fn integrity_limit(self) -> u64 {
        match self {
            Self::Aes128GcmSha256 | Self::Aes256GcmSha384 => 1 << 52,
            Self::ChaCha20Poly1305Sha256 => 1 << 36,
        }
    }

    pub(crate) fn from_tls(suite: rustls::CipherSuite) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.tls() == suite)
    }

    pub(crate) const fn tls(self) -> rustls::CipherSuite {
        match self {
            Self::Aes128GcmSha256 => rustls::CipherSuite::TLS13_AES_128_GCM_SHA256,
            Self::Aes256GcmSha384 => rustls::CipherSuite::TLS13_AES_256_GCM_SHA384,
            Self::ChaCha20Poly1305Sha256 => rustls::CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        }
    }

    pub(crate) const fn key_len(self) -> usize {
        match self {
            Self::Aes128GcmSha256 => 16,
            Self::Aes256GcmSha384 | Self::ChaCha20Poly1305Sha256 => 32,
        }
    }

    /// The length of the hash's output, and so of every secret.
    pub(crate) const fn secret_len(self) -> usize {
        match self {
            Self::Aes128GcmSha256 | Self::ChaCha20Poly1305Sha256 => 32,
            Self::Aes256GcmSha384 => 48,
        }
    }

    pub(crate) const fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Aes128GcmSha256 | Self::ChaCha20Poly1305Sha256 => hmac::HMAC_SHA256,
            Self::Aes256GcmSha384 => hmac::HMAC_SHA384,
        }
    }

    pub(crate) fn aead(self) -> &'static aead::Algorithm {
        match self {
            Self::Aes128GcmSha256 => &aead::AES_128_GCM,
            Self::Aes256GcmSha384 => &aead::AES_256_GCM,
            Self::ChaCha20Poly1305Sha256 => &aead::CHACHA20_POLY1305,
        }
    }

    pub(crate) fn header_cipher(self) -> &'static aead::quic::Algorithm {
        match self {
            Self::Aes128GcmSha256 => &aead::quic::AES_128,
            Self::Aes256GcmSha384 => &aead::quic::AES_256,
            Self::ChaCha20Poly1305Sha256 => &aead::quic::CHACHA20,
        }
    }
}

impl fmt::Display for CipherSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A key exchange group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NamedGroup {
    /// X25519 and ML-KEM-768 together: safe while either of them is (draft-ietf-tls-ecdhe-mlkem, 0x11ec). Its predecessor on
    /// Kyber, X25519Kyber768Draft00 (0x6399), is obsoleted there and not spoken: it is passed over where
    /// a peer offers it.
    X25519MlKem768,
    /// Curve25519.
    X25519,
    /// NIST P-256.
    Secp256r1,
}

impl NamedGroup {
    /// Every group, in the order in which they are preferred.
    pub const ALL: [Self; 3] = [Self::X25519MlKem768, Self::X25519, Self::Secp256r1];

    /// The name in IANA's registry.
    pub const fn name(self) -> &'static str {
        match self {
            Self::X25519MlKem768 => "X25519MLKEM768",
            Self::X25519 => "x25519",
            Self::Secp256r1 => "secp256r1",
        }
    }

    /// The group with this number in IANA's registry, if it is known here.
    pub(crate) fn from_number(number: u16) -> Option<Self> {
        Self::from_tls(rustls::NamedGroup::from(number))
    }

    pub(crate) fn from_tls(group: rustls::NamedGroup) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.tls() == group)
    }

    pub(crate) const fn tls(self) -> rustls::NamedGroup {
        match self {
            Self::X25519MlKem768 => rustls::NamedGroup::X25519MLKEM768,
            Self::X25519 => rustls::NamedGroup::X25519,
            Self::Secp256r1 => rustls::NamedGroup::secp256r1,
        }
    }
}

impl fmt::Display for NamedGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
