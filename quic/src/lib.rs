//! Weald.

#![forbid(unsafe_code)]

mod chunk;

pub use chunk::{Chunk, ChunkMut, Pool};
mod streams;
