//! TCP, in std's words: [`TcpStream`] and [`TcpListener`].
//!
//! Owns the blocking calls and their limits. Does not own what a call does at once (`system`, `simulated`, and `socket` over both) nor
//! readiness (`descriptor`).

mod listener;
mod simulated;
mod socket;
mod stream;
mod system;

pub use self::listener::{Incoming, TcpListener};
pub use self::stream::TcpStream;

#[cfg(test)]
mod simulation_tests;
#[cfg(test)]
mod tests;
