//! The end of a coroutine, a worker and a stack, in their order: what is there when, and what is never used again.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use weald_runtime::net::{TcpListener, TcpStream, UdpSocket};
use weald_runtime::sync::{Barrier, Condvar, Mutex, Notify, Semaphore, WaitError};
use weald_runtime::time::Instant;
use weald_runtime::{
    Builder, CancellationToken, Runtime, channel, park, scope, shield, sleep, spawn, spawn_on, try_sleep, unblock, worker_index, yield_now,
};

const LONG: Duration = Duration::from_secs(30);

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().expect("a runtime")
}

/// Threads of four workers steal what has not begun, while coroutines that have begun park and are woken from everywhere.
#[test]
#[cfg_attr(any(miri, weald_baton), ignore = "a hundred thousand coroutines")]
fn of_a_hundred_thousand_coroutines_none_changes_its_thread_after_its_first_run() {
    const COUNT: usize = 100_000;
    thread_local!(static LAST: Cell<u64> = const { Cell::new(0) });
    let runtime = runtime(4);
    let elsewhere = runtime.run(|| {
        let spawner = worker_index();
        let elsewhere = Arc::new(AtomicUsize::new(0));
        for _ in 0..COUNT / 1000 {
            // All from one worker, which the others steal from.
            let children: Vec<_> = (0..1000_u64)
                .map(|number| {
                    let elsewhere = Arc::clone(&elsewhere);
                    spawn(move || {
                        let home = (thread::current().id(), worker_index());
                        let place = LAST.with(|last| std::ptr::from_ref(last).addr());
                        for step in 0..3 {
                            LAST.set(number);
                            match (number + step) % 4 {
                                0 => yield_now(),
                                1 => {
                                    // Woken by a coroutine that may run on another worker.
                                    let me = weald_runtime::current();
                                    drop(spawn(move || me.unpark()));
                                    park();
                                }
                                2 => unblock_rarely(number),
                                _ => sleep(Duration::from_micros(20)),
                            }
                            assert_eq!((thread::current().id(), worker_index()), home);
                            assert_eq!(LAST.with(|last| std::ptr::from_ref(last).addr()), place, "a thread-local stays where it was");
                        }
                        if home.1 != spawner {
                            elsewhere.fetch_add(1, Ordering::Relaxed);
                        }
                    })
                })
                .collect();
            children.into_iter().for_each(|child| child.join().expect("no panic"));
        }
        elsewhere.load(Ordering::Relaxed)
    });
    assert!(elsewhere > 0, "nothing was stolen, so nothing was tried");
}

/// A job's end is a wake from a thread that is no worker.
fn unblock_rarely(number: u64) {
    if number.is_multiple_of(64) { unblock(|| ()).expect("not cancelled") } else { yield_now() }
}

/// The end is published from the worker's loop when the stack was left and given back: with one stack, the next coroutine has it.
#[test]
fn whoever_has_joined_finds_the_stack_free() {
    let runtime = Runtime::builder().workers(1).max_coroutines(1).build().expect("a runtime");
    for number in 0..3000 {
        let child = runtime.handle().spawn(move || number);
        // Both ways to see the end.
        if number % 2 == 0 {
            while !child.is_finished() {
                std::hint::spin_loop();
            }
        }
        assert_eq!(child.join().expect("there is a stack"), number);
    }
}

#[test]
fn a_leaked_stack_is_never_used_again() {
    const SIZE: usize = 4096;
    static KEPT: AtomicPtr<[u8; SIZE]> = AtomicPtr::new(std::ptr::null_mut());
    let first = runtime(1);
    first.run(|| {
        drop(spawn(|| {
            let mut kept = [0xA5_u8; SIZE];
            KEPT.store(std::hint::black_box(&raw mut kept), Ordering::Release);
            loop {
                let _ = catch_unwind(park);
                std::hint::black_box(&mut kept);
            }
        }));
        sleep(Duration::from_millis(5));
    });
    assert_eq!(first.shutdown(Duration::ZERO).leaked.len(), 1);
    // Would take its slot, or the address space of its arena.
    for _ in 0..3 {
        runtime(2).run(|| {
            let children: Vec<_> = (0..2000)
                .map(|number: usize| {
                    spawn(move || {
                        let filled = std::hint::black_box([number as u8; SIZE]);
                        yield_now();
                        usize::from(filled[number % SIZE])
                    })
                })
                .collect();
            children.into_iter().for_each(|child| assert!(child.join().is_ok()));
        });
    }
    let kept = KEPT.load(Ordering::Acquire);
    // SAFETY: a stack that is leaked stays mapped, and nobody runs on it, which is what is tested.
    assert_eq!(unsafe { kept.read_volatile() }, [0xA5; SIZE]);
}

#[test]
fn a_leaked_coroutines_worker_never_ends_its_thread() {
    thread_local!(static LAST: RefCell<Option<AtEnd>> = const { RefCell::new(None) });
    struct AtEnd(mpsc::Sender<()>);
    impl Drop for AtEnd {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    let runtime = runtime(2);
    let (ended, ends) = mpsc::channel();
    let stubborn = AtEnd(ended.clone());
    runtime.run(|| {
        let (begins, begun) = channel::bounded(1);
        drop(spawn_on(0, move || {
            LAST.set(Some(stubborn));
            begins.send(()).expect("there is room");
            loop {
                let _ = catch_unwind(park);
            }
        }));
        begun.recv().expect("it begins");
        // The other worker's thread ends as ever.
        spawn_on(1, move || LAST.set(Some(AtEnd(ended)))).join().expect("no panic");
    });
    assert_eq!(runtime.shutdown(Duration::ZERO).leaked.len(), 1);
    ends.recv_timeout(LONG).expect("the other worker's thread has ended");
    assert_eq!(ends.recv_timeout(Duration::from_millis(100)), Err(mpsc::RecvTimeoutError::Timeout), "its thread-locals stay");
}

#[test]
#[cfg_attr(any(miri, weald_baton), ignore = "a coroutine has a thread of its own in the baton backend")]
fn a_workers_thread_locals_are_dropped_when_it_has_no_coroutine() {
    thread_local!(static LAST: RefCell<Option<AtEnd>> = const { RefCell::new(None) });
    struct AtEnd(Arc<AtomicUsize>, mpsc::Sender<usize>);
    impl Drop for AtEnd {
        fn drop(&mut self) {
            let _ = self.1.send(self.0.load(Ordering::Acquire));
        }
    }
    struct Alive(Arc<AtomicUsize>);
    impl Drop for Alive {
        fn drop(&mut self) {
            // A coroutine's end may use its thread's locals.
            LAST.with_borrow(|last| assert!(last.is_some()));
            self.0.fetch_sub(1, Ordering::Release);
        }
    }
    let runtime = runtime(2);
    let alive = Arc::new(AtomicUsize::new(0));
    let (sender, ends) = mpsc::channel();
    for worker in [0, 1] {
        for _ in 0..50 {
            alive.fetch_add(1, Ordering::Relaxed);
            let (counted, at_end) = (Alive(Arc::clone(&alive)), AtEnd(Arc::clone(&alive), sender.clone()));
            drop(runtime.handle().spawn_on(worker, move || {
                LAST.with_borrow_mut(|last| assert!(Arc::strong_count(&last.get_or_insert(at_end).0) > 1));
                let _counted = counted;
                loop {
                    park();
                }
            }));
        }
    }
    drop(sender);
    runtime.run(|| sleep(Duration::from_millis(10)));
    assert_eq!(ends.try_iter().filter(|left| *left == 0).count(), 0);
    assert!(runtime.shutdown(Duration::from_millis(5)).is_clean());
    assert_eq!(ends.iter().filter(|left| *left == 0).count(), 2, "one of each worker");
}

#[test]
fn stacks_are_unwound_on_their_worker_as_if_the_park_had_panicked() {
    struct Notes(mpsc::Sender<(Option<usize>, thread::ThreadId, bool)>);
    impl Drop for Notes {
        fn drop(&mut self) {
            self.0.send((worker_index(), thread::current().id(), thread::panicking())).expect("the test listens");
        }
    }
    let runtime = runtime(2);
    let (sender, notes) = mpsc::channel();
    let homes: Vec<_> = runtime.run(|| {
        let begin = |worker| {
            let notes = Notes(sender.clone());
            let (began, begins) = channel::bounded(1);
            drop(spawn_on(worker, move || {
                let _notes = notes;
                began.send((worker_index(), thread::current().id(), true)).expect("the test listens");
                loop {
                    park();
                }
            }));
            begins.recv().expect("it begins")
        };
        [0, 1].into_iter().map(begin).collect()
    });
    assert!(runtime.shutdown(Duration::from_millis(5)).is_clean());
    drop(sender);
    let mut unwound: Vec<_> = notes.iter().collect();
    unwound.sort_by_key(|(worker, ..)| *worker);
    assert_eq!(unwound, homes);
}

#[test]
fn sockets_work_until_the_last_coroutine_has_ended() {
    let runtime = runtime(2);
    let (said, hears) = mpsc::channel();
    let cleaning = runtime.run(|| {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        said.send(socket.local_addr().expect("an address")).expect("the test listens");
        let (began, begins) = channel::bounded(1);
        let cleaning = spawn(move || {
            began.send(()).expect("the test listens");
            assert!(socket.recv_from(&mut [0; 8]).is_err(), "cancelled");
            // A clean-up that waits for the network, and for a timer.
            shield(|| {
                sleep(Duration::from_millis(5));
                socket.recv_from(&mut [0; 8]).map(|(length, _)| length)
            })
        });
        begins.recv().expect("it begins");
        cleaning
    });
    let address = hears.recv().expect("it is sent");
    let report = thread::scope(|s| {
        s.spawn(|| {
            thread::park_timeout(Duration::from_millis(50));
            let own = UdpSocket::bind("127.0.0.1:0").expect("a socket");
            own.send_to(b"abc", address).expect("it is open");
        });
        runtime.shutdown(LONG)
    });
    assert!(report.is_clean(), "{report}");
    assert_eq!(cleaning.join().expect("no panic").expect("it arrives"), 3);
}

#[test]
fn every_call_that_can_fail_does_in_a_destructor_during_a_panic() {
    type Call = Box<dyn Fn() -> bool + Send>;
    struct Calls(Vec<Call>);
    impl Drop for Calls {
        fn drop(&mut self) {
            for (number, call) in self.0.iter().enumerate() {
                assert!(thread::panicking() && call(), "call {number}");
            }
        }
    }
    runtime(1).run(|| {
        let (full, full_receiver) = channel::bounded(1);
        full.send(0_u32).expect("there is room");
        let (empty_sender, empty) = channel::bounded::<u32>(1);
        let (rendezvous, rendezvous_receiver) = channel::bounded::<u32>(0);
        let (oneshot_sender, oneshot) = channel::oneshot::channel::<u32>();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let stream = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
        let datagrams = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let (mutex, condvar, semaphore, barrier) = (Mutex::new(()), Condvar::new(), Semaphore::new(0), Barrier::new(2));
        let never = CancellationToken::new();
        let other = std::sync::Mutex::new(Some(spawn(|| try_sleep(LONG).is_err())));
        let calls: Vec<Call> = vec![
            Box::new(move || full.send(1).is_err() && full.send_timeout(1, LONG).is_err()),
            Box::new(move || empty.recv().is_err() && empty.recv_timeout(LONG).is_err()),
            Box::new(move || rendezvous.send(1).is_err()),
            Box::new(move || oneshot.recv().is_err()),
            Box::new(move || listener.accept().map(std::mem::forget).is_ok() && listener.accept().is_err()),
            Box::new(move || std::io::Read::read(&mut &stream, &mut [0; 8]).is_err()),
            Box::new(move || datagrams.recv_from(&mut [0; 8]).is_err()),
            Box::new(move || condvar.wait(mutex.lock()).is_err()),
            Box::new(move || semaphore.acquire(1).is_err()),
            Box::new(move || barrier.wait().is_err()),
            Box::new(|| Notify::new().wait().is_err()),
            Box::new(move || never.wait().is_err() && never.wait_timeout(LONG).is_err()),
            Box::new(|| try_sleep(LONG).is_err()),
            Box::new(|| unblock(|| ()).is_err()),
            Box::new(move || {
                let mut other = other.lock().expect("no panic").take().expect("once");
                other.cancel();
                other.wait_timeout(LONG) == Err(WaitError::Cancelled) && other.join().is_err()
            }),
        ];
        let calls = Calls(calls);
        let start = Instant::now();
        let panicking = spawn(move || {
            let _calls = calls;
            std::panic::resume_unwind(Box::new("out of the middle"));
        });
        assert!(panicking.join().map(|never: ()| never).expect_err("it panicked").is_panic());
        assert!(start.elapsed() < LONG / 2, "at once");
        drop((full_receiver, empty_sender, rendezvous_receiver, oneshot_sender));
    });
}

#[test]
fn a_scope_in_a_destructor_during_a_panic_waits_for_nobody() {
    // Without children there is nobody to wait for; with one the process would be aborted rather than let it borrow what is gone.
    struct Scopes;
    impl Drop for Scopes {
        fn drop(&mut self) {
            assert_eq!(scope(|_| 5), 5);
        }
    }
    runtime(1).run(|| {
        let panicking = spawn(|| {
            let _scopes = Scopes;
            std::panic::resume_unwind(Box::new(()));
        });
        assert!(panicking.join().map(|never: ()| never).expect_err("it panicked").is_panic());
    });
}

#[test]
fn what_was_unwound_has_no_name_left_in_the_report() {
    let runtime = runtime(2);
    runtime.run(|| {
        for number in 0..10 {
            drop(Builder::new().name(format!("parked {number}")).spawn(|| {
                let _ = catch_unwind(AssertUnwindSafe(park));
                // The unwinding was swallowed once: the next park raises it again.
                park();
            }));
        }
        sleep(Duration::from_millis(5));
    });
    let report = runtime.shutdown(Duration::from_millis(5));
    assert!(report.is_clean() && report.leaked.is_empty(), "{report}");
}
