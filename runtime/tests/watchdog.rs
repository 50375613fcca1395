//! The watchdog names a coroutine that holds its worker, with its stack; and tells when everything is parked for good.

mod captured_log;

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use captured_log::Log;
use weald_runtime::net::UdpSocket;
use weald_runtime::time::Instant;
use weald_runtime::{Builder, Runtime, channel, park, sleep, unblock, yield_now};

const PATIENCE: Duration = Duration::from_secs(10);

impl Log {
    fn wait_for(&self, what: &str) -> String {
        let start = Instant::now();
        loop {
            let text = self.to_string();
            if text.contains(what) {
                return text;
            }
            assert!(start.elapsed() < PATIENCE, "no {what:?} in {text}");
            sleep(Duration::from_millis(5));
        }
    }
}

/// The log of the process, empty, for one test at a time.
fn log() -> (Log, MutexGuard<'static, ()>) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    static LOG: Mutex<Option<Log>> = Mutex::new(None);
    let guard = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut log = LOG.lock().expect("no panic");
    let log = log.get_or_insert_with(|| {
        let log = Log::default();
        tracing_subscriber::fmt().with_ansi(false).with_writer(log.clone()).init();
        log
    });
    log.0.lock().expect("no panic").clear();
    (log.clone(), guard)
}

#[inline(never)]
fn spins_for_ever(until: Instant) -> u64 {
    let mut count = 0;
    while Instant::now() < until {
        count = std::hint::black_box(count + 1);
    }
    count
}

#[test]
#[cfg_attr(any(miri, weald_baton), ignore = "the interrupted thread is not the coroutine's in the baton backend")]
fn a_coroutine_that_holds_its_worker_is_named_once_with_its_stack() {
    let (log, _guard) = log();
    let runtime = Runtime::builder().workers(1).watchdog(Some(Duration::from_millis(10))).build().expect("a runtime");
    runtime.run(|| {
        let line = line!() + 1;
        let spins = Builder::new().name("spinner").spawn(|| spins_for_ever(Instant::now() + Duration::from_millis(300)));
        assert!(spins.join().expect("no panic") > 0);
        let text = log.wait_for("a coroutine holds its worker");
        assert_eq!(text.matches("a coroutine holds its worker").count(), 1, "{text}");
        for expected in
            ["name=\"spinner\"", &format!("tests/watchdog.rs:{line}:"), "worker=0", "spins_for_ever", &format!("watchdog.rs:{line})")]
        {
            assert!(text.contains(expected), "no {expected:?} in {text}");
        }
        assert!(!text.contains("on_probe"), "{text}");
    });
}

#[test]
fn coroutines_that_yield_are_left_alone() {
    let (log, _guard) = log();
    // Long, as the system may take the processor away in the midst of a short turn.
    let runtime = Runtime::builder().workers(1).watchdog(Some(Duration::from_millis(200))).build().expect("a runtime");
    runtime.run(|| {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(600) {
            yield_now();
        }
    });
    assert_eq!(log.to_string(), "");
}

#[test]
#[cfg_attr(any(miri, weald_baton), ignore = "the interrupted thread is not the coroutine's in the baton backend")]
fn the_dump_names_who_holds_a_worker() {
    let (_log, _guard) = log();
    let runtime = Runtime::builder().workers(1).watchdog(Some(Duration::from_secs(60))).build().expect("a runtime");
    let (started, starts) = std::sync::mpsc::channel();
    let holds = runtime.handle().spawn(move || {
        let name = Builder::new().name("holder").spawn(move || {
            started.send(()).expect("the test listens");
            spins_for_ever(Instant::now() + Duration::from_secs(1))
        });
        name.join().expect("no panic")
    });
    starts.recv().expect("it starts");
    let text = runtime.handle().dump().to_string();
    assert!(text.contains("worker 0 did not answer"), "{text}");
    assert!(text.contains(" 'holder'\n") && text.contains("spins_for_ever"), "{text}");
    holds.join().expect("no panic");
}

#[test]
fn a_dead_lock_is_told_once_with_everybody_in_it() {
    let (log, _guard) = log();
    let runtime = Runtime::builder().workers(2).watchdog(None).detect_deadlock(true).build().expect("a runtime");
    let (first, second) = (channel::bounded::<()>(1), channel::bounded::<()>(1));
    let spawn = |name: &str, ends: (channel::Receiver<()>, channel::Sender<()>)| {
        let name = name.to_owned();
        runtime.handle().spawn(move || drop(Builder::new().name(name).spawn(move || (ends.0.recv(), ends.1.send(())))));
    };
    spawn("chicken", (first.1, second.0));
    spawn("egg", (second.1, first.0));
    let text = log.wait_for("every coroutine is parked");
    assert!(text.contains("'chicken' [parked") && text.contains("'egg' [parked"), "{text}");
    sleep(Duration::from_millis(1500));
    assert_eq!(log.to_string().matches("every coroutine is parked").count(), 1);
}

/// The watchdog looks at least as often as that takes, however long a coroutine may hold its worker.
#[test]
fn a_dead_lock_is_told_in_time_beside_a_patient_watchdog() {
    let (log, _guard) = log();
    let runtime = Runtime::builder().workers(1).watchdog(Some(Duration::from_secs(3600))).detect_deadlock(true).build().expect("a runtime");
    let parked = runtime.handle().spawn(park);
    log.wait_for("every coroutine is parked");
    parked.coroutine().unpark();
    parked.join().expect("no panic");
}

/// The log stands in for a stack with many symbols to resolve.
#[test]
#[cfg_attr(any(miri, weald_baton), ignore = "the interrupted thread is not the coroutine's in the baton backend")]
fn a_shutdown_does_not_wait_for_a_warning_to_be_told() {
    let (log, _guard) = log();
    let runtime = Runtime::builder().workers(1).watchdog(Some(Duration::from_millis(2))).build().expect("a runtime");
    let held = log.0.lock().expect("no panic");
    runtime.run(|| spins_for_ever(Instant::now() + Duration::from_millis(300)));
    let (ended, ends) = std::sync::mpsc::channel();
    #[expect(clippy::disallowed_methods, reason = "a coroutine cannot end its own runtime")]
    let ending = std::thread::spawn(move || ended.send(runtime.shutdown(Duration::ZERO).is_clean()));
    assert_eq!(ends.recv_timeout(PATIENCE), Ok(true));
    drop(held);
    ending.join().expect("no panic").expect("it was received");
    // Nor does the watchdog stop at what it tells: other tests share the log.
    log.wait_for("a coroutine holds its worker");
}

#[test]
fn who_waits_for_a_timer_a_socket_or_a_blocking_job_is_in_no_dead_lock() {
    let (log, _guard) = log();
    let build = || Runtime::builder().workers(1).watchdog(None).detect_deadlock(true).build().expect("a runtime");
    let (timer, socket, job) = (build(), build(), build());
    let blocking = job.handle().spawn(|| unblock(|| std::thread::park_timeout(Duration::from_millis(1200))).is_ok());
    timer.run(|| sleep(Duration::from_millis(1200)));
    assert!(blocking.join().expect("no panic"));
    let _detached = socket.handle().spawn(|| {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let _ = socket.recv_from(&mut [0; 8]);
    });
    let parked = socket.handle().spawn(park);
    sleep(Duration::from_millis(1200));
    assert_eq!(log.to_string(), "");
    parked.coroutine().unpark();
    parked.join().expect("no panic");
}
