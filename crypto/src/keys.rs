//! Packet protection: secrets, and the keys derived from them (RFC 9001, 5 and 6).
//!
//! Owns the derivation (HKDF-Expand-Label under a version's labels), sealing, opening and header masks. Does not know
//! where secrets come from (`session.rs`, `initial.rs`), nor which packet number, key phase or generation is current: that
//! is the connection's.
//!
//! Invariants: a [`PacketKey`] and a [`HeaderKey`] of one direction and one level come from one secret; a key update
//! changes the former only (RFC 9001, 6.1). Every secret is zeroised when dropped. A key keeps its small secret and
//! expands it on first use, so that keys which are made but never used (a next generation, a level that is skipped) cost
//! their derivation alone.

use std::fmt;
use std::sync::OnceLock;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::backend;
use crate::backend::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey, quic::HeaderProtectionKey};
use crate::hkdf::Prk;
use crate::{CipherSuite, OpenError, Version};

#[cfg(test)]
pub(crate) mod tests;

/// The length of the tag that sealing adds, in bytes. It is the same for every suite.
pub const TAG_LEN: usize = 16;

/// The longest key of any suite.
const MAX_KEY_LEN: usize = 32;
/// The longest secret of any suite: one output of SHA-384.
const MAX_SECRET_LEN: usize = 48;

/// The key derivation labels of a version (RFC 9001, 5.1 and 6.1; RFC 9369, 3.3.2).
struct Labels {
    key: &'static [u8],
    iv: &'static [u8],
    header: &'static [u8],
    update: &'static [u8],
}

const fn labels(version: Version) -> &'static Labels {
    match version {
        Version::V1 => &Labels { key: b"quic key", iv: b"quic iv", header: b"quic hp", update: b"quic ku" },
        Version::V2 => &Labels { key: b"quicv2 key", iv: b"quicv2 iv", header: b"quicv2 hp", update: b"quicv2 ku" },
    }
}

/// A traffic secret: 32 or 48 bytes, as long as its suite's hash. Zeroised when dropped; `Debug` does not show it.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret {
    bytes: [u8; MAX_SECRET_LEN],
    len: u8,
}

impl Secret {
    /// Copies a secret; `None` if it is longer than any suite's.
    pub(crate) fn new(secret: &[u8]) -> Option<Self> {
        let mut bytes = [0; MAX_SECRET_LEN];
        bytes.get_mut(..secret.len())?.copy_from_slice(secret);
        Some(Self { bytes, len: secret.len() as u8 })
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// The secret that `prk` yields under `label`, as long as its hash.
    pub(crate) fn expand_from(prk: &Prk, label: &[u8]) -> Self {
        let mut expanded = Self { bytes: [0; MAX_SECRET_LEN], len: prk.output_len() as u8 };
        expand(prk, label, &mut expanded.bytes[..prk.output_len()]);
        expanded
    }

    fn prk(&self, suite: CipherSuite) -> Prk {
        Prk::new(suite.hmac(), self.as_bytes())
    }
}

fn expand(prk: &Prk, label: &[u8], out: &mut [u8]) {
    prk.expand_label(label, &[], out).expect("a key, an IV or a secret is shorter than HKDF's limit");
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Protects the payloads of packets in one direction: `AEAD(key, iv XOR packet number)`, with the packet's header as
/// associated data (RFC 9001, 5.3).
pub struct PacketKey {
    secret: Secret,
    suite: CipherSuite,
    version: Version,
    expanded: OnceLock<Box<Expanded>>,
}

struct Expanded {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
}

impl PacketKey {
    pub(crate) fn new(version: Version, suite: CipherSuite, secret: Secret) -> Self {
        Self { secret, suite, version, expanded: OnceLock::new() }
    }

    /// Seals a packet whose payload lies in two places.
    ///
    /// The payload is `head` followed by `tail`. `head` is encrypted where it stands; `tail` is read where it stands and
    /// its ciphertext written to the front of `tail_and_tag`, whose last [`TAG_LEN`] bytes receive the tag. Laid one
    /// behind the other, `header`, `head` and `tail_and_tag` are the packet, before header protection. Either part may be
    /// empty, and where the payload is split makes no difference to the bytes.
    ///
    /// `header` runs from the first byte to the end of the packet number, unprotected. A packet number must never be used
    /// twice with one key, and one key for no more than [`PacketKey::confidentiality_limit`] packets; the caller counts.
    ///
    /// # Panics
    ///
    /// Panics if `tail_and_tag` is not [`TAG_LEN`] bytes longer than `tail`.
    pub fn seal(&self, packet_number: u64, header: &[u8], head: &mut [u8], tail: &[u8], tail_and_tag: &mut [u8]) {
        assert_eq!(tail_and_tag.len(), tail.len() + TAG_LEN, "room for the tail's ciphertext and the tag");
        let Expanded { key, iv } = self.expanded();
        let (nonce, header) = (nonce(iv, packet_number), Aad::from(header));
        let sealed = backend::seal_scatter(key, nonce, header, head, tail, tail_and_tag);
        sealed.expect("a packet is far shorter than an AEAD's limit");
    }

    /// Opens a packet from one place into another.
    ///
    /// `ciphertext_and_tag` is what follows the packet number, to the end of the packet; `header` is what stands before
    /// it, with header protection removed. Returns the payload's length; it lies at the front of `out`.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if the packet does not authenticate, or has no room for a tag. `out` then holds nothing of use. The
    /// caller drops the packet, and counts it against [`PacketKey::integrity_limit`].
    ///
    /// # Panics
    ///
    /// Panics if `out` is shorter than the payload: `ciphertext_and_tag.len() - TAG_LEN`.
    pub fn open(&self, packet_number: u64, header: &[u8], ciphertext_and_tag: &[u8], out: &mut [u8]) -> Result<usize, OpenError> {
        let (ciphertext, tag) = ciphertext_and_tag.split_last_chunk::<TAG_LEN>().ok_or(OpenError)?;
        let Expanded { key, iv } = self.expanded();
        let (nonce, header) = (nonce(iv, packet_number), Aad::from(header));
        backend::open_gather(key, nonce, header, ciphertext, tag, &mut out[..ciphertext.len()]).map_err(|_| OpenError)?;
        Ok(ciphertext.len())
    }

    /// The length of the tag that sealing adds: [`TAG_LEN`].
    pub const fn tag_len(&self) -> usize {
        TAG_LEN
    }

    /// The suite that this key belongs to.
    pub const fn suite(&self) -> CipherSuite {
        self.suite
    }

    /// See [`CipherSuite::confidentiality_limit`].
    pub const fn confidentiality_limit(&self) -> u64 {
        self.suite.confidentiality_limit()
    }

    /// See [`CipherSuite::integrity_limit`].
    pub const fn integrity_limit(&self) -> u64 {
        self.suite.integrity_limit()
    }

    /// Bytes held outside of the value itself: none before the first packet. The cipher's own state counts as what the
    /// library below asks of its allocator.
    pub fn memory(&self) -> usize {
        self.expanded.get().map_or(0, |_| size_of::<Expanded>() + backend::AEAD_HEAP)
    }

    fn expanded(&self) -> &Expanded {
        self.expanded.get_or_init(|| {
            let mut key = Zeroizing::new([0; MAX_KEY_LEN]);
            let mut iv = [0; NONCE_LEN];
            let key = &mut key[..self.suite.key_len()];
            let prk = self.secret.prk(self.suite);
            expand(&prk, labels(self.version).key, key);
            expand(&prk, labels(self.version).iv, &mut iv);
            let key = UnboundKey::new(self.suite.aead(), key).expect("the key has its algorithm's length");
            Box::new(Expanded { key: LessSafeKey::new(key), iv })
        })
    }
}

impl fmt::Debug for PacketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PacketKey").field("suite", &self.suite).finish_non_exhaustive()
    }
}

/// The IV with the packet number, as 64 bits in network order, exclusive-ored into its end (RFC 9001, 5.3).
fn nonce(iv: &[u8; NONCE_LEN], packet_number: u64) -> Nonce {
    let mut nonce = *iv;
    for (byte, number) in nonce[NONCE_LEN - 8..].iter_mut().zip(packet_number.to_be_bytes()) {
        *byte ^= number;
    }
    Nonce::assume_unique_for_key(nonce)
}

/// Protects the headers of packets in one direction (RFC 9001, 5.4). It outlives key updates.
pub struct HeaderKey {
    suite: CipherSuite,
    key: Zeroizing<[u8; MAX_KEY_LEN]>,
    expanded: OnceLock<Box<HeaderProtectionKey>>,
}

impl HeaderKey {
    pub(crate) fn new(version: Version, suite: CipherSuite, secret: &Secret) -> Self {
        let mut key = Zeroizing::new([0; MAX_KEY_LEN]);
        expand(&secret.prk(suite), labels(version).header, &mut key[..suite.key_len()]);
        Self { suite, key, expanded: OnceLock::new() }
    }

    /// The mask for the packet of which `sample` is a part.
    ///
    /// `sample` is the 16 bytes that start 4 bytes after the start of the packet number, whatever that number's length
    /// (RFC 9001, 5.4.2). The first byte of the mask covers the low 4 bits of a long header's first byte, 5 of a short
    /// one's; the other four cover the packet number.
    pub fn mask(&self, sample: &[u8; 16]) -> [u8; 5] {
        let key = self.expanded.get_or_init(|| {
            let key = HeaderProtectionKey::new(self.suite.header_cipher(), &self.key[..self.suite.key_len()]);
            Box::new(key.expect("the key has its algorithm's length"))
        });
        key.new_mask(sample).expect("the sample has every cipher's block length")
    }

    /// Bytes held outside of the value itself: none before the first packet.
    pub fn memory(&self) -> usize {
        self.expanded.get().map_or(0, |_| size_of::<HeaderProtectionKey>())
    }
}

impl fmt::Debug for HeaderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeaderKey").field("suite", &self.suite).finish_non_exhaustive()
    }
}

/// The keys of one direction at one level.
#[derive(Debug)]
pub struct DirectionKeys {
    /// Protects payloads.
    pub packet: PacketKey,
    /// Protects headers.
    pub header: HeaderKey,
}

impl DirectionKeys {
    pub(crate) fn new(version: Version, suite: CipherSuite, secret: Secret) -> Self {
        let header = HeaderKey::new(version, suite, &secret);
        Self { packet: PacketKey::new(version, suite, secret), header }
    }
}

/// The keys of one level.
#[derive(Debug)]
pub struct Keys {
    /// Protects what this end sends.
    pub local: DirectionKeys,
    /// Opens what the peer sent.
    pub remote: DirectionKeys,
}

impl Keys {
    /// Bytes held outside of the value itself.
    pub fn memory(&self) -> usize {
        [&self.local, &self.remote].into_iter().map(|keys| keys.packet.memory() + keys.header.memory()).sum()
    }

    pub(crate) fn new(version: Version, suite: CipherSuite, local: Secret, remote: Secret) -> Self {
        Self { local: DirectionKeys::new(version, suite, local), remote: DirectionKeys::new(version, suite, remote) }
    }
}

/// The packet keys of one generation of 1-RTT keys. Their header keys are those of the first generation.
#[derive(Debug)]
pub struct PacketKeys {
    /// Protects what this end sends.
    pub local: PacketKey,
    /// Opens what the peer sent.
    pub remote: PacketKey,
}

impl PacketKeys {
    /// Bytes held outside of the value itself.
    pub fn memory(&self) -> usize {
        self.local.memory() + self.remote.memory()
    }
}

/// The secrets of one generation of 1-RTT keys, from which the next follows (RFC 9001, 6.1).
///
/// The handshake gives the first generation's, along with its keys. A key update is
/// `secrets = secrets.next()`, then [`OneRttSecrets::packet_keys`].
#[derive(Clone, Debug)]
pub struct OneRttSecrets {
    version: Version,
    suite: CipherSuite,
    local: Secret,
    remote: Secret,
}

impl OneRttSecrets {
    pub(crate) fn new(version: Version, suite: CipherSuite, local: Secret, remote: Secret) -> Self {
        Self { version, suite, local, remote }
    }

    /// The secrets of the generation after this one.
    #[must_use]
    pub fn next(&self) -> Self {
        let update = labels(self.version).update;
        Self {
            version: self.version,
            suite: self.suite,
            local: Secret::expand_from(&self.local.prk(self.suite), update),
            remote: Secret::expand_from(&self.remote.prk(self.suite), update),
        }
    }

    /// The packet keys of this generation.
    pub fn packet_keys(&self) -> PacketKeys {
        PacketKeys {
            local: PacketKey::new(self.version, self.suite, self.local.clone()),
            remote: PacketKey::new(self.version, self.suite, self.remote.clone()),
        }
    }
}
