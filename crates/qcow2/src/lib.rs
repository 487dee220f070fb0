//! The qcow2 image format: virtual disks that take only the space they need, with backing files and compression.
//!
//! [`Qcow2Driver`] is a format driver for [`qemu_block`]: register it, and images can be created, opened, read, written,
//! resized and checked through nodes. It does no system calls of its own and has no unsafe code; all I/O goes to
//! the node that stores the image, which may be a file, a device, or a disk in memory.
//!
//! ```text
//!   guest offset        bits of it, from the top
//!   ┌──────────┬──────────┬────────────────┐
//!   │ L1 index │ L2 index │ byte in cluster│
//!   └────┬─────┴────┬─────┴───────┬────────┘
//!        ▼          │             │
//!    L1 table       ▼             │
//!   ┌────────┐   L2 table         ▼
//!   │   …    │  ┌────────┐    host cluster
//!   │ entry ─┼─►│   …    │   ┌────────────┐
//!   │   …    │  │ entry ─┼──►│  the data  │   or: zeros, compressed data, nothing (the backing file decides)
//!   └────────┘  └────────┘   └────────────┘
//! ```
//!
//! How often each host cluster is used is counted in refcount blocks, which the refcount table names.
//!
//! # Examples
//!
//! Making an image, and writing to it, on the [`AioContext`](qemu_util::aio::AioContext). The image is in memory here;
//! a path in place of `mem:disk` makes it a file.
//!
//! ```
//! # use std::sync::Arc;
//! # use qemu_block::{aio::Services, mem::MemDriver};
//! use qcow2::Qcow2Driver;
//! use qemu_block::options::{Options, check_create_options};
//! use qemu_block::registry::{OpenContext, OpenSpec, Registry};
//! use qemu_block::types::{CheckFixes, OpenFlags, WriteFlags};
//! use qemu_util::{aio::AioContext, buf::IoBuf};
//!
//! let mut registry = Registry::new(Services::new());
//! registry.register(Arc::new(Qcow2Driver));
//! # registry.register(Arc::new(MemDriver::new()));
//! let context = OpenContext::new(Arc::new(registry));
//! let work = async {
//!     let schema = context.create_schema("qcow2", Some("mem:disk"))?;
//!     let options = Options::parse_keyval("size=1T,cluster_size=4k", None)?;
//!     context.create("qcow2", "mem:disk", check_create_options(&schema, &options)?).await?;
//!
//!     let spec = OpenSpec::file("mem:disk").with_driver(Some("qcow2")).with_flags(OpenFlags::WRITE);
//!     let node = context.open(spec).await?;
//!     node.write(1 << 39, IoBuf::copy_of(b"hello").into(), WriteFlags::empty()).await?;
//!     assert_eq!(&node.read_bytes((1 << 39) - 1, 7).await?[..], b"\0hello\0");
//!
//!     let report = node.check(CheckFixes::Nothing).await?;
//!     assert_eq!((report.corruptions, report.leaks, report.allocated_clusters), (0, 0, 1));
//!     // Closing writes the metadata back, and can fail.
//!     node.close().await
//! };
//! AioContext::new()?.block_on(work)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A snapshot, on tokio: any runtime can drive the futures.
//!
//! ```
//! # use std::sync::Arc;
//! # use qcow2::Qcow2Driver;
//! # use qemu_block::{aio::Services, mem::MemDriver};
//! # use qemu_block::options::{Options, check_create_options};
//! # use qemu_block::registry::{OpenContext, OpenSpec, Registry};
//! use qemu_block::manage::{NewSnapshot, SnapshotSelector};
//! use qemu_block::types::{CheckFixes, OpenFlags, WriteFlags};
//! use qemu_util::buf::IoBuf;
//!
//! # let mut registry = Registry::new(Services::new());
//! # registry.register(Arc::new(Qcow2Driver));
//! # registry.register(Arc::new(MemDriver::new()));
//! # let context = OpenContext::new(Arc::new(registry));
//! let work = async {
//! #   let schema = context.create_schema("qcow2", Some("mem:disk"))?;
//! #   let options = Options::parse_keyval("size=1M", None)?;
//! #   context.create("qcow2", "mem:disk", check_create_options(&schema, &options)?).await?;
//!     let spec = OpenSpec::file("mem:disk").with_driver(Some("qcow2")).with_flags(OpenFlags::WRITE);
//!     let node = context.open(spec).await?;
//!     node.write(0, IoBuf::copy_of(b"before").into(), WriteFlags::empty()).await?;
//!     let snapshots = node.snapshots().expect("qcow2 has them");
//!     let first = snapshots.create(NewSnapshot { name: "first".to_owned(), ..NewSnapshot::default() }).await?;
//!     node.write(0, IoBuf::copy_of(b"after!").into(), WriteFlags::empty()).await?;
//!     snapshots.apply(&SnapshotSelector::Any(first.id)).await?;
//!     assert_eq!(&node.read_bytes(0, 6).await?[..], b"before");
//!
//!     let repaired = node.check(CheckFixes::All).await?;
//!     assert_eq!((repaired.corruptions, repaired.leaks, repaired.leaks_fixed), (0, 0, 0));
//!     node.close().await
//! };
//! tokio::runtime::Builder::new_current_thread().build()?.block_on(work)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Contract
//!
//! - The futures of writes, discards, resizes, flushes and closes should be driven to completion. Dropping one is memory
//!   safe and never corrupts the image on disk, but its I/O may still be under way. If that was guest data, no
//!   cluster is used a second time until the image is opened again; if it was metadata, further writes, flushes and the
//!   close fail. Reads can be dropped at will.
//! - What a completed flush covers survives a power cut. What came later may or may not; at worst clusters leak.
//! - When corruption is found while writing, the image is marked and refuses writes; so are flush and close refused, after
//!   the nodes below were closed, because metadata in memory is not written any more.
//! - Nothing in an image makes this crate panic, or use memory or time that the image's real size does not justify.
//!
//! # Modules
//!
//! | module | concept |
//! |---|---|
//! | [`units`], [`limits`], [`mod@error`] | offsets, clusters and counts as types; every maximum; what can be wrong |
//! | [`mod@format`] | bytes on disk to validated values and back, without I/O |
//! | [`stream`] | images that are written front to back, for pipes |
//! | `create`, `open`, `info`, `measure` | making images, opening them, telling about them, and how large they will be |
//! | `image`, `health` | an open image; whether it may still be written |
//! | `header_update` | replacing the header of an open image |
//! | `meta`, `cache` | what the metadata lock protects; tables in memory, and the order in which they are written |
//! | `map` | from guest clusters to host clusters |
//! | `alloc` | refcounts, free clusters, and clusters that wait until they may be used again |
//! | `overlap` | where metadata is, so that nothing else is written there |
//! | `io` | requests: read, write, zero, discard, compressed clusters, resize, flush, close |
//! | `encryption` | unlocking encrypted images, their key slots |
//! | `compress` | deflate and Zstandard |
//! | `amend` | changing properties of an image that exists |
//! | `check`, `repair` | the consistency check, and repairing what it finds |
//! | `snapshots` | internal snapshots |
//! | `bitmaps` | persistent dirty bitmaps: reading, tracking, storing |
//!
//! # Supported
//!
//! Versions 2 and 3; clusters of 512 bytes to 2 MiB; refcounts of 1 to 64 bits; backing files; compressed clusters, zlib
//! and zstd; extended L2 entries; guest data in an external data file; preallocation; zero clusters; growing and shrinking;
//! encryption with LUKS and with the legacy AES; internal snapshots, which are made, listed, applied, deleted and read;
//! persistent bitmaps; lazy refcounts; amending; repair of damaged images, which dirty ones get before they are written.
//!
//! QEMU: block/qcow2*.c; the format is specified in its docs/interop/qcow2.
#![forbid(unsafe_code)]

mod alloc;
mod amend;
mod bitmaps;
mod cache;
mod check;
mod compress;
mod create;
mod driver;
mod encryption;
pub mod error;
pub mod format;
mod header_update;
mod health;
mod image;
mod info;
pub mod inspect;
mod io;
pub mod limits;
mod map;
mod measure;
mod meta;
mod open;
mod overlap;
mod repair;
mod snapshots;
pub mod units;

pub use create::stream;
pub use driver::Qcow2Driver;
