//! The small examples run to their end and say what they promise.

use std::{path::Path, process::Command};

/// Runs the example that `cargo test` built beside the program, and gives what it printed.
fn run(name: &str) -> String {
    let example = Path::new(env!("CARGO_BIN_EXE_weald")).with_file_name("examples").join(name);
    let output = Command::new(&example).output().unwrap_or_else(|error| panic!("{error}; first: cargo build -p weald --example {name}"));
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn hello() {
    assert_eq!(run("hello"), "200 OK You asked for /\n200 OK You asked for /hello\n");
}

#[test]
fn echo() {
    assert!(run("echo").starts_with("200 streams, 2290000 bytes there and back"));
}

#[test]
fn coroutines() {
    let said = run("coroutines");
    assert!(said.contains("49995000") && said.contains("333833500") && said.contains("on purpose"), "{said}");
}

#[test]
fn simulate() {
    let said = run("simulate");
    assert!(said.contains("gives the same trace"), "{said}");
    assert_eq!(said, run("simulate"));
}
