//! Handshakes whose every byte follows from a seed, for simulations. **Nothing they protect is secret.**
//!
//! aws-lc-rs and ring take randomness from the system whatever they are told, ECDSA signatures vary in length, and certificates are
//! checked against the time of day. So in a simulation: randomness and X25519 keys come from a generator that belongs to
//! the session; the certificate is a fixture, signed with Ed25519, which needs no randomness; the keys of tickets follow from
//! the seed; and the clock, a [`Clock`], stands still inside the fixture's validity until a test moves it. Everything else is the code that is used outside simulations.
//!
//! rustls wants randomness and groups that live forever. Ours are stateless; the session lends its generator to the thread
//! for the length of a step, as the secrets tap does.

use std::cell::Cell;

use rustls::crypto::{ActiveKeyExchange, CryptoProvider, GetRandomFailed, SecureRandom, SharedSecret, SupportedKxGroup};
use rustls::{Error, NamedGroup, PeerMisbehaved};
use x25519_dalek::{PublicKey, StaticSecret};

use crate::{Certificates, PrivateKey};

pub use crate::clock::Clock;

#[cfg(test)]
mod tests;

/// The name that the fixture certificate is for.
pub const SERVER_NAME: &str = "localhost";

/// A chain of one certificate, for [`SERVER_NAME`], and its private key. The key is public: it stands in the sources.
pub fn server_credentials() -> (Certificates, PrivateKey) {
    let key = PrivateKey::from_pem(include_bytes!("simulation/key.pem")).expect("the fixture is valid");
    (roots(), key)
}

/// The root that verifies the fixture certificate: that certificate, which signs itself.
pub fn roots() -> Certificates {
    Certificates::from_pem(include_bytes!("simulation/certificate.pem")).expect("the fixture is valid")
}

/// `provider` with its randomness and its groups replaced by seeded ones.
pub(crate) fn seeded(provider: CryptoProvider) -> CryptoProvider {
    CryptoProvider { kx_groups: vec![&SeededX25519], secure_random: &SeededRandom, ..provider }
}

/// A session's source of bytes: SplitMix64. It need not be unpredictable, only well spread.
#[derive(Clone, Debug)]
pub(crate) struct Generator(u64);

impl Generator {
    /// The generator of session number `session` of a configuration with `seed`.
    pub(crate) const fn new(seed: u64, session: u64) -> Self {
        let mut generator = Self(seed);
        generator.0 = generator.next().wrapping_add(session);
        generator.0 = generator.next();
        generator
    }

    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }
}

thread_local! {
    static LENT: Cell<Option<Generator>> = const { Cell::new(None) };
}

/// Runs one handshake step with `generator`, if there is one, as the thread's. Not to be nested.
pub(crate) fn lend<T>(generator: &mut Option<Generator>, step: impl FnOnce() -> T) -> T {
    struct Loan<'a>(&'a mut Option<Generator>);
    impl Drop for Loan<'_> {
        fn drop(&mut self) {
            *self.0 = LENT.take();
        }
    }
    LENT.set(generator.take());
    let _loan = Loan(generator);
    step()
}

fn fill(bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
    let mut generator = LENT.take().ok_or(GetRandomFailed)?;
    generator.fill(bytes);
    LENT.set(Some(generator));
    Ok(())
}

#[derive(Debug)]
struct SeededRandom;

impl SecureRandom for SeededRandom {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        fill(bytes)
    }
}

#[derive(Debug)]
struct SeededX25519;

impl SupportedKxGroup for SeededX25519 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let mut secret = [0; 32];
        fill(&mut secret)?;
        let secret = StaticSecret::from(secret);
        Ok(Box::new(SeededExchange { public: PublicKey::from(&secret), secret }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

struct SeededExchange {
    secret: StaticSecret,
    public: PublicKey,
}

impl ActiveKeyExchange for SeededExchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let peer = <[u8; 32]>::try_from(peer).map_err(|_| PeerMisbehaved::InvalidKeyShare)?;
        let shared = self.secret.diffie_hellman(&PublicKey::from(peer));
        // RFC 8446, 7.4.2: an all-zero shared secret is refused.
        if !shared.was_contributory() {
            return Err(PeerMisbehaved::InvalidKeyShare.into());
        }
        Ok(SharedSecret::from(&shared.as_bytes()[..]))
    }

    fn pub_key(&self) -> &[u8] {
        self.public.as_bytes()
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}
