//! The runtime alone: coroutines with the names of `std::thread`, and channels: `cargo run --example coroutines -p weald`.

use std::time::Duration;

use weald_runtime::{channel, sleep, spawn, time::Instant};

fn main() {
    weald_runtime::run(|| {
        many_sleepers();
        pipeline();
        a_panic_stays_where_it_is();
    });
}

/// Ten thousand coroutines that block at once: each has a stack of its own, and none a thread.
fn many_sleepers() {
    let began = Instant::now();
    let sleepers: Vec<_> = (0..10_000u64)
        .map(|n| {
            spawn(move || {
                sleep(Duration::from_millis(100));
                n
            })
        })
        .collect();
    let sum: u64 = sleepers.into_iter().map(|sleeper| sleeper.join().expect("it does not panic")).sum();
    println!("10,000 coroutines slept for 100 ms in {} ms; their numbers add up to {sum}", began.elapsed().as_millis());
}

/// Three stages joined by channels. A full channel blocks its sender, and a stage ends when the one before it has.
fn pipeline() {
    let (numbers_in, numbers) = channel::bounded(16);
    let (squares_in, squares) = channel::bounded(16);
    let source = spawn(move || {
        for n in 1..=1000u64 {
            // It fails only when nobody receives any more.
            if numbers_in.send(n).is_err() {
                return;
            }
        }
    });
    // Receivers are shared: whoever is free takes the next number.
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let (numbers, squares_in) = (numbers.clone(), squares_in.clone());
            spawn(move || numbers.iter().all(|n| squares_in.send(n * n).is_ok()))
        })
        .collect();
    drop(squares_in);
    let sum: u64 = squares.iter().sum();
    source.join().expect("the source ends");
    assert!(workers.into_iter().all(|worker| worker.join().expect("a worker ends")));
    println!("the squares of 1 to 1000 add up to {sum}");
}

/// A panic ends its coroutine alone; whoever joins it is told.
fn a_panic_stays_where_it_is() {
    let coroutine = weald_runtime::Builder::new().name("doomed").spawn(|| panic!("on purpose"));
    match coroutine.join() {
        Ok(()) => println!("it did not panic?"),
        Err(error) => println!("its message is above; whoever joins it gets: {error}"),
    }
}
