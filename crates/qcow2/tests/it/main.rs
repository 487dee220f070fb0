//! Integration tests of the qcow2 driver: against the reference `qemu-img`, and on disks in memory that fail.

mod bitmaps;
mod caches;
mod chains;
mod check;
mod concurrency;
mod costs;
mod create;
mod discard;
mod encryption;
mod format;
mod header_update;
mod hostile;
mod lazy;
mod hostile_images;
mod mem;
mod power_cut;
mod repair;
mod repair_random;
mod robust;
mod schedule;
mod snapshots;
mod rot;
mod subclusters;
mod support;
mod truncate;
