//! How transmits join and are cut.

use std::net::SocketAddr;

use super::{LONGEST_TRAIN, SendBatch, TRANSMITS, Transmit};
use crate::net::Ecn;

fn remote(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], port))
}

fn commit(batch: &mut SendBatch, port: u16, len: usize, segment_size: Option<usize>) {
    batch.commit(Transmit { remote: remote(port), local: None, ecn: None, len, segment_size });
}

/// The (length, segment size) of each message that would be sent.
fn messages(batch: &SendBatch, max_segments: usize) -> Vec<(usize, Option<u16>)> {
    let messages = batch.queue.messages(max_segments);
    messages.map(|message| (message.bytes.len(), message.ancillary.segment_size)).collect()
}

#[test]
fn datagrams_of_one_size_to_one_peer_join() {
    let mut batch = SendBatch::new();
    for len in [1200, 1200, 1200, 900, 1200] {
        commit(&mut batch, 1, len, Some(len));
    }
    assert_eq!(messages(&batch, 64), [(3 * 1200 + 900, Some(1200)), (1200, None)], "a short one ends a train");
    assert_eq!(messages(&batch, 1), [(1200, None), (1200, None), (1200, None), (900, None), (1200, None)]);
}

#[test]
fn what_differs_does_not_join() {
    let mut batch = SendBatch::new();
    commit(&mut batch, 1, 100, Some(100));
    commit(&mut batch, 2, 100, Some(100));
    commit(&mut batch, 2, 200, Some(200));
    batch.commit(Transmit { remote: remote(2), local: None, ecn: Some(Ecn::Ce), len: 200, segment_size: Some(200) });
    batch.commit(Transmit { remote: remote(2), local: Some([127, 0, 0, 1].into()), ecn: Some(Ecn::Ce), len: 200, segment_size: Some(200) });
    // A probe goes alone, before and after.
    commit(&mut batch, 2, 200, None);
    commit(&mut batch, 2, 200, Some(200));
    assert_eq!(messages(&batch, 64).len(), 7);
}

#[test]
fn trains_are_cut_by_segments_and_by_bytes() {
    let mut batch = SendBatch::new();
    commit(&mut batch, 1, 10 * 100 + 50, Some(100));
    assert_eq!(messages(&batch, 4), [(400, Some(100)), (400, Some(100)), (250, Some(100))]);
    batch.clear();
    commit(&mut batch, 1, 100 * 1452, Some(1452));
    let cut = messages(&batch, 128);
    assert!(cut.iter().all(|&(len, _)| len <= LONGEST_TRAIN));
    assert_eq!(cut.iter().map(|&(len, _)| len).sum::<usize>(), 100 * 1452);
    assert_eq!(cut.len(), 3);
}

#[test]
fn progress_is_kept_by_the_message() {
    let mut batch = SendBatch::new();
    commit(&mut batch, 1, 1000, Some(100));
    commit(&mut batch, 2, 50, None);
    assert_eq!(batch.queue.advance(2, 4), 0, "800 of 1000 bytes");
    assert_eq!(messages(&batch, 4), [(200, Some(100)), (50, None)]);
    // What is being sent takes nothing more.
    assert_eq!(batch.queue.advance(1, 4), 1);
    assert_eq!(batch.queue.advance(1, 4), 1);
    assert!(batch.is_empty());
}

#[test]
fn a_transmit_on_its_way_is_not_extended() {
    let mut batch = SendBatch::new();
    commit(&mut batch, 1, 200, Some(100));
    batch.queue.advance(1, 1);
    commit(&mut batch, 1, 100, Some(100));
    assert_eq!(messages(&batch, 64), [(100, None), (100, None)]);
}

#[test]
fn a_refused_train_is_cut_and_suspicion_ends_with_it() {
    let mut batch = SendBatch::new();
    commit(&mut batch, 1, 300, Some(100));
    assert!(batch.queue.split(64));
    assert_eq!(messages(&batch, 64), [(100, None); 3]);
    batch.queue.advance(2, 64);
    assert!(batch.queue.is_suspect());
    batch.queue.advance(1, 64);
    assert!(!batch.queue.is_suspect(), "all were taken: it is trains that are refused");

    batch.clear();
    commit(&mut batch, 1, 300, Some(100));
    batch.queue.split(64);
    let error = std::io::Error::from(std::io::ErrorKind::InvalidInput);
    assert_eq!(batch.refuse(64, error), 0);
    assert!(!batch.queue.is_suspect(), "a datagram was refused alone: it is to blame");
    assert_eq!(batch.drain_refused().map(|refused| refused.len).collect::<Vec<_>>(), [100]);
    assert_eq!(messages(&batch, 64), [(100, None); 2]);
    assert!(!batch.queue.split(64), "a single datagram cannot be cut");
}

#[test]
fn a_full_batch_has_no_space() {
    let mut batch = SendBatch::new();
    for port in 0..TRANSMITS as u16 {
        assert!(!batch.reserve().is_empty());
        commit(&mut batch, port, 1, None);
    }
    assert!(batch.reserve().is_empty());
    batch.clear();
    let all = batch.reserve().len();
    commit(&mut batch, 1, all, Some(1000));
    assert!(batch.reserve().is_empty());
}
