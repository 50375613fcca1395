//! Coroutines have spans where the runtime was built so: entered while they run, left while they do not.

mod captured_log;

use std::sync::OnceLock;
use std::time::Duration;

use captured_log::Log;
use weald_runtime::{Builder, Runtime, channel, sleep, yield_now};

fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| {
        let log = Log::default();
        tracing_subscriber::fmt().with_ansi(false).with_max_level(tracing::Level::TRACE).with_writer(log.clone()).init();
        log
    })
}

/// The lines that contain `word`, which only one test uses.
fn lines(word: &str) -> Vec<String> {
    let text = log().to_string();
    text.lines().filter(|line| line.contains(word)).map(str::to_owned).collect()
}

fn runtime(traces: bool) -> Runtime {
    log();
    Runtime::builder().workers(1).trace_coroutines(traces).build().expect("a runtime")
}

#[test]
#[cfg_attr(
    any(miri, weald_baton),
    ignore = "spans are the worker's thread's, and a coroutine has a thread of its own in the baton backend"
)]
fn what_a_coroutine_logs_is_under_its_span_and_nobody_elses() {
    let runtime = runtime(true);
    runtime.run(|| {
        let both = ["alpha", "beta"].map(|name| {
            Builder::new().name(name).spawn(move || {
                for step in 0..3 {
                    tracing::info!("interleaved {name} {step}");
                    yield_now();
                }
            })
        });
        both.into_iter().for_each(|one| one.join().expect("no panic"));
    });
    let lines = lines("interleaved");
    assert_eq!(lines.len(), 6, "{lines:?}");
    let own = |line: &String| if line.contains("interleaved alpha") { "alpha" } else { "beta" };
    assert!(lines.windows(2).any(|pair| own(&pair[0]) != own(&pair[1])), "they took turns: {lines:?}");
    for line in &lines {
        assert!(line.contains("coroutine{id=") && line.contains(&format!("name=\"{}\"", own(line))), "{line}");
        assert_eq!(line.matches("coroutine{").count(), 1, "{line}");
        assert!(line.contains(&format!("spawned_at={}:", file!())), "{line}");
    }
    // The worker's own lines are under nobody's span: the last of them is told while it stops.
    let outside = runtime.handle();
    outside.add_hook(0, |_| panic!("unspanned hook")).expect("it runs");
    drop(runtime);
    let hook = self::lines("unspanned hook");
    assert!(hook.iter().any(|line| line.contains("a hook panicked")) && !hook.iter().any(|line| line.contains("coroutine{")), "{hook:?}");
}

#[test]
#[cfg_attr(
    any(miri, weald_baton),
    ignore = "spans are the worker's thread's, and a coroutine has a thread of its own in the baton backend"
)]
fn spawns_parks_and_panics_are_events() {
    let runtime = runtime(true);
    let (sender, receiver) = channel::bounded::<u32>(1);
    let parked = runtime.run(|| {
        let waiting = Builder::new().name("gamma").spawn(move || receiver.recv());
        sleep(Duration::from_millis(20));
        sender.send(7).expect("it waits");
        waiting.join().expect("no panic")
    });
    assert_eq!(parked, Ok(7));
    let failed = runtime.run(|| Builder::new().name("delta").spawn(|| panic!("out of paint")).join());
    assert!(failed.is_err());
    drop(runtime);
    let place = |line: &String| line.contains(&format!("{}:", file!()));
    let gamma = lines("gamma");
    let is_spawn = |line: &&String| line.contains("spawned coroutine=") && line.contains("coroutine{") && line.contains("name=\"main\"");
    assert_eq!(gamma.iter().filter(is_spawn).count(), 1, "by main: {gamma:?}");
    let parks: Vec<_> = gamma.iter().filter(|line| line.contains("parks at=")).collect();
    assert!(parks.len() == 1 && place(parks[0]) && parks[0].contains("TRACE"), "{gamma:?}");
    let panics = lines("out of paint");
    assert!(panics.len() == 1 && panics[0].contains("name=\"delta\"") && panics[0].contains("panicked"), "{panics:?}");
}

#[test]
fn without_it_nothing_is_told() {
    let runtime = runtime(false);
    runtime.run(|| {
        let _ = Builder::new().name("epsilon").spawn(|| panic!("quiet epsilon")).join();
        tracing::info!("epsilon alone");
    });
    drop(runtime);
    let lines = lines("epsilon");
    assert!(lines.len() == 1 && lines[0].contains("epsilon alone") && !lines[0].contains("coroutine{"), "{lines:?}");
}

#[test]
#[cfg_attr(
    any(miri, weald_baton),
    ignore = "spans are the worker's thread's, and a coroutine has a thread of its own in the baton backend"
)]
fn a_coroutine_that_holds_its_worker_is_told_by_the_number_of_its_span() {
    log();
    let hold = Duration::from_millis(5);
    let runtime = Runtime::builder().workers(1).trace_coroutines(true).watchdog(Some(hold)).build().expect("a runtime");
    let id = runtime.run(move || {
        let holding = Builder::new().name("zeta").spawn(move || {
            let start = weald_runtime::time::Instant::now();
            while start.elapsed() < 40 * hold {
                std::hint::spin_loop();
            }
            tracing::info!("zeta is done");
        });
        let id = holding.coroutine().id();
        holding.join().expect("no panic");
        id
    });
    drop(runtime);
    // The watchdog may still look up whose frames it has seen; the runtime's end does not wait for that.
    let told = || lines("holds its worker").iter().any(|line| line.contains(&format!("coroutine={id}")));
    let patience = weald_runtime::time::Instant::now() + Duration::from_secs(20);
    while !told() && weald_runtime::time::Instant::now() < patience {
        sleep(hold);
    }
    assert!(told(), "{:?}", lines("holds its worker"));
    let done = lines("zeta is done");
    assert!(done.len() == 1 && done[0].contains(&format!("coroutine{{id={id} ")), "{done:?}");
}
