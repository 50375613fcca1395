//! The dump of a runtime: states and places, names and stacks, from coroutines and threads, with workers that do not answer.

use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use weald_runtime::dump::{CoroutineDump, CoroutineState, Dump, INDIVIDUALS};
use weald_runtime::net::UdpSocket;
use weald_runtime::sync::{Barrier, Condvar, Mutex, Notify, Semaphore, WaitGroup};
use weald_runtime::time::Instant;
use weald_runtime::{
    Builder, CancellationToken, Handle, Runtime, channel, park, scope, select, sim, sleep, spawn, spawn_local, try_park, try_sleep,
    yield_now,
};

const PATIENCE: Duration = Duration::from_secs(10);

fn runtime() -> Runtime {
    Runtime::builder().workers(2).build().expect("a runtime")
}

/// Dumps until the dump is as wanted.
#[track_caller]
fn dump_until(handle: &Handle, wanted: impl Fn(&Dump) -> bool) -> Dump {
    let start = Instant::now();
    loop {
        let dump = handle.dump();
        if wanted(&dump) {
            return dump;
        }
        assert!(start.elapsed() < PATIENCE, "{dump}");
        sleep(Duration::from_millis(1));
    }
}

fn named<'a>(dump: &'a Dump, name: &str) -> &'a CoroutineDump {
    dump.coroutines.iter().find(|coroutine| coroutine.name.as_deref() == Some(name)).unwrap_or_else(|| panic!("no '{name}' in {dump}"))
}

fn is_parked(dump: &Dump, name: &str) -> bool {
    dump.coroutines.iter().any(|coroutine| coroutine.name.as_deref() == Some(name) && coroutine.state == CoroutineState::Parked)
}

#[track_caller]
fn line() -> u32 {
    Location::caller().line()
}

#[test]
fn tells_where_a_coroutine_was_spawned_and_parked_and_for_how_long() {
    let runtime = runtime();
    let handle = runtime.handle();
    let spawned_line = line() + 1;
    let parked = handle.spawn_on(1, || {
        let deep = std::hint::black_box([7_u8; 20_000]);
        park();
        deep[0]
    });
    let dump = dump_until(&handle, |dump| {
        // A worker may be without a processor for long, and the text says so.
        dump.workers.iter().all(|worker| worker.answered) && dump.coroutines.iter().any(|c| c.parked_for >= Some(Duration::from_millis(20)))
    });
    let [coroutine] = &dump.coroutines[..] else { panic!("{dump}") };
    assert_eq!(coroutine.state, CoroutineState::Parked);
    assert_eq!(coroutine.worker, 1);
    assert_eq!(coroutine.id, parked.coroutine().id());
    let spawned_at = coroutine.spawned_at.expect("known");
    assert_eq!((spawned_at.file(), spawned_at.line()), (file!(), spawned_line));
    assert_eq!(coroutine.parked_at.map(Location::line), Some(spawned_line + 2));
    // The stacks of the baton backend are threads', of which it knows nothing. AddressSanitizer keeps large frames elsewhere.
    if cfg!(not(any(miri, weald_baton, weald_asan))) {
        let stack = coroutine.stack.expect("it has one");
        assert!((20_000..32_000).contains(&stack.used), "{stack:?}");
        assert!(stack.resident >= 20_000 && stack.resident <= stack.size, "{stack:?}");
    }
    assert!(coroutine.shielded && !coroutine.cancelled);
    let text = dump.to_string();
    assert!(text.starts_with("1 coroutines on 2 workers\n        1 parked at runtime/tests/dump.rs:"), "{text}");
    parked.coroutine().unpark();
    assert_eq!(parked.join().expect("no panic"), 7);
    let empty = dump_until(&handle, |dump| dump.count() == 0);
    assert!(empty.coroutines.is_empty() && empty.groups.is_empty());
}

#[test]
fn a_coroutine_that_dumps_is_running_and_others_are_runnable_or_unstarted() {
    runtime().run(|| {
        let dump = Builder::new()
            .name("asker")
            .spawn_on(0, || {
                let yields = spawn_local(|| (0..2).for_each(|_| yield_now()));
                yield_now();
                let fresh = spawn_local(|| ());
                let dump = Handle::current().expect("inside").dump();
                yields.join().expect("no panic");
                fresh.join().expect("no panic");
                dump
            })
            .join()
            .expect("no panic");
        assert_eq!(named(&dump, "asker").state, CoroutineState::Running, "{dump}");
        assert_eq!(named(&dump, "main").state, CoroutineState::Parked, "{dump}");
        let count = |state| dump.groups.iter().filter(|group| group.state == state).map(|group| group.count).sum::<usize>();
        assert_eq!((count(CoroutineState::Runnable), count(CoroutineState::Unstarted)), (1, 1), "{dump}");
        assert_eq!(dump.count(), 4, "{dump}");
    });
}

/// A blocking call, and the line it stands in.
#[track_caller]
fn here<R>(call: impl FnOnce() -> R + Send + 'static) -> (u32, Box<dyn FnOnce() + Send>) {
    (line(), Box::new(move || drop(call())))
}

#[test]
fn every_blocking_call_names_the_callers_line() {
    let runtime = runtime();
    let handle = runtime.handle();
    let (full, _full_receiver) = channel::bounded::<u8>(1);
    full.send(0).expect("room");
    let (_empty_sender, empty) = channel::bounded::<u8>(1);
    let (_unbounded_sender, unbounded) = channel::unbounded::<u8>();
    let (_oneshot_sender, oneshot) = channel::oneshot::channel::<u8>();
    let mutex = Arc::new(Mutex::new(()));
    let locked = Arc::clone(&mutex);
    let held = mutex.lock();
    let semaphore = Arc::new(Semaphore::new(0));
    let notify = Arc::new(Notify::new());
    let socket = runtime.run(|| UdpSocket::bind("127.0.0.1:0")).expect("a socket");
    let forever = Duration::from_secs(3600);
    let condition = Arc::new((Mutex::new(()), Condvar::new()));
    let calls = vec![
        here(move || full.send(1)),
        here(move || empty.recv()),
        here(move || unbounded.recv_timeout(forever)),
        here(move || oneshot.recv()),
        here(move || drop(locked.lock())),
        here(move || semaphore.acquire(1)),
        here(move || notify.wait()),
        here(move || sleep(forever)),
        here(move || spawn(move || sleep(forever)).join()),
        here(move || socket.recv_from(&mut [0; 8])),
        here(move || drop(condition.1.wait(condition.0.lock()))),
    ];
    let lines: Vec<_> = calls.iter().map(|call| call.0).collect();
    for (line, call) in calls {
        let _detached = handle.spawn(move || Builder::new().name(format!("line {line}")).spawn(call));
    }
    let dump = dump_until(&handle, |dump| lines.iter().all(|line| is_parked(dump, &format!("line {line}"))));
    for line in lines {
        let at = named(&dump, &format!("line {line}")).parked_at.expect("parked");
        assert_eq!((at.file(), at.line()), (file!(), line));
    }
    drop(held);
    assert!(runtime.shutdown(Duration::from_secs(2)).is_clean());
}

#[test]
fn many_coroutines_are_counted_by_place_and_few_are_described() {
    let runtime = runtime();
    let handle = runtime.handle();
    // Where coroutines are threads there are no more than a few.
    const COUNT: usize = if cfg!(any(miri, weald_baton)) { 300 } else { 10_000 };
    let (sender, receiver) = channel::bounded::<u8>(1);
    for _ in 0..COUNT {
        let receiver = receiver.clone();
        let _detached = handle.spawn(move || receiver.recv());
    }
    let _detached = handle.spawn(|| sleep(Duration::from_secs(3600)));
    let dump = dump_until(&handle, |dump| {
        let parked = dump.groups.iter().filter(|group| group.state == CoroutineState::Parked).map(|group| group.count);
        parked.sum::<usize>() == COUNT + 1
    });
    assert_eq!((dump.groups[0].count, dump.groups[1].count), (COUNT, 1));
    assert_eq!(dump.coroutines.len(), INDIVIDUALS + 1, "the one at a place of its own is not lost");
    let text = dump.to_string();
    assert!(text.contains(&format!("{COUNT} parked at ")) && text.contains(&format!("\nand {} more", COUNT - INDIVIDUALS)), "{text}");
    drop(sender);
}

#[test]
fn a_worker_that_does_not_answer_is_reported_and_the_others_dumped() {
    let runtime = runtime();
    let handle = runtime.handle();
    let (started, release) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (says, hears) = (Arc::clone(&started), Arc::clone(&release));
    let holds = handle.spawn_on(0, move || {
        says.store(true, Ordering::Release);
        while !hears.load(Ordering::Acquire) {
            std::hint::spin_loop();
        }
    });
    let parked = handle.spawn_on(1, park);
    while !started.load(Ordering::Acquire) {
        sleep(Duration::from_millis(1));
    }
    let dump = dump_until(&handle, |dump| dump.groups.iter().any(|group| group.state == CoroutineState::Parked));
    assert!(!dump.workers[0].answered && dump.workers[1].answered, "{dump}");
    assert_eq!(dump.count(), 1);
    assert!(dump.to_string().contains("worker 0 did not answer"), "{dump}");
    release.store(true, Ordering::Release);
    holds.join().expect("no panic");
    parked.coroutine().unpark();
    parked.join().expect("no panic");
    assert!(handle.dump().workers.iter().all(|worker| worker.answered), "the late answer to the first is not in the way");
}

#[test]
fn dumps_meet() {
    let runtime = runtime();
    let handle = runtime.handle();
    let askers: Vec<_> = (0..2)
        .map(|worker| {
            let handle = handle.clone();
            spawn_outside(&runtime, worker, move || {
                (0..50).map(|_| handle.dump()).filter(|dump| dump.workers.iter().all(|w| w.answered)).count()
            })
        })
        .collect();
    for asker in askers {
        // Not all: a worker may be without a processor for long.
        assert!(asker.join().expect("no panic") > 25);
    }
}

fn spawn_outside<T: Send + 'static>(
    runtime: &Runtime,
    worker: usize,
    f: impl FnOnce() -> T + Send + 'static,
) -> weald_runtime::JoinHandle<T> {
    runtime.handle().spawn_on(worker, f)
}

#[test]
fn from_a_workers_own_stack_and_while_unwinding_it_blocks_and_answers() {
    struct DumpOnDrop;
    impl Drop for DumpOnDrop {
        fn drop(&mut self) {
            assert!(std::thread::panicking());
            assert_eq!(named(&Handle::current().expect("inside").dump(), "panics").state, CoroutineState::Running);
        }
    }
    runtime().run(|| {
        let dump = weald_runtime::on_worker_stack(|| Handle::current().expect("inside").dump());
        assert_eq!(named(&dump, "main").state, CoroutineState::Running);
        let panics = Builder::new().name("panics").spawn_on(1, || {
            let _dump = DumpOnDrop;
            panic!("as it should");
        });
        assert!(panics.join().expect_err("a panic").is_panic());
    });
}

#[test]
fn a_simulation_is_dumped_in_virtual_time() {
    let dump = sim::run(3, || {
        let _sleeper = Builder::new().name("sleeper").spawn_on(1, || sleep(Duration::from_secs(7200)));
        let _serving = sim::node("server").start().spawn(|| Builder::new().name("of a node").spawn(park).join());
        sleep(Duration::from_secs(3600));
        Handle::current().expect("inside").dump()
    });
    let sleeper = named(&dump, "sleeper");
    assert_eq!(sleeper.parked_for.map(|time| time.as_secs()), Some(3600));
    assert!(dump.to_string().contains("[parked 1h0m, sleep, worker 1, not cancellable]"), "{dump}");
    assert_eq!(sleeper.node, None);
    assert_eq!(named(&dump, "of a node").node.as_deref(), Some("server"));
    assert!(dump.to_string().contains(", node 'server']"), "{dump}");
}

#[test]
fn a_runtime_that_was_shut_down_has_nothing_to_say() {
    let runtime = runtime();
    let handle = runtime.handle();
    assert!(runtime.shutdown(Duration::ZERO).is_clean());
    let start = Instant::now();
    assert_eq!(handle.dump().count(), 0);
    assert!(start.elapsed() < PATIENCE);
}

#[test]
fn a_runtime_that_has_ended_is_said_to_have() {
    let runtime = Runtime::builder().workers(1).build().expect("a runtime");
    let handle = runtime.handle();
    assert!(!handle.dump().ended);
    drop(runtime);
    let dump = handle.dump();
    assert!(dump.ended);
    assert_eq!(dump.to_string(), "the runtime has ended\n");
}

/// Each call of a kind of its own, parked, and the word for it.
#[test]
fn what_is_waited_for_is_told() {
    type Call = Box<dyn FnOnce() + Send>;
    let runtime = runtime();
    let stop = CancellationToken::new();
    let parked = |name: &str, f: Call| {
        let stop = stop.clone();
        Builder::new().name(name).spawn_in(&runtime.handle(), move || stop.run(f))
    };
    let mutex = Arc::new(Mutex::new(()));
    let lock = Arc::clone(&mutex);
    let (group, quiet) = (WaitGroup::new(), CancellationToken::new());
    let part = group.clone();
    let (sender, receiver) = channel::bounded::<u8>(1);
    sender.send(1).expect("room");
    let (_never, nothing) = channel::bounded::<u8>(1);
    let (other, silent) = (nothing.clone(), UdpSocket::bind("127.0.0.1:0").expect("a socket"));
    let held = mutex.lock();
    let calls: Vec<(&str, Call)> = vec![
        ("receive", Box::new(move || _ = nothing.recv())),
        ("send", Box::new(move || _ = sender.send(2))),
        ("lock", Box::new(move || _ = lock.lock_cancellable())),
        ("condition", Box::new(move || assert!(Condvar::new().wait(Mutex::new(()).lock()).is_err()))),
        ("permits", Box::new(|| _ = Semaphore::new(0).acquire(1))),
        ("notification", Box::new(|| _ = Notify::new().wait())),
        ("barrier", Box::new(|| _ = Barrier::new(2).wait())),
        ("wait group", Box::new(move || _ = group.wait())),
        ("join", Box::new(|| _ = spawn(|| try_sleep(Duration::from_secs(1))).join())),
        ("sleep", Box::new(|| _ = try_sleep(Duration::from_secs(60)))),
        ("unpark", Box::new(|| _ = try_park())),
        ("select", Box::new(move || select! { recv(other) -> _ => {} wait(&quiet) -> _ => {} })),
        ("readable", Box::new(move || _ = silent.recv(&mut [0]))),
        ("cancellation", Box::new(|| _ = CancellationToken::new().wait())),
        ("join", Box::new(|| scope(|s| drop(s.spawn(|| try_sleep(Duration::from_secs(60))).join())))),
    ];
    let words: Vec<_> = calls.iter().map(|(word, _)| *word).collect();
    let children: Vec<_> = calls.into_iter().enumerate().map(|(at, (word, f))| parked(&format!("{at} {word}"), f)).collect();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let dump = runtime.handle().dump();
        let waits = |name: &str| dump.coroutines.iter().find(|seen| seen.name.as_deref() == Some(name)).and_then(|seen| seen.waits_for);
        let told = words.iter().enumerate().map(|(at, word)| waits(&format!("{at} {word}")).map(|word| word.to_string()));
        let told: Vec<_> = told.map(Option::unwrap_or_default).collect();
        if told == words {
            let text = dump.to_string();
            assert!(text.contains("ms, receive, worker ") && text.contains(" (join)"), "{text}");
            break;
        }
        assert!(Instant::now() < deadline, "{told:?}\n{dump}");
        sleep(Duration::from_millis(1));
    }
    stop.cancel();
    children.into_iter().for_each(|child| child.join().expect("no panic"));
    drop((held, receiver, part));
}
