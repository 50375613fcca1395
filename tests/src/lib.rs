//! What the scenarios in `tests/` share: [`world`] sets up both ends in a simulation, [`hand`] is a peer made by hand that can
//! break every rule, [`attack`] is a server that such peers attack, [`hosts`] are hosts of a network that falls apart, [`seeds`]
//! runs many simulations, [`reference`](mod@reference) is another stack beside ours.

pub mod attack;
pub mod attacker;
pub mod hand;
pub mod heap;
pub mod hosts;
pub mod reference;
pub mod seeds;
pub mod world;

/// The README's code compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
