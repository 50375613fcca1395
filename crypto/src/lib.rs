//! TLS 1.3 sessions and packet protection for QUIC (RFC 9001), on rustls and aws-lc-rs.
//!
//! This crate owns: what a handshake needs ([`ClientConfig`], [`ServerConfig`], [`Session`]), what a packet needs
//! ([`PacketKey`], [`HeaderKey`], [`initial_keys`], [`retry_integrity_tag`]), what a connection id needs
//! ([`HandleCipher`], [`ResetKey`]), and what proves an address ([`TokenKey`]). It does no I/O but reading the certificate
//! files it is pointed at and writing a key log, and keeps no time of its own. A handshake step is a call of
//! [`Session::advance`], and who makes the call, and where, is the caller's business; a [`CryptoPool`] has threads for it.
//!
//! # Where calls may run
//!
//! [`Session::advance`] runs foreign code with deep frames (one ML-DSA verification takes 109 KiB of stack and does not
//! probe it). Call it on a thread's or a worker's own stack, never on a coroutine's. The keys' own calls are shallow, but
//! they too enter foreign code, and belong on the endpoint's stack.
//!
//! # Where secrets come from
//!
//! rustls hands out boxed packet keys and opaque secrets, from which neither a sleeping connection nor a key update under
//! the labels of another version could be made. So it is given a null QUIC algorithm and never makes a packet key; the
//! traffic secrets arrive through its key log, and all keys are derived here. See `secrets_tap.rs` and `keys.rs`.
//!
//! # Resumption
//!
//! Servers send no session tickets and clients discard those that arrive: every handshake is a full one.
//!
//! # Feature `simulation`
//!
//! Adds the `simulation` module: handshakes whose every byte follows from a seed. Nothing they protect is secret.
#![forbid(unsafe_code)]

mod algorithm;
mod client_auth;
mod config;
mod credentials;
mod error;
mod exporter;
mod handle_cipher;
mod initial;
mod key_log;
mod keys;
mod pool;
mod provider;
mod random;
mod reset;
mod resolver;
mod secrets_tap;
mod session;
#[cfg(feature = "simulation")]
pub mod simulation;
mod token;

pub use algorithm::{CipherSuite, NamedGroup};
pub use client_auth::ClientAuth;
pub use config::{ClientConfig, ClientConfigBuilder, ServerConfig, ServerConfigBuilder};
pub use credentials::{Certificates, PrivateKey};
pub use error::{ConfigError, OpenError, TlsError};
pub use exporter::{ExportError, Exporter};
pub use handle_cipher::HandleCipher;
pub use initial::{initial_keys, retry_integrity_tag};
pub use key_log::{KeyLog, KeyLogFile};
pub use keys::{DirectionKeys, HeaderKey, Keys, OneRttSecrets, PacketKey, PacketKeys, Secret, TAG_LEN};
pub use pool::{CryptoPool, CryptoPoolStats, NotTaken, Times};
pub use random::random_bytes;
pub use reset::{ResetKey, constant_time_eq};
pub use resolver::ServerCertificates;
pub use session::{Outcome, Session, Step};
pub use token::TokenKey;

/// Which end of a connection this is: the one that sent the first packet, or the one that received it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The end that opened the connection.
    Client,
    /// The end that was connected to.
    Server,
}

/// A QUIC version, for what depends on it here: salts, key derivation labels, the Retry key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// RFC 9000 and RFC 9001.
    V1,
    /// RFC 9369: version 1 with other numbers, salts and labels.
    V2,
}

impl Version {
    /// The version that a 32-bit number on the wire names, if it is one that can be protected here.
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::V1),
            0x6b33_43cf => Some(Self::V2),
            _ => None,
        }
    }

    /// The number of this version on the wire.
    pub const fn number(self) -> u32 {
        match self {
            Self::V1 => 1,
            Self::V2 => 0x6b33_43cf,
        }
    }
}

/// An encryption level (RFC 9001, 2.1), in the order in which a handshake reaches them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Initial packets, whose keys anyone can derive.
    Initial,
    /// 0-RTT packets, under a secret remembered from an earlier connection.
    ZeroRtt,
    /// Handshake packets.
    Handshake,
    /// 1-RTT packets.
    OneRtt,
}
