//! Images that several tests share: made once, by the reference, below cargo's folder for temporary files.
//!
//! nextest runs every test in a process of its own, so the makers exclude each other with a file lock.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use test_support::cloud::{self, CloudSpec, Makers};
use test_support::files;
use test_support::programs::{qemu_io, reference, reference_version};

/// Raised when a maker changes, so that images made before are not used.
const RECIPE: u32 = 2;

/// A folder that only this test uses; it vanishes with the value.
pub(crate) fn scratch() -> TempDir {
    tempfile::Builder::new().prefix("qemu-img-test").tempdir().expect("a temporary folder can be made")
}

/// The folder `name` of the shared fixtures; `make` fills it if nobody has yet.
pub(crate) fn shared(name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fixtures-{RECIPE}-{}", reference_version()));
    fs::create_dir_all(&root).expect("the folder for fixtures can be made");
    let lock = File::create(root.join(format!("{name}.lock"))).expect("a lock file can be made");
    lock.lock().expect("a lock can be taken");
    let dir = root.join(name);
    if !dir.exists() {
        // Renamed when complete: a maker that was killed leaves nothing that looks finished.
        let unfinished = tempfile::Builder::new().prefix("unfinished").tempdir_in(&root).expect("a folder can be made");
        make(unfinished.path());
        fs::rename(unfinished.keep(), &dir).expect("a folder can be renamed");
    }
    dir
}

/// The cloud images of about 64 MiB.
pub(crate) fn cloud_images() -> PathBuf {
    shared("cloud", |dir| {
        let spec = CloudSpec { content_mib: 64, disk_mib: 160 };
        let makers = Makers { qemu_img: reference(), qemu_io: qemu_io() };
        cloud::make(dir, spec, makers).expect("the cloud images can be made");
    })
}

/// Virtual size of the small images, in bytes. Not a multiple of the cluster size.
pub(crate) const SMALL_BYTES: u64 = (1 << 20) + (1 << 19) + 512;

/// Small images of every kind that `info`, `check` and `convert` know; see [`make_small`] for their names.
pub(crate) fn small_images() -> PathBuf {
    shared("small", make_small)
}

/// A folder of this test's own with a copy of all [`small_images`].
pub(crate) fn scratch_with_small_images() -> TempDir {
    let dir = scratch();
    files::copy_sparse_files(&small_images(), dir.path()).expect("small images can be copied");
    dir
}

/// What an image among the [`small_images`] cannot be read without.
const BELOW: &[(&str, &str)] = &[
    ("over2.qcow2", "over.qcow2"),
    ("over.qcow2", "plain.qcow2"),
    ("over-raw.qcow2", "raw.img"),
    ("over-long.qcow2", "plain.qcow2"),
    ("data-file.qcow2", "data.bin"),
];

/// A folder of this test's own with copies of those [`small_images`] that `line` names, and of what is below them; with a
/// folder in it, if the line names `folder`.
pub(crate) fn scratch_with_images_of(line: &str) -> TempDir {
    let dir = scratch();
    let images = small_images();
    let mut wanted = line.to_owned();
    // Those above come first in the table, so one pass reaches the end of every chain.
    for (above, below) in BELOW {
        if wanted.contains(above) {
            wanted.push_str(&format!(" {below}"));
        }
    }
    for entry in fs::read_dir(&images).expect("the images can be listed") {
        let name = entry.expect("an entry can be read").file_name();
        if wanted.contains(&*name.to_string_lossy()) {
            files::copy_sparse_file(&images.join(&name), &dir.path().join(&name)).expect("an image can be copied");
        }
    }
    if line.contains("folder") {
        fs::create_dir(dir.path().join("folder")).expect("a folder can be made");
    }
    dir
}

fn make_small(dir: &Path) {
    make_small_raw(&dir.join("raw.img"));
    let variants = [
        ("plain.qcow2", ""),
        ("v2.qcow2", "-o compat=0.10"),
        ("c512.qcow2", "-o cluster_size=512"),
        ("c2m.qcow2", "-o cluster_size=2M"),
        ("r1.qcow2", "-o refcount_bits=1"),
        ("r64.qcow2", "-o refcount_bits=64,cluster_size=4096"),
        ("lazy.qcow2", "-o lazy_refcounts=on"),
        ("prealloc.qcow2", "-o preallocation=metadata"),
        ("zlib.qcow2", "-c"),
        ("zstd.qcow2", "-c -o compression_type=zstd"),
        ("ext-l2.qcow2", "-o extended_l2=on"),
        ("snap.qcow2", ""),
        ("bitmaps.qcow2", ""),
        ("leak.qcow2", ""),
        ("outside.qcow2", ""),
        ("overlap.qcow2", ""),
        ("data-file.qcow2", "-o data_file=data.bin"),
    ];
    for (name, options) in variants {
        reference().run(dir, &format!("convert -f raw -O qcow2 {options} raw.img {name}")).ok();
    }
    for line in [
        "create -q -f qcow2 -b plain.qcow2 -F qcow2 over.qcow2",
        "create -q -f qcow2 -b over.qcow2 -F qcow2 over2.qcow2",
        "create -q -f qcow2 -b raw.img -F raw over-raw.qcow2",
        "create -q -f qcow2 -b plain.qcow2 -F qcow2 over-long.qcow2 3M",
        "create -q -u -f qcow2 -b missing.qcow2 -F qcow2 orphan.qcow2 1M",
        "create -q -f qcow2 empty.qcow2 1M",
        "snapshot -c before snap.qcow2",
        "bitmap --add bitmaps.qcow2 b0",
        "bitmap --add --disable -g 128k bitmaps.qcow2 b1",
    ] {
        reference().run(dir, line).ok();
    }
    let writes = "write -q -P 17 64k 4k\nwrite -q -z 512k 128k\nwrite -q -P 18 1500k 30k\n";
    for name in ["over.qcow2", "over-long.qcow2", "snap.qcow2"] {
        qemu_io().invoke(dir).words(&format!("-f qcow2 {name}")).input(writes).run().ok();
    }
    damage(dir);
    fs::write(dir.join("zero-length"), b"").expect("a file can be written");
    fs::write(dir.join("text"), b"This is no disk image.\n".repeat(100)).expect("a file can be written");
}

/// Text, noise and holes, with a written end.
fn make_small_raw(path: &Path) {
    let file = File::create(path).expect("a file can be made");
    file.set_len(SMALL_BYTES).expect("a file can grow");
    let mut noise = test_support::sample::Noise(42);
    let words: Vec<u8> = (0..9000).flat_map(|_| noise.next_word().to_be_bytes()).collect();
    let text = b"All work and no play makes a dull disk.\n".repeat(3000);
    for (offset, bytes) in [(0, &text[..]), (300 << 10, &words), (1 << 20, &text), (SMALL_BYTES - 512, &words[..512])] {
        file.write_all_at(bytes, offset).expect("a file can be written");
    }
}

/// Changes single fields of images, at the places where the reference put them: header, refcount table, refcount block,
/// L1 table and L2 table follow one another in clusters of 64 KiB.
fn damage(dir: &Path) {
    let patch = |name: &str, offset: u64, bytes: &[u8]| {
        let file = File::options().write(true).open(dir.join(name)).expect("an image can be opened");
        file.write_all_at(bytes, offset).expect("an image can be patched");
    };
    let l2_entry_0 = l2_table(&dir.join("outside.qcow2"));
    // A cluster that is counted and that nothing uses: the entry for 300 KiB + is dropped, its count stays.
    patch("leak.qcow2", l2_entry_0 + 8 * 5, &[0; 8]);
    // A cluster 16 TiB into the file.
    patch("outside.qcow2", l2_entry_0, &(1_u64 << 63 | 1 << 44).to_be_bytes());
    // Guest data where the L1 table is.
    let l1 = read_u64(&dir.join("overlap.qcow2"), 40);
    patch("overlap.qcow2", l2_entry_0, &(1_u64 << 63 | l1).to_be_bytes());
}

/// The offset of the first L2 table.
pub(crate) fn l2_table(image: &Path) -> u64 {
    let l1 = read_u64(image, 40);
    read_u64(image, l1) & 0x00ff_ffff_ffff_fe00
}

/// The big-endian number at `offset`.
pub(crate) fn read_u64(image: &Path, offset: u64) -> u64 {
    let mut bytes = [0; 8];
    let file = File::open(image).expect("an image can be opened");
    file.read_exact_at(&mut bytes, offset).expect("an image has that offset");
    u64::from_be_bytes(bytes)
}

/// Overwrites bytes of an image.
pub(crate) fn patch(image: &Path, offset: u64, bytes: &[u8]) {
    let file = File::options().write(true).open(image).expect("an image can be opened");
    file.write_all_at(bytes, offset).expect("an image can be patched");
}
