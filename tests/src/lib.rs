//! What the scenarios in `tests/` share: [`world`] sets up both ends in a simulation, [`hand`] is a peer made by hand that can
//! break every rule, [`attack`] is a server that such peers attack, [`hosts`] are hosts of a network that falls apart, [`networks`]
//! are networks drawn from seeds, [`seeds`] runs many simulations, [`tls_state`] counts what handshakes hold, [`trace_file`] tells people what a network did, and
//! [`reference`](mod@reference) is another stack beside ours.

pub mod attack;
pub mod attacker;
pub mod hand;
pub mod heap;
pub mod hosts;
pub mod networks;
pub mod reference;
pub mod seeds;
pub mod tls_state;
pub mod trace_file;
pub mod world;

/// The README's code compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
