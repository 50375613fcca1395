//! The runtime at its full size, through its public calls alone. (That a stack overflow ends the process with the coroutine's
//! name and its stack size is shown by the runtime's own `tests/overflow.rs`.)

use weald_runtime::channel::{bounded, unbounded};
use weald_runtime::{Builder, Runtime, spawn};

const COUNT: u64 = 100_000;

/// Every coroutine has started and waits at the same time as all others; then every one of them is let go.
#[test]
fn a_hundred_thousand_coroutines_wait_on_channels_at_once() {
    let runtime = Runtime::builder().workers(2).build().expect("a runtime");
    let sum = runtime.run(|| {
        let (arrived, arrivals) = unbounded();
        let waiting: Vec<_> = (0..COUNT)
            .map(|number| {
                let (release, released) = bounded::<u64>(1);
                let arrived = arrived.clone();
                let coroutine = spawn(move || {
                    arrived.send(number).expect("main waits for it");
                    released.recv().expect("main lets it go") + number
                });
                (release, coroutine)
            })
            .collect();
        for _ in 0..COUNT {
            arrivals.recv().expect("every coroutine arrives");
        }
        assert!(arrivals.is_empty());
        assert!(waiting.iter().all(|(_, coroutine)| !coroutine.is_finished()), "all are alive at once");
        for (release, _) in &waiting {
            release.send(1).expect("it waits");
        }
        waiting.into_iter().map(|(_, coroutine)| coroutine.join().expect("it does not panic")).sum::<u64>()
    });
    assert_eq!(sum, COUNT * (COUNT - 1) / 2 + COUNT);
}

/// All of them wait at one channel; one that is dropped wakes all.
#[test]
fn a_hundred_thousand_coroutines_wait_on_one_channel() {
    let runtime = Runtime::builder().workers(2).build().expect("a runtime");
    runtime.run(|| {
        let (release, released) = bounded::<()>(1);
        let (arrived, arrivals) = unbounded();
        let waiting: Vec<_> = (0..COUNT)
            .map(|number| {
                let (released, arrived) = (released.clone(), arrived.clone());
                let coroutine = Builder::new().name(format!("waiter {number}"));
                coroutine.spawn(move || {
                    arrived.send(()).expect("main waits for it");
                    released.recv().is_err()
                })
            })
            .collect();
        for _ in 0..COUNT {
            arrivals.recv().expect("every coroutine arrives");
        }
        drop(release);
        assert!(waiting.into_iter().all(|coroutine| coroutine.join().expect("it does not panic")));
    });
}
