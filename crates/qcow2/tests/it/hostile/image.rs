//! A small valid image, laid out field by field, in which a case overrides any field or makes any structure an alias of
//! another one.
//!
//! | cluster | holds |
//! |---|---|
//! | 0 | header, extensions, backing file name |
//! | 1, 2 | refcount table, refcount block |
//! | 3, 4 | L1 table, L2 table |
//! | 5 to 8 | data, data, a reserved cluster that reads as zeros, compressed data |
//! | 9 to 12 | snapshot table, L1 table, L2 table and data of the snapshot |
//! | 13 to 15 | bitmap directory, bitmap table, bitmap data |
//!
//! Guest clusters 0 to 3 are mapped to clusters 5 to 8; the snapshot shares cluster 5, and has guest cluster 1 in
//! cluster 12. What an image does not have leaves its clusters zero and uncounted.

use std::os::unix::fs::FileExt;

use qemu_block::mem::MemDisk;

pub(crate) const REFTABLE: u64 = 1;
pub(crate) const REFBLOCK: u64 = 2;
pub(crate) const L1: u64 = 3;
pub(crate) const L2: u64 = 4;
pub(crate) const DATA: u64 = 5;
pub(crate) const DATA_B: u64 = 6;
pub(crate) const RESERVED: u64 = 7;
pub(crate) const COMPRESSED: u64 = 8;
pub(crate) const SNAPSHOTS: u64 = 9;
pub(crate) const SNAPSHOT_L1: u64 = 10;
pub(crate) const SNAPSHOT_L2: u64 = 11;
pub(crate) const SNAPSHOT_DATA: u64 = 12;
pub(crate) const BITMAPS: u64 = 13;
pub(crate) const BITMAP_TABLE: u64 = 14;
pub(crate) const BITMAP_DATA: u64 = 15;
/// Clusters of the whole image.
pub(crate) const END: u64 = 16;

/// Entry flags: the refcount is exactly one; the cluster is compressed; the cluster reads as zeros.
pub(crate) const COPIED: u64 = 1 << 63;
pub(crate) const PACKED: u64 = 1 << 62;
pub(crate) const ZERO: u64 = 1;

/// Where the header's fields are.
pub(crate) mod header {
    pub(crate) const MAGIC: u64 = 0;
    pub(crate) const VERSION: u64 = 4;
    pub(crate) const BACKING_OFFSET: u64 = 8;
    pub(crate) const BACKING_LEN: u64 = 16;
    pub(crate) const CLUSTER_BITS: u64 = 20;
    pub(crate) const SIZE: u64 = 24;
    pub(crate) const CRYPT_METHOD: u64 = 32;
    pub(crate) const L1_ENTRIES: u64 = 36;
    pub(crate) const L1_OFFSET: u64 = 40;
    pub(crate) const REFTABLE_OFFSET: u64 = 48;
    pub(crate) const REFTABLE_CLUSTERS: u64 = 56;
    pub(crate) const SNAPSHOT_COUNT: u64 = 60;
    pub(crate) const SNAPSHOTS_OFFSET: u64 = 64;
    pub(crate) const INCOMPATIBLE: u64 = 72;
    pub(crate) const COMPATIBLE: u64 = 80;
    pub(crate) const AUTOCLEAR: u64 = 88;
    pub(crate) const REFCOUNT_ORDER: u64 = 96;
    pub(crate) const LENGTH: u64 = 100;
    pub(crate) const COMPRESSION: u64 = 104;
    /// End of the fields; the extensions follow.
    pub(crate) const END: u64 = 112;
}

/// Types of header extensions.
pub(crate) mod extension {
    pub(crate) const BACKING_FORMAT: u32 = 0xe279_2aca;
    pub(crate) const FEATURE_NAMES: u32 = 0x6803_f857;
    pub(crate) const BITMAPS: u32 = 0x2385_2875;
    pub(crate) const ENCRYPTION: u32 = 0x0537_be77;
    pub(crate) const DATA_FILE: u32 = 0x4441_5441;
}

/// An image in the making. Bytes that are never put are holes.
#[derive(Clone)]
pub(crate) struct Image {
    bits: u32,
    order: u32,
    /// The first part, in which nearly everything is.
    bytes: Vec<u8>,
    /// What lies far out.
    far: Vec<(u64, Vec<u8>)>,
    len: u64,
    /// Where the next extension goes.
    extensions_end: u64,
}

/// Parts further out than this are kept apart, so that sparse images cost nothing.
const NEAR: u64 = 4 << 20;

impl Image {
    /// An image with clusters of `1 << bits` bytes, refcounts of `1 << order` bits, and neither snapshot nor bitmap.
    pub(crate) fn with_geometry(bits: u32, order: u32) -> Self {
        let mut image = Self { bits, order, bytes: Vec::new(), far: Vec::new(), len: 0, extensions_end: header::END };
        image.set_len(image.at(END));
        image.put_header();
        image.put64(image.at(REFTABLE), image.at(REFBLOCK));
        image.put64(image.l1(0), image.at(L2) | COPIED);
        image.put64(image.l2(0), image.at(DATA) | COPIED);
        image.put64(image.l2(1), image.at(DATA_B) | COPIED);
        image.put64(image.l2(2), image.at(RESERVED) | COPIED | ZERO);
        image.fill(DATA, 0x11);
        image.fill(DATA_B, 0x22);
        image.fill(RESERVED, 0xee);
        image.put_compressed(3, image.at(COMPRESSED), 0x33);
        (0..=COMPRESSED).for_each(|cluster| image.set_refcount(cluster, 1));
        image
    }

    /// The usual one: 4 KiB clusters, 16-bit refcounts.
    pub(crate) fn plain() -> Self {
        Self::with_geometry(12, 4)
    }

    /// As [`Image::plain`], in version 2.
    pub(crate) fn version_2() -> Self {
        let mut image = Self::plain();
        image.put32(header::VERSION, 2);
        image.bytes[72..usize::try_from(header::END).expect("small")].fill(0);
        image.put64(image.l2(2), 0);
        image.set_refcount(RESERVED, 0);
        image
    }

    /// As [`Image::plain`], with a snapshot.
    pub(crate) fn with_snapshot() -> Self {
        let mut image = Self::plain();
        image.add_snapshot();
        image
    }

    /// As [`Image::plain`], with a bitmap.
    pub(crate) fn with_bitmap() -> Self {
        let mut image = Self::plain();
        image.add_bitmap();
        image
    }

    /// As [`Image::plain`], with everything.
    pub(crate) fn full() -> Self {
        let mut image = Self::plain();
        image.add_everything();
        image
    }

    /// Adds a snapshot and a bitmap.
    pub(crate) fn add_everything(&mut self) {
        self.add_snapshot();
        self.add_bitmap();
    }

    fn put_header(&mut self) {
        self.put32(header::MAGIC, 0x5146_49fb);
        self.put32(header::VERSION, 3);
        self.put32(header::CLUSTER_BITS, self.bits);
        self.put64(header::SIZE, 2 * self.l2_coverage());
        self.put32(header::L1_ENTRIES, 2);
        self.put64(header::L1_OFFSET, self.at(L1));
        self.put64(header::REFTABLE_OFFSET, self.at(REFTABLE));
        self.put32(header::REFTABLE_CLUSTERS, 1);
        self.put32(header::REFCOUNT_ORDER, self.order);
        self.put32(header::LENGTH, 112);
    }

    fn add_snapshot(&mut self) {
        self.put32(header::SNAPSHOT_COUNT, 1);
        self.put64(header::SNAPSHOTS_OFFSET, self.at(SNAPSHOTS));
        self.put_snapshot(self.at(SNAPSHOTS), b"1", b"one");
        self.put64(self.at(SNAPSHOT_L1), self.at(SNAPSHOT_L2));
        self.put64(self.at(SNAPSHOT_L2), self.at(DATA));
        self.put64(self.at(SNAPSHOT_L2) + 8, self.at(SNAPSHOT_DATA));
        self.put64(self.l2(0), self.at(DATA));
        self.fill(SNAPSHOT_DATA, 0x44);
        (SNAPSHOTS..=SNAPSHOT_DATA).for_each(|cluster| self.set_refcount(cluster, 1));
        self.set_refcount(DATA, 2);
    }

    /// Puts a snapshot table entry; returns where it ends.
    pub(crate) fn put_snapshot(&mut self, at: u64, id: &[u8], name: &[u8]) -> u64 {
        self.put64(at, self.at(SNAPSHOT_L1));
        self.put32(at + 8, 2);
        self.put16(at + 12, u16::try_from(id.len()).expect("short"));
        self.put16(at + 14, u16::try_from(name.len()).expect("short"));
        self.put32(at + 16, 1_700_000_000);
        self.put32(at + 36, 16);
        self.put64(at + 48, 2 * self.l2_coverage());
        self.put(at + 56, id);
        self.put(at + 56 + id.len() as u64, name);
        (at + 56 + (id.len() + name.len()) as u64).next_multiple_of(8)
    }

    fn add_bitmap(&mut self) {
        self.put64(header::AUTOCLEAR, 1);
        let mut data = [0; 24];
        data[3] = 1;
        data[8..16].copy_from_slice(&32_u64.to_be_bytes());
        data[16..].copy_from_slice(&self.at(BITMAPS).to_be_bytes());
        self.add_extension(extension::BITMAPS, &data);
        self.put64(self.at(BITMAPS), self.at(BITMAP_TABLE));
        self.put32(self.at(BITMAPS) + 8, 1);
        self.put32(self.at(BITMAPS) + 12, 2);
        self.put(self.at(BITMAPS) + 16, &[1, 16, 0, 5]);
        self.put(self.at(BITMAPS) + 24, b"dirty");
        self.put64(self.at(BITMAP_TABLE), self.at(BITMAP_DATA));
        self.fill(BITMAP_DATA, 0);
        (BITMAPS..=BITMAP_DATA).for_each(|cluster| self.set_refcount(cluster, 1));
    }

    /// Appends a header extension; returns where its data starts.
    pub(crate) fn add_extension(&mut self, magic: u32, data: &[u8]) -> u64 {
        let at = self.extensions_end;
        self.put32(at, magic);
        self.put32(at + 4, u32::try_from(data.len()).expect("short"));
        self.put(at + 8, data);
        self.extensions_end = (at + 8 + data.len() as u64).next_multiple_of(8);
        at + 8
    }

    /// Names a backing file, at the end of the first cluster.
    pub(crate) fn name_backing(&mut self, name: &[u8]) {
        let at = self.cluster_size() - 1024;
        self.put64(header::BACKING_OFFSET, at);
        self.put32(header::BACKING_LEN, u32::try_from(name.len()).expect("short"));
        self.put(at, &name[..name.len().min(1024)]);
    }

    /// Maps guest cluster `index` to compressed data at `host`.
    pub(crate) fn put_compressed(&mut self, index: u64, host: u64, byte: u8) {
        let cluster = vec![byte; usize::try_from(self.cluster_size()).expect("small")];
        let mut packed = vec![0; cluster.len()];
        let mut compressor = libdeflater::Compressor::new(libdeflater::CompressionLvl::default());
        let len = compressor.deflate_compress(&cluster, &mut packed).expect("it is all the same");
        packed.truncate(len);
        self.put(host, &packed);
        let sectors = (host % 512 + len as u64 - 1) / 512;
        self.put64(self.l2(index), PACKED | sectors << (70 - self.bits) | host);
    }

    pub(crate) fn cluster_size(&self) -> u64 {
        1 << self.bits
    }

    /// Guest bytes that one L2 table maps.
    pub(crate) fn l2_coverage(&self) -> u64 {
        self.cluster_size() / 8 * self.cluster_size()
    }

    /// Offset of a cluster.
    pub(crate) fn at(&self, cluster: u64) -> u64 {
        cluster << self.bits
    }

    /// Offset of an entry of the L1 table.
    pub(crate) fn l1(&self, index: u64) -> u64 {
        self.at(L1) + 8 * index
    }

    /// Offset of an entry of the L2 table.
    pub(crate) fn l2(&self, index: u64) -> u64 {
        self.at(L2) + 8 * index
    }

    /// Offset of an entry of the refcount table.
    pub(crate) fn reftable(&self, index: u64) -> u64 {
        self.at(REFTABLE) + 8 * index
    }

    /// Sets a count in the first refcount block.
    pub(crate) fn set_refcount(&mut self, cluster: u64, count: u64) {
        let block = self.at(REFBLOCK);
        let raw = count.to_be_bytes();
        match self.order {
            3.. => {
                let len = 1_usize << (self.order - 3);
                self.put(block + cluster * len as u64, &raw[8 - len..]);
            }
            order => {
                let per_byte = 8 >> order;
                let at = block + cluster / per_byte;
                let shift = (cluster % per_byte) << order;
                let mask = ((1_u16 << (1_u16 << order)) - 1) << shift;
                let old = u16::from(self.get8(at));
                let new = old & !mask | u16::from(raw[7]) << shift & mask;
                self.put(at, &[new.to_be_bytes()[1]]);
            }
        }
    }

    /// Fills a cluster with a byte.
    pub(crate) fn fill(&mut self, cluster: u64, byte: u8) {
        let cluster_len = usize::try_from(self.cluster_size()).expect("small");
        self.put(self.at(cluster), &vec![byte; cluster_len]);
    }

    pub(crate) fn put16(&mut self, at: u64, value: u16) {
        self.put(at, &value.to_be_bytes());
    }

    pub(crate) fn put32(&mut self, at: u64, value: u32) {
        self.put(at, &value.to_be_bytes());
    }

    pub(crate) fn put64(&mut self, at: u64, value: u64) {
        self.put(at, &value.to_be_bytes());
    }

    /// Overwrites bytes; the image grows if they lie past its end.
    pub(crate) fn put(&mut self, at: u64, bytes: &[u8]) {
        let end = at + bytes.len() as u64;
        if end > NEAR {
            self.far.push((at, bytes.to_vec()));
        } else {
            let (start, end) = (usize::try_from(at).expect("near"), usize::try_from(end).expect("near"));
            self.bytes.resize(self.bytes.len().max(end), 0);
            self.bytes[start..end].copy_from_slice(bytes);
        }
        self.len = self.len.max(end);
    }

    pub(crate) fn get8(&self, at: u64) -> u8 {
        usize::try_from(at).ok().and_then(|at| self.bytes.get(at)).copied().unwrap_or(0)
    }

    pub(crate) fn get64(&self, at: u64) -> u64 {
        (0..8).fold(0, |value, i| value << 8 | u64::from(self.get8(at + i)))
    }

    /// Sets the length of the file: what lies beyond is cut off, what is new is a hole.
    pub(crate) fn set_len(&mut self, len: u64) {
        self.bytes.truncate(usize::try_from(len).unwrap_or(usize::MAX));
        self.far.retain(|(at, _)| *at < len);
        self.len = len;
    }

    /// The image on a disk in memory.
    pub(crate) fn disk(&self) -> MemDisk {
        let disk = MemDisk::growable(self.len);
        // Pages of zeros stay holes, as in a sparse file.
        for (i, page) in self.bytes.chunks(4096).enumerate().filter(|(_, page)| page.iter().any(|byte| *byte != 0)) {
            disk.write_at(i as u64 * 4096, page);
        }
        self.far.iter().for_each(|(at, bytes)| disk.write_at(*at, bytes));
        disk
    }

    /// The image in a sparse file.
    pub(crate) fn write_to(&self, path: &str) -> std::io::Result<()> {
        let file = std::fs::File::create(path)?;
        file.write_all_at(&self.bytes, 0)?;
        self.far.iter().try_for_each(|(at, bytes)| file.write_all_at(bytes, *at))?;
        file.set_len(self.len)
    }
}
