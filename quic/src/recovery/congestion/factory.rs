//! Which controller a new path gets: one of ours by name, or one of the application's.
//!
//! Owns the choice and the initial window. Does not own the algorithms.

use std::fmt::{self, Debug, Display};
use std::str::FromStr;
use std::sync::Arc;

use super::cubic::{self, Cubic};
use super::new_reno::{self, NewReno};
use super::{Controller, minimum_window};
use crate::time::Instant;

/// What a controller starts from.
#[derive(Clone, Copy, Debug)]
pub struct ControllerStart {
    /// Now.
    pub now: Instant,
    /// The initial window in bytes (RFC 9002 section 7.2).
    pub window: u64,
    /// The largest datagram in bytes.
    pub mtu: u16,
}

/// Makes the controllers of new paths, for [`TransportConfig::congestion`](crate::TransportConfig::congestion).
///
/// [`Algorithm`] is one; write another to bring a controller of your own. One value serves all connections of its
/// configuration, from all workers.
///
/// ```
/// use weald_quic::time::Instant;
/// use weald_quic::{AckedPacket, CongestionSignal, Controller, ControllerFactory, ControllerStart, TransportConfig};
///
/// /// Never more nor less than a window that was configured.
/// #[derive(Debug)]
/// struct Fixed(u64);
///
/// impl ControllerFactory for Fixed {
///     fn name(&self) -> &str {
///         "fixed"
///     }
///
///     fn build(&self, _: ControllerStart) -> Box<dyn Controller> {
///         Box::new(Fixed(self.0))
///     }
/// }
///
/// impl Controller for Fixed {
///     fn on_acked(&mut self, _: AckedPacket) {}
///     fn on_congestion(&mut self, _: Instant, _: Instant, _: CongestionSignal) {}
///     fn on_persistent_congestion(&mut self) {}
///     fn on_mtu(&mut self, _: u16) {}
///
///     fn window(&self) -> u64 {
///         self.0
///     }
///
///     fn in_slow_start(&self) -> bool {
///         false
///     }
/// }
///
/// let transport = TransportConfig::default().congestion(Fixed(64 << 10));
/// # drop(transport);
/// ```
pub trait ControllerFactory: Debug + Send + Sync {
    /// The name of the algorithm.
    fn name(&self) -> &str;

    /// A controller for a new path.
    fn build(&self, start: ControllerStart) -> Box<dyn Controller>;
}

impl<T: ControllerFactory + ?Sized> ControllerFactory for Arc<T> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn build(&self, start: ControllerStart) -> Box<dyn Controller> {
        (**self).build(start)
    }
}

/// A congestion control algorithm. Its names are `new_reno` and `cubic`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// RFC 9002 section 7, with the slow start of RFC 9406.
    NewReno,
    /// RFC 9438, with the slow start of RFC 9406. The default, as in the kernels that its flows share queues with.
    #[default]
    Cubic,
}

impl ControllerFactory for Algorithm {
    fn name(&self) -> &str {
        match self {
            Algorithm::NewReno => new_reno::NAME,
            Algorithm::Cubic => cubic::NAME,
        }
    }

    fn build(&self, start: ControllerStart) -> Box<dyn Controller> {
        match self {
            Algorithm::NewReno => Box::new(NewReno::new(start)),
            Algorithm::Cubic => Box::new(Cubic::new(start)),
        }
    }
}

/// No congestion control algorithm has this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownAlgorithm(String);

impl Display for UnknownAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no congestion control algorithm is named {:?}; there are new_reno and cubic", self.0)
    }
}

impl std::error::Error for UnknownAlgorithm {}

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(name: &str) -> Result<Algorithm, UnknownAlgorithm> {
        match name {
            new_reno::NAME => Ok(Algorithm::NewReno),
            cubic::NAME => Ok(Algorithm::Cubic),
            _ => Err(UnknownAlgorithm(name.to_owned())),
        }
    }
}

/// The recommended initial window, in packets (RFC 9002 section 7.2).
pub(crate) const INITIAL_WINDOW_PACKETS: u32 = 10;

/// RFC 9002 section 7.2: ten datagrams, and no more than 14,720 bytes or two datagrams; a configured count moves the byte
/// limit in proportion.
pub(crate) fn initial_window(packets: u32, mtu: u16) -> u64 {
    let (packets, least) = (u64::from(packets), minimum_window(mtu));
    (packets * u64::from(mtu)).min((packets * 1472).max(least)).max(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 9002 section 7.2
    #[test]
    fn initial_windows() {
        assert_eq!(initial_window(10, 1200), 12_000);
        assert_eq!(initial_window(10, 1500), 14_720);
        assert_eq!(initial_window(10, 9000), 18_000);
        assert_eq!(initial_window(100, 1472), 147_200);
        assert_eq!(initial_window(0, 1200), 2400);
        assert_eq!(initial_window(u32::MAX, u16::MAX), u64::from(u32::MAX) * 1472);
    }

    #[test]
    fn chosen_by_name() {
        for algorithm in [Algorithm::NewReno, Algorithm::Cubic] {
            assert_eq!(algorithm.name().parse(), Ok(algorithm));
            let controller = algorithm.build(ControllerStart { now: Instant::from_nanos(0), window: 12_000, mtu: 1200 });
            assert_eq!(controller.window(), 12_000);
            assert!(controller.in_slow_start());
        }
        let error = "vegas".parse::<Algorithm>().unwrap_err();
        assert!(error.to_string().contains("vegas"));
    }
}
