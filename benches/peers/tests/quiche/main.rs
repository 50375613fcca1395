//! Weald beside quiche, in both roles, over real sockets. What a test asks for is read off both ends, so that none passes because nothing
//! happened.
//!
//! quiche's TLS is BoringSSL, whose implementation of the handshake, of tickets and of X25519MLKEM768 shares nothing with the one that
//! Weald has in common with quinn.

mod groups;
mod quiche_side;
mod sessions;
mod sides;
mod transfers;
mod versions;
