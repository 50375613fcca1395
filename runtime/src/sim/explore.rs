//! Many seeds, on all processors, until one fails.
//!
//! Owns the threads and the report. Each simulation stays on the thread that began it.
//!
//! Invariant: seeds are begun in their order, and all that were begun before a failing one are brought to their end: the seed
//! that is reported is the first that fails, however many processors there are.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};
use std::thread;
use std::time::Duration;

use crate::primitive::Mutex;
use crate::scheduler::current::{self, Place};
use crate::task::panic_message;
use crate::time::Instant;

/// The variable of the environment that names the one seed to be run.
const SEED_VARIABLE: &str = "WEALD_SEED";
/// How often progress is told.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Calls `simulation` with each of `seeds`, on all processors, and returns how many there were. It is to run one simulation with
/// the seed, and to panic if that finds a fault.
///
/// The first seed that fails ends the search. Every second a line on standard error says how far it is. If the variable
/// `WEALD_SEED` is set in the environment, only that seed is run.
///
/// ```
/// use std::sync::{Arc, atomic::{AtomicU32, Ordering}};
/// use weald_runtime::{sim, sleep, spawn};
///
/// // Two coroutines count by reading and then writing. Only some seeds let both read before either writes.
/// let search = std::panic::catch_unwind(|| {
///     sim::explore(0..1000, |seed| {
///         sim::run(seed, || {
///             let counter = Arc::new(AtomicU32::new(0));
///             let counting: Vec<_> = (0..2)
///                 .map(|_| {
///                     let counter = Arc::clone(&counter);
///                     spawn(move || {
///                         let seen = counter.load(Ordering::Relaxed);
///                         weald_runtime::yield_now();
///                         counter.store(seen + 1, Ordering::Relaxed);
///                     })
///                 })
///                 .collect();
///             counting.into_iter().for_each(|counting| counting.join().unwrap());
///             assert_eq!(counter.load(Ordering::Relaxed), 2);
///         })
///     })
/// });
/// let message = *search.expect_err("a seed fails").downcast::<String>().unwrap();
/// assert!(message.contains("WEALD_SEED="));
/// ```
///
/// # Panics
///
/// With the message of the first seed that fails, and how to run it again; in a runtime; and if `WEALD_SEED` is no number.
#[track_caller]
pub fn explore<S, F>(seeds: S, simulation: F) -> u64
where
    S: IntoIterator<Item = u64>,
    S::IntoIter: Send,
    F: Fn(u64) + Sync,
{
    assert!(current::place() == Place::Thread, "simulations are runtimes of their own: explore outside of one");
    match std::env::var(SEED_VARIABLE) {
        Ok(text) => {
            let Ok(seed) = text.parse() else { panic!("{SEED_VARIABLE} is to be a seed, and is '{text}'") };
            eprintln!("simulating seed {seed} only, as {SEED_VARIABLE} says");
            simulation(seed);
            1
        }
        Err(_) => search(seeds.into_iter(), &simulation),
    }
}

struct Failure {
    seed: u64,
    position: u64,
    payload: Box<dyn Any + Send>,
}

struct Search<I> {
    seeds: I,
    begun: u64,
    failure: Option<Failure>,
    reported: Instant,
}

#[track_caller]
fn search(seeds: impl Iterator<Item = u64> + Send, simulation: &(impl Fn(u64) + Sync)) -> u64 {
    let search = Mutex::new(Search { seeds, begun: 0, failure: None, reported: Instant::now() });
    let name = thread::current().name().map(str::to_owned);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            // Messages of panics name the thread.
            let builder = thread::Builder::new().name(name.clone().unwrap_or_else(|| "explore".to_owned()));
            let spawned = builder.spawn_scoped(scope, || {
                loop {
                    let next = search.lock().begin();
                    let Some((position, seed)) = next else { break };
                    if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| simulation(seed))) {
                        search.lock().fail(Failure { seed, position, payload });
                    }
                }
            });
            if let Err(error) = spawned {
                panic!("cannot start a thread to simulate on: {error}");
            }
        }
    });
    let search = search.lock();
    let Some(Failure { seed, payload, .. }) = &search.failure else { return search.begun };
    let message = panic_message(&**payload).unwrap_or("(no message)");
    let filter = name.as_deref().unwrap_or("");
    panic!("seed {seed} fails: {message}\n  again by: {SEED_VARIABLE}={seed} cargo test {filter}");
}

impl<I: Iterator<Item = u64>> Search<I> {
    fn begin(&mut self) -> Option<(u64, u64)> {
        if self.failure.is_some() {
            return None;
        }
        let seed = self.seeds.next()?;
        self.begun += 1;
        let now = Instant::now();
        if now - self.reported >= REPORT_EVERY {
            self.reported = now;
            eprintln!("explored {} seeds, at seed {seed}", self.begun - 1);
        }
        Some((self.begun, seed))
    }

    fn fail(&mut self, failure: Failure) {
        if self.failure.as_ref().is_none_or(|known| failure.position < known.position) {
            self.failure = Some(failure);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::{channel, sim, spawn};

    fn report(f: impl FnOnce() -> u64) -> String {
        let payload = panic::catch_unwind(AssertUnwindSafe(f)).expect_err("a seed fails");
        panic_message(&*payload).expect("a text").to_owned()
    }

    /// Whoever comes second in the queue wins, which depends on the turns that the workers get.
    fn race(seed: u64) {
        sim::Simulation::new(seed).workers(4).run(|| {
            let (sender, receiver) = channel::unbounded();
            let racing: Vec<_> = (0..4)
                .map(|number| {
                    let sender = sender.clone();
                    crate::spawn_on(number, move || sender.send(number).expect("open"))
                })
                .collect();
            racing.into_iter().for_each(|racing| racing.join().expect("no panic"));
            let order: Vec<_> = (0..4).map(|_| receiver.recv().expect("four")).collect();
            assert_ne!(order, [0, 2, 3, 1], "the planted bug");
        });
    }

    #[test]
    fn it_finds_the_lowest_seed_of_a_race() {
        let lowest = (0..10_000).find(|&seed| panic::catch_unwind(|| race(seed)).is_err()).expect("some seed shows it");
        for _ in 0..3 {
            let text = report(|| explore(0..10_000, race));
            assert!(text.starts_with(&format!("seed {lowest} fails: ")) && text.contains("the planted bug"), "{text}");
            assert!(text.contains(&format!("WEALD_SEED={lowest} cargo test ")), "{text}");
        }
        if lowest > 0 {
            assert_eq!(explore(0..lowest, race), lowest, "those before it pass");
        }
    }

    #[test]
    fn a_later_seed_that_fails_sooner_is_not_the_one_reported() {
        let slow = AtomicU64::new(0);
        let text = report(|| {
            explore(5..100, |seed| {
                if seed == 5 {
                    let start = Instant::now();
                    while slow.load(Ordering::Relaxed) == 0 && start.elapsed() < Duration::from_secs(5) {
                        thread::yield_now();
                    }
                } else {
                    slow.store(1, Ordering::Relaxed);
                }
                panic!("seed {seed} itself");
            })
        });
        assert!(text.contains("seed 5 itself"), "{text}");
    }

    #[test]
    fn each_seed_is_run_once() {
        let run = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&run);
        assert_eq!(explore([7, 3, 9], move |seed| seen.lock().expect("no panic").push(seed)), 3);
        let mut seeds = run.lock().expect("no panic").clone();
        seeds.sort_unstable();
        assert_eq!(seeds, [3, 7, 9]);
        sim::run(1, || spawn(|| panic::catch_unwind(|| explore([1], |_| ())).is_err()).join())
            .map(|refused| assert!(refused))
            .expect("no panic");
    }
}
