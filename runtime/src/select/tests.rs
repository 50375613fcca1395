use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::*;
use crate::channel::{
    Receiver, RecvError, RecvTimeoutError, SendError, Sender, TryRecvError, after, at, bounded, never, oneshot, tick, unbounded,
};
use crate::time::Instant;
use crate::{Runtime, select, sim};

const MS: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(20);

#[test]
fn what_is_ready_is_chosen_and_nothing_else_touched() {
    let (numbers, from_numbers) = bounded(1);
    let (words, from_words) = bounded(1);
    words.send("one").unwrap();
    let chosen = select! {
        recv(from_numbers) -> number => number.map(|_: u8| "a number"),
        recv(from_words) -> word => word,
    };
    assert_eq!(chosen, Ok("one"));
    let sent = select! {
        recv(from_words) -> _ => unreachable!(),
        send(numbers, 7) -> sent => sent.is_ok(),
    };
    assert!(sent && from_numbers.len() == 1);
    let full = select! {
        send(numbers, 8) -> _ => false,
        recv(&from_words) -> _ => false,
        default => true
    };
    assert!(full && from_numbers.recv() == Ok(7) && from_numbers.is_empty());
}

#[test]
fn the_syntax_is_that_of_match_arms() {
    fn find(receiver: &Receiver<u32>) -> Result<u32, RecvError> {
        let mut sum = 0;
        'sum: loop {
            select! {
                recv(receiver) -> message => match message? {
                    0 => continue,
                    1 => {}
                    2 => break 'sum,
                    3 => return Ok(99),
                    other => sum += other,
                },
                default(LONG) => panic!("{sum}"),
            }
        }
        Ok(sum)
    }
    let (sender, receiver) = unbounded();
    let answer_to = |messages: &[u32]| {
        messages.iter().for_each(|message| sender.send(*message).unwrap());
        find(&receiver)
    };
    assert_eq!(answer_to(&[10, 0, 1, 20, 2]), Ok(30));
    assert_eq!(answer_to(&[10, 3]), Ok(99));
    drop(sender);
    assert_eq!(find(&receiver), Err(RecvError::Disconnected));

    // Blocks need no comma, expressions do unless they are last; defaults stand anywhere.
    let (sender, receiver) = bounded::<u8>(0);
    assert_eq!(select! { default => 1, recv(receiver) -> _ => { 2 } }, 1);
    assert_eq!(select! { recv(receiver) -> _ => { 2 } send(sender, 1,) -> _ => 3, default() => { 4 } }, 4);
    assert_eq!(select! { default => 5 }, 5);
    assert_eq!(select! { default(MS) => { 6 } }, 6);
    let deadline = Instant::now() + 2 * MS;
    assert_eq!(select! { recv(never::<u8>()) -> _ => 0, default(deadline) => 7 }, 7);
    assert!(Instant::now() >= deadline);
    let boxed = Box::new(&receiver);
    select! { recv(boxed,) -> _ => {}, wait(sender.sending(1),) -> _ => {} default(Duration::ZERO,) => {}, }
}

/// The arms' temporaries are gone when the body runs.
#[test]
fn bodies_do_not_run_under_the_arms_borrows() {
    let (sender, receiver) = bounded(1);
    let shared = Mutex::new((sender, 5));
    select! {
        send(shared.lock().unwrap().0, 1) -> sent => {
            sent.unwrap();
            shared.lock().unwrap().1 += 1;
        }
        recv(never::<u8>()) -> _ => unreachable!(),
    }
    assert_eq!((receiver.recv(), shared.lock().unwrap().1), (Ok(1), 6));
}

#[test]
fn disconnection_is_an_arms_result_also_of_those_who_wait() {
    let (sender, receiver) = bounded::<u8>(1);
    let (other, from_other) = bounded::<u8>(1);
    drop(sender);
    select! {
        recv(receiver) -> message => assert_eq!(message, Err(RecvError::Disconnected)),
        recv(from_other) -> _ => unreachable!(),
    }
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            select! {
                recv(from_other) -> message => message,
                recv(never()) -> message => message,
            }
        });
        crate::sleep(2 * MS);
        drop(other);
        assert_eq!(waiting.join().expect("no panic"), Err(RecvError::Disconnected));
    });

    let (sender, receiver) = bounded(0);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            select! {
                send(sender, 5) -> sent => sent,
                recv(never::<u8>()) -> _ => unreachable!(),
            }
        });
        crate::sleep(2 * MS);
        drop(receiver);
        assert_eq!(waiting.join().expect("no panic"), Err(SendError::Disconnected(5)));
    });
    let mut kept = Some(6);
    select! { wait(sender.sending_from(&mut kept)) -> sent => assert_eq!(sent, Err(SendError::Disconnected(()))) }
    assert_eq!(kept, Some(6));
}

#[test]
fn an_empty_place_leaves_the_arm_out_and_a_loser_keeps_its_message() {
    let (sender, receiver) = bounded(0);
    let mut nothing = None;
    select! {
        wait(sender.sending_from(&mut nothing)) -> _ => unreachable!(),
        default(MS) => {}
    }
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    let mut kept = Some(String::from("kept"));
    sim::run(1, || {
        select! {
            recv(after(MS)) -> _ => {}
            wait(sender.sending_from(&mut kept)) -> _ => unreachable!(),
        }
    });
    assert_eq!(kept.as_deref(), Some("kept"));
}

#[test]
fn timeouts_and_times_are_exact_in_virtual_time() {
    sim::run(3, || {
        let start = Instant::now();
        let (sender, receiver) = bounded::<u8>(1);
        assert!(select! { recv(receiver) -> _ => false, default(5 * MS) => true });
        assert_eq!(start.elapsed(), 5 * MS);
        select! {
            recv(receiver) -> _ => unreachable!(),
            recv(at(start + 7 * MS)) -> due => assert_eq!(due, Ok(start + 7 * MS)),
            recv(after(10 * MS)) -> _ => unreachable!(),
        }
        assert_eq!(start.elapsed(), 7 * MS);
        let beat = tick(10 * MS);
        let limit = at(start + 60 * MS);
        let (mut beats, mut messages) = (0, 0);
        crate::spawn(move || {
            (0..3).for_each(|number| {
                crate::sleep(12 * MS);
                sender.send(number).unwrap();
            });
            crate::sleep(LONG);
        });
        loop {
            select! {
                recv(beat) -> due => {
                    beats += 1;
                    assert_eq!(due, Ok(Instant::now()));
                }
                recv(receiver) -> number => {
                    assert_eq!((number, start.elapsed()), (Ok(messages), (7 + 12 * (u32::from(messages) + 1)) * MS));
                    messages += 1;
                }
                recv(limit) -> _ => break,
            }
        }
        assert_eq!((beats, messages, start.elapsed()), (5, 3, 60 * MS));
    });
}

#[test]
fn threads_time_out_too() {
    let start = Instant::now();
    let (_sender, receiver) = bounded::<u8>(1);
    assert!(select! { recv(receiver) -> _ => false, default(3 * MS) => true });
    assert!(start.elapsed() >= 3 * MS);
    assert!(select! { recv(receiver) -> _ => false, recv(after(3 * MS)) -> _ => true });
    assert!(start.elapsed() >= 6 * MS);
}

#[test]
fn one_shots_are_received() {
    let (sender, receiver) = oneshot::channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            crate::sleep(MS);
            sender.send(3).unwrap();
        });
        select! {
            recv(receiver) -> answer => assert_eq!(answer, Ok(3)),
            default(LONG) => panic!("no answer"),
        }
    });
    assert_eq!(select! { recv(receiver) -> answer => answer }, Err(RecvError::Disconnected));
}

#[test]
fn joins_are_selected_and_then_joined() {
    for workers in [1, 2] {
        let runtime = Runtime::builder().workers(workers).build().expect("a runtime");
        runtime.run(|| {
            let (sender, receiver) = bounded(0);
            let mut short = crate::spawn(move || receiver.recv());
            let (hold, held) = bounded::<u8>(0);
            let mut long = crate::spawn(move || held.recv());
            select! {
                wait(&mut short) -> () => unreachable!("it waits"),
                default(MS) => {}
            }
            // A select that leaves does not disturb the joiner's slot.
            sender.send(5).unwrap();
            select! {
                wait(&mut long) -> () => unreachable!("it sleeps"),
                wait(&mut short) -> () => {}
            }
            assert_eq!(short.join().expect("no panic"), Ok(5));
            let mut ended = crate::spawn(|| ());
            while !ended.is_finished() {
                crate::yield_now();
            }
            select! { wait(&mut ended) -> () => {} default => unreachable!() }
            drop(hold);
            assert_eq!(long.join().expect("no panic"), Err(RecvError::Disconnected));
        });
        let _ = runtime.shutdown(LONG);
    }
}

#[test]
fn many_of_one_type_are_selected_by_index() {
    let channels: Vec<_> = (0..20).map(|_| bounded(0)).collect();
    let receivers = || channels.iter().map(|(_, receiver)| receiver.receiving());
    assert_eq!(try_first_of(receivers()), None);
    assert_eq!(first_of_timeout(receivers(), MS), None);
    assert_eq!(first_of(receivers().take(0)), None);
    thread::scope(|scope| {
        scope.spawn(|| channels[13].0.send(5).unwrap());
        assert_eq!(first_of(receivers()), Some((13, Ok(5))));
        scope.spawn(|| assert_eq!(channels[4].1.recv(), Ok(6)));
        assert_eq!(first_of(channels.iter().map(|(sender, _)| sender.sending(6))), Some((4, Ok(()))));
    });
}

#[test]
#[cfg_attr(miri, ignore = "thousands of messages to be counted")]
fn no_arm_starves() {
    let draw = || {
        let channels = [(); 3].map(|()| unbounded());
        let mut counts = [0; 3];
        channels.iter().for_each(|(sender, _)| (0..1_000).for_each(|number| sender.send(number).unwrap()));
        let [(_, first), (_, second), (_, third)] = &channels;
        let order: Vec<usize> = (0..900)
            .map(|_| {
                let arm = select! {
                    recv(first) -> _ => 0,
                    recv(second) -> _ => 1,
                    recv(third) -> _ => 2,
                };
                counts[arm] += 1;
                arm
            })
            .collect();
        assert!(counts.iter().all(|count| (200..400).contains(count)), "{counts:?}");
        order
    };
    draw();
    let simulated = |seed| sim::run(seed, draw);
    assert_eq!(simulated(5), simulated(5), "the same in each run");
    assert_ne!(simulated(5), simulated(6));
}

/// A select that sends and receives on one rendezvous does not meet itself, but another like it.
#[test]
fn a_select_does_not_meet_itself_but_others() {
    let (sender, receiver) = bounded(0);
    let meet = |own: u32| {
        select! {
            send(sender, own) -> sent => { sent.unwrap(); None }
            recv(receiver) -> other => Some(other.unwrap()),
            default(5 * MS) => panic!("{own} met nobody"),
        }
    };
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| meet(1))).is_err(), "alone");
    for _ in 0..if cfg!(miri) { 5 } else { 200 } {
        let met = thread::scope(|scope| {
            let other = scope.spawn(|| {
                select! {
                    send(sender, 1) -> sent => { sent.unwrap(); None }
                    recv(receiver) -> other => Some(other.unwrap()),
                }
            });
            let own = select! {
                recv(receiver) -> other => Some(other.unwrap()),
                send(sender, 2) -> sent => { sent.unwrap(); None }
            };
            [own, other.join().expect("no panic")]
        });
        assert!(met == [Some(1), None] || met == [None, Some(2)], "{met:?}");
    }
}

/// A shutdown chooses the first arm, with its error, and messages come back.
#[test]
fn a_cancelled_select_ends_by_its_first_arm() {
    let runtime = Runtime::builder().workers(1).build().expect("a runtime");
    let (sender, receiver) = bounded(0);
    let sending = runtime.handle().spawn({
        let sender = sender.clone();
        move || {
            select! {
                send(sender, 7) -> sent => sent.err(),
                recv(never::<u8>()) -> _ => unreachable!(),
            }
        }
    });
    let receiving = runtime.handle().spawn(|| {
        select! {
            recv(after(LONG)) -> message => message.err(),
            recv(never::<u8>()) -> _ => unreachable!(),
        }
    });
    let joining = runtime.handle().spawn(|| {
        let over = std::rc::Rc::new(std::cell::Cell::new(false));
        let seen = over.clone();
        let mut stubborn = crate::spawn_local(move || {
            while !seen.get() {
                crate::yield_now();
            }
        });
        let ended = select! { wait(&mut stubborn) -> () => stubborn.is_finished() };
        over.set(true);
        ended
    });
    let only_default = runtime.handle().spawn(|| select! { default(LONG) => 5 });
    runtime.run(|| crate::sleep(2 * MS));
    let _ = runtime.shutdown(Duration::from_secs(5));
    assert_eq!(sending.join().expect("no panic"), Some(SendError::Cancelled(7)));
    assert_eq!(receiving.join().expect("no panic"), Some(RecvError::Cancelled));
    assert!(!joining.join().expect("no panic"), "the arm was chosen, the coroutine had not ended");
    assert_eq!(only_default.join().expect("no panic"), 5);
    drop(receiver);
}

/// A flag whose waiters are plain handles, to exercise the trait that others implement.
#[derive(Default)]
struct Flag {
    state: Mutex<(bool, Vec<crate::Coroutine>)>,
    unregistered: AtomicUsize,
}

impl Flag {
    fn set(&self) {
        let waiters = {
            let mut state = self.state.lock().unwrap();
            state.0 = true;
            std::mem::take(&mut state.1)
        };
        waiters.iter().for_each(crate::Coroutine::unpark);
    }
}

impl Readiness for &Flag {
    type Output = bool;
    type Registration = ();

    /// Takes the flag.
    fn attempt(&mut self) -> Option<bool> {
        std::mem::take(&mut self.state.lock().unwrap().0).then_some(true)
    }

    fn register(&mut self, waiter: &crate::Coroutine) {
        self.state.lock().unwrap().1.push(waiter.clone());
    }

    fn unregister(&mut self, (): ()) {
        self.unregistered.fetch_add(1, Ordering::Relaxed);
    }

    fn cancelled(&mut self) -> bool {
        false
    }
}

#[test]
fn readiness_is_tried_after_each_unpark_and_registrations_are_taken_back() {
    let (flag, other) = (Flag::default(), Flag::default());
    let (sender, receiver) = bounded(0);
    thread::scope(|scope| {
        for round in 1..=if cfg!(miri) { 5 } else { 300 } {
            scope.spawn(|| flag.set());
            select! {
                wait(&flag) -> set => assert!(set),
                wait(&other) -> _ => unreachable!(),
                recv(receiver) -> _ => unreachable!(),
                send(never_taken(), 1) -> _ => unreachable!(),
            }
            let sender = sender.clone();
            scope.spawn(move || sender.send(round).unwrap());
            select! {
                wait(&flag) -> _ => unreachable!(),
                recv(receiver) -> number => assert_eq!(number, Ok(round)),
            }
        }
    });
    let registered = other.state.lock().unwrap().1.len();
    assert_eq!(other.unregistered.load(Ordering::Relaxed), registered);
}

fn never_taken() -> &'static Sender<u8> {
    static CHANNEL: std::sync::OnceLock<(Sender<u8>, Receiver<u8>)> = std::sync::OnceLock::new();
    &CHANNEL.get_or_init(|| bounded(0)).0
}

/// Selects and plain operations on both sides of several channels, with time-outs: every message arrives once.
fn exchange(capacity: usize, run: impl Fn(Vec<Box<dyn FnOnce() + Send>>), seed: u64) {
    const ENDS: u64 = 3;
    const MESSAGES: u64 = if cfg!(miri) {
        5
    } else if cfg!(weald_baton) {
        1_000
    } else {
        20_000
    };
    let channels = Arc::new([(); 2].map(|()| bounded::<u64>(capacity)));
    let received = Arc::new(Mutex::new(Vec::new()));
    let left = Arc::new(AtomicUsize::new((ENDS * MESSAGES) as usize));
    let (done, finished) = bounded::<()>(0);
    let done = Arc::new(Mutex::new(Some(done)));
    let mut jobs: Vec<Box<dyn FnOnce() + Send>> = Vec::new();
    for end in 0..ENDS {
        let channels = channels.clone();
        jobs.push(Box::new(move || {
            let [(one, _), (two, _)] = &*channels;
            let mut random = fastrand::Rng::with_seed(seed ^ end);
            for number in 0..MESSAGES {
                let mut message = Some(end * MESSAGES + number);
                while let Some(number) = message {
                    let timeout = Duration::from_micros(random.u64(..60));
                    match random.u8(..4) {
                        0 => message = one.send_timeout(number, timeout).err().map(|error| error.into_inner()),
                        1 => {
                            two.send(number).unwrap();
                            message = None;
                        }
                        2 => select! {
                            send(one, number) -> sent => message = sent.err().map(SendError::into_inner),
                            send(two, number) -> sent => message = sent.err().map(SendError::into_inner),
                        },
                        _ => {
                            let mut again = message;
                            select! {
                                wait(one.sending_from(&mut message)) -> sent => sent.unwrap(),
                                wait(two.sending_from(&mut again)) -> sent => {
                                    sent.unwrap();
                                    message = None;
                                }
                                default(timeout) => assert!(message.is_some() && again.is_some()),
                            }
                        }
                    }
                }
            }
        }));
    }
    for end in 0..ENDS {
        let (channels, received, left, done, finished) = (channels.clone(), received.clone(), left.clone(), done.clone(), finished.clone());
        jobs.push(Box::new(move || {
            let [(_, one), (_, two)] = &*channels;
            let mut random = fastrand::Rng::with_seed(!seed ^ end);
            let mut own = Vec::new();
            let mut over = false;
            while !over {
                let timeout = Duration::from_micros(random.u64(..60));
                let message = match random.u8(..3) {
                    0 => one.recv_timeout(timeout).ok(),
                    1 => select! {
                        recv(two) -> message => message.ok(),
                        recv(one) -> message => message.ok(),
                        default(timeout) => None,
                    },
                    _ => select! {
                        recv(one) -> message => message.ok(),
                        recv(two) -> message => message.ok(),
                        recv(finished) -> _ => { over = true; None }
                    },
                };
                own.extend(message);
                if message.is_some() && left.fetch_sub(1, Ordering::Relaxed) == 1 {
                    // The last one: all others learn it from the disconnection.
                    drop(done.lock().unwrap().take());
                }
            }
            received.lock().unwrap().extend(own);
        }));
    }
    drop(finished);
    run(jobs);
    let mut received = received.lock().unwrap().clone();
    received.sort_unstable();
    assert!(received.into_iter().eq(0..ENDS * MESSAGES), "every message once, seed {seed}");
    assert!(channels.iter().all(|(_, receiver)| receiver.try_recv() == Err(TryRecvError::Empty)));
}

fn on_threads(jobs: Vec<Box<dyn FnOnce() + Send>>) {
    thread::scope(|scope| jobs.into_iter().for_each(|job| drop(scope.spawn(job))));
}

fn on_coroutines(jobs: Vec<Box<dyn FnOnce() + Send>>) {
    let runtime = Runtime::builder().workers(2).build().expect("a runtime");
    runtime.run(|| {
        let jobs: Vec<_> = jobs.into_iter().map(crate::spawn).collect();
        jobs.into_iter().for_each(|job| job.join().expect("no panic"));
    });
}

#[test]
fn stress_selects_of_threads() {
    exchange(0, on_threads, 0x5e1ec7);
    exchange(1, on_threads, 0x5e1ec8);
    exchange(3, on_threads, 0x5e1ec9);
}

#[test]
#[cfg_attr(miri, ignore = "minutes")]
fn stress_selects_of_coroutines() {
    exchange(0, on_coroutines, 0x5e1eca);
    exchange(1, on_coroutines, 0x5e1ecb);
    exchange(3, on_coroutines, 0x5e1ecc);
}

#[test]
#[cfg_attr(miri, ignore = "minutes")]
fn stress_selects_of_both() {
    let both = |mut jobs: Vec<Box<dyn FnOnce() + Send>>| {
        // Senders come first, receivers last: two of each on threads.
        let mut others = jobs.split_off(2);
        jobs.extend(others.drain(2..));
        thread::scope(|scope| {
            scope.spawn(|| on_threads(jobs));
            on_coroutines(others);
        });
    };
    exchange(0, both, 0x5e1ecd);
    exchange(2, both, 0x5e1ece);
}

/// The last phase of a shutdown unwinds out of a parked select; what was handed to it goes to the next.
#[test]
fn unwinding_leaves_every_list() {
    let runtime = Runtime::builder().workers(1).build().expect("a runtime");
    let (sender, receiver) = bounded::<u8>(0);
    let (full, kept) = bounded::<Arc<()>>(0);
    let message = Arc::new(());
    let stubborn = runtime.handle().spawn({
        let (receiver, full, message) = (receiver.clone(), full.clone(), message.clone());
        move || {
            loop {
                // Ignores its cancellation, so that it is unwound.
                select! {
                    recv(receiver) -> _ => {}
                    send(full, message.clone()) -> _ => {}
                }
            }
        }
    });
    runtime.run(|| crate::sleep(2 * MS));
    let report = runtime.shutdown(50 * MS);
    assert!(report.is_clean(), "{report}");
    assert!(stubborn.join().is_err());
    assert_eq!(Arc::strong_count(&message), 1);
    assert_eq!(sender.try_send(1).map_err(|error| error.is_full()), Err(true), "nobody waits");
    assert_eq!(kept.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Timeout));
    drop((receiver, full));
}

/// What was handed to a select whose caller then unwinds is the next receiver's.
#[test]
fn an_abandoned_message_is_passed_on() {
    use super::arm::Arm as _;
    let (sender, receiver) = bounded(0);
    let mut arm = receiver.receiving().into_arm();
    let wait = crate::wait_list::Wait::new(crate::lent_waiter::LentWaiter::current());
    let node = arm.node(&wait, 0);
    // SAFETY: left below, before node and wait end.
    let look = unsafe { arm.enlist(&node, &wait) };
    assert_eq!(look, Look::Waiting(None));
    assert_eq!(sender.try_send(5), Ok(()));
    // SAFETY: this arm's node.
    unsafe { arm.leave(&node) };
    arm.abandon(node, true);
    assert_eq!(receiver.try_recv(), Ok(5));
}

/// An arm parks although it must not, when the arm before it can be claimed: the claim is found.
#[test]
fn an_arm_that_parks_for_its_time_loses_no_message() {
    struct Slow(Option<oneshot::Sender<()>>);
    impl Readiness for &std::cell::RefCell<Slow> {
        type Output = ();
        type Registration = ();
        fn attempt(&mut self) -> Option<()> {
            None
        }
        fn register(&mut self, _waiter: &crate::Coroutine) {}
        fn unregister(&mut self, (): ()) {}
        fn cancelled(&mut self) {}
        fn deadline(&self) -> Option<Instant> {
            let asked = self.borrow_mut().0.take();
            if let Some(asked) = asked {
                asked.send(()).unwrap();
                crate::sleep(5 * MS);
            }
            None
        }
    }
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let mut selected = runtime.handle().spawn(|| {
        let (asked, is_asked) = oneshot::channel();
        let (sender, receiver) = bounded(0);
        crate::spawn(move || {
            is_asked.recv().unwrap();
            sender.send(7).unwrap();
        });
        let slow = std::cell::RefCell::new(Slow(Some(asked)));
        select! {
            recv(receiver) -> message => message,
            wait(&slow) -> _ => unreachable!("it is never ready"),
        }
    });
    selected.wait_timeout(LONG).expect("the select ends");
    assert_eq!(selected.join().unwrap(), Ok(7));
}
