//! What a pool promises when jobs come in a row, panic, do not end, or nobody is left to submit them.

use std::sync::mpsc::{self, Receiver, Sender};

use super::*;

const LONG: Duration = Duration::from_secs(20);

/// A job that waits until it is let go, and says when it has begun.
fn held(begun: &Sender<()>) -> (impl FnOnce() + Send + 'static, Sender<()>) {
    let (release, released) = mpsc::channel::<()>();
    let begun = begun.clone();
    let job = move || {
        let _ = begun.send(());
        // Ends as well when the test does.
        let _ = released.recv();
    };
    (job, release)
}

/// Waits until it holds.
#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = present();
    while !holds() {
        assert!(begin.elapsed() < LONG, "{what}");
        std::thread::yield_now();
    }
}

fn submit(pool: &CryptoPool, job: impl FnOnce() + Send + 'static) {
    pool.submit(job).unwrap_or_else(|_| panic!("not taken: {pool:?}"));
}

/// A pool whose threads are all held, and what lets them go.
fn with_held_threads(threads: usize, queue: usize, stuck_after: Duration) -> (CryptoPool, Vec<Sender<()>>) {
    let pool = CryptoPool::with(threads, queue, stuck_after);
    let (begun, begins) = mpsc::channel();
    let releases = (0..threads).map(|_| {
        let (job, release) = held(&begun);
        submit(&pool, job);
        begins.recv_timeout(LONG).unwrap();
        release
    });
    let releases = releases.collect();
    (pool, releases)
}

#[test]
fn jobs_run_in_order_and_are_counted() {
    let pool = CryptoPool::new(1);
    assert_eq!(pool.stats(), CryptoPoolStats::default(), "no thread before there is a job");
    let (results, received) = mpsc::channel();
    for number in 0..100 {
        let results = results.clone();
        submit(&pool, move || results.send(number).unwrap());
    }
    let order: Vec<i32> = (0..100).map(|_| received.recv_timeout(LONG).unwrap()).collect();
    assert_eq!(order, (0..100).collect::<Vec<_>>());
    eventually("all are counted", || pool.stats().ran.count() == 100);
    let stats = pool.stats();
    assert_eq!((stats.waited.count(), stats.queued, stats.threads), (100, 0, 1));
}

#[test]
fn several_threads_work_at_once_and_no_more_than_there_may_be() {
    let (pool, releases) = with_held_threads(3, 10, LONG);
    assert_eq!((pool.stats().threads, pool.stats().running), (3, 3));
    let (results, received) = mpsc::channel();
    submit(&pool, move || results.send(()).unwrap());
    assert!(received.recv_timeout(Duration::from_millis(50)).is_err(), "there is no fourth");
    assert_eq!((pool.stats().threads, pool.queued()), (3, 1));
    drop(releases);
    received.recv_timeout(LONG).unwrap();
}

#[test]
fn a_full_queue_gives_jobs_back() {
    let (pool, releases) = with_held_threads(1, 2, LONG);
    let (results, received) = mpsc::channel();
    let job = |number| {
        let results = results.clone();
        move || results.send(number).unwrap()
    };
    submit(&pool, job(1));
    submit(&pool, job(2));
    let Err(NotTaken(third)) = pool.submit(job(3)) else { panic!("two may wait") };
    assert_eq!((pool.queued(), pool.stats().not_taken, pool.stats().here), (2, 1, 0));
    // Its submitter can run one itself: that which waits longest.
    assert!(pool.run_one());
    assert_eq!((received.try_recv(), pool.stats().here), (Ok(1), 1));
    submit(&pool, third);
    drop(releases);
    let rest: Vec<i32> = (0..2).map(|_| received.recv_timeout(LONG).unwrap()).collect();
    assert_eq!(rest, [2, 3]);
    eventually("nothing waits", || !pool.run_one() && pool.queued() == 0);
}

#[test]
fn a_job_that_panics_costs_no_other_and_no_thread() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("of this test: a panic's value panics when it is dropped");
        }
    }
    let (pool, releases) = with_held_threads(1, 100, LONG);
    let (results, received) = mpsc::channel();
    for number in 0..20 {
        let results = results.clone();
        submit(&pool, move || match number % 4 {
            1 => panic!("of this test"),
            3 => std::panic::panic_any(Bomb),
            _ => results.send(number).unwrap(),
        });
    }
    // Four of them run on this thread.
    assert!((0..4).all(|_| pool.run_one()));
    drop(releases);
    let done: Vec<i32> = (0..10).map(|_| received.recv_timeout(LONG).unwrap()).collect();
    assert_eq!(done, [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]);
    eventually("all are counted", || pool.stats().panics == 10);
    assert_eq!((pool.stats().threads, pool.stats().here), (1, 4));
}

#[test]
fn threads_that_are_stuck_are_replaced_and_no_more_than_there_may_be() {
    let after = Duration::from_millis(20);
    let (pool, first) = with_held_threads(2, 100, after);
    // Of each of the first two another takes the place.
    eventually("two are written off", || {
        pool.watch();
        pool.stats().stuck == 2
    });
    assert_eq!((pool.stats().threads, pool.stats().written_off), (2, 2));
    let (begun, begins) = mpsc::channel();
    let mut second = Vec::new();
    for _ in 0..2 {
        let (job, release) = held(&begun);
        submit(&pool, job);
        begins.recv_timeout(LONG).unwrap();
        second.push(release);
    }
    // Those are stuck as well, and now that is that.
    std::thread::park_timeout(3 * after);
    pool.watch();
    let (results, received) = mpsc::channel();
    let results_again = results.clone();
    submit(&pool, move || results.send(()).unwrap());
    assert!(received.recv_timeout(2 * after).is_err());
    assert_eq!((pool.stats().threads, pool.stats().stuck, pool.stats().written_off), (2, 2, 2));
    // A job that ends after all lets its thread go, and another may be replaced.
    drop(first);
    eventually("the first two are gone", || pool.stats().stuck == 0);
    eventually("the others are replaced", || {
        pool.watch();
        received.try_recv().is_ok()
    });
    submit(&pool, move || results_again.send(()).unwrap());
    received.recv_timeout(LONG).unwrap();
    drop(second);
    eventually("nobody is stuck", || pool.stats().stuck == 0);
    assert!(pool.stats().threads <= 2);
}

#[test]
fn what_waits_runs_after_the_last_handle_is_gone_and_then_the_threads_end() {
    let (pool, releases) = with_held_threads(1, 100, LONG);
    let (results, received): (_, Receiver<i32>) = mpsc::channel();
    for number in 0..10 {
        let results = results.clone();
        submit(&pool, move || results.send(number).unwrap());
    }
    drop(results);
    let shared = Arc::downgrade(pool.shared());
    drop(pool.clone());
    drop(pool);
    drop(releases);
    assert_eq!(received.iter().count(), 10);
    eventually("threads let go of what they share", || shared.strong_count() == 0);
}

#[test]
fn its_threads_wait_for_everything_else() {
    let pool = CryptoPool::new(1);
    let (results, received) = mpsc::channel();
    submit(&pool, move || results.send(thread_priority::thread_schedule_policy()).unwrap());
    let policy = received.recv_timeout(LONG).unwrap().unwrap();
    assert_eq!(policy, ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle));
}

#[test]
fn a_pool_without_threads_takes_nothing_and_counts_what_runs_elsewhere() {
    let pool = CryptoPool::new(0);
    let Err(NotTaken(job)) = pool.submit(|| ()) else { panic!("nobody would run it") };
    assert_eq!(pool.run_here(|| 7), 7);
    pool.run_here(job);
    assert!(!pool.run_one());
    let stats = pool.stats();
    assert_eq!((stats.here, stats.ran.count(), stats.not_taken, stats.threads), (2, 2, 1, 0));
    // Neither does one with threads and no room.
    assert!(CryptoPool::with_queue(1, 0).submit(|| ()).is_err());
}
