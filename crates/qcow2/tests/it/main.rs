//! Integration tests of the qcow2 driver: against the reference `qemu-img`, and on disks in memory that fail.

mod bitmaps;
mod caches;
mod chains;
mod check;
mod concurrency;
mod costs;
mod create;
mod data_file;
mod discard;
mod encryption;
mod format;
mod header_update;
mod hostile;
mod hostile_images;
mod lazy;
mod mem;
mod power_cut;
mod repair;
mod repair_random;
mod robust;
mod rot;
mod schedule;
mod snapshots;
mod subclusters;
mod support;
mod truncate;
