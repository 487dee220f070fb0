//! Creating images. QEMU: `qcow2_co_create`, `qcow2_co_create_opts` (block/qcow2.c).
//!
//! The whole layout is known before the first byte is written, so everything is written once, front to back, in chunks
//! of bounded size. Whatever is zero is left out where the new file reads as zeros anyway.

mod layout;
mod options;
pub mod stream;

use std::sync::Arc;

use qemu_block::driver::CreateRequest;
use qemu_block::error::{BlockError, Result};
use qemu_block::node::Node;
use qemu_block::options::Options;
use qemu_block::registry::OpenContext;
use qemu_block::types::{OpenFlags, Perm, PreallocMode, WriteFlags, ZeroFlags};
use qemu_util::buf::{BufPool, IoBuf, IoVec};

use crate::encryption::NewEncryption;
use crate::error::FormatError;
use crate::format::encryption::Encryption;
use crate::format::extension::{Extension, MAGIC_FEATURE_NAMES};
use crate::format::features::{Autoclear, Compatible, Incompatible};
use crate::format::header::{CompressionType, FULL_BYTES, Header, TablePlace, V2_BYTES, Version};
use crate::format::l1::L1Entry;
use crate::format::l2::{L2Entry, L2Layout};
use crate::format::refcount::{RefcountWidth, ReftableEntry};
use crate::format::subclusters::Subclusters;
use crate::limits::TABLE_CHUNK_BYTES;
use crate::units::{HostCluster, HostOffset};
use layout::Layout;
pub(crate) use options::CREATE_OPTIONS;
use options::Settings;

/// Creates an image: the file that stores it, and everything in it.
///
/// # Errors
/// With the reference's text when options are wrong, before anything is touched. Otherwise what creating, writing,
/// flushing and closing the file report; the file is removed then.
pub(crate) async fn create(request: CreateRequest) -> Result<()> {
    let CreateRequest { filename, mut options, context } = request;
    let settings = Settings::take(&mut options, &context)?;
    let layout = Layout::new(&settings)?;
    let header = header_bytes(&settings, &layout)?;
    let encryption = match &settings.encryption {
        Some(encryption) => Some(encryption.make(context.services()).await?),
        None => None,
    };
    // What is left of the options is for the protocol. The file starts empty and grows as it is written.
    let mut empty = options.clone();
    empty.set("size", 0u64);
    context.create_storage(&filename, empty).await?;
    let file = context.open_protocol(&filename, Options::new(), OpenFlags::WRITE | OpenFlags::RESIZE).await?;
    let written = async {
        if let Some(name) = &settings.data_file {
            create_data_file(&context, name, options, &settings).await?;
        }
        let writer = Writer { file: &file, layout: &layout, buffers: &context.services().buffers };
        let written = writer.write_image(header, &settings, encryption.as_ref()).await;
        if let (Err(_), Some(name)) = (&written, &settings.data_file) {
            remove_path(name);
        }
        written
    };
    let written = written.await;
    let closed = file.close().await;
    let result = written.and(closed);
    if result.is_err() {
        remove(&file);
    }
    result
}

/// Creates the file for the guest's data, with the size of the disk.
async fn create_data_file(context: &OpenContext, name: &str, mut options: Options, settings: &Settings) -> Result<()> {
    options.set("size", settings.size);
    if matches!(settings.preallocation, PreallocMode::Falloc | PreallocMode::Full) {
        options.set("preallocation", settings.preallocation.name());
    }
    context.create_storage(name, options).await?;
    // Whoever has it open, the image file itself for one, must not change its length.
    let data = context.open_protocol(name, Options::new(), OpenFlags::WRITE | OpenFlags::RESIZE).await?;
    let locked = data.set_perm(Perm::CONSISTENT_READ | Perm::WRITE | Perm::RESIZE, Perm::all() - Perm::RESIZE).await;
    let flushed = match locked {
        Ok(()) => data.flush().await,
        Err(error) => Err(error),
    };
    flushed.and(data.close().await)
}

/// Removes the regular file that was just created; failing to is no further news to the user.
fn remove(file: &Arc<Node>) {
    if file.driver().name() == "file" {
        remove_path(file.filename());
    }
}

fn remove_path(path: &str) {
    if std::fs::metadata(path).is_ok_and(|found| found.is_file()) {
        drop(std::fs::remove_file(path));
    }
}

/// The header with all its extensions, ready to be written.
fn header_bytes(settings: &Settings, layout: &Layout) -> Result<Vec<u8>> {
    let mut header = header(settings, layout);
    match header.serialize() {
        Err(FormatError::HeaderNoSpace { .. }) => {}
        other => return Ok(other?),
    }
    // The names are a courtesy to other programs; the backing file's name is not.
    header.extensions.retain(|extension| extension.magic != MAGIC_FEATURE_NAMES);
    header.serialize().map_err(|error| match &settings.backing {
        Some(backing) => {
            let cause = BlockError::from(error);
            backing.error(BlockError::new(cause.kind(), cause.errno_text()))
        }
        None => error.into(),
    })
}

fn header(settings: &Settings, layout: &Layout) -> Header {
    let is_v3 = settings.version >= Version::V3;
    let mut extensions = Vec::new();
    if let Some(format) = settings.backing.as_ref().and_then(|backing| backing.format.as_deref()) {
        extensions.push(Extension::backing_format(format));
    }
    if let Some(name) = &settings.data_file {
        extensions.push(Extension::data_file(name));
    }
    let encryption = settings.encryption.as_ref().map(|encryption| encryption.stored(layout.encryption_offset()));
    extensions.extend(encryption.and_then(Encryption::extension));
    if is_v3 {
        extensions.push(Extension::feature_names());
    }
    let mut incompatible = Incompatible::empty();
    incompatible.set(Incompatible::DATA_FILE, settings.data_file.is_some());
    let mut autoclear = Autoclear::empty();
    autoclear.set(Autoclear::DATA_FILE_RAW, settings.data_file_raw);
    incompatible.set(Incompatible::COMPRESSION, settings.compression != CompressionType::Zlib);
    incompatible.set(Incompatible::EXTENDED_L2, layout.geometry.is_extended_l2());
    let mut compatible = Compatible::empty();
    compatible.set(Compatible::LAZY_REFCOUNTS, settings.lazy_refcounts);
    let header_length = if is_v3 { FULL_BYTES } else { V2_BYTES };
    Header {
        version: settings.version,
        geometry: layout.geometry,
        virtual_size: settings.size,
        l1: TablePlace { offset: layout.l1_offset(), count: layout.l1_entries },
        reftable: TablePlace { offset: layout.start_of(layout.reftable), count: layout.reftable_clusters },
        snapshots: TablePlace { offset: HostOffset::ZERO, count: 0 },
        incompatible,
        compatible,
        autoclear,
        compression: settings.compression,
        header_length: u32::try_from(header_length).expect("headers are short"),
        unknown_fields: Vec::new(),
        extensions,
        encryption,
        bitmaps: None,
        backing_name: settings.backing.as_ref().map(|backing| backing.name.clone().into_bytes()),
    }
}

/// Writes the parts of an image.
struct Writer<'a> {
    file: &'a Node,
    layout: &'a Layout,
    buffers: &'a BufPool,
}

impl Writer<'_> {
    async fn write_image(
        &self,
        header: Vec<u8>,
        settings: &Settings,
        encryption: Option<&NewEncryption>,
    ) -> Result<()> {
        let preallocation = settings.preallocation;
        let layout = self.layout;
        if !self.file.info().await?.zero_init {
            self.file.write_zeroes(0, layout.metadata_end(), ZeroFlags::MAY_UNMAP).await?;
        }
        self.write_reftable().await?;
        self.write_refblocks().await?;
        if layout.mapped_clusters.is_zero() {
            self.grow(layout.l1_end(), PreallocMode::Off).await?;
        } else {
            self.write_l1().await?;
            self.write_l2(settings).await?;
            self.grow(layout.metadata_end(), PreallocMode::Off).await?;
            let data = if preallocation == PreallocMode::Metadata { PreallocMode::Off } else { preallocation };
            if !layout.has_data_file {
                self.grow(layout.end(), data).await?;
            }
        }
        for (offset, bytes) in encryption.map(NewEncryption::writes).unwrap_or_default() {
            let offset = layout.encryption_offset().get() + offset;
            self.file.write(offset, IoBuf::copy_of(&bytes).into(), WriteFlags::empty()).await?;
        }
        // The header comes last: until then nothing takes the file for an image.
        self.file.write(0, IoBuf::copy_of(&header).into(), WriteFlags::empty()).await?;
        self.file.flush().await
    }

    /// Makes the file at least `len` bytes long. Block devices have their length already.
    async fn grow(&self, len: u64, preallocation: PreallocMode) -> Result<()> {
        if self.file.len() < len { self.file.truncate(len, preallocation).await } else { Ok(()) }
    }

    async fn write_reftable(&self) -> Result<()> {
        let layout = self.layout;
        let entry = |index| ReftableEntry::block(layout.start_of(layout.nth(layout.refblocks, index))).raw();
        self.write_table(layout.reftable, layout.refblock_clusters.get(), 8, store_number(entry)).await
    }

    async fn write_l1(&self) -> Result<()> {
        let layout = self.layout;
        let entry = |index| L1Entry::table(layout.start_of(layout.nth(layout.l2_tables, index)), true).raw();
        self.write_table(layout.l1, u64::from(layout.l1_entries), 8, store_number(entry)).await
    }

    /// The L2 tables follow one another, as the data does, so that together they are one long table.
    ///
    /// What is allocated in advance is not encrypted, so it must not be decrypted, either: it is marked as zeros where
    /// the version has a mark for that.
    async fn write_l2(&self, settings: &Settings) -> Result<()> {
        let layout = self.layout;
        let entries = L2Layout::new(layout.geometry, true);
        let is_noise = settings.encryption.is_some() && settings.version >= Version::V3;
        // Subclusters are not described here until they are written, so that a backing file shows. What others write to
        // a raw data file shows at once.
        let subclusters = if layout.is_raw { Subclusters::ALL_DATA } else { Subclusters::NONE };
        let store = |index, field: &mut [u8]| {
            let host = layout.data_of(index);
            let entry = if is_noise && !layout.geometry.is_extended_l2() {
                entries.zero_allocated(host, true)
            } else {
                L2Entry::standard(host, true).with_subclusters(subclusters)
            };
            entries.store(field, entry);
        };
        self.write_table(layout.l2_tables, layout.mapped_clusters.get(), entries.entry_bytes(), store).await
    }

    /// Writes a table of entries of `entry_len` bytes, which `store` makes, from the start of a cluster on.
    async fn write_table(
        &self,
        start: HostCluster,
        entries: u64,
        entry_len: usize,
        store: impl Fn(u64, &mut [u8]),
    ) -> Result<()> {
        let entry_bytes = entry_len as u64;
        let chunk_entries = TABLE_CHUNK_BYTES / entry_bytes;
        let mut first = 0;
        while first < entries {
            let count = chunk_entries.min(entries - first);
            let mut chunk = self.buffers.take(chunk_len(count * entry_bytes));
            for (index, field) in (first..).zip(chunk.chunks_exact_mut(entry_len)) {
                store(index, field);
            }
            self.write_at(start, first * entry_bytes, chunk).await?;
            first += count;
        }
        Ok(())
    }

    /// Writes the refcount blocks: one for each cluster of the image, and nothing after those.
    async fn write_refblocks(&self) -> Result<()> {
        let layout = self.layout;
        let width = RefcountWidth::new(layout.geometry);
        let counts_per_chunk = TABLE_CHUNK_BYTES * 8 / u64::from(layout.geometry.refcount_bits());
        let counts = layout.total.get();
        let mut first = 0;
        while first < counts {
            let count = counts_per_chunk.min(counts - first);
            let bytes = (count * u64::from(layout.geometry.refcount_bits())).div_ceil(8);
            let mut chunk = self.buffers.take_zeroed(chunk_len(bytes));
            for index in 0..chunk_len(count) {
                width.set(&mut chunk, index, 1)?;
            }
            self.write_at(layout.refblocks, first * u64::from(layout.geometry.refcount_bits()) / 8, chunk).await?;
            first += count;
        }
        Ok(())
    }

    async fn write_at(&self, start: HostCluster, bytes: u64, chunk: IoBuf) -> Result<()> {
        let offset = self.layout.start_of(start).get() + bytes;
        self.file.write(offset, IoVec::from(chunk), WriteFlags::empty()).await
    }
}

/// Stores numbers as big-endian entries of eight bytes.
fn store_number(entry: impl Fn(u64) -> u64) -> impl Fn(u64, &mut [u8]) {
    move |index, field| field.copy_from_slice(&entry(index).to_be_bytes())
}

/// A length within a chunk.
fn chunk_len(len: u64) -> usize {
    usize::try_from(len).expect("chunks are short")
}
