//! How short the memory is that all connections share, as far as one of them has to know.

/// How short memory is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// There is enough.
    #[default]
    None,
    /// Three quarters are held: clients whose address is not known are not let in.
    High,
    /// Nothing is left: streams take no more than 2 KiB each from their writers, until it has become better, datagrams that nobody
    /// has read are dropped, and nobody is let in.
    Full,
}
