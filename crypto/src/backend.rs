//! The library that computes: what this crate uses of it, by one set of names.
//!
//! Owns the choice of the library, and the few calls that are not the same in each. No other file names one. What is done with a
//! key or a digest is the business of the file that asks for it.

#[cfg(feature = "aws-lc-rs")]
mod aws_lc;
// Tests look at it with either library.
#[cfg(any(test, not(feature = "aws-lc-rs")))]
mod hybrid;
#[cfg(not(feature = "aws-lc-rs"))]
mod ring;

// With both features it is aws-lc-rs: features add up over all the crates of a build, and one that is added must not change what the
// others compute with.
#[cfg(feature = "aws-lc-rs")]
pub(crate) use aws_lc::*;
#[cfg(not(feature = "aws-lc-rs"))]
pub(crate) use ring::*;
