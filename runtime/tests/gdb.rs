//! A debugger's backtrace out of a coroutine goes through the user's frames down to the coroutine's entry, and ends.
//!
//! The test runs itself again under gdb; without gdb it says so and proves nothing.

#![cfg(not(any(miri, weald_baton)))]

use std::process::Command;

const TEST: &str = "a_backtrace_goes_through_the_users_frames_and_ends";
const CHILD: &str = "WEALD_GDB_CHILD";

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn weald_gdb_innermost(value: u64) -> u64 {
    std::hint::black_box(value + 1)
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn weald_gdb_outer(value: u64) -> u64 {
    weald_runtime::yield_now();
    std::hint::black_box(weald_gdb_innermost(std::hint::black_box(value))) + 1
}

#[test]
fn a_backtrace_goes_through_the_users_frames_and_ends() {
    if std::env::var_os(CHILD).is_some() {
        let runtime = weald_runtime::Runtime::builder().workers(1).watchdog(None).build().expect("a runtime");
        assert_eq!(runtime.run(|| weald_runtime::spawn(|| weald_gdb_outer(1)).join().expect("no panic")), 3);
        return;
    }
    let me = std::env::current_exe().expect("this test");
    let output = Command::new("timeout")
        .args(["120", "gdb", "--batch", "--nx", "-ex", "set debuginfod enabled off", "-ex", "set backtrace limit 200"])
        .args(["-ex", "break weald_gdb_innermost", "-ex", "run", "-ex", "backtrace", "-ex", "kill", "--args"])
        .arg(me)
        .args(["--exact", TEST, "--nocapture"])
        .env(CHILD, "1")
        .output()
        .expect("timeout(1) runs");
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.code() == Some(127) {
        eprintln!("NOT TESTED: gdb is not installed");
        return;
    }
    if errors.contains("ptrace: Operation not permitted") || errors.contains("Couldn't get registers") {
        eprintln!("NOT TESTED: the system does not let gdb trace a process: {errors}");
        return;
    }
    let frames: Vec<_> = text.lines().filter(|line| line.starts_with('#')).collect();
    let position =
        |name: &str| frames.iter().position(|frame| frame.contains(name)).unwrap_or_else(|| panic!("no {name} in {text}{errors}"));
    assert_eq!(position("weald_gdb_innermost"), 0);
    assert!(position("weald_gdb_outer") < position("corosensei"), "the coroutine's entry is below the user's frames: {text}");
    assert!(frames.len() < 100, "it ends: {text}");
    for trouble in ["corrupt stack", "previous frame inner", "previous frame identical", "Cannot access memory", "Backtrace limit"] {
        assert!(!text.contains(trouble) && !errors.contains(trouble), "{text}{errors}");
    }
}
