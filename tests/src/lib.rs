//! What the scenarios in `tests/` share: [`world`] sets up both ends in a simulation, [`hand`] is a client made by hand that
//! can break every rule.

pub mod hand;
pub mod world;
