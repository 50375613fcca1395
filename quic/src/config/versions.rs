//! Lists of versions in a configuration.

use std::sync::Arc;

use crate::wire::Version;

/// A list of versions, the preferred first, each once.
///
/// # Panics
/// If there is none, or one that this library does not speak.
pub(super) fn checked(versions: impl IntoIterator<Item = Version>) -> Arc<[Version]> {
    let mut list = Vec::new();
    for version in versions {
        assert!(version.is_supported(), "{version} is no version that is spoken here");
        if !list.contains(&version) {
            list.push(version);
        }
    }
    assert!(!list.is_empty(), "a configuration without a version of QUIC");
    list.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_once_in_order() {
        assert_eq!(*checked([Version::V2, Version::V1, Version::V2]), [Version::V2, Version::V1]);
    }

    #[test]
    #[should_panic(expected = "0xff00001d is no version")]
    fn unknown_versions_are_refused() {
        checked([Version::V1, Version::from_u32(0xff00_001d)]);
    }

    #[test]
    #[should_panic(expected = "without a version")]
    fn none_is_too_few() {
        checked([]);
    }
}
