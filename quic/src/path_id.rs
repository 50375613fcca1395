//! What names a path within its connection.

/// A path of a connection, numbered from zero in the order in which paths came up; numbers are not used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PathId(u32);

impl PathId {
    /// The path of the handshake.
    pub(crate) const FIRST: PathId = PathId(0);
}
