//! TCP, in std's words: [`TcpStream`] and [`TcpListener`].
//!
//! Owns the blocking calls and their limits. Does not own what a call does at once (`system`) nor readiness (`descriptor`).

mod listener;
mod stream;
mod system;

pub use self::listener::{Incoming, TcpListener};
pub use self::stream::TcpStream;

#[cfg(test)]
mod tests;
