//! What a coroutine may rely on, and what must not happen whatever it does: thread, panics, destructors, confinement.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, ThreadId};
use std::time::Duration;

use weald_runtime::sync::{Mutex, Notify};
use weald_runtime::{
    CancellationToken, Runtime, coroutine_local, no_park, on_worker_stack, park, shield, sleep, spawn, spawn_local, spawn_on, yield_now,
};

const CHILD: &str = "WEALD_SOUNDNESS_CHILD";

fn runtime() -> Runtime {
    Runtime::builder().workers(2).build().expect("a runtime")
}

/// Notes the thread that drops it.
struct Dropped(Arc<std::sync::Mutex<Vec<ThreadId>>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.lock().expect("not poisoned").push(thread::current().id());
    }
}

#[test]
#[cfg_attr(any(miri, weald_baton), ignore = "a coroutine has a thread of its own in the baton backend")]
fn what_a_coroutine_owns_is_dropped_on_its_thread() {
    coroutine_local!(static KEPT: Cell<Option<Dropped>> = const { Cell::new(None) });
    let runtime = runtime();
    let dropped = Arc::new(std::sync::Mutex::new(Vec::new()));
    let home = runtime.run(|| {
        let (dropped, other) = (Arc::clone(&dropped), Arc::clone(&dropped));
        spawn_on(1, move || {
            // Unwound from a park at shutdown, with a local; never started; and left when it ends.
            let parked = Dropped(Arc::clone(&dropped));
            drop(spawn_local(move || {
                KEPT.set(Some(Dropped(Arc::clone(&parked.0))));
                loop {
                    park();
                }
            }));
            let ended = Dropped(Arc::clone(&dropped));
            spawn_local(move || drop(ended)).join().expect("no panic");
            let unstarted = Dropped(other);
            let home = spawn_local(|| thread::current().id()).join().expect("no panic");
            drop(spawn_local(move || drop(unstarted)));
            home
        })
        .join()
        .expect("no panic")
    });
    assert!(runtime.shutdown(Duration::from_millis(5)).is_clean());
    assert_eq!(*dropped.lock().expect("not poisoned"), [home; 4]);
}

#[test]
fn a_destructor_that_blocks_during_a_panic_is_cancelled_and_never_leaves_the_worker() {
    struct Waits;
    impl Drop for Waits {
        fn drop(&mut self) {
            assert!(thread::panicking());
            assert!(Notify::new().wait().is_err(), "a call that can fail does");
            assert!(shield(|| Notify::new().wait()).is_err(), "a shield does not make it wait");
            yield_now();
        }
    }
    Runtime::builder().workers(1).build().expect("a runtime").run(|| {
        let others = spawn(|| {
            for _ in 0..50 {
                assert!(!thread::panicking(), "the panic of another is not charged to this one");
                yield_now();
            }
        });
        let panicking = spawn(|| {
            let _waits = Waits;
            std::panic::resume_unwind(Box::new("out of the middle"));
        });
        assert!(panicking.join().map(|never: ()| never).expect_err("it panicked").is_panic());
        others.join().expect("no panic");
    });
}

#[test]
fn a_call_that_cannot_fail_aborts_by_name_if_it_would_block_during_a_panic() {
    const TEST: &str = "a_call_that_cannot_fail_aborts_by_name_if_it_would_block_during_a_panic";
    if std::env::var_os(CHILD).is_some() {
        struct Locks(Arc<Mutex<()>>);
        impl Drop for Locks {
            fn drop(&mut self) {
                drop(self.0.lock());
            }
        }
        runtime().run(|| {
            let mutex = Arc::new(Mutex::new(()));
            let _held = mutex.lock();
            let locks = Locks(Arc::clone(&mutex));
            let _ = weald_runtime::Builder::new()
                .name("culprit")
                .spawn(move || {
                    let _locks = locks;
                    std::panic::resume_unwind(Box::new(()));
                })
                .join();
        });
    }
    let output = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", TEST, "--nocapture"])
        .env(CHILD, "1")
        .stdin(Stdio::null())
        .output()
        .expect("the child runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&output.status), Some(6), "{stderr}");
    assert!(stderr.contains("'culprit'") && stderr.contains("soundness.rs"), "{stderr}");
}

#[test]
fn no_park_names_its_place_and_lets_pass_what_need_not_wait() {
    Runtime::builder().workers(1).build().expect("a runtime").run(|| {
        for block in [park as fn(), yield_now, || sleep(Duration::from_millis(1)), || drop(spawn(|| ()).join())] {
            let refused = spawn(move || no_park(block)).join().expect_err("it panicked").to_string();
            assert!(refused.contains("no_park") && refused.contains("soundness.rs"), "{refused}");
        }
        let here = spawn(|| {
            no_park(|| {
                let value = *Mutex::new(5).lock();
                // The worker's stack is not the coroutine's to leave either, and the confinement comes back after it.
                assert!(catch_unwind(|| on_worker_stack(park)).is_err());
                assert!(catch_unwind(park).is_err());
                no_park(|| ());
                assert!(catch_unwind(yield_now).is_err());
                value
            })
        });
        assert_eq!(here.join().expect("no panic"), 5);
        // It is over with its closure, also when that panics.
        let after = spawn(|| {
            let _ = catch_unwind(|| no_park(park));
            sleep(Duration::from_millis(1));
        });
        after.join().expect("it may park again");
    });
    let token = CancellationToken::new();
    assert!(catch_unwind(AssertUnwindSafe(|| no_park(|| token.wait()))).is_err(), "threads are refused alike");
}

#[test]
fn a_shield_ends_with_the_last_phase_of_a_shutdown() {
    let runtime = runtime();
    let shielded = runtime.handle().spawn(|| shield(|| Notify::new().wait()));
    sleep(Duration::from_millis(10));
    assert!(runtime.shutdown(Duration::from_millis(10)).is_clean());
    assert!(shielded.join().expect_err("unwound").is_shut_down());
}

#[test]
fn a_hundred_thousand_parked_coroutines_are_unwound_at_shutdown_without_a_leak() {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    // Where coroutines are threads there are no more than a few.
    const COUNT: usize = if cfg!(miri) {
        20
    } else if cfg!(weald_baton) {
        500
    } else {
        100_000
    };
    let runtime = runtime();
    let dropped = Arc::new(AtomicUsize::new(0));
    let parked = Arc::new(AtomicUsize::new(0));
    runtime.run(|| {
        for _ in 0..COUNT {
            let (counted, parked) = (Counted(Arc::clone(&dropped)), Arc::clone(&parked));
            drop(spawn(move || {
                let _counted = counted;
                parked.fetch_add(1, Ordering::Relaxed);
                loop {
                    park();
                }
            }));
        }
        while parked.load(Ordering::Relaxed) < COUNT {
            yield_now();
        }
    });
    assert_eq!(dropped.load(Ordering::Relaxed), 0);
    let report = runtime.shutdown(Duration::from_millis(1));
    assert!(report.is_clean(), "{report}");
    assert_eq!(dropped.load(Ordering::Relaxed), COUNT);
}
