//! Answers to PATH_CHALLENGE (RFC 9000 8.2.2).
//!
//! Invariant: as many are owed as [`ConnectionLimits::path_responses`](crate::ConnectionLimits) says at most; older challenges
//! are forgotten, and their sender asks again (CVE-2023-49295).

use std::collections::VecDeque;

use crate::token::Token;
use crate::wire::FrameWriter;
use crate::wire::frame::{PathChallenge, PathResponse};

/// Answers owed, the oldest first.
#[derive(Default)]
pub(crate) struct PathResponses(VecDeque<[u8; 8]>);

impl PathResponses {
    /// Owes an answer, and `limit` of them at most.
    pub(crate) fn on_challenge(&mut self, challenge: PathChallenge, limit: u8) {
        if self.0.len() >= limit.into() {
            self.0.pop_front();
        }
        self.0.push_back(challenge.0);
    }

    /// Bytes held outside of the value itself.
    pub(crate) fn memory(&self) -> usize {
        self.0.capacity() * size_of::<[u8; 8]>()
    }

    pub(crate) fn has_pending(&self) -> bool {
        !self.0.is_empty()
    }

    /// Says whether an answer was written: such a datagram is to be padded.
    pub(crate) fn write_frames(&mut self, out: &mut FrameWriter<'_>) -> bool {
        let mut written = false;
        while let Some(data) = self.0.front()
            && out.frame(&PathResponse(*data), Token::PathResponse)
        {
            self.0.pop_front();
            written = true;
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_leaves_three() {
        let mut responses = PathResponses::default();
        (0..100u8).for_each(|n| responses.on_challenge(PathChallenge([n; 8]), 3));
        assert_eq!(responses.0, [[97; 8], [98; 8], [99; 8]]);
    }
}
