//! Why a client was not accepted, and how often that was the reason.
//!
//! Owns the list of reasons, their names, and the counts by reason. Who finds a reason counts it: `endpoint::admit`, and the driver.

use std::ops::{Add, Index};

/// Why a client was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// As many connections live, or handshakes are pending, as the limits allow.
    Limit,
    /// As many connections, or clients, wait for the application as the limits allow; or one waited for too long.
    Backlog,
    /// No memory is left: see [`Governor`](crate::Governor).
    Memory,
    /// As many steps of TLS wait as may: see [`EndpointConfig::crypto_pool`](crate::EndpointConfig::crypto_pool).
    Processors,
    /// The application did not want it.
    Application,
    /// Its first packet was forged or damaged.
    Forged,
    /// Its token was used before.
    TokenUsed,
    /// The endpoint does not accept connections, or no more.
    Closed,
    /// Its first packet uncovered a defect of this implementation.
    Defect,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Limit,
        Self::Backlog,
        Self::Memory,
        Self::Processors,
        Self::Application,
        Self::Forged,
        Self::TokenUsed,
        Self::Closed,
        Self::Defect,
    ];

    /// In one word, for logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::Backlog => "backlog",
            Self::Memory => "memory",
            Self::Processors => "processors",
            Self::Application => "application",
            Self::Forged => "forged",
            Self::TokenUsed => "token_used",
            Self::Closed => "closed",
            Self::Defect => "defect",
        }
    }
}

/// How many clients were not accepted, by reason.
///
/// ```
/// use weald_quic::{EndpointStats, Refusal};
///
/// let stats = EndpointStats::default();
/// assert_eq!(stats.refused[Refusal::Memory], 0);
/// assert_eq!(stats.refused.total(), 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals([u64; Refusal::ALL.len()]);

impl Refusals {
    /// For all reasons together.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The count of each reason.
    pub fn iter(&self) -> impl Iterator<Item = (Refusal, u64)> {
        Refusal::ALL.into_iter().map(|reason| (reason, self[reason]))
    }

    pub(crate) fn count(&mut self, reason: Refusal) {
        self.0[reason as usize] += 1;
    }
}

impl Index<Refusal> for Refusals {
    type Output = u64;

    fn index(&self, reason: Refusal) -> &u64 {
        &self.0[reason as usize]
    }
}

impl Add for Refusals {
    type Output = Refusals;

    fn add(self, other: Refusals) -> Refusals {
        Refusals(std::array::from_fn(|index| self.0[index] + other.0[index]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_count() {
        let mut refusals = Refusals::default();
        for (times, reason) in Refusal::ALL.into_iter().enumerate() {
            (0..=times).for_each(|_| refusals.count(reason));
        }
        let twice = refusals + refusals;
        for (times, (reason, count)) in twice.iter().enumerate() {
            assert_eq!(count, 2 * (times as u64 + 1), "{}", reason.name());
        }
        assert_eq!(twice.total(), 90);
    }
}
