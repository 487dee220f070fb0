//! The driver against real servers, and against servers that a test makes up.

mod extents;
mod fake;
mod hostile;
mod lost;
mod names;
mod real;
mod support;
mod threads;
