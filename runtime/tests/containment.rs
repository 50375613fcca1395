//! What the user's destructors, and the payloads of panics, may do at the edges of the runtime: panic, block, begin again.

use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use weald_runtime::sync::Mutex;
use weald_runtime::time::Instant;
use weald_runtime::{
    Builder, Hook, JoinError, Progress, RoundContext, Runtime, coroutine_local, no_park, scope, sleep, spawn, unblock_timeout, yield_now,
};

const LONG: Duration = Duration::from_secs(10);

/// The payload of a panic, which panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        // Of no size: it is forgotten, and leaks no memory.
        resume_unwind(Box::new(()));
    }
}

/// A value that panics with such a payload when it is dropped.
struct Fuse;

impl Drop for Fuse {
    fn drop(&mut self) {
        resume_unwind(Box::new(Bomb));
    }
}

fn runtime() -> Runtime {
    Runtime::builder().workers(1).build().expect("a runtime")
}

#[test]
fn run_is_refused_before_it_spawns_where_nothing_may_block() {
    let runtime = runtime();
    let ran = Arc::new(AtomicBool::new(false));
    let refused = catch_unwind(AssertUnwindSafe(|| {
        let ran = Arc::clone(&ran);
        no_park(|| runtime.run(move || ran.store(true, Ordering::Relaxed)));
    }));
    assert!(refused.is_err());
    runtime.handle().spawn(|| ()).join().expect("no panic");
    assert!(!ran.load(Ordering::Relaxed));
}

#[test]
fn run_is_refused_before_it_spawns_in_a_thread_that_ends() {
    #[derive(Default)]
    struct Seen {
        ran: AtomicBool,
        refused: AtomicBool,
    }
    struct Late(Arc<Runtime>, Arc<Seen>);
    impl Drop for Late {
        fn drop(&mut self) {
            let Self(runtime, seen) = self;
            let refused = catch_unwind(AssertUnwindSafe(|| runtime.run(|| seen.ran.store(true, Ordering::Relaxed)))).is_err();
            seen.refused.store(refused, Ordering::Relaxed);
        }
    }
    thread_local!(static LATE: Cell<Option<Late>> = const { Cell::new(None) });
    let (runtime, seen) = (Arc::new(runtime()), Arc::new(Seen::default()));
    let late = Late(Arc::clone(&runtime), Arc::clone(&seen));
    let ends = move || {
        LATE.set(Some(late));
        // Makes the thread's own parker, which is newer and so destroyed before.
        sleep(Duration::from_millis(1));
    };
    thread::Builder::new().spawn(ends).expect("a thread").join().expect("no panic");
    assert!(seen.refused.load(Ordering::Relaxed), "it cannot wait any more");
    runtime.handle().spawn(|| ()).join().expect("no panic");
    assert!(!seen.ran.load(Ordering::Relaxed));
}

#[test]
fn a_scope_waits_for_its_children_whatever_the_end_of_one_panics_with() {
    static LAST: AtomicBool = AtomicBool::new(false);
    let left = runtime().run(|| {
        let scope = catch_unwind(|| {
            scope(|s| {
                s.spawn(|| {
                    sleep(Duration::from_millis(200));
                    LAST.store(true, Ordering::Relaxed);
                });
                drop(s.spawn(|| Fuse));
            });
        });
        (scope.is_err(), LAST.load(Ordering::Relaxed))
    });
    assert_eq!(left, (true, true));
}

#[test]
fn a_scope_keeps_a_child_that_is_spawned_while_those_are_swept_out_that_panicked() {
    static LAST: AtomicBool = AtomicBool::new(false);
    let left = runtime().run(|| {
        let scope = catch_unwind(|| {
            scope(|s| {
                for _ in 0..64 {
                    drop(s.spawn(|| Fuse));
                }
                for _ in 0..1000 {
                    yield_now();
                }
                s.spawn(|| {
                    sleep(Duration::from_millis(200));
                    LAST.store(true, Ordering::Relaxed);
                });
            });
        });
        (scope.is_err(), LAST.load(Ordering::Relaxed))
    });
    assert_eq!(left, (true, true));
}

#[test]
fn payloads_that_panic_in_their_drop_spare_the_worker() {
    struct Panics;
    impl Hook for Panics {
        fn poll(&mut self, _: &mut RoundContext<'_>) -> Progress {
            resume_unwind(Box::new(Bomb));
        }

        fn flush(&mut self, _: &mut RoundContext<'_>) -> Progress {
            Progress::Idle
        }

        fn next_timeout(&self) -> Option<Instant> {
            None
        }
    }
    coroutine_local!(static LOCAL: Cell<Option<Fuse>> = const { Cell::new(None) });
    let runtime = runtime();
    runtime.run(|| {
        drop(spawn(|| resume_unwind(Box::new(Bomb))));
        drop(spawn(|| Fuse));
        drop(spawn(|| {
            LOCAL.set(Some(Fuse));
            Fuse
        }));
        drop(spawn(|| {
            LOCAL.set(Some(Fuse));
            resume_unwind(Box::new(Bomb));
        }));
    });
    runtime.handle().add_hook(0, |_| Box::new(Panics)).expect("it runs");
    runtime.handle().spawn(|| ()).join().expect("the worker lives");
    runtime.handle().spawn(|| ()).join().expect("the worker lives");
    // What is refused in a shutdown is dropped there.
    let fuse = Fuse;
    runtime.handle().spawn(move || drop(spawn(move || drop(fuse)))).join().expect("no panic");
    assert!(runtime.shutdown(LONG).is_clean());
}

#[test]
fn a_blocking_job_ends_whatever_its_unwanted_result_panics_with() {
    static BEGUN: AtomicBool = AtomicBool::new(false);
    static LEFT: AtomicBool = AtomicBool::new(false);
    let runtime = runtime();
    runtime.run(|| {
        let job = || {
            BEGUN.store(true, Ordering::Relaxed);
            while !LEFT.load(Ordering::Relaxed) {
                sleep(Duration::from_millis(1));
            }
            Fuse
        };
        // Until it is not withdrawn before it begins.
        while !BEGUN.load(Ordering::Relaxed) {
            assert!(unblock_timeout(Duration::from_millis(50), job).is_err());
        }
        LEFT.store(true, Ordering::Relaxed);
    });
    let begun = Instant::now();
    assert!(runtime.shutdown(LONG).is_clean());
    assert!(begun.elapsed() < LONG / 2);
}

#[test]
fn an_unwanted_result_is_dropped_where_it_may_block_and_has_locals() {
    struct Logs(Arc<Mutex<Vec<u32>>>);
    coroutine_local!(static NUMBER: Cell<u32> = const { Cell::new(1) });
    impl Drop for Logs {
        fn drop(&mut self) {
            self.0.lock().push(NUMBER.get());
        }
    }
    runtime().run(|| {
        let log = Arc::new(Mutex::new(Vec::new()));
        let held = log.lock();
        let logs = Logs(Arc::clone(&log));
        drop(spawn(move || {
            NUMBER.set(5);
            logs
        }));
        for _ in 0..10 {
            yield_now();
        }
        drop(held);
        for _ in 0..10 {
            yield_now();
        }
        assert_eq!(*log.lock(), [5]);
    });
}

#[test]
fn values_whose_destructors_make_new_ones_come_to_an_end() {
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    struct Again;
    impl Drop for Again {
        fn drop(&mut self) {
            DROPPED.fetch_add(1, Ordering::Relaxed);
            SELF.with(|_| ());
        }
    }
    struct Other;
    impl Drop for Other {
        fn drop(&mut self) {
            MUTUAL.with(|_| ());
            SELF.with(|_| ());
        }
    }
    coroutine_local! {
        static SELF: Again = Again;
        static MUTUAL: Other = Other;
    }
    let runtime = runtime();
    let mut child = runtime.handle().spawn(|| MUTUAL.with(|_| ()));
    assert_eq!(child.wait_timeout(Duration::from_secs(2)), Ok(()));
    assert!(child.join().is_ok());
    // Some rounds of them, as of pthreads.
    let dropped = DROPPED.load(Ordering::Relaxed);
    assert!((1..100).contains(&dropped), "{dropped}");
}

#[test]
#[cfg_attr(any(miri, weald_baton), ignore = "a coroutine has a thread's stack in the baton backend")]
fn stacks_larger_than_the_address_space_are_refused() {
    let runtime = runtime();
    for size in [usize::MAX, usize::MAX - 40 * 1024, usize::MAX / 2, 1 << 60] {
        let refused = runtime.handle().spawn(move || Builder::new().stack_size(size).spawn(|| ()).join()).join().expect("no panic");
        assert!(matches!(refused, Err(JoinError::NoStack(_))), "{size}");
        let error = Runtime::builder().workers(1).stack_size(size).build().expect_err("no room");
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory, "{size}");
    }
}
