//! What programs that use `qemu-img` run, and how they read what it says.
//!
//! [`replay`] gives the command lines of twelve consumers to both programs; [`parsers`] has the patterns by which they
//! read versions, help, progress, results and errors, and applies them to ours.

mod parsers;
mod replay;
