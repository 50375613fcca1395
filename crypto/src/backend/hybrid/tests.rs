//! The group beside aws-lc's own, ML-KEM's published answers, and what peers must not send.

use rustls::crypto::SupportedKxGroup;
use rustls::crypto::aws_lc_rs::kx_group::X25519MLKEM768 as AWS_LC;
use shake::{ExtendableOutput, Shake128, Update, XofReader};

use super::*;
use crate::keys::tests::hex;

const OURS: &dyn SupportedKxGroup = &Hybrid;

const CLIENT_SHARE_LEN: usize = 1216;
const SERVER_SHARE_LEN: usize = 1120;

fn is_refused<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::PeerMisbehaved(PeerMisbehaved::InvalidKeyShare)))
}

/// A client of each implementation with a server of each: sizes and secrets (draft-ietf-tls-ecdhe-mlkem, 4.1).
#[test]
fn agrees_with_aws_lc() {
    let mut secrets = Vec::new();
    for (client, server) in [(OURS, AWS_LC), (AWS_LC, OURS), (OURS, OURS)] {
        for _ in 0..10 {
            let started = client.start().unwrap();
            assert_eq!(started.pub_key().len(), CLIENT_SHARE_LEN);
            let completed = server.start_and_complete(started.pub_key()).unwrap();
            assert_eq!(completed.pub_key.len(), SERVER_SHARE_LEN);
            assert_eq!([started.group(), completed.group], [NamedGroup::X25519MLKEM768; 2]);
            let secret = started.complete(&completed.pub_key).unwrap();
            assert_eq!(secret.secret_bytes(), completed.secret.secret_bytes());
            assert_eq!(secret.secret_bytes().len(), 64);
            secrets.push(secret.secret_bytes().to_vec());
        }
    }
    secrets.sort();
    secrets.dedup();
    assert_eq!(secrets.len(), 30, "each exchange has a secret of its own");
}

/// The client's X25519 share serves the group X25519 as well.
#[test]
fn the_classical_half_stands_alone() {
    let started = OURS.start().unwrap();
    let (group, share) = started.hybrid_component().unwrap();
    assert_eq!(group, NamedGroup::X25519);
    assert_eq!(share, &started.pub_key()[ENCAPSULATION_KEY_LEN..]);
    let completed = x25519().start_and_complete(share).unwrap();
    let secret = started.complete_hybrid_component(&completed.pub_key).unwrap();
    assert_eq!(secret.secret_bytes(), completed.secret.secret_bytes());
}

#[test]
fn shares_of_other_lengths() {
    let [client, server] = [CLIENT_SHARE_LEN, SERVER_SHARE_LEN];
    let share = OURS.start().unwrap().pub_key().to_vec();
    for len in [0, 1, 32, ENCAPSULATION_KEY_LEN, client - 1, client + 1, 2 * client] {
        let mut share = share.clone();
        share.resize(len, 0);
        assert!(is_refused(OURS.start_and_complete(&share)), "{len} bytes of a client");
    }
    for len in [0, 1, 32, CIPHERTEXT_LEN, server - 1, server + 1, client] {
        let started = OURS.start().unwrap();
        let mut share = OURS.start_and_complete(started.pub_key()).unwrap().pub_key;
        share.resize(len, 0);
        assert!(is_refused(started.complete(&share)), "{len} bytes of a server");
    }
    for len in [0, 31, 33, server] {
        assert!(is_refused(OURS.start().unwrap().complete_hybrid_component(&vec![9; len])), "{len} bytes of a server without ML-KEM");
    }
}

/// FIPS 203, 7.2: an encapsulation key holds numbers below q = 3329 only.
#[test]
fn encapsulation_keys_past_the_modulus() {
    let share = OURS.start().unwrap().pub_key().to_vec();
    // Two numbers in three bytes; the last 32 bytes of the key are a seed.
    for pair in (0..ENCAPSULATION_KEY_LEN - 32).step_by(3) {
        for number in [3329, 4095] {
            let [low, high] = u16::to_le_bytes(number);
            for (at, bytes) in [(0, [low, share[pair + 1] & 0xf0 | high]), (1, [share[pair + 1] & 0x0f | low << 4, low >> 4 | high << 4])] {
                let mut share = share.clone();
                share[pair + at..][..2].copy_from_slice(&bytes);
                assert!(is_refused(OURS.start_and_complete(&share)), "{number} at byte {pair}, {at}");
            }
        }
    }
    let mut seed = share;
    seed[ENCAPSULATION_KEY_LEN - 32..ENCAPSULATION_KEY_LEN].fill(0xff);
    assert!(OURS.start_and_complete(&seed).is_ok(), "any seed will do");
}

/// RFC 8446, 7.4.2: points whose secret would be zero whatever the key.
#[test]
fn x25519_points_of_small_order() {
    for point in [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    ] {
        let point = hex(point);
        let started = OURS.start().unwrap();
        let mut client = started.pub_key().to_vec();
        let mut server = OURS.start_and_complete(&client).unwrap().pub_key;
        client[ENCAPSULATION_KEY_LEN..].copy_from_slice(&point);
        server[CIPHERTEXT_LEN..].copy_from_slice(&point);
        assert!(is_refused(OURS.start_and_complete(&client)), "{point:?}");
        assert!(is_refused(started.complete(&server)), "{point:?}");
        assert!(is_refused(OURS.start().unwrap().complete_hybrid_component(&point)), "{point:?}");
    }
}

/// FIPS 203, 6.3: an altered ciphertext is not told apart from a good one; the secrets then differ.
#[test]
fn altered_ciphertexts_agree_on_nothing() {
    for at in [0, CIPHERTEXT_LEN - 1] {
        let started = OURS.start().unwrap();
        let mut completed = OURS.start_and_complete(started.pub_key()).unwrap();
        completed.pub_key[at] ^= 1;
        let secret = started.complete(&completed.pub_key).unwrap();
        let [one, two] = [secret.secret_bytes(), completed.secret.secret_bytes()];
        assert_ne!(one[..SECRET_LEN], two[..SECRET_LEN]);
        assert_eq!(one[SECRET_LEN..], two[SECRET_LEN..]);
    }
}

/// The answers of Go's `crypto/mlkem` (`TestAccumulated`, a hundred rounds), in the manner of c2sp.org/CCTV/ML-KEM: keys, encapsulations and
/// decapsulations, good and bad, from a stream of SHAKE128, hashed. aws-lc, which takes no randomness from outside, answers beside it.
#[test]
fn known_answers() {
    let mut random = Shake128::default().finalize_xof();
    let mut answers = Shake128::default();
    for round in 0..100 {
        let (mut seed, mut message, mut bad) = ([0; 64], [0; 32], [0; CIPHERTEXT_LEN]);
        random.read(&mut seed);
        let key = decapsulation_key(&seed);
        let public = key.encapsulation_key().to_bytes();
        answers.update(&public);
        random.read(&mut message);
        let (ciphertext, secret) = encapsulate(&public, &message).unwrap();
        answers.update(&ciphertext);
        answers.update(&*secret);
        assert_eq!(decapsulate(&key, &ciphertext).unwrap(), secret);
        random.read(&mut bad);
        let of_bad = decapsulate(&key, &bad).unwrap();
        answers.update(&*of_bad);
        let key = aws_lc_key(&key);
        for (ciphertext, secret) in [(&ciphertext[..], &secret), (&bad, &of_bad)] {
            assert_eq!(key.decapsulate(ciphertext.into()).unwrap().as_ref(), &secret[..], "round {round}");
        }
    }
    let mut digest = [0; 32];
    answers.finalize_xof().read(&mut digest);
    assert_eq!(digest[..], hex("1114b1b6699ed191734fa339376afa7e285c9e6acf6ff0177d346696ce564415"));
}

/// The same key in the form that aws-lc takes keys in, which `ml-kem` would rather not see any more.
#[allow(deprecated)]
fn aws_lc_key(key: &DecapsulationKey768) -> aws_lc_rs::kem::DecapsulationKey {
    let expanded = ml_kem::ExpandedKeyEncoding::to_expanded_bytes(key);
    aws_lc_rs::kem::DecapsulationKey::new(&aws_lc_rs::kem::ML_KEM_768, &expanded).unwrap()
}
