//! What a driver tells about an open image: the values behind `info` and `check`.

/// Facts about an open node. QEMU: `BlockDriverInfo` and `ImageInfo`.
#[derive(Clone, Debug, Default)]
pub struct DriverInfo {
    /// Size of the allocation unit in bytes, if the format has one.
    pub cluster_size: Option<u64>,
    /// Whether the image was not closed cleanly; none when the format cannot tell.
    pub dirty: Option<bool>,
    /// Whether guest data is encrypted.
    pub encrypted: bool,
    /// The backing file as the image names it.
    pub backing_filename: Option<String>,
    /// The backing file's name resolved against the image's folder.
    pub full_backing_filename: Option<String>,
    /// The backing file's format as the image names it.
    pub backing_format: Option<String>,
    /// Internal snapshots.
    pub snapshots: Vec<SnapshotInfo>,
    /// Facts that only this format has.
    pub format_specific: Option<FormatSpecific>,
    /// Bytes allocated on the host, for nodes that are files.
    pub allocated_bytes: Option<u64>,
    /// Whether new space at the end of the device reads as zeros, and a device just created does.
    pub zero_init: bool,
}

/// Format-specific facts in the order in which they are printed. QEMU: `ImageInfoSpecific`.
#[derive(Clone, Debug, PartialEq)]
pub struct FormatSpecific {
    /// The format's name.
    pub type_name: &'static str,
    /// Keys and values, in order.
    pub fields: Vec<(&'static str, InfoValue)>,
}

/// A value in [`FormatSpecific`].
#[derive(Clone, Debug, PartialEq)]
pub enum InfoValue {
    /// A truth value.
    Bool(bool),
    /// A number.
    Int(u64),
    /// A text; may come from the image and hold anything.
    Text(String),
    /// A list.
    List(Vec<InfoValue>),
    /// A nested object, in order.
    Object(Vec<(&'static str, InfoValue)>),
}

/// One internal snapshot. QEMU: `QEMUSnapshotInfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Unique identifier within the image.
    pub id: String,
    /// Name given by the user.
    pub name: String,
    /// Size of the saved machine state in bytes.
    pub vm_state_bytes: u64,
    /// Creation time: seconds since the epoch.
    pub date_seconds: u32,
    /// Creation time: nanoseconds within the second.
    pub date_nanoseconds: u32,
    /// The guest's clock in nanoseconds.
    pub vm_clock_nanoseconds: u64,
    /// Instruction count at the snapshot, if recorded.
    pub icount: Option<u64>,
}

/// What `check` is to repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckFixes {
    /// Only report.
    Nothing,
    /// Lower refcounts that are too high (`-r leaks`).
    Leaks,
    /// Repair everything that can be (`-r all`).
    All,
}

/// The result of a consistency check. QEMU: `BdrvCheckResult`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Problems that damage data, now or later.
    pub corruptions: u64,
    /// Clusters that are allocated but not used.
    pub leaks: u64,
    /// Parts that could not be checked.
    pub check_errors: u64,
    /// Corruptions that were repaired; they are not among `corruptions` any more.
    pub corruptions_fixed: u64,
    /// Leaked clusters that were given back; they are not among `leaks` any more.
    pub leaks_fixed: u64,
    /// Offset just past the last used cluster, in bytes.
    pub image_end_offset: u64,
    /// Guest clusters in all.
    pub total_clusters: u64,
    /// Guest clusters with data.
    pub allocated_clusters: u64,
    /// Guest clusters whose data does not follow its predecessor's on the host.
    pub fragmented_clusters: u64,
    /// Guest clusters that are compressed.
    pub compressed_clusters: u64,
    /// The errno of what ended the check early, so that the numbers say little; none if it was completed.
    pub stopped_by: Option<i32>,
    /// Findings, one line each, in the order found; bounded per class (rule R5).
    pub messages: Vec<String>,
}
