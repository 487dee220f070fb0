//! End-to-end tests: our `qemu-img`, the reference `qemu-img` as the judge, real images.
//!
//! | module | claim |
//! |---|---|
//! | `cloud` | realistic images convert to every target, are the same, and are no larger than the reference makes them |
//! | `options` | every option of `convert` does what it says |
//! | `consumers` | what known programs run gives what they expect, and their parsers understand it |
//! | `dd` | pipes, snapshots and outputs that exist |
//! | `trace` | `--trace` speaks as the reference's log does |
//! | `twins` | both programs say and return the same for the same command line |
//! | `qemu_io` | both programs of that name do the same for the same commands, and read what the other one wrote |
//! | `differential` | so they do for every option of every command, for pairs of options and for every mistake; the images that they leave are the same |
//! | `bad_input` | wrong input gives one clear line, and no target that looks finished |
//! | `damage` | an image that lost a part, or whose tables lie, is an error and never zeros |
//! | `space` | a target that cannot be written is an error and leaves nothing |
//! | `strict` | names inside images are followed only if that is allowed, and the process confines itself |
//! | `process` | locks, signals, closed pipes |
//! | `threads` | few threads are enough, and no other process is ever made |
//! | `model` | random operations on qcow2 nodes against an array of bytes |
//! | `embedding` | the crates without the command: nodes run under any executor |
//! | `huge` | disks and tables that are mostly empty cost next to nothing |
//! | `checksum` | the digest that `convert` prints is that of the raw content |
//! | `atomic` | a target appears, or is replaced, only as a whole |
//! | `pipes` | `-` is standard input or output, and what comes out is an image |
//! | `progress` | `--progress=json`, and what `-p` shows without it |
//! | `error_json` | `--error-format=json`: every failure is an object with a stable code |
//! | `signals` | real signals at any time leave nothing that looks complete, and what was there consistent |
//! | `faults` | whatever request to the storage fails, the image stays consistent and the error is told |

#![forbid(unsafe_code)]

mod atomic;
mod bad_input;
mod checksum;
mod cloud;
mod consumers;
mod damage;
mod dd;
mod differential;
mod embedding;
mod error_json;
mod faults;
mod fixture;
mod huge;
mod model;
mod options;
mod pipes;
mod process;
mod progress;
mod qemu_io;
mod side_by_side;
mod signals;
mod space;
mod strict;
mod threads;
mod trace;
mod twins;
