//! Support for the end-to-end tests and for `cargo xtask`: programs to run, images to run them on.
//!
//! | module | idea |
//! |---|---|
//! | [`programs`] | which `qemu-img` is tested, and the reference tools that judge it |
//! | [`run`] | one run of a program: bounded in time, everything it said kept |
//! | [`words`] | command lines written as one string |
//! | [`cloud`] | a realistic disk image, in every form that people publish it in |
//! | [`sample`] | a small raw image that needs no tool to be made |
//! | [`files`] | comparing, measuring and copying image files |
//! | [`servers`] | NBD servers |
//!
//! The reference is the oracle: our own round trip proves nothing. A test that needs it fails when it is missing.

#![forbid(unsafe_code)]

pub mod cloud;
pub mod files;
pub mod programs;
pub mod run;
pub mod sample;
pub mod servers;
pub mod words;
