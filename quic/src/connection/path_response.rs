//! Answers to PATH_CHALLENGE (RFC 9000 8.2.2).
//!
//! Invariant: at most [`MAX_ANSWERS`] are owed; older challenges are forgotten, and their sender asks again.

use crate::token::Token;
use crate::wire::FrameWriter;
use crate::wire::frame::{PathChallenge, PathResponse};

/// More challenges than this at once come from no honest peer (CVE-2023-49295).
const MAX_ANSWERS: usize = 3;

/// Answers owed, the oldest first.
#[derive(Default)]
pub(crate) struct PathResponses {
    data: [[u8; 8]; MAX_ANSWERS],
    len: u8,
}

impl PathResponses {
    pub(crate) fn on_challenge(&mut self, challenge: PathChallenge) {
        if usize::from(self.len) == MAX_ANSWERS {
            self.pop_front();
        }
        self.data[usize::from(self.len)] = challenge.0;
        self.len += 1;
    }

    pub(crate) fn has_pending(&self) -> bool {
        self.len > 0
    }

    /// Says whether an answer was written: such a datagram is to be padded.
    pub(crate) fn write_frames(&mut self, out: &mut FrameWriter<'_>) -> bool {
        let mut written = false;
        while self.len > 0 && out.frame(&PathResponse(self.data[0]), Token::PathResponse) {
            self.pop_front();
            written = true;
        }
        written
    }

    fn pop_front(&mut self) {
        self.data.rotate_left(1);
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_leaves_three() {
        let mut responses = PathResponses::default();
        (0..100u8).for_each(|n| responses.on_challenge(PathChallenge([n; 8])));
        assert_eq!((responses.data, responses.len), ([[97; 8], [98; 8], [99; 8]], 3));
    }
}
