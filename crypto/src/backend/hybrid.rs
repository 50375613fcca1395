//! X25519MLKEM768 (draft-ietf-tls-ecdhe-mlkem) out of the X25519 of the library below and the ML-KEM-768 (FIPS 203) of `ml-kem`, for a
//! library that has no such group of its own.
//!
//! Owns the shape of shares and secret: ML-KEM's part first, X25519's after it. Does not own the arithmetic of either.
//!
//! Invariants: every random byte comes from the library's generator; what a peer sends is rejected with InvalidKeyShare, for which TLS
//! sends illegal_parameter; secrets of this file's own making are zeroised.

use ml_kem::kem::{Decapsulate, KeyExport};
use ml_kem::{DecapsulationKey768, EncapsulationKey768};
use rustls::crypto::{ActiveKeyExchange, CompletedKeyExchange, GetRandomFailed, SharedSecret, SupportedKxGroup};
use rustls::ffdhe_groups::FfdheGroup;
use rustls::{Error, NamedGroup, PeerMisbehaved, ProtocolVersion};
use zeroize::{Zeroize, Zeroizing};

use super::{fill_random, key_exchange};

#[cfg(test)]
mod tests;

/// Bytes of an encapsulation key of ML-KEM-768, which a client sends.
const ENCAPSULATION_KEY_LEN: usize = 1184;
/// Bytes of a ciphertext of ML-KEM-768, which a server sends.
const CIPHERTEXT_LEN: usize = 1088;
/// Bytes of the secret that ML-KEM agrees on, and of X25519's.
const SECRET_LEN: usize = 32;

const INVALID_KEY_SHARE: Error = Error::PeerMisbehaved(PeerMisbehaved::InvalidKeyShare);

/// The group, as rustls takes it.
#[derive(Debug)]
pub(super) struct Hybrid;

/// The classical half. It rejects shares of another length than 32 bytes, and those whose secret would be zero (RFC 8446, 7.4.2).
fn x25519() -> &'static dyn SupportedKxGroup {
    key_exchange(crate::NamedGroup::X25519)
}

impl SupportedKxGroup for Hybrid {
    /// A client's keys of both kinds.
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let x25519 = x25519().start()?;
        let ml_kem = decapsulation_key(&*random::<64>()?);
        let share = [&ml_kem.encapsulation_key().to_bytes(), x25519.pub_key()].concat();
        Ok(Box::new(Exchange { ml_kem, x25519, share }))
    }

    /// A server's whole part, as encapsulation takes the client's key.
    fn start_and_complete(&self, client_share: &[u8]) -> Result<CompletedKeyExchange, Error> {
        let (encapsulation_key, x25519_share) = client_share.split_at_checked(ENCAPSULATION_KEY_LEN).ok_or(INVALID_KEY_SHARE)?;
        let (ciphertext, ml_kem_secret) = encapsulate(encapsulation_key, &*random::<32>()?)?;
        let x25519 = x25519().start_and_complete(x25519_share)?;
        Ok(CompletedKeyExchange {
            group: self.name(),
            pub_key: [&ciphertext[..], &x25519.pub_key].concat(),
            secret: join(&*ml_kem_secret, &x25519.secret),
        })
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519MLKEM768
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn usable_for_version(&self, version: ProtocolVersion) -> bool {
        version == ProtocolVersion::TLSv1_3
    }
}

/// A client's keys, until the server has answered.
struct Exchange {
    ml_kem: DecapsulationKey768,
    x25519: Box<dyn ActiveKeyExchange>,
    share: Vec<u8>,
}

impl ActiveKeyExchange for Exchange {
    fn complete(self: Box<Self>, server_share: &[u8]) -> Result<SharedSecret, Error> {
        let (ciphertext, x25519_share) = server_share.split_at_checked(CIPHERTEXT_LEN).ok_or(INVALID_KEY_SHARE)?;
        let x25519_secret = self.x25519.complete(x25519_share)?;
        Ok(join(&*decapsulate(&self.ml_kem, ciphertext)?, &x25519_secret))
    }

    /// The same X25519 key serves the group X25519, if it is offered, too: rustls then sends its share without another key.
    fn hybrid_component(&self) -> Option<(NamedGroup, &[u8])> {
        Some((NamedGroup::X25519, self.x25519.pub_key()))
    }

    fn complete_hybrid_component(self: Box<Self>, server_share: &[u8]) -> Result<SharedSecret, Error> {
        self.x25519.complete(server_share)
    }

    fn pub_key(&self) -> &[u8] {
        &self.share
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519MLKEM768
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }
}

fn random<const LEN: usize>() -> Result<Zeroizing<[u8; LEN]>, Error> {
    let mut bytes = Zeroizing::new([0; LEN]);
    fill_random(&mut *bytes).map_err(|_| GetRandomFailed)?;
    Ok(bytes)
}

/// ML-KEM.KeyGen (FIPS 203, algorithm 19), with its randomness given: `d`, then `z`.
fn decapsulation_key(seed: &[u8; 64]) -> DecapsulationKey768 {
    DecapsulationKey768::from_seed((*seed).into())
}

/// ML-KEM.Encaps (FIPS 203, algorithm 20), with its randomness given, behind the checks of 7.2: length and modulus.
fn encapsulate(encapsulation_key: &[u8], random: &[u8; 32]) -> Result<(Vec<u8>, Zeroizing<[u8; SECRET_LEN]>), Error> {
    let key = encapsulation_key.try_into().map_err(|_| INVALID_KEY_SHARE)?;
    let key = EncapsulationKey768::new(key).map_err(|_| INVALID_KEY_SHARE)?;
    let (ciphertext, mut secret) = key.encapsulate_deterministic(random.into());
    let kept = Zeroizing::new(secret.into());
    secret.zeroize();
    Ok((ciphertext.to_vec(), kept))
}

/// ML-KEM.Decaps (FIPS 203, algorithm 21) behind the length check of 7.3. A ciphertext that was not made for the key gives a secret that
/// nobody knows, and the handshake fails by that.
fn decapsulate(key: &DecapsulationKey768, ciphertext: &[u8]) -> Result<Zeroizing<[u8; SECRET_LEN]>, Error> {
    let ciphertext = ciphertext.try_into().map_err(|_| INVALID_KEY_SHARE)?;
    let mut secret = key.decapsulate(ciphertext);
    let kept = Zeroizing::new(secret.into());
    secret.zeroize();
    Ok(kept)
}

fn join(ml_kem: &[u8], x25519: &SharedSecret) -> SharedSecret {
    SharedSecret::from([ml_kem, x25519.secret_bytes()].concat())
}
