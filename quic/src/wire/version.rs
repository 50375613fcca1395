//! Versions of QUIC.

use std::fmt;

/// A version of QUIC, as the 32 bits of a long header.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Version(u32);

impl Version {
    /// RFC 9000.
    pub const V1: Version = Version(1);

    /// RFC 9369: version 1 in another guise.
    pub const V2: Version = Version(0x6b33_43cf);

    /// The value that marks a Version Negotiation packet (RFC 8999 section 6); no version.
    pub(crate) const NEGOTIATION: Version = Version(0);

    /// The versions that this library speaks.
    pub const SUPPORTED: &[Version] = &[Version::V1, Version::V2];

    /// The version with this number.
    pub const fn from_u32(version: u32) -> Version {
        Version(version)
    }

    /// The number on the wire.
    pub const fn as_u32(self) -> u32 {
        self.0
    }

    /// Whether this library speaks the version.
    pub fn is_supported(self) -> bool {
        Version::SUPPORTED.contains(&self)
    }

    /// How packets of the version are protected. Of no use for one that this library does not speak.
    pub(crate) const fn protection(self) -> weald_crypto::Version {
        match self {
            Version::V2 => weald_crypto::Version::V2,
            _ => weald_crypto::Version::V1,
        }
    }

    /// Whether the version is one of those that nobody may speak, which exist to exercise version negotiation (RFC 9000
    /// section 15).
    pub const fn is_reserved(self) -> bool {
        self.0 & 0x0f0f_0f0f == 0x0a0a_0a0a
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Version::V1 => f.write_str("v1"),
            Version::V2 => f.write_str("v2"),
            Version(other) => write!(f, "{other:#010x}"),
        }
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Version({self})")
    }
}
