//! The library that computes: what this crate uses of it, by one set of names.
//!
//! Owns the choice of the library, and the few calls that are not the same in each. No other file names it. What is done with a
//! key or a digest is the business of the file that asks for it.

mod aws_lc;

pub(crate) use aws_lc::*;
