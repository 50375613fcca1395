//! The buffer of a channel: a queue of segments, with a limit or without.
//!
//! Does not own the decision that a sender parks; it only refuses what does not fit. Growth copies no messages beyond the first
//! segment, which doubles until it is one: a full segment stays where it is and the next one is begun. A drained segment is kept for
//! reuse, so that a channel in steady state allocates nothing and one after a burst gives its memory back.
//!
//! Invariants: what is in `older` was pushed before what is in `back`; no segment of `older` is empty; `end` never promises more
//! room than there is.

use std::{collections::VecDeque, mem};

/// Messages in order of arrival.
pub(super) struct Segments<T> {
    /// Where messages arrive.
    back: Vec<T>,
    /// `back` may grow to this length: what `push` need not look at again.
    end: usize,
    /// Where messages leave, the oldest segment first.
    older: VecDeque<VecDeque<T>>,
    /// Messages in `older`.
    older_len: usize,
    /// Messages that fit.
    limit: usize,
    /// Messages, at most, that were [taken as a batch](Self::take_batch) and count as if they were here.
    away: usize,
    /// An empty segment.
    spare: Vec<T>,
}

impl<T> Segments<T> {
    /// Messages a segment: about a page, so that what is done once a segment is spread over many small messages and a channel that
    /// carries a few large ones stays small.
    const SEGMENT: usize = {
        let fit = 4096 / if mem::size_of::<T>() == 0 { 1 } else { mem::size_of::<T>() };
        if fit < 4 {
            4
        } else if fit > 512 {
            512
        } else {
            fit
        }
    };

    /// An empty queue for `limit` messages.
    pub(super) fn new(limit: usize) -> Self {
        Self { back: Vec::new(), end: 0, older: VecDeque::new(), older_len: 0, limit, away: 0, spare: Vec::new() }
    }

    /// Messages here; those of a batch do not count.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.older_len + self.back.len()
    }

    /// Whether no message fits. A batch does not count.
    pub(super) fn is_full(&self) -> bool {
        self.len() >= self.limit
    }

    /// Appends, or gives the message back if it does not fit.
    #[inline(always)]
    pub(super) fn push(&mut self, message: T) -> Result<(), T> {
        if self.back.len() < self.end {
            self.back.push(message);
            return Ok(());
        }
        self.push_after_look(message)
    }

    #[inline(never)]
    fn push_after_look(&mut self, message: T) -> Result<(), T> {
        let room = self.limit.saturating_sub(self.away).saturating_sub(self.len());
        if room == 0 {
            return Err(message);
        }
        if self.back.len() >= Self::SEGMENT {
            self.end_segment();
            if self.back.capacity() == 0 {
                self.back.reserve_exact(Self::SEGMENT);
            }
        }
        self.end = Self::SEGMENT.min(self.back.len().saturating_add(room));
        self.back.push(message);
        Ok(())
    }

    /// Takes the oldest message.
    pub(super) fn pop(&mut self) -> Option<T> {
        if self.older.is_empty() {
            if self.back.len() < 2 {
                return self.back.pop();
            }
            self.end_segment();
        }
        let front = self.older.front_mut()?;
        let message = front.pop_front();
        self.older_len -= 1;
        if front.is_empty()
            && let Some(drained) = self.older.pop_front()
        {
            self.keep(drained);
        }
        message
    }

    /// Takes the oldest messages, as many as are in a segment, into `batch`, which is empty. They count as being here until
    /// [`batch_is_back`](Self::batch_is_back).
    pub(super) fn take_batch(&mut self, batch: &mut VecDeque<T>) {
        self.keep(mem::take(batch));
        if self.older.is_empty() {
            self.end_segment();
        }
        if let Some(front) = self.older.pop_front() {
            *batch = front;
            self.older_len -= batch.len();
        }
        self.away = batch.len();
    }

    /// Puts what is left of the batch back to where it was taken.
    pub(super) fn put_back(&mut self, batch: &mut VecDeque<T>) {
        if !batch.is_empty() {
            self.older_len += batch.len();
            self.older.push_front(mem::take(batch));
        }
        self.batch_is_back();
    }

    /// There is no batch any more: all places are free that no message here takes.
    #[inline]
    pub(super) fn batch_is_back(&mut self) {
        self.away = 0;
    }

    /// Puts back a message that had left. May exceed the limit by as many as were handed out at once. There is no batch.
    pub(super) fn restore(&mut self, message: T) {
        if self.older.is_empty() {
            self.older.push_front(VecDeque::new());
        }
        if let Some(front) = self.older.front_mut() {
            front.push_front(message);
            self.older_len += 1;
        }
        self.end = 0;
    }

    /// Begins a new segment.
    fn end_segment(&mut self) {
        let ended = mem::replace(&mut self.back, mem::take(&mut self.spare));
        self.end = 0;
        if !ended.is_empty() {
            self.older_len += ended.len();
            self.older.push_back(ended.into());
        }
    }

    /// Keeps the larger one of two empty segments.
    fn keep(&mut self, drained: VecDeque<T>) {
        if drained.capacity() > self.spare.capacity() {
            self.spare = drained.into();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Miri takes a thousand times as long.
    const fn rounds(rounds: u64) -> u64 {
        if cfg!(miri) { rounds / 100 } else { rounds }
    }

    #[test]
    fn keeps_order_and_refuses_what_does_not_fit() {
        let mut queue = Segments::new(2);
        for round in 0..5 {
            assert_eq!(queue.push(round), Ok(()));
            assert_eq!(queue.push(round + 100), Ok(()));
            assert_eq!(queue.push(7), Err(7));
            assert_eq!(queue.pop(), Some(round));
            assert_eq!(queue.len(), 1);
            assert_eq!(queue.pop(), Some(round + 100));
            assert_eq!(queue.pop(), None);
        }
        assert_eq!(Segments::new(0).push(1), Err(1));
    }

    /// Against a plain queue: pushes, pops, batches that are emptied or put back, and restored messages, in any order.
    #[test]
    fn is_a_queue_whatever_is_taken_as_a_batch() {
        let mut random = fastrand::Rng::with_seed(0x5e65);
        for limit in [1, 2, 3, 700, usize::MAX] {
            let (mut queue, mut batch, mut expected) = (Segments::new(limit), VecDeque::new(), VecDeque::new());
            let mut next = 0_u64;
            for _ in 0..rounds(2_000) {
                match random.u8(..6) {
                    0 | 1 => {
                        for _ in 0..random.usize(..1_000) {
                            match queue.push(next) {
                                Ok(()) => expected.push_back(next),
                                Err(refused) => {
                                    assert_eq!(refused, next);
                                    assert!(queue.len() + queue.away >= limit);
                                    break;
                                }
                            }
                            next += 1;
                        }
                    }
                    2 if batch.is_empty() => {
                        queue.take_batch(&mut batch);
                        assert_eq!(batch.is_empty(), expected.is_empty());
                    }
                    3 => {
                        for _ in 0..random.usize(..1_000) {
                            let message = batch.pop_front().or_else(|| {
                                queue.batch_is_back();
                                queue.pop()
                            });
                            assert_eq!(message, expected.pop_front());
                        }
                    }
                    4 => queue.put_back(&mut batch),
                    _ if batch.is_empty() => {
                        queue.restore(next);
                        expected.push_front(next);
                        next += 1;
                    }
                    _ => {}
                }
                assert_eq!(queue.len() + batch.len(), expected.len());
                assert_eq!(queue.older_len, queue.older.iter().map(VecDeque::len).sum::<usize>());
            }
        }
    }

    #[test]
    fn all_places_are_free_again_when_a_batch_is_empty() {
        let (mut queue, mut batch) = (Segments::new(2), VecDeque::new());
        assert_eq!((queue.push(1), queue.push(2)), (Ok(()), Ok(())));
        queue.take_batch(&mut batch);
        assert_eq!(batch.drain(..).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(queue.push(3), Err(3), "nobody has said so yet");
        queue.put_back(&mut batch);
        assert_eq!((queue.push(3), queue.push(4), queue.push(5)), (Ok(()), Ok(()), Err(5)));
    }

    #[test]
    fn a_steady_queue_keeps_its_memory_and_a_burst_leaves_little() {
        let (mut queue, mut batch) = (Segments::new(usize::MAX), VecDeque::new());
        let segments = |queue: &Segments<u64>, batch: &VecDeque<u64>| {
            let mut addresses = [queue.back.as_ptr(), queue.spare.as_ptr(), batch.as_slices().0.as_ptr()];
            addresses.sort_unstable();
            addresses
        };
        let mut first = None;
        for message in 0..rounds(10_000) {
            assert_eq!((queue.push(message), queue.push(message)), (Ok(()), Ok(())));
            queue.take_batch(&mut batch);
            assert_eq!((batch.pop_front(), batch.pop_front()), (Some(message), Some(message)));
            if message > 1 {
                assert_eq!(*first.get_or_insert_with(|| segments(&queue, &batch)), segments(&queue, &batch));
            }
        }
        (0..rounds(100_000)).for_each(|message| assert_eq!(queue.push(message), Ok(())));
        while queue.pop().is_some() {}
        assert!(queue.older.is_empty());
        assert!(queue.back.capacity() + queue.spare.capacity() <= 2 * Segments::<u64>::SEGMENT);
    }
}
