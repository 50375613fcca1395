//! The wheel against a sorted model, and its edges.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::BuildHasherDefault;

use super::{FREE, TimerKey, TimerWheel};
use crate::time::Instant;

type Map<K, V> = HashMap<K, V, BuildHasherDefault<std::hash::DefaultHasher>>;

fn at(nanos: u64) -> Instant {
    Instant::from_nanos(nanos)
}

fn expired(wheel: &mut TimerWheel<u64>, now: u64) -> Vec<u64> {
    let mut out = Vec::new();
    wheel.expire(at(now), |value| out.push(value));
    out
}

/// How many entries are armed.
fn len(wheel: &TimerWheel<u64>) -> usize {
    wheel.entries.chunks.iter().flatten().filter(|entry| entry.slot != FREE).count()
}

/// A random distance, spread over all magnitudes.
fn distance(rng: &mut fastrand::Rng) -> u64 {
    let bits = rng.u32(0..64);
    rng.u64(..) >> bits
}

/// Random inserts, cancels, rearms and steps must give the same sets as a heap of (deadline, id).
fn compare_with_model(seed: u64, steps: usize, longest: u64) {
    let steps = if cfg!(miri) { steps / 20 } else { steps };
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut now = rng.u64(..1 << 40);
    let mut wheel = TimerWheel::new(at(now));
    let mut model = BinaryHeap::new();
    let mut armed: Map<u64, (u64, TimerKey)> = Map::default();
    let mut ids = Vec::new();
    for id in 0..steps as u64 {
        match rng.u32(0..10) {
            0..5 => {
                let deadline = now.saturating_add(distance(&mut rng).min(longest));
                let deadline = if rng.u32(0..20) == 0 { deadline.saturating_sub(50_000) } else { deadline };
                armed.insert(id, (deadline, wheel.insert(at(deadline), id)));
                model.push(Reverse((deadline, id)));
                ids.push(id);
            }
            5..8 if !ids.is_empty() => {
                let id = ids.swap_remove(rng.usize(..ids.len()));
                let Some((_, key)) = armed.remove(&id) else { continue };
                assert_eq!(wheel.cancel(key), Some(id), "seed {seed}");
                assert_eq!(wheel.cancel(key), None, "seed {seed}: a key works once");
            }
            8 => {
                // Exactly to what the wheel asks for: it must make progress and never be late.
                let next = wheel.next_deadline().map(Instant::as_nanos);
                let earliest = armed.values().map(|&(deadline, _)| deadline).min();
                assert_eq!(next.is_some(), earliest.is_some(), "seed {seed}");
                assert!(next <= earliest, "seed {seed}: {next:?} is after {earliest:?}");
                now = now.max(next.unwrap_or(now));
            }
            _ => now = now.saturating_add(distance(&mut rng).min(longest)),
        }
        let mut got = expired(&mut wheel, now);
        let mut want = Vec::new();
        while let Some(&Reverse((deadline, id))) = model.peek() {
            if deadline > now {
                break;
            }
            model.pop();
            if armed.remove(&id).is_some() {
                want.push(id);
            }
        }
        got.sort_unstable();
        want.sort_unstable();
        assert_eq!(got, want, "seed {seed} at {now}");
        assert_eq!(len(&wheel), armed.len(), "seed {seed}");
        if let Some(next) = wheel.next_deadline() {
            assert!(next > at(now), "seed {seed}: nothing due is left, so no wake-up may be due");
        }
    }
}

#[test]
fn agrees_with_a_heap_over_short_times() {
    for seed in 0..if cfg!(miri) { 2 } else { 40 } {
        compare_with_model(seed, 2_000, 100_000_000);
    }
}

#[test]
fn agrees_with_a_heap_over_all_times() {
    for seed in 100..if cfg!(miri) { 102 } else { 140 } {
        compare_with_model(seed, 2_000, 1 << 58);
    }
}

#[test]
fn agrees_with_a_heap_up_to_the_end_of_time() {
    for seed in 200..if cfg!(miri) { 202 } else { 220 } {
        compare_with_model(seed, 500, u64::MAX);
    }
}

#[test]
fn never_early_and_exact_to_the_nanosecond() {
    for deadline in [1, 8_191, 8_192, 8_193, 524_287, 524_288, 1_000_000, 1 << 33, (1 << 51) + 7, u64::MAX - 1, u64::MAX] {
        let mut wheel = TimerWheel::new(at(0));
        wheel.insert(at(deadline), 1);
        assert_eq!(wheel.next_deadline(), Some(at(deadline)));
        assert_eq!(expired(&mut wheel, deadline - 1), []);
        assert_eq!(wheel.next_deadline(), Some(at(deadline)));
        assert_eq!(expired(&mut wheel, deadline), [1]);
        assert_eq!(wheel.next_deadline(), None);
    }
}

#[test]
fn a_passed_deadline_comes_out_at_once() {
    let mut wheel = TimerWheel::new(at(1_000_000_000));
    wheel.insert(at(0), 7);
    assert_eq!(wheel.next_deadline(), Some(at(0)));
    assert_eq!(expired(&mut wheel, 1_000_000_000), [7]);
}

#[test]
fn a_clock_that_steps_back_gives_nothing_early() {
    let mut wheel = TimerWheel::new(at(1_000_000_000));
    wheel.insert(at(1_000_000_500), 7);
    wheel.insert(at(900_000_000), 8);
    assert_eq!(expired(&mut wheel, 800_000_000), []);
    assert_eq!(expired(&mut wheel, 950_000_000), [8]);
    assert_eq!(expired(&mut wheel, 1_000_000_500), [7]);
}

#[test]
fn one_deadline_keeps_the_order_of_insertion() {
    let mut wheel = TimerWheel::new(at(5));
    let deadline = at(10_000_000_000);
    for id in 0..100 {
        wheel.insert(deadline, id);
    }
    // Inserted from much nearer, so at another level at first.
    assert_eq!(expired(&mut wheel, 9_999_990_000), []);
    for id in 100..200 {
        wheel.insert(deadline, id);
    }
    assert_eq!(expired(&mut wheel, 10_000_000_000), (0..200).collect::<Vec<_>>());
}

#[test]
fn a_cancelled_earliest_entry_cannot_make_a_busy_loop() {
    let mut wheel = TimerWheel::new(at(0));
    let first = wheel.insert(at(100), 1);
    wheel.insert(at(200), 2);
    assert_eq!(wheel.cancel(first), Some(1));
    // Too early is allowed once; then the bound is exact.
    assert_eq!(expired(&mut wheel, 150), []);
    assert_eq!(wheel.next_deadline(), Some(at(200)));
}

#[test]
fn a_key_outlives_its_entry_harmlessly() {
    let mut wheel = TimerWheel::new(at(0));
    let old = wheel.insert(at(100), 1);
    assert_eq!(expired(&mut wheel, 100), [1]);
    let new = wheel.insert(at(200), 2);
    assert_eq!(wheel.cancel(old), None, "the place is reused, the generation is not");
    assert_eq!(wheel.cancel(new), Some(2));
    assert_eq!(len(&wheel), 0);
}

#[test]
fn a_panic_in_the_callback_loses_no_other_entry() {
    let mut wheel = TimerWheel::new(at(0));
    for id in 0..4u64 {
        wheel.insert(at(10), id);
    }
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| wheel.expire(at(1_000_000), |_| panic!("once"))));
    assert!(panicked.is_err());
    assert_eq!(expired(&mut wheel, 1_000_000), [1, 2, 3]);
}

#[test]
fn memory_is_reused() {
    let mut wheel = TimerWheel::new(at(0));
    for round in 0..if cfg!(miri) { 2 } else { 100 } {
        let keys: Vec<_> = (0..1_000).map(|id| wheel.insert(at(round * 1_000 + id), id)).collect();
        for key in keys {
            wheel.cancel(key);
        }
    }
    assert_eq!(wheel.entries.chunks.len(), 4);
}
