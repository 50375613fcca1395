//! What `tests/panic_abort.rs` builds with `panic = "abort"` and looks at from outside: a panic, a shutdown, a simulated crash.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use weald_runtime::sim;
use weald_runtime::{Builder, Runtime, channel, park, scope, sleep, yield_now};

struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("panic") => panics(),
        Some("shutdown") => shuts_down(),
        Some("crash") => crashes(),
        // As every example, it is built and may be run by itself.
        _ => eprintln!("panic, shutdown or crash?"),
    }
}

fn panics() {
    weald_runtime::run(|| {
        let child = Builder::new().name("culprit").spawn(|| panic!("deliberate"));
        let _ = child.join();
        println!("went on");
    });
}

fn shuts_down() {
    let runtime = Runtime::builder().workers(2).build().expect("a runtime");
    let dropped = Arc::new(AtomicBool::new(false));
    let (told, guard, scoped) = (Arc::new(AtomicBool::new(false)), SetOnDrop(Arc::clone(&dropped)), SetOnDrop(Arc::clone(&dropped)));
    let ends = SetOnDrop(Arc::clone(&told));
    runtime.run(|| {
        let (sender, receiver) = channel::bounded::<()>(1);
        drop(Builder::new().name("polite").spawn(move || {
            let (_ends, _sender) = (ends, sender);
            assert!(receiver.recv().is_err());
        }));
        drop(Builder::new().name("parked").spawn(move || {
            let _guard = guard;
            loop {
                park();
            }
        }));
        drop(Builder::new().name("busy").spawn(|| {
            loop {
                yield_now();
            }
        }));
        drop(Builder::new().name("owner").spawn(move || {
            let borrowed = scoped;
            scope(|s| {
                Builder::new().name("child").spawn_scoped(s, || {
                    loop {
                        park();
                        assert!(!borrowed.0.load(Ordering::Acquire), "what a child borrows stays");
                    }
                });
            });
        }));
        sleep(Duration::from_millis(20));
        yield_now();
    });
    let report = runtime.shutdown(Duration::from_millis(20));
    assert!(told.load(Ordering::Acquire), "who minds its errors ends");
    assert!(!dropped.load(Ordering::Acquire), "nothing of the others is dropped");
    println!("{report}");
}

fn crashes() {
    sim::run(1, || {
        let node = sim::node("fragile").start();
        drop(node.spawn(park));
        sleep(Duration::from_secs(1));
        node.crash();
    });
}
