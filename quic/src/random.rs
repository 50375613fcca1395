//! The two sources of randomness: one for what strangers may see, one for what they must not guess.
//!
//! Owns both generators, and with them the rule of which to take. Noise fills what goes to the wire for its own sake: grease,
//! the padding of resets. Its generator is fast and small, and who sees enough of its output knows the rest. Secrets are keys of
//! hash tables, packet numbers left out, and all else by which a peer could harm us if it foresaw it; what is seen of them
//! tells nothing of the others.
//!
//! Invariant: neither seeds the other.

use std::hash::Hasher;
use std::ops::Range;

use siphasher::sip::SipHasher24;

/// What may be seen.
#[derive(Debug)]
pub(crate) struct Noise(fastrand::Rng);

impl Noise {
    pub(crate) fn new(seed: u64) -> Noise {
        Noise(fastrand::Rng::with_seed(seed))
    }

    pub(crate) fn u64(&mut self) -> u64 {
        self.0.u64(..)
    }

    /// A number of the range.
    ///
    /// # Panics
    /// If the range is empty.
    pub(crate) fn u32(&mut self, range: Range<u32>) -> u32 {
        self.0.u32(range)
    }

    pub(crate) fn fill(&mut self, out: &mut [u8]) {
        self.0.fill(out);
    }
}

/// What must not be guessed: a keyed function of a counter, so that its output does not give away its key.
pub(crate) struct Secrets {
    key: [u8; 16],
    drawn: u64,
}

impl Secrets {
    /// `key` is unpredictable, and used for nothing else.
    pub(crate) fn new(key: [u8; 16]) -> Secrets {
        Secrets { key, drawn: 0 }
    }

    pub(crate) fn u64(&mut self) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write_u64(self.drawn);
        self.drawn += 1;
        hasher.finish()
    }

    /// A number of the range; not quite even, by less than the range's share of 2^64.
    ///
    /// # Panics
    /// If the range is empty.
    pub(crate) fn u32(&mut self, range: Range<u32>) -> u32 {
        assert!(!range.is_empty(), "an empty range has no number");
        let span = u128::from(range.end - range.start);
        range.start + ((u128::from(self.u64()) * span) >> 64) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_depend_on_all_of_the_key_and_do_not_repeat() {
        let draw = |key| {
            let mut secrets = Secrets::new(key);
            [secrets.u64(), secrets.u64(), secrets.u64()]
        };
        let first = draw([1; 16]);
        assert_eq!(first, draw([1; 16]));
        assert!(first[0] != first[1] && first[1] != first[2]);
        for at in 0..16 {
            let mut key = [1; 16];
            key[at] ^= 1;
            assert!(draw(key).iter().all(|drawn| !first.contains(drawn)), "octet {at}");
        }
    }

    #[test]
    fn numbers_of_a_range_reach_its_ends_and_no_further() {
        let mut secrets = Secrets::new([3; 16]);
        let mut seen = [false; 7];
        (0..1000).for_each(|_| seen[(secrets.u32(10..17) - 10) as usize] = true);
        assert_eq!(seen, [true; 7]);
        assert_eq!(secrets.u32(5..6), 5);
        (0..100).for_each(|_| assert!(secrets.u32(1..u32::MAX) >= 1));
    }
}
