//! A listener outlives a lack of descriptors: the error is named, nothing spins, and the connection is accepted later. And it keeps
//! none of the runtimes' own.
//!
//! The test of the lack runs itself again as a child that may open few.

use std::process::Command;
use std::time::Duration;

use weald_runtime::net::{Cancelled, TcpListener, TcpStream};
use weald_runtime::time::Instant;
use weald_runtime::{CancellationToken, Runtime};

const CHILD: &str = "WEALD_DESCRIPTORS_CHILD";
/// EMFILE, on Linux.
const TOO_MANY_FILES: i32 = 24;

#[test]
fn accept_survives_a_lack_of_descriptors() {
    if std::env::var_os(CHILD).is_some() {
        return child();
    }
    let this = std::env::current_exe().expect("this test");
    let command = format!("ulimit -n 64; exec '{}' --exact accept_survives_a_lack_of_descriptors --nocapture", this.display());
    let output = Command::new("sh").args(["-c", &command]).env(CHILD, "").output().expect("the child runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn child() {
    weald_runtime::run(|| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let address = listener.local_addr().expect("address");
        let mut connected = Vec::new();
        let error = loop {
            match TcpStream::connect(address) {
                Ok(stream) => connected.push(stream),
                Err(error) => break error,
            }
            assert!(connected.len() < 64, "descriptors run out");
        };
        assert_eq!(error.raw_os_error(), Some(TOO_MANY_FILES), "{error}");
        let start = Instant::now();
        for _ in 0..3 {
            let error = listener.accept().expect_err("no descriptor left");
            assert_eq!(error.raw_os_error(), Some(TOO_MANY_FILES), "{error}");
        }
        assert!(start.elapsed() >= Duration::from_millis(30), "a loop would spin");
        let shortest = (0..20).map(|_| {
            let start = Instant::now();
            let error = listener.accept_timeout(Duration::from_millis(1)).expect_err("no descriptor left");
            assert_eq!(error.raw_os_error(), Some(TOO_MANY_FILES), "{error}");
            start.elapsed()
        });
        assert!(shortest.min() < Some(Duration::from_millis(9)), "the pause ends at the deadline");
        let token = CancellationToken::new();
        token.cancel();
        let error = token.run(|| listener.accept()).expect_err("no descriptor left");
        assert!(error.get_ref().is_some_and(|inner| inner.is::<Cancelled>()), "cancellation ends the pause, and is what is told: {error}");
        let waiting = connected.len();
        connected.truncate(waiting / 2 - 1);
        for _ in 0..waiting / 2 {
            listener.accept_timeout(Duration::from_secs(10)).expect("those that waited");
        }
    });
}

#[test]
fn a_listener_keeps_no_descriptors_of_the_runtimes_that_it_outlives() {
    const RUNTIMES: usize = 30;
    let open = || std::fs::read_dir("/proc/self/fd").expect("the system's list of descriptors").count();
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let before = open();
    for _ in 0..RUNTIMES {
        let runtime = Runtime::builder().workers(1).build().expect("a runtime");
        let error = runtime.run(|| listener.accept_timeout(Duration::from_millis(1))).expect_err("nobody connects");
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    }
    // The other test may have begun meanwhile, which opens a few.
    assert!(open() < before + RUNTIMES, "{} descriptors before, and {} after {RUNTIMES} runtimes", before, open());
}
