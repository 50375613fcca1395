//! Coroutines by their public interface: spawn, join, park, sleep, panics, pinning, stealing, hooks.

#[path = "coroutines/park.rs"]
mod park_tests;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use weald_runtime::sync::{Notify, WaitError};
use weald_runtime::time::Instant;
use weald_runtime::{
    Builder, CancellationToken, Handle, Hook, HookHandle, JoinError, Progress, RoundContext, Runtime, current, on_worker_stack, park,
    park_timeout, run, sleep, spawn, spawn_local, spawn_on, worker_index, yield_now,
};

fn one_worker() -> Runtime {
    Runtime::builder().workers(1).build().expect("a runtime")
}

#[test]
fn run_borrows_and_returns() {
    let mut numbers = vec![1, 2, 3];
    let sum: i32 = run(|| {
        numbers.push(4);
        numbers.iter().sum()
    });
    assert_eq!((sum, numbers.len()), (10, 4));
}

#[test]
fn run_passes_a_panic_on() {
    let caught = std::panic::catch_unwind(|| run(|| panic!("deliberate")));
    assert_eq!(caught.expect_err("it panicked").downcast_ref::<&str>(), Some(&"deliberate"));
}

#[test]
fn run_inside_of_a_runtime_is_refused() {
    run(|| {
        let error = spawn(|| run(|| ())).join().expect_err("refused");
        assert!(error.to_string().contains("use spawn"), "{error}");
    });
}

#[test]
fn a_panic_is_a_join_error_and_the_worker_goes_on() {
    one_worker().run(|| {
        let error = spawn(|| -> u32 { panic!("number {}", std::hint::black_box(7)) }).join().expect_err("it panics");
        assert!(error.is_panic());
        assert_eq!(error.to_string(), "the coroutine panicked: number 7");
        assert!(error.into_panic().expect("a payload").is::<String>());
        assert_eq!(spawn(|| 5).join().expect("no panic"), 5);
        assert!(!std::thread::panicking());
    });
}

/// Neither a flood of spawns nor one of wakes keeps the other waiting.
#[test]
fn a_worker_begins_coroutines_and_goes_on_with_others_in_turn() {
    let told = one_worker().run(|| {
        let (teller, told) = mpsc::channel();
        let spawn_teller = |name: &'static str, turns: usize| {
            let teller = teller.clone();
            spawn(move || {
                for _ in 0..turns {
                    teller.send(name).expect("it is heard");
                    yield_now();
                }
            })
        };
        let yielder = spawn_teller("goes on", 30);
        while told.try_recv().is_err() {
            yield_now();
        }
        let flood: Vec<_> = (0..60).map(|_| spawn_teller("begins", 1)).collect();
        flood.into_iter().for_each(|child| child.join().expect("no panic"));
        yielder.join().expect("no panic");
        drop(teller);
        told.iter().collect::<Vec<_>>()
    });
    let last_began = told.iter().rposition(|&name| name == "begins").expect("they began");
    let went_on = told[..last_began].iter().filter(|&&name| name == "goes on").count();
    assert!((4..28).contains(&went_on), "{told:?}");
}

#[test]
fn the_result_of_a_detached_coroutine_is_dropped_when_it_ends() {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let dropped = Arc::new(AtomicUsize::new(0));
    one_worker().run(|| {
        // Dropped before the end, and after it.
        let (early, late) = (Counted(Arc::clone(&dropped)), Counted(Arc::clone(&dropped)));
        drop(spawn(move || early));
        let handle = spawn(move || late);
        while !handle.is_finished() {
            yield_now();
        }
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
        drop(handle);
        assert_eq!(dropped.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn coroutines_of_a_worker_alternate_at_yields() {
    let order = one_worker().run(|| {
        let order = Rc::new(RefCell::new(Vec::new()));
        let handles: Vec<_> = ["a", "b"]
            .into_iter()
            .map(|name| {
                let order = Rc::clone(&order);
                spawn_local(move || {
                    for step in 0..3 {
                        order.borrow_mut().push(format!("{name}{step}"));
                        yield_now();
                    }
                })
            })
            .collect();
        handles.into_iter().for_each(|handle| handle.join().expect("no panic"));
        order.take().join(" ")
    });
    assert_eq!(order, "a0 b0 a1 b1 a2 b2");
}

#[test]
fn a_started_coroutine_never_changes_its_thread() {
    let runtime = Runtime::builder().workers(4).build().expect("a runtime");
    runtime.run(|| {
        let handles: Vec<_> = (0..200)
            .map(|number| {
                spawn(move || {
                    thread_local!(static VISITS: Cell<u64> = const { Cell::new(0) });
                    let home = (std::thread::current().id(), worker_index());
                    for _ in 0..20 {
                        VISITS.set(VISITS.get() + 1);
                        if number % 2 == 0 {
                            yield_now()
                        } else {
                            sleep(Duration::from_micros(50))
                        }
                        assert_eq!((std::thread::current().id(), worker_index()), home);
                    }
                })
            })
            .collect();
        handles.into_iter().for_each(|handle| handle.join().expect("no panic"));
    });
}

#[test]
fn unstarted_coroutines_are_stolen_from_a_busy_worker() {
    let runtime = Runtime::builder().workers(2).build().expect("a runtime");
    let elsewhere = runtime.run(|| {
        let me = worker_index();
        let done = Arc::new(AtomicBool::new(false));
        let helper = {
            let done = Arc::clone(&done);
            spawn(move || {
                done.store(true, Ordering::Release);
                worker_index()
            })
        };
        // This worker never gets to it.
        let deadline = Instant::now() + Duration::from_secs(10);
        while !done.load(Ordering::Acquire) && Instant::now() < deadline {
            std::hint::spin_loop();
        }
        helper.join().expect("no panic") != me
    });
    assert!(elsewhere);
}

#[test]
fn what_is_spawned_outside_starts_although_no_worker_is_ever_idle() {
    let runtime = one_worker();
    let over = Arc::new(AtomicBool::new(false));
    let (running, runs) = mpsc::channel();
    let yields = {
        let over = Arc::clone(&over);
        runtime.handle().spawn(move || {
            running.send(()).expect("the test listens");
            let deadline = Instant::now() + Duration::from_secs(5);
            while !over.load(Ordering::Acquire) && Instant::now() < deadline {
                yield_now();
            }
            over.load(Ordering::Acquire)
        })
    };
    runs.recv().expect("it runs");
    runtime.run(|| over.store(true, Ordering::Release));
    assert!(yields.join().expect("no panic"), "it was not started before the yielding ended");
}

/// Coroutines whose time has come do not wait for one first run each.
#[test]
fn those_who_are_due_run_before_most_of_the_unstarted() {
    const SLEEPERS: usize = 64;
    one_worker().run(|| {
        let started = Arc::new(AtomicUsize::new(0));
        let asleep = Arc::new(AtomicUsize::new(0));
        let sleepers: Vec<_> = (0..SLEEPERS)
            .map(|_| {
                let (started, asleep) = (Arc::clone(&started), Arc::clone(&asleep));
                spawn(move || {
                    asleep.fetch_add(1, Ordering::Relaxed);
                    sleep(Duration::from_millis(2));
                    started.load(Ordering::Relaxed)
                })
            })
            .collect();
        while asleep.load(Ordering::Relaxed) < SLEEPERS {
            yield_now();
        }
        let until = Instant::now() + Duration::from_millis(5);
        for _ in 0..2000 {
            let started = Arc::clone(&started);
            drop(spawn(move || started.fetch_add(1, Ordering::Relaxed)));
        }
        // All of them are due when it parks.
        while Instant::now() < until {}
        let seen: Vec<_> = sleepers.into_iter().map(|sleeper| sleeper.join().expect("no panic")).collect();
        let between = seen.iter().max().expect("some") - seen.iter().min().expect("some");
        assert!(between < SLEEPERS / 4, "{between} were started meanwhile");
    });
}

#[test]
fn spawn_on_chooses_the_worker() {
    let runtime = Runtime::builder().workers(3).build().expect("a runtime");
    for worker in 0..3 {
        assert_eq!(runtime.run(move || spawn_on(worker, worker_index).join().expect("no panic")), Some(worker));
        let from_outside = runtime.handle().spawn_on(worker, worker_index);
        assert_eq!(from_outside.join().expect("no panic"), Some(worker));
    }
    let none = std::panic::catch_unwind(|| runtime.handle().spawn_on(3, || ()));
    assert!(none.is_err());
}

#[test]
fn a_token_given_before_the_park_is_kept_and_a_sleep_does_not_eat_it() {
    one_worker().run(|| {
        let me = current();
        me.unpark();
        park();
        let start = Instant::now();
        park_timeout(Duration::from_millis(2));
        assert!(start.elapsed() >= Duration::from_millis(2), "one token, one park");
        let other = me.clone();
        spawn(move || other.unpark());
        sleep(Duration::from_millis(5));
        assert!(start.elapsed() >= Duration::from_millis(7), "a token does not end a sleep");
        park();
    });
}

/// The last coroutine to park is not committed while others run: wakes from its worker and from elsewhere find it all the same.
#[test]
fn the_last_to_park_is_woken_by_its_neighbour_and_by_a_thread() {
    one_worker().run(|| {
        let (said, heard) = mpsc::channel();
        let parks = Arc::new(AtomicBool::new(false));
        let will_park = Arc::clone(&parks);
        let sleeper = spawn(move || {
            will_park.store(true, Ordering::Relaxed);
            park();
            said.send(1).expect("heard");
            park();
            said.send(2).expect("heard");
        });
        let waker = sleeper.coroutine();
        // It parks, and this one goes on without a park between.
        while !parks.load(Ordering::Relaxed) {
            yield_now();
        }
        waker.unpark();
        yield_now();
        assert_eq!(heard.try_recv(), Ok(1));
        std::thread::scope(|scope| {
            scope.spawn(|| waker.unpark());
        });
        assert!(heard.try_recv().is_err(), "its worker is held here");
        sleeper.join().expect("woken");
        assert_eq!(heard.try_recv(), Ok(2));
    });
}

#[test]
fn two_wakes_of_one_park_leave_no_token() {
    one_worker().run(|| {
        let parks = Arc::new(AtomicBool::new(false));
        let will_park = Arc::clone(&parks);
        let sleeper = spawn(move || {
            will_park.store(true, Ordering::Relaxed);
            park();
            let start = Instant::now();
            park_timeout(Duration::from_millis(5));
            start.elapsed()
        });
        while !parks.load(Ordering::Relaxed) {
            yield_now();
        }
        let waker = sleeper.coroutine();
        waker.unpark();
        waker.unpark();
        assert!(sleeper.join().expect("no panic") >= Duration::from_millis(5));
    });
}

#[test]
fn a_wake_from_a_thread_rings_a_worker_that_sleeps() {
    // Nothing else wakes it: no timer, and no trimming.
    let runtime = Runtime::builder().workers(1).trim_after(None).build().expect("a runtime");
    let (said, heard) = mpsc::channel();
    let parked = runtime.handle().spawn(move || {
        park();
        said.send(()).expect("heard");
    });
    sleep(Duration::from_millis(20));
    parked.coroutine().unpark();
    heard.recv_timeout(Duration::from_secs(5)).expect("it was rung");
}

#[test]
fn threads_and_coroutines_wake_each_other() {
    let runtime = Runtime::builder().workers(2).build().expect("a runtime");
    for _ in 0..200 {
        let (to_thread, from_coroutine) = mpsc::channel();
        let woken = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&woken);
        let thread = current();
        let handle = runtime.handle().spawn(move || {
            to_thread.send(current()).expect("the thread listens");
            while !flag.load(Ordering::Acquire) {
                park();
            }
            thread.unpark();
        });
        let coroutine = from_coroutine.recv().expect("the coroutine sends");
        woken.store(true, Ordering::Release);
        coroutine.unpark();
        park();
        handle.join().expect("no panic");
    }
}

#[test]
fn a_tree_of_spawns_over_four_workers_is_joined() {
    fn count(depth: u32) -> u32 {
        if depth == 0 {
            return 1;
        }
        let children = [spawn(move || count(depth - 1)), spawn(move || count(depth - 1))];
        children.into_iter().map(|child| child.join().expect("no panic")).sum()
    }
    let runtime = Runtime::builder().workers(4).build().expect("a runtime");
    assert_eq!(runtime.run(|| count(12)), 1 << 12);
}

#[test]
fn no_wake_is_lost_in_a_ring_across_workers() {
    const LAPS: usize = 300;
    const MEMBERS: usize = 16;
    let runtime = Runtime::builder().workers(4).build().expect("a runtime");
    runtime.run(|| {
        // Whose turn it is: it grows by one at each step round the ring.
        let turn = Arc::new(AtomicUsize::new(0));
        let members: Vec<_> = (0..MEMBERS)
            .map(|member| {
                let turn = Arc::clone(&turn);
                let (introduce, next) = mpsc::channel::<weald_runtime::Coroutine>();
                let handle = spawn_on(member % 4, move || {
                    let next = loop {
                        match next.try_recv() {
                            Ok(next) => break next,
                            Err(_) => yield_now(),
                        }
                    };
                    for lap in 0..LAPS {
                        while turn.load(Ordering::Acquire) != lap * MEMBERS + member {
                            park();
                        }
                        turn.fetch_add(1, Ordering::Release);
                        next.unpark();
                    }
                });
                (introduce, handle)
            })
            .collect();
        for member in 0..MEMBERS {
            let next = members[(member + 1) % MEMBERS].1.coroutine();
            members[member].0.send(next).expect("it waits");
        }
        members.into_iter().for_each(|(_, handle)| handle.join().expect("no panic"));
        assert_eq!(turn.load(Ordering::Relaxed), LAPS * MEMBERS);
    });
}

#[test]
fn sleeps_end_in_order_and_not_early() {
    // A thread is slower to begin than a coroutine.
    const UNIT: u64 = if cfg!(any(miri, weald_baton)) { 50 } else { 1 };
    let order = one_worker().run(|| {
        let order = Rc::new(RefCell::new(Vec::new()));
        let handles: Vec<_> = [9 * UNIT, 3 * UNIT, 6 * UNIT]
            .into_iter()
            .map(|millis| {
                let order = Rc::clone(&order);
                spawn_local(move || {
                    let start = Instant::now();
                    sleep(Duration::from_millis(millis));
                    assert!(start.elapsed() >= Duration::from_millis(millis));
                    order.borrow_mut().push(millis);
                })
            })
            .collect();
        handles.into_iter().for_each(|handle| handle.join().expect("no panic"));
        order.take()
    });
    assert_eq!(order, [3, 6, 9].map(|units| units * UNIT));
}

/// The timer of the first wait would end the second, which has no limit.
#[test]
fn a_wait_that_was_over_early_leaves_no_deadline_for_the_next() {
    one_worker().run(|| {
        let news = Arc::new(Notify::new());
        let waiter = spawn({
            let news = Arc::clone(&news);
            move || {
                assert_eq!(news.wait_timeout(Duration::from_millis(100)), Ok(()));
                news.wait().is_ok()
            }
        });
        sleep(Duration::from_millis(5));
        news.notify_one();
        sleep(Duration::from_millis(150));
        assert!(!waiter.is_finished());
        news.notify_one();
        assert!(waiter.join().expect("no panic"));
    });
}

#[test]
fn waits_for_the_end_keep_the_handle() {
    one_worker().run(|| {
        let child = spawn(|| {
            park();
            3
        });
        let mut child = child.try_join().expect_err("it is parked");
        assert_eq!(child.wait_timeout(Duration::from_millis(2)), Err(WaitError::Timeout));
        assert_eq!(child.wait_deadline(Instant::now()), Err(WaitError::Timeout));
        let (stop, long) = (CancellationToken::new(), Duration::from_secs(10));
        stop.cancel();
        assert!(stop.run(|| child.wait()).is_err());
        assert_eq!(stop.run(|| child.wait_timeout(long)), Err(WaitError::Cancelled));
        child.coroutine().unpark();
        assert_eq!(child.wait_timeout(long), Ok(()));
        assert_eq!(stop.run(|| child.wait()), Ok(()));
        assert_eq!(child.join().expect("no panic"), 3);
        let parked = spawn(park);
        let runner = parked.coroutine();
        assert!(matches!(stop.run(|| parked.join()), Err(JoinError::Cancelled)));
        runner.unpark();
        let ended = spawn(|| 4);
        while !ended.is_finished() {
            yield_now();
        }
        assert_eq!(ended.try_join().expect("it has ended").expect("no panic"), 4);
    });
}

#[test]
fn the_worker_stack_has_room_and_does_not_park() {
    fn deep(levels: usize) -> usize {
        let frame = std::hint::black_box([levels; 1024]);
        if levels == 0 { 0 } else { deep(levels - 1) + usize::from(frame[levels] == levels) }
    }
    one_worker().run(|| {
        // 100 frames of 8 KiB: eight times a coroutine's stack.
        assert_eq!(on_worker_stack(|| deep(100)), 100);
        let error = spawn(|| on_worker_stack(park)).join().expect_err("a park there panics");
        assert!(error.to_string().contains("worker's own stack"), "{error}");
        yield_now();
        assert!(spawn(|| on_worker_stack(|| panic!("through"))).join().expect_err("it panics").is_panic());
    });
}

#[test]
fn a_large_stack_is_one_on_request() {
    one_worker().run(|| {
        let filled = Builder::new().stack_size(2 << 20).spawn(|| {
            let block = std::hint::black_box([1_u8; 1 << 20]);
            block.iter().map(|&byte| u64::from(byte)).sum::<u64>()
        });
        assert_eq!(filled.join().expect("no overflow"), 1 << 20);
    });
}

#[test]
fn a_full_arena_is_an_error_of_the_join() {
    let runtime = Runtime::builder().workers(1).max_coroutines(2).build().expect("a runtime");
    runtime.run(|| {
        let holder = spawn(park);
        let refused = spawn(|| ()).join().expect_err("two stacks are all");
        assert!(matches!(&refused, JoinError::NoStack(error) if error.to_string().contains("all 2")), "{refused}");
        holder.coroutine().unpark();
        holder.join().expect("no panic");
        spawn(|| ()).join().expect("a stack is free again");
    });
}

#[test]
#[cfg_attr(any(miri, weald_baton), ignore = "about the memory of stacks, which are threads' in the baton backend")]
fn a_hundred_thousand_coroutines_run_at_once() {
    const COUNT: usize = 100_000;
    let runtime = Runtime::builder().workers(2).build().expect("a runtime");
    let before = resident_bytes();
    runtime.run(|| {
        let running = Arc::new(AtomicUsize::new(0));
        let go = Arc::new(AtomicBool::new(false));
        let handles: Vec<_> = (0..COUNT)
            .map(|number| {
                let (running, go) = (Arc::clone(&running), Arc::clone(&go));
                spawn(move || {
                    running.fetch_add(1, Ordering::Relaxed);
                    while !go.load(Ordering::Acquire) {
                        park();
                    }
                    number
                })
            })
            .collect();
        while running.load(Ordering::Relaxed) < COUNT {
            sleep(Duration::from_millis(1));
        }
        let bytes = resident_bytes().saturating_sub(before) / COUNT;
        println!("{bytes} bytes a parked coroutine");
        assert!(bytes < 16 * 1024, "{bytes} bytes a parked coroutine");
        go.store(true, Ordering::Release);
        for (number, handle) in handles.into_iter().enumerate() {
            handle.coroutine().unpark();
            assert_eq!(handle.join().expect("no panic"), number);
        }
    });
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("a number") * 4096
}

#[test]
fn ids_are_unique_and_names_are_kept() {
    let runtime = Runtime::builder().workers(2).build().expect("a runtime");
    runtime.run(|| {
        let ids: Vec<_> = (0..100).map(|_| spawn(|| current().id())).collect();
        let ids: HashSet<_> = ids.into_iter().map(|handle| handle.join().expect("no panic")).collect();
        assert_eq!(ids.len(), 100);
        let named = Builder::new().name("ada").spawn(|| current().name().map(str::to_owned));
        assert_eq!(named.join().expect("no panic").as_deref(), Some("ada"));
        assert_eq!(spawn(|| current().name().map(str::to_owned)).join().expect("no panic"), None);
    });
}

/// Counts its rounds; busy for the first few.
struct Counter {
    polls: Arc<AtomicUsize>,
    flushes: Arc<AtomicUsize>,
    shut: Arc<AtomicBool>,
    timeout: Option<Instant>,
}

impl Hook for Counter {
    fn poll(&mut self, context: &mut RoundContext<'_>) -> Progress {
        if self.timeout.is_some_and(|timeout| timeout <= context.now()) {
            self.timeout = None;
        }
        self.polls.fetch_add(1, Ordering::Relaxed);
        Progress::Idle
    }

    fn flush(&mut self, _: &mut RoundContext<'_>) -> Progress {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        Progress::Idle
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.timeout
    }

    fn shutdown(&mut self, _: &mut RoundContext<'_>) {
        self.shut.store(true, Ordering::Relaxed);
    }
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_hook_runs_in_every_round_is_rung_awake_and_hears_of_the_end() {
    let runtime = Runtime::builder().workers(2).build().expect("a runtime");
    let polls = Arc::new(AtomicUsize::new(0));
    let flushes = Arc::new(AtomicUsize::new(0));
    let shut = Arc::new(AtomicBool::new(false));
    let (said, handle) = mpsc::channel::<HookHandle>();
    let counter = Counter {
        polls: Arc::clone(&polls),
        flushes: Arc::clone(&flushes),
        shut: Arc::clone(&shut),
        timeout: Some(Instant::now() + Duration::from_millis(50)),
    };
    // Time for the workers to fall asleep: the command must wake its own.
    sleep(Duration::from_millis(20));
    let id = runtime
        .handle()
        .add_hook(1, move |handle| {
            assert_eq!(worker_index(), Some(1));
            said.send(handle).expect("the test listens");
            Box::new(counter)
        })
        .expect("there is a worker 1");
    let handle = handle.recv_timeout(Duration::from_secs(5)).expect("made");
    wait_for("a first poll", || polls.load(Ordering::Relaxed) > 0);
    sleep(Duration::from_millis(10));
    let seen = polls.load(Ordering::Relaxed);
    handle.ring();
    wait_for("a poll after the ring", || polls.load(Ordering::Relaxed) > seen);
    let seen = polls.load(Ordering::Relaxed);
    sleep(Duration::from_millis(50));
    assert!(polls.load(Ordering::Relaxed) - seen < 1_000, "it has answered the ring, and sleeps");
    assert!(flushes.load(Ordering::Relaxed) > 0);
    assert!(runtime.handle().add_hook(2, |_| unreachable!()).is_err());
    assert!(!shut.load(Ordering::Relaxed));
    assert!(runtime.shutdown(Duration::from_secs(1)).is_clean());
    assert!(shut.load(Ordering::Relaxed));
    let _ = id;
}

#[test]
fn a_hook_that_panics_is_removed_and_one_can_be_removed() {
    struct Panics;
    impl Hook for Panics {
        fn poll(&mut self, _: &mut RoundContext<'_>) -> Progress {
            park();
            Progress::Busy
        }
        fn flush(&mut self, _: &mut RoundContext<'_>) -> Progress {
            unreachable!("removed before")
        }
        fn next_timeout(&self) -> Option<Instant> {
            None
        }
    }
    let runtime = one_worker();
    runtime.handle().add_hook(0, |_| Box::new(Panics)).expect("a worker 0");
    let polls = Arc::new(AtomicUsize::new(0));
    let counter = Counter { polls: Arc::clone(&polls), flushes: Arc::default(), shut: Arc::default(), timeout: None };
    let id = runtime.handle().add_hook(0, move |_| Box::new(counter)).expect("a worker 0");
    wait_for("a poll", || polls.load(Ordering::Relaxed) > 0);
    runtime.handle().remove_hook(id);
    runtime.run(|| sleep(Duration::from_millis(2)));
    let seen = polls.load(Ordering::Relaxed);
    runtime.run(|| sleep(Duration::from_millis(2)));
    assert_eq!(polls.load(Ordering::Relaxed), seen);
}

/// Each of a hook's methods may panic, its destructor as well; the worker goes on.
#[test]
fn a_hook_that_panics_anywhere_leaves_its_worker_alone() {
    struct Panics(&'static str);
    impl Panics {
        fn at(&self, place: &str) {
            assert!(self.0 != place, "deliberate, in {place}");
        }
    }
    impl Hook for Panics {
        fn poll(&mut self, _: &mut RoundContext<'_>) -> Progress {
            self.at("poll");
            Progress::Idle
        }
        fn flush(&mut self, _: &mut RoundContext<'_>) -> Progress {
            self.at("flush");
            Progress::Idle
        }
        fn next_timeout(&self) -> Option<Instant> {
            self.at("next_timeout");
            None
        }
        fn shutdown(&mut self, _: &mut RoundContext<'_>) {
            self.at("shutdown");
        }
    }
    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("deliberate, in drop");
        }
    }
    let runtime = one_worker();
    for place in ["poll", "flush", "next_timeout", "shutdown", "drop", "another drop"] {
        runtime.handle().add_hook(0, move |_| Box::new(Panics(place))).expect("a worker 0");
    }
    for _ in 0..3 {
        assert_eq!(runtime.run(|| spawn(|| 1).join().expect("no panic")), 1);
        std::thread::yield_now();
    }
    assert!(runtime.shutdown(Duration::from_secs(1)).is_clean());
}

#[test]
fn the_current_runtime_is_known_inside_only() {
    assert!(Handle::current().is_none());
    assert_eq!(worker_index(), None);
    let runtime = Runtime::builder().workers(3).build().expect("a runtime");
    assert_eq!(runtime.run(|| Handle::current().map(|handle| handle.workers())), Some(3));
    assert!(std::panic::catch_unwind(|| spawn(|| ())).is_err());
}
