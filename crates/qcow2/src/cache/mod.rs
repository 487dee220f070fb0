//! Metadata in memory: what is kept, what is dirty, and in which order it reaches the disk.
//!
//! | module | holds |
//! |---|---|
//! | [`entry_table`] | the L1 table and the refcount table: arrays of 64-bit entries, loaded in chunks when needed |
//! | [`sizes`] | how much memory that takes, by the open options |
//! | [`slices`] | pieces of L2 tables and refcount blocks, bounded in number |
//! | [`mod@file`] | the image file, with every metadata write guarded against being given up |
//! | [`order`] | the write-back, which is where the order of writes is decided |
//!
//! Everything here lives behind the image's one metadata lock, so there are no states for concurrent loads.

pub(crate) mod entry_table;
pub(crate) mod file;
pub(crate) mod order;
pub(crate) mod sizes;
pub(crate) mod slices;
