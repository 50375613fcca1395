//! Which versions an endpoint speaks, as it says in its transport parameters (RFC 9368 section 3). Which version follows from
//! what both say is the connection's.

use crate::side::Side;
use crate::wire::{Reader, Truncated, Version};

/// The transport parameter version_information.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionInformation {
    /// The version that the sender has chosen for this connection: a client that of its first packets, a server the one that
    /// both go on with.
    pub chosen: Version,
    /// From a client, the versions that its first packets can be read as, the preferred first, with the chosen one among them;
    /// from a server, those that it speaks, in any order.
    pub available: Vec<Version>,
}

/// Why what `sender` said cannot be read: TRANSPORT_PARAMETER_ERROR (RFC 9368 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    Length,
    Zero,
    NotAmongAvailable,
}

impl Malformed {
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Malformed::Length => "version_information is not a list of whole versions",
            Malformed::Zero => "version_information names version 0",
            Malformed::NotAmongAvailable => "version_information of a client whose chosen version is not available",
        }
    }
}

impl From<Truncated> for Malformed {
    fn from(Truncated: Truncated) -> Malformed {
        Malformed::Length
    }
}

impl VersionInformation {
    /// Says that `version` is the only one.
    pub(crate) fn only(version: Version) -> VersionInformation {
        VersionInformation { chosen: version, available: vec![version] }
    }

    /// The value of the parameter that `sender` sent.
    pub(crate) fn decode(value: &[u8], sender: Side) -> Result<VersionInformation, Malformed> {
        let mut reader = Reader::new(value);
        let chosen = Version::from_u32(reader.u32()?);
        let mut available = Vec::with_capacity(reader.remaining() / 4);
        while !reader.is_empty() {
            available.push(Version::from_u32(reader.u32()?));
        }
        // RFC 9368 section 4.
        if chosen == Version::NEGOTIATION || available.contains(&Version::NEGOTIATION) {
            return Err(Malformed::Zero);
        }
        if sender.is_client() && !available.contains(&chosen) {
            return Err(Malformed::NotAmongAvailable);
        }
        Ok(VersionInformation { chosen, available })
    }

    /// The value of the parameter.
    pub(crate) fn encode(&self) -> Vec<u8> {
        [self.chosen].iter().chain(&self.available).flat_map(|version| version.as_u32().to_be_bytes()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(versions: &[u32]) -> Vec<u8> {
        versions.iter().flat_map(|version| version.to_be_bytes()).collect()
    }

    /// RFC 9368 section 3.
    #[test]
    fn known_bytes() {
        let information = VersionInformation { chosen: Version::V1, available: vec![Version::V2, Version::V1] };
        let encoded = [0, 0, 0, 1, 0x6b, 0x33, 0x43, 0xcf, 0, 0, 0, 1];
        assert_eq!(information.encode(), encoded);
        for side in [Side::Client, Side::Server] {
            assert_eq!(VersionInformation::decode(&encoded, side).as_ref(), Ok(&information));
        }
    }

    /// RFC 9368 section 4: what is no list of versions, or names version 0.
    #[test]
    fn parsing_failures() {
        let whole = bytes(&[1, 1, 0x6b33_43cf, 0x1a2a_3a4a]);
        for side in [Side::Client, Side::Server] {
            for len in 0..whole.len() {
                let decoded = VersionInformation::decode(&whole[..len], side);
                let is_whole = len.is_multiple_of(4) && len > 0 && (side.is_server() || len > 4);
                assert_eq!(decoded.is_ok(), is_whole, "{len} {side:?}");
            }
            assert_eq!(VersionInformation::decode(&bytes(&[0, 0]), side), Err(Malformed::Zero));
            assert_eq!(VersionInformation::decode(&bytes(&[1, 1, 0]), side), Err(Malformed::Zero));
        }
    }

    /// RFC 9368 sections 3 and 4: a client's list has its choice, a server's need not.
    #[test]
    fn a_clients_choice_is_available() {
        let other = bytes(&[1, 0x6b33_43cf]);
        assert_eq!(VersionInformation::decode(&other, Side::Client), Err(Malformed::NotAmongAvailable));
        assert!(VersionInformation::decode(&other, Side::Server).is_ok());
        assert!(VersionInformation::decode(&bytes(&[1]), Side::Server).is_ok());
        assert_eq!(VersionInformation::decode(&bytes(&[1]), Side::Client), Err(Malformed::NotAmongAvailable));
    }
}
