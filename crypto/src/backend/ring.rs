//! ring, and ml-kem for the half of the hybrid group that ring has not. It seals and opens in place only, so a packet that comes in
//! two parts, or goes to another place, is copied once.

use std::cell::RefCell;

use ::ring::rand::{SecureRandom, SystemRandom};
use rustls::crypto::SupportedKxGroup;
use rustls::crypto::ring::kx_group;

use super::hybrid;
use crate::{NamedGroup, TAG_LEN};

pub(crate) use ::ring::{aead, digest, error, hmac};
pub(crate) use rustls::crypto::ring::{ALL_CIPHER_SUITES, default_provider};

/// See [`crate::LIBRARY`].
pub(crate) const NAME: &str = "ring";

/// Bytes on the heap behind one AEAD key: ring keeps them in the key.
pub(crate) const AEAD_HEAP: usize = 0;

thread_local! {
    /// Where the parts of a packet are joined: one buffer a thread, no longer than the longest packet. It holds ciphertext when it is
    /// left.
    static JOINED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Seals `head` where it stands and `tail` into the front of `tail_and_tag`, as one message.
pub(crate) fn seal_scatter(
    key: &aead::LessSafeKey,
    nonce: aead::Nonce,
    header: aead::Aad<&[u8]>,
    head: &mut [u8],
    tail: &[u8],
    tail_and_tag: &mut [u8],
) -> Result<(), error::Unspecified> {
    let (sealed_tail, tag) = tail_and_tag.split_at_mut(tail.len());
    let made = if tail.is_empty() {
        key.seal_in_place_separate_tag(nonce, header, head)?
    } else if head.is_empty() {
        sealed_tail.copy_from_slice(tail);
        key.seal_in_place_separate_tag(nonce, header, sealed_tail)?
    } else {
        JOINED.with_borrow_mut(|joined| {
            joined.clear();
            joined.extend_from_slice(head);
            joined.extend_from_slice(tail);
            let tag = key.seal_in_place_separate_tag(nonce, header, joined)?;
            let (front, back) = joined.split_at(head.len());
            head.copy_from_slice(front);
            sealed_tail.copy_from_slice(back);
            Ok::<_, error::Unspecified>(tag)
        })?
    };
    tag.copy_from_slice(made.as_ref());
    Ok(())
}

/// Opens `ciphertext` into `out`, which is as long.
pub(crate) fn open_gather(
    key: &aead::LessSafeKey,
    nonce: aead::Nonce,
    header: aead::Aad<&[u8]>,
    ciphertext: &[u8],
    tag: &[u8; TAG_LEN],
    out: &mut [u8],
) -> Result<(), error::Unspecified> {
    out.copy_from_slice(ciphertext);
    key.open_in_place_separate_tag(nonce, header, (*tag).into(), out, 0..).map(drop)
}

/// Fills `bytes` from the system's generator.
pub(crate) fn fill_random(bytes: &mut [u8]) -> Result<(), error::Unspecified> {
    SystemRandom::new().fill(bytes)
}

/// The group, as rustls takes it.
pub(crate) fn key_exchange(group: NamedGroup) -> &'static dyn SupportedKxGroup {
    match group {
        NamedGroup::X25519MlKem768 => &hybrid::Hybrid,
        NamedGroup::X25519 => kx_group::X25519,
        NamedGroup::Secp256r1 => kx_group::SECP256R1,
    }
}
