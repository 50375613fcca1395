//! The public API under `--cfg loom`, as a user checks a program with it. `just loom` runs it.
#![cfg(loom)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use weald_runtime::channel::{RecvError, RecvTimeoutError, SendError, TryRecvError, TrySendError, after, bounded, oneshot, unbounded};
use weald_runtime::sync::{Barrier, Condvar, LazyLock, Mutex, Notify, OnceLock, RwLock, Semaphore, WaitGroup};
use weald_runtime::{
    Builder, CancellationToken, JoinError, JoinHandle, current, is_cancelled, loom, park, run, scope, select, shield, spawn, try_sleep,
};

/// `LOOM_MAX_PREEMPTIONS`, or two.
fn model(f: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(2));
    builder.check(f);
}

/// What the crate's documentation shows.
#[test]
fn the_last_worker_to_leave_hands_the_sum_over() {
    model(|| {
        let (numbers, inbox) = bounded(1);
        let adders: Vec<_> = (1..=2)
            .map(|number| {
                let numbers = numbers.clone();
                spawn(move || numbers.send(number).unwrap())
            })
            .collect();
        drop(numbers);
        assert_eq!(inbox.into_iter().sum::<u32>(), 3);
        for adder in adders {
            adder.join().unwrap();
        }
    });
}

/// A program with a race: two look, then both act. The model must find it.
#[test]
fn a_planted_race_is_found() {
    let found = catch_unwind(AssertUnwindSafe(|| {
        model(|| {
            let left = Arc::new(Mutex::new(1));
            let takers = [(); 2].map(|()| {
                let left = Arc::clone(&left);
                spawn(move || {
                    let seen = *left.lock();
                    if seen > 0 {
                        *left.lock() -= 1;
                    }
                })
            });
            takers.into_iter().for_each(|taker| taker.join().unwrap());
            assert!(*left.lock() >= 0, "both took the last one");
        });
    }));
    assert!(found.is_err());
}

/// Two who wait for each other's message: a dead-lock, which the model must find.
#[test]
fn a_planted_dead_lock_is_found() {
    let found = catch_unwind(AssertUnwindSafe(|| {
        model(|| {
            let (a, from_a) = bounded::<u8>(0);
            let (b, from_b) = bounded::<u8>(0);
            let other = spawn(move || {
                a.send(1).unwrap();
                from_b.recv().unwrap()
            });
            b.send(2).unwrap();
            from_a.recv().unwrap();
            other.join().unwrap();
        });
    }));
    assert!(found.is_err());
}

#[test]
fn a_rendezvous_returns_when_the_message_is_taken() {
    model(|| {
        let (sender, receiver) = bounded(0);
        let taken = Arc::new(loom::sync::atomic::AtomicBool::new(false));
        let taking = Arc::clone(&taken);
        let taker = spawn(move || {
            taking.store(true, Ordering::SeqCst);
            receiver.recv()
        });
        sender.send(7).unwrap();
        assert!(taken.load(Ordering::SeqCst));
        assert_eq!(taker.join().unwrap(), Ok(7));
        assert!(sender.send(8).is_err(), "and gives the value back when nobody can take it");
        assert_eq!(sender.try_send(9), Err(TrySendError::Disconnected(9)));
    });
}

/// Whether a deadline passes first is explored both ways, and no message is lost either way.
#[test]
fn a_deadline_passes_or_not() {
    static OUTCOMES: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];
    model(|| {
        let (sender, receiver) = unbounded();
        let other = spawn(move || sender.send(1).unwrap());
        let first = receiver.recv_timeout(Duration::from_secs(1));
        OUTCOMES[usize::from(first.is_ok())].fetch_add(1, Ordering::Relaxed);
        if first != Ok(1) {
            assert_eq!(first, Err(RecvTimeoutError::Timeout));
            assert_eq!(receiver.recv(), Ok(1));
        }
        other.join().unwrap();
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
    });
    assert!(OUTCOMES.iter().all(|outcome| outcome.load(Ordering::Relaxed) > 0));
}

#[test]
fn a_select_takes_each_message_once() {
    model(|| {
        let (numbers, inbox) = unbounded();
        let (answer, question) = oneshot::channel();
        let _stays_connected = numbers.clone();
        let mut sender: JoinHandle<()> = spawn(move || {
            numbers.send(1).unwrap();
            answer.send(2).unwrap();
        });
        let mut sum = 0;
        while sum < 3 {
            select! {
                recv(inbox) -> one => sum += one.unwrap(),
                recv(question) -> two => sum += two.unwrap(),
            }
        }
        select! {
            wait(&mut sender) -> () => {}
        }
        sender.join().unwrap();
        select! {
            recv(after(Duration::from_secs(1))) -> _ => {}
            default => panic!("the time has come"),
        }
        assert_eq!(sum, 3);
    });
}

#[test]
fn locks_and_signals() {
    model(|| {
        run(|| {
            let shared = Arc::new((Mutex::new(0), Condvar::new(), Semaphore::new(0), RwLock::new(0)));
            let other = {
                let shared = Arc::clone(&shared);
                spawn(move || {
                    *shared.3.write() += 1;
                    shared.2.release(1);
                    *shared.0.lock() = 1;
                    shared.1.notify_one();
                })
            };
            let ready = shared.1.wait_while(shared.0.lock(), |ready| *ready == 0).unwrap();
            assert_eq!(*ready, 1);
            drop(ready);
            shared.2.acquire(1).unwrap();
            assert_eq!(*shared.3.read(), 1);
            other.join().unwrap();
        });
    });
}

#[test]
fn barriers_groups_and_tokens() {
    model(|| {
        let barrier = Arc::new(Barrier::new(2));
        let notify = Arc::new(Notify::new());
        let group = WaitGroup::new();
        let me = current();
        let other = {
            let (barrier, notify, part) = (Arc::clone(&barrier), Arc::clone(&notify), group.clone());
            spawn(move || {
                me.unpark();
                let leads = barrier.wait().unwrap().is_leader();
                notify.notify_one();
                drop(part);
                leads
            })
        };
        park();
        let leads = barrier.wait().unwrap().is_leader();
        notify.wait().unwrap();
        group.wait().unwrap();
        assert_ne!(other.join().unwrap(), leads);
    });
}

/// A service and its client, which a token ends: whatever the order, a message is answered, given back, or still in the channel.
#[test]
fn a_token_ends_waits_and_loses_no_message() {
    static ENDS: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];
    model(|| {
        let stop = CancellationToken::new();
        let (jobs, inbox) = bounded(0);
        let service = {
            let stop = stop.child_token();
            spawn(move || stop.run(|| inbox.recv()))
        };
        let stopper = {
            let stop = stop.clone();
            spawn(move || stop.cancel())
        };
        let sent = stop.run(|| jobs.send(7));
        ENDS[usize::from(sent.is_ok())].fetch_add(1, Ordering::Relaxed);
        match (sent, service.join().unwrap()) {
            (Ok(()), Ok(7)) | (Err(SendError::Cancelled(7) | SendError::Disconnected(7)), Err(RecvError::Cancelled)) => {}
            ended => panic!("{ended:?}"),
        }
        stopper.join().unwrap();
    });
    assert!(ENDS.iter().all(|count| count.load(Ordering::Relaxed) > 0), "both were tried");
}

#[test]
fn inside_of_a_cancelled_token_waits_return_and_a_shield_waits() {
    model(|| {
        let stop = CancellationToken::new();
        let (sender, receiver) = unbounded::<u8>();
        let (mutex, condvar, semaphore, barrier) = (Mutex::new(()), Condvar::new(), Semaphore::new(0), Barrier::new(2));
        let guard = stop.clone().drop_guard();
        let other = spawn(move || drop(guard));
        let (first, second) = stop.run(|| {
            assert!(stop.wait().is_ok() && is_cancelled());
            assert!(condvar.wait(mutex.lock()).is_err() && semaphore.acquire(1).is_err() && barrier.wait().is_err());
            assert!(Notify::new().wait().is_err() && try_sleep(Duration::from_secs(1)).is_err());
            let chosen = select! {
                recv(receiver) -> message => message,
            };
            assert_eq!(chosen, Err(RecvError::Cancelled));
            let late = spawn(move || sender.send(1).unwrap());
            let told = shield(|| receiver.recv());
            (told, late.join())
        });
        assert_eq!(first, Ok(1));
        assert!(matches!(second, Ok(()) | Err(JoinError::Cancelled)));
        assert!(!is_cancelled());
        other.join().unwrap();
    });
}

/// A handle outlives a wait that was cancelled, and so does the result.
#[test]
fn loom_a_cancelled_wait_keeps_the_handle() {
    loom::model(|| {
        let stop = CancellationToken::new();
        let mut child = spawn(|| 7);
        let stopper = stop.clone();
        let other = spawn(move || stopper.cancel());
        let ended = stop.run(|| child.wait()).is_ok();
        assert!(!ended || child.is_finished());
        let child = child.try_join().map_or_else(|child| child.join(), |joined| joined);
        assert_eq!(child.unwrap(), 7);
        other.join().unwrap();
    });
}

/// What is made once is made once, and a mutex is locked by one who is not cancelled.
#[test]
fn loom_cells_and_locks_of_the_cancelled() {
    loom::model(|| {
        let (cell, stop) = (Arc::new(OnceLock::new()), CancellationToken::new());
        let (other, stopper) = (cell.clone(), stop.clone());
        let child = spawn(move || {
            stopper.cancel();
            *other.get_or_init(|| 1)
        });
        let mine = *cell.get_or_init(|| 2);
        assert_eq!(child.join().unwrap(), mine);
        let mutex = Mutex::new(LazyLock::<u32>::default());
        assert!(stop.run(|| mutex.lock_cancellable().is_ok_and(|lazy| **lazy == 0)));
    });
}

/// What a scope's coroutines did is there when it returns, in every order; and a panic reaches its join, or the scope.
#[test]
fn loom_a_scope_waits_and_tells_of_panics() {
    model(|| {
        let (counted, mut list) = (loom::cell::UnsafeCell::new(0), vec![1]);
        let sum = scope(|s| {
            // SAFETY: the only use until the scope has ended; loom reports it if not.
            let child = s.spawn_local(|| counted.with_mut(|counted| unsafe { *counted += 1 }));
            s.spawn(|| list.push(2));
            let mut panicked = Builder::new().name("panics").spawn_scoped(s, || std::panic::resume_unwind(Box::new(7)));
            select! {
                wait(&mut panicked) -> () => {}
            }
            let payload = panicked.join().map(|never: ()| never).expect_err("it panicked").into_panic();
            child.join().unwrap();
            payload.and_then(|payload| payload.downcast::<i32>().ok())
        });
        assert_eq!((sum.as_deref(), list.as_slice()), (Some(&7), &[1, 2][..]));
        // SAFETY: the scope has ended.
        assert_eq!(counted.with(|counted| unsafe { *counted }), 1);
        let unheard = catch_unwind(AssertUnwindSafe(|| {
            scope(|s| {
                let _ = s.spawn(|| std::panic::resume_unwind(Box::new(())));
            });
        }));
        assert!(unheard.is_err());
    });
}

/// A scope's coroutines are inside of their caller's tokens.
#[test]
fn loom_a_scope_passes_tokens_on() {
    model(|| {
        let (stop, (_sender, receiver)) = (CancellationToken::new(), bounded::<u8>(1));
        let told = stop.run(|| {
            scope(|s| {
                let child = s.spawn(|| receiver.recv());
                stop.cancel();
                shield(|| child.join()).unwrap()
            })
        });
        assert_eq!(told, Err(RecvError::Cancelled));
    });
}

#[test]
fn loom_a_builder_gives_a_token() {
    model(|| {
        let (stop, (_sender, receiver)) = (CancellationToken::new(), bounded::<u8>(1));
        let child = Builder::new().cancellation(stop.clone()).spawn(move || receiver.recv());
        stop.cancel();
        assert_eq!(child.join().unwrap(), Err(RecvError::Cancelled));
    });
}
