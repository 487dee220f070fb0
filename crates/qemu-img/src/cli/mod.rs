//! From the words of a command line to what a command needs.

pub(crate) mod common;
pub(crate) mod getopt;
pub mod manual;
pub(crate) mod number;
pub(crate) mod object;
pub(crate) mod program;
pub(crate) mod shared;
pub(crate) mod snapshot;
