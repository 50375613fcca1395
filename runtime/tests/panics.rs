//! What a panic says: which coroutine, and, of a misuse, the caller's line.

use std::panic;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use weald_runtime::{Builder, Runtime, spawn, spawn_local, spawn_on};

const CHILD: &str = "WEALD_PANICS_CHILD";

fn runtime() -> Runtime {
    Runtime::builder().workers(1).build().expect("a runtime")
}

/// The test runs itself again as a child, whose standard error it reads.
#[test]
#[cfg_attr(miri, ignore = "starts a process")]
fn an_uncaught_panic_names_its_coroutine() {
    if std::env::var_os(CHILD).is_some() {
        runtime().run(|| {
            let kid = Builder::new().name("kid").spawn(|| panic!("oops"));
            eprintln!("joined: {}", kid.join().map(|never: ()| never).expect_err("it panicked"));
            drop(Builder::new().spawn(|| panic!("again")).join().map(|never: ()| never));
        });
        return;
    }
    let line = line!() - 6;
    let output = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "an_uncaught_panic_names_its_coroutine", "--nocapture"])
        .env(CHILD, "1")
        .stdin(Stdio::null())
        .output()
        .expect("the child runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    let named = format!("  in coroutine 'kid', spawned at runtime/tests/panics.rs:{line}:");
    assert!(stderr.contains(&named) && stderr.contains("joined: the coroutine 'kid' panicked: oops\n"), "{stderr}");
    let unnamed = stderr.lines().find(|text| text.starts_with("  in coroutine ") && text.contains(&format!("panics.rs:{}:", line + 2)));
    assert!(unnamed.is_some_and(|text| text.as_bytes()[15].is_ascii_digit()), "{stderr}");
}

#[test]
fn a_misuse_is_told_at_the_callers_line() {
    static FILES: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let misuses: [fn(); 6] = [
        || drop(spawn(|| ())),
        || drop(spawn_on(0, || ())),
        || drop(spawn_local(|| ())),
        || drop(Builder::new().spawn(|| ())),
        || drop(runtime().handle().spawn_on(99, || ())),
        || runtime().run(|| drop(spawn_on(99, || ()))),
    ];
    let former = panic::take_hook();
    panic::set_hook(Box::new(|info| {
        let file = info.location().map_or_else(String::new, |location| location.file().to_owned());
        FILES.lock().unwrap_or_else(PoisonError::into_inner).push(file);
    }));
    let refused = misuses.map(|misuse| panic::catch_unwind(misuse).is_err());
    panic::set_hook(former);
    assert_eq!(refused, [true; 6]);
    assert_eq!(*FILES.lock().unwrap_or_else(PoisonError::into_inner), [file!(); 6]);
}
