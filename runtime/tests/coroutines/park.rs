//! The user's own park and unpark: no other call that waits consumes what `unpark` gave.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use weald_runtime::sync::Mutex;
use weald_runtime::{Runtime, channel, current, park, park_timeout, select, sleep, spawn, try_sleep, yield_now};

const LONG: Duration = Duration::from_secs(10);

/// What a coroutine waits for, and what ends that.
type Wait = (Box<dyn FnOnce() + Send>, Box<dyn FnOnce() + Send>);

/// A coroutine finds its flag unset, waits for something else, and then parks. The flag is set, and it is unparked, during that wait, which
/// goes on all the same; and the park ends.
#[track_caller]
fn is_left_alone_by(prepare: fn() -> Wait) {
    let runtime = Runtime::builder().workers(1).build().expect("a runtime");
    // The wait is resumed for nothing before its end, or once for both. The wake comes from its worker, or from elsewhere.
    for (resumed, thread) in [(true, false), (false, false), (true, true), (false, true)] {
        let stuck = runtime.run(|| {
            let (wait, end) = prepare();
            let (waits, set) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
            let (entered, flag) = (Arc::clone(&waits), Arc::clone(&set));
            let mut parked = spawn(move || {
                let mut wait = Some(wait);
                while !flag.load(Ordering::Relaxed) {
                    entered.store(true, Ordering::Relaxed);
                    wait.take().into_iter().for_each(|wait| wait());
                    park();
                }
            });
            while !waits.load(Ordering::Relaxed) {
                yield_now();
            }
            set.store(true, Ordering::Relaxed);
            let waiter = parked.coroutine();
            if thread {
                // Its park is committed when this one has parked.
                sleep(Duration::from_millis(1));
                std::thread::scope(|scope| drop(scope.spawn(|| waiter.unpark())));
            } else {
                waiter.unpark();
            }
            if resumed {
                sleep(Duration::from_millis(1));
            }
            end();
            parked.wait_timeout(LONG).is_err()
        });
        assert!(!stuck, "the wait has eaten what `unpark` gave; resumed: {resumed}, by a thread: {thread}");
    }
}

#[test]
fn a_lock_leaves_the_token_of_park_alone() {
    is_left_alone_by(|| {
        let lock = Arc::new(Mutex::new(()));
        let waiter = Arc::clone(&lock);
        let (locked, told) = channel::bounded(0);
        let (end, ended) = channel::bounded::<()>(0);
        spawn(move || {
            let _guard = lock.lock();
            locked.send(()).expect("the test waits");
            ended.recv().expect("the test goes on");
        });
        told.recv().expect("it is locked");
        (Box::new(move || drop(waiter.lock())), Box::new(move || end.send(()).expect("the holder waits")))
    });
}

#[test]
fn a_channel_leaves_the_token_of_park_alone() {
    is_left_alone_by(|| {
        let (sender, receiver) = channel::bounded(1);
        (Box::new(move || receiver.recv().expect("a message")), Box::new(move || sender.send(()).expect("the receiver waits")))
    });
}

#[test]
fn a_select_leaves_the_token_of_park_alone() {
    is_left_alone_by(|| {
        let (sender, receiver) = channel::bounded(1);
        let (other, silent) = channel::bounded::<()>(1);
        let mut idle = spawn(park);
        let idler = idle.coroutine();
        let wait = move || {
            select! {
                recv(receiver) -> message => message.expect("a message"),
                recv(silent) -> _message => panic!("nobody sends"),
                wait(&mut idle) -> _ended => panic!("nobody wakes it"),
            }
            idler.unpark();
            drop(other);
        };
        (Box::new(wait), Box::new(move || sender.send(()).expect("the select waits")))
    });
}

#[test]
fn a_join_leaves_the_token_of_park_alone() {
    is_left_alone_by(|| {
        let child = spawn(park);
        let waker = child.coroutine();
        (Box::new(move || child.join().expect("no panic")), Box::new(move || waker.unpark()))
    });
}

#[test]
fn a_sleep_leaves_the_token_of_park_alone() {
    const TIME: Duration = Duration::from_millis(20);
    is_left_alone_by(|| (Box::new(|| sleep(TIME)), Box::new(|| ())));
    is_left_alone_by(|| (Box::new(|| try_sleep(TIME).expect("nobody cancels")), Box::new(|| ())));
}

#[test]
fn a_threads_waits_leave_the_token_of_its_park_alone() {
    let (sender, receiver) = channel::bounded(1);
    let thread = current();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            thread.unpark();
            sleep(Duration::from_millis(20));
            sender.send(()).expect("the thread waits");
        });
        receiver.recv().expect("a message");
        let start = weald_runtime::time::Instant::now();
        park_timeout(LONG);
        assert!(start.elapsed() < LONG, "the wait has eaten what `unpark` gave");
    });
}
