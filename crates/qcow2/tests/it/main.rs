//! Integration tests of the qcow2 driver against the reference `qemu-img`.

mod check;
mod create;
mod format;
mod support;
