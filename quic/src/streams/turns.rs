//! Owns the order in which streams that wait get their turn: the highest priority first, and one after another within it.
//!
//! Does not own what they wait for. Nobody waits twice in one of these, as flags on the stream say.

use std::collections::VecDeque;

use crate::stream_id::StreamId;

/// Levels that are kept when nobody waits on them, so that a level which is used again and again allocates once.
const KEPT_LEVELS: usize = 16;

/// Streams that wait for their turn.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// The highest first. Nearly always there is one.
    levels: Vec<Level>,
}

#[derive(Debug)]
struct Level {
    priority: i32,
    streams: VecDeque<StreamId>,
}

impl Turns {
    /// Bytes held outside of the value itself.
    pub(super) fn memory(&self) -> usize {
        let ids: usize = self.levels.iter().map(|level| level.streams.capacity()).sum();
        self.levels.capacity() * size_of::<Level>() + ids * size_of::<StreamId>()
    }

    /// Gives back what is kept for more streams than wait.
    pub(super) fn shrink(&mut self) {
        self.levels.retain_mut(|level| {
            level.streams.shrink_to_fit();
            !level.streams.is_empty()
        });
        self.levels.shrink_to_fit();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.highest().is_none()
    }

    /// The highest priority of those who wait.
    pub(super) fn highest(&self) -> Option<i32> {
        self.levels.iter().find(|level| !level.streams.is_empty()).map(|level| level.priority)
    }

    /// Puts a stream behind the others of its priority.
    pub(super) fn push_back(&mut self, priority: i32, id: StreamId) {
        self.level(priority).push_back(id);
    }

    /// Puts a stream before the others of its priority: its turn was taken from it.
    pub(super) fn push_front(&mut self, priority: i32, id: StreamId) {
        self.level(priority).push_front(id);
    }

    /// Takes out the stream whose turn it is.
    pub(super) fn pop(&mut self) -> Option<StreamId> {
        let index = self.levels.iter().position(|level| !level.streams.is_empty())?;
        let id = self.levels[index].streams.pop_front();
        self.tidy(index);
        id
    }

    /// Takes out a stream that waits with `priority`. Looks at all who do.
    pub(super) fn remove(&mut self, priority: i32, id: StreamId) {
        let Ok(index) = self.find(priority) else { return };
        let streams = &mut self.levels[index].streams;
        if let Some(at) = streams.iter().position(|&waiting| waiting == id) {
            streams.remove(at);
        }
        self.tidy(index);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.levels.iter().map(|level| level.streams.len()).sum()
    }

    fn find(&self, priority: i32) -> Result<usize, usize> {
        self.levels.binary_search_by(|level| priority.cmp(&level.priority))
    }

    fn level(&mut self, priority: i32) -> &mut VecDeque<StreamId> {
        let index = match self.find(priority) {
            Ok(index) => index,
            Err(index) => {
                self.levels.reserve_exact(1);
                self.levels.insert(index, Level { priority, streams: VecDeque::new() });
                index
            }
        };
        &mut self.levels[index].streams
    }

    fn tidy(&mut self, index: usize) {
        if self.levels.len() > KEPT_LEVELS && self.levels[index].streams.is_empty() {
            self.levels.remove(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::side::Side;
    use crate::stream_id::Direction;

    fn id(index: u64) -> StreamId {
        StreamId::new(Side::Client, Direction::Uni, index).unwrap()
    }

    proptest! {
        /// Against a list that is searched: strict between levels, in turn within one, and few levels are kept.
        #[test]
        fn turns_go_by_priority_and_then_in_order(steps in prop::collection::vec((0u8..6, -20i32..20), 1..200)) {
            let mut turns = Turns::default();
            let mut model: Vec<(i32, StreamId)> = Vec::new();
            for (index, (verb, priority)) in steps.into_iter().enumerate() {
                let new = id(index as u64);
                match verb {
                    0..3 => {
                        turns.push_back(priority, new);
                        model.push((priority, new));
                    }
                    3 => {
                        turns.push_front(priority, new);
                        model.insert(0, (priority, new));
                    }
                    4 => {
                        let highest = model.iter().map(|(priority, _)| *priority).max();
                        let next = model.iter().position(|(priority, _)| Some(*priority) == highest);
                        prop_assert_eq!(turns.pop(), next.map(|at| model.remove(at).1));
                    }
                    _ => {
                        if !model.is_empty() {
                            let (priority, gone) = model.remove(index % model.len());
                            turns.remove(priority, gone);
                        }
                    }
                }
                prop_assert_eq!(turns.len(), model.len());
                prop_assert_eq!(turns.highest(), model.iter().map(|(priority, _)| *priority).max());
                prop_assert_eq!(turns.is_empty(), model.is_empty());
                let empty = turns.levels.iter().filter(|level| level.streams.is_empty()).count();
                prop_assert!(empty <= KEPT_LEVELS);
            }
        }
    }
}
