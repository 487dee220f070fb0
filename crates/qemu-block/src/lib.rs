//! QEMU's block layer in Rust: drivers, nodes, requests, I/O engines and the `file` protocol.
//!
//! ```text
//!   user ──► BlockBackend                       cache mode, a close that can fail
//!               │ guest offsets
//!               ▼
//!             Node ──► driver (qcow2, raw)      a format: where is guest offset X stored?
//!               │  range checks, alignment,         │ host offsets            │
//!               │  read-modify-write                ▼                         ▼
//!               │                                 Node "file"              Node "backing"
//!               ▼                                   │
//!            io::*                                  ▼
//!                                                 driver (file, null-co)   a protocol
//!                                                   │
//!                                                   ▼
//!                                                 AioEngine ──► worker threads ──► preadv, pwritev, …
//! ```
//!
//! | module | concept |
//! |---|---|
//! | [`types`] | flags, limits, block status: plain values |
//! | [`error`] | the error of every operation |
//! | [`options`] | `a=b,c.d=e`, `json:{…}`, the schema of `create -o` |
//! | [`driver`] | the two traits: [`BlockDriver`](driver::BlockDriver) opens, [`BlockOps`](driver::BlockOps) is open |
//! | [`manage`] | what else can be done to an image: snapshots, bitmaps, amending, measuring |
//! | [`bitmap`] | dirty bitmaps in memory |
//! | [`crypt`] | encryption of guest data and LUKS headers, for the formats that have them |
//! | [`debug`] | points in the way of requests at which a test can look on |
//! | [`node`] | the graph |
//! | [`io`] | the requests, between a node's user and its driver |
//! | [`registry`] | drivers by name, probing, opening and creating |
//! | [`backend`] | a user's handle |
//! | [`aio`] | engines and worker threads |
//! | [`mod@file`], [`null`], [`mem`] | protocols |
//!
//! Format drivers live in crates of their own and are [registered](registry::Registry::register) by the program. Futures
//! need nothing but a waker, so any executor can drive them:
//!
//! ```
//! use std::sync::Arc;
//!
//! use qemu_block::aio::Services;
//! use qemu_block::options::Options;
//! use qemu_block::registry::{OpenContext, Registry};
//! use qemu_block::types::{OpenFlags, WriteFlags};
//! use qemu_util::buf::IoBuf;
//!
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("disk.img").to_str().unwrap().to_owned();
//! let context = OpenContext::new(Arc::new(Registry::new(Services::new())));
//! let work = async {
//!     let mut options = Options::new();
//!     options.set("size", 1_u64 << 20);
//!     context.create_storage(&path, options).await?;
//!
//!     let node = context.open_protocol(&path, Options::new(), OpenFlags::WRITE).await?;
//!     node.write(100, IoBuf::copy_of(b"hello").into(), WriteFlags::empty()).await?;
//!     assert_eq!(&node.read_bytes(98, 8).await?[..], b"\0\0hello\0");
//!     assert_eq!(node.len(), 1 << 20);
//!     node.flush().await?;
//!     node.close().await
//! };
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work).unwrap();
//! ```

pub mod aio;
pub mod backend;
pub mod bitmap;
pub mod compressed;
pub mod crypt;
pub mod debug;
pub mod driver;
pub mod error;
pub mod file;
pub mod io;
pub mod manage;
pub mod mem;
pub mod node;
pub mod null;
pub mod options;
pub mod registry;
pub mod types;
