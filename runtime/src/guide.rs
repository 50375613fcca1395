//! The guide: how to think of coroutines, what to look out for, how to come here from elsewhere, how to test and to look inside.
//!
//! | page | for whom |
//! |-|-|
//! | [`concepts`] | everybody: coroutines, workers, parking, stacks, errors and ends, select, deadlines |
//! | [`pitfalls`] | everybody who ships: what compiles, and is wrong in a coroutine |
//! | [`porting`] | those who come from std's threads, from may, or from tokio |
//! | [`simulation`] | those who test: virtual time, a network that fails, many seeds, models |
//! | [`insight`] | those who ask what a program does right now: dump, watchdog, metrics, gdb, perf |
//! | [`chat`], [`udp_echo`] | those who want to read a whole program |
//!
//! These modules have no items: their documentation is what they own.

#[doc = include_str!("guide/concepts.md")]
pub mod concepts {}

#[doc = include_str!("guide/pitfalls.md")]
pub mod pitfalls {}

#[doc = include_str!("guide/porting.md")]
pub mod porting {}

#[doc = include_str!("guide/simulation.md")]
pub mod simulation {}

#[doc = include_str!("guide/insight.md")]
pub mod insight {}

/// A chat server over TCP: one coroutine reads each client's lines, another writes what the others said.
///
/// What to see in it:
///
/// - `scope`: the coroutines borrow the room and the stream, and none of them is left when `serve` returns.
/// - Bounded queues with `try_send`: one who reads slowly is put out instead of holding up the rest.
/// - Cancellation: blocking calls return its error, in the server and in all that its scope has spawned, so that readers leave by the way
///   that they leave by at the end of a connection. `shield` lets the writers deliver what is queued.
/// - Time-outs of the stream on both sides: one who is gone without a word is noticed by his silence.
///
/// Weald's own tests (`tests/tests/chat.rs` in its repository) run it under [`sim::explore`](crate::sim::explore), on a network that loses
/// segments and falls apart: nothing that was said is lost among those who stay, each speaker's lines keep their order, who
/// is cut off for long is missed and may come back, and who does not read holds up nobody.
///
/// ```no_run
#[doc = include_str!("guide/chat.rs")]
/// ```
pub mod chat {}

/// UDP echo: a server, and a client that asks again until it is answered.
///
/// UDP loses, repeats and reorders, so the client numbers its questions, repeats them with growing pauses, and passes over what
/// answers another one. Weald's own tests run both over a simulated network that does all of this.
///
/// ```no_run
#[doc = include_str!("guide/udp_echo.rs")]
/// ```
pub mod udp_echo {}
