//! Versions of QUIC as options name them.

use weald_quic::Version;

/// The value of `--quic-version` and `--quic-versions`.
pub(crate) fn version(text: &str) -> Result<Version, String> {
    match text {
        "1" => Ok(Version::V1),
        "2" => Ok(Version::V2),
        _ => Err("versions are 1 (RFC 9000) and 2 (RFC 9369)".to_owned()),
    }
}
