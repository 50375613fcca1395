//! SIGQUIT prints the dump of all runtimes that asked for it, and the process goes on; a handler that was there before is called.
//!
//! The test runs itself again as a child, which signals itself.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use weald_runtime::time::Instant;
use weald_runtime::{Builder, Runtime, sleep};

const CHILD: &str = "WEALD_SIGQUIT_CHILD";
const TEST: &str = "sigquit_prints_all_runtimes_and_the_process_goes_on";

static EARLIER: AtomicUsize = AtomicUsize::new(0);

extern "C" fn earlier(_signal: libc::c_int) {
    EARLIER.fetch_add(1, Ordering::Relaxed);
}

/// Signals itself twice, each time when it is told to, and says at the end how often the earlier handler was called.
fn child() {
    // SAFETY: the handler only counts.
    unsafe { libc::signal(libc::SIGQUIT, earlier as *const () as usize) };
    let first = Runtime::builder().workers(1).name("first").dump_on_sigquit(true).build().expect("a runtime");
    let second = Runtime::builder().workers(1).name("second").build().expect("a runtime");
    let gone = Runtime::builder().workers(1).name("gone").build().expect("a runtime");
    drop(gone);
    for (runtime, name) in [(&first, "one"), (&second, "two")] {
        runtime.run(|| {
            let _detached = Builder::new().name(name).spawn(|| sleep(Duration::from_secs(3600)));
            sleep(Duration::from_millis(5));
        });
    }
    for line in std::io::stdin().lines().take(2) {
        assert_eq!(line.expect("from the parent"), "signal");
        // SAFETY: the process has a handler.
        unsafe { libc::kill(libc::getpid(), libc::SIGQUIT) };
    }
    let mut rest = String::new();
    std::io::stdin().read_to_string(&mut rest).expect("the end");
    // The second signal may have interrupted another thread, which is not through with it when the dump is.
    let told = Instant::now();
    while EARLIER.load(Ordering::Relaxed) < 2 && told.elapsed() < Duration::from_secs(10) {
        sleep(Duration::from_millis(1));
    }
    println!("earlier handler: {}", EARLIER.load(Ordering::Relaxed));
    drop((first, second));
    std::process::exit(0);
}

#[test]
fn sigquit_prints_all_runtimes_and_the_process_goes_on() {
    if std::env::var_os(CHILD).is_some() {
        child();
    }
    let mut child = Command::new("timeout")
        .arg("60")
        .arg(std::env::current_exe().expect("this test"))
        .args(["--exact", TEST, "--nocapture"])
        .env(CHILD, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the child runs");
    let mut stdin = child.stdin.take().expect("piped");
    let mut stderr = BufReader::new(child.stderr.take().expect("piped")).lines();
    for _ in 0..2 {
        stdin.write_all(b"signal\n").expect("the child listens");
        let lines: Vec<_> = stderr.by_ref().map(|line| line.expect("text")).take_while(|line| line != "SIGQUIT: end of dump").collect();
        let text = lines.join("\n");
        for expected in
            ["SIGQUIT: runtime 'first': 1 coroutines on 1 workers", "SIGQUIT: runtime 'second': ", " 'one' [parked ", " 'two' [parked "]
        {
            assert!(text.contains(expected), "no {expected:?} in {text}");
        }
        assert!(!text.contains("gone"), "{text}");
    }
    drop(stdin);
    let mut stdout = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut stdout).expect("text");
    assert!(child.wait().expect("it ends").success(), "{stdout}");
    assert!(stdout.contains("earlier handler: 2"), "{stdout}");
}
