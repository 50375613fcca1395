//! Which slots hold a live connection, and under which generation.
//!
//! Invariant: a (slot, generation) pair is handed out at most once. Chunked, so that growth never copies.

use crate::handle::ConnectionHandle;

const CHUNK: usize = 1024;
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Slot {
    generation: u32,
    state: Occupant,
    next_free: u32,
}

/// Who has a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occupant {
    Nobody,
    /// A connection that we began.
    Connected,
    /// A connection that a client began.
    Accepted,
}

/// The slot table of one endpoint.
pub(crate) struct Slots {
    chunks: Vec<Box<[Slot]>>,
    first_free: u32,
    used: u32,
    live: usize,
}

impl Slots {
    pub(crate) fn new() -> Self {
        Self { chunks: Vec::new(), first_free: NONE, used: 0, live: 0 }
    }

    /// A handle that never was, for `occupant`; `None` if the table is full.
    pub(crate) fn take(&mut self, occupant: Occupant) -> Option<ConnectionHandle> {
        let index = if self.first_free != NONE {
            let index = self.first_free;
            self.first_free = self.slot(index).next_free;
            index
        } else {
            let index = self.used;
            if index == NONE {
                return None;
            }
            if index as usize == self.chunks.len() * CHUNK {
                let empty = Slot { generation: 0, state: Occupant::Nobody, next_free: NONE };
                self.chunks.push(vec![empty; CHUNK].into_boxed_slice());
            }
            self.used += 1;
            index
        };
        self.live += 1;
        let slot = self.slot(index);
        slot.state = occupant;
        Some(ConnectionHandle::new(index, slot.generation))
    }

    /// Frees the slot of `handle`, and says who had it; nothing happens if it is not live.
    pub(crate) fn free(&mut self, handle: ConnectionHandle) -> Occupant {
        if !self.is_live(handle) {
            return Occupant::Nobody;
        }
        self.live -= 1;
        let index = handle.slot() as u32;
        let next_free = self.first_free;
        let slot = self.slot(index);
        let occupant = std::mem::replace(&mut slot.state, Occupant::Nobody);
        // A slot whose generation would wrap is never used again.
        if let Some(generation) = slot.generation.checked_add(1) {
            slot.generation = generation;
            slot.next_free = next_free;
            self.first_free = index;
        }
        occupant
    }

    pub(crate) fn is_live(&self, handle: ConnectionHandle) -> bool {
        let index = handle.slot();
        match self.chunks.get(index / CHUNK) {
            Some(chunk) => {
                let slot = &chunk[index % CHUNK];
                slot.state != Occupant::Nobody && slot.generation == handle.generation()
            }
            None => false,
        }
    }

    /// How many are live.
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    fn slot(&mut self, index: u32) -> &mut Slot {
        &mut self.chunks[index as usize / CHUNK][index as usize % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_never_given_twice() {
        let mut slots = Slots::new();
        let mut rng = fastrand::Rng::with_seed(3);
        let mut seen = std::collections::HashSet::new();
        let mut live = Vec::new();
        for _ in 0..10_000 {
            if live.is_empty() || rng.bool() {
                let handle = slots.take(Occupant::Accepted).unwrap();
                assert!(seen.insert(handle));
                live.push(handle);
            } else {
                let handle = live.swap_remove(rng.usize(..live.len()));
                assert!(slots.is_live(handle));
                assert_eq!(slots.free(handle), Occupant::Accepted);
                assert_eq!(slots.free(handle), Occupant::Nobody);
                assert!(!slots.is_live(handle));
            }
            assert_eq!(slots.len(), live.len());
        }
        assert!(live.iter().all(|handle| slots.is_live(*handle)));
    }

    #[test]
    fn a_slot_that_used_all_generations_is_retired() {
        let mut slots = Slots::new();
        let first = slots.take(Occupant::Accepted).unwrap();
        slots.free(first);
        slots.slot(0).generation = u32::MAX;
        let last = slots.take(Occupant::Accepted).unwrap();
        assert_eq!((last.slot(), last.generation()), (0, u32::MAX));
        slots.free(last);
        assert_eq!(slots.take(Occupant::Accepted).unwrap().slot(), 1);
    }
}
