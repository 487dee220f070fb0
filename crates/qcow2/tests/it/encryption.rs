//! Encrypted images in both directions: LUKS and legacy AES, every kind of request, key slots, damaged headers.

mod create;
mod data;
mod hostile;
mod locked;
mod slots;
mod vault;
