//! From guest clusters to host clusters and back: looking mappings up, and replacing them. QEMU: block/qcow2-cluster.c.

mod link;
mod lookup;
mod stretch;
mod table;

pub(crate) use lookup::MapRun;
pub(crate) use stretch::Stretch;
