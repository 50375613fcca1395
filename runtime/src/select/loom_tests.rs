//! Models of selects against senders, receivers, disconnection, deadlines and each other.

use loom::thread;

use super::*;
use crate::channel::{Receiver, RecvError, SendError, Sender, bounded};
use crate::select;
use crate::wait_list::loom_tests::model;

/// A limit that has passed: the park ends at once unless the token is there, at whatever point the model chooses.
const AT_ONCE: Duration = Duration::ZERO;

/// One message into each of two channels: a select takes one of them, and the other is still there.
#[test]
fn loom_select_two_channels_two_sends() {
    model(|| {
        let (one, from_one) = bounded(1);
        let (two, from_two) = bounded(1);
        let senders = [(one, 1), (two, 2)].map(|(sender, number)| thread::spawn(move || sender.send(number).unwrap()));
        let first = select! {
            recv(from_one) -> number => number.unwrap(),
            recv(from_two) -> number => number.unwrap(),
        };
        let second = if first == 1 { from_two.recv() } else { from_one.recv() };
        assert_eq!(first + second.unwrap(), 3);
        senders.into_iter().for_each(|sender| sender.join().unwrap());
    });
}

/// What each of two that face each other did: sent, or received this.
type Met = Option<u32>;

fn meet(sender: &Sender<u32>, receiver: &Receiver<u32>, own: u32) -> Met {
    select! {
        send(sender, own) -> sent => {
            sent.unwrap();
            None
        }
        recv(receiver) -> other => Some(other.unwrap()),
    }
}

/// Two selects with a send and a receive each, on one rendezvous: one sends, the other receives it.
#[test]
fn loom_select_two_meet_on_one_rendezvous() {
    model(|| {
        let (sender, receiver) = bounded(0);
        let other = {
            let (sender, receiver) = (sender.clone(), receiver.clone());
            thread::spawn(move || meet(&sender, &receiver, 1))
        };
        let met = [meet(&sender, &receiver, 2), other.join().unwrap()];
        assert!(met == [Some(1), None] || met == [None, Some(2)], "{met:?}");
    });
}

/// The same over two channels, crosswise: each may see the other enlist.
#[test]
fn loom_select_two_meet_crosswise() {
    model(|| {
        let (to_left, left) = bounded(0);
        let (to_right, right) = bounded(0);
        let other = {
            let (to_left, right) = (to_left.clone(), right.clone());
            thread::spawn(move || meet(&to_left, &right, 1))
        };
        let met = [meet(&to_right, &left, 2), other.join().unwrap()];
        assert!(met == [Some(1), None] || met == [None, Some(2)], "{met:?}");
    });
}

/// Either channel may be the one whose end is found first.
#[test]
fn loom_select_against_close() {
    model(|| {
        let (one, from_one) = bounded::<u32>(1);
        let (two, from_two) = bounded::<u32>(0);
        let closers = [thread::spawn(move || drop(one)), thread::spawn(move || drop(two))];
        let ended = select! {
            recv(from_one) -> message => message,
            recv(from_two) -> message => message,
        };
        assert_eq!(ended, Err(RecvError::Disconnected));
        closers.into_iter().for_each(|closer| closer.join().unwrap());
    });
}

/// A select that would send, against the last receiver's end: the message is given back or dropped with the channel, once.
#[test]
fn loom_select_send_against_close() {
    model(|| {
        let message = std::sync::Arc::new(());
        let (sender, receiver) = bounded(0);
        let (_other, from_other) = bounded::<u32>(0);
        let closer = thread::spawn(move || drop(receiver));
        select! {
            send(sender, message.clone()) -> sent => assert!(matches!(sent, Err(SendError::Disconnected(_)))),
            recv(from_other) -> _ => unreachable!(),
        }
        closer.join().unwrap();
        assert_eq!(std::sync::Arc::strong_count(&message), 1);
    });
}

/// A select that times out does not swallow the message that another receiver waits for.
#[test]
fn loom_select_time_out_against_delivery() {
    model(|| {
        let (sender, receiver) = bounded(0);
        let (_other, from_other) = bounded::<u32>(0);
        let patient = {
            let receiver = receiver.clone();
            thread::spawn(move || receiver.recv())
        };
        let hasty = thread::spawn(move || {
            select! {
                recv(from_other) -> _ => unreachable!(),
                recv(receiver) -> message => message.ok(),
                default(AT_ONCE) => None,
            }
        });
        sender.send(7).unwrap();
        drop(sender);
        let received = (hasty.join().unwrap(), patient.join().unwrap());
        assert!(received == (Some(7), Err(RecvError::Disconnected)) || received == (None, Ok(7)), "{received:?}");
    });
}

/// The message of a select that leaves stays where it was.
#[test]
fn loom_select_time_out_against_receiver() {
    model(|| {
        let (sender, receiver) = bounded(0);
        let sending = thread::spawn(move || {
            let mut message = Some(7);
            select! {
                wait(sender.sending_from(&mut message)) -> sent => sent.unwrap(),
                default(AT_ONCE) => {}
            }
            message
        });
        let received = receiver.recv();
        match sending.join().unwrap() {
            None => assert_eq!(received, Ok(7)),
            Some(kept) => assert_eq!((kept, received), (7, Err(RecvError::Disconnected))),
        }
    });
}

/// Two selects for the two messages of a channel with one place, and a sender that parks.
#[test]
fn loom_select_two_receivers_share() {
    model(|| {
        let (sender, receiver) = bounded(1);
        let (_other, from_other) = bounded::<u32>(0);
        let select = move |receiver: Receiver<u32>, from_other: Receiver<u32>| {
            select! {
                recv(receiver) -> message => message.unwrap(),
                recv(from_other) -> _ => unreachable!(),
            }
        };
        let other = {
            let (receiver, from_other) = (receiver.clone(), from_other.clone());
            thread::spawn(move || select(receiver, from_other))
        };
        let producer = thread::spawn(move || {
            sender.send(1).unwrap();
            sender.send(2).unwrap();
        });
        assert_eq!(select(receiver, from_other) + other.join().unwrap(), 3);
        producer.join().unwrap();
    });
}

/// A select that would send into a channel which looks full, for there is a batch: it goes on when that leaves room.
#[test]
fn loom_select_sends_after_a_batch() {
    model(|| {
        let (sender, receiver) = bounded(2);
        let (_other, from_other) = bounded::<u32>(0);
        sender.send(1).unwrap();
        sender.send(2).unwrap();
        let sending = thread::spawn(move || {
            select! {
                send(sender, 3) -> sent => sent.unwrap(),
                recv(from_other) -> _ => unreachable!(),
            }
        });
        assert_eq!(receiver.recv(), Ok(1));
        sending.join().unwrap();
        assert_eq!(receiver.iter().collect::<Vec<_>>(), [2, 3]);
    });
}

/// A select that would receive, where another receiver takes all there is as a batch meanwhile.
#[test]
fn loom_select_receives_from_a_batch() {
    model(|| {
        let (sender, receiver) = bounded(2);
        let (_other, from_other) = bounded::<u32>(0);
        let selecting = {
            let receiver = receiver.clone();
            thread::spawn(move || {
                select! {
                    recv(receiver) -> message => message.unwrap(),
                    recv(from_other) -> _ => unreachable!(),
                }
            })
        };
        sender.send(1).unwrap();
        sender.send(2).unwrap();
        assert_eq!(receiver.recv().unwrap() + selecting.join().unwrap(), 3);
        drop(sender);
    });
}
