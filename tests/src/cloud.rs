//! A realistic disk image, in every form that people publish it in: a partitioned disk whose ext4 file system holds this
//! machine's own files from `/usr` (programs, text, data that is already compressed), mostly sparse, as cloud images are.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::files::copy_sparse;
use crate::programs::Program;

/// The images that [`make`] writes, in the order in which they are made.
pub const IMAGES: [&str; 5] = ["cloud.raw", "cloud.qcow2", "cloud-zlib.qcow2", "cloud-zstd.qcow2", "overlay.qcow2"];

/// Where files are taken from, in this order, until there are enough.
const SOURCES: [&str; 6] = [
    "/usr/bin",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/share/doc",
    "/usr/share/locale",
    "/usr/share",
];

/// The partition starts at 1 MiB, as every partitioner does it.
const PARTITION_OFFSET: u64 = 1 << 20;

/// Number of 4 KiB writes that tell the overlay from its backing file.
const OVERLAY_WRITES: u64 = 512;

/// How large a disk to make, in MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloudSpec {
    /// About as much as the files take.
    pub content_mib: u64,
    /// The virtual size; a quarter and 64 MiB more than the content, at least.
    pub disk_mib: u64,
}

/// The reference programs that make the images.
#[derive(Clone, Copy, Debug)]
pub struct Makers<'a> {
    /// The reference `qemu-img`.
    pub qemu_img: &'a Program,
    /// The reference `qemu-io`.
    pub qemu_io: &'a Program,
}

/// Writes [`IMAGES`] into `dir`, which is created.
///
/// `overlay.qcow2` is a chain: 4 KiB writes scattered over `cloud.qcow2`.
///
/// # Errors
/// If `spec` leaves the files no room, or if a tool is missing or fails.
pub fn make(dir: &Path, spec: CloudSpec, makers: Makers<'_>) -> io::Result<()> {
    if spec.disk_mib < spec.content_mib + spec.content_mib / 4 + 64 {
        return Err(io::Error::other("the disk must exceed its content by a quarter and 64 MiB"));
    }
    fs::create_dir_all(dir)?;
    make_raw(dir, spec)?;
    let convert = "convert -O qcow2";
    for line in [
        format!("{convert} cloud.raw cloud.qcow2"),
        format!("{convert} -c -W -o compression_type=zlib cloud.raw cloud-zlib.qcow2"),
        format!("{convert} -c -W -o compression_type=zstd cloud.raw cloud-zstd.qcow2"),
        "create -q -f qcow2 -b cloud.qcow2 -F qcow2 overlay.qcow2".to_owned(),
    ] {
        makers.qemu_img.run(dir, &line).ok();
    }
    makers.qemu_io.invoke(dir).words("-f qcow2 overlay.qcow2").input(overlay_writes(spec)).run().ok();
    Ok(())
}

fn overlay_writes(spec: CloudSpec) -> String {
    let kib = spec.disk_mib * 1024 - 4;
    (0..OVERLAY_WRITES).map(|i| format!("write -q -P {} {}k 4k\n", i % 255 + 1, i * 7919 * 4 % kib)).collect()
}

/// The disk itself: a partition table and the file system.
fn make_raw(dir: &Path, spec: CloudSpec) -> io::Result<()> {
    let stage = tempfile::Builder::new().prefix("stage").tempdir_in(dir)?;
    fill_stage(stage.path(), spec.content_mib << 20)?;
    let part = tempfile::Builder::new().prefix("part").tempfile_in(dir)?;
    part.as_file().set_len((spec.disk_mib - 1) << 20)?;
    make_ext4(part.path(), stage.path())?;
    let disk = File::create(dir.join(IMAGES[0]))?;
    disk.set_len(spec.disk_mib << 20)?;
    disk.write_all_at(&partition_table(spec.disk_mib), 446)?;
    copy_sparse(&mut File::open(part.path())?, &disk, PARTITION_OFFSET)?;
    Ok(())
}

/// The last 66 bytes of a master boot record with one Linux partition over the rest of the disk.
fn partition_table(disk_mib: u64) -> [u8; 66] {
    let sectors = u32::try_from(disk_mib * 2048 - 2048).unwrap_or(u32::MAX);
    let mut table = [0; 66];
    table[..8].copy_from_slice(&[0x80, 0xfe, 0xff, 0xff, 0x83, 0xfe, 0xff, 0xff]);
    table[8..12].copy_from_slice(&2048_u32.to_le_bytes());
    table[12..16].copy_from_slice(&sectors.to_le_bytes());
    table[64..].copy_from_slice(&[0x55, 0xaa]);
    table
}

fn make_ext4(part: &Path, stage: &Path) -> io::Result<()> {
    let mut command = Command::new("mke2fs");
    // Debian keeps it in /usr/sbin, which is not in every user's path.
    command.env("PATH", path_with_sbin()).env("E2FSPROGS_FAKE_TIME", "1700000000");
    command.args(["-q", "-F", "-t", "ext4", "-U", "6a1c0f7e-0000-4000-8000-000000000001", "-E"]);
    command.arg("lazy_itable_init=1,hash_seed=6a1c0f7e-0000-4000-8000-000000000002");
    let output =
        command.arg("-d").arg(stage).arg(part).output().map_err(|e| io::Error::other(format!("mke2fs: {e}")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("mke2fs failed: {}", String::from_utf8_lossy(&output.stderr))))
}

/// `PATH` with the folders of the system administrator's tools.
pub fn path_with_sbin() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    path
}

/// Copies files into `stage` until they take `budget` bytes. Files that do not fit are left out.
fn fill_stage(stage: &Path, budget: u64) -> io::Result<()> {
    let mut left = budget;
    for source in SOURCES {
        for file in files_below(Path::new(source)) {
            if left < 64 << 10 {
                return Ok(());
            }
            // A file that vanishes, or that nobody but root may read, is left out.
            let Ok(metadata) = fs::metadata(&file) else { continue };
            let size = metadata.len().next_multiple_of(1024);
            let target = stage.join(file.strip_prefix("/").unwrap_or(&file));
            if size <= left && !target.exists() && copy_file(&file, &target).is_ok() {
                left -= size;
            }
        }
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to.parent().unwrap_or(to))?;
    fs::copy(from, to)?;
    // A fixed time, so that the same files always give the same image.
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    File::open(to)?.set_modified(time)
}

/// The regular files below `root` on its own file system, in the order of their paths.
fn files_below(root: &Path) -> Vec<PathBuf> {
    let Ok(device) = fs::metadata(root).map(|metadata| metadata.dev()) else { return Vec::new() };
    let (mut files, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_file() {
                files.push(entry.path());
            } else if metadata.is_dir() && metadata.dev() == device {
                folders.push(entry.path());
            }
        }
    }
    files.sort();
    files
}
