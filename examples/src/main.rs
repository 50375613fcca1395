//! The `weald` program.
fn main() {}
