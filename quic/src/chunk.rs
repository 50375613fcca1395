//! Bytes on their way to the network: what a stream lends to a packet until it is sealed.

use std::ops::Deref;

use bytes::Bytes;

/// A piece of a stream's send buffer. Cloning it is a reference count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SendSlice(Bytes);

impl From<Bytes> for SendSlice {
    fn from(bytes: Bytes) -> SendSlice {
        SendSlice(bytes)
    }
}

impl Deref for SendSlice {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
