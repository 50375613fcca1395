//! What an attacker acknowledges of what came.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::Kind;

/// Which packets are acknowledged when something came that asks for it.
#[derive(Default)]
pub enum AckPolicy {
    /// All that came.
    #[default]
    Honest,
    /// None, ever.
    Never,
    /// Those with even numbers, as if the others were lost.
    EverySecond,
    /// What this gives, newest first, from the numbers that came in packets of that kind. Nothing is sent if it gives nothing.
    Script(Script),
}

/// See [`AckPolicy::Script`].
pub type Script = Box<dyn FnMut(Kind, &BTreeSet<u64>) -> Vec<RangeInclusive<u64>> + Send>;

impl AckPolicy {
    /// The ranges to acknowledge, newest first, none touching another unless a script wants it so.
    pub(super) fn ranges(&mut self, kind: Kind, received: &BTreeSet<u64>) -> Vec<RangeInclusive<u64>> {
        match self {
            Self::Honest => ranges(received.iter().rev().copied()),
            Self::Never => Vec::new(),
            Self::EverySecond => ranges(received.iter().rev().copied().filter(|number| number % 2 == 0)),
            Self::Script(script) => script(kind, received),
        }
    }
}

/// As many of the newest ranges as any packet has room for.
fn ranges(newest_first: impl Iterator<Item = u64>) -> Vec<RangeInclusive<u64>> {
    const MOST: usize = 256;
    let mut ranges: Vec<RangeInclusive<u64>> = Vec::new();
    for number in newest_first {
        let count = ranges.len();
        match ranges.last_mut() {
            Some(last) if *last.start() == number + 1 => *last = number..=*last.end(),
            _ if count == MOST => break,
            _ => ranges.push(number..=number),
        }
    }
    ranges
}
