//! Which end of a connection one is.

use std::fmt;
use std::ops::Not;

/// An end of a connection. `!side` is the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The end that sent the first packet.
    Client,
    /// The end that answered it.
    Server,
}

impl Side {
    /// Whether this is the end that sent the first packet.
    pub const fn is_client(self) -> bool {
        matches!(self, Side::Client)
    }

    /// Whether this is the end that answered the first packet.
    pub const fn is_server(self) -> bool {
        matches!(self, Side::Server)
    }
}

impl Not for Side {
    type Output = Side;

    fn not(self) -> Side {
        match self {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Client => "client",
            Side::Server => "server",
        })
    }
}
