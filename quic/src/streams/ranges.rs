//! Owns a set of numbers kept as ranges: which bytes of a stream were acknowledged, and which are to be sent again.
//!
//! Invariant: ranges are sorted, not empty, and neither overlap nor touch.

use std::collections::VecDeque;
use std::ops::Range;

/// A set of offsets. Changes at either end cost a binary search; one in the middle moves the shorter side.
#[derive(Debug, Default)]
pub(super) struct RangeSet {
    ranges: VecDeque<Range<u64>>,
}

impl RangeSet {
    /// Adds all of `range`.
    pub(super) fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let from = self.ranges.partition_point(|known| known.end < range.start);
        let touched = self.ranges.iter().skip(from).take_while(|known| known.start <= range.end).count();
        if touched == 0 {
            self.ranges.insert(from, range);
            return;
        }
        let end = self.ranges[from + touched - 1].end.max(range.end);
        let start = self.ranges[from].start.min(range.start);
        self.ranges.drain(from + 1..from + touched);
        self.ranges[from] = start..end;
    }

    /// Takes all of `range` out.
    pub(super) fn remove(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let from = self.ranges.partition_point(|known| known.end <= range.start);
        let touched = self.ranges.iter().skip(from).take_while(|known| known.start < range.end).count();
        if touched == 0 {
            return;
        }
        let before = self.ranges[from].start..range.start;
        let after = range.end..self.ranges[from + touched - 1].end;
        self.ranges.drain(from..from + touched);
        for left in [after, before] {
            if !left.is_empty() {
                self.ranges.insert(from, left);
            }
        }
    }

    /// Takes all of `others` out that lie in `within`.
    pub(super) fn remove_all(&mut self, others: &RangeSet, within: Range<u64>) {
        let from = others.ranges.partition_point(|known| known.end <= within.start);
        for other in others.ranges.iter().skip(from).take_while(|known| known.start < within.end) {
            self.remove(other.start.max(within.start)..other.end.min(within.end));
        }
    }

    /// The lowest range.
    pub(super) fn first(&self) -> Option<Range<u64>> {
        self.ranges.front().cloned()
    }

    /// Takes the lowest range out if it begins at `start`, and returns its end.
    pub(super) fn pop_at(&mut self, start: u64) -> Option<u64> {
        let front = self.ranges.front().filter(|front| front.start <= start)?;
        let end = front.end;
        self.ranges.pop_front();
        Some(end)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.ranges = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a bitmap.
        #[test]
        fn is_a_set(steps in prop::collection::vec((0u8..3, 0u64..60, 0u64..20), 1..80)) {
            let mut set = RangeSet::default();
            let mut model = [false; 80];
            let mut acknowledged = RangeSet::default();
            let mut acknowledged_model = [false; 80];
            for (verb, start, len) in steps {
                let range = start..start + len;
                let indices = start as usize..(start + len) as usize;
                match verb {
                    0 => { set.insert(range); model[indices].fill(true); }
                    1 => { set.remove(range); model[indices].fill(false); }
                    _ => {
                        acknowledged.insert(range.clone());
                        acknowledged_model[indices.clone()].fill(true);
                        set.remove_all(&acknowledged, range);
                        model[indices].fill(false);
                    }
                }
                let mut seen = [false; 80];
                for range in &set.ranges {
                    seen[range.start as usize..range.end as usize].fill(true);
                }
                prop_assert_eq!(seen, model);
                prop_assert!(set.ranges.iter().zip(set.ranges.iter().skip(1)).all(|(a, b)| a.end < b.start));
                prop_assert!(set.ranges.iter().all(|range| !range.is_empty()));
                prop_assert_eq!(set.is_empty(), set.first().is_none());
            }
        }
    }
}
