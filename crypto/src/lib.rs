//! TLS 1.3 sessions and packet protection for QUIC (RFC 9001), on rustls, and on aws-lc-rs or ring.
//!
//! This crate owns: what a handshake needs ([`ClientConfig`], [`ServerConfig`], [`Session`]), what a packet needs
//! ([`PacketKey`], [`HeaderKey`], [`initial_keys`], [`retry_integrity_tag`]), what a connection id needs
//! ([`HandleCipher`], [`ResetKey`]), and what proves an address ([`TokenKey`]). It does no I/O but reading the certificate
//! and key files it is pointed at and writing a key log, and keeps no time of its own. A handshake step is a call of
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
//! A server gives each client a ticket when its handshake is complete, and one that comes back with it resumes: both ends derive their
//! keys from a new key exchange and from a secret that they share already, and no certificate is sent or checked. A ticket is all
//! that the server remembers, sealed ([`Tickets`]); a client keeps what it was given in a [`SessionStore`], and uses each once.
//!
//! rustls believes that it keeps the sessions of a server, as it takes early data with no others. What it would keep is sealed into the
//! ticket that is sent, and what it asks for is what a ticket held. See `resumption.rs` and `tickets.rs`.
//!
//! | a ticket resumes | early data comes with it |
//! |-|-|
//! | until its time is over, and seven days after certificates were last shown | once, and within a minute of the age that the client says it has |
//! | at every server that has a key for it | at the [`Tickets`] that made it, as long as they live |
//! | for the server name that it was made for | |
//! | on the QUIC version that it was made on (RFC 9369, 5) | |
//! | where the same is asked of clients' certificates | |
//! | with any application protocol | with the application protocol that it was made with |
//! | whatever the limits are now | if the [`Terms`] are kept |
//!
//! A client that resumes sends its key share in the group that the server chose last; which others it offers does not change.
//!
//! Early data (0-RTT) is taken by servers that are told to ([`ServerConfigBuilder::early_data`]) from clients that are told to
//! ([`Session::offer_early_data`]). It is rejected and the session resumes where the right column is not met, when the register of used
//! tickets is full, and after a HelloRetryRequest; [`Tickets::stats`] counts why.
//!
//! # Which library computes
//!
//! aws-lc-rs, or ring: by the features `aws-lc-rs`, which is on by default, and `ring`. For ring the other is to be turned off,
//! `default-features = false, features = ["ring"]`, and nothing of aws-lc is built then. With both on, aws-lc-rs computes: a build has
//! the features that any of its crates asks for, and none of them should change what the others compute with. With neither, nothing
//! compiles. [`LIBRARY`] says which it is.
//!
//! What goes over the wire is the same, and either end may have either library. ring has no ML-KEM, so the hybrid group is made of its
//! X25519 and the `ml-kem` crate; it seals packets of two parts with a copy more; and it knows no certificates with keys of P-521 or
//! ML-DSA.
//!
//! # Feature `simulation`
//!
//! Adds the `simulation` module: handshakes whose every byte follows from a seed. Nothing they protect is secret.
#![forbid(unsafe_code)]

#[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
compile_error!("weald-crypto needs a library to compute with: turn on its feature `aws-lc-rs`, which is the default, or `ring`");

mod algorithm;
mod backend;
mod client_auth;
mod client_hello;
#[cfg(any(test, feature = "simulation"))]
mod clock;
mod config;
mod credentials;
mod error;
mod exporter;
mod handle_cipher;
mod hkdf;
mod initial;
mod key_log;
mod keys;
mod pool;
mod provider;
mod random;
mod reset;
mod resolver;
mod resumption;
mod secrets_tap;
mod session;
mod session_store;
#[cfg(feature = "simulation")]
pub mod simulation;
mod strike_register;
mod terms;
mod tickets;
mod token;

pub use algorithm::{CipherSuite, NamedGroup};
pub use client_auth::ClientAuth;
pub use client_hello::ClientHello;
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
pub use session::{EarlyData, Outcome, Remembered, Session, Step};
pub use session_store::SessionStore;
pub use terms::Terms;
pub use tickets::{TicketStats, Tickets};
pub use token::TokenKey;

/// The library that computes: `"aws-lc-rs"`, or `"ring"`.
pub const LIBRARY: &str = backend::NAME;

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
