//! What protects packets before there is a secret: Initial keys and the Retry integrity tag (RFC 9001, 5.2 and 5.8; RFC 9369, 3.3).
//!
//! Both follow from values that any observer sees. They keep out accidents and packets of other versions, not attackers.

use std::sync::LazyLock;

use crate::backend::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use crate::hkdf::Prk;
use crate::keys::Secret;
use crate::{CipherSuite, Keys, Side, TAG_LEN, Version};

#[cfg(test)]
mod tests;

/// Initial packets are protected by this suite, whatever is negotiated (RFC 9001, 5.2).
const SUITE: CipherSuite = CipherSuite::Aes128GcmSha256;

/// The keys of Initial packets.
///
/// `client_dcid` is the destination connection id of the client's first Initial packet, or of its first after a Retry;
/// `side` is this end's.
pub fn initial_keys(version: Version, client_dcid: &[u8], side: Side) -> Keys {
    let [client, server] = secrets(version, client_dcid);
    let (local, remote) = match side {
        Side::Client => (client, server),
        Side::Server => (server, client),
    };
    Keys::new(version, SUITE, local, remote)
}

/// The client's and the server's Initial secret.
fn secrets(version: Version, client_dcid: &[u8]) -> [Secret; 2] {
    let initial_secret = Prk::extract(SUITE.hmac(), salt(version), client_dcid);
    [b"client in", b"server in"].map(|label| Secret::expand_from(&initial_secret, label))
}

/// RFC 9001, 5.2, and RFC 9369, 3.3.1.
const fn salt(version: Version) -> &'static [u8; 20] {
    match version {
        Version::V1 => {
            &[0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad, 0xcc, 0xbb, 0x7f, 0x0a]
        }
        Version::V2 => {
            &[0x0d, 0xed, 0xe3, 0xde, 0xf7, 0x00, 0xa6, 0xdb, 0x81, 0x93, 0x81, 0xbe, 0x6e, 0x26, 0x9d, 0xcb, 0xf9, 0xbd, 0x2e, 0xd9]
        }
    }
}

/// The tag at the end of a Retry packet (RFC 9001, 5.8).
///
/// `original_dcid` is the destination connection id of the Initial packet that the Retry answers, at most 255 bytes;
/// `retry_without_tag` is the Retry packet up to the tag. A client compares the result with the tag that it received, and
/// drops the packet if they differ.
pub fn retry_integrity_tag(version: Version, original_dcid: &[u8], retry_without_tag: &[u8]) -> [u8; TAG_LEN] {
    let RetryKey { key, nonce } = retry_key(version);
    let mut pseudo_packet = Vec::with_capacity(1 + original_dcid.len() + retry_without_tag.len());
    pseudo_packet.push(u8::try_from(original_dcid.len()).expect("a connection id's length fits one byte"));
    pseudo_packet.extend_from_slice(original_dcid);
    pseudo_packet.extend_from_slice(retry_without_tag);

    let nonce = Nonce::assume_unique_for_key(*nonce);
    let sealed = key.seal_in_place_separate_tag(nonce, Aad::from(&pseudo_packet), &mut []);
    let tag = sealed.expect("a packet is far shorter than an AEAD's limit");
    tag.as_ref().try_into().expect("every AEAD here has a 16-byte tag")
}

struct RetryKey {
    key: LessSafeKey,
    nonce: [u8; 12],
}

/// Expanded once: a server under a flood answers with nothing but Retry packets.
fn retry_key(version: Version) -> &'static RetryKey {
    fn expanded(key: [u8; 16], nonce: [u8; 12]) -> RetryKey {
        let key = UnboundKey::new(&AES_128_GCM, &key).expect("the key has its algorithm's length");
        RetryKey { key: LessSafeKey::new(key), nonce }
    }
    // RFC 9001, 5.8.
    static V1: LazyLock<RetryKey> = LazyLock::new(|| {
        expanded(
            [0xbe, 0x0c, 0x69, 0x0b, 0x9f, 0x66, 0x57, 0x5a, 0x1d, 0x76, 0x6b, 0x54, 0xe3, 0x68, 0xc8, 0x4e],
            [0x46, 0x15, 0x99, 0xd3, 0x5d, 0x63, 0x2b, 0xf2, 0x23, 0x98, 0x25, 0xbb],
        )
    });
    // RFC 9369, 3.3.3.
    static V2: LazyLock<RetryKey> = LazyLock::new(|| {
        expanded(
            [0x8f, 0xb4, 0xb0, 0x1b, 0x56, 0xac, 0x48, 0xe2, 0x60, 0xfb, 0xcb, 0xce, 0xad, 0x7c, 0xcc, 0x92],
            [0xd8, 0x69, 0x69, 0xbc, 0x2d, 0x7c, 0x6d, 0x99, 0x90, 0xef, 0xb0, 0x4a],
        )
    });
    match version {
        Version::V1 => &V1,
        Version::V2 => &V2,
    }
}
