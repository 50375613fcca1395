//! Datagrams with a long header, which wait until those with a short one have had their turn: packets of established connections go
//! before those of strangers and of handshakes.
//!
//! Owns them, their bound, and how many are looked at in a round. One bit of a datagram decides, so that it costs nothing to put one aside, and
//! the socket is emptied sooner than a crowd fills it.
//!
//! Invariants: what came in a row of one client is handled in that order, short headers included; bytes that wait are bounded.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::connection::DatagramMeta;

/// Bytes of datagrams that wait; more are dropped, as by a full socket.
const BYTES: usize = 2 << 20;

/// What is done for handshakes in a round, before established connections are looked at again: 16 datagrams that take some microseconds
/// each, such as those answered by a Retry; while applications have data, two of those that begin or move a handshake.
const WORK_A_ROUND: u32 = 16;
const WORK_OF_A_HANDSHAKE: u32 = 8;

/// The datagrams of one worker that wait.
#[derive(Default)]
pub(super) struct Handshakes {
    waiting: VecDeque<(Box<[u8]>, DatagramMeta)>,
    bytes: usize,
    /// The client that the newest is of.
    newest: Option<SocketAddr>,
}

impl Handshakes {
    /// Whether a datagram has to wait.
    pub(super) fn must_wait(&self, datagram: &[u8], remote: SocketAddr) -> bool {
        // RFC 8999 5.1: the first bit says which form of header it is, in any version.
        datagram.first().is_some_and(|first| first & 0x80 != 0) || self.newest == Some(remote)
    }

    /// False if there is no room.
    #[must_use]
    pub(super) fn push(&mut self, datagram: &[u8], meta: DatagramMeta) -> bool {
        let has_room = self.bytes + datagram.len() <= BYTES;
        if has_room {
            self.bytes += datagram.len();
            self.newest = Some(meta.remote);
            self.waiting.push_back((datagram.into(), meta));
        }
        has_room
    }

    pub(super) fn pop(&mut self) -> Option<(Box<[u8]>, DatagramMeta)> {
        let next = self.waiting.pop_front();
        match &next {
            Some((datagram, _)) => self.bytes -= datagram.len(),
            None => self.newest = None,
        }
        next
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// What may still be done for handshakes in a round.
pub(super) struct Allowance {
    left: u32,
    of_a_handshake: u32,
}

impl Allowance {
    /// `has_data`: applications wait meanwhile.
    pub(super) fn new(has_data: bool) -> Self {
        Self { left: WORK_A_ROUND, of_a_handshake: if has_data { WORK_OF_A_HANDSHAKE } else { 1 } }
    }

    pub(super) fn is_spent(&self) -> bool {
        self.left == 0
    }

    /// `is_handshake`: a handshake began, or went on.
    pub(super) fn spend(&mut self, is_handshake: bool) {
        self.left = self.left.saturating_sub(if is_handshake { self.of_a_handshake } else { 1 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(port: u16) -> DatagramMeta {
        DatagramMeta { remote: ([192, 0, 2, 1], port).into(), local: None, ecn: None }
    }

    #[test]
    fn long_headers_wait_and_what_the_same_client_sent_next() {
        let mut handshakes = Handshakes::default();
        let (long, short) = ([0xc0; 1200], [0x40; 50]);
        let waits = |handshakes: &Handshakes, datagram: &[u8], port| handshakes.must_wait(datagram, meta(port).remote);
        assert!(waits(&handshakes, &long, 1) && !waits(&handshakes, &short, 1) && !waits(&handshakes, &[], 1));
        assert!(handshakes.push(&long, meta(1)) && handshakes.push(&long, meta(2)));
        assert!(waits(&handshakes, &short, 2) && !waits(&handshakes, &short, 3));
        assert!(handshakes.push(&short, meta(2)));
        let order: Vec<_> = std::iter::from_fn(|| handshakes.pop()).map(|(datagram, meta)| (datagram.len(), meta.remote.port())).collect();
        assert_eq!(order, [(1200, 1), (1200, 2), (50, 2)]);
        assert!(handshakes.is_empty() && !waits(&handshakes, &short, 2));
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut handshakes = Handshakes::default();
        while handshakes.push(&[0xc0; 1200], meta(1)) {}
        assert_eq!(handshakes.waiting.len(), BYTES / 1200);
        assert!(handshakes.pop().is_some() && handshakes.push(&[0xc0; 1200], meta(1)) && !handshakes.push(&[0xc0; 1200], meta(1)));
    }

    #[test]
    fn a_round_answers_sixteen_or_works_for_two() {
        for (has_data, is_handshake, expected) in [(true, false, 16), (true, true, 2), (false, false, 16), (false, true, 16)] {
            let mut allowance = Allowance::new(has_data);
            let spent = std::iter::repeat_with(|| allowance.spend(is_handshake)).take(expected).count();
            assert!(allowance.is_spent() && spent == expected);
        }
    }
}
