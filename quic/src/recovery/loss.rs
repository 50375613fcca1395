//! When loss recovery acts next, and why: the one timer over all packet number spaces (RFC 9002 section 6, appendix A.8).
//!
//! Owns: the choice between loss by time and a probe, the back-off, and the client's guard against deadlock. Does not own:
//! which packets are lost (`recovery::sent`) or what a probe carries. Invariants: a time-threshold deadline goes before any
//! probe; the back-off only falls when a packet is acknowledged or keys are discarded.

use std::time::Duration;

use crate::path_id::PathId;
use crate::recovery::SpaceId;
use crate::time::Instant;

/// kPacketThreshold (RFC 9002 section 6.1.1).
pub(crate) const PACKET_THRESHOLD: u64 = 3;

/// The back-off stops here unless a single period is longer: idle timeouts are shorter, so this only bounds arithmetic and
/// connections that never time out.
const MAX_PROBE_PERIOD: Duration = Duration::from_secs(60);

/// Doublings past this reach [`MAX_PROBE_PERIOD`] from any period of at least a millisecond.
const MAX_DOUBLINGS: u32 = 16;

/// What loss detection needs of the path in use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LossTiming {
    /// The path.
    pub(crate) path: PathId,
    /// The time threshold (RFC 9002 section 6.1.2).
    pub(crate) delay: Duration,
    /// The persistent congestion duration (RFC 9002 section 7.6.1).
    pub(crate) persistent_congestion: Duration,
    /// When the path got its first RTT sample.
    pub(crate) first_sample: Option<Instant>,
}

/// What the timer needs of one space; the default is that of a space without packets.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SpaceTimes {
    /// When a packet will be lost by time.
    pub(crate) loss: Option<Instant>,
    /// When the last ack-eliciting packet was sent, if any is outstanding.
    pub(crate) last_ack_eliciting: Option<Instant>,
}

/// What a probe timeout depends on besides the spaces.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProbeConditions {
    /// `Rtt::probe_timeout` of the path in use.
    pub(crate) period: Duration,
    /// The peer's max_ack_delay.
    pub(crate) max_ack_delay: Duration,
    /// Nothing can be sent before the peer sends (RFC 9000 section 8.1).
    pub(crate) at_amplification_limit: bool,
    /// The handshake is confirmed (RFC 9001 section 4.1.2).
    pub(crate) handshake_confirmed: bool,
    /// Handshake packets can be sent.
    pub(crate) has_handshake_keys: bool,
    /// The peer is known to have validated our address: true at servers, and at clients once a Handshake packet was
    /// acknowledged or the handshake is confirmed.
    pub(crate) peer_validated_address: bool,
}

/// What to do when the timer fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LossEvent {
    /// Detect lost packets in this space.
    DetectLost(SpaceId),
    /// Send one or two ack-eliciting datagrams, in this space at least.
    Probe(SpaceId),
}

/// The loss detection timer of a connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct LossTimer {
    armed: Option<(Instant, LossEvent)>,
    /// pto_count: probe timeouts since the last acknowledgement.
    probes: u32,
    /// Since when a client has had nothing in flight and its peer may wait for it.
    deadlocked: Option<Instant>,
}

impl LossTimer {
    /// When [`LossTimer::on_timeout`] has something to say.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.armed.map(|(at, _)| at)
    }

    /// Probe timeouts in a row.
    #[cfg(test)]
    pub(crate) fn probes(&self) -> u32 {
        self.probes
    }

    /// Sets the timer anew: after packets were sent, acknowledged or lost, keys discarded, or a datagram received at the
    /// amplification limit. `spaces` are in the order of [`SpaceId::ALL`].
    pub(crate) fn rearm(&mut self, now: Instant, spaces: &[SpaceTimes; 3], conditions: &ProbeConditions) {
        self.armed = self.choose(now, spaces, conditions);
    }

    /// What is due at `now`. The caller acts on it and rearms.
    pub(crate) fn on_timeout(&mut self, now: Instant) -> Option<LossEvent> {
        let (at, event) = self.armed?;
        if at > now {
            return None;
        }
        self.armed = None;
        if let LossEvent::Probe(_) = event {
            self.probes = self.probes.saturating_add(1);
            self.deadlocked = None;
        }
        Some(event)
    }

    /// Packets were newly acknowledged. A client that its server may not have validated keeps the back-off (RFC 9002
    /// section 6.2.1).
    pub(crate) fn on_acked(&mut self, peer_validated_address: bool) {
        if peer_validated_address {
            self.probes = 0;
        }
    }

    /// Initial or Handshake keys were discarded, which is progress (RFC 9002 section 6.2.2).
    pub(crate) fn on_keys_discarded(&mut self) {
        self.probes = 0;
        self.deadlocked = None;
    }

    /// `period` after the back-off.
    pub(crate) fn back_off(&self, period: Duration) -> Duration {
        let doubled = period.saturating_mul(1 << self.probes.min(MAX_DOUBLINGS));
        doubled.min(period.max(MAX_PROBE_PERIOD))
    }

    fn choose(&mut self, now: Instant, spaces: &[SpaceTimes; 3], conditions: &ProbeConditions) -> Option<(Instant, LossEvent)> {
        let each = || SpaceId::ALL.into_iter().map(|id| (id, &spaces[id.index()]));
        // RFC 9002 section 6.2.1: no probe of application data before then; the peer may not have the keys.
        let may_probe = |id| id != SpaceId::Data || conditions.handshake_confirmed;
        let in_flight = each().any(|(id, space)| may_probe(id) && space.last_ack_eliciting.is_some());
        if in_flight || conditions.peer_validated_address {
            self.deadlocked = None;
        }

        // RFC 9002 section 6.2.1: no probe while a loss by time is awaited.
        let loss = each().filter_map(|(id, space)| Some((space.loss?, LossEvent::DetectLost(id))));
        if let Some(loss) = loss.min_by_key(|(at, _)| *at) {
            return Some(loss);
        }
        // RFC 9002 section 6.2.2.1: a probe would have to wait for the peer in any case.
        if conditions.at_amplification_limit {
            return None;
        }
        if !in_flight {
            if conditions.peer_validated_address {
                return None;
            }
            // RFC 9002 section 6.2.2.1: the server may be at its limit, and only our packets lift it.
            let id = if conditions.has_handshake_keys { SpaceId::Handshake } else { SpaceId::Initial };
            let since = *self.deadlocked.get_or_insert(now);
            return Some((since + self.back_off(conditions.period), LossEvent::Probe(id)));
        }
        let probe = |(id, space): (SpaceId, &SpaceTimes)| {
            let period = match id {
                SpaceId::Initial | SpaceId::Handshake => conditions.period,
                SpaceId::Data => conditions.period.saturating_add(conditions.max_ack_delay),
            };
            let sent = space.last_ack_eliciting.filter(|_| may_probe(id))?;
            Some((sent + self.back_off(period), LossEvent::Probe(id)))
        };
        each().filter_map(probe).min_by_key(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn sent(ms: u64) -> SpaceTimes {
        SpaceTimes { loss: None, last_ack_eliciting: Some(at(ms)) }
    }

    const NONE: SpaceTimes = SpaceTimes { loss: None, last_ack_eliciting: None };

    fn conditions() -> ProbeConditions {
        ProbeConditions {
            period: 100 * MS,
            max_ack_delay: 25 * MS,
            at_amplification_limit: false,
            handshake_confirmed: true,
            has_handshake_keys: true,
            peer_validated_address: true,
        }
    }

    fn armed(timer: &mut LossTimer, spaces: [SpaceTimes; 3], conditions: &ProbeConditions) -> Option<(Instant, LossEvent)> {
        timer.rearm(at(0), &spaces, conditions);
        timer.armed
    }

    // RFC 9002 section 6.2.1: max_ack_delay counts in application data only.
    #[test]
    fn probe_of_each_space() {
        let mut timer = LossTimer::default();
        let probe = |ms, id| Some((at(ms), LossEvent::Probe(id)));
        assert_eq!(armed(&mut timer, [sent(10), NONE, NONE], &conditions()), probe(110, SpaceId::Initial));
        assert_eq!(armed(&mut timer, [sent(10), sent(5), NONE], &conditions()), probe(105, SpaceId::Handshake));
        assert_eq!(armed(&mut timer, [NONE, NONE, sent(10)], &conditions()), probe(135, SpaceId::Data));
        assert_eq!(armed(&mut timer, [NONE, NONE, NONE], &conditions()), None);
    }

    // RFC 9002 section 6.2.1: no probe of application data before the handshake is confirmed.
    #[test]
    fn data_waits_for_confirmation() {
        let mut timer = LossTimer::default();
        let unconfirmed = ProbeConditions { handshake_confirmed: false, ..conditions() };
        assert_eq!(armed(&mut timer, [NONE, NONE, sent(10)], &unconfirmed), None);
        let handshake = Some((at(130), LossEvent::Probe(SpaceId::Handshake)));
        assert_eq!(armed(&mut timer, [NONE, sent(30), sent(10)], &unconfirmed), handshake);
    }

    // RFC 9002 section 6.2.1: a time threshold excludes a probe, even an earlier one.
    #[test]
    fn loss_goes_first() {
        let mut timer = LossTimer::default();
        let lossy = SpaceTimes { loss: Some(at(500)), ..sent(10) };
        let blocked = ProbeConditions { at_amplification_limit: true, ..conditions() };
        for conditions in [conditions(), blocked] {
            let expected = Some((at(500), LossEvent::DetectLost(SpaceId::Data)));
            assert_eq!(armed(&mut timer, [sent(1), NONE, lossy], &conditions), expected);
        }
        timer.rearm(at(0), &[NONE, NONE, lossy], &conditions());
        assert_eq!(timer.on_timeout(at(499)), None);
        assert_eq!(timer.on_timeout(at(500)), Some(LossEvent::DetectLost(SpaceId::Data)));
        assert_eq!(timer.probes(), 0, "loss by time is no probe timeout");
    }

    // RFC 9002 section 6.2.2.1: a server at its limit arms no probe; past it, one in the past fires at once.
    #[test]
    fn amplification_limit_disarms() {
        let mut timer = LossTimer::default();
        let blocked = ProbeConditions { at_amplification_limit: true, ..conditions() };
        assert_eq!(armed(&mut timer, [sent(10), NONE, NONE], &blocked), None);
        timer.rearm(at(9000), &[sent(10), NONE, NONE], &conditions());
        assert_eq!(timer.on_timeout(at(9000)), Some(LossEvent::Probe(SpaceId::Initial)));
    }

    // RFC 9002 section 6.2.2.1: the client's guard against deadlock, which calls in between do not put off.
    #[test]
    fn client_probes_with_nothing_in_flight() {
        let mut timer = LossTimer::default();
        let client = ProbeConditions { peer_validated_address: false, handshake_confirmed: false, ..conditions() };
        let early = ProbeConditions { has_handshake_keys: false, ..client };
        timer.rearm(at(50), &[NONE; 3], &early);
        timer.rearm(at(90), &[NONE; 3], &early);
        assert_eq!(timer.armed, Some((at(150), LossEvent::Probe(SpaceId::Initial))));
        assert_eq!(timer.on_timeout(at(150)), Some(LossEvent::Probe(SpaceId::Initial)));
        timer.rearm(at(150), &[NONE; 3], &client);
        assert_eq!(timer.armed, Some((at(350), LossEvent::Probe(SpaceId::Handshake))));
        timer.rearm(at(200), &[NONE; 3], &conditions());
        assert_eq!(timer.deadline(), None);
    }

    // RFC 9002 section 6.2.2.1: 0-RTT packets, which are not probed yet, must not keep the guard from being set.
    #[test]
    fn early_data_does_not_deadlock_a_client() {
        let mut timer = LossTimer::default();
        let client =
            ProbeConditions { peer_validated_address: false, handshake_confirmed: false, has_handshake_keys: false, ..conditions() };
        let expected = Some((at(100), LossEvent::Probe(SpaceId::Initial)));
        assert_eq!(armed(&mut timer, [NONE, NONE, sent(10)], &client), expected);
    }

    // RFC 9002 section 6.2.1: doubled each time, and not reset at a client that may not be validated.
    #[test]
    fn back_off() {
        let mut timer = LossTimer::default();
        for expected in [100, 200, 400, 800] {
            timer.rearm(at(0), &[sent(0), NONE, NONE], &conditions());
            assert_eq!(timer.deadline(), Some(at(expected)));
            timer.on_timeout(at(expected)).unwrap();
        }
        timer.on_acked(false);
        assert_eq!(timer.probes(), 4);
        timer.on_acked(true);
        assert_eq!(timer.probes(), 0);
        timer.rearm(at(0), &[sent(0), NONE, NONE], &conditions());
        timer.on_timeout(at(100)).unwrap();
        timer.on_keys_discarded();
        assert_eq!(timer.probes(), 0);
    }

    #[test]
    fn endless_probes_and_periods_overflow_nothing() {
        for period in [Duration::ZERO, MS, Duration::from_secs(600), Duration::MAX] {
            let mut timer = LossTimer::default();
            let conditions = ProbeConditions { period, max_ack_delay: Duration::MAX, ..conditions() };
            for count in 0..200 {
                timer.rearm(at(0), &[sent(0), NONE, sent(0)], &conditions);
                let deadline = timer.deadline().unwrap();
                assert!(deadline <= at(0) + period.max(MAX_PROBE_PERIOD));
                timer.on_timeout(deadline).unwrap();
                assert_eq!(timer.probes(), count + 1);
            }
            timer.probes = u32::MAX;
            timer.rearm(at(0), &[sent(0), NONE, NONE], &conditions);
            timer.on_timeout(Instant::from_nanos(u64::MAX)).unwrap();
            assert_eq!(timer.probes(), u32::MAX);
        }
    }
}
