//! Simulation: a program written on Weald, on one thread with virtual time and a simulated network.

pub(crate) mod network;

pub use self::network::{LinkConfig, Network, NetworkConfig, TraceEntry, Verdict};
