//! Filters over real files, with the reference as the judge.

mod compress;
mod copy_on_read;
mod preallocate;
mod support;
mod throttle;
