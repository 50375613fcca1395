//! Models of channels with capacities of nought and one: full, empty, close, drop, deadline. And of two, which is what it takes for
//! receivers to take a batch.

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

/// A sender that waits goes on at the first receive, whatever is in the buffer.
#[test]
fn loom_channel_batch_is_not_taken_past_a_sender() {
    model(|| {
        let (sender, receiver) = bounded(2);
        sender.send(1).unwrap();
        let producer = thread::spawn(move || {
            sender.send(2).unwrap();
            sender.send(3).unwrap();
        });
        assert_eq!(receiver.recv(), Ok(1));
        producer.join().unwrap();
        assert_eq!(receiver.iter().collect::<Vec<_>>(), [2, 3]);
    });
}

/// A sender finds the channel full while a batch is taken: it waits for the room that the batch leaves, and no longer.
#[test]
fn loom_channel_batch_leaves_room() {
    model(|| {
        let (sender, receiver) = bounded(2);
        sender.send(1).unwrap();
        sender.send(2).unwrap();
        let producer = thread::spawn(move || {
            sender.send(3).unwrap();
            sender.send(4).unwrap();
        });
        assert_eq!(receiver.recv(), Ok(1));
        assert_eq!(receiver.recv(), Ok(2));
        producer.join().unwrap();
        assert_eq!(receiver.iter().collect::<Vec<_>>(), [3, 4]);
    });
}

/// What is left of a batch takes its place.
#[test]
fn loom_channel_batch_counts() {
    model(|| {
        let (sender, receiver) = bounded(2);
        let producer = thread::spawn(move || {
            sender.send(1).unwrap();
            sender.send(2).unwrap();
            sender
        });
        assert_eq!(receiver.recv(), Ok(1));
        let sender = producer.join().unwrap();
        assert_eq!((sender.try_send(3), sender.try_send(4)), (Ok(()), Err(TrySendError::Full(4))));
        assert_eq!((sender.len(), receiver.recv(), receiver.recv()), (2, Ok(2), Ok(3)));
    });
}

/// Two receivers and one batch: each message comes once, and the end to both.
#[test]
fn loom_channel_batch_is_shared() {
    model(|| {
        let (sender, receiver) = unbounded();
        (1..=3).for_each(|number| sender.send(number).unwrap());
        drop(sender);
        let other = {
            let receiver = receiver.clone();
            thread::spawn(move || receiver.iter().collect::<Vec<_>>())
        };
        let received = receiver.iter().collect::<Vec<_>>();
        let others = other.join().unwrap();
        assert!(received.is_sorted() && others.is_sorted());
        assert_eq!(received.len() + others.len(), 3);
        assert_eq!(received.iter().chain(&others).sum::<u32>(), 6);
    });
}

/// A receiver that waits with a deadline leaves a batch of the other's alone or takes from it; nothing is lost.
#[test]
fn loom_channel_batch_against_deadline() {
    model(|| {
        let (sender, receiver) = unbounded();
        sender.send(1).unwrap();
        sender.send(2).unwrap();
        let other = {
            let receiver = receiver.clone();
            thread::spawn(move || receiver.recv().unwrap())
        };
        let first = receiver.recv_deadline(AT_ONCE).unwrap();
        assert_eq!(first + other.join().unwrap(), 3);
        assert_eq!(receiver.recv_deadline(AT_ONCE), Err(RecvTimeoutError::Timeout));
        drop(sender);
    });
}

/// The last receiver goes with a batch taken: each message is received, given back, or dropped with the channel.
#[test]
fn loom_channel_close_against_batch() {
    model(|| {
        let message = std::sync::Arc::new(());
        let (sender, receiver) = bounded(2);
        sender.send(message.clone()).unwrap();
        sender.send(message.clone()).unwrap();
        let producer = {
            let message = message.clone();
            thread::spawn(move || sender.send(message).is_err())
        };
        drop(receiver.recv().unwrap());
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
