//! What one direction between two addresses does to what passes it.
//!
//! Owns the faults, in their order, and the state that they keep between datagrams. Does not own the way to a receiver, nor
//! what is done with something that does not pass.
//!
//! Invariants:
//! - The draws do not depend on what earlier draws gave (a fault with probability zero draws as well), so that changing one
//!   fault leaves the others' luck. The first six come from a generator of their own: what they give for a seed is kept.
//! - What passes arrives in the order in which it was sent, unless it was chosen to be reordered.

use std::time::Duration;

use super::trace::{Trace, Verdict};
use crate::net::Ecn;
use crate::time::Instant;

/// What one direction between two addresses does to datagrams. The default is a perfect link with a delay of 1 ms.
///
/// What happens to datagrams happens to the segments of TCP streams, too, but the streams mend it: a loss or a flipped bit
/// costs the time of a retransmission, a rate limit makes segments wait and drops none.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkConfig {
    /// How long each datagram flies.
    pub delay: Duration,
    /// A random extra of up to this; it never changes the order.
    pub jitter: Duration,
    /// The probability that a datagram is lost, 0 to 1.
    pub loss: f64,
    /// Losses in bursts, beside those of [`loss`](Self::loss).
    pub burst: Option<Burst>,
    /// The probability that a datagram is held back by [`reorder_delay`](Self::reorder_delay) while later ones overtake it.
    pub reorder: f64,
    /// How long a reordered datagram is held back.
    pub reorder_delay: Duration,
    /// The probability that a datagram arrives twice.
    pub duplicate: f64,
    /// The probability that one bit of a datagram is flipped.
    pub corrupt: f64,
    /// Bytes (of payload) a second that pass; `None` is no limit.
    pub rate: Option<u64>,
    /// Bytes that wait at a rate limit before more are dropped.
    pub queue: usize,
    /// Bytes that wait at a rate limit before ECN-capable datagrams are marked "congestion experienced"; `None` marks none.
    pub mark_queue: Option<usize>,
    /// The probability that an ECN-capable datagram is marked whatever the queue.
    pub mark: f64,
    /// Whether all ECN marks are erased, as some routers do. The link's own marks come before that.
    pub bleach: bool,
    /// Whether datagrams with an ECN mark are lost, as in the firewalls of some.
    pub drop_ecn: bool,
    /// The longest IP packet that passes, in bytes: payload and 28 (48 for IPv6) of headers. Longer datagrams are dropped
    /// without a word; streams keep their segments below it.
    pub mtu: Option<usize>,
}

impl LinkConfig {
    /// # Panics
    ///
    /// If one of the probabilities is none, or the rate lets nothing pass.
    #[track_caller]
    pub(in crate::sim) fn check(&self) {
        let burst = self.burst.map_or([0.0; 3], |burst| [burst.enter, burst.leave, burst.loss]);
        let [enter, leave, bad] = burst;
        let probabilities = [
            ("loss", self.loss),
            ("reorder", self.reorder),
            ("duplicate", self.duplicate),
            ("corrupt", self.corrupt),
            ("mark", self.mark),
            ("burst.enter", enter),
            ("burst.leave", leave),
            ("burst.loss", bad),
        ];
        for (name, probability) in probabilities {
            assert!((0.0..=1.0).contains(&probability), "the probability {name} of a link is {probability}, not of 0 to 1");
        }
        assert!(self.rate != Some(0), "a link's rate of 0 lets nothing pass: use loss, or Network::partition");
    }
}

impl Default for LinkConfig {
    fn default() -> LinkConfig {
        LinkConfig {
            // Not zero: an exchange without end would stop virtual time.
            delay: Duration::from_millis(1),
            jitter: Duration::ZERO,
            loss: 0.0,
            burst: None,
            reorder: 0.0,
            reorder_delay: Duration::from_millis(5),
            duplicate: 0.0,
            corrupt: 0.0,
            rate: None,
            // 64 KiB are what a small router has; a sender that fills it learns of its rate by loss.
            queue: 65_536,
            mark_queue: None,
            mark: 0.0,
            bleach: false,
            drop_ecn: false,
            mtu: None,
        }
    }
}

/// Losses in bursts, after Gilbert and Elliott: the link is good or bad, and changes by chance with each datagram. Bursts are
/// 1 / `leave` datagrams long on the average.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Burst {
    /// The probability that a good link turns bad before a datagram, 0 to 1.
    pub enter: f64,
    /// The probability that a bad link turns good before a datagram.
    pub leave: f64,
    /// The probability that a bad link loses a datagram.
    pub loss: f64,
}

/// The luck of one datagram, drawn before anything is known of it.
pub(super) struct Draws {
    lost: f64,
    corrupted: f64,
    reordered: f64,
    duplicated: f64,
    jitter: f64,
    flipped: usize,
    turned: f64,
    lost_in_burst: f64,
    marked: f64,
}

/// The generators of faults.
pub(super) struct Luck {
    /// Loss, corruption, reordering, duplication, jitter and the flipped bit, in this order.
    first: fastrand::Rng,
    /// What came later: bursts and marks.
    second: fastrand::Rng,
}

impl Luck {
    pub(super) fn new(first: fastrand::Rng, second: fastrand::Rng) -> Luck {
        Luck { first, second }
    }

    pub(super) fn draw(&mut self) -> Draws {
        let [lost, corrupted, reordered, duplicated, jitter] = std::array::from_fn(|_| self.first.f64());
        let flipped = self.first.usize(..);
        let [turned, lost_in_burst, marked] = std::array::from_fn(|_| self.second.f64());
        Draws { lost, corrupted, reordered, duplicated, jitter, flipped, turned, lost_in_burst, marked }
    }
}

/// What passes a link.
#[derive(Clone, Copy)]
pub(super) struct Parcel {
    /// Bytes of payload.
    pub(super) size: usize,
    /// Bytes of headers.
    pub(super) headers: usize,
    pub(super) ecn: Option<Ecn>,
    /// It waits at a rate limit however long the queue is, and fits every link.
    pub(super) patient: bool,
}

/// How a parcel has passed.
pub(super) struct Passage {
    pub(super) arrival: Instant,
    /// The bit to flip, counted from the first.
    pub(super) flip: Option<usize>,
    pub(super) copies: usize,
    pub(super) ecn: Option<Ecn>,
}

/// One direction between two addresses.
#[derive(Default)]
pub(super) struct Link {
    /// `None`: the network's default.
    pub(super) config: Option<LinkConfig>,
    /// Everything is swallowed, whatever the configuration.
    pub(super) blackhole: bool,
    /// When the rate limit has passed everything that was sent so far.
    idle_at: Instant,
    /// The latest arrival of a datagram in order.
    last_arrival: Instant,
    /// In a burst of losses.
    bad: bool,
}

impl Link {
    /// Sends a parcel into the link; `None` if it does not come out.
    pub(super) fn pass(
        &mut self,
        default: &LinkConfig,
        now: Instant,
        parcel: Parcel,
        draws: &Draws,
        trace: &mut Trace<'_>,
    ) -> Option<Passage> {
        let config = self.config.as_ref().unwrap_or(default);
        let size = parcel.size;
        if let Some(burst) = config.burst {
            self.bad = if self.bad { draws.turned >= burst.leave } else { draws.turned < burst.enter };
        }
        let in_burst = self.bad && config.burst.is_some_and(|burst| draws.lost_in_burst < burst.loss);
        if draws.lost < config.loss || in_burst || (config.drop_ecn && parcel.ecn.is_some()) {
            return trace.drop(Verdict::Lost);
        }
        if !parcel.patient && config.mtu.is_some_and(|mtu| size + parcel.headers > mtu) {
            return trace.drop(Verdict::TooLong);
        }
        let mut departure = now;
        let mut marked = draws.marked < config.mark;
        if let Some(rate) = config.rate {
            let waiting = self.idle_at.saturating_duration_since(now);
            let queued = waiting.as_nanos() * u128::from(rate) / 1_000_000_000;
            if !parcel.patient && queued + size as u128 > config.queue as u128 {
                return trace.drop(Verdict::QueueFull);
            }
            marked |= config.mark_queue.is_some_and(|threshold| queued >= threshold as u128);
            let nanos = (size as u128 * 1_000_000_000).div_ceil(u128::from(rate.max(1)));
            departure = self.idle_at.max(now) + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
            self.idle_at = departure;
        }
        let flip = (draws.corrupted < config.corrupt && size > 0).then(|| draws.flipped % (size * 8));
        if flip.is_some() {
            trace.add(Verdict::Corrupted);
        }
        let mut ecn = parcel.ecn;
        if marked && ecn.is_some_and(|ecn| ecn != Ecn::Ce) {
            ecn = Some(Ecn::Ce);
            trace.add(Verdict::Marked);
        }
        if config.bleach && ecn.take().is_some() {
            trace.add(Verdict::Bleached);
        }
        let mut arrival = departure + config.delay + config.jitter.mul_f64(draws.jitter);
        if draws.reordered < config.reorder {
            arrival += config.reorder_delay;
            trace.add(Verdict::Reordered { arrival });
        } else {
            arrival = arrival.max(self.last_arrival);
            self.last_arrival = arrival;
            trace.add(Verdict::Sent { arrival });
        }
        let copies = if draws.duplicated < config.duplicate {
            trace.add(Verdict::Duplicated { arrival });
            2
        } else {
            1
        };
        Some(Passage { arrival, flip, copies, ecn })
    }
}
