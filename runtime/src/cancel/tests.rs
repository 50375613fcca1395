//! Tokens over coroutines and threads: who is told, for how long, and that nothing stays behind.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;

use super::*;
use crate::channel::{self, RecvError, SendError};
use crate::sync::{Mutex as CoMutex, Notify, Semaphore};
use crate::time::Instant;
use crate::{Builder, Runtime, is_cancelled, shield, sleep, spawn, try_sleep};

const LONG: Duration = Duration::from_secs(30);

fn in_runtime<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    Runtime::builder().workers(2).build().expect("a runtime").run(f)
}

fn inside_of(token: &CancellationToken) -> usize {
    token.node().links.lock().inside.len()
}

fn children_of(token: &CancellationToken) -> usize {
    token.node().links.lock().children.len()
}

#[test]
fn a_token_cancels_what_runs_inside_of_it_and_nothing_after() {
    in_runtime(|| {
        let token = CancellationToken::new();
        let (sender, receiver) = channel::bounded::<u8>(0);
        let (inside, is_inside) = mpsc::channel();
        let child = spawn({
            let token = token.clone();
            move || {
                token.run(|| {
                    inside.send(()).expect("the test listens");
                    assert_eq!(receiver.recv(), Err(RecvError::Cancelled));
                    assert_eq!(receiver.recv(), Err(RecvError::Cancelled), "level-triggered");
                    assert!(is_cancelled());
                });
                assert!(!is_cancelled());
                inside.send(()).expect("the test listens");
                receiver.recv_timeout(LONG)
            }
        });
        is_inside.recv().expect("it runs");
        sleep(Duration::from_millis(5));
        assert_eq!(inside_of(&token), 1);
        token.cancel();
        // A second one, and one for whom the token is cancelled from the start.
        token.cancel();
        token.run(|| assert!(is_cancelled() && Semaphore::new(0).acquire(1).is_err()));
        assert!(!is_cancelled());
        is_inside.recv().expect("it has left");
        sender.send_timeout(3, LONG).expect("the child waits after its stay");
        assert_eq!(child.join().expect("no panic"), Ok(3));
        assert_eq!(inside_of(&token), 0);
    });
}

#[test]
fn threads_are_cancelled_alike() {
    let token = CancellationToken::new();
    let notify = Notify::new();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let cancelled = token.run(|| notify.wait().is_err() && is_cancelled());
            (cancelled, is_cancelled())
        });
        while inside_of(&token) == 0 {
            std::thread::yield_now();
        }
        token.cancel();
        assert_eq!(waiting.join().expect("no panic"), (true, false));
    });
    let runtime = Runtime::builder().workers(1).build().expect("a runtime");
    // Waits that hold borrows are not cancelled.
    assert_eq!(token.run(|| runtime.run(|| 5)), 5);
}

#[test]
fn stays_nest_and_any_of_their_tokens_cancels() {
    let (outer, inner) = (CancellationToken::new(), CancellationToken::new());
    outer.run(|| {
        inner.run(|| {
            inner.cancel();
            assert!(is_cancelled());
        });
        assert!(!is_cancelled());
        inner.run(|| outer.cancel());
        assert!(is_cancelled(), "still inside of the outer token");
        assert!(Notify::new().wait().is_err());
    });
    assert!(!is_cancelled());
}

#[test]
fn a_stay_that_unwinds_is_over() {
    let token = CancellationToken::new();
    assert!(catch_unwind(AssertUnwindSafe(|| token.run(|| std::panic::resume_unwind(Box::new(()))))).is_err());
    assert_eq!(inside_of(&token), 0);
    token.cancel();
    assert!(!is_cancelled());
}

#[test]
fn children_follow_their_parent_and_not_the_other_way() {
    let parent = CancellationToken::new();
    let (first, second) = (parent.child_token(), parent.child_token());
    let grandchild = first.child_token();
    second.cancel();
    assert!(!parent.is_cancelled() && !first.is_cancelled());
    // A descendant is reached although what lies between has no handle any more.
    drop(first);
    parent.cancel();
    assert!(grandchild.is_cancelled() && parent.child_token().is_cancelled());
}

#[test]
fn a_parent_keeps_nothing_of_children_that_are_gone() {
    let parent = CancellationToken::new();
    let child = parent.child_token();
    let grandchild = child.child_token();
    drop(child);
    assert_eq!(children_of(&parent), 1, "the grandchild needs it");
    drop(grandchild);
    assert_eq!(children_of(&parent), 0);
    // A chain as long as this would overflow a stack if it were walked by recursion.
    const LONG: u32 = if cfg!(miri) { 30 } else { 100_000 };
    let mut last = parent.child_token();
    for _ in 0..LONG {
        last = last.child_token();
    }
    assert_eq!(children_of(&parent), 1);
    let kept = last.clone();
    drop(last);
    parent.cancel();
    assert!(kept.is_cancelled());
    let mut last = CancellationToken::new();
    for _ in 0..LONG {
        last = last.child_token();
    }
    drop(last);
}

#[test]
fn waits_for_a_token_end_with_it() {
    in_runtime(|| {
        let token = CancellationToken::new();
        assert_eq!(token.wait_timeout(Duration::from_millis(1)), Err(WaitError::Timeout));
        let waiters: Vec<_> = (0..40)
            .map(|_| {
                let token = token.clone();
                spawn(move || token.wait())
            })
            .collect();
        let inside = {
            let token = token.clone();
            spawn(move || token.run(|| token.wait_timeout(LONG)))
        };
        let other = CancellationToken::new();
        let elsewhere = {
            let (token, other) = (token.clone(), other.clone());
            spawn(move || other.run(|| token.wait_timeout(LONG)))
        };
        sleep(Duration::from_millis(5));
        other.cancel();
        assert_eq!(elsewhere.join().expect("no panic"), Err(WaitError::Cancelled));
        token.cancel();
        waiters.into_iter().for_each(|waiter| assert_eq!(waiter.join().expect("no panic"), Ok(())));
        assert_eq!(inside.join().expect("no panic"), Ok(()));
        assert_eq!(token.wait(), Ok(()));
    });
}

#[test]
fn a_token_is_an_arm_of_a_select() {
    in_runtime(|| {
        let token = CancellationToken::new();
        let (sender, receiver) = channel::bounded::<u8>(1);
        let choose = || {
            crate::select! {
                recv(receiver) -> message => message.ok(),
                wait(&token) -> cancelled => {
                    cancelled.expect("by the token alone");
                    None
                }
            }
        };
        sender.send(1).expect("room");
        assert_eq!(choose(), Some(1));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(choose);
            while token.node().links.lock().selecting.is_empty() {
                std::thread::yield_now();
            }
            token.cancel();
            assert_eq!(waiting.join().expect("no panic"), None);
        });
        assert_eq!(choose(), None);
        assert!(token.node().links.lock().selecting.is_empty());
        let other = CancellationToken::new();
        assert!(token.run(|| crate::select! { wait(&other) -> cancelled => cancelled.is_err() }));
        assert!(other.node().links.lock().selecting.is_empty());
        drop(sender);
    });
}

#[test]
fn a_guard_cancels_when_it_is_dropped_unless_disarmed() {
    let token = CancellationToken::new();
    drop(token.clone().drop_guard().disarm());
    assert!(!token.is_cancelled());
    drop(token.clone().drop_guard());
    assert!(token.is_cancelled());
}

#[test]
fn a_handle_cancels_its_coroutine_wherever_it_waits() {
    in_runtime(|| {
        let (sender, receiver) = channel::bounded(0);
        let sending = spawn(move || sender.send("kept"));
        let (sender2, receiver2) = channel::bounded::<u8>(0);
        let receiving = spawn(move || receiver2.recv());
        let sleeping = spawn(|| try_sleep(LONG));
        let joining = spawn(|| spawn(|| try_sleep(LONG)).join().is_err());
        sleep(Duration::from_millis(5));
        let start = Instant::now();
        sending.cancel();
        receiving.cancel();
        sleeping.cancel();
        joining.cancel();
        assert_eq!(sending.join().expect("no panic"), Err(SendError::Cancelled("kept")));
        assert_eq!(receiving.join().expect("no panic"), Err(RecvError::Cancelled));
        assert!(sleeping.join().expect("no panic").is_err());
        assert!(joining.join().expect("no panic"));
        assert!(start.elapsed() < LONG);
        drop((receiver, sender2));
    });
}

#[test]
fn one_cancelled_before_its_first_run_begins_and_is_told() {
    let runtime = Runtime::builder().workers(1).build().expect("a runtime");
    runtime.run(|| {
        let child = spawn(|| (is_cancelled(), try_sleep(LONG).is_err()));
        child.cancel();
        assert_eq!(child.join().expect("no panic"), (true, true));
        let token = CancellationToken::new();
        let builder = || Builder::new().cancellation(token.clone());
        let children = [builder().spawn(is_cancelled), builder().spawn_on(0, is_cancelled), builder().spawn_local(is_cancelled)];
        token.cancel();
        children.into_iter().for_each(|child| assert!(child.join().expect("no panic")));
        assert!(!spawn(is_cancelled).join().expect("no panic"));
        token.run(|| assert!(!spawn(is_cancelled).join().is_ok_and(|cancelled| cancelled), "no inheritance by a spawn"));
    });
}

#[test]
fn calls_that_cannot_fail_and_shielded_ones_wait_all_the_same() {
    in_runtime(|| {
        let lock = std::sync::Arc::new(CoMutex::new(()));
        let held = lock.lock();
        let (sender, receiver) = channel::bounded::<u8>(1);
        let child = spawn({
            let lock = std::sync::Arc::clone(&lock);
            move || {
                let start = Instant::now();
                drop(lock.lock());
                sleep(Duration::from_millis(10));
                let slept = start.elapsed();
                let message = shield(|| {
                    assert!(is_cancelled());
                    shield(|| ());
                    receiver.recv_timeout(LONG)
                });
                (slept, message, receiver.recv())
            }
        });
        child.cancel();
        sleep(Duration::from_millis(5));
        drop(held);
        sleep(Duration::from_millis(30));
        sender.send(1).expect("it listens");
        let (slept, message, after) = child.join().expect("no panic");
        assert!(slept >= Duration::from_millis(10));
        assert_eq!((message, after), (Ok(1), Err(RecvError::Cancelled)));
        drop(sender);
    });
    // A thread's shield.
    let token = CancellationToken::new();
    token.cancel();
    token.run(|| shield(|| assert_eq!(try_sleep(Duration::from_millis(1)), Ok(()))));
}

#[test]
fn a_try_sleep_keeps_the_token_of_others() {
    in_runtime(|| {
        crate::current().unpark();
        try_sleep(Duration::from_millis(1)).expect("not cancelled");
        crate::park();
    });
}

/// Many stays against many cancellations: everybody is told, nobody who has left is, and nothing stays in the lists.
#[test]
fn stays_against_cancellations_from_two_workers() {
    // Coroutines are threads for the tools that cannot follow a switch of stacks.
    const ROUNDS: u32 = if cfg!(miri) {
        2
    } else if cfg!(weald_baton) {
        20
    } else {
        200
    };
    in_runtime(|| {
        for round in 0..ROUNDS {
            let parent = CancellationToken::new();
            let children: Vec<_> = (0..20)
                .map(|number| {
                    let (parent, token) = (parent.clone(), parent.child_token());
                    let home = number % 2;
                    crate::spawn_on(home, move || {
                        parent.run(|| {
                            token.run(|| {
                                if number % 3 == 0 {
                                    crate::yield_now();
                                } else {
                                    assert!(Notify::new().wait().is_err());
                                }
                            });
                        });
                        assert!(!is_cancelled());
                        (token, number)
                    })
                })
                .collect();
            if round % 2 == 0 {
                crate::yield_now();
            }
            parent.cancel();
            for child in children {
                let (token, _) = child.join().expect("no panic");
                assert_eq!(inside_of(&token), 0);
            }
            assert_eq!((inside_of(&parent), children_of(&parent)), (0, 0));
        }
    });
}
