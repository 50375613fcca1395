//! Which tickets were used for early data lately, so that none is twice (RFC 8446, 8.2).
//!
//! Early data is taken only while the age that a client gives its ticket is within a minute of the real one, so a copy of a
//! ClientHello is of no use two minutes later: the register need not remember longer. It keeps two generations of ids, each of
//! as many seconds as a copy could be of use, and forgets the elder one when the next begins.
//!
//! Invariants: an id that was taken in is known for at least [`GENERATION`] seconds of the clock by which freshness is told; no
//! generation holds more than its capacity; and whatever makes the register forget earlier (it is new, or the clock was set back)
//! changes its [`Issuer`], to which tickets are bound. So it fails by refusing early data, never by taking it twice.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Seconds. A ClientHello is taken for fresh over at most 120 of them and what rounding adds.
const GENERATION: u64 = 128;

/// The register that a ticket is good for early data with. It is in every ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Issuer {
    boot: u64,
    epoch: u32,
}

impl Issuer {
    pub(crate) const LEN: usize = 12;

    pub(crate) fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&self.boot.to_be_bytes());
        bytes[8..].copy_from_slice(&self.epoch.to_be_bytes());
        bytes
    }

    pub(crate) fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        let [b0, b1, b2, b3, b4, b5, b6, b7, epoch @ ..] = bytes;
        Self { boot: u64::from_be_bytes([b0, b1, b2, b3, b4, b5, b6, b7]), epoch: u32::from_be_bytes(epoch) }
    }
}

/// What the register says to a ticket that is to be used for early data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Strike {
    /// It was not used, as far as can be known, and now is.
    Taken,
    /// It was used.
    Known,
    /// It may have been used at a register that this one is not, or that this one was before it forgot.
    Elsewhere,
    /// There is no room to remember it.
    Full,
    /// The clock is behind what it showed before, so ages mean nothing.
    ClockBehind,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct StrikeRegister {
    boot: u64,
    capacity: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    epoch: u32,
    /// The number of the current generation.
    generation: u64,
    current: Ids,
    previous: Ids,
}

type Ids = HashSet<u64, BuildHasherDefault<AsIs>>;

impl StrikeRegister {
    /// An empty register that remembers up to `capacity` ids a generation. `boot` is a number that no other register has.
    pub(crate) fn new(boot: u64, capacity: usize) -> Self {
        Self { boot, capacity, state: Mutex::default() }
    }

    /// What a ticket that is made at `now` is to be bound to.
    pub(crate) fn issuer(&self, now: u64) -> Issuer {
        let mut state = self.lock();
        // While the clock is behind, tickets are made as before.
        let _ = state.turn(now);
        Issuer { boot: self.boot, epoch: state.epoch }
    }

    /// Takes in ticket `id`, bound to `issuer`, in one step: of many that ask at once, one is told that it was taken in.
    pub(crate) fn insert(&self, now: u64, issuer: Issuer, id: u64) -> Strike {
        let mut state = self.lock();
        if !state.turn(now) {
            return Strike::ClockBehind;
        }
        if issuer != (Issuer { boot: self.boot, epoch: state.epoch }) {
            return Strike::Elsewhere;
        }
        if state.previous.contains(&id) || state.current.contains(&id) {
            return Strike::Known;
        }
        if state.current.len() >= self.capacity {
            return Strike::Full;
        }
        state.current.insert(id);
        Strike::Taken
    }

    /// Takes out an id whose early data was not taken after all.
    pub(crate) fn remove(&self, id: u64) {
        let mut state = self.lock();
        state.current.remove(&id);
        state.previous.remove(&id);
    }

    /// How many ids it remembers at most.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity.saturating_mul(2)
    }

    /// How many ids it remembers.
    pub(crate) fn len(&self) -> usize {
        let state = self.lock();
        state.current.len() + state.previous.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Goes on to the generation of `now`. False while the clock is somewhat behind; if it is far behind, the register starts anew.
    fn turn(&mut self, now: u64) -> bool {
        let generation = now / GENERATION;
        if generation + 1 == self.generation {
            return false;
        }
        if generation == self.generation + 1 {
            std::mem::swap(&mut self.current, &mut self.previous);
            self.current.clear();
        } else if generation != self.generation {
            self.current.clear();
            self.previous.clear();
        }
        if generation < self.generation {
            self.epoch = self.epoch.wrapping_add(1);
        }
        self.generation = generation;
        true
    }
}

/// Hashes an id, which is random already, to itself. Ids are chosen here and sealed into tickets, so nobody makes them collide.
#[derive(Debug, Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = id;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn an_id_is_taken_once_for_as_long_as_a_copy_could_be_fresh() {
        for start in NOW..NOW + GENERATION {
            let register = StrikeRegister::new(7, 10);
            let issuer = register.issuer(start);
            assert_eq!(register.insert(start, issuer, 1), Strike::Taken);
            for later in 0..=GENERATION {
                assert_eq!(register.insert(start + later, issuer, 1), Strike::Known, "{later} s later");
            }
            assert_eq!(register.insert(start + 2 * GENERATION, issuer, 1), Strike::Taken);
        }
    }

    #[test]
    fn a_full_register_takes_nothing_until_it_may_forget() {
        let register = StrikeRegister::new(7, 3);
        let issuer = register.issuer(NOW);
        for id in 0..3 {
            assert_eq!(register.insert(NOW, issuer, id), Strike::Taken);
        }
        for id in 3..1000 {
            assert_eq!(register.insert(NOW, issuer, id), Strike::Full);
        }
        assert_eq!(register.insert(NOW, issuer, 0), Strike::Known);
        register.remove(0);
        assert_eq!(register.insert(NOW, issuer, 3), Strike::Taken);
        assert_eq!(register.len(), 3);
        // The next generation has room of its own, and the one before is still known.
        assert_eq!(register.insert(NOW + GENERATION, issuer, 4), Strike::Taken);
        assert_eq!(register.insert(NOW + GENERATION, issuer, 3), Strike::Known);
        assert_eq!(register.len(), 4);
        assert_eq!(register.insert(NOW + 3 * GENERATION, issuer, 5), Strike::Taken);
        assert_eq!(register.len(), 1);
    }

    #[test]
    fn tickets_of_another_register_may_have_been_used_there() {
        let [one, other] = [7, 8].map(|boot| StrikeRegister::new(boot, 10));
        assert_eq!(one.insert(NOW, other.issuer(NOW), 1), Strike::Elsewhere);
        assert_eq!(one.insert(NOW, Issuer::from_bytes(one.issuer(NOW).to_bytes()), 1), Strike::Taken);
    }

    /// A clock that was set back makes old copies fresh again, which the register may have forgotten.
    #[test]
    fn a_clock_that_goes_back() {
        let register = StrikeRegister::new(7, 10);
        let issuer = register.issuer(NOW);
        assert_eq!(register.insert(NOW, issuer, 1), Strike::Taken);
        assert_eq!(register.insert(NOW + 3 * GENERATION, issuer, 2), Strike::Taken);
        // A little: no early data until it has caught up.
        assert_eq!(register.insert(NOW + 2 * GENERATION, issuer, 3), Strike::ClockBehind);
        assert_eq!(register.issuer(NOW + 2 * GENERATION), issuer);
        assert_eq!(register.insert(NOW + 3 * GENERATION, issuer, 3), Strike::Taken);
        // A lot: it starts anew, and so must the tickets.
        assert_eq!(register.insert(NOW, issuer, 1), Strike::Elsewhere);
        let anew = register.issuer(NOW);
        assert_ne!(anew, issuer);
        assert_eq!(register.insert(NOW, anew, 1), Strike::Taken);
        assert_eq!(register.len(), 1);
    }

    #[test]
    fn of_many_at_once_one_is_taken() {
        let register = StrikeRegister::new(7, 1 << 10);
        let issuer = register.issuer(NOW);
        let taken: usize = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| (0..1000).filter(|id| register.insert(NOW, issuer, *id) == Strike::Taken).count())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!((taken, register.len()), (1000, 1000));
    }
}
