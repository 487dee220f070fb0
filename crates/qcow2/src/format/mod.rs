//! Bytes of an image to values and back: no I/O, no `async`, and no panic on any input.
//!
//! | module | structure |
//! |---|---|
//! | [`header`] | the header and all that shares the first cluster with it |
//! | [`transition`] | from one header to the next, in writes that a power cut may separate |
//! | [`features`] | feature words and the feature name table |
//! | [`extension`] | header extensions |
//! | [`encryption`] | the method of encryption, and where its header is |
//! | [`l1`], [`l2`], [`subclusters`] | entries of the mapping tables |
//! | [`refcount`] | entries of the refcount table, counts in a refcount block |
//! | [`snapshot`] | entries of the snapshot table |
//! | [`bitmap`] | the bitmaps extension and entries of the bitmap directory |
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::arithmetic_side_effects)
)]

pub mod bitmap;
pub mod encryption;
pub mod extension;
pub mod features;
pub mod header;
pub mod l1;
pub mod l2;
pub mod refcount;
pub mod snapshot;
pub mod subclusters;
pub mod transition;

mod bytes;
