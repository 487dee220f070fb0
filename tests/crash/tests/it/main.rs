//! Power cuts and failing storage: what is flushed stays, nothing is ever damaged, and nobody sees what was written
//! somewhere else.

#![forbid(unsafe_code)]

mod chains;
mod commands;
mod faults;
mod harness;
mod power_cuts;
mod reference_defects;
mod upkeep;
