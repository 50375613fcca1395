//! Owns which slots of an arena are free: a common list, and a stock of each worker, so that the lock here is taken once for
//! [`BATCH`] spawns.
//!
//! It does not own their memory: guards are installed and pages given back by whom the caller lends.
//!
//! Invariants:
//! - A slot is free (in the common list or one worker's stock), in use by one stack, or leaked, and then never reused.
//! - A slot is guarded before it is given out the first time.
//! - A free slot holds pages until they are given back: for those that are in no stock, by the worker that had most of them, when it
//!   has nothing else to do. To give back 64 stacks takes 30 us, which coroutines that are due would wait for.

use std::io;
use std::ops::Range;

use crate::primitive::Mutex;

/// Slots that move between the common list and a worker at once, and guards installed at once.
const BATCH: usize = if cfg!(loom) { 1 } else { 64 };

/// The slots of one arena.
#[derive(Debug)]
pub(crate) struct Slots {
    count: u32,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Slots from here on have never been used.
    fresh: u32,
    /// Used slots whose pages were given back.
    free: Vec<u32>,
    /// Used slots that hold pages, and are taken first.
    warm: Vec<u32>,
}

impl Slots {
    /// `count` slots that were never used.
    pub(crate) fn new(count: u32) -> Self {
        Self { count, inner: Mutex::new(Inner { fresh: 0, free: Vec::new(), warm: Vec::new() }) }
    }

    /// How many slots have been given to workers at least once.
    pub(crate) fn used_ever(&self) -> u32 {
        self.inner.lock().fresh
    }

    /// Moves up to [`BATCH`] free slots to `stock`.
    fn refill(&self, stock: &mut Vec<u32>, guard: impl FnOnce(Range<u32>) -> (usize, io::Result<()>)) -> io::Result<()> {
        let mut inner = self.inner.lock();
        let Inner { warm, free, .. } = &mut *inner;
        let used = if warm.is_empty() { free } else { warm };
        if !used.is_empty() {
            stock.extend(last(used));
            return Ok(());
        }
        let first = inner.fresh;
        let end = self.count.min(first + BATCH as u32);
        if first == end {
            return Err(io::Error::new(
                io::ErrorKind::OutOfMemory,
                format!("all {} coroutine stacks are in use (RuntimeBuilder::max_coroutines)", self.count),
            ));
        }
        let (guarded, result) = guard(first..end);
        if guarded == 0 {
            return result;
        }
        inner.fresh = first + guarded as u32;
        // The lowest slot is used first: neighbours share page tables.
        stock.extend((first..inner.fresh).rev());
        Ok(())
    }

    /// Gives the pages of up to [`BATCH`] used slots to the system, through `release`. False: none of them holds any.
    fn cool(&self, release: impl FnOnce(&[u32])) -> bool {
        let slots: Vec<u32> = last(&mut self.inner.lock().warm).collect();
        if slots.is_empty() {
            return false;
        }
        release(&slots);
        self.inner.lock().free.extend(slots);
        true
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        let inner = self.inner.lock();
        inner.free.len() + inner.warm.len()
    }
}

/// Takes the last [`BATCH`] out, or all.
fn last(slots: &mut Vec<u32>) -> impl Iterator<Item = u32> {
    slots.drain(slots.len().saturating_sub(BATCH)..)
}

/// One worker's stock of free slots. The last in is the next out: its pages are warm.
#[derive(Debug)]
pub(crate) struct Stock {
    slots: Vec<u32>,
    /// It has given slots to the common list and not seen to their pages.
    owes: bool,
}

impl Stock {
    /// An empty stock.
    pub(crate) fn new() -> Self {
        Self { slots: Vec::with_capacity(2 * BATCH), owes: false }
    }

    /// A slot, from the common list if there is none in stock. Those that were never used go through `guard`
    /// first, which returns how many it did, in their order, and why not all. Fails as that does, or when all are in use.
    #[inline(always)]
    pub(crate) fn take(&mut self, slots: &Slots, guard: impl FnOnce(Range<u32>) -> (usize, io::Result<()>)) -> io::Result<u32> {
        if self.slots.is_empty() {
            slots.refill(&mut self.slots, guard)?;
        }
        Ok(self.slots.pop().ok_or(io::ErrorKind::OutOfMemory)?)
    }

    /// Takes a slot back. If there are many, the coldest go to the common list, which is then to be [cooled](Self::cool).
    #[inline]
    pub(crate) fn give(&mut self, slot: u32, slots: &Slots) {
        self.slots.push(slot);
        if self.slots.len() >= 2 * BATCH {
            slots.inner.lock().warm.extend(self.slots.drain(..BATCH));
            self.owes = true;
        }
    }

    /// For when there is nothing else to do: gives pages of slots in the common list back, through `release`, if this stock has put
    /// some there. False: that is done.
    #[inline]
    pub(crate) fn cool(&mut self, slots: &Slots, release: impl FnOnce(&[u32])) -> bool {
        self.owes = self.owes && slots.cool(release);
        self.owes
    }

    /// Gives all to the common list, and all pages back, through `release`.
    pub(crate) fn empty(&mut self, slots: &Slots, release: impl Fn(&[u32])) {
        slots.inner.lock().warm.append(&mut self.slots);
        while slots.cool(&release) {}
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::primitive::{Arc, UnsafeCell};
    use crate::wait_list::loom_tests::model;
    use loom::thread;

    /// What lies in a slot's pages.
    const UNGUARDED: u32 = 0;
    const EMPTY: u32 = 1;
    const DIRTY: u32 = 2;

    struct Arena {
        slots: Slots,
        pages: [UnsafeCell<u32>; 4],
    }

    impl Arena {
        /// Replaces what lies in a slot, which nobody else uses.
        fn replace(&self, slot: u32, pages: u32) -> u32 {
            // SAFETY: loom reports it if another thread does the same, not ordered before or after.
            self.pages[slot as usize].with_mut(|place| unsafe { std::mem::replace(&mut *place, pages) })
        }

        fn take(&self, stock: &mut Stock) -> u32 {
            let guard = |slots: Range<u32>| {
                let guarded = slots.map(|slot| assert_eq!(self.replace(slot, EMPTY), UNGUARDED, "a slot is guarded once"));
                (guarded.count(), Ok(()))
            };
            let slot = stock.take(&self.slots, guard).expect("there are enough");
            assert_ne!(self.replace(slot, DIRTY), UNGUARDED);
            slot
        }

        fn release(&self, slots: &[u32]) {
            slots.iter().for_each(|&slot| assert_eq!(self.replace(slot, EMPTY), DIRTY, "pages are given back after their use"));
        }

        fn work(&self) {
            let mut stock = Stock::new();
            let slots = [self.take(&mut stock), self.take(&mut stock)];
            slots.into_iter().for_each(|slot| stock.give(slot, &self.slots));
            stock.cool(&self.slots, |slots| self.release(slots));
            // The one that stayed in stock.
            let slot = self.take(&mut stock);
            stock.give(slot, &self.slots);
            stock.empty(&self.slots, |slots| self.release(slots));
        }
    }

    /// Two workers take stacks, of which one comes from the other's end, and end: no slot is in two hands, none is lost, and the
    /// pages of one are given back before another has it.
    #[test]
    fn loom_stacks_are_recycled() {
        model(|| {
            let arena = Arc::new(Arena { slots: Slots::new(4), pages: [(); 4].map(|()| UnsafeCell::new(UNGUARDED)) });
            let other = {
                let arena = Arc::clone(&arena);
                thread::spawn(move || arena.work())
            };
            arena.work();
            other.join().expect("the other worker does not panic");
            assert_eq!(arena.slots.free(), arena.slots.used_ever() as usize, "none is lost");
        });
    }
}
