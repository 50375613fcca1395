//! Inputs that have brought other stacks down, against whole endpoints: no panic, no hang; memory and work stay bounded; the offender is
//! told the right code; nobody else notices. One file a family; each attack comes in two variants at least, and each defence has a patch
//! in `tests/guards` that takes it out: `table` says which belongs to which.

mod acks;
mod admission;
mod codecs;
mod connections;
mod crypto;
mod ecn;
mod forgeries;
mod frames;
mod h3spec;
mod handshakes;
mod ids;
mod key_exchange;
mod limits;
mod observers;
mod parsing;
mod peers;
mod qpack;
mod samples;
mod streams;
mod table;
mod tickets;
mod tokens;
mod zero_rtt;

/// What an attack costs is counted.
#[global_allocator]
static HEAP: weald_tests::heap::Counting = weald_tests::heap::Counting;
