//! Network block devices: the client side of the NBD protocol, as a protocol driver.
//!
//! ```text
//!   raw, qcow2 ──► NbdNode ──► Client ──► Connection ──► reader thread ◄── socket ◄── server
//!                  requests    up to 4    orders    └──► writer thread ──► socket ──► server
//!                              reconnects
//! ```
//!
//! | module | concept |
//! |---|---|
//! | `protocol` | bytes and values; checks all that a server sends; no I/O |
//! | `name`, `uri`, `address`, `config` | what the user asks for |
//! | `cancel`, `socket` | waiting with deadlines, and streams |
//! | `negotiate`, `connect` | from an address to a connection that takes requests |
//! | `order`, `connection` | many requests at once over one connection |
//! | `client` | all connections to a server; growing, reconnecting, closing |
//! | `node`, `driver` | how the block graph sees it |
//!
//! # Waiting
//!
//! Futures need nothing but a waker. Blocking happens in threads that the driver starts itself, two for each connection,
//! and one more while a connection is being opened; all of them end when the node is closed or dropped. Who waits for what
//! and who wakes whom is said in tables at the head of `connection` and `client`: there is no wait without an end. The one
//! wait that nobody can cut short is that for the resolver of host names, which has a time-out of its own.
//!
//! # A hostile server
//!
//! Nothing is allocated or read by a length before it was checked against what was asked for. A reply to nothing, a part
//! of the data outside of the request, data sent twice or not at all: each is a violation that ends the connection and
//! fails all requests, then and from then on. Texts of the server are shown escaped and cut.
//!
//! QEMU: block/nbd.c, nbd/client.c.

#![forbid(unsafe_code)]

mod address;
mod cancel;
mod client;
mod config;
mod connect;
mod connection;
mod driver;
mod name;
mod negotiate;
mod node;
mod order;
mod protocol;
mod socket;
mod uri;

pub use driver::NbdDriver;
