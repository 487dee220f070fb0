//! What power cuts and failing storage leave of an image: every state is enumerated, and every state is judged.
//!
//! ```text
//! shape, seed ─► plan     what requests are made, of what kind of image
//!             ─► session  makes them; disks in memory record what reaches them
//!             ─► states   every state in which a power cut can leave the disks
//!             ─► judge    our check, the reference's check, each sector of the guest's disk, a life afterwards
//! ```
//!
//! | module | idea |
//! |---|---|
//! | [`sector`] | sectors that say who wrote them, and where |
//! | [`guest`] | what may be seen after a power cut |
//! | [`shape`], [`action`] | kinds of images, and what is done to them |
//! | [`executor`] | several requests at a time, in an order that follows from a seed |
//! | [`bench`](mod@bench), [`session`], [`look`](mod@look) | disks and nodes; a recorded session; looking at what is left |
//! | [`states`], [`judge`] | enumerating states, and judging them |
//! | [`faults`] | sessions in which a request to the disk fails |
//! | [`chains`] | images over backing files, and what they show, for the command lines |
//! | [`commands`] | command lines run in this process, with a request to a disk failing, or cut by a power cut |
//! | [`campaign`] | which sessions there are |
//! | [`rng`] | randomness from seeds |

#![forbid(unsafe_code)]

pub mod action;
pub mod bench;
pub mod campaign;
pub mod chains;
pub mod commands;
pub mod executor;
pub mod faults;
pub mod guest;
pub mod judge;
pub mod look;
pub mod rng;
pub mod sector;
pub mod session;
pub mod shape;
pub mod states;
