//! Scopes: borrows, results, panics, cancellation, and their end in a shutdown.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use weald_runtime::sync::{Semaphore, WaitError};
use weald_runtime::time::Instant;
use weald_runtime::{
    Builder, CancellationToken, JoinError, Runtime, is_cancelled, no_park, park, scope, select, sleep, spawn, try_sleep, worker_index,
    yield_now,
};

const LONG: Duration = Duration::from_secs(30);

fn runtime() -> Runtime {
    Runtime::builder().workers(2).build().expect("a runtime")
}

#[test]
fn children_borrow_and_have_ended_when_the_scope_returns() {
    runtime().run(|| {
        let mut numbers = vec![1, 2, 3];
        let sum = AtomicUsize::new(0);
        let length = scope(|s| {
            s.spawn(|| {
                yield_now();
                numbers.push(4);
            });
            for worker in 0..2 {
                let sum = &sum;
                s.spawn_on(worker, move || {
                    assert_eq!(worker_index(), Some(worker));
                    // A child spawns into the scope that waits for it.
                    s.spawn(move || {
                        sleep(Duration::from_millis(2));
                        sum.fetch_add(1, Ordering::Relaxed);
                    });
                });
            }
            s.spawn(|| "result".len()).join().expect("no panic")
        });
        assert_eq!((length, numbers.len(), sum.into_inner()), (6, 4, 2));
    });
}

#[test]
fn a_cancelled_wait_for_a_scoped_coroutine_keeps_its_result() {
    runtime().run(|| {
        let (stop, go) = (CancellationToken::new(), Semaphore::new(0));
        stop.cancel();
        scope(|s| {
            let mut child = s.spawn(|| go.acquire(1).map(|()| "kept"));
            assert!(stop.run(|| child.wait()).is_err());
            assert_eq!(stop.run(|| child.wait_timeout(LONG)), Err(WaitError::Cancelled));
            let lost = s.spawn(|| ());
            assert!(matches!(stop.run(|| lost.join()), Ok(()) | Err(JoinError::Cancelled)));
            go.release(1);
            assert_eq!(child.join().expect("no panic"), Ok("kept"));
        });
    });
}

#[test]
fn a_scoped_coroutine_is_an_arm_of_a_select() {
    runtime().run(|| {
        let (stop, go) = (CancellationToken::new(), Semaphore::new(0));
        scope(|s| {
            let mut slow = s.spawn(|| go.acquire(1).map(|()| "slow"));
            let mut quick = s.spawn(|| "quick");
            select! {
                wait(&mut slow) -> () => panic!("it waits"),
                wait(&mut quick) -> () => assert_eq!(quick.join().expect("no panic"), "quick"),
            }
            select! {
                wait(&mut slow) -> () => panic!("it waits"),
                default(Duration::from_millis(2)) => go.release(1),
            }
            select! {
                wait(&mut slow) -> () => (),
                wait(&stop) -> _ => panic!("nobody cancels"),
            }
            // Chosen, and not taken: the result is still there.
            assert_eq!(slow.wait(), Ok(()));
            assert_eq!(slow.join().expect("no panic"), Ok("slow"));
            let mut panicked = s.spawn(|| std::panic::resume_unwind(Box::new(())));
            select! {
                wait(&mut panicked) -> () => assert!(panicked.join().map(|never: ()| never).expect_err("it panicked").is_panic()),
                default(LONG) => panic!("it has ended"),
            }
        });
    });
}

#[test]
fn a_panic_that_was_waited_for_and_not_taken_goes_through_the_scope() {
    runtime().run(|| {
        let outcome = std::panic::catch_unwind(|| {
            scope(|s| {
                let mut child = s.spawn(|| std::panic::resume_unwind(Box::new(())));
                child.wait().expect("not cancelled");
                select! {
                    wait(&mut child) -> () => (),
                }
            });
        });
        assert!(outcome.is_err());
    });
}

#[test]
fn a_handle_cancels_asks_and_waits_as_long_as_it_is_told() {
    runtime().run(|| {
        let borrowed = AtomicUsize::new(7);
        scope(|s| {
            let child = s.spawn(|| (try_sleep(LONG).is_err(), borrowed.load(Ordering::Relaxed)));
            assert!(!child.is_finished());
            let mut child = child.try_join().expect_err("it sleeps");
            assert_eq!(child.wait_timeout(Duration::from_millis(2)), Err(WaitError::Timeout));
            assert_eq!(child.wait_deadline(Instant::now()), Err(WaitError::Timeout));
            child.cancel();
            assert_eq!(child.wait_timeout(LONG), Ok(()));
            assert_eq!(child.wait(), Ok(()));
            assert_eq!(child.join().expect("no panic"), (true, 7));
            let ended = s.spawn(|| 3);
            while !ended.is_finished() {
                yield_now();
            }
            assert_eq!(ended.try_join().expect("it has ended").expect("no panic"), 3);
            // A panic that was seen here does not go through the scope.
            let panicked = s.spawn(|| std::panic::resume_unwind(Box::new(())));
            while !panicked.is_finished() {
                yield_now();
            }
            assert!(panicked.try_join().expect("it has ended").map(|never: ()| never).expect_err("it panicked").is_panic());
        });
    });
}

#[test]
fn a_builder_names_scoped_children_sizes_their_stacks_and_puts_them_under_a_token() {
    let runtime = runtime();
    let token = CancellationToken::new();
    let borrowed = String::from("borrowed");
    // From a plain thread as well.
    let (name, sum, cancelled) = runtime.handle().scope(|s| {
        let named =
            Builder::new().name("child").spawn_scoped(s, || weald_runtime::current().name().map(|name| format!("{name} {borrowed}")));
        let large = Builder::new().stack_size(4 << 20).spawn_scoped(s, || {
            let block = std::hint::black_box([1_u8; 1 << 20]);
            block.iter().map(|&byte| u64::from(byte)).sum::<u64>()
        });
        let under = Builder::new().cancellation(token.clone()).spawn_scoped(s, || try_sleep(LONG).is_err());
        token.cancel();
        (named.join().expect("no panic"), large.join().expect("no overflow"), under.join().expect("no panic"))
    });
    assert_eq!((name.as_deref(), sum, cancelled), (Some("child borrowed"), 1 << 20, true));
}

#[test]
fn local_children_need_not_be_send() {
    runtime().run(|| {
        let shared = Rc::new(Cell::new(0));
        let same = scope(|s| {
            let child = s.spawn_local(|| {
                shared.set(shared.get() + 1);
                Rc::clone(&shared)
            });
            Rc::ptr_eq(&child.join().expect("no panic"), &shared)
        });
        assert!(same);
        assert_eq!((shared.get(), Rc::strong_count(&shared)), (1, 1));
    });
}

#[test]
fn threads_make_scopes_by_a_handle() {
    let runtime = runtime();
    let text = String::from("borrowed");
    let lengths =
        runtime.handle().scope(|s| [s.spawn(|| text.len()), s.spawn_on(1, || text.len())].map(|child| child.join().expect("no panic")));
    assert_eq!(lengths, [8, 8]);
    assert!(catch_unwind(|| scope(|_| ())).is_err(), "outside of a runtime there is no other way");
    let local = runtime.handle().scope(|s| catch_unwind(AssertUnwindSafe(|| drop(s.spawn_local(|| ())))).is_err());
    assert!(local, "a thread has no worker");
}

#[test]
fn panics_go_to_the_joiner_or_else_through_the_scope() {
    runtime().run(|| {
        let joined = scope(|s| s.spawn(|| -> u8 { std::panic::resume_unwind(Box::new("joined")) }).join().expect_err("it panicked"));
        assert_eq!(joined.into_panic().and_then(|payload| payload.downcast_ref::<&str>().copied()), Some("joined"));
        let ended = AtomicBool::new(false);
        let through = catch_unwind(AssertUnwindSafe(|| {
            scope(|s| {
                s.spawn(|| std::panic::resume_unwind(Box::new(())));
                s.spawn(|| {
                    sleep(Duration::from_millis(5));
                    ended.store(true, Ordering::Relaxed);
                });
            });
        }));
        assert!(through.is_err() && ended.load(Ordering::Relaxed));
        let ended = AtomicBool::new(false);
        let own = catch_unwind(AssertUnwindSafe(|| {
            scope(|s| {
                s.spawn(|| {
                    sleep(Duration::from_millis(5));
                    ended.store(true, Ordering::Relaxed);
                });
                std::panic::resume_unwind(Box::new("own"));
            })
        }));
        assert_eq!(own.expect_err("it panicked").downcast_ref::<&str>(), Some(&"own"));
        assert!(ended.load(Ordering::Relaxed), "waited for, although the scope panicked");
    });
}

#[test]
fn a_child_for_which_there_is_no_stack_says_so_to_the_joiner_or_else_to_the_scope() {
    let runtime = Runtime::builder().workers(1).max_coroutines(2).build().expect("a runtime");
    runtime.run(|| {
        let holder = spawn(park);
        let refused = scope(|s| s.spawn(|| ()).join()).expect_err("two stacks are all");
        assert!(matches!(&refused, JoinError::NoStack(error) if error.to_string().contains("all 2")), "{refused}");
        let through = catch_unwind(AssertUnwindSafe(|| scope(|s| drop(s.spawn(|| ())))));
        assert!(through.is_err(), "nobody else was told");
        holder.coroutine().unpark();
        holder.join().expect("no panic");
        scope(|s| s.spawn(|| ()).join()).expect("a stack is free again");
    });
}

#[test]
fn cancelling_the_owner_cancels_the_children_and_waits_for_them() {
    runtime().run(|| {
        let (ended, ends) = mpsc::channel();
        let owner = spawn(move || {
            scope(|s| {
                for _ in 0..3 {
                    let ended = ended.clone();
                    s.spawn(move || ended.send(try_sleep(LONG).is_err()));
                }
            });
            is_cancelled()
        });
        sleep(Duration::from_millis(5));
        owner.cancel();
        assert!(owner.join().expect("no panic"));
        assert_eq!(ends.try_iter().collect::<Vec<_>>(), [true; 3]);
        // By a token the children are cancelled themselves, while the owner is still busy.
        let token = CancellationToken::new();
        let inside = token.clone();
        let owner =
            Builder::new().cancellation(token.clone()).spawn(move || scope(|s| s.spawn(|| inside.run(|| try_sleep(LONG).is_err())).join()));
        sleep(Duration::from_millis(5));
        token.cancel();
        // The join is cancelled as well, or came first.
        let _ = owner.join().expect("no panic");
    });
}

#[test]
fn children_inherit_the_tokens_of_the_owner() {
    runtime().run(|| {
        let (outer, inner) = (CancellationToken::new(), CancellationToken::new());
        outer.run(|| {
            inner.run(|| {
                scope(|s| {
                    let child = s.spawn(|| {
                        let slept = try_sleep(LONG);
                        (slept.is_err(), is_cancelled())
                    });
                    sleep(Duration::from_millis(5));
                    outer.cancel();
                    // The owner does not wait for the scope's end yet.
                    let told = weald_runtime::shield(|| child.join()).expect("no panic");
                    assert_eq!(told, (true, true));
                });
            });
        });
    });
}

#[test]
fn results_without_a_handle_are_dropped_before_the_scope_returns() {
    struct Counted<'a>(&'a AtomicUsize);
    impl Drop for Counted<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    runtime().run(|| {
        let dropped = AtomicUsize::new(0);
        scope(|s| {
            for _ in 0..500 {
                drop(s.spawn(|| Counted(&dropped)));
                let kept = s.spawn(|| Counted(&dropped));
                yield_now();
                drop(kept);
            }
        });
        assert_eq!(dropped.into_inner(), 1000);
    });
}

#[test]
fn a_scope_is_refused_where_nothing_blocks() {
    runtime().run(|| {
        assert!(catch_unwind(|| no_park(|| scope(|_| ()))).is_err());
    });
}

#[test]
fn nested_scopes_are_unwound_in_their_order_by_a_shutdown() {
    struct Note<'a>(&'a mpsc::Sender<&'static str>, &'static str);
    impl Drop for Note<'_> {
        fn drop(&mut self) {
            self.0.send(self.1).expect("the test listens");
        }
    }
    let runtime = runtime();
    let (noted, notes) = mpsc::channel();
    let handle = runtime.handle();
    let owner = handle.spawn_on(0, move || {
        let outer = noted.clone();
        let _owner = Note(&outer, "owner");
        scope(|s| {
            let noted = noted.clone();
            s.spawn_on(1, move || {
                let borrowed = String::from("borrowed by the grandchild");
                let _child = Note(&noted, "child");
                scope(|s| {
                    let (noted, borrowed) = (noted.clone(), &borrowed);
                    s.spawn_on(0, move || {
                        let _grandchild = Note(&noted, "grandchild");
                        loop {
                            park();
                            assert!(!borrowed.is_empty());
                        }
                    });
                    loop {
                        park();
                    }
                });
            });
        });
    });
    sleep(Duration::from_millis(20));
    let report = runtime.shutdown(Duration::from_millis(5));
    assert!(report.is_clean(), "{report}");
    assert!(owner.join().expect_err("unwound").is_shut_down());
    assert_eq!(notes.try_iter().collect::<Vec<_>>(), ["grandchild", "child", "owner"]);
}

#[test]
fn a_child_that_cannot_end_leaks_its_whole_scope() {
    struct Flag(Arc<AtomicBool>);
    impl Drop for Flag {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let runtime = runtime();
    let dropped = Arc::new(AtomicBool::new(false));
    let flag = Flag(Arc::clone(&dropped));
    let (started, starts) = std::sync::mpsc::channel();
    let owner = runtime.handle().spawn(move || {
        let borrowed = flag;
        scope(|s| {
            s.spawn(|| {
                started.send(()).expect("the test listens");
                loop {
                    let _ = catch_unwind(park);
                    assert!(!borrowed.0.load(Ordering::Relaxed));
                }
            });
        });
    });
    starts.recv().expect("it starts");
    let report = runtime.shutdown(Duration::from_millis(5));
    assert_eq!(report.leaked.len(), 2, "{report}");
    assert!(!owner.is_finished() && !dropped.load(Ordering::Relaxed), "what the child borrows is leaked, not dropped");
}
