//! Owns a set of numbers kept as ranges: which bytes of a stream were acknowledged, which are to be sent again, which have
//! arrived.
//!
//! Invariant: ranges are not empty, and neither overlap nor touch.

use std::ops::Range;

use crate::offset_map::OffsetMap;

/// A set of offsets. A change costs a logarithm of the number of ranges, wherever it is.
#[derive(Debug, Default)]
pub(crate) struct RangeSet {
    /// The end of each range, by its start.
    ranges: OffsetMap<u64>,
}

impl RangeSet {
    /// Adds all of `range`.
    pub(crate) fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let Range { mut start, mut end } = range;
        if let Some((known, known_end)) = self.ranges.at_or_below_mut(start)
            && *known_end >= start
        {
            if *known_end >= end {
                return;
            }
            *known_end = end;
            start = known;
        } else {
            self.ranges.insert(start, end);
        }
        let mut absorbed = false;
        while let Some((known, &known_end)) = self.ranges.at_or_above(start + 1)
            && known <= end
        {
            end = end.max(known_end);
            self.ranges.remove(known);
            absorbed = true;
        }
        if absorbed {
            self.ranges.insert(start, end);
        }
    }

    /// Takes all of `range` out.
    pub(crate) fn remove(&mut self, range: Range<u64>) {
        if range.is_empty() || self.is_empty() {
            return;
        }
        let mut rest = range.end;
        if let Some((known, known_end)) = self.ranges.at_or_below_mut(range.start)
            && *known_end > range.start
        {
            rest = *known_end;
            if known < range.start {
                *known_end = range.start;
            } else {
                self.ranges.remove(known);
            }
        }
        while rest <= range.end
            && let Some((known, &known_end)) = self.ranges.at_or_above(range.start)
            && known < range.end
        {
            rest = known_end;
            self.ranges.remove(known);
        }
        if rest > range.end {
            self.ranges.insert(range.end, rest);
        }
    }

    /// Takes all of `others` out that lie in `within`.
    pub(crate) fn remove_all(&mut self, others: &RangeSet, within: Range<u64>) {
        let mut at = within.start;
        if let Some((_, &end)) = others.ranges.at_or_below(at)
            && end > at
        {
            self.remove(at..end.min(within.end));
            at = end;
        }
        while let Some((start, &end)) = others.ranges.at_or_above(at)
            && start < within.end
        {
            self.remove(start..end.min(within.end));
            at = end;
        }
    }

    /// The lowest range.
    pub(crate) fn first(&self) -> Option<Range<u64>> {
        self.ranges.first().map(|(start, &end)| start..end)
    }

    /// Takes the lowest range out if it begins at or below `start`, and returns its end.
    pub(crate) fn pop_at(&mut self, start: u64) -> Option<u64> {
        self.ranges.first().filter(|(first, _)| *first <= start)?;
        self.ranges.pop_first().map(|(_, end)| end)
    }

    /// Whether all of `range` is in the set.
    pub(crate) fn contains(&self, range: Range<u64>) -> bool {
        self.ranges.at_or_below(range.start).is_some_and(|(_, &end)| end >= range.end)
    }

    /// How many ranges there are.
    pub(crate) fn len(&self) -> usize {
        self.ranges.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.ranges = OffsetMap::new();
    }

    /// Bytes held outside of the value itself.
    pub(crate) fn memory(&self) -> usize {
        self.ranges.memory()
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
                for (start, &end) in set.ranges.iter() {
                    seen[start as usize..end as usize].fill(true);
                }
                prop_assert_eq!(seen, model);
                let ranges: Vec<_> = set.ranges.iter().map(|(start, &end)| start..end).collect();
                prop_assert!(ranges.windows(2).all(|two| two[0].end < two[1].start));
                prop_assert!(ranges.iter().all(|range| !range.is_empty()));
                prop_assert_eq!(set.is_empty(), set.first().is_none());
                let probed = start..start + 3;
                prop_assert_eq!(set.contains(probed.clone()), probed.into_iter().all(|at| model[at as usize]));
            }
        }
    }
}
