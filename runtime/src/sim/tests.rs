//! The driver: virtual time, determinism, dead-locks, the end.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use super::*;
use crate::net::UdpSocket;
use crate::{Builder, park, sleep, spawn, spawn_local, spawn_on, worker_index, yield_now};

fn panic_text(f: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(f)).expect_err("it panics");
    task::panic_message(&*payload).expect("a text").to_owned()
}

#[test]
fn sleeping_takes_virtual_time_only() {
    let start = Instant::now();
    let order = run(1, || {
        let order = Rc::new(RefCell::new(Vec::new()));
        let handles: Vec<_> = [30_u64, 10, 20]
            .into_iter()
            .map(|hours| {
                let order = Rc::clone(&order);
                spawn_local(move || {
                    let start = Instant::now();
                    sleep(Duration::from_secs(hours * 3600));
                    assert_eq!(start.elapsed(), Duration::from_secs(hours * 3600), "exactly");
                    order.borrow_mut().push(hours);
                })
            })
            .collect();
        handles.into_iter().for_each(|handle| handle.join().expect("no panic"));
        order.take()
    });
    assert_eq!(order, [10, 20, 30]);
    assert!(start.elapsed() < Duration::from_secs(60), "real time is back, and little of it passed");
}

#[test]
fn the_clock_begins_where_it_is_told() {
    for nanos in [0, 1, u64::MAX - 1_000_000] {
        let elapsed = Simulation::new(1).begin(Instant::from_nanos(nanos)).run(|| {
            let start = Instant::now();
            assert!((nanos..nanos + 100_000).contains(&start.as_nanos()));
            sleep(Duration::from_micros(500));
            start.elapsed()
        });
        assert_eq!(elapsed, Duration::from_micros(500));
    }
}

#[test]
fn it_borrows_and_needs_no_send() {
    let shared = Rc::new(RefCell::new(1));
    let mut number = 2;
    run(1, || {
        *shared.borrow_mut() += 10;
        number += 10;
    });
    assert_eq!((*shared.borrow(), number), (11, 12));
}

/// Each instant takes thousands of switches, which are slow where they are the system's.
const INSTANTS: u64 = if cfg!(any(miri, weald_baton)) { 2 } else { 100 };

#[test]
fn waiting_by_yields_ends() {
    run(1, || {
        let deadline = Instant::now() + Duration::from_micros(5 * INSTANTS);
        while Instant::now() < deadline {
            yield_now();
        }
    });
}

#[test]
fn two_that_wake_each_other_do_not_stop_the_time() {
    run(1, || {
        let deadline = Instant::now() + Duration::from_micros(INSTANTS);
        let main = crate::current();
        let other = spawn(move || {
            loop {
                park();
                main.unpark();
            }
        });
        let other = other.coroutine();
        while Instant::now() < deadline {
            other.unpark();
            park();
        }
    });
}

#[test]
fn a_dead_lock_names_who_is_parked_where() {
    let text = panic_text(|| {
        run(77, || {
            let _waiter = Builder::new().name("waiter").spawn(park);
            park();
        });
    });
    assert!(text.contains("seed 77"), "{text}");
    assert!(text.contains("coroutine 'waiter' parked at"), "{text}");
    assert!(text.contains("coroutine 'main' parked at runtime/src/sim/tests.rs"), "{text}");
}

#[test]
fn the_programs_panic_is_passed_on_and_the_next_simulation_is_sound() {
    assert_eq!(panic_text(|| run(1, || panic!("deliberate"))), "deliberate");
    assert_eq!(run(1, || 5), 5);
    assert!(network().is_none());
}

#[test]
fn what_the_program_leaves_is_ended() {
    struct SetOnDrop(Rc<RefCell<u32>>);
    impl Drop for SetOnDrop {
        fn drop(&mut self) {
            *self.0.borrow_mut() += 1;
        }
    }
    let dropped = Rc::new(RefCell::new(0));
    run(3, || {
        for _ in 0..3 {
            let guard = SetOnDrop(Rc::clone(&dropped));
            spawn_local(move || {
                let _guard = guard;
                loop {
                    park();
                }
            });
        }
        yield_now();
    });
    assert_eq!(*dropped.borrow(), 3);
}

#[test]
fn a_foreign_thread_is_refused() {
    run(1, || {
        let parked = spawn(park);
        while !parked.is_finished() && Instant::now() < Instant::from_nanos(3_600_000_100_000) {
            yield_now();
        }
        let coroutine = parked.coroutine();
        assert!(std::thread::scope(|scope| scope.spawn(move || coroutine.unpark()).join().is_err()));
        let handle = crate::Handle::current().expect("inside");
        assert!(std::thread::scope(|scope| scope.spawn(move || handle.spawn(|| ())).join().is_err()));
    });
}

/// A hook that is due once a second, and wakes a coroutine each time.
struct Ticker {
    next: Instant,
    wakes: crate::Coroutine,
}

impl crate::Hook for Ticker {
    fn poll(&mut self, context: &mut crate::RoundContext<'_>) -> crate::Progress {
        if context.now() < self.next {
            return crate::Progress::Idle;
        }
        self.next += Duration::from_secs(1);
        self.wakes.unpark();
        crate::Progress::Busy
    }

    fn flush(&mut self, _: &mut crate::RoundContext<'_>) -> crate::Progress {
        crate::Progress::Idle
    }

    fn next_timeout(&self) -> Option<Instant> {
        Some(self.next)
    }
}

#[test]
fn a_hooks_deadline_moves_the_time() {
    run(1, || {
        let start = Instant::now();
        let wakes = crate::current();
        let handle = crate::Handle::current().expect("inside");
        handle.add_hook(1, move |_| Box::new(Ticker { next: start + Duration::from_secs(1), wakes })).expect("a worker 1");
        for second in 1..=3 {
            park();
            assert_eq!(start.elapsed(), Duration::from_secs(second));
        }
    });
}

#[test]
fn work_is_spread_over_virtual_workers() {
    let simulation = Simulation::new(5).workers(3);
    let workers = simulation.run(|| {
        let handles: Vec<_> = (0..3).map(|worker| spawn_on(worker, worker_index)).collect();
        handles.into_iter().map(|handle| handle.join().expect("no panic")).collect::<Vec<_>>()
    });
    assert_eq!(workers, [Some(0), Some(1), Some(2)]);
}

/// A lossy exchange whose trace depends on every source of randomness there is.
fn exchange(seed: u64) -> (Vec<TraceEntry>, Vec<(usize, Instant)>) {
    let link = LinkConfig { jitter: Duration::from_millis(3), loss: 0.2, reorder: 0.1, duplicate: 0.1, ..LinkConfig::default() };
    Simulation::new(seed).workers(2).network(NetworkConfig { link, ..NetworkConfig::default() }).run(|| {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 4433));
        let receiver = spawn_on(1, move || {
            let socket = UdpSocket::bind(address).expect("a free port");
            socket.set_read_timeout(Some(Duration::from_millis(200))).expect("supported");
            let mut buffer = [0; 1500];
            let mut seen = Vec::new();
            while let Ok((size, _)) = socket.recv_from(&mut buffer) {
                seen.push((size, Instant::now()));
            }
            seen
        });
        let senders: Vec<_> = (0..4)
            .map(|number| {
                spawn(move || {
                    let socket = UdpSocket::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a port");
                    for step in 0..20 {
                        sleep(Duration::from_millis(1));
                        socket.send_to(&vec![0; 10 * step + number + 1], address).expect("sent");
                    }
                })
            })
            .collect();
        senders.into_iter().for_each(|sender| sender.join().expect("no panic"));
        let seen = receiver.join().expect("no panic");
        (trace(), seen)
    })
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_does_not() {
    let (trace, seen) = exchange(11);
    assert!(trace.iter().any(|entry| entry.verdict == Verdict::Lost));
    assert!(seen.len() > 20);
    for _ in 0..3 {
        assert_eq!(exchange(11), (trace.clone(), seen.clone()));
    }
    assert_ne!(exchange(12).0, trace);
}

/// The order in which three coroutines of one worker have their turns, two each.
fn turns(seed: u64) -> Vec<u8> {
    Simulation::new(seed).workers(1).run(|| {
        let turns = Rc::new(RefCell::new(Vec::new()));
        let handles: Vec<_> = (0..3)
            .map(|number| {
                let turns = Rc::clone(&turns);
                spawn_local(move || {
                    turns.borrow_mut().push(number);
                    yield_now();
                    turns.borrow_mut().push(number);
                })
            })
            .collect();
        handles.into_iter().for_each(|handle| handle.join().expect("no panic"));
        turns.take()
    })
}

#[test]
fn the_seed_decides_who_of_one_worker_runs() {
    let seeds = if cfg!(any(miri, weald_baton)) { 10 } else { 2000 };
    let orders: std::collections::BTreeSet<_> = (0..seeds).map(turns).collect();
    // There are 6! / (2! 2! 2!) = 90.
    assert!(orders.len() >= if seeds == 10 { 3 } else { 60 }, "{} orders", orders.len());
    assert_eq!(turns(7), turns(7));
}

#[test]
fn a_panic_that_nobody_joins_fails_the_simulation() {
    let lost = |joined: bool, allowed: bool| {
        std::panic::catch_unwind(move || {
            Simulation::new(6).allow_lost_panics(allowed).run(|| {
                let kid = Builder::new().name("kid").spawn(|| panic!("oops"));
                if joined {
                    assert!(kid.join().map(|never: ()| never).is_err());
                } else {
                    drop(kid);
                    sleep(Duration::from_millis(1));
                }
            });
        })
    };
    assert!(lost(true, false).is_ok());
    assert!(lost(false, true).is_ok());
    let payload = lost(false, false).expect_err("it fails");
    let message = payload.downcast_ref::<String>().expect("text");
    assert_eq!(message, "simulation with seed 6: coroutine 'kid' panicked, and nobody joined it: oops");
}

#[test]
fn a_simulation_has_as_many_coroutines_as_it_is_told() {
    let started = Simulation::new(1).max_coroutines(2).run(|| {
        let handles: Vec<_> = (0..3).map(|_| spawn(|| sleep(Duration::from_secs(1)))).collect();
        handles.into_iter().filter_map(|handle| handle.join().ok()).count()
    });
    assert_eq!(started, 1);
}

#[test]
fn a_link_without_sense_is_refused() {
    let refused = |change: fn(&mut LinkConfig)| {
        let mut link = LinkConfig::default();
        change(&mut link);
        let network = NetworkConfig { link, ..NetworkConfig::default() };
        std::panic::catch_unwind(|| Simulation::new(1).network(network).run(|| ())).is_err()
    };
    assert!(refused(|link| link.loss = 7.0));
    assert!(refused(|link| link.corrupt = f64::NAN));
    assert!(refused(|link| link.duplicate = -1.0));
    assert!(refused(|link| link.rate = Some(0)));
    assert!(!refused(|link| link.loss = 1.0));
}

/// Whoever it is that may not: the coroutine is woken by the next who may.
#[test]
fn a_wake_from_a_thread_or_another_simulation_is_refused_and_loses_nothing() {
    run(1, || {
        let sleeper = spawn(park);
        yield_now();
        let coroutine = sleeper.coroutine().clone();
        let unpark = || panic_text(|| coroutine.unpark());
        let refused = std::thread::scope(|scope| {
            let thread = scope.spawn(unpark).join();
            let simulation = scope.spawn(|| run(2, unpark)).join();
            [thread, simulation].map(|text| text.expect("no panic"))
        });
        assert!(refused.iter().all(|text| text.contains("outside of the simulation")), "{refused:?}");
        coroutine.unpark();
        sleeper.join().expect("no panic");
    });
}
