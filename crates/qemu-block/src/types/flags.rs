//! Flag words of opens and requests.

use bitflags::bitflags;

bitflags! {
    /// How an image is opened. QEMU: `BDRV_O_*` (include/block/block-common.h).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct OpenFlags: u32 {
        /// Writing is allowed.
        const WRITE = 1 << 0;
        /// The device may be resized through this handle.
        const RESIZE = 1 << 1;
        /// Bypass the host's page cache (`O_DIRECT`).
        const DIRECT = 1 << 2;
        /// Flushes do not reach the disk (`cache=unsafe`).
        const NO_FLUSH = 1 << 3;
        /// Each write is durable before it completes. Kept by [`crate::backend::BlockBackend`], not by drivers.
        const WRITE_THROUGH = 1 << 4;
        /// Do not open the backing file.
        const NO_BACKING = 1 << 5;
        /// Share everything with other users of the image (`-U`); read-only opens only.
        const FORCE_SHARE = 1 << 6;
        /// Discards may unmap (`discard=unmap`).
        const UNMAP = 1 << 7;
        /// Only metadata will be read: `info` opens no data file and needs no key.
        const NO_IO = 1 << 8;
        /// The open is a consistency check: damage is reported later, not refused now.
        const CHECK = 1 << 9;
        /// Writes of zeros become requests to make a range zero (`detect-zeroes`).
        const DETECT_ZEROES = 1 << 10;
    }

    /// What a user of a node does, or lets others do, with it. The bit number is QEMU's lock byte.
    ///
    /// QEMU: `BLK_PERM_*` (include/block/block-common.h).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Perm: u32 {
        /// Reads see a consistent state.
        const CONSISTENT_READ = 1 << 0;
        /// Writes change what is visible.
        const WRITE = 1 << 1;
        /// Writes that do not change what is visible.
        const WRITE_UNCHANGED = 1 << 2;
        /// Size changes.
        const RESIZE = 1 << 3;
    }

    /// Options of a write. QEMU: `BdrvRequestFlags`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct WriteFlags: u32 {
        /// The data is durable when the request completes.
        const FUA = 1 << 0;
    }

    /// Options of a write-zeroes request. QEMU: `BDRV_REQ_MAY_UNMAP`, `BDRV_REQ_NO_FALLBACK`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct ZeroFlags: u32 {
        /// The space may be given back.
        const MAY_UNMAP = 1 << 0;
        /// Fail with `Unsupported` instead of writing buffers of zeros.
        const NO_FALLBACK = 1 << 1;
    }
}

impl OpenFlags {
    /// The part that a format driver hands down to the node that stores its data.
    ///
    /// What the image may give up is decided at the level of the image, so the storage does as it is told:
    /// [`OpenFlags::UNMAP`] is always set. QEMU: `bdrv_inherited_options` (block.c).
    #[must_use]
    pub fn for_storage(self) -> Self {
        self.difference(Self::NO_BACKING | Self::NO_IO | Self::CHECK | Self::DETECT_ZEROES) | Self::UNMAP
    }

    /// The part that a backing file is opened with: never writable.
    #[must_use]
    pub fn for_backing(self) -> Self {
        let not_handed_down = Self::NO_BACKING | Self::WRITE_THROUGH | Self::CHECK | Self::DETECT_ZEROES;
        self.difference(Self::WRITE | Self::RESIZE | not_handed_down)
    }
}

/// The value of `-t` and `-T`. QEMU: `bdrv_parse_cache_mode` (block.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheMode {
    /// Bypass the page cache.
    pub direct: bool,
    /// Never flush.
    pub no_flush: bool,
    /// Complete writes only when they are durable.
    pub write_through: bool,
}

impl CacheMode {
    /// Parses QEMU's names: `none`, `off`, `writeback`, `unsafe`, `writethrough`, `directsync`.
    pub fn parse(name: &str) -> Option<Self> {
        let (direct, no_flush, write_through) = match name {
            "none" | "off" => (true, false, false),
            "directsync" => (true, false, true),
            "writeback" => (false, false, false),
            "unsafe" => (false, true, false),
            "writethrough" => (false, false, true),
            _ => return None,
        };
        Some(Self { direct, no_flush, write_through })
    }

    /// The open flags that express this mode.
    pub fn open_flags(self) -> OpenFlags {
        let mut flags = OpenFlags::empty();
        flags.set(OpenFlags::DIRECT, self.direct);
        flags.set(OpenFlags::NO_FLUSH, self.no_flush);
        flags.set(OpenFlags::WRITE_THROUGH, self.write_through);
        flags
    }
}

/// What `truncate` and `create` do with space that is new. QEMU: `PreallocMode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PreallocMode {
    /// Nothing is allocated.
    #[default]
    Off,
    /// The format's metadata is allocated, the data is a hole.
    Metadata,
    /// Space is reserved without writing it.
    Falloc,
    /// Zeros are written.
    Full,
}

impl PreallocMode {
    /// Parses `off`, `metadata`, `falloc`, `full`.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "off" => Self::Off,
            "metadata" => Self::Metadata,
            "falloc" => Self::Falloc,
            "full" => Self::Full,
            _ => return None,
        })
    }

    /// QEMU's name of the mode.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Metadata => "metadata",
            Self::Falloc => "falloc",
            Self::Full => "full",
        }
    }
}
