//! Many simulations, on several processors.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Runs `simulation` with each seed of `seeds` once, on `threads` threads, in about their order.
///
/// # Panics
///
/// If a simulation panics, once the other threads have ended.
pub fn for_each(seeds: Range<u64>, threads: usize, simulation: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(seeds.start);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    // Relaxed: a count, which orders nothing else.
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    simulation(seed);
                }
            });
        }
    });
}

/// As many threads as there are processors.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}
