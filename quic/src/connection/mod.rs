//! A connection.

pub(crate) mod space;
pub(crate) mod timers;
