//! The end of a runtime: cancellation, unwinding, what is leaked, and that nothing is run or lost meanwhile.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use weald_runtime::net::UdpSocket;
use weald_runtime::time::Instant;
use weald_runtime::{Builder, Runtime, is_cancelled, park, sleep, spawn, spawn_on, yield_now};

struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn runtime() -> Runtime {
    Runtime::builder().workers(2).build().expect("a runtime")
}

#[test]
fn an_idle_runtime_ends_at_once() {
    let start = Instant::now();
    assert!(runtime().shutdown(Duration::from_secs(60)).is_clean());
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn joins_are_cancelled_and_parked_coroutines_unwound() {
    let runtime = runtime();
    let unwound = Arc::new(AtomicBool::new(false));
    let guard = SetOnDrop(Arc::clone(&unwound));
    let (parked, joiner) = runtime.run(|| {
        let parked = spawn_on(0, move || {
            let _guard = guard;
            loop {
                park();
            }
        });
        let inner = spawn_on(1, || {
            loop {
                sleep(Duration::from_secs(3600))
            }
        });
        let joiner = spawn(move || inner.join().expect_err("cancelled").is_cancelled());
        sleep(Duration::from_millis(5));
        (parked, joiner)
    });
    let report = runtime.shutdown(Duration::from_millis(20));
    assert!(report.is_clean(), "{report}");
    assert!(unwound.load(Ordering::Acquire));
    assert!(joiner.join().expect("it returned"));
    assert!(parked.join().map(|never: ()| never).expect_err("unwound").is_shut_down());
}

#[test]
fn a_coroutine_that_only_yields_is_unwound() {
    let runtime = runtime();
    let (started, starts) = std::sync::mpsc::channel();
    let spinning = runtime.handle().spawn(move || {
        started.send(()).expect("the test listens");
        loop {
            yield_now();
        }
    });
    starts.recv().expect("it starts");
    assert!(runtime.shutdown(Duration::from_millis(10)).is_clean());
    assert!(spinning.join().map(|never: ()| never).expect_err("unwound").is_shut_down());
}

#[test]
fn a_coroutine_may_end_by_itself_within_the_grace() {
    let runtime = runtime();
    let (started, starts) = std::sync::mpsc::channel();
    let polite = runtime.handle().spawn(move || {
        started.send(()).expect("the test listens");
        while !is_cancelled() {
            yield_now();
        }
        // Clean-up that takes a while.
        sleep(Duration::from_millis(5));
        "done"
    });
    starts.recv().expect("it starts");
    assert!(runtime.shutdown(Duration::from_secs(10)).is_clean());
    assert_eq!(polite.join().expect("it returned"), "done");
}

#[test]
fn what_swallows_the_unwinding_is_leaked_and_named() {
    let runtime = runtime();
    let handle = runtime.run(|| {
        let stubborn = Builder::new().name("stubborn").spawn(|| {
            loop {
                let _ = catch_unwind(AssertUnwindSafe(park));
            }
        });
        sleep(Duration::from_millis(5));
        stubborn
    });
    let report = runtime.shutdown(Duration::from_millis(10));
    assert!(!report.is_clean());
    assert_eq!(report.leaked.len(), 1, "{report}");
    assert!(report.leaked[0].contains("'stubborn'"), "{report}");
    assert_eq!(report.stuck_workers, [0_usize; 0], "its worker came back: {report}");
    assert!(!handle.is_finished());
}

#[test]
fn nothing_starts_after_the_end() {
    let runtime = runtime();
    let handle = runtime.handle();
    drop(runtime);
    let ran = Arc::new(AtomicUsize::new(0));
    for worker in [None, Some(0), Some(1)] {
        let ran = Arc::clone(&ran);
        let f = move || ran.fetch_add(1, Ordering::Relaxed);
        let late = match worker {
            None => handle.spawn(f),
            Some(worker) => handle.spawn_on(worker, f),
        };
        assert!(late.join().expect_err("too late").is_shut_down());
    }
    assert_eq!(ran.load(Ordering::Relaxed), 0);
    assert!(handle.add_hook(0, |_| unreachable!()).is_err());
}

#[test]
fn a_destructor_that_blocks_during_the_unwinding_gets_an_answer() {
    struct Joins;
    impl Drop for Joins {
        fn drop(&mut self) {
            // Cannot start, and so is an error at once.
            assert!(spawn(|| ()).join().expect_err("shutting down").is_shut_down());
        }
    }
    let runtime = runtime();
    let unwound = runtime.run(|| {
        let child = spawn(|| {
            let _joins = Joins;
            loop {
                park();
            }
        });
        sleep(Duration::from_millis(5));
        child
    });
    assert!(runtime.shutdown(Duration::from_millis(5)).is_clean());
    assert!(unwound.join().map(|never: ()| never).expect_err("unwound").is_shut_down());
}

#[test]
fn spawns_that_race_with_the_end_are_run_or_refused() {
    for _ in 0..50 {
        let runtime = runtime();
        let handle = runtime.handle();
        std::thread::scope(|scope| {
            let spawner = scope.spawn(|| {
                let children: Vec<_> = (0..200).map(|worker| handle.spawn_on(worker % 2, || 1)).collect();
                children.into_iter().map(|child| child.join().unwrap_or(0)).sum::<i32>()
            });
            drop(runtime);
            let ran = spawner.join().expect("every join returns");
            assert!((0..=200).contains(&ran));
        });
    }
}

/// A socket belongs to who uses it: a thread that waits goes on when the runtime that did the waiting for it has ended.
#[test]
fn a_thread_that_waits_on_a_socket_outlives_the_runtime() {
    let runtime = runtime();
    let socket = runtime.run(|| {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        // A coroutine is the first to wait on it, so it is registered with this runtime.
        socket.set_read_timeout(Some(Duration::from_millis(1))).expect("a timeout");
        socket.recv_from(&mut [0; 8]).expect_err("nobody sends");
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        socket
    });
    std::thread::scope(|scope| {
        let receiver = scope.spawn(|| socket.recv_from(&mut [0; 8]).map(|(len, _)| len));
        runtime.run(|| sleep(Duration::from_millis(20)));
        drop(runtime);
        socket.send_to(b"x", socket.local_addr().expect("an address")).expect("the socket is open");
        assert_eq!(receiver.join().expect("no panic").expect("it arrives"), 1);
    });
}

#[test]
fn what_a_stuck_worker_has_not_started_is_refused() {
    let runtime = Runtime::builder().workers(1).build().expect("a runtime");
    let over = Arc::new(AtomicBool::new(false));
    let (handles, children) = std::sync::mpsc::channel();
    let stuck = Arc::clone(&over);
    let _ = runtime.handle().spawn(move || {
        handles.send(spawn(|| 1)).expect("the test listens");
        handles.send(spawn_on(0, || 2)).expect("the test listens");
        while !stuck.load(Ordering::Acquire) {
            std::hint::spin_loop();
        }
    });
    let handle = runtime.handle();
    let children: Vec<_> = [children.recv(), children.recv()].into_iter().map(|child| child.expect("spawned")).collect();
    let from_outside = handle.spawn_on(0, || 3);
    let report = runtime.shutdown(Duration::ZERO);
    assert_eq!(report.stuck_workers, [0], "{report}");
    assert!(from_outside.join().expect_err("never started").is_shut_down());
    let [stealable, pinned] = <[_; 2]>::try_from(children).expect("two");
    assert!(stealable.join().expect_err("never started").is_shut_down());
    // In the stuck worker's own queue, which nobody else may touch: when it comes back.
    assert!(!pinned.is_finished());
    over.store(true, Ordering::Release);
    assert!(pinned.join().expect_err("never started").is_shut_down());
}

#[test]
#[cfg_attr(any(miri, weald_baton), ignore = "the interrupted thread is not the coroutine's in the baton backend")]
fn who_holds_a_worker_is_named_with_the_number_of_its_neighbours() {
    for (watchdog, expected) in [(Some(Duration::from_secs(60)), "coroutine 'spinner' that holds worker 0"), (None, " that holds worker 0")]
    {
        let runtime = Runtime::builder().workers(1).watchdog(watchdog).build().expect("a runtime");
        let over = Arc::new(AtomicBool::new(false));
        let (started, starts) = std::sync::mpsc::channel();
        let stuck = Arc::clone(&over);
        let _ = runtime.handle().spawn(move || {
            let sleeps = Arc::new(AtomicBool::new(false));
            let begun = Arc::clone(&sleeps);
            let _waiter = spawn(move || {
                begun.store(true, Ordering::Release);
                sleep(Duration::from_secs(3600));
            });
            while !sleeps.load(Ordering::Acquire) {
                yield_now();
            }
            let _spinner = Builder::new().name("spinner").spawn(move || {
                started.send(()).expect("the test listens");
                while !stuck.load(Ordering::Acquire) {
                    std::hint::spin_loop();
                }
            });
        });
        starts.recv().expect("it starts");
        let report = runtime.shutdown(Duration::ZERO);
        over.store(true, Ordering::Release);
        assert_eq!(report.stuck_workers, [0], "{report}");
        assert_eq!(report.leaked.len(), 2, "{report}");
        assert!(report.leaked[0].contains(expected), "{report}");
        assert_eq!(report.leaked[1], "1 more coroutine of worker 0");
    }
}

#[test]
fn a_runtime_that_is_dropped_on_its_own_worker_ends_in_the_background() {
    let runtime = runtime();
    let handle = runtime.handle();
    let (dropped, told) = std::sync::mpsc::channel();
    let mut waiting = runtime.handle().spawn(|| {
        loop {
            park();
        }
    });
    let start = Instant::now();
    let _ = handle.spawn(move || {
        drop(runtime);
        dropped.send(start.elapsed()).expect("the test listens");
    });
    assert!(told.recv().expect("it comes back") < Duration::from_millis(190), "it did not wait");
    waiting.wait().expect("not cancelled");
    assert!(waiting.join().map(|never: ()| never).expect_err("unwound").is_shut_down());
    while !handle.dump().ended {
        sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_shutdown_on_one_of_its_own_workers_panics_with_a_reason() {
    let runtime = runtime();
    let handle = runtime.handle();
    let error = handle.spawn(move || runtime.shutdown(Duration::from_secs(1))).join().map(drop).expect_err("it panics");
    assert!(error.to_string().contains("one of the runtime's own workers"), "{error}");
    while !handle.dump().ended {
        sleep(Duration::from_millis(1));
    }
    // Another runtime may be ended there.
    let (outer, inner) = (self::runtime(), self::runtime());
    assert!(outer.run(move || spawn(move || inner.shutdown(Duration::ZERO)).join()).expect("no panic").is_clean());
}
