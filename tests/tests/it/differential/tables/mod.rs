//! The fifteen commands, as [`Table`](super::table::Table)s.
//!
//! Values that make a command slow have no place here: every line is run twice.

mod changes;
mod copies;
mod questions;

pub(super) use changes::{AMEND, BITMAP, COMMIT, REBASE, RESIZE, SNAPSHOT};
pub(super) use copies::{BENCH, CONVERT, CREATE, DD};
pub(super) use questions::{CHECK, COMPARE, INFO, MAP, MEASURE};
