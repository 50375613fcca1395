//! Models of channels with capacities of nought and one: full, empty, close, drop, deadline.

use loom::thread;

use super::*;
use crate::wait_list::loom_tests::model;

const AT_ONCE: Instant = Instant::from_nanos(0);

#[test]
fn loom_channel_full_and_empty_keep_order() {
    model(|| {
        let (sender, receiver) = bounded(1);
        let producer = thread::spawn(move || {
            for number in 0..3 {
                sender.send(number).unwrap();
            }
        });
        for number in 0..3 {
            assert_eq!(receiver.recv(), Ok(number));
        }
        assert_eq!(receiver.recv(), Err(RecvError::Disconnected));
        producer.join().unwrap();
    });
}

/// One receive makes room for the sender that waits, though nobody receives what it sent.
#[test]
fn loom_channel_receive_lets_a_sender_go_on() {
    model(|| {
        let (sender, receiver) = bounded(1);
        let producer = thread::spawn(move || {
            sender.send(1).unwrap();
            sender.send(2).unwrap();
        });
        assert_eq!(receiver.recv(), Ok(1));
        producer.join().unwrap();
        assert_eq!(receiver.try_recv(), Ok(2));
    });
}

#[test]
fn loom_channel_two_senders_one_place() {
    model(|| {
        let (sender, receiver) = bounded(1);
        let senders = [sender.clone(), sender]
            .into_iter()
            .enumerate()
            .map(|(number, sender)| thread::spawn(move || sender.send(number + 1).unwrap()))
            .collect::<Vec<_>>();
        assert_eq!(receiver.recv().unwrap() + receiver.recv().unwrap(), 3);
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
    });
}

#[test]
fn loom_channel_two_receivers_share() {
    model(|| {
        let (sender, receiver) = unbounded();
        let other = {
            let receiver = receiver.clone();
            thread::spawn(move || receiver.recv().unwrap())
        };
        let producer = thread::spawn(move || {
            sender.send(1).unwrap();
            sender.send(2).unwrap();
        });
        assert_eq!(receiver.recv().unwrap() + other.join().unwrap(), 3);
        producer.join().unwrap();
    });
}

#[test]
fn loom_channel_rendezvous() {
    model(|| {
        let (sender, receiver) = bounded(0);
        let producer = thread::spawn(move || sender.send(1));
        assert_eq!(receiver.recv(), Ok(1));
        producer.join().unwrap().unwrap();
    });
}

/// A deadline against a message: either it arrives, or it is still there for the next receive.
#[test]
fn loom_channel_timed_out_receive_loses_nothing() {
    model(|| {
        let (sender, receiver) = bounded(1);
        let producer = thread::spawn(move || sender.send(1).unwrap());
        match receiver.recv_deadline(AT_ONCE) {
            Ok(number) => assert_eq!(number, 1),
            Err(error) => {
                assert_eq!(error, RecvTimeoutError::Timeout);
                assert_eq!(receiver.recv(), Ok(1));
            }
        }
        producer.join().unwrap();
    });
}

/// A deadline against a receiver: a message is either received or given back, never both.
#[test]
fn loom_channel_timed_out_send_gives_back() {
    model(|| {
        let (sender, receiver) = bounded(0);
        let producer = thread::spawn(move || sender.send_deadline(1, AT_ONCE));
        let received = receiver.recv();
        match producer.join().unwrap() {
            Ok(()) => assert_eq!(received, Ok(1)),
            Err(error) => {
                assert_eq!(error.into_inner(), 1);
                assert_eq!(received, Err(RecvError::Disconnected));
            }
        }
    });
}

#[test]
fn loom_channel_close_wakes_receivers() {
    model(|| {
        let (sender, receiver) = bounded::<u32>(1);
        let receivers = [receiver.clone(), receiver].map(|receiver| thread::spawn(move || receiver.recv()));
        drop(sender);
        for receiver in receivers {
            assert_eq!(receiver.join().unwrap(), Err(RecvError::Disconnected));
        }
    });
}

/// Every message is received, given back, or dropped with the channel, exactly once.
#[test]
fn loom_channel_close_against_full() {
    model(|| {
        let message = std::sync::Arc::new(());
        let (sender, receiver) = bounded(1);
        sender.send(message.clone()).unwrap();
        let producer = {
            let message = message.clone();
            thread::spawn(move || sender.send(message).is_err())
        };
        drop(receiver);
        let _given_back = producer.join().unwrap();
        assert_eq!(std::sync::Arc::strong_count(&message), 1);
    });
}

#[test]
fn loom_oneshot_message() {
    model(|| {
        let (sender, receiver) = oneshot::channel();
        let answer = thread::spawn(move || sender.send(1).unwrap());
        assert_eq!(receiver.recv(), Ok(1));
        assert_eq!(receiver.recv(), Err(RecvError::Disconnected));
        answer.join().unwrap();
    });
}

#[test]
fn loom_oneshot_drops() {
    model(|| {
        let message = std::sync::Arc::new(());
        let (sender, receiver) = oneshot::channel();
        let answer = {
            let message = message.clone();
            thread::spawn(move || drop(sender.send(message)))
        };
        let _ = receiver.recv_deadline(AT_ONCE);
        drop(receiver);
        answer.join().unwrap();
        assert_eq!(std::sync::Arc::strong_count(&message), 1);

        let (sender, receiver) = oneshot::channel::<()>();
        let gone = thread::spawn(move || drop(sender));
        assert_eq!(receiver.recv(), Err(RecvError::Disconnected));
        gone.join().unwrap();
    });
}
