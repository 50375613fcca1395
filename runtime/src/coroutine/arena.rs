//! Owns the memory of all stacks of a runtime: one reserved mapping, cut into slots, with a guard at the low end of each.
//!
//! It does not own the coroutines, nor decide when one ends, nor which slots are free (`slots`). A slot's guard is installed before
//! it is given out the first time, and stays.

use std::fs;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::memory::{self, Mapping, page_size};
use super::slots::{Slots, Stock};
use super::stack::{Bounds, Stack};
use crate::primitive::Mutex;

/// Address space a slot takes by default, its guard included. A slot costs what it touches; the largest frames of our own
/// code are below 16 KiB, and what needs more (TLS) runs on the worker's stack.
pub(crate) const SLOT_SIZE: usize = 128 * 1024;
/// Foreign code compiled without stack probes may step over a small guard; 32 KiB is more than the frames that were met.
pub(crate) const GUARD_SIZE: usize = 32 * 1024;
/// The least that a coroutine can be given: a panic with its message needs about 8 KiB.
const MIN_USABLE: usize = 16 * 1024;

/// All stacks of one runtime.
#[derive(Debug)]
pub(crate) struct Arena {
    mapping: Mapping,
    slot_size: usize,
    slots: Slots,
    guards: Mutex<Guards>,
}

/// How guards are made, as found out at the first batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guards {
    PageTable,
    Mapping,
}

impl Arena {
    /// Reserves room for `max_coroutines` stacks with `usable` bytes each; for fewer if the system refuses so much address
    /// space, which it then says in the log.
    pub(crate) fn new(usable: usize, max_coroutines: usize) -> io::Result<Self> {
        let slot_size = slot_size(usable)?;
        let wanted = u32::try_from(max_coroutines.clamp(1, u32::MAX as usize - 1)).unwrap_or(u32::MAX - 1);
        let mut slots = wanted;
        let mapping = loop {
            match (slots as usize).checked_mul(slot_size).map(Mapping::reserve) {
                Some(Ok(mapping)) => break mapping,
                Some(Err(error)) if slots == 1 => return Err(error),
                _ => slots = (slots / 2).max(1),
            }
        };
        if slots < wanted {
            tracing::warn!(wanted, slots, "the system's limit on address space bounds the number of coroutines");
        }
        Ok(Self { mapping, slot_size, slots: Slots::new(slots), guards: Mutex::new(Guards::PageTable) })
    }

    /// How many slots have been given to workers at least once.
    pub(crate) fn used_ever(&self) -> u32 {
        self.slots.used_ever()
    }

    /// Guards slots, in one system call if the kernel can do that. Returns how many, from the first on, and why not all.
    fn guard(&self, slots: Range<u32>) -> (usize, io::Result<()>) {
        let mut guards = self.guards.lock();
        let is_first = slots.start == 0;
        let offsets = slots.map(|slot| slot as usize * self.slot_size);
        if *guards == Guards::PageTable {
            match self.mapping.install_guards(offsets.clone(), GUARD_SIZE) {
                (0, Err(error)) if error.raw_os_error() == Some(libc::EINVAL) && is_first => {
                    *guards = Guards::Mapping;
                    let limit = mapping_limit();
                    tracing::warn!(limit, "the kernel has no light guards (Linux 6.13): vm.max_map_count bounds the number of coroutines");
                }
                done => return done,
            }
        }
        for (done, offset) in offsets.clone().enumerate() {
            if let Err(error) = self.mapping.protect(offset, GUARD_SIZE) {
                let (slot, limit) = (offset / self.slot_size, mapping_limit());
                let message = format!("no guard for coroutine stack {slot}: {error} (vm.max_map_count allows about {limit})");
                return (done, Err(io::Error::new(error.kind(), message)));
            }
        }
        (offsets.len(), Ok(()))
    }

    /// Gives the pages of slots to the system.
    fn release(&self, slots: &[u32]) {
        let pages: Vec<_> = slots.iter().map(|&slot| self.bounds(slot).pages()).collect();
        // SAFETY: nothing runs on a free slot's stack, and nobody else can take it before it is in the list.
        unsafe { memory::give_back(&pages) };
    }

    fn bounds(&self, slot: u32) -> Bounds {
        Bounds::new(self.mapping.start() + slot as usize * self.slot_size, self.slot_size)
    }

    fn usable(&self) -> usize {
        self.slot_size - GUARD_SIZE
    }
}

/// One worker's stock of free stacks.
#[derive(Debug)]
pub(crate) struct StackCache {
    arena: Arc<Arena>,
    stock: Stock,
}

impl StackCache {
    /// An empty stock that is filled from the arena.
    pub(crate) fn new(arena: Arc<Arena>) -> Self {
        Self { arena, stock: Stock::new() }
    }

    /// A stack of the default size, or with at least `usable` bytes. Fails when the arena is full, or the system is out of
    /// memory.
    // Inlined: the stack is made in registers where it is put.
    #[inline(always)]
    pub(crate) fn take(&mut self, usable: Option<usize>) -> io::Result<Stack> {
        match usable {
            Some(usable) if usable > self.arena.usable() => dedicated(usable),
            _ => {
                let slot = self.stock.take(&self.arena.slots, |slots| self.arena.guard(slots))?;
                // SAFETY: the slot was free and is now the stack's; `arena` keeps the mapping for longer than its coroutines.
                Ok(unsafe { Stack::in_slot(self.arena.bounds(slot), slot) })
            }
        }
    }

    /// Takes back a stack that nothing runs on.
    #[inline]
    pub(crate) fn give(&mut self, stack: Stack) {
        let Some(slot) = stack.release() else { return };
        self.stock.give(slot, &self.arena.slots);
    }

    /// For when there is nothing else to do: gives memory of some stacks that were taken back to the system. False: there is none left.
    pub(crate) fn cool(&mut self) -> bool {
        self.stock.cool(&self.arena.slots, |slots| self.arena.release(slots))
    }
}

impl Drop for StackCache {
    fn drop(&mut self) {
        self.stock.empty(&self.arena.slots, |slots| self.arena.release(slots));
    }
}

fn dedicated(usable: usize) -> io::Result<Stack> {
    let mapping = Mapping::reserve(slot_size(usable)?)?;
    mapping.install_guard(0, GUARD_SIZE).or_else(|_| mapping.protect(0, GUARD_SIZE))?;
    Ok(Stack::dedicated(mapping))
}

/// The size of a slot in which `usable` bytes are left above the guard.
fn slot_size(usable: usize) -> io::Result<usize> {
    let size = usable.max(MIN_USABLE).checked_add(GUARD_SIZE).and_then(|size| size.checked_next_multiple_of(page_size()));
    size.ok_or_else(|| io::Error::new(io::ErrorKind::OutOfMemory, "a stack larger than the address space"))
}

/// How many guards fit when each takes a mapping: a guard splits one mapping in two, and a tenth is left to others.
fn mapping_limit() -> usize {
    fs::read_to_string("/proc/sys/vm/max_map_count")
        .ok()
        .and_then(|text| text.trim().parse::<usize>().ok())
        .map_or(29_000, |count| count / 2 / 10 * 9)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    const USABLE: usize = SLOT_SIZE - GUARD_SIZE;

    #[test]
    fn a_million_slots_are_reserved_and_the_last_in_is_the_next_out() {
        let arena = Arc::new(Arena::new(USABLE, 1 << 20).expect("address space"));
        assert_eq!(arena.slots.count(), 1 << 20);
        let mut cache = StackCache::new(Arc::clone(&arena));
        let first = cache.take(None).expect("a slot");
        let second = cache.take(None).expect("a slot");
        assert_ne!(first.bounds(), second.bounds());
        assert_eq!(first.bounds().usable(), USABLE);
        let bounds = *second.bounds();
        cache.give(second);
        assert_eq!(cache.take(Some(USABLE)).expect("a slot").bounds(), &bounds);
    }

    #[test]
    fn a_full_arena_says_so_and_a_dropped_stock_returns_its_slots() {
        let arena = Arc::new(Arena::new(USABLE, 3).expect("address space"));
        let mut cache = StackCache::new(Arc::clone(&arena));
        let stacks: Vec<_> = (0..3).map(|_| cache.take(None).expect("a slot")).collect();
        let error = cache.take(None).expect_err("three are all");
        assert!(error.to_string().contains("all 3 coroutine stacks"), "{error}");
        stacks.into_iter().for_each(|stack| cache.give(stack));
        drop(cache);
        assert_eq!(arena.slots.free(), 3);
        let mut other = StackCache::new(arena);
        other.take(None).expect("returned by the first");
    }

    #[test]
    fn a_hundred_thousand_unwound_coroutines_return_their_slots() {
        const COUNT: usize = 100_000;
        let runtime = crate::Runtime::builder().workers(2).build().expect("a runtime");
        let arena = Arc::clone(&runtime.handle().shared.arena);
        let started = Arc::new(AtomicUsize::new(0));
        runtime.run(|| {
            for _ in 0..COUNT {
                let started = Arc::clone(&started);
                drop(crate::spawn(move || {
                    started.fetch_add(1, Ordering::Relaxed);
                    loop {
                        crate::park();
                    }
                }));
            }
            while started.load(Ordering::Relaxed) < COUNT {
                crate::yield_now();
            }
        });
        let report = runtime.shutdown(Duration::from_millis(1));
        assert!(report.is_clean(), "{report}");
        assert!(arena.slots.used_ever() as usize >= COUNT);
        assert_eq!(arena.slots.free(), arena.slots.used_ever() as usize);
    }

    #[test]
    fn a_larger_stack_has_its_own_mapping() {
        let arena = Arc::new(Arena::new(USABLE, 1).expect("address space"));
        let mut cache = StackCache::new(arena);
        let stack = cache.take(Some(1 << 20)).expect("a mapping");
        assert!(stack.bounds().usable() >= 1 << 20);
        assert_eq!(stack.release(), None);
    }

    #[test]
    fn pages_above_the_guard_are_usable_and_released_ones_read_as_zero() {
        let arena = Arc::new(Arena::new(USABLE, 200).expect("address space"));
        let mut cache = StackCache::new(Arc::clone(&arena));
        let stack = cache.take(None).expect("a slot");
        let low = stack.bounds().low();
        // SAFETY: the lowest usable byte of a stack that nothing runs on.
        unsafe { low.write(7) };
        cache.give(stack);
        drop(cache);
        // SAFETY: as above; the arena still holds the mapping.
        assert_eq!(unsafe { low.read() }, 0);
    }

    #[test]
    fn stacks_keep_their_pages_until_they_are_cooled() {
        let arena = Arc::new(Arena::new(USABLE, 200).expect("address space"));
        let mut cache = StackCache::new(arena);
        let stacks: Vec<_> = (0..200).map(|_| cache.take(None).expect("a slot")).collect();
        let lows: Vec<_> = stacks.iter().map(|stack| stack.bounds().low()).collect();
        // SAFETY: the lowest usable byte of a stack that nothing runs on; the cache holds the arena, and that its mapping.
        lows.iter().for_each(|low| unsafe { low.write(7) });
        stacks.into_iter().for_each(|stack| cache.give(stack));
        // SAFETY: as above.
        let warm = || lows.iter().filter(|low| unsafe { low.read() } == 7).count();
        assert_eq!(warm(), 200);
        while cache.cool() {}
        assert!((1..128).contains(&warm()), "{} are in stock", warm());
    }

    #[test]
    fn the_fallback_guards_with_mappings() {
        let arena = Arena::new(USABLE, 4).expect("address space");
        *arena.guards.lock() = Guards::Mapping;
        assert!(matches!(arena.guard(0..4), (4, Ok(()))));
        let maps = std::fs::read_to_string("/proc/self/maps").expect("this process");
        let guard = format!("{:x}-{:x} ---p", arena.mapping.start(), arena.mapping.start() + GUARD_SIZE);
        assert!(maps.contains(&guard), "{guard}");
        assert!(mapping_limit() > 1000);
    }
}
