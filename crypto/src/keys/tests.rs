//! Known answers of RFC 9001 and RFC 9369, A.5 (those of A.1 to A.4 are in `initial/tests.rs`), and properties of sealing.

use super::{HeaderKey, OneRttSecrets, PacketKey, Secret, TAG_LEN, labels};
use crate::backend::aead::NONCE_LEN;
use crate::{CipherSuite, OpenError, Version};

/// Bytes from hexadecimal; white space is passed over.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    assert_eq!(digits.len() % 2, 0, "half a byte");
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// The key, IV and header key that a secret yields under a version's labels.
pub(crate) fn derived(version: Version, suite: CipherSuite, secret: &Secret) -> [Vec<u8>; 3] {
    let labels = labels(version);
    [(labels.key, suite.key_len()), (labels.iv, NONCE_LEN), (labels.header, suite.key_len())].map(|(label, len)| {
        let mut out = vec![0; len];
        super::expand(&secret.prk(suite), label, &mut out);
        out
    })
}

/// Protects a whole packet: seals the payload, then masks the header, whose packet number is `pn_len` bytes long.
pub(crate) fn protect(
    packet_key: &PacketKey,
    header_key: &HeaderKey,
    packet_number: u64,
    header: &[u8],
    pn_len: usize,
    payload: &[u8],
) -> Vec<u8> {
    let mut packet = [header, payload, &[0; TAG_LEN]].concat();
    let (sealed_header, rest) = packet.split_at_mut(header.len());
    let (head, tag) = rest.split_at_mut(payload.len());
    packet_key.seal(packet_number, sealed_header, head, &[], tag);
    let pn_start = header.len() - pn_len;
    let mask = header_key.mask(packet[pn_start + 4..][..16].try_into().unwrap());
    packet[0] ^= mask[0] & if packet[0] & 0x80 == 0 { 0x1f } else { 0x0f };
    packet[pn_start..][..pn_len].iter_mut().zip(&mask[1..]).for_each(|(byte, mask)| *byte ^= mask);
    packet
}

const RFC_SECRET: &str = "9ac312a7f877468ebe69422748ad00a15443f18203a07d6060f688f30f21632b";

/// RFC 9001, A.5.
#[test]
fn chacha20_short_header() {
    let suite = CipherSuite::ChaCha20Poly1305Sha256;
    let secret = Secret::new(&hex(RFC_SECRET)).unwrap();
    let [key, iv, hp] = derived(Version::V1, suite, &secret);
    assert_eq!(key, hex("c6d98ff3441c3fe1b2182094f69caa2ed4b716b65488960a7a984979fb23e1c8"));
    assert_eq!(iv, hex("e0459b3474bdd0e44a41c144"));
    assert_eq!(hp, hex("25a282b9e82f06f21f488917a4fc8f1b73573685608597d0efcb076b0ab7a7a4"));

    let header_key = HeaderKey::new(Version::V1, suite, &secret);
    let sample = hex("5e5cd55c41f69080575d7999c25a5bfb").try_into().unwrap();
    assert_eq!(header_key.mask(&sample), *hex("aefefe7d03"));

    let packet_key = PacketKey::new(Version::V1, suite, secret);
    let header = hex("4200bff4");
    let packet = protect(&packet_key, &header_key, 654_360_564, &header, 3, &[0x01]);
    assert_eq!(packet, hex("4cfe4189655e5cd55c41f69080575d7999c25a5bfb"));

    let mut out = [0xff; 8];
    assert_eq!(packet_key.open(654_360_564, &header, &packet[4..], &mut out), Ok(1));
    assert_eq!(out[0], 0x01);
}

/// RFC 9369, A.5.
#[test]
fn chacha20_short_header_in_version_2() {
    let suite = CipherSuite::ChaCha20Poly1305Sha256;
    let secret = Secret::new(&hex(RFC_SECRET)).unwrap();
    let [key, iv, hp] = derived(Version::V2, suite, &secret);
    assert_eq!(key, hex("3bfcddd72bcf02541d7fa0dd1f5f9eeea817e09a6963a0e6c7df0f9a1bab90f2"));
    assert_eq!(iv, hex("a6b5bc6ab7dafce30ffff5dd"));
    assert_eq!(hp, hex("d659760d2ba434a226fd37b35c69e2da8211d10c4f12538787d65645d5d1b8e2"));
    let updated = OneRttSecrets::new(Version::V2, suite, secret.clone(), secret.clone()).next();
    assert_eq!(updated.local.as_bytes(), hex("c69374c49e3d2a9466fa689e49d476db5d0dfbc87d32ceeaa6343fd0ae4c7d88"));

    let header_key = HeaderKey::new(Version::V2, suite, &secret);
    let sample = hex("e7b6b932bc27d786f4bc2bb20f2162ba").try_into().unwrap();
    assert_eq!(header_key.mask(&sample), *hex("97580e32bf"));
    let packet_key = PacketKey::new(Version::V2, suite, secret);
    let packet = protect(&packet_key, &header_key, 654_360_564, &hex("4200bff4"), 3, &[0x01]);
    assert_eq!(packet, hex("5558b1c60ae7b6b932bc27d786f4bc2bb20f2162ba"));
}

/// RFC 9001, 6.1 and A.5: the secret after a key update, and that both directions take the step.
#[test]
fn key_update() {
    let suite = CipherSuite::ChaCha20Poly1305Sha256;
    let next = hex("1223504755036d556342ee9361d253421a826c9ecdf3c7148684b36b714881f9");
    let secret = Secret::new(&hex(RFC_SECRET)).unwrap();
    let other = Secret::new(&[7; 32]).unwrap();
    let here = OneRttSecrets::new(Version::V1, suite, secret.clone(), other.clone());
    let there = OneRttSecrets::new(Version::V1, suite, other, secret);
    let (here, there) = (here.next(), there.next());
    assert_eq!(here.local.as_bytes(), next);
    assert_eq!(there.remote.as_bytes(), next);

    for (sender, receiver) in [(&here, &there), (&there, &here)] {
        let mut packet = [0; 3 + TAG_LEN];
        sender.packet_keys().local.seal(9, b"header", &mut [], b"abc", &mut packet);
        let mut out = [0; 3];
        assert_eq!(receiver.packet_keys().remote.open(9, b"header", &packet, &mut out), Ok(3));
        assert_eq!(&out, b"abc");
        // The generation before and the one after do not open it.
        assert_eq!(receiver.next().packet_keys().remote.open(9, b"header", &packet, &mut out), Err(OpenError));
    }
}

#[test]
fn secrets_keep_their_suites_length_over_updates() {
    for suite in CipherSuite::ALL {
        let secret = Secret::new(&vec![3; suite.secret_len()]).unwrap();
        let mut secrets = OneRttSecrets::new(Version::V1, suite, secret.clone(), secret);
        for _ in 0..3 {
            let before = secrets.local.as_bytes().to_vec();
            secrets = secrets.next();
            assert_eq!(secrets.local.as_bytes().len(), suite.secret_len());
            assert_ne!(secrets.local.as_bytes(), before);
        }
    }
}

fn key(suite: CipherSuite) -> PacketKey {
    PacketKey::new(Version::V1, suite, Secret::new(&vec![5; suite.secret_len()]).unwrap())
}

/// Seals `payload` in two parts, the first `split` bytes long.
fn seal_split(key: &PacketKey, payload: &[u8], split: usize) -> Vec<u8> {
    let mut sealed = payload.to_vec();
    sealed.resize(payload.len() + TAG_LEN, 0xee);
    let (head, tail) = sealed.split_at_mut(split);
    key.seal(77, b"header", head, &payload[split..], tail);
    sealed
}

#[test]
fn every_split_seals_alike() {
    let payload: Vec<u8> = (0..3000u32).map(|i| (i * 7) as u8).collect();
    for suite in CipherSuite::ALL {
        let key = key(suite);
        // Lengths around those at which ciphers, and the ways to them, change.
        for len in [1, 15, 16, 17, 200, 1200, 2048, 2049, 3000] {
            let payload = &payload[..len];
            let whole = seal_split(&key, payload, len);
            let mut out = vec![0; len];
            assert_eq!(key.open(77, b"header", &whole, &mut out), Ok(len));
            assert_eq!(out, payload);
            for split in 0..len {
                assert_eq!(seal_split(&key, payload, split), whole, "{suite}, {len} bytes split at {split}");
            }
        }
    }
}

/// RFC 9001, 5.3: every bit of ciphertext, tag, header and packet number is authenticated.
#[test]
fn nothing_altered_opens() {
    for suite in CipherSuite::ALL {
        let key = key(suite);
        let mut sealed = [0; 5 + TAG_LEN];
        key.seal(1 << 40, b"header", &mut [], b"hello", &mut sealed);
        let mut out = [0; 5];
        assert_eq!(key.open(1 << 40, b"header", &sealed, &mut out), Ok(5));
        for bit in 0..sealed.len() * 8 {
            let mut altered = sealed;
            altered[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key.open(1 << 40, b"header", &altered, &mut out), Err(OpenError), "{suite}, bit {bit}");
        }
        for bit in 0..48 {
            let mut header = *b"header";
            header[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key.open(1 << 40, &header, &sealed, &mut out), Err(OpenError));
        }
        for bit in 0..62 {
            assert_eq!(key.open(1 << 40 ^ 1 << bit, b"header", &sealed, &mut out), Err(OpenError));
        }
        for len in 0..sealed.len() {
            assert_eq!(key.open(1 << 40, b"header", &sealed[..len], &mut out), Err(OpenError), "{suite}, {len} bytes");
        }
    }
}

#[test]
fn empty_payload() {
    for suite in CipherSuite::ALL {
        let mut tag = [0; TAG_LEN];
        key(suite).seal(0, b"", &mut [], &[], &mut tag);
        assert_eq!(key(suite).open(0, b"", &tag, &mut []), Ok(0));
    }
}

#[test]
#[should_panic(expected = "room for the tail's ciphertext and the tag")]
fn seal_without_room_for_the_tag() {
    key(CipherSuite::Aes128GcmSha256).seal(0, b"", &mut [], b"abc", &mut [0; 18]);
}

#[test]
fn debug_shows_no_secret() {
    let secret = Secret::new(&[0xab; 32]).unwrap();
    let secrets = OneRttSecrets::new(Version::V1, CipherSuite::Aes128GcmSha256, secret.clone(), secret);
    let shown = format!("{secrets:?} {:?}", secrets.packet_keys());
    assert!(!shown.contains("171") && !shown.to_lowercase().contains("ab, "), "{shown}");
}

#[test]
fn keys_cross_threads() {
    fn send_and_sync<T: Send + Sync>() {}
    send_and_sync::<PacketKey>();
    send_and_sync::<HeaderKey>();
    send_and_sync::<crate::Keys>();
    send_and_sync::<OneRttSecrets>();
    send_and_sync::<crate::HandleCipher>();
    send_and_sync::<crate::ResetKey>();
    send_and_sync::<crate::Exporter>();
}
