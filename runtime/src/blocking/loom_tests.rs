//! Models of the hand-over of blocking jobs. A lost job, ring or result is a dead-lock, which loom reports.

use super::error::UnblockError;
use super::job;
use super::pool::{Counts, Limits, Origin, Pool};
use crate::primitive::Arc;
use crate::primitive::atomic::{AtomicUsize, Ordering};
use crate::time::Instant;
use crate::wait_list::{Limit, loom_tests::model};
use loom::thread;
use std::panic::Location;
use std::time::Duration;

/// As a deadline: passed at the first look at the clock, so that only the order of steps decides.
const AT_ONCE: Limit = Limit::At(Instant::from_nanos(0));
/// As a keep-alive: over as soon as the thread has waited once.
const NOT_AT_ALL: Duration = Duration::ZERO;

fn pool(threads: usize, keep_alive: Duration) -> Arc<Pool> {
    Arc::new(Pool::new("model".to_owned(), Limits { threads, keep_alive }))
}

fn origin() -> Origin {
    Origin { place: Location::caller(), coroutine: 0, name: None }
}

fn run_number(pool: &Arc<Pool>, number: usize, limit: Limit) -> Result<usize, bool> {
    match job::run(pool, move || number, origin(), limit) {
        Ok(returned) => Ok(returned.expect("no panic")),
        Err(error) => Err(error.into_function().is_some()),
    }
}

/// Ends the pool. Its jobs have ended then, and its threads.
fn close(pool: &Pool) {
    assert!(pool.close(Instant::from_nanos(u64::MAX)).is_empty());
    let Counts { running, threads, .. } = pool.counts();
    assert_eq!((running, threads), (0, 0));
}

/// A job ends, or begins, while its owner leaves: it has run and its result is there or dropped, or it has not and is given back.
#[test]
fn loom_blocking_job_against_cancel() {
    model(|| {
        let pool = pool(1, Duration::MAX);
        let ran = Arc::new(AtomicUsize::new(0));
        let result = {
            let ran = Arc::clone(&ran);
            // Ordering: Relaxed; the pool's end orders the count.
            job::run(&pool, move || ran.fetch_add(1, Ordering::Relaxed), origin(), AT_ONCE)
        };
        let given_back = match result {
            Ok(returned) => returned.map(|_| false).expect("no panic"),
            Err(UnblockError::Timeout(function)) => function.is_some(),
            Err(error) => unreachable!("{error}"),
        };
        close(&pool);
        assert_eq!(ran.load(Ordering::Relaxed), usize::from(!given_back));
    });
}

/// A thread whose time is over, and a job that counts on it.
#[test]
fn loom_blocking_submit_against_idle_timeout() {
    model(|| {
        let pool = pool(1, NOT_AT_ALL);
        for number in 0..2 {
            assert_eq!(run_number(&pool, number, Limit::Never), Ok(number));
        }
        close(&pool);
    });
}

/// A thread that waits, and two jobs at once: one rings it, the other starts another.
#[test]
fn loom_blocking_two_jobs_one_waiting_thread() {
    model(|| {
        let pool = pool(2, Duration::MAX);
        assert_eq!(run_number(&pool, 0, Limit::Never), Ok(0));
        let other = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || run_number(&pool, 1, Limit::Never))
        };
        assert_eq!(run_number(&pool, 2, Limit::Never), Ok(2));
        assert_eq!(other.join().expect("no panic"), Ok(1));
        close(&pool);
    });
}

/// Two jobs and one thread: the second waits for its turn, or is taken back.
#[test]
fn loom_blocking_full_pool() {
    for limit in [Limit::Never, AT_ONCE] {
        model(move || {
            let pool = pool(1, Duration::MAX);
            let other = {
                let pool = Arc::clone(&pool);
                thread::spawn(move || run_number(&pool, 1, Limit::Never))
            };
            let own = run_number(&pool, 2, limit);
            assert!(own == Ok(2) || (matches!(limit, Limit::At(_)) && own.is_err()));
            assert_eq!(other.join().expect("no panic"), Ok(1));
            close(&pool);
        });
    }
}

/// A pool that ends while a job comes: it is refused, taken back, or run to its end, which the close waits for.
#[test]
fn loom_blocking_submit_against_close() {
    model(|| {
        let pool = pool(1, Duration::MAX);
        let ran = Arc::new(AtomicUsize::new(0));
        let owner = {
            let (pool, ran) = (Arc::clone(&pool), Arc::clone(&ran));
            thread::spawn(move || {
                // Ordering: Relaxed; the close orders the count.
                job::run(&pool, move || ran.fetch_add(1, Ordering::Relaxed), origin(), AT_ONCE).map(drop)
            })
        };
        close(&pool);
        let before = ran.load(Ordering::Relaxed);
        let given_back = match owner.join().expect("no panic") {
            Ok(()) => false,
            Err(error) => error.into_function().is_some(),
        };
        assert_eq!(before, ran.load(Ordering::Relaxed), "nothing begins in a closed pool, and nothing runs on");
        assert_eq!(before, usize::from(!given_back));
        assert_eq!(pool.counts().queued, 0);
    });
}
