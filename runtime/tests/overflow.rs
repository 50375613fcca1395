//! A coroutine that overflows its stack ends the process with its name and stack size.
//!
//! The test runs itself again as a child, which overflows.

// The baton backend's coroutines have threads' stacks, whose overflow std reports.
#![cfg(not(any(miri, weald_baton)))]

use std::process::{Command, Stdio};

use weald_runtime::{Builder, Runtime};

const CHILD: &str = "WEALD_OVERFLOW_CHILD";

#[expect(unconditional_recursion, reason = "the point of the test")]
fn recurse(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 64]);
    recurse(depth + 1) + frame[3]
}

fn overflow_in_child(test: &str) -> String {
    let output = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, test)
        .stdin(Stdio::null())
        .output()
        .expect("the child runs");
    let signal = std::os::unix::process::ExitStatusExt::signal(&output.status);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(signal, Some(6), "SIGABRT; standard error: {stderr}");
    stderr
}

fn is_child(test: &str) -> bool {
    std::env::var_os(CHILD).is_some_and(|child| child == test)
}

#[test]
fn names_the_coroutine_and_its_stack_size() {
    const TEST: &str = "names_the_coroutine_and_its_stack_size";
    if is_child(TEST) {
        let runtime = Runtime::builder().workers(1).build().expect("a runtime");
        runtime.run(|| drop(Builder::new().name("digger").spawn(|| recurse(0)).join()));
    }
    let stderr = overflow_in_child(TEST);
    assert!(stderr.contains("coroutine 'digger' has overflowed its stack of 96 KiB"), "{stderr}");
}

#[test]
fn reports_the_size_of_a_larger_stack_and_a_coroutine_without_a_name() {
    const TEST: &str = "reports_the_size_of_a_larger_stack_and_a_coroutine_without_a_name";
    if is_child(TEST) {
        let runtime = Runtime::builder().workers(1).build().expect("a runtime");
        runtime.run(|| drop(Builder::new().stack_size(512 * 1024).spawn(|| recurse(0)).join()));
    }
    let stderr = overflow_in_child(TEST);
    assert!(stderr.contains("(unnamed) has overflowed its stack of 512 KiB"), "{stderr}");
}

/// A thread's own overflow is still std's to report: the earlier handler is chained.
#[test]
fn leaves_other_faults_to_the_handler_before_it() {
    const TEST: &str = "leaves_other_faults_to_the_handler_before_it";
    if is_child(TEST) {
        weald_runtime::run(|| ());
        recurse(0);
    }
    let stderr = overflow_in_child(TEST);
    assert!(stderr.contains("has overflowed its stack"), "{stderr}");
    assert!(!stderr.contains("coroutine"), "{stderr}");
}
