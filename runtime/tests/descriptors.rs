//! A listener outlives a lack of descriptors: the error is named, nothing spins, and the connection is accepted later.
//!
//! The test runs itself again as a child that may open few.

use std::process::Command;
use std::time::Duration;

use weald_runtime::net::{TcpListener, TcpStream};
use weald_runtime::time::Instant;

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
        let waiting = connected.len();
        connected.truncate(waiting / 2 - 1);
        for _ in 0..waiting / 2 {
            listener.accept_timeout(Duration::from_secs(10)).expect("those that waited");
        }
    });
}
