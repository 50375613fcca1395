//! Weald.
pub mod channel;
mod park;
mod primitive;
mod spin_lock;
pub mod sync;
pub mod time;
mod wait_list;
