//! Blocking jobs: where they run, in which order, who gets what of them, and their end.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, ThreadId};
use std::time::Duration;

use weald_runtime::metrics::BlockingMetrics;
use weald_runtime::time::Instant;
use weald_runtime::{
    Builder, CancellationToken, Handle, Runtime, RuntimeBuilder, UnblockError, channel, net, no_park, on_worker_stack, shield, sim, sleep,
    spawn, unblock, unblock_deadline, unblock_timeout,
};

const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(5);

fn one_worker() -> RuntimeBuilder {
    Runtime::builder().workers(1)
}

fn build(builder: RuntimeBuilder) -> Runtime {
    builder.build().expect("a runtime")
}

fn blocking() -> BlockingMetrics {
    Handle::current().expect("in a runtime").metrics().blocking
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < LONG, "{what} in vain");
        sleep(Duration::from_millis(1));
    }
}

/// A job that runs until it is told to end, and the way to tell it.
fn held(value: u32) -> (mpsc::Sender<()>, impl FnOnce() -> u32 + Send + 'static) {
    let (release, released) = mpsc::channel();
    (release, move || {
        let _ = released.recv();
        value
    })
}

/// Runs a job of one runtime until `f` has returned, and sees that it runs.
fn while_busy<R>(f: impl FnOnce() -> R) -> R {
    let (release, job) = held(0);
    let busy = spawn(|| unblock(job).map_err(drop));
    wait_until("a job runs", || blocking().running == 1);
    let result = f();
    drop(release);
    assert_eq!(busy.join().expect("no panic"), Ok(0));
    result
}

#[test]
fn the_worker_runs_others_while_a_job_blocks() {
    build(one_worker()).run(|| {
        let worker = thread::current().id();
        let (release, released) = mpsc::channel();
        let waiting = spawn(move || {
            unblock(move || {
                // Only a coroutine of the same worker ends this.
                released.recv().expect("it is sent");
                (thread::current().id(), thread::current().name().map(str::to_owned))
            })
        });
        wait_until("the job runs", || blocking().running == 1);
        release.send(()).expect("the job waits");
        let (thread, name) = waiting.join().expect("no panic").expect("not cancelled");
        assert_ne!(thread, worker);
        assert_eq!(name.as_deref(), Some("weald-block-0"));
        assert_eq!(thread::current().id(), worker, "the coroutine stayed where it was");
    });
}

#[test]
fn files_are_read_by_it() {
    let version = build(one_worker()).run(|| -> std::io::Result<_> { unblock(|| fs::read_to_string("/proc/version"))? });
    assert!(version.expect("it can be read").starts_with("Linux"));
    let none = build(one_worker()).run(|| -> std::io::Result<_> { unblock(|| fs::read("/nowhere"))? });
    assert_eq!(none.expect_err("it is not there").kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn a_panic_reaches_the_caller_and_the_thread_goes_on() {
    build(one_worker().max_blocking_threads(1)).run(|| {
        let caught = catch_unwind(|| unblock(|| -> u32 { std::panic::resume_unwind(Box::new("deliberate")) }).map_err(drop));
        assert_eq!(caught.expect_err("it panicked").downcast_ref::<&str>(), Some(&"deliberate"));
        assert_eq!(unblock(|| 7).expect("not cancelled"), 7);
        assert_eq!(blocking().threads, 1);
    });
}

#[test]
fn threads_grow_with_the_jobs_up_to_the_bound_and_end_when_idle() {
    build(one_worker().max_blocking_threads(3).blocking_keep_alive(Duration::from_millis(20))).run(|| {
        let (releases, jobs): (Vec<_>, Vec<_>) = (0..5)
            .map(|number| {
                let (release, job) = held(number);
                (release, spawn(|| unblock(job).expect("not cancelled")))
            })
            .unzip();
        wait_until("three run", || blocking().running == 3);
        let BlockingMetrics { queued, threads, jobs: taken, .. } = blocking();
        assert_eq!((queued, threads, taken), (2, 3, 5));
        drop(releases);
        assert_eq!(jobs.into_iter().map(|job| job.join().expect("no panic")).sum::<u32>(), 10);
        wait_until("they end", || blocking().threads == 0);
        assert_eq!(unblock(|| 1).expect("not cancelled"), 1);
        assert_eq!(blocking().jobs, 6);
    });
}

#[test]
fn under_a_light_load_one_thread_stays() {
    build(one_worker().blocking_keep_alive(Duration::from_millis(100))).run(|| {
        let many: Vec<_> = (0..8).map(|_| spawn(|| unblock(|| thread::park_timeout(SHORT)).expect("not cancelled"))).collect();
        many.into_iter().for_each(|one| one.join().expect("no panic"));
        assert!(blocking().threads > 1);
        // Each would have its turn before its time is over.
        wait_until("the others end", || {
            unblock(|| ()).expect("not cancelled");
            blocking().threads == 1
        });
    });
}

#[test]
fn jobs_that_wait_for_a_thread_are_served_in_their_order() {
    build(one_worker().max_blocking_threads(1)).run(|| {
        let order = Arc::new(Mutex::new(Vec::new()));
        let jobs: Vec<_> = while_busy(|| {
            (0..20)
                .map(|number| {
                    let order = Arc::clone(&order);
                    let job = spawn(move || unblock(move || order.lock().expect("no panic").push(number)).expect("not cancelled"));
                    wait_until("it is queued", || blocking().queued == number + 1);
                    job
                })
                .collect()
        });
        jobs.into_iter().for_each(|job| job.join().expect("no panic"));
        assert_eq!(*order.lock().expect("no panic"), (0..20).collect::<Vec<_>>());
    });
}

#[test]
fn a_job_that_has_not_begun_is_given_back() {
    build(one_worker().max_blocking_threads(1)).run(|| {
        while_busy(|| {
            let ran = Arc::new(AtomicBool::new(false));
            let job = {
                let ran = Arc::clone(&ran);
                move || ran.store(true, Ordering::Relaxed)
            };
            let cancelled = spawn(move || unblock(job));
            wait_until("it is queued", || blocking().queued == 1);
            cancelled.cancel();
            let error = cancelled.join().expect("no panic").expect_err("cancelled");
            assert!(error.is_cancelled());
            assert_eq!(blocking().queued, 0);
            let function = error.into_function().expect("it has not begun");
            assert!(!ran.load(Ordering::Relaxed));
            // The caller may do what it likes with it.
            function();
            assert!(ran.load(Ordering::Relaxed));
            let late = unblock_timeout(SHORT, || 5).expect_err("the thread is busy");
            assert!(late.is_timeout());
            assert_eq!(late.into_function().expect("it has not begun")(), 5);
            let late = unblock_deadline(Instant::now() + SHORT, || 5).expect_err("the thread is busy");
            assert_eq!(std::io::Error::from(late).kind(), std::io::ErrorKind::TimedOut);
        });
    });
}

#[test]
fn a_job_that_has_begun_is_left_to_itself_and_drops_its_result() {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    build(one_worker()).run(|| {
        let dropped = Arc::new(AtomicUsize::new(0));
        let (release, job) = held(0);
        let result = Counted(Arc::clone(&dropped));
        let owner = spawn(move || {
            unblock(move || {
                job();
                result
            })
            .map(drop)
            .map_err(|error| (error.is_cancelled(), error.into_function().is_none()))
        });
        wait_until("the job runs", || blocking().running == 1);
        owner.cancel();
        assert_eq!(owner.join().expect("no panic"), Err((true, true)));
        assert_eq!((blocking().running, dropped.load(Ordering::Relaxed)), (1, 0));
        drop(release);
        wait_until("the job ends", || blocking().running == 0);
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_caller_who_is_cancelled_begins_nothing_unless_shielded() {
    build(one_worker()).run(|| {
        let token = CancellationToken::new();
        token.cancel();
        token.run(|| {
            let error = unblock(|| 1).expect_err("cancelled");
            assert!(std::io::Error::from(error).get_ref().is_some_and(|inner| inner.is::<net::Cancelled>()));
            assert_eq!(shield(|| unblock(|| 2)).expect("shielded"), 2);
        });
        assert_eq!(blocking().jobs, 1);
    });
    // Threads and simulations alike.
    let cancelled = || {
        let token = CancellationToken::new();
        token.cancel();
        token.run(|| unblock(|| 1).is_err() && unblock_timeout(LONG, || 1).is_err() && shield(|| unblock(|| 1)).is_ok())
    };
    assert!(cancelled());
    assert!(sim::run(1, cancelled));
}

#[test]
fn a_destructor_in_a_panic_gets_an_error_at_once() {
    struct Unblocks;
    impl Drop for Unblocks {
        fn drop(&mut self) {
            assert!(unblock(|| ()).expect_err("it unwinds").is_cancelled());
            assert!(shield(|| unblock(|| ())).is_err());
        }
    }
    build(one_worker()).run(|| {
        let panicking = spawn(|| {
            let _unblocks = Unblocks;
            std::panic::resume_unwind(Box::new("out of the middle"));
        });
        assert!(panicking.join().map(|never: ()| never).expect_err("it panicked").is_panic());
        assert_eq!(blocking().jobs, 0);
    });
}

#[test]
fn it_is_refused_where_nothing_may_wait() {
    build(one_worker()).run(|| {
        assert!(catch_unwind(|| no_park(|| unblock(|| ()).map_err(drop))).is_err());
        assert!(catch_unwind(|| on_worker_stack(|| unblock(|| ()).map_err(drop))).is_err());
        assert_eq!(blocking().jobs, 0);
    });
    assert!(catch_unwind(AssertUnwindSafe(|| no_park(|| unblock(|| ()).map_err(drop)))).is_err());
}

fn here() -> ThreadId {
    thread::current().id()
}

#[test]
fn a_plain_thread_runs_it_in_place_unless_its_time_is_limited() {
    assert_eq!(unblock(here).expect("not cancelled"), here());
    assert_ne!(unblock_timeout(LONG, here).expect("in time"), here());
    let (release, job) = held(3);
    assert!(matches!(unblock_timeout(SHORT, job), Err(UnblockError::Timeout(None))));
    drop(release);
}

#[test]
#[cfg_attr(any(miri, weald_baton), ignore = "a coroutine has a thread of its own in the baton backend")]
fn a_simulation_runs_it_in_place_and_in_no_time() {
    let run = || {
        sim::run(11, || {
            let start = Instant::now();
            let jobs: Vec<_> = (0..10_u64).map(|number| spawn(move || (unblock(here).ok(), number))).collect();
            let threads: Vec<_> = jobs.into_iter().map(|job| job.join().expect("no panic")).collect();
            // It is the coroutine itself, so it may wait for others, too.
            let (sender, receiver) = channel::bounded(0);
            let sending = spawn(move || unblock(move || sender.send(1)).map_err(drop));
            assert_eq!((receiver.recv(), sending.join().expect("no panic")), (Ok(1), Ok(Ok(()))));
            assert!(unblock_timeout(Duration::ZERO, || ()).is_ok());
            (threads, start.elapsed())
        })
    };
    let (threads, elapsed) = run();
    assert!(threads.iter().all(|(thread, _)| *thread == Some(here())));
    assert_eq!(elapsed, Duration::ZERO);
    assert_eq!(run().0, threads);
}

#[test]
fn a_dump_shows_who_is_in_unblock_and_where() {
    build(one_worker().max_blocking_threads(1)).run(|| {
        let (release, job) = held(0);
        let line = line!() + 3;
        let reader = |job: Option<_>| {
            let job = move || job.map(|job: Box<dyn FnOnce() -> u32 + Send>| job());
            Builder::new().name("reader").spawn(move || unblock(job).map_err(drop))
        };
        let jobs = [reader(Some(Box::new(job))), reader(None), reader(None)];
        wait_until("one runs and two wait", || (blocking().running, blocking().queued) == (1, 2));
        let dump = Handle::current().expect("in a runtime").dump();
        let [group] = &dump.jobs[..] else { panic!("one place: {dump}") };
        assert_eq!((group.running, group.queued, group.place.line()), (1, 2, line));
        let parked = dump.groups.iter().find(|group| group.in_unblock).expect("they are parked");
        assert_eq!((parked.count, parked.parked_at.map(|at| at.line())), (3, Some(line)));
        let readers = dump.coroutines.iter().filter(|coroutine| coroutine.in_unblock && coroutine.name.as_deref() == Some("reader"));
        assert_eq!(readers.count(), 3);
        let text = dump.to_string();
        assert!(text.contains("parked in unblock at ") && text.contains("3 blocking jobs from "), "{text}");
        drop(release);
        for job in jobs {
            assert!(job.join().expect("no panic").is_ok());
        }
    });
}

#[test]
fn a_shutdown_waits_for_jobs_that_were_left() {
    let runtime = build(one_worker());
    let ended = Arc::new(AtomicBool::new(false));
    let (release, released) = std::sync::mpsc::channel::<()>();
    runtime.run(|| {
        let ended = Arc::clone(&ended);
        let (started, starts) = weald_runtime::channel::bounded(1);
        let left = weald_runtime::spawn(move || {
            weald_runtime::unblock(move || {
                started.send(()).expect("the test listens");
                let _ = released.recv();
                thread::park_timeout(Duration::from_millis(100));
                ended.store(true, Ordering::Release);
            })
            .is_err()
        });
        starts.recv().expect("it starts");
        left.cancel();
        assert!(left.join().expect("no panic"));
    });
    assert!(!ended.load(Ordering::Acquire));
    drop(release);
    let report = runtime.shutdown(LONG);
    assert!(report.is_clean(), "{report}");
    assert!(ended.load(Ordering::Acquire));
}

#[test]
fn a_shutdown_names_jobs_that_do_not_end_and_takes_back_those_that_have_not_begun() {
    struct SetOnDrop(Arc<AtomicBool>);
    impl Drop for SetOnDrop {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
        }
    }
    let runtime = build(one_worker().max_blocking_threads(1));
    let (release, job) = held(0);
    let (ran, dropped) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    runtime.run(|| {
        drop(Builder::new().name("endless").spawn(|| unblock(job).map_err(drop)));
        wait_until("the job runs", || blocking().running == 1);
        let (ran, owned) = (Arc::clone(&ran), SetOnDrop(Arc::clone(&dropped)));
        // Shielded, so that its owner is unwound from the wait.
        drop(spawn(|| {
            shield(|| {
                unblock(move || {
                    let _owned = owned;
                    ran.store(true, Ordering::Release);
                })
                .map_err(drop)
            })
        }));
        wait_until("the other waits", || blocking().queued == 1);
    });
    let report = runtime.shutdown(Duration::from_millis(20));
    assert!(report.leaked.is_empty() && report.stuck_workers.is_empty(), "{report}");
    let [unfinished] = &report.unfinished_jobs[..] else { panic!("one job: {report}") };
    assert!(unfinished.contains("'endless'") && unfinished.contains("unblock.rs"), "{unfinished}");
    assert!(!report.is_clean() && report.to_string().contains("'endless'"), "{report}");
    assert!(dropped.load(Ordering::Acquire), "with the stack that waited for it");
    drop(release);
    assert!(!ran.load(Ordering::Acquire));
}

#[test]
fn a_leaked_coroutines_job_does_not_begin_after_the_end() {
    let runtime = build(one_worker().max_blocking_threads(1));
    let (release, job) = held(0);
    let ran = Arc::new(AtomicBool::new(false));
    runtime.run(|| {
        drop(spawn(|| unblock(job).map_err(drop)));
        wait_until("the job runs", || blocking().running == 1);
        let ran = Arc::clone(&ran);
        drop(spawn(move || {
            loop {
                let ran = Arc::clone(&ran);
                // It swallows what would end it.
                let _ = catch_unwind(AssertUnwindSafe(|| shield(|| unblock(move || ran.store(true, Ordering::Release)).map_err(drop))));
            }
        }));
        wait_until("the other waits", || blocking().queued == 1);
    });
    let report = runtime.shutdown(Duration::from_millis(20));
    assert_eq!((report.leaked.len(), report.unfinished_jobs.len()), (1, 1), "{report}");
    drop(release);
    sleep(Duration::from_millis(50));
    assert!(!ran.load(Ordering::Acquire));
}

#[test]
fn clean_up_has_threads_until_all_coroutines_have_ended() {
    let runtime = build(one_worker());
    let cleaned = runtime.run(|| {
        let (began, begins) = channel::bounded(1);
        let cleaned = spawn(move || {
            began.send(()).expect("the test listens");
            assert!(weald_runtime::try_sleep(LONG).is_err());
            shield(|| unblock(|| fs::read("/proc/version"))).expect("shielded").is_ok()
        });
        begins.recv().expect("it begins");
        cleaned
    });
    assert!(runtime.shutdown(LONG).is_clean());
    assert!(cleaned.join().expect("no panic"));
}

#[test]
fn after_the_end_nothing_is_left_of_the_threads() {
    let runtime = build(one_worker().name("ephemeral"));
    runtime.run(|| unblock(|| ()).expect("not cancelled"));
    assert!(runtime.shutdown(LONG).is_clean());
    let tasks = fs::read_dir("/proc/self/task").expect("Linux");
    let names = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    assert_eq!(names.filter(|name| name.starts_with("ephemeral")).count(), 0);
}

#[test]
fn many_jobs_of_many_workers_lose_nothing() {
    let runtime = build(Runtime::builder().workers(2).max_blocking_threads(4).blocking_keep_alive(Duration::from_micros(200)));
    let ran = Arc::new(AtomicUsize::new(0));
    let (mut done, mut given_back, mut left) = (0, 0, 0);
    runtime.run(|| {
        let owners: Vec<_> = (0..200)
            .map(|owner| {
                let ran = Arc::clone(&ran);
                spawn(move || {
                    let mut counts = [0; 3];
                    for job in 0..50 {
                        let ran = Arc::clone(&ran);
                        let job_limit = Duration::from_micros(if (owner + job) % 3 == 0 { 100 } else { 60_000_000 });
                        match unblock_timeout(job_limit, move || ran.fetch_add(1, Ordering::Relaxed)) {
                            Ok(_) => counts[0] += 1,
                            Err(error) => counts[if error.into_function().is_some() { 1 } else { 2 }] += 1,
                        }
                        if job % 16 == 0 {
                            sleep(Duration::from_micros(300));
                        }
                    }
                    counts
                })
            })
            .collect();
        for owner in owners {
            let [a, b, c] = owner.join().expect("no panic");
            (done, given_back, left) = (done + a, given_back + b, left + c);
        }
    });
    assert!(runtime.shutdown(LONG).is_clean());
    assert_eq!(done + given_back + left, 10_000);
    assert_eq!(ran.load(Ordering::Relaxed), done + left);
}
