//! The streams of a connection.

mod reassembly;
