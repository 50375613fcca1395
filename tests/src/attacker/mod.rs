//! A peer that breaks every rule it likes, client or server, made of `weald-quic`'s own codec.
//!
//! [`Attacker`] shares the codec with the crate under test, and nothing else of it: no recovery, no flow control, no state machine. TLS
//! and packet keys are those of `weald-crypto`. `crate::hand` is the other peer by hand, which shares no codec either;
//! `tests/attack/codecs.rs` holds the two against each other.
//!
//! [`under_attack`] is where it is let loose: a server that an honest client uses all along.
//!
//! ```
//! use weald_quic::codec::MaxData;
//! use weald_tests::attacker::{Kind, Setup, Stage, under_attack};
//!
//! under_attack("a lesser limit changes nothing", 1, Setup::new(1), |arena| {
//!     let mut attacker = arena.client(1);
//!     attacker.handshake(Stage::Confirmed);
//!     attacker.packet(Kind::OneRtt).frame(&MaxData { limit: 0 }).send();
//!     attacker.expect_alive();
//! });
//! ```

mod acks;
mod oracle;
mod packets;
mod peer;

pub use acks::AckPolicy;
pub use oracle::{Application, Arena, Setup, client_under_attack, under_attack};
pub use packets::PacketBuilder;
pub use peer::{Attacker, Closed, Ended, Ids, Seen, SeenPacket, Stage};
/// The types of packets.
pub use weald_quic::codec::PacketType as Kind;
