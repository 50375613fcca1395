//! A coroutine that overflows its stack ends the process with its name and stack size.
//!
//! The test runs itself again as a child, which overflows.

// The baton backend's coroutines have threads' stacks, whose overflow std reports.
#![cfg(not(any(miri, weald_baton)))]

use std::process::{Command, Output, Stdio};

use weald_runtime::{Builder, Runtime};

const CHILD: &str = "WEALD_OVERFLOW_CHILD";

#[expect(unconditional_recursion, reason = "the point of the test")]
fn recurse(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 64]);
    recurse(depth + 1) + frame[3]
}

fn child(test: &str) -> Output {
    Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, test)
        .stdin(Stdio::null())
        .output()
        .expect("the child runs")
}

fn overflow_in_child(test: &str) -> String {
    let output = child(test);
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

#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    // What a C compiler makes of a recursive function with an array of 30 KiB: the frame is made at once, without a probe of the
    // pages between, and only its lowest byte is written.
    ".globl weald_test_foreign_frames",
    "weald_test_foreign_frames:",
    "sub rsp, 30720",
    "mov byte ptr [rsp], 1",
    "call weald_test_foreign_frames",
    "add rsp, 30720",
    "ret",
);

/// The guard is larger than the steps, so that none of them passes over it.
#[cfg(target_arch = "x86_64")]
#[test]
fn names_the_coroutine_that_overflows_in_foreign_frames_without_stack_probes() {
    unsafe extern "C" {
        fn weald_test_foreign_frames();
    }
    const TEST: &str = "names_the_coroutine_that_overflows_in_foreign_frames_without_stack_probes";
    if is_child(TEST) {
        let runtime = Runtime::builder().workers(1).build().expect("a runtime");
        // Neighbours below and above, into which a step over the guard would fall.
        runtime.run(|| {
            let neighbours: Vec<_> = (0..8).map(|_| weald_runtime::spawn(weald_runtime::park)).collect();
            weald_runtime::yield_now();
            // SAFETY: none: it overflows the stack, as the test wants.
            let digger = Builder::new().name("foreign digger").spawn(|| unsafe { weald_test_foreign_frames() });
            drop(digger.join());
            drop(neighbours);
        });
    }
    let stderr = overflow_in_child(TEST);
    assert!(stderr.contains("coroutine 'foreign digger' has overflowed its stack of 96 KiB"), "{stderr}");
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

extern "C" fn earlier_handler(_signal: i32) {
    let said = b"the earlier handler was called\n";
    // SAFETY: writes a constant and ends the process, both of which a signal handler may.
    unsafe {
        libc::write(libc::STDERR_FILENO, said.as_ptr().cast(), said.len());
        libc::_exit(42);
    }
}

/// Reads where nothing is mapped, from a coroutine.
fn fault_in_a_coroutine() {
    weald_runtime::run(|| {
        let faulty = weald_runtime::spawn(|| {
            let nowhere = std::hint::black_box(std::ptr::without_provenance::<u8>(8));
            // SAFETY: none: it faults, as the test wants.
            unsafe { nowhere.read_volatile() }
        });
        drop(faulty.join());
    });
}

#[test]
fn a_fault_outside_of_guards_reaches_the_handler_installed_before() {
    const TEST: &str = "a_fault_outside_of_guards_reaches_the_handler_installed_before";
    if is_child(TEST) {
        // SAFETY: the handler does only what a handler may.
        unsafe { libc::signal(libc::SIGSEGV, earlier_handler as extern "C" fn(i32) as usize) };
        fault_in_a_coroutine();
    }
    let output = child(TEST);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(42), "{stderr}");
    assert!(stderr.contains("the earlier handler was called") && !stderr.contains("overflowed"), "{stderr}");
}

#[test]
fn a_fault_outside_of_guards_ends_the_process_as_ever() {
    const TEST: &str = "a_fault_outside_of_guards_ends_the_process_as_ever";
    if is_child(TEST) {
        // SAFETY: the default action, without std's handler for threads between.
        unsafe { libc::signal(libc::SIGSEGV, libc::SIG_DFL) };
        fault_in_a_coroutine();
    }
    let output = child(TEST);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&output.status), Some(11), "SIGSEGV; {stderr}");
    assert!(!stderr.contains("overflowed"), "{stderr}");
}
