//! LUKS images: made by us and read by the reference, and the other way round.

mod data;
mod detached;
mod hostile;
mod slots;
mod vault;
