use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use super::*;

/// Blocks until as many senders and receivers wait as asked for.
fn await_parked<T>(channel: &Arc<Channel<T>>, sending: bool, receiving: bool) {
    loop {
        let state = channel.lock();
        if state.sending.is_empty() != sending && state.receiving.is_empty() != receiving {
            return;
        }
        drop(state);
        thread::yield_now();
    }
}

#[test]
fn a_full_channel_refuses_and_gives_back() {
    let (sender, receiver) = bounded(1);
    assert_eq!((sender.len(), sender.capacity(), receiver.is_empty()), (0, Some(1), true));
    sender.send(1).unwrap();
    assert!(receiver.is_full());
    assert_eq!(sender.try_send(2), Err(TrySendError::Full(2)));
    assert_eq!(sender.send_timeout(2, Duration::from_millis(2)), Err(SendTimeoutError::Timeout(2)));
    assert_eq!(receiver.recv(), Ok(1));
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(receiver.recv_deadline(Instant::now()), Err(RecvTimeoutError::Timeout));
}

#[test]
fn a_full_channel_parks_the_sender_until_there_is_room() {
    let (sender, receiver) = bounded(1);
    sender.send(1).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| sender.send(2).unwrap());
        await_parked(&receiver.channel, true, false);
        assert_eq!(receiver.len(), 1);
        assert_eq!(receiver.try_recv(), Ok(1));
        assert_eq!(receiver.try_recv(), Ok(2), "the waiting sender's message moved up");
    });
}

#[test]
fn disconnection_is_seen_from_both_sides() {
    let (sender, receiver) = unbounded();
    let second = sender.clone();
    sender.send(1).unwrap();
    drop(sender);
    second.send(2).unwrap();
    drop(second);
    assert_eq!(receiver.iter().collect::<Vec<_>>(), [1, 2]);
    assert_eq!(receiver.recv(), Err(RecvError::Disconnected));
    assert_eq!(receiver.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Disconnected));

    let (sender, receiver) = bounded(1);
    let second = receiver.clone();
    drop(receiver);
    sender.send(1).unwrap();
    drop(second);
    assert_eq!(sender.send(2), Err(SendError::Disconnected(2)));
    assert_eq!(sender.try_send(3), Err(TrySendError::Disconnected(3)));
    assert_eq!(sender.len(), 0);
}

#[test]
fn disconnection_wakes_those_who_wait() {
    let (sender, receiver) = bounded::<u32>(1);
    thread::scope(|scope| {
        let waiting = scope.spawn(move || receiver.recv());
        await_parked(&sender.channel, false, true);
        drop(sender);
        assert_eq!(waiting.join().expect("no panic"), Err(RecvError::Disconnected));
    });

    let (sender, receiver) = bounded(0);
    thread::scope(|scope| {
        let waiting = scope.spawn(move || sender.send(5));
        await_parked(&receiver.channel, true, false);
        drop(receiver);
        assert_eq!(waiting.join().expect("no panic"), Err(SendError::Disconnected(5)));
    });
}

#[test]
fn a_rendezvous_needs_both_sides() {
    let (sender, receiver) = bounded(0);
    assert!(sender.is_full() && sender.is_empty());
    assert_eq!(sender.try_send(1), Err(TrySendError::Full(1)));
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    thread::scope(|scope| {
        let sent = scope.spawn(|| sender.send(1));
        await_parked(&receiver.channel, true, false);
        assert_eq!(receiver.try_recv(), Ok(1));
        sent.join().expect("no panic").unwrap();

        let received = scope.spawn(|| receiver.recv());
        await_parked(&sender.channel, false, true);
        assert_eq!(sender.try_send(2), Ok(()));
        assert_eq!(received.join().expect("no panic"), Ok(2));
    });
}

#[test]
fn iterators_take_what_they_should() {
    let (sender, receiver) = unbounded();
    (0..3).for_each(|number| sender.send(number).unwrap());
    assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [0, 1, 2]);
    sender.send(3).unwrap();
    drop(sender);
    assert_eq!((&receiver).into_iter().collect::<Vec<_>>(), [3]);
    assert_eq!(receiver.into_iter().next(), None);
}

/// Counts how often it is dropped.
struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn unread_messages_are_dropped_with_the_last_receiver() {
    let drops = AtomicUsize::new(0);
    for make in [unbounded, || bounded(300)] {
        drops.store(0, Ordering::Relaxed);
        let (sender, receiver) = make();
        (0..300).for_each(|_| sender.send(Counted(&drops)).unwrap());
        drop(receiver.recv());
        assert_eq!(drops.load(Ordering::Relaxed), 1);
        drop(receiver);
        assert_eq!(drops.load(Ordering::Relaxed), 300, "though a sender is still there");
        drop(sender.send(Counted(&drops)));
        assert_eq!(drops.load(Ordering::Relaxed), 301);
    }
}

/// A message's drop may use channels, its own one too.
#[test]
fn dropping_messages_may_use_the_channel() {
    struct Reentrant(Option<Sender<Reentrant>>);
    impl Drop for Reentrant {
        fn drop(&mut self) {
            if let Some(sender) = self.0.take() {
                assert!(sender.send(Reentrant(None)).is_err());
            }
        }
    }
    let (sender, receiver) = unbounded();
    sender.send(Reentrant(Some(sender.clone()))).unwrap_or_else(|_| unreachable!("connected"));
    drop(receiver);
    assert_eq!(sender.len(), 0);
}

#[test]
fn a_message_handed_to_an_unwound_receiver_is_next_again() {
    let (sender, receiver) = bounded(1);
    sender.send(2).unwrap();
    ReceiverWait(&receiver.channel).abandon(&mut Some(1), true);
    assert_eq!(receiver.len(), 2, "above the capacity for once");
    assert_eq!(sender.try_send(3), Err(TrySendError::Full(3)));
    thread::scope(|scope| {
        scope.spawn(|| sender.send(3).unwrap());
        await_parked(&receiver.channel, true, false);
        assert_eq!(receiver.recv(), Ok(1));
        assert_eq!(receiver.len(), 1, "no room for the waiting sender yet");
        assert_eq!(receiver.recv(), Ok(2));
        assert_eq!(receiver.recv(), Ok(3));
    });
}

#[test]
fn errors_say_what_happened_and_return_the_value() {
    assert_eq!(SendError::Cancelled(1).into_inner(), 1);
    assert_eq!(TrySendError::Full(2).into_inner(), 2);
    assert_eq!(SendTimeoutError::Timeout(3).into_inner(), 3);
    assert_eq!(format!("{:?}", SendError::Disconnected(AtomicUsize::new(0))), "Disconnected(..)");
    assert_eq!(TrySendError::Full(()).to_string(), "the channel is full");
    assert_eq!(RecvTimeoutError::Timeout.to_string(), "the channel stayed empty until the deadline");
}

/// Several senders and receivers with random deadlines and polls: every message arrives once, each sender's in order.
fn stress(make: impl Fn() -> (Sender<(usize, u64)>, Receiver<(usize, u64)>), seed: u64) {
    const ENDS: usize = 3;
    const MESSAGES: u64 = if cfg!(miri) { 30 } else { 20_000 };
    let (sender, receiver) = make();
    let received = thread::scope(|scope| {
        for end in 0..ENDS {
            let sender = sender.clone();
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed ^ end as u64);
                for number in 0..MESSAGES {
                    let mut message = (end, number);
                    loop {
                        let sent = match random.u8(..4) {
                            0 => sender.try_send(message).map_err(TrySendError::into_inner),
                            1 => {
                                sender.send_timeout(message, Duration::from_micros(random.u64(..50))).map_err(SendTimeoutError::into_inner)
                            }
                            _ => sender.send(message).map_err(SendError::into_inner),
                        };
                        match sent {
                            Ok(()) => break,
                            Err(given_back) => message = given_back,
                        }
                    }
                }
            });
        }
        drop(sender);
        let receivers = [(); ENDS].map(|()| receiver.clone()).into_iter().enumerate().map(|(end, receiver)| {
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(!seed ^ end as u64);
                let mut received = Vec::new();
                loop {
                    let message = match random.u8(..4) {
                        0 => match receiver.try_recv() {
                            Err(TryRecvError::Empty) => continue,
                            other => other.ok(),
                        },
                        1 => match receiver.recv_timeout(Duration::from_micros(random.u64(..50))) {
                            Err(RecvTimeoutError::Timeout) => continue,
                            other => other.ok(),
                        },
                        _ => receiver.recv().ok(),
                    };
                    match message {
                        Some(message) => received.push(message),
                        None => return received,
                    }
                }
            })
        });
        let receivers = receivers.collect::<Vec<_>>();
        receivers.into_iter().map(|receiver| receiver.join().expect("no panic")).collect::<Vec<_>>()
    });
    for messages in &received {
        for end in 0..ENDS {
            let numbers = messages.iter().filter(|message| message.0 == end).map(|message| message.1);
            assert!(numbers.is_sorted(), "order kept per sender, seed {seed}");
        }
    }
    let mut all = received.concat();
    all.sort_unstable();
    let expected = (0..ENDS).flat_map(|end| (0..MESSAGES).map(move |number| (end, number)));
    assert!(all.into_iter().eq(expected), "every message once, seed {seed}");
}

#[test]
fn stress_unbounded() {
    stress(unbounded, 0x57e55);
}

#[test]
fn stress_bounded() {
    stress(|| bounded(1), 0x57e56);
    stress(|| bounded(7), 0x57e57);
}

#[test]
fn stress_rendezvous() {
    stress(|| bounded(0), 0x57e58);
}

#[test]
fn oneshot_carries_one_message() {
    let (sender, receiver) = oneshot::channel();
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(receiver.recv_timeout(Duration::from_millis(1)), Err(RecvTimeoutError::Timeout));
    sender.send(1).unwrap();
    assert_eq!(receiver.try_recv(), Ok(1));
    assert_eq!(receiver.recv(), Err(RecvError::Disconnected));

    let (sender, receiver) = oneshot::channel();
    drop(receiver);
    assert!(sender.is_disconnected());
    assert_eq!(sender.send(2), Err(SendError::Disconnected(2)));

    let (sender, receiver) = oneshot::channel::<()>();
    drop(sender);
    assert_eq!(receiver.recv(), Err(RecvError::Disconnected));
}

#[test]
fn oneshot_hands_over_to_a_parked_receiver() {
    for _ in 0..if cfg!(miri) { 20 } else { 2_000 } {
        let (sender, receiver) = oneshot::channel();
        thread::scope(|scope| {
            scope.spawn(move || sender.send(1).unwrap());
            assert_eq!(receiver.recv(), Ok(1));
        });
    }
}

/// Coroutines on two workers and a plain thread, all on the same channels.
#[test]
fn coroutines_and_threads_share_channels() {
    const REQUESTS: u64 = if cfg!(miri) { 20 } else { 2_000 };
    let runtime = crate::Runtime::builder().workers(2).build().expect("a runtime");
    let (requests, inbox) = bounded::<(u64, oneshot::Sender<u64>)>(4);
    let client = move |start: u64| {
        for number in start..start + REQUESTS {
            let (answer, response) = oneshot::channel();
            requests.send((number, answer)).unwrap();
            assert_eq!(response.recv(), Ok(number * 2));
        }
    };
    thread::scope(|scope| {
        let from_thread = client.clone();
        scope.spawn(move || from_thread(0));
        runtime.run(move || {
            let servers = [(); 2].map(|()| {
                let inbox = inbox.clone();
                crate::spawn(move || inbox.iter().map(|(number, answer)| answer.send(number * 2).unwrap()).count())
            });
            drop(inbox);
            let clients = [10_000, 20_000, 30_000].map(|start| {
                let client = client.clone();
                crate::spawn(move || client(start))
            });
            drop(client);
            clients.into_iter().for_each(|client| client.join().expect("no panic"));
            let served = servers.into_iter().map(|server| server.join().expect("no panic")).sum::<usize>();
            assert_eq!(served as u64, 4 * REQUESTS);
        });
    });
}

/// Handing a message to a coroutine that waits with a deadline must not depend on which comes first.
#[test]
fn coroutine_deadlines_lose_nothing() {
    // Miri takes so long to send and to receive that shorter waits would never meet.
    const MESSAGES: u64 = if cfg!(miri) { 20 } else { 300 };
    const LONGEST: u64 = if cfg!(miri) { 100_000 } else { 400 };
    let runtime = crate::Runtime::builder().workers(2).build().expect("a runtime");
    runtime.run(|| {
        let (sender, receiver) = bounded(0);
        let producer = crate::spawn(move || {
            let mut random = fastrand::Rng::with_seed(0xdead);
            let mut sent = 0u64;
            while sent < MESSAGES {
                let timeout = Duration::from_micros(random.u64(..LONGEST));
                if sender.send_timeout(sent, timeout).is_ok() {
                    sent += 1;
                }
            }
        });
        let mut random = fastrand::Rng::with_seed(0xbeef);
        let mut expected = 0;
        loop {
            match receiver.recv_timeout(Duration::from_micros(random.u64(..LONGEST))) {
                Ok(number) => {
                    assert_eq!(number, expected);
                    expected += 1;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Cancelled) => panic!("nobody shuts down"),
            }
        }
        assert_eq!(expected, MESSAGES);
        producer.join().expect("no panic");
    });
}

/// A shutdown ends a blocking call with an error of its own, and the message comes back.
#[test]
fn shutdown_cancels_blocked_ends() {
    let runtime = crate::Runtime::builder().workers(1).build().expect("a runtime");
    let (full, keep_receiver) = bounded(0);
    let (keep_sender, empty) = unbounded::<u8>();
    let sending = runtime.handle().spawn({
        let full = full.clone();
        move || full.send(7)
    });
    let receiving = runtime.handle().spawn(move || empty.recv());
    await_parked(&full.channel, true, false);
    await_parked(&keep_sender.channel, false, true);
    let _ = runtime.shutdown(Duration::from_secs(5));
    assert_eq!(sending.join().expect("no panic"), Err(SendError::Cancelled(7)));
    assert_eq!(receiving.join().expect("no panic"), Err(RecvError::Cancelled));
    drop(keep_receiver);
}

#[test]
fn ends_know_their_own_channel() {
    let ((sender, receiver), (other_sender, other_receiver)) = (unbounded::<()>(), unbounded::<()>());
    assert!(sender.same_channel(&sender.clone()) && receiver.same_channel(&receiver.clone()));
    assert!(!sender.same_channel(&other_sender) && !receiver.same_channel(&other_receiver));
}
