//! Weald beside quinn, in both roles. What a test asks for is read off both ends' statistics, so that none passes because nothing
//! happened.

mod addresses;
mod closing;
mod datagrams;
mod early_data;
mod files;
mod groups;
mod keys;
mod observed;
mod sides;
