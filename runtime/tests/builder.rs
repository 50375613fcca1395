//! What a `RuntimeBuilder` promises of workers, as seen from inside: number, name, processor, hooks.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

use weald_runtime::{Handle, Runtime, RuntimeBuilder, scope, unblock, worker_index};

/// Runs `f` on each worker, and gives what it has returned in their order.
fn on_each_worker<T: Send>(builder: RuntimeBuilder, f: impl Fn() -> T + Sync) -> Vec<T> {
    builder.build().expect("a runtime").run(|| {
        let workers = Handle::current().expect("in a runtime").workers();
        let f = &f;
        scope(|s| {
            let children: Vec<_> = (0..workers).map(|worker| s.spawn_on(worker, f)).collect();
            children.into_iter().map(|child| child.join().expect("no panic")).collect()
        })
    })
}

/// The processors on which the calling thread may run, as the kernel writes them: `0-3,7`.
fn processors() -> String {
    let status = fs::read_to_string("/proc/thread-self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("it is there");
    line.trim().to_owned()
}

#[test]
#[cfg_attr(any(miri, weald_baton), ignore = "a coroutine has a thread of its own in the baton backend")]
fn workers_are_so_many_and_named() {
    let names = on_each_worker(Runtime::builder().workers(3).name("miller"), || thread::current().name().map(str::to_owned));
    assert_eq!(names.into_iter().flatten().collect::<Vec<_>>(), ["miller-0", "miller-1", "miller-2"]);
    let default = on_each_worker(Runtime::builder().workers(0), || thread::current().name().map(str::to_owned));
    assert_eq!(default, [Some("weald-0".to_owned())]);
}

#[test]
fn pinned_workers_keep_to_one_processor_each_and_their_blocking_jobs_do_not() {
    let all = processors();
    let pinned = on_each_worker(Runtime::builder().workers(5).pin_workers(true), || {
        let job = unblock(processors).expect("not cancelled");
        (processors(), job)
    });
    let available = thread::available_parallelism().expect("Linux").get();
    for (index, (own, job)) in pinned.iter().enumerate() {
        assert!(own.parse::<usize>().is_ok(), "one processor: {own}");
        assert_eq!(*job, all);
        // In turn, and from the beginning when there are no more.
        let same = pinned.iter().take(index).filter(|(other, _)| other == own).count();
        assert_eq!(same, index / available.min(5), "{pinned:?}");
    }
    assert_eq!(on_each_worker(Runtime::builder().workers(2), processors), [all.clone(), all.clone()]);
    assert_eq!(processors(), all, "the builder's own thread is left alone");
}

#[test]
fn hooks_run_on_each_workers_thread_before_and_after_all_else() {
    #[derive(Default)]
    struct Seen {
        started: BTreeMap<usize, ThreadId>,
        stopped: BTreeMap<usize, ThreadId>,
    }
    let seen = Arc::new(Mutex::new(Seen::default()));
    let alive = Arc::new(AtomicUsize::new(0));
    let (starts, stops, left) = (Arc::clone(&seen), Arc::clone(&seen), Arc::clone(&alive));
    let runtime = Runtime::builder()
        .workers(3)
        .on_worker_start(move |worker| {
            assert_eq!(thread::current().name(), Some(&*format!("weald-{worker}")));
            assert!(starts.lock().expect("no panic").started.insert(worker, thread::current().id()).is_none());
        })
        .on_worker_stop(move |worker| {
            assert_eq!(left.load(Ordering::Acquire), 0, "all coroutines have ended");
            assert!(stops.lock().expect("no panic").stopped.insert(worker, thread::current().id()).is_none());
        })
        .build()
        .expect("a runtime");
    struct Alive(Arc<AtomicUsize>);
    impl Drop for Alive {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Release);
        }
    }
    for worker in 0..3 {
        alive.fetch_add(1, Ordering::Relaxed);
        let (alive, seen) = (Alive(Arc::clone(&alive)), Arc::clone(&seen));
        drop(runtime.handle().spawn_on(worker, move || {
            let _alive = alive;
            let worker = worker_index().expect("in a runtime");
            assert_eq!(seen.lock().expect("no panic").started.get(&worker), Some(&thread::current().id()));
            loop {
                weald_runtime::park();
            }
        }));
    }
    assert!(runtime.shutdown(Duration::from_millis(20)).is_clean());
    let seen = seen.lock().expect("no panic");
    assert_eq!((seen.started.len(), &seen.started), (3, &seen.stopped));
}

#[test]
fn a_hook_that_panics_ends_the_process() {
    const CHILD: &str = "WEALD_BUILDER_CHILD";
    if let Some(which) = std::env::var_os(CHILD) {
        let builder = Runtime::builder().workers(1);
        let fails = |_| panic!("deliberate");
        let builder = if which == "start" { builder.on_worker_start(fails) } else { builder.on_worker_stop(fails) };
        builder.build().expect("a runtime").run(|| ());
        thread::park_timeout(Duration::from_secs(20));
        return;
    }
    for which in ["start", "stop"] {
        let output = std::process::Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "a_hook_that_panics_ends_the_process", "--nocapture"])
            .env(CHILD, which)
            .output()
            .expect("the child runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&output.status), Some(6), "{which}: {stderr}");
        assert!(stderr.contains("deliberate") && stderr.contains("worker 0"), "{which}: {stderr}");
    }
}

#[test]
fn what_cannot_be_built_says_why() {
    let error = Runtime::builder().name("a\0b").build().expect_err("no thread has such a name");
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{error}");
    assert!(error.to_string().contains("NUL"), "{error}");
}
