//! What a user of the event loop may rely on, each test named after it. They use the public interface alone, and also
//! run as a release build (`cargo xtask test`), where some of it is different.
//!
//! | module | claim |
//! |---|---|
//! | `home` | a loop belongs to one thread |
//! | `nesting` | a loop may be entered from inside itself |
//! | `wake_ups` | none is lost, however many there are |
//! | `lifetimes` | contexts come and go while others notify them |
//! | `signals` | a system call that a signal interrupts loses nothing |

#![cfg(not(qemu_loom))]

mod home;
mod lifetimes;
mod nesting;
mod signals;
mod wake_ups;
