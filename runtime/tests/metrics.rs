//! The counts of a runtime, against programs whose counts are known.

use std::time::Duration;

use weald_runtime::metrics::Metrics;
use weald_runtime::{Handle, Runtime, park, sim, sleep, spawn, spawn_local, spawn_on, yield_now};

/// What a program adds to the counts, as seen by its first coroutine. A simulation's rounds are the same each time.
fn counted(program: impl FnOnce()) -> (Metrics, Metrics) {
    sim::run(1, || {
        let handle = Handle::current().expect("inside");
        let before = handle.metrics();
        program();
        (before, handle.metrics())
    })
}

#[test]
fn coroutines_switches_and_parks_are_counted() {
    let (before, after) = counted(|| {
        for _ in 0..10 {
            spawn_local(|| (0..3).for_each(|_| yield_now())).join().expect("no panic");
        }
    });
    let more = |count: fn(&Metrics) -> u64| count(&after) - count(&before);
    assert_eq!(more(|m| m.total.spawned), 10);
    assert_eq!(more(|m| m.total.started), 10);
    assert_eq!(more(|m| m.total.finished), 10);
    assert_eq!(more(|m| m.total.parks), 10, "the joins");
    assert_eq!(more(|m| m.total.switches), 10 * 4 + 10);
    assert_eq!(after.alive, 1, "who asks");
    assert_eq!(after.workers[0].started + after.workers[1].started, after.total.started);
}

#[test]
fn timers_and_wakes_from_other_workers_are_counted() {
    let (before, after) = counted(|| {
        sleep(Duration::from_millis(1));
        let parked = spawn_on(1, park);
        sleep(Duration::from_millis(1));
        parked.coroutine().unpark();
        parked.join().expect("no panic");
    });
    assert_eq!(after.total.timers - before.total.timers, 2);
    assert_eq!(after.workers[1].remote_wakes - before.workers[1].remote_wakes, 2, "its spawn and its wake");
    assert_eq!(after.workers[0].remote_wakes - before.workers[0].remote_wakes, 1, "the join");
}

#[test]
fn lengths_of_queues_are_those_of_the_last_round() {
    sim::run(1, || {
        let handle = Handle::current().expect("inside");
        let sleepers: Vec<_> = (0..3).map(|_| spawn_local(|| sleep(Duration::from_secs(1)))).collect();
        let remote: Vec<_> = (0..4).map(|_| spawn_on(1, || sleep(Duration::from_millis(2)))).collect();
        sleep(Duration::from_millis(1));
        let metrics = handle.metrics();
        // Its own is gone or not, as the round may be.
        assert!((3..=4).contains(&metrics.workers[0].armed) && metrics.workers[1].armed == 4, "{metrics:?}");
        remote.into_iter().for_each(|one| one.join().expect("no panic"));
        let yielders: Vec<_> = (0..5).map(|_| spawn_local(|| (0..1_000).for_each(|_| yield_now()))).collect();
        (0..500).for_each(|_| yield_now());
        let metrics = handle.metrics();
        assert_eq!((metrics.workers[0].queued, metrics.workers[1].queued), (6, 0), "the yielders, and who asks");
        yielders.into_iter().for_each(|one| one.join().expect("no panic"));
        sleepers.into_iter().for_each(|one| one.join().expect("no panic"));
        let metrics = handle.metrics();
        assert_eq!((metrics.workers[1].armed, metrics.total.inbox), (0, metrics.workers[0].inbox + metrics.workers[1].inbox));
    });
}

#[test]
fn what_came_while_a_worker_was_held_is_the_length_of_its_inbox() {
    let runtime = Runtime::builder().workers(1).build().expect("a runtime");
    let handle = runtime.handle();
    let waiting = |_| {
        let own = handle.clone();
        handle.spawn(move || {
            park();
            own.metrics().workers[0].inbox
        })
    };
    let parked: Vec<_> = (0..5).map(waiting).collect();
    while handle.metrics().total.parks < 5 {
        std::thread::yield_now();
    }
    let all: Vec<_> = parked.iter().map(|one| one.coroutine()).collect();
    let holds = handle.spawn(move || std::thread::scope(|scope| drop(scope.spawn(|| all.iter().for_each(|one| one.unpark())).join())));
    holds.join().expect("no panic");
    let seen: Vec<_> = parked.into_iter().map(|one| one.join().expect("no panic")).collect();
    assert_eq!(seen.iter().max(), Some(&5), "{seen:?}");
}

#[test]
fn stacks_and_what_no_worker_has_taken_are_counted() {
    let (before, after) = counted(|| (0..5).for_each(|_| drop(spawn(yield_now))));
    assert_eq!((before.not_taken, after.not_taken), (0, 5));
    assert_eq!(after.free_stacks, before.free_stacks);
    // The baton backend keeps no stock of threads.
    assert!(after.free_stacks >= 1 || cfg!(any(miri, weald_baton)), "one is in use, of a batch");
}

#[test]
fn a_worker_that_sleeps_is_counted_and_rung() {
    let runtime = Runtime::builder().workers(1).build().expect("a runtime");
    let handle = runtime.handle();
    for _ in 0..20 {
        handle.spawn(|| ()).join().expect("no panic");
        std::thread::park_timeout(Duration::from_millis(2));
    }
    let metrics = handle.metrics();
    assert_eq!(metrics.spawned_outside, 20);
    assert_eq!(metrics.total.finished, 20);
    let worker = metrics.workers[0];
    assert!(worker.sleeps >= 10 && worker.rings >= 10, "{worker:?}");
    assert!(worker.rounds >= worker.sleeps && worker.polls > 0, "{worker:?}");
    assert!(worker.spin_hits + worker.spin_misses > 0, "{worker:?}");
}

#[cfg(feature = "metrics")]
mod facade {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    use metrics::{Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

    use super::*;

    type Seen = Arc<Mutex<BTreeMap<String, f64>>>;

    struct Cell(String, Seen);

    impl CounterFn for Cell {
        fn increment(&self, _value: u64) {
            panic!("counters are set");
        }
        fn absolute(&self, value: u64) {
            self.1.lock().expect("no panic").insert(self.0.clone(), value as f64);
        }
    }

    impl GaugeFn for Cell {
        fn increment(&self, _value: f64) {
            panic!("gauges are set");
        }
        fn decrement(&self, _value: f64) {
            panic!("gauges are set");
        }
        fn set(&self, value: f64) {
            self.1.lock().expect("no panic").insert(self.0.clone(), value);
        }
    }

    struct Remembers(Seen);

    impl Remembers {
        fn cell(&self, key: &Key) -> Arc<Cell> {
            let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
            Arc::new(Cell(format!("{}[{}]", key.name(), labels.join(",")), Arc::clone(&self.0)))
        }
    }

    impl Recorder for Remembers {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            Counter::from_arc(self.cell(key))
        }
        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::from_arc(self.cell(key))
        }
        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            panic!("there are none")
        }
    }

    #[test]
    fn every_count_is_published_under_its_name() {
        let (_, metrics) = counted(|| sleep(Duration::from_millis(1)));
        let seen = Seen::default();
        metrics::with_local_recorder(&Remembers(Arc::clone(&seen)), || metrics.publish("test"));
        let seen = seen.lock().expect("no panic");
        assert_eq!(seen["weald_switches_total[runtime=test,worker=0]"], metrics.workers[0].switches as f64);
        assert_eq!(seen["weald_timers_total[runtime=test,worker=0]"], 1.0);
        assert_eq!(seen["weald_coroutines_alive[runtime=test]"], 1.0);
        assert_eq!(seen["weald_blocking_threads[runtime=test]"], 0.0);
        assert_eq!(seen.len(), 2 * (metrics.total.named().len() + metrics.total.lengths().len()) + 8);
    }
}
