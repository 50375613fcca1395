use std::{
    fmt,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use super::*;
use crate::time::Instant;

/// How often stress tests go round: Miri takes a thousand times as long.
const fn rounds(rounds: u64) -> u64 {
    if cfg!(miri) { rounds / 100 } else { rounds }
}

const SHORT: Duration = Duration::from_millis(5);

#[test]
fn mutex_excludes_under_contention() {
    let mutex = Mutex::new((0u64, 0u64));
    thread::scope(|scope| {
        for seed in 0..4 {
            let mutex = &mutex;
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                let mut added = 0;
                while added < rounds(20_000) {
                    let guard = match random.u8(..8) {
                        0 => mutex.try_lock(),
                        1 => mutex.lock_timeout(Duration::from_micros(random.u64(..50))).ok(),
                        _ => Some(mutex.lock()),
                    };
                    if let Some(mut pair) = guard {
                        pair.0 += 1;
                        if random.u8(..64) == 0 {
                            thread::yield_now();
                        }
                        pair.1 += 1;
                        assert_eq!(pair.0, pair.1);
                        added += 1;
                    }
                }
            });
        }
    });
    assert_eq!(mutex.into_inner(), (rounds(80_000), rounds(80_000)));
}

#[test]
fn locks_and_signals_may_be_static() {
    static COUNT: Mutex<u32> = Mutex::new(0);
    static NAMES: RwLock<Vec<&str>> = RwLock::new(Vec::new());
    static CHANGED: Condvar = Condvar::new();
    static PERMITS: Semaphore = Semaphore::new(2);
    static NOTIFY: Notify = Notify::new();
    static BARRIER: Barrier = Barrier::new(1);
    thread::scope(|scope| {
        scope.spawn(|| {
            *COUNT.lock() += 1;
            CHANGED.notify_all();
        });
        drop(CHANGED.wait_while(COUNT.lock(), |count| *count == 0).expect("nobody cancels"));
    });
    NAMES.write().push("static");
    NOTIFY.notify_one();
    NOTIFY.wait().expect("nobody cancels");
    PERMITS.acquire(2).expect("nobody cancels");
    assert!(BARRIER.wait().expect("nobody cancels").is_leader());
    assert_eq!((*COUNT.lock(), NAMES.read().len(), PERMITS.available()), (1, 1, 0));
}

#[test]
fn permits_under_a_guard_go_back_in_a_panic() {
    let permits = Semaphore::new(2);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _guard = permits.acquire_guard(2).expect("nobody cancels");
        assert!(permits.try_acquire_guard(1).is_none(), "both are taken");
        panic!("while the guard lives");
    }));
    assert!(panicked.is_err());
    assert_eq!(permits.available(), 2);
}

#[test]
fn mutex_deadlines_and_try() {
    let mutex = Mutex::new(1);
    let guard = mutex.lock();
    assert!(mutex.try_lock().is_none());
    let start = Instant::now();
    assert_eq!(mutex.lock_timeout(SHORT).err(), Some(LockTimeoutError));
    assert!(start.elapsed() >= SHORT);
    assert_eq!(format!("{mutex:?} {guard:?}"), "Mutex(<locked>) 1");
    drop(guard);
    // The time-out left its mark behind; it must not stay locked or lost.
    assert_eq!(*mutex.lock_deadline(Instant::now()).expect("free"), 1);
    assert_eq!(*mutex.try_lock().expect("free again"), 1);
}

/// Somebody who takes the lock again at once cannot keep it from one who waits.
#[test]
fn mutex_starves_nobody() {
    let mutex = Mutex::new(());
    let acquired = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..20 {
                let _guard = mutex.lock();
                acquired.fetch_add(1, Ordering::Relaxed);
            }
        });
        while acquired.load(Ordering::Relaxed) < 20 {
            let _guard = mutex.lock();
            thread::yield_now();
        }
    });
}

#[test]
fn condvar_passes_turns() {
    let (turn, changed) = (Mutex::new(0), Condvar::new());
    thread::scope(|scope| {
        for player in 0..3 {
            let (turn, changed) = (&turn, &changed);
            scope.spawn(move || {
                for round in 0..rounds(500) {
                    let mine = round * 3 + player;
                    let mut now = changed.wait_while(turn.lock(), |now| *now != mine).unwrap();
                    *now += 1;
                    drop(now);
                    changed.notify_all();
                }
            });
        }
    });
    assert_eq!(turn.into_inner(), 3 * rounds(500));
}

#[test]
fn condvar_times_out_with_the_lock() {
    let (mutex, condvar) = (Mutex::new(0), Condvar::new());
    condvar.notify_one();
    let (mut guard, result) = condvar.wait_timeout(mutex.lock(), SHORT).unwrap();
    assert!(result.timed_out(), "a notification that nobody waited for is not kept");
    *guard += 1;
    let (guard, result) = condvar.wait_deadline(guard, Instant::now()).unwrap();
    assert!(result.timed_out());
    assert!(mutex.try_lock().is_none());
    assert_eq!(*guard, 1);
}

#[test]
fn notify_keeps_one_permit() {
    let notify = Notify::new();
    notify.notify_all();
    assert_eq!(notify.wait_timeout(SHORT), Err(WaitError::Timeout));
    notify.notify_one();
    notify.notify_one();
    notify.wait().unwrap();
    assert_eq!(notify.wait_deadline(Instant::now()), Err(WaitError::Timeout));
}

#[test]
fn notify_ping_pong_misses_nothing() {
    let (ping, pong) = (Notify::new(), Notify::new());
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..rounds(2_000) {
                ping.wait().unwrap();
                pong.notify_one();
            }
        });
        for _ in 0..rounds(2_000) {
            ping.notify_one();
            pong.wait().unwrap();
        }
    });
}

#[test]
fn notify_all_wakes_everyone_who_waits() {
    let notify = Notify::new();
    let woken = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| {
                notify.wait().unwrap();
                woken.fetch_add(1, Ordering::Relaxed);
            });
        }
        while woken.load(Ordering::Relaxed) < 5 {
            notify.notify_all();
            thread::yield_now();
        }
    });
    assert_eq!(notify.wait_deadline(Instant::now()), Err(WaitError::Timeout), "nothing is kept");
}

#[test]
fn semaphore_bounds_those_inside() {
    const PERMITS: usize = 5;
    let semaphore = Semaphore::new(PERMITS);
    let inside = AtomicUsize::new(0);
    thread::scope(|scope| {
        for seed in 0..4 {
            let (semaphore, inside) = (&semaphore, &inside);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                for _ in 0..rounds(5_000) {
                    let permits = random.usize(..=PERMITS);
                    let taken = match random.u8(..4) {
                        0 => semaphore.try_acquire(permits),
                        1 => semaphore.acquire_timeout(permits, Duration::from_micros(random.u64(..50))).is_ok(),
                        _ => semaphore.acquire(permits).is_ok(),
                    };
                    if taken {
                        assert!(inside.fetch_add(permits, Ordering::Relaxed) + permits <= PERMITS);
                        inside.fetch_sub(permits, Ordering::Relaxed);
                        semaphore.release(permits);
                    }
                }
            });
        }
    });
    assert_eq!(semaphore.available(), PERMITS);
}

#[test]
fn semaphore_serves_in_order_and_a_leaver_makes_way() {
    let semaphore = Semaphore::new(1);
    thread::scope(|scope| {
        let greedy = scope.spawn(|| semaphore.acquire_timeout(2, Duration::from_millis(50)));
        // Refused while the greedy one is in line, though a permit is free.
        while semaphore.try_acquire(1) {
            semaphore.release(1);
            thread::yield_now();
        }
        semaphore.acquire(1).unwrap();
        assert_eq!(greedy.join().expect("no panic"), Err(WaitError::Timeout));
    });
    assert_eq!(semaphore.available(), 0);
}

#[test]
fn cancelled_gives_back_and_explains() {
    assert_eq!(Cancelled::new(7).into_inner(), 7);
    assert_eq!(Cancelled::new(()).to_string(), "the caller was cancelled while it waited");
    assert_eq!(waited_for_ever(waited(Outcome::Cancelled)), Err(Cancelled::new(())));
    assert_eq!(waited(Outcome::TimedOut), Err(WaitError::Timeout));
}

/// A contended lock held over a park stops neither the worker nor the other coroutines on it.
#[test]
fn coroutines_share_locks_on_one_worker() {
    let runtime = crate::Runtime::builder().workers(1).build().expect("a runtime");
    runtime.run(|| {
        let shared = std::sync::Arc::new((Mutex::new(0), Condvar::new(), Semaphore::new(2)));
        let adders = [(); 8].map(|()| {
            let shared = shared.clone();
            crate::spawn(move || {
                for _ in 0..rounds(100) {
                    shared.2.acquire(1).unwrap();
                    let mut count = shared.0.lock();
                    let before = *count;
                    crate::yield_now();
                    *count = before + 1;
                    drop(count);
                    shared.2.release(1);
                    shared.1.notify_all();
                }
            })
        });
        let count = shared.1.wait_while(shared.0.lock(), |count| *count < 8 * rounds(100)).unwrap();
        assert_eq!(*count, 8 * rounds(100));
        drop(count);
        adders.into_iter().for_each(|adder| adder.join().expect("no panic"));
    });
}

type Everything = (Mutex<i32>, Condvar, Notify, Semaphore);

#[test]
fn shutdown_cancels_waits_but_not_locks() {
    let runtime = crate::Runtime::builder().workers(1).build().expect("a runtime");
    let shared = std::sync::Arc::new((Mutex::new(0), Condvar::new(), Notify::new(), Semaphore::new(0)));
    let (ready, started) = crate::channel::bounded(8);
    let waiter = |wait: fn(&Everything) -> bool| {
        let (shared, ready) = (shared.clone(), ready.clone());
        runtime.handle().spawn(move || {
            ready.send(()).unwrap();
            wait(&shared)
        })
    };
    let waiters = [
        waiter(|shared| shared.2.wait().is_err()),
        waiter(|shared| shared.3.acquire(1).is_err()),
        waiter(|shared| match shared.1.wait(shared.0.lock()) {
            Ok(_) => false,
            Err(cancelled) => {
                // Blocking although cancelled: the lock is not given up.
                *cancelled.into_inner() += 1;
                *shared.0.lock() += 1;
                true
            }
        }),
    ];
    (0..3).for_each(|_| started.recv().unwrap());
    let _ = runtime.shutdown(Duration::from_secs(5));
    for waiter in waiters {
        assert!(waiter.join().expect("no panic"), "each wait reports the cancellation");
    }
    assert_eq!(*shared.0.lock(), 2);
}

#[test]
fn rw_lock_lends_to_readers_or_to_one_writer() {
    let lock = RwLock::new((0u64, 0u64));
    thread::scope(|scope| {
        for seed in 0..4 {
            let lock = &lock;
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                let mut written = 0;
                while written < rounds(5_000) {
                    let guard = match random.u8(..8) {
                        0 => lock.try_write(),
                        1 => lock.write_timeout(Duration::from_micros(random.u64(..50))).ok(),
                        2 => Some(lock.write()),
                        3 => {
                            if let Ok(pair) = lock.read_timeout(Duration::from_micros(random.u64(..50))) {
                                assert_eq!(pair.0, pair.1);
                            }
                            None
                        }
                        _ => {
                            let pair = lock.read();
                            if random.u8(..64) == 0 {
                                thread::yield_now();
                            }
                            assert_eq!(pair.0, pair.1);
                            None
                        }
                    };
                    if let Some(mut pair) = guard {
                        pair.0 += 1;
                        if random.u8(..64) == 0 {
                            thread::yield_now();
                        }
                        pair.1 += 1;
                        written += 1;
                        if random.bool() {
                            let pair = RwLockWriteGuard::downgrade(pair);
                            assert_eq!(pair.0, pair.1);
                        }
                    }
                }
            });
        }
    });
    assert_eq!(lock.into_inner(), (rounds(20_000), rounds(20_000)));
}

#[test]
fn rw_lock_deadlines_and_line() {
    let lock = RwLock::new(1);
    let reader = lock.read();
    assert_eq!(*lock.read(), 1, "readers share");
    assert!(lock.try_write().is_none());
    assert_eq!(lock.write_timeout(SHORT).err(), Some(LockTimeoutError));
    assert_eq!(*lock.try_read().expect("the writer that gave up holds nobody back"), 1);
    thread::scope(|scope| {
        let writer = scope.spawn(|| *lock.write() += 1);
        while lock.try_read().is_some() {
            thread::yield_now();
        }
        // A waiting writer holds back readers, and one that gives up lets nobody hang.
        assert_eq!(lock.read_timeout(SHORT).err(), Some(LockTimeoutError));
        let late = scope.spawn(|| *lock.read());
        drop(reader);
        writer.join().expect("the writer got it");
        assert_eq!(late.join().expect("the reader got it after the writer"), 2);
    });
    assert_eq!(format!("{lock:?}"), "RwLock(2)");
    let _writer = lock.write();
    assert_eq!(format!("{lock:?}"), "RwLock(<locked>)");
}

#[test]
fn locks_hold_what_has_no_size() {
    let mutex: Box<Mutex<[u8]>> = Box::new(Mutex::new([1, 2, 3]));
    mutex.lock()[1] = 7;
    assert_eq!(format!("{mutex:?}"), "Mutex([1, 7, 3])");
    let lock: Box<RwLock<dyn fmt::Debug + Send + Sync>> = Box::new(RwLock::new("text"));
    assert_eq!(format!("{:?}", lock.read()), "\"text\"");
}

#[test]
fn barrier_meets_again_and_again_with_one_leader() {
    const ROUNDS: usize = if cfg!(miri) { 10 } else { 200 };
    let barrier = Barrier::new(4);
    let (leaders, passed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0..ROUNDS {
                    passed.fetch_add(1, Ordering::Relaxed);
                    if barrier.wait().expect("nobody cancels").is_leader() {
                        leaders.fetch_add(1, Ordering::Relaxed);
                    }
                    assert!(passed.load(Ordering::Relaxed) >= 4 * (round + 1), "all had come");
                }
            });
        }
    });
    assert_eq!(leaders.into_inner(), ROUNDS);
}

#[test]
fn barrier_does_not_count_who_gave_up() {
    let barrier = Barrier::new(2);
    assert_eq!(barrier.wait_timeout(SHORT), Err(WaitError::Timeout));
    assert_eq!(barrier.wait_deadline(Instant::now()), Err(WaitError::Timeout));
    thread::scope(|scope| {
        let other = scope.spawn(|| barrier.wait());
        let leads = [barrier.wait(), other.join().expect("no panic")].map(|result| result.expect("met").is_leader());
        assert_ne!(leads[0], leads[1]);
    });
    assert!(Barrier::new(0).wait().expect("nobody to wait for").is_leader());
}

#[test]
fn wait_group_waits_for_all_parts() {
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        let group = WaitGroup::new();
        for _ in 0..4 {
            let (part, done) = (group.clone(), &done);
            scope.spawn(move || {
                thread::yield_now();
                done.fetch_add(1, Ordering::Relaxed);
                drop(part);
            });
        }
        group.wait().expect("nobody cancels");
        assert_eq!(done.load(Ordering::Relaxed), 4);
    });
    let (group, part) = (WaitGroup::new(), WaitGroup::new());
    let kept = group.clone();
    assert_eq!(group.wait_timeout(SHORT), Err(WaitError::Timeout));
    assert_eq!(kept.wait_deadline(Instant::now()), Ok(()), "the other part went with its wait");
    drop(part);
}

#[test]
fn a_condition_that_never_ends_times_out_and_one_that_does_not_hold_never_waits() {
    let (mutex, condvar) = (Mutex::new(0), Condvar::new());
    let start = Instant::now();
    let (guard, result) = condvar.wait_timeout_while(mutex.lock(), SHORT, |_| true).unwrap();
    assert!(result.timed_out() && start.elapsed() >= SHORT);
    let (guard, result) = condvar.wait_timeout_while(guard, Duration::MAX, |_| false).unwrap();
    assert!(!result.timed_out());
    let (guard, result) = condvar.wait_deadline_while(guard, start, |_| true).unwrap();
    assert!(result.timed_out());
    drop(guard);
    // Notifications that change nothing do not make the time begin anew.
    let over = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while over.load(Ordering::Relaxed) == 0 {
                condvar.notify_all();
                crate::sleep(SHORT / 5);
            }
        });
        let (start, mut looks) = (Instant::now(), 0);
        let waited = condvar.wait_timeout_while(mutex.lock(), 2 * SHORT, |_| {
            looks += 1;
            true
        });
        over.store(1, Ordering::Relaxed);
        assert!(waited.unwrap().1.timed_out() && looks >= 2);
        assert!(start.elapsed() < Duration::from_secs(10));
        scope.spawn(|| {
            *mutex.lock() = 1;
            condvar.notify_one();
        });
        let (guard, result) = condvar.wait_timeout_while(mutex.lock(), Duration::from_secs(60), |value| *value == 0).unwrap();
        assert!(*guard == 1 && !result.timed_out());
    });
}

#[test]
fn a_cell_is_filled_once_and_who_comes_meanwhile_parks() {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    static LAZY: LazyLock<usize> = LazyLock::new(|| {
        crate::sleep(SHORT);
        MADE.fetch_add(1, Ordering::Relaxed) + 7
    });
    // One worker: a cell that blocked it would never be filled.
    let runtime = crate::Runtime::builder().workers(1).build().unwrap();
    runtime.run(|| {
        let cell = OnceLock::new();
        crate::scope(|s| {
            for own in 0..3 {
                let cell = &cell;
                s.spawn(move || {
                    let value = cell.get_or_init(|| {
                        crate::sleep(SHORT);
                        own
                    });
                    assert_eq!(Some(value), cell.get());
                    assert_eq!(*LAZY, 7);
                });
            }
        });
        assert_eq!(cell.set(9), Err(9));
        assert!(cell.into_inner().is_some());
    });
    assert_eq!((*LAZY, MADE.load(Ordering::Relaxed)), (7, 1));
}

#[test]
fn a_cell_stays_empty_after_a_panic_or_an_error() {
    let cell = OnceLock::new();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| cell.get_or_init(|| panic!("no value"))));
    assert!(panicked.is_err() && cell.get().is_none());
    assert_eq!(cell.get_or_try_init(|| Err::<u8, _>("not yet")), Err("not yet"));
    assert_eq!(cell.get_or_try_init(|| Ok::<_, ()>(1)), Ok(&1));
    assert_eq!(cell.clone(), OnceLock::from(1));
    let mut cell = cell;
    assert_eq!((cell.take(), cell.get()), (Some(1), None));
    assert_eq!((cell.set(2), cell.get_mut()), (Ok(()), Some(&mut 2)));
    assert_eq!((format!("{cell:?}"), format!("{:?}", OnceLock::<u8>::default())), ("OnceLock(2)".into(), "OnceLock(<empty>)".into()));
    let lazy: LazyLock<u8> = LazyLock::new(|| panic!("no value"));
    for message in ["no value", "panicked before"] {
        let payload = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| *lazy)).unwrap_err();
        assert!(payload.downcast_ref::<&str>().is_some_and(|text| text.contains(message)));
    }
}

#[test]
fn a_cancelled_lock_takes_a_free_mutex_and_leaves_a_held_one_to_those_behind() {
    let runtime = crate::Runtime::builder().workers(2).build().unwrap();
    runtime.run(|| {
        let (stop, mutex) = (crate::CancellationToken::new(), Mutex::new(0));
        stop.cancel();
        stop.run(|| *mutex.lock_cancellable().expect("it is free") += 1);
        let held = mutex.lock();
        assert!(stop.run(|| mutex.lock_cancellable().is_err()));
        crate::scope(|s| {
            let first = crate::CancellationToken::new();
            let (leaving, mutex) = (first.clone(), &mutex);
            let cancelled = s.spawn(move || leaving.run(|| mutex.lock_cancellable().is_err()));
            crate::sleep(SHORT);
            let patient = s.spawn(|| *mutex.lock() += 1);
            crate::sleep(SHORT);
            first.cancel();
            assert!(cancelled.join().unwrap());
            assert!(!patient.is_finished());
            drop(held);
            patient.join().unwrap();
        });
        assert_eq!(*mutex.lock(), 2);
    });
}

#[test]
fn cancellations_lose_no_lock() {
    let mutex = Mutex::new(0_u64);
    let locked: u64 = thread::scope(|scope| {
        let others: Vec<_> = (0..3)
            .map(|seed| {
                let mutex = &mutex;
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(seed);
                    let mut locked = 0;
                    for _ in 0..rounds(2_000) {
                        let stop = crate::CancellationToken::new();
                        thread::scope(|inner| {
                            if random.bool() {
                                inner.spawn(|| stop.cancel());
                            }
                            stop.run(|| {
                                if let Ok(mut value) = mutex.lock_cancellable() {
                                    *value += 1;
                                    locked += 1;
                                    if random.bool() {
                                        thread::yield_now();
                                    }
                                }
                            });
                        });
                    }
                    locked
                })
            })
            .collect();
        others.into_iter().map(|other| other.join().unwrap()).sum()
    });
    assert_eq!(mutex.into_inner(), locked);
}
