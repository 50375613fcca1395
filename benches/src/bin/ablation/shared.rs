//! Owns what two threads share: words at several distances, and coroutines on two workers.

use std::{
    hint,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Result, anyhow};
use weald_runtime::{Runtime, channel::unbounded, time::Instant};

use super::system;

/// From one word to the other, in bytes: one cache line, neighbouring lines, which processors fetch in pairs, and the next pair.
pub const DISTANCES: [usize; 3] = [128, 64, 8];

const HANDS: u64 = 100_000;
const INCREMENTS: u64 = 20_000_000;
const ROUND_TRIPS: u64 = 50_000;
/// A neighbour that waits for this processor gets it after so many looks.
const LOOKS: u32 = 10_000;

#[repr(align(256))]
struct Words([AtomicU64; 32]);

impl Words {
    fn new() -> Arc<Self> {
        Arc::new(Self([const { AtomicU64::new(0) }; 32]))
    }
}

/// Does both on a thread and processor of its own; nanoseconds of CPU time of each of `count` in the first.
fn both(count: u64, one: impl FnOnce() + Send + 'static, other: impl FnOnce() + Send + 'static) -> Result<f64> {
    let start = |processor, work: Box<dyn FnOnce() + Send>| {
        thread::Builder::new().spawn(move || -> Result<Duration> {
            system::keep_to(processor)?;
            let started = system::thread_time()?;
            work();
            Ok(system::thread_time()? - started)
        })
    };
    let (one, other) = (start(0, Box::new(one))?, start(1, Box::new(other))?);
    let elapsed = one.join().map_err(|_| anyhow!("a thread panicked"))??;
    other.join().map_err(|_| anyhow!("a thread panicked"))??;
    Ok(elapsed.as_nanos() as f64 / count as f64)
}

fn wait_for(word: &AtomicU64, value: u64) {
    let mut looks = 0;
    while word.load(Ordering::Acquire) != value {
        looks += 1;
        if looks % LOOKS == 0 {
            thread::yield_now();
        }
        hint::spin_loop();
    }
}

/// One word is one thread's to write, the other the other's.
pub fn to_and_fro(bytes: usize) -> Result<f64> {
    let (words, second) = (Words::new(), bytes / 8);
    let theirs = Arc::clone(&words);
    let first = move || {
        for number in 1..=HANDS {
            words.0[0].store(number, Ordering::Release);
            wait_for(&words.0[second], number);
        }
    };
    let second = move || {
        for number in 1..=HANDS {
            wait_for(&theirs.0[0], number);
            theirs.0[second].store(number, Ordering::Release);
        }
    };
    both(HANDS, first, second)
}

pub fn counting(bytes: usize) -> Result<f64> {
    let words = Words::new();
    let count = |index: usize| {
        let words = Arc::clone(&words);
        move || {
            for _ in 0..INCREMENTS {
                // As the runtime counts: one writer, no locked instruction.
                words.0[index].store(words.0[index].load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            }
        }
    };
    both(INCREMENTS, count(0), count(bytes / 8))
}

pub fn ping_pong(pinned: bool) -> Result<f64> {
    let runtime = Runtime::builder().workers(2).pin_workers(pinned).build()?;
    let ((ping, pinged), (pong, ponged)) = (unbounded(), unbounded());
    let handle = runtime.handle();
    let partner = handle.spawn_on(1, move || pinged.iter().for_each(|number: u64| pong.send(number).expect("it is received")));
    let asking = handle.spawn_on(0, move || {
        let started = Instant::now();
        for number in 0..ROUND_TRIPS {
            ping.send(number).expect("it is received");
            assert_eq!(ponged.recv(), Ok(number));
        }
        started.elapsed()
    });
    let elapsed = asking.join().map_err(|error| anyhow!("{error}"))?;
    partner.join().map_err(|error| anyhow!("{error}"))?;
    Ok(elapsed.as_nanos() as f64 / ROUND_TRIPS as f64)
}
