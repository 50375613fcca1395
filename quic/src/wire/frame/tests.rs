//! Frames: round trips, known bytes, and what must be refused.
