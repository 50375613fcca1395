//! Answers to PATH_CHALLENGE (RFC 9000 8.2.2).
//!
//! Invariant: at most [`MAX_ANSWERS`] are owed; older challenges are forgotten, and their sender asks again.

use std::collections::VecDeque;

use crate::token::Token;
use crate::wire::FrameWriter;
use crate::wire::frame::{PathChallenge, PathResponse};

/// More challenges than this at once come from no honest peer (CVE-2023-49295).
const MAX_ANSWERS: usize = 3;

/// Answers owed.
#[derive(Default)]
pub(crate) struct PathResponses(VecDeque<[u8; 8]>);

impl PathResponses {
    pub(crate) fn on_challenge(&mut self, challenge: PathChallenge) {
        if self.0.len() == MAX_ANSWERS {
            self.0.pop_front();
        }
        self.0.push_back(challenge.0);
    }

    pub(crate) fn has_pending(&self) -> bool {
        !self.0.is_empty()
    }

    /// Says whether an answer was written: such a datagram is to be padded.
    pub(crate) fn write_frames(&mut self, out: &mut FrameWriter<'_>) -> bool {
        let mut written = false;
        while let Some(data) = self.0.front() {
            if !out.frame(&PathResponse(*data), Token::PathResponse) {
                break;
            }
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
        (0..100u8).for_each(|n| responses.on_challenge(PathChallenge([n; 8])));
        assert_eq!(responses.0, [[97; 8], [98; 8], [99; 8]]);
    }
}
