//! Measurements of Weald beside its peers.
//!
//! Every comparison alternates the sides in one run and is told as a ratio: machines are shared, and absolute figures of different
//! runs say nothing about each other.

pub mod handshake;
mod process;
pub mod quic;
pub mod runtime;
pub mod stress;
