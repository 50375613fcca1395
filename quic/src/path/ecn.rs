//! Whether the path bears Explicit Congestion Notification (RFC 9000 section 13.4, appendix A.4).
//!
//! Owns: which packets are marked, and what the peer's counts say of the path. Does not own: marks that arrive
//! (`recovery::received`), or the reaction to congestion. Only 1-RTT packets that elicit acknowledgements are marked: a path that
//! drops marked packets costs no handshake, and of each marked packet the fate is known.
//!
//! Invariants: a path that failed is never marked again; counts are believed only as far as they fit what was sent.

use std::time::Duration;

use crate::ecn::EcnMark;
use crate::time::Instant;
use crate::wire::frame::EcnCounts;

/// Packets that are marked to try the path, and for how many probe timeouts (RFC 9000 section 13.4.2.2, appendix A.4).
const TEST_PACKETS: u64 = 10;
const TEST_TIMEOUTS: u32 = 3;

/// The states of appendix A.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Packets are marked until enough are, or until the instant, which is set with the first.
    Testing(Option<Instant>),
    /// The test is over, and no answer has come yet.
    Unknown,
    Capable,
    Failed,
}

/// What an ACK frame of 1-RTT packets said.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EcnReport {
    /// Marked packets that it newly acknowledges.
    pub(crate) acked: u64,
    /// Its counts, if it has some.
    pub(crate) counts: Option<EcnCounts>,
}

/// What follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum EcnVerdict {
    Nothing,
    /// Packets were marked Congestion Experienced.
    Congestion,
}

/// ECN on one path.
#[derive(Clone, Debug)]
pub(crate) struct Ecn {
    state: State,
    /// Marked packets that were sent.
    sent: u64,
    /// Marked packets that were lost before any was acknowledged.
    lost: u64,
    /// The counts of the last report.
    ect0: u64,
    ce: u64,
}

impl Ecn {
    pub(crate) fn new() -> Ecn {
        Ecn { state: State::Testing(None), sent: 0, lost: 0, ect0: 0, ce: 0 }
    }

    /// The mark of the next packet.
    pub(crate) fn mark(&self, now: Instant) -> Option<EcnMark> {
        let is_marked = match self.state {
            State::Testing(until) => self.sent < TEST_PACKETS && until.is_none_or(|until| now < until),
            State::Capable => true,
            State::Unknown | State::Failed => false,
        };
        is_marked.then_some(EcnMark::Ect0)
    }

    /// Whether the path is known to bear marks.
    pub(crate) fn is_capable(&self) -> bool {
        self.state == State::Capable
    }

    /// Packets that were marked Congestion Experienced, as the peer counts them.
    pub(crate) fn marks(&self) -> u64 {
        self.ce
    }

    /// A marked packet was sent.
    pub(crate) fn on_sent(&mut self, now: Instant, probe_timeout: Duration) {
        self.sent += 1;
        if let State::Testing(until @ None) = &mut self.state {
            *until = Some(now + TEST_TIMEOUTS * probe_timeout);
        }
    }

    /// An ACK came that raises the largest acknowledged number; others may be old and say nothing (RFC 9000 section 13.4.2.1).
    pub(crate) fn on_ack(&mut self, report: &EcnReport) -> EcnVerdict {
        if self.state == State::Failed {
            return EcnVerdict::Nothing;
        }
        let Some(counts) = report.counts else {
            // RFC 9000 section 13.4.2.1: the path erases marks, or the peer does not report them.
            if report.acked > 0 {
                self.state = State::Failed;
            }
            return EcnVerdict::Nothing;
        };
        let told = counts.ect0.saturating_add(counts.ce);
        let is_valid = counts.ect0 >= self.ect0
            && counts.ce >= self.ce
            // RFC 9000 section 13.4.2.1: each marked packet that is acknowledged is counted, as sent or as Congestion Experienced.
            && told - (self.ect0 + self.ce) >= report.acked
            // And no more than were sent. ECT(1) is none of ours.
            && told <= self.sent
            && counts.ect1 == 0;
        if !is_valid {
            self.state = State::Failed;
            return EcnVerdict::Nothing;
        }
        let congested = counts.ce > self.ce;
        (self.ect0, self.ce) = (counts.ect0, counts.ce);
        if report.acked > 0 {
            self.state = State::Capable;
        }
        if congested { EcnVerdict::Congestion } else { EcnVerdict::Nothing }
    }

    /// A marked packet was lost.
    pub(crate) fn on_lost(&mut self) {
        self.lost += 1;
        self.judge();
    }

    /// A probe timeout passed: whatever is wrong, probes go without marks.
    pub(crate) fn on_timeout(&mut self) {
        if let State::Testing(Some(_)) = self.state {
            self.state = State::Unknown;
            self.judge();
        }
    }

    /// RFC 9000 section 13.4.2: all packets of the test were lost, so that marked ones seem to be dropped.
    fn judge(&mut self) {
        let is_over = self.state == State::Unknown || (matches!(self.state, State::Testing(_)) && self.sent >= TEST_PACKETS);
        if is_over && self.lost >= self.sent {
            self.state = State::Failed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PTO: Duration = Duration::from_millis(100);

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn report(acked: u64, ect0: u64, ce: u64) -> EcnReport {
        EcnReport { acked, counts: Some(EcnCounts { ect0, ect1: 0, ce }) }
    }

    /// A path on which so many marked packets were sent.
    fn sent(packets: u64) -> Ecn {
        let mut ecn = Ecn::new();
        for _ in 0..packets {
            assert_eq!(ecn.mark(at(0)), Some(EcnMark::Ect0));
            ecn.on_sent(at(0), PTO);
        }
        ecn
    }

    /// A path that bears marks, with so many sent and counted as ECT(0).
    fn capable(packets: u64) -> Ecn {
        let mut ecn = sent(packets);
        assert_eq!(ecn.on_ack(&report(packets, packets, 0)), EcnVerdict::Nothing);
        assert!(ecn.is_capable());
        ecn
    }

    // RFC 9000 appendix A.4
    #[test]
    fn ten_packets_are_tried() {
        let mut ecn = sent(10);
        assert_eq!(ecn.mark(at(0)), None);
        assert_eq!(ecn.on_ack(&report(4, 4, 0)), EcnVerdict::Nothing);
        assert_eq!(ecn.mark(at(1)), Some(EcnMark::Ect0));
    }

    #[test]
    fn the_test_ends_after_three_probe_timeouts() {
        let ecn = sent(1);
        assert_eq!(ecn.mark(at(299)), Some(EcnMark::Ect0));
        assert_eq!(ecn.mark(at(300)), None);
        // Nothing is sent for long: the test has not begun.
        assert_eq!(Ecn::new().mark(at(10_000)), Some(EcnMark::Ect0));
    }

    // RFC 9000 section 13.4.2: marked packets seem to be dropped.
    #[test]
    fn fails_when_all_marked_packets_are_lost() {
        let mut ecn = sent(10);
        (0..9).for_each(|_| ecn.on_lost());
        assert_eq!(ecn.state, State::Testing(Some(at(300))));
        ecn.on_lost();
        assert_eq!(ecn.state, State::Failed);

        let mut ecn = sent(2);
        ecn.on_timeout();
        assert_eq!(ecn.mark(at(1)), None, "probes go without marks");
        (0..2).for_each(|_| ecn.on_lost());
        assert_eq!(ecn.state, State::Failed);
    }

    #[test]
    fn one_of_them_that_arrives_is_enough() {
        let mut ecn = sent(10);
        (0..9).for_each(|_| ecn.on_lost());
        assert_eq!(ecn.on_ack(&report(1, 1, 0)), EcnVerdict::Nothing);
        assert!(ecn.is_capable());
        ecn.on_lost();
        assert!(ecn.is_capable());
    }

    // RFC 9002 section 7.1, appendix B.7
    #[test]
    fn marks_are_congestion() {
        let mut ecn = sent(10);
        assert_eq!(ecn.on_ack(&report(2, 1, 1)), EcnVerdict::Congestion);
        assert_eq!(ecn.on_ack(&report(2, 3, 1)), EcnVerdict::Nothing);
        assert_eq!(ecn.on_ack(&report(1, 3, 2)), EcnVerdict::Congestion);
        assert!(ecn.is_capable());
    }

    // RFC 9000 section 13.4.2.1, and what a peer can make up.
    #[test]
    fn fails_when_the_counts_do_not_fit() {
        let counts = |ect0, ect1, ce| Some(EcnCounts { ect0, ect1, ce });
        let none = EcnReport { acked: 1, counts: None };
        let too_few = report(2, 5, 0);
        let bleached = report(1, 4, 0);
        let fewer = report(0, 3, 2);
        let exceeding = report(1, 4, 7);
        let everything = report(1, 4, (1 << 62) - 1);
        let other = EcnReport { acked: 1, counts: counts(5, 1, 0) };
        for wrong in [none, too_few, bleached, fewer, exceeding, everything, other] {
            let mut ecn = capable(4);
            for _ in 0..6 {
                ecn.on_sent(at(1), PTO);
            }
            assert_eq!(ecn.on_ack(&wrong), EcnVerdict::Nothing, "{wrong:?}");
            assert_eq!(ecn.state, State::Failed, "{wrong:?}");
            assert_eq!(ecn.mark(at(2)), None);
            // What failed is not asked any more.
            assert_eq!(ecn.on_ack(&report(1, 6, 4)), EcnVerdict::Nothing);
            assert_eq!(ecn.state, State::Failed);
        }
    }

    #[test]
    fn marks_that_were_never_sent_are_no_congestion() {
        let mut ecn = Ecn::new();
        assert_eq!(ecn.on_ack(&report(0, 0, 1)), EcnVerdict::Nothing);
        assert_eq!(ecn.state, State::Failed);
    }

    #[test]
    fn an_ack_without_counts_and_without_marked_packets_says_nothing() {
        let mut ecn = sent(3);
        assert_eq!(ecn.on_ack(&EcnReport { acked: 0, counts: None }), EcnVerdict::Nothing);
        assert_eq!(ecn.mark(at(1)), Some(EcnMark::Ect0));
    }
}
