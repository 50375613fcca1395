//! In a program built with `panic = "abort"`: a panic ends it, and a shutdown leaks what it would have unwound.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Output};

/// Builds the program, which has a folder of its own, since all it depends on is built anew.
fn program() -> PathBuf {
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("panic-abort");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--offline", "--example", "panic_abort", "--target-dir"])
        .arg(&target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("CARGO_PROFILE_DEV_PANIC", "abort")
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .output()
        .expect("cargo runs");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    // Programs for a target that was asked for have a folder of its name.
    target.join(std::env::var_os("CARGO_BUILD_TARGET").unwrap_or_default()).join("debug/examples/panic_abort")
}

fn run(what: &str) -> (Output, String) {
    let output = Command::new(program()).arg(what).output().expect("it was built");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, stderr)
}

#[test]
#[cfg_attr(miri, ignore = "starts processes")]
fn a_panic_ends_the_process() {
    let (output, stderr) = run("panic");
    assert_eq!(output.status.signal(), Some(6), "{stderr}");
    assert!(stderr.contains("deliberate") && output.stdout.is_empty(), "{stderr}");
}

#[test]
#[cfg_attr(miri, ignore = "starts processes")]
fn a_shutdown_leaks_and_names_what_it_cannot_unwind() {
    let (output, stderr) = run("shutdown");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{stdout}{stderr}");
    for name in ["'parked'", "'busy'", "'owner'", "'child'"] {
        assert!(stdout.contains(name), "{name} in {stdout}");
    }
    assert!(!stdout.contains("'polite'"), "{stdout}");
}

#[test]
#[cfg_attr(miri, ignore = "starts processes")]
fn a_simulated_crash_says_why_it_cannot_be() {
    let (output, stderr) = run("crash");
    assert_eq!(output.status.signal(), Some(6), "{stderr}");
    assert!(stderr.contains("a simulated node crashes") && stderr.contains("abort"), "{stderr}");
}
