//! The buffer of an unbounded channel: a queue of segments.
//!
//! Growth never copies messages: a full segment stays where it is and a new one is appended. A drained segment is kept for
//! reuse, one a channel, so that a channel in steady state allocates nothing and one after a burst gives its memory back.

use std::{collections::VecDeque, mem};

/// Messages in order of arrival, without a limit.
pub(super) struct Segments<T> {
    /// Where messages leave.
    front: VecDeque<T>,
    /// Full segments between `front` and `back`, oldest first.
    middle: VecDeque<VecDeque<T>>,
    /// Where messages arrive once `front` is full.
    back: VecDeque<T>,
    len: usize,
}

impl<T> Segments<T> {
    /// Messages a segment: about a page, so that the allocation is spread over many small messages and a channel that
    /// carries a few large ones stays small.
    const SEGMENT: usize = {
        let fit = 4096 / if mem::size_of::<T>() == 0 { 1 } else { mem::size_of::<T>() };
        if fit < 4 {
            4
        } else if fit > 128 {
            128
        } else {
            fit
        }
    };

    pub(super) fn new() -> Self {
        Self { front: VecDeque::new(), middle: VecDeque::new(), back: VecDeque::new(), len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn push(&mut self, message: T) {
        // While everything is in `front` and it has room, it is the whole queue: a ring in the cache.
        let target = if self.len == self.front.len() && self.len < Self::SEGMENT {
            &mut self.front
        } else {
            if self.back.len() >= Self::SEGMENT {
                self.middle.push_back(mem::take(&mut self.back));
            }
            &mut self.back
        };
        if target.capacity() == 0 {
            target.reserve_exact(Self::SEGMENT);
        }
        target.push_back(message);
        self.len += 1;
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<T> {
        if self.len == 0 {
            return None;
        }
        if self.front.is_empty() {
            self.advance();
        }
        self.len -= 1;
        self.front.pop_front()
    }

    /// Puts back a message that had left.
    pub(super) fn restore(&mut self, message: T) {
        self.front.push_front(message);
        self.len += 1;
    }

    /// Makes the next segment the front. The drained one becomes the back, if that was moved up, or is freed.
    #[cold]
    fn advance(&mut self) {
        match self.middle.pop_front() {
            Some(next) => self.front = next,
            None => mem::swap(&mut self.front, &mut self.back),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_across_segments() {
        let mut random = fastrand::Rng::with_seed(0x5e65);
        let mut queue = Segments::new();
        let (mut pushed, mut popped) = (0u64, 0u64);
        for _ in 0..200 {
            for _ in 0..random.usize(..1000) {
                queue.push(pushed);
                pushed += 1;
            }
            for _ in 0..random.usize(..1000) {
                let expected = (popped < pushed).then_some(popped);
                assert_eq!(queue.pop(), expected);
                popped += u64::from(expected.is_some());
            }
            assert_eq!(queue.len() as u64, pushed - popped);
        }
    }

    #[test]
    fn a_restored_message_is_first() {
        let mut queue = Segments::new();
        (0..300).for_each(|message| queue.push(message));
        assert_eq!(queue.pop(), Some(0));
        queue.restore(0);
        for message in 0..300 {
            assert_eq!(queue.pop(), Some(message));
        }
        assert_eq!(queue.pop(), None);
    }

    #[test]
    fn a_short_queue_keeps_its_memory() {
        let mut queue = Segments::new();
        queue.push(0u64);
        let first = queue.front.as_slices().0.as_ptr();
        for message in 1..10_000 {
            queue.push(message);
            queue.pop();
        }
        let range = first as usize..first as usize + 128 * 8 + 8;
        assert!(range.contains(&(queue.front.as_slices().0.as_ptr() as usize)));
        assert_eq!(queue.back.capacity(), 0);
    }
}
