//! Signals reach those who wait for them, on coroutines and plain threads.
//!
//! Each test runs itself again as a child, which sends itself signals: without a receiver they would end it.

use std::io::ErrorKind;
use std::process::Command;
use std::time::Duration;

use weald_runtime::signal::{self, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, Signals};

const CHILD: &str = "WEALD_SIGNALS_CHILD";
const LONG: Duration = Duration::from_secs(20);

fn in_child(test: &str, child: fn()) {
    if std::env::var_os(CHILD).is_some() {
        return child();
    }
    let this = std::env::current_exe().expect("this test");
    let output = Command::new(this).args(["--exact", test, "--nocapture"]).env(CHILD, "").output().expect("the child runs");
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
}

/// Sends the process a signal.
fn raise(signal: i32) {
    let sent = Command::new("kill").args([format!("-{signal}"), std::process::id().to_string()]).status();
    assert!(sent.expect("kill runs").success());
}

#[test]
fn signals_are_received_by_number() {
    in_child("signals_are_received_by_number", || {
        let test = || {
            let signals = Signals::new([SIGTERM, SIGHUP]).expect("signals");
            let others = Signals::new([SIGTERM]).expect("signals");
            assert_eq!(signals.try_recv().expect_err("none yet").kind(), ErrorKind::WouldBlock);
            assert_eq!(signals.recv_timeout(Duration::from_millis(2)).expect_err("none yet").kind(), ErrorKind::TimedOut);
            raise(SIGTERM);
            assert_eq!(signals.recv_timeout(LONG).expect("a signal"), SIGTERM);
            raise(SIGHUP);
            assert_eq!(signals.recv_timeout(LONG).expect("a signal"), SIGHUP);
            assert_eq!(others.recv_timeout(LONG).expect("a copy"), SIGTERM);
            assert_eq!(others.try_recv().expect_err("not asked for").kind(), ErrorKind::WouldBlock);
        };
        weald_runtime::run(test);
        test();
    });
}

#[test]
fn who_waits_is_woken() {
    in_child("who_waits_is_woken", || {
        weald_runtime::run(|| {
            let signals = Signals::new([SIGUSR1, SIGUSR2]).expect("signals");
            let waiter = weald_runtime::spawn(move || (signals.recv(), signals.recv()));
            let interrupted = weald_runtime::spawn(signal::ctrl_c);
            for signal in [SIGUSR1, SIGUSR2, SIGINT] {
                weald_runtime::sleep(Duration::from_millis(20));
                raise(signal);
            }
            let (first, second) = waiter.join().expect("waiter");
            assert_eq!((first.expect("first"), second.expect("second")), (SIGUSR1, SIGUSR2));
            interrupted.join().expect("waiter").expect("interrupted");
        });
        let signals = Signals::new([SIGUSR1]).expect("signals");
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| signals.recv());
            weald_runtime::sleep(Duration::from_millis(20));
            raise(SIGUSR1);
            assert_eq!(waiter.join().expect("waiter").expect("a signal"), SIGUSR1);
        });
    });
}

#[test]
fn signals_are_selected_beside_other_things() {
    in_child("signals_are_selected_beside_other_things", || {
        let test = || {
            let signals = Signals::new([SIGTERM]).expect("signals");
            weald_runtime::select! {
                wait(signals.receiving()) -> _ => panic!("none yet"),
                default(Duration::from_millis(2)) => {}
            }
            let (sender, receiver) = weald_runtime::channel::unbounded::<()>();
            let raising = weald_runtime::channel::after(Duration::from_millis(5));
            let mut raised = false;
            let received = loop {
                weald_runtime::select! {
                    wait(signals.receiving()) -> signal => break signal.expect("a signal"),
                    recv(receiver) -> _ => panic!("nothing was sent"),
                    recv(raising) -> _ => {
                        raised = true;
                        raise(SIGTERM);
                    }
                    default(LONG) => panic!("it takes too long"),
                }
            };
            assert_eq!((received, raised), (SIGTERM, true));
            drop(sender);
        };
        weald_runtime::run(test);
        test();
    });
}

#[test]
fn signals_that_cannot_be_caught_are_refused() {
    for signal in [0, 9, 11, 65] {
        assert_eq!(Signals::new([signal]).expect_err("refused").kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn no_signal_comes_in_a_simulation() {
    weald_runtime::sim::run(1, || {
        let signals = Signals::new([SIGTERM]).expect("signals");
        assert_eq!(signals.recv_timeout(Duration::from_secs(3600)).expect_err("none").kind(), ErrorKind::TimedOut);
    });
}
