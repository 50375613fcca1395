//! How short that is which all connections share, as far as one of them, or a client who wants one, has to know.

/// How short memory is, or the processors' time for handshakes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// There is enough.
    #[default]
    None,
    /// Three quarters of memory are held, or a quarter of the steps wait that may: clients whose address is not known are not let in.
    High,
    /// Nothing is left, and nobody is let in. Where it is memory, streams take no more than 2 KiB each from their writers, until it has become better, and datagrams
    /// that nobody has read are dropped.
    Full,
}

/// What is short for a client that wants a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shortage {
    /// Memory for connections.
    pub memory: Pressure,
    /// Processors for the steps of handshakes.
    pub processors: Pressure,
}

impl Shortage {
    /// That of which there is least.
    pub fn worst(self) -> Pressure {
        self.memory.max(self.processors)
    }
}
