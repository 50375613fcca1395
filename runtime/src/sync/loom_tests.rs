//! Models of the locks and signals: exclusion, hand-over, deadlines, and no lost wake-up.

use loom::thread;

use super::*;
use crate::{CancellationToken, primitive::Arc, time::Instant, wait_list::loom_tests::model};

const AT_ONCE: Instant = Instant::from_nanos(0);

/// The cell within the mutex reports two holders at once; a lost wake-up is a deadlock.
#[test]
fn loom_mutex_excludes_and_wakes() {
    model(|| {
        let mutex = Arc::new(Mutex::new(0));
        let others = [(); 2].map(|()| {
            let mutex = mutex.clone();
            thread::spawn(move || *mutex.lock() += 1)
        });
        *mutex.lock() += 1;
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(*mutex.lock(), 3);
    });
}

/// One who was woken, lost, and insists is handed the lock.
#[test]
fn loom_mutex_hands_over() {
    model(|| {
        let mutex = Arc::new(Mutex::new(0));
        let other = {
            let mutex = mutex.clone();
            thread::spawn(move || *mutex.lock() += 1)
        };
        for _ in 0..3 {
            *mutex.lock() += 1;
        }
        other.join().unwrap();
        assert_eq!(*mutex.lock(), 4);
    });
}

#[test]
fn loom_mutex_deadline_against_unlock() {
    model(|| {
        let mutex = Arc::new(Mutex::new(0));
        let patient = {
            let mutex = mutex.clone();
            thread::spawn(move || *mutex.lock() += 1)
        };
        let hasty = {
            let mutex = mutex.clone();
            thread::spawn(move || mutex.lock_deadline(AT_ONCE).map(|mut value| *value += 1).is_ok())
        };
        *mutex.lock() += 1;
        patient.join().unwrap();
        let expected = 2 + i32::from(hasty.join().unwrap());
        assert_eq!(*mutex.lock(), expected);
    });
}

/// One is cancelled while it is woken or handed the lock: the one behind it gets it.
#[test]
fn loom_mutex_cancel_against_hand_over() {
    model(|| {
        let (mutex, stop) = (Arc::new(Mutex::new(0)), CancellationToken::new());
        let held = mutex.lock();
        let hasty = {
            let (mutex, stop) = (mutex.clone(), stop.clone());
            thread::spawn(move || stop.run(|| mutex.lock_cancellable().map(|mut value| *value += 1).is_ok()))
        };
        let patient = {
            let mutex = mutex.clone();
            thread::spawn(move || *mutex.lock() += 1)
        };
        drop(held);
        stop.cancel();
        patient.join().unwrap();
        let expected = 1 + i32::from(hasty.join().unwrap());
        assert_eq!(*mutex.lock(), expected);
    });
}

/// One that has been woken once, and insists, is cancelled as the lock is handed to it.
#[test]
fn loom_mutex_cancel_against_insistence() {
    model(|| {
        let (mutex, stop) = (Arc::new(Mutex::new(0)), CancellationToken::new());
        let hasty = {
            let (mutex, stop) = (mutex.clone(), stop.clone());
            thread::spawn(move || stop.run(|| mutex.lock_cancellable().map(|mut value| *value += 1).is_ok()))
        };
        for _ in 0..2 {
            *mutex.lock() += 1;
        }
        let held = mutex.lock();
        stop.cancel();
        drop(held);
        let expected = 2 + i32::from(hasty.join().unwrap());
        assert_eq!(*mutex.lock(), expected);
    });
}

/// One makes the value, the other sees it; whoever waits is woken.
#[test]
fn loom_once_lock_is_filled_once() {
    model(|| {
        let cell = Arc::new(OnceLock::new());
        let made = Arc::new(crate::primitive::UnsafeCell::new(0));
        let make = |cell: &OnceLock<i32>, made: &crate::primitive::UnsafeCell<i32>| {
            *cell.get_or_init(|| {
                // SAFETY: one makes the value; loom reports it if not.
                made.with_mut(|made| unsafe {
                    *made += 1;
                    *made
                })
            })
        };
        let others = [(); 2].map(|()| {
            let (cell, made) = (cell.clone(), made.clone());
            thread::spawn(move || make(&cell, &made))
        });
        assert_eq!(make(&cell, &made), 1);
        assert_eq!(others.map(|other| other.join().unwrap()), [1; 2]);
        assert_eq!(cell.get(), Some(&1));
    });
}

/// Who fails leaves the cell to the next one, who waits meanwhile.
#[test]
fn loom_once_lock_passes_a_failed_turn_on() {
    model(|| {
        let cell = Arc::new(OnceLock::new());
        let other = {
            let cell = cell.clone();
            thread::spawn(move || cell.get_or_try_init(|| Err::<i32, ()>(())).copied())
        };
        assert_eq!(cell.get_or_init(|| 7), &7);
        assert!(matches!(other.join().unwrap(), Ok(7) | Err(())));
    });
}

#[test]
fn loom_condvar_never_misses() {
    model(|| {
        let shared = Arc::new((Mutex::new(false), Condvar::new()));
        let setter = {
            let shared = shared.clone();
            thread::spawn(move || {
                *shared.0.lock() = true;
                shared.1.notify_one();
            })
        };
        let ready = shared.1.wait_while(shared.0.lock(), |ready| !*ready).unwrap();
        assert!(*ready);
        drop(ready);
        setter.join().unwrap();
    });
}

#[test]
fn loom_condvar_notify_all() {
    model(|| {
        let shared = Arc::new((Mutex::new(false), Condvar::new()));
        let waiters = [(); 2].map(|()| {
            let shared = shared.clone();
            thread::spawn(move || drop(shared.1.wait_while(shared.0.lock(), |ready| !*ready).unwrap()))
        });
        *shared.0.lock() = true;
        shared.1.notify_all();
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    });
}

/// A notification is not spent on one whose deadline came first.
#[test]
fn loom_notify_deadline_against_notify() {
    model(|| {
        let notify = Arc::new(Notify::new());
        let hasty = {
            let notify = notify.clone();
            thread::spawn(move || {
                if notify.wait_deadline(AT_ONCE).is_ok() {
                    notify.notify_one();
                }
            })
        };
        let notifier = {
            let notify = notify.clone();
            thread::spawn(move || notify.notify_one())
        };
        notify.wait().unwrap();
        hasty.join().unwrap();
        notifier.join().unwrap();
    });
}

#[test]
fn loom_semaphore_excludes() {
    model(|| {
        let semaphore = Arc::new(Semaphore::new(1));
        let inside = Arc::new(crate::primitive::UnsafeCell::new(0));
        let enter = |semaphore: &Semaphore, inside: &crate::primitive::UnsafeCell<u32>| {
            semaphore.acquire(1).unwrap();
            // SAFETY: one permit, so one thread at a time; loom reports it if not.
            inside.with_mut(|inside| unsafe { *inside += 1 });
            semaphore.release(1);
        };
        let other = {
            let (semaphore, inside) = (semaphore.clone(), inside.clone());
            thread::spawn(move || enter(&semaphore, &inside))
        };
        enter(&semaphore, &inside);
        other.join().unwrap();
        // SAFETY: the other thread has ended.
        assert_eq!(inside.with(|inside| unsafe { *inside }), 2);
    });
}

/// The first in line wants more than there is and leaves; the one behind it is then served.
#[test]
fn loom_semaphore_leaver_serves_those_behind() {
    model(|| {
        let semaphore = Arc::new(Semaphore::new(1));
        let greedy = {
            let semaphore = semaphore.clone();
            thread::spawn(move || semaphore.acquire_deadline(2, AT_ONCE))
        };
        semaphore.acquire(1).unwrap();
        assert_eq!(greedy.join().unwrap(), Err(WaitError::Timeout));
        assert_eq!(semaphore.available(), 0);
    });
}

/// The cell within the lock reports a writer beside anybody else; a lost wake-up is a deadlock.
#[test]
fn loom_rw_lock_excludes_and_wakes() {
    model(|| {
        let lock = Arc::new(RwLock::new(0));
        let writer = {
            let lock = lock.clone();
            thread::spawn(move || *lock.write() += 1)
        };
        let reader = {
            let lock = lock.clone();
            thread::spawn(move || assert!(*lock.read() <= 2))
        };
        *lock.write() += 1;
        writer.join().unwrap();
        reader.join().unwrap();
        assert_eq!(*lock.read(), 2);
    });
}

/// A writer in line gives up: the reader that it held back comes in beside the one who is inside and stays.
#[test]
fn loom_rw_lock_leaver_lets_readers_in() {
    model(|| {
        let lock = Arc::new(RwLock::new(0));
        let mine = lock.read();
        let hasty = {
            let lock = lock.clone();
            thread::spawn(move || lock.write_deadline(AT_ONCE).map(|mut value| *value += 1).is_ok())
        };
        assert_eq!(*lock.read(), 0);
        drop(mine);
        let written = i32::from(hasty.join().unwrap());
        assert_eq!(*lock.read(), written);
    });
}

/// A writer in line gives up while the reader inside goes: the reader that it held back comes in.
#[test]
fn loom_rw_lock_leaver_serves_those_behind() {
    model(|| {
        let lock = Arc::new(RwLock::new(0));
        let mine = lock.read();
        let hasty = {
            let lock = lock.clone();
            thread::spawn(move || lock.write_deadline(AT_ONCE).map(|mut value| *value += 1).is_ok())
        };
        let patient = {
            let lock = lock.clone();
            thread::spawn(move || *lock.read())
        };
        let seen = *mine;
        assert_eq!(seen, 0);
        drop(mine);
        let written = i32::from(hasty.join().unwrap());
        assert!(patient.join().unwrap() <= written);
        assert_eq!(*lock.write(), written);
    });
}

/// One who gives up as the last one comes has come, or is waited for: never both, never neither.
#[test]
fn loom_barrier_deadline_against_the_last() {
    model(|| {
        let barrier = Arc::new(Barrier::new(2));
        let hasty = {
            let barrier = barrier.clone();
            thread::spawn(move || barrier.wait_deadline(AT_ONCE).is_ok())
        };
        let met = barrier.wait_deadline(AT_ONCE).is_ok();
        assert_eq!(hasty.join().unwrap(), met);
        assert!(barrier.wait_deadline(AT_ONCE).is_err(), "nobody was left behind in the count");
    });
}

#[test]
fn loom_wait_group_wakes() {
    model(|| {
        let group = WaitGroup::new();
        let done = Arc::new(crate::primitive::UnsafeCell::new(0));
        let other = {
            let (part, done) = (group.clone(), done.clone());
            thread::spawn(move || {
                // SAFETY: read only after the wait for this part.
                done.with_mut(|done| unsafe { *done = 1 });
                drop(part);
            })
        };
        group.wait().unwrap();
        // SAFETY: the other part is gone, and with it its use.
        assert_eq!(done.with(|done| unsafe { *done }), 1);
        other.join().unwrap();
    });
}
