//! HTTP/3 (RFC 9114) with blocking calls, on Weald's QUIC.
//!
//! A request is served by a plain function on its own coroutine; messages are the types of the [`http`] crate; bodies are [`Read`] and
//! [`Write`], or chunks that were never copied. Field sections use the static table, literals and the Huffman code of QPACK (RFC 9204);
//! the dynamic table is announced with capacity 0, so no request ever waits for another's headers. Server push is neither sent nor asked
//! for.
//!
//! ```no_run
//! use http::Response;
//! use weald_http3::{Config, server};
//!
//! # fn serve(endpoint: weald_quic::Endpoint) {
//! server::serve(&endpoint, Config::default(), |request, responder| {
//!     let greeting = format!("You asked for {}\n", request.uri().path());
//!     responder.send_with_body(Response::new(()), greeting)
//! });
//! # }
//! ```
//!
//! [`Read`]: std::io::Read
//! [`Write`]: std::io::Write
#![forbid(unsafe_code)]

mod body;
pub mod client;
mod connection;
mod error;
mod exchange;
mod frame;
#[cfg(fuzzing)]
pub mod fuzzing;
mod headers;
mod qpack;
mod reader;
pub mod server;
mod settings;

pub use body::{RecvBody, SendBody};
pub use client::Client;
pub use connection::{Config, DEFAULT_MAX_FIELD_SECTION_SIZE};
pub use error::{Code, Error};

/// The ALPN token of HTTP/3 (RFC 9114 section 3.1).
pub const ALPN: &[u8] = b"h3";
