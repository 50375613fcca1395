//! Owns the order of values that lie at offsets: pieces of a stream, ranges of a set.
//!
//! Does not own what the values mean, nor whether they overlap.
//!
//! Nearly always there is one value, or a few that come and go at the ends, for which a deque is best. What is inserted in
//! its middle moves its neighbours, though, and a peer chooses where that is. So a map with more than [`FEW`] values is a
//! tree: an insertion never costs more than a logarithm, or the move of half of [`FEW`] values.

use std::collections::{BTreeMap, VecDeque};

/// Values that a deque may hold.
const FEW: usize = 64;

/// A tree that has shrunk to this many values becomes a deque again. Well below [`FEW`], so that a map which changes back and
/// forth has earned it.
const FEW_AGAIN: usize = FEW / 4;

/// Values in the order of their offsets, one an offset.
#[derive(Debug)]
pub(crate) struct OffsetMap<T> {
    values: Values<T>,
    /// Values that insertions had to move.
    #[cfg(test)]
    pub(crate) moved: usize,
}

#[derive(Debug)]
enum Values<T> {
    Few(VecDeque<(u64, T)>),
    Many(BTreeMap<u64, T>),
}

impl<T> OffsetMap<T> {
    /// An empty map.
    pub(crate) fn new() -> Self {
        Self {
            values: Values::Few(VecDeque::new()),
            #[cfg(test)]
            moved: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        match &self.values {
            Values::Few(few) => few.len(),
            Values::Many(many) => many.len(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes held outside of the value itself; of a tree, with what its nodes leave free on average.
    pub(crate) fn memory(&self) -> usize {
        match &self.values {
            Values::Few(few) => few.capacity() * size_of::<(u64, T)>(),
            Values::Many(many) => many.len() * size_of::<(u64, T)>() * 3 / 2,
        }
    }

    /// The lowest value.
    pub(crate) fn first(&self) -> Option<(u64, &T)> {
        match &self.values {
            Values::Few(few) => few.front().map(|(offset, value)| (*offset, value)),
            Values::Many(many) => many.first_key_value().map(|(offset, value)| (*offset, value)),
        }
    }

    /// The highest value.
    pub(crate) fn last(&self) -> Option<(u64, &T)> {
        match &self.values {
            Values::Few(few) => few.back().map(|(offset, value)| (*offset, value)),
            Values::Many(many) => many.last_key_value().map(|(offset, value)| (*offset, value)),
        }
    }

    /// The highest value at or below `offset`.
    pub(crate) fn at_or_below(&self, offset: u64) -> Option<(u64, &T)> {
        match &self.values {
            Values::Few(few) => few.get(above(few, offset).checked_sub(1)?).map(|(offset, value)| (*offset, value)),
            Values::Many(many) => many.range(..=offset).next_back().map(|(offset, value)| (*offset, value)),
        }
    }

    /// The highest value at or below `offset`, to change.
    pub(crate) fn at_or_below_mut(&mut self, offset: u64) -> Option<(u64, &mut T)> {
        match &mut self.values {
            Values::Few(few) => {
                let index = above(few, offset).checked_sub(1)?;
                few.get_mut(index).map(|(offset, value)| (*offset, value))
            }
            Values::Many(many) => many.range_mut(..=offset).next_back().map(|(offset, value)| (*offset, value)),
        }
    }

    /// The lowest value at or above `offset`.
    pub(crate) fn at_or_above(&self, offset: u64) -> Option<(u64, &T)> {
        match &self.values {
            Values::Few(few) => few.get(not_below(few, offset)).map(|(offset, value)| (*offset, value)),
            Values::Many(many) => many.range(offset..).next().map(|(offset, value)| (*offset, value)),
        }
    }

    /// Puts a value at `offset`, in the place of one that is there.
    pub(crate) fn insert(&mut self, offset: u64, value: T) {
        let few = match &mut self.values {
            Values::Few(few) => few,
            Values::Many(many) => {
                many.insert(offset, value);
                return;
            }
        };
        let index = not_below(few, offset);
        if let Some((there, old)) = few.get_mut(index)
            && *there == offset
        {
            *old = value;
        } else if few.len() < FEW {
            #[cfg(test)]
            {
                self.moved += index.min(few.len() - index);
            }
            few.insert(index, (offset, value));
        } else {
            #[cfg(test)]
            {
                self.moved += few.len();
            }
            let mut many: BTreeMap<_, _> = few.drain(..).collect();
            many.insert(offset, value);
            self.values = Values::Many(many);
        }
    }

    /// Takes out the value at `offset`.
    pub(crate) fn remove(&mut self, offset: u64) -> Option<T> {
        match &mut self.values {
            Values::Few(few) => {
                let index = not_below(few, offset);
                few.get(index).filter(|(there, _)| *there == offset)?;
                few.remove(index).map(|(_, value)| value)
            }
            Values::Many(many) => {
                let value = many.remove(&offset);
                self.shrink();
                value
            }
        }
    }

    /// Takes out the lowest value.
    pub(crate) fn pop_first(&mut self) -> Option<(u64, T)> {
        match &mut self.values {
            Values::Few(few) => few.pop_front(),
            Values::Many(many) => {
                let first = many.pop_first();
                self.shrink();
                first
            }
        }
    }

    /// All values, the lowest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        let (few, many) = match &self.values {
            Values::Few(few) => (Some(few.iter().map(|(offset, value)| (*offset, value))), None),
            Values::Many(many) => (None, Some(many.iter().map(|(offset, value)| (*offset, value)))),
        };
        few.into_iter().flatten().chain(many.into_iter().flatten())
    }

    fn shrink(&mut self) {
        if let Values::Many(many) = &mut self.values
            && many.len() <= FEW_AGAIN
        {
            self.values = Values::Few(std::mem::take(many).into_iter().collect());
        }
    }
}

impl<T> Default for OffsetMap<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// The index of the first value above `offset`.
fn above<T>(few: &VecDeque<(u64, T)>, offset: u64) -> usize {
    match few.back() {
        Some((last, _)) if *last > offset => few.partition_point(|(there, _)| *there <= offset),
        _ => few.len(),
    }
}

/// The index of the first value at or above `offset`.
fn not_below<T>(few: &VecDeque<(u64, T)>, offset: u64) -> usize {
    match few.back() {
        Some((last, _)) if *last >= offset => few.partition_point(|(there, _)| *there < offset),
        _ => few.len(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a tree, over the border between few and many in both directions.
        #[test]
        fn is_a_map(phases in prop::collection::vec((0u8..4, prop::collection::vec((0u8..8, 0u64..300), 1..150)), 1..8)) {
            let mut map = OffsetMap::new();
            let mut model = BTreeMap::new();
            for (bias, steps) in phases {
                for (verb, offset) in steps {
                    match verb {
                        _ if verb > bias * 2 => {
                            map.insert(offset, verb);
                            model.insert(offset, verb);
                        }
                        0 | 1 => prop_assert_eq!(map.pop_first(), model.pop_first()),
                        _ => prop_assert_eq!(map.remove(offset), model.remove(&offset)),
                    }
                    let owned = |entry: Option<(&u64, &u8)>| entry.map(|(offset, value)| (*offset, *value));
                    let got = |entry: Option<(u64, &u8)>| entry.map(|(offset, value)| (offset, *value));
                    prop_assert_eq!(map.len(), model.len());
                    prop_assert_eq!(got(map.first()), owned(model.first_key_value()));
                    prop_assert_eq!(got(map.at_or_below(offset)), owned(model.range(..=offset).next_back()));
                    prop_assert_eq!(got(map.at_or_above(offset)), owned(model.range(offset..).next()));
                    let below = map.at_or_below_mut(offset).map(|(offset, value)| (offset, *value));
                    prop_assert_eq!(below, owned(model.range(..=offset).next_back()));
                }
                prop_assert!(map.iter().map(|(offset, value)| (offset, *value)).eq(model.iter().map(|(offset, value)| (*offset, *value))));
            }
        }
    }

    #[test]
    fn an_insertion_in_the_middle_moves_few() {
        let mut map = OffsetMap::new();
        let mut rng = fastrand::Rng::with_seed(3);
        for _ in 0..30_000 {
            map.insert(rng.u64(..), ());
        }
        assert!(map.moved <= FEW * FEW, "{} moved", map.moved);
    }

    #[test]
    fn values_at_the_ends_move_nothing() {
        let mut map = OffsetMap::new();
        for offset in 0..10_000 {
            map.insert(offset, offset);
            if offset >= 10 {
                assert_eq!(map.pop_first(), Some((offset - 10, offset - 10)));
            }
        }
        assert_eq!(map.moved, 0);
    }
}
