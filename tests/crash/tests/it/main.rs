//! Power cuts: what is flushed stays, nothing is ever damaged, and nobody sees what was written somewhere else.

#![forbid(unsafe_code)]

mod harness;
mod power_cuts;
