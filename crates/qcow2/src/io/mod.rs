//! Requests on an open image. QEMU: block/qcow2.c.
//!
//! Each request locks its guest clusters (shared if the mapping stays, exclusively if it changes), looks the mapping up
//! or reserves clusters under the metadata lock, does its data I/O without that lock, and then links what is new. A
//! mapping is therefore visible only after its data is written, and requests for different clusters never wait for one
//! another's I/O.

mod close;
mod compressed;
mod copy;
mod cow;
pub(crate) mod crypt;
pub(crate) mod data;
mod discard;
mod expand;
mod fill;
mod read;
mod status;
mod truncate;
mod write;
mod zero;
mod zero_part;
