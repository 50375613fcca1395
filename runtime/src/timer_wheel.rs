//! The timers of one worker: which deadlines are armed, and which of them have passed.
//!
//! Owns the armed entries and their order. Does not own a clock (time is passed in), nor what an entry means: it carries a
//! value of the caller's and gives it back when its deadline has passed or when it is cancelled.
//!
//! The wheel is hierarchical: nine levels of 64 slots, a slot of level `n` being 64^n ticks wide, so that the whole range of
//! a `u64` of nanoseconds is covered and no deadline needs a special list. An entry lies at the level of the highest group of
//! six bits in which its tick differs from the present one; it moves down as the present reaches its slot, at most eight
//! times in its life and for most timers (which are cancelled long before) never.
//!
//! Invariants:
//! - No entry is given out before its deadline: the tick of a deadline is rounded down, and the slot of the present tick is
//!   filtered by exact deadlines.
//! - Every occupied slot of level `n > 0` lies after the present slot of that level and under the same higher bits, so the
//!   lowest occupied level holds the earliest entries, and its lowest occupied slot comes first.
//! - `Slot::earliest` is never later than any entry of that slot. A cancel leaves it as it is, so it may be too early.
//! - Entries of one tick come out in the order in which they were inserted.
//! - Insert and cancel take constant time. Memory grows by whole chunks, never copies, and is kept for reuse.

use crate::time::Instant;

/// A tick is 2^13 ns (8.2 us): entries within one tick may come out in insertion order rather than by deadline, and a slot
/// of the lowest level is scanned as a whole. Expiry itself is exact to the nanosecond of the `now` passed in.
const TICK_BITS: u32 = 13;
/// 64 slots a level, so that the occupied ones of a level fit one word.
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// Ticks have 64 - 13 = 51 bits; nine levels of six cover 54.
const LEVELS: usize = 9;
/// Entries a chunk of the slab.
const CHUNK: usize = 256;
/// The null of the lists below.
const NIL: u32 = u32::MAX;
/// In [`Entry::slot`]: the entry is on the free list.
const FREE: u16 = u16::MAX;

/// Names one armed entry. A key whose entry has expired or was cancelled names nothing, even when its place is reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerKey {
    index: u32,
    generation: u32,
}

/// A set of deadlines with a value each.
pub(crate) struct TimerWheel<T> {
    /// The tick up to which everything has been given out (the entries of this very tick perhaps not yet).
    present: u64,
    /// One bit a slot that holds entries, one word a level.
    occupied: [u64; LEVELS],
    slots: Box<[Slot]>,
    entries: Slab<T>,
}

/// A doubly linked list of entries, and a bound on their deadlines.
#[derive(Clone, Copy)]
struct Slot {
    head: u32,
    tail: u32,
    earliest: u64,
}

const EMPTY_SLOT: Slot = Slot { head: NIL, tail: NIL, earliest: u64::MAX };

struct Entry<T> {
    deadline: u64,
    next: u32,
    previous: u32,
    generation: u32,
    slot: u16,
    value: Option<T>,
}

impl<T> TimerWheel<T> {
    /// An empty wheel whose present is `now`.
    pub(crate) fn new(now: Instant) -> TimerWheel<T> {
        TimerWheel {
            present: tick_of(now.as_nanos()),
            occupied: [0; LEVELS],
            slots: vec![EMPTY_SLOT; LEVELS * SLOTS].into_boxed_slice(),
            entries: Slab::new(),
        }
    }

    /// Arms `value` for `deadline`. A deadline that has passed already comes out at the next [`expire`](Self::expire).
    ///
    /// # Panics
    /// If more than 2^32 - 2 entries are armed at once.
    pub(crate) fn insert(&mut self, deadline: Instant, value: T) -> TimerKey {
        let index = self.entries.allocate(deadline.as_nanos(), value);
        self.link(index);
        TimerKey { index, generation: self.entries.at(index).generation }
    }

    /// Disarms an entry and returns its value, or `None` if it has come out or was cancelled before.
    pub(crate) fn cancel(&mut self, key: TimerKey) -> Option<T> {
        let entry = self.entries.find(key)?;
        let slot = usize::from(entry.slot);
        self.unlink(slot, key.index);
        self.entries.release(key.index)
    }

    /// How many are armed.
    pub(crate) fn len(&self) -> usize {
        self.entries.used
    }

    /// Gives out every entry whose deadline is at or before `now`, tick by tick. A `now` earlier than one passed before
    /// counts as that one for ordering, but still gives out nothing that lies after it.
    pub(crate) fn expire(&mut self, now: Instant, mut expired: impl FnMut(T)) {
        let now = now.as_nanos();
        let target = tick_of(now).max(self.present);
        while let Some((level, index)) = self.first_slot() {
            let start = self.slot_start(level, index);
            if start > target {
                break;
            }
            // A slot of a higher level is always ahead (see the invariants), one of the lowest may be the present one.
            self.present = start;
            let slot = level * SLOTS + index;
            if level > 0 {
                self.cascade(slot);
                continue;
            }
            if start < tick_of(now) {
                // The whole tick has passed. One at a time, so that a panic in the callback loses nothing.
                while self.slots[slot].head != NIL {
                    self.give_out(slot, self.slots[slot].head, &mut expired);
                }
            } else {
                self.expire_present(slot, now, &mut expired);
                break;
            }
        }
        self.present = target;
    }

    /// When [`expire`](Self::expire) should be called next: never later than the earliest armed deadline; earlier only where
    /// a cancelled entry was the earliest of its slot.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let (level, index) = self.first_slot()?;
        Some(Instant::from_nanos(self.slots[level * SLOTS + index].earliest))
    }

    /// The first occupied slot in time, by the invariant on levels.
    fn first_slot(&self) -> Option<(usize, usize)> {
        let level = self.occupied.iter().position(|&word| word != 0)?;
        Some((level, self.occupied[level].trailing_zeros() as usize))
    }

    /// The first tick of a slot.
    fn slot_start(&self, level: usize, index: usize) -> u64 {
        let shift = SLOT_BITS * level as u32;
        let above = (1u64 << (shift + SLOT_BITS)) - 1;
        (self.present & !above) | ((index as u64) << shift)
    }

    /// Files an entry under the slot that its deadline has as seen from the present.
    fn link(&mut self, index: u32) {
        let deadline = self.entries.at(index).deadline;
        // What is overdue goes to the present slot.
        let tick = tick_of(deadline).max(self.present);
        let differing = (tick ^ self.present) | (SLOTS as u64 - 1);
        let level = (differing.ilog2() / SLOT_BITS) as usize;
        let position = (tick >> (SLOT_BITS * level as u32)) as usize % SLOTS;
        let place = level * SLOTS + position;

        let slot = &mut self.slots[place];
        let previous = slot.tail;
        slot.tail = index;
        slot.earliest = slot.earliest.min(deadline);
        if previous == NIL {
            slot.head = index;
            self.occupied[level] |= 1 << position;
        } else {
            self.entries.at_mut(previous).next = index;
        }
        let entry = self.entries.at_mut(index);
        entry.previous = previous;
        entry.next = NIL;
        entry.slot = place as u16;
    }

    fn unlink(&mut self, place: usize, index: u32) {
        let Entry { next, previous, .. } = *self.entries.at(index);
        match previous {
            NIL => self.slots[place].head = next,
            previous => self.entries.at_mut(previous).next = next,
        }
        match next {
            NIL => self.slots[place].tail = previous,
            next => self.entries.at_mut(next).previous = previous,
        }
        if self.slots[place].head == NIL {
            self.clear(place);
        }
    }

    fn clear(&mut self, place: usize) {
        self.slots[place] = EMPTY_SLOT;
        self.occupied[place / SLOTS] &= !(1 << (place % SLOTS));
    }

    /// Moves the entries of a slot that the present has reached to lower levels, in order.
    fn cascade(&mut self, place: usize) {
        let mut index = self.slots[place].head;
        self.clear(place);
        while index != NIL {
            let next = self.entries.at(index).next;
            self.link(index);
            index = next;
        }
    }

    /// Filters the slot of the present tick by exact deadlines, and makes its bound exact again.
    fn expire_present(&mut self, place: usize, now: u64, expired: &mut impl FnMut(T)) {
        if self.slots[place].earliest > now {
            return;
        }
        let mut earliest = u64::MAX;
        let mut index = self.slots[place].head;
        while index != NIL {
            let Entry { next, deadline, .. } = *self.entries.at(index);
            if deadline <= now {
                self.give_out(place, index, expired);
            } else {
                earliest = earliest.min(deadline);
            }
            index = next;
        }
        self.slots[place].earliest = earliest;
    }

    fn give_out(&mut self, place: usize, index: u32, expired: &mut impl FnMut(T)) {
        self.unlink(place, index);
        if let Some(value) = self.entries.release(index) {
            expired(value);
        }
    }
}

fn tick_of(nanos: u64) -> u64 {
    nanos >> TICK_BITS
}

/// Entries by index, in chunks, with a free list through `next`.
struct Slab<T> {
    chunks: Vec<Box<[Entry<T>]>>,
    free: u32,
    used: usize,
}

impl<T> Slab<T> {
    fn new() -> Slab<T> {
        Slab { chunks: Vec::new(), free: NIL, used: 0 }
    }

    fn allocate(&mut self, deadline: u64, value: T) -> u32 {
        if self.free == NIL {
            self.grow();
        }
        let index = self.free;
        let entry = self.at_mut(index);
        entry.deadline = deadline;
        entry.value = Some(value);
        let next = entry.next;
        self.free = next;
        self.used += 1;
        index
    }

    fn grow(&mut self) {
        let first = u32::try_from(self.chunks.len() * CHUNK).ok().filter(|first| first.checked_add(CHUNK as u32).is_some());
        let first = first.expect("fewer than 2^32 timers of one worker");
        let chunk = (first..first + CHUNK as u32).map(|index| {
            let next = if (index as usize + 1).is_multiple_of(CHUNK) { NIL } else { index + 1 };
            Entry { deadline: 0, next, previous: NIL, generation: 0, slot: FREE, value: None }
        });
        self.chunks.push(chunk.collect());
        self.free = first;
    }

    /// Frees an entry; from here on its key names nothing.
    fn release(&mut self, index: u32) -> Option<T> {
        let free = self.free;
        let entry = self.at_mut(index);
        entry.generation = entry.generation.wrapping_add(1);
        entry.slot = FREE;
        entry.next = free;
        let value = entry.value.take();
        self.free = index;
        self.used -= 1;
        value
    }

    fn find(&self, key: TimerKey) -> Option<&Entry<T>> {
        let entry = self.chunks.get(key.index as usize / CHUNK)?.get(key.index as usize % CHUNK)?;
        (entry.generation == key.generation && entry.slot != FREE).then_some(entry)
    }

    fn at(&self, index: u32) -> &Entry<T> {
        &self.chunks[index as usize / CHUNK][index as usize % CHUNK]
    }

    fn at_mut(&mut self, index: u32) -> &mut Entry<T> {
        &mut self.chunks[index as usize / CHUNK][index as usize % CHUNK]
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
