//! What a simulation says on standard error: whose panic it was, its seed, and how far a search is.
//!
//! A test runs itself again as a child, whose output it reads.

#![cfg(not(miri))]

use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use weald_runtime::time::Instant;
use weald_runtime::{Builder, sim, sleep, yield_now};

const CHILD: &str = "WEALD_SIMULATION_CHILD";
const SEED: &str = "WEALD_SEED";

/// Runs a test as a child, with this in [`SEED`].
fn child(test: &str, seed: Option<&str>) -> Output {
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    command.args(["--exact", test, "--nocapture"]).env(CHILD, test).env_remove(SEED).stdin(Stdio::null());
    if let Some(seed) = seed {
        command.env(SEED, seed);
    }
    command.output().expect("the child runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn is_child(test: &str) -> bool {
    std::env::var_os(CHILD).is_some_and(|child| child == test)
}

#[test]
fn a_panic_tells_coroutine_node_time_and_seed() {
    const TEST: &str = "a_panic_tells_coroutine_node_time_and_seed";
    if is_child(TEST) {
        return sim::run(41, || {
            let failing = || {
                sleep(Duration::from_secs(5));
                panic!("deliberate")
            };
            let server = sim::node("server").start();
            let serving = server.spawn(move || Builder::new().name("echo").spawn(failing).join());
            serving.join().expect("it ends").expect_err("it panics");
            sleep(Duration::from_secs(2));
            panic!("as deliberate");
        });
    }
    let output = child(TEST, None);
    let stderr = stderr(&output);
    assert!(!output.status.success(), "{stderr}");
    assert!(stderr.contains("deliberate\n"), "{stderr}");
    assert!(
        stderr.contains(
            "in coroutine 'echo' on node 'server', at 3605.000000000s of simulated time, spawned at runtime/tests/simulation.rs:"
        ),
        "{stderr}"
    );
    assert!(
        stderr.contains("in coroutine 'main', at 3607.000000000s of simulated time, spawned at runtime/tests/simulation.rs:"),
        "{stderr}"
    );
    assert!(stderr.contains("simulation with seed 41: its program panicked\n"), "{stderr}");
}

/// Two coroutines count by reading and then writing. Only some seeds let both read before either writes.
fn racy(seed: u64) {
    sim::run(seed, || {
        let counter = AtomicU32::new(0);
        weald_runtime::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let seen = counter.load(Ordering::Relaxed);
                    yield_now();
                    counter.store(seen + 1, Ordering::Relaxed);
                });
            }
        });
        assert_eq!(counter.load(Ordering::Relaxed), 2, "the planted bug");
    });
}

#[test]
fn a_seed_that_fails_is_named_and_run_again_by_the_command_that_is_printed() {
    const TEST: &str = "a_seed_that_fails_is_named_and_run_again_by_the_command_that_is_printed";
    if is_child(TEST) {
        sim::explore(0..1000, racy);
        return;
    }
    let output = child(TEST, None);
    let first = stderr(&output);
    assert!(!output.status.success(), "{first}");
    let (_, again) = first.split_once("again by: WEALD_SEED=").expect("how to run it again");
    let (seed, command) = again.split_once(' ').expect("a command");
    assert!(command.starts_with(&format!("cargo test {TEST}")), "{first}");
    let output = child(TEST, Some(seed));
    let again = stderr(&output);
    assert!(!output.status.success(), "{again}");
    assert!(again.contains(&format!("simulating seed {seed} only")), "{again}");
    assert!(again.contains(&format!("simulation with seed {seed}:")) && again.contains("the planted bug"), "{again}");
}

#[test]
fn a_seed_of_the_environment_is_the_only_one() {
    const TEST: &str = "a_seed_of_the_environment_is_the_only_one";
    if is_child(TEST) {
        let count = sim::explore([1, 2, 3], |seed| println!("ran {seed}."));
        println!("so many: {count}.");
        return;
    }
    let output = child(TEST, Some("12"));
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && stdout.contains("ran 12.") && stdout.contains("so many: 1."), "{stdout}");
    assert!(!["ran 1.", "ran 2.", "ran 3."].iter().any(|other| stdout.contains(other)), "{stdout}");
    let output = child(TEST, Some("twelve"));
    assert!(!output.status.success());
    assert!(stderr(&output).contains("WEALD_SEED is to be a seed, and is 'twelve'"), "{}", stderr(&output));
}

#[test]
fn a_search_tells_how_far_it_is() {
    const TEST: &str = "a_search_tells_how_far_it_is";
    if is_child(TEST) {
        let start = Instant::now();
        // One seed more when the time is over: however long the machine stalls, there is somebody to report.
        let mut over = false;
        let seeds = (100..).take_while(move |_| !std::mem::replace(&mut over, start.elapsed() > Duration::from_millis(2500)));
        let count = sim::explore(seeds, |_| sleep(Duration::from_millis(5)));
        println!("so many: {count}.");
        return;
    }
    let output = child(TEST, None);
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let (_, count) = stdout.split_once("so many: ").expect("it ends");
    let count: u64 = count.split_once('.').expect("a number").0.parse().expect("a number");
    let stderr = stderr(&output);
    let reports: Vec<(u64, u64)> = stderr
        .lines()
        .filter_map(|line| {
            let (explored, seed) = line.strip_prefix("explored ")?.split_once(" seeds, at seed ")?;
            Some((explored.parse().expect("a number"), seed.parse().expect("a number")))
        })
        .collect();
    // A busy machine may miss the second, or have time for a third.
    assert!((1..=3).contains(&reports.len()), "one a second: {stderr}");
    assert!(reports[0].0 > 0 && reports.is_sorted() && reports.last().is_some_and(|last| last.0 < count), "{count}: {stderr}");
    assert!(reports.iter().all(|(explored, seed)| *seed == 100 + explored), "{stderr}");
}
