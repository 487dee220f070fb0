//! Guest data of encrypted images: reads and writes of every shape, copy on write, zeros, snapshots, compressed clusters.

use qemu_block::error::ErrorKind;
use qemu_block::types::{BlockStatus, OpenFlags, StatusFlags, WriteFlags, ZeroFlags};
use qemu_util::buf::{IoBuf, IoVec, IoVecMut};

use super::vault::{AES, LUKS, Vault, close, write};
use crate::support::block_on;

const CLUSTER: usize = 65_536;
const SIZE: usize = 4 << 20;

#[test]
fn what_the_reference_wrote_is_read() {
    for options in [LUKS.to_owned(), format!("{LUKS},compat=0.10,cluster_size=4k"), AES.to_owned()] {
        let vault = Vault::new();
        vault.create_by_oracle("a", &options, "4M");
        vault.io_by_oracle(
            "a",
            &[
                "write -P 1 0 3k",
                "write -P 2 63k 200k",
                "write -P 3 1M 1M",
                "write -z 1280k 64k",
                "write -P 4 4095k 1k",
            ],
        );
        let theirs = vault.read_by_oracle("a", "one");
        assert!(vault.read_with("a", "one") == theirs, "{options}");
        assert_eq!(vault.check("a"), (0, 0));
        // And what we change, it reads.
        let node = vault.open_rw("a");
        write(&node, 1_100_000, &[9; 300_001]);
        close(&node);
        let mut expected = theirs;
        expected[1_100_000..1_400_001].fill(9);
        assert!(vault.read_by_oracle("a", "one") == expected, "{options}");
        vault.check_by_oracle("a");
    }
}

#[test]
fn copy_on_write_decrypts_and_encrypts() {
    let vault = Vault::new();
    vault.create("base", "", &(3 * CLUSTER + 512).to_string()).expect("created");
    let base = vault.open("base", "", OpenFlags::WRITE).expect("not encrypted");
    write(&base, 0, &[7; 3 * CLUSTER + 512]);
    close(&base);
    vault.create("a", &format!("{LUKS},backing_file=base,backing_fmt=qcow2"), "4M").expect("created");
    let node = vault.open_rw("a");
    let mut disk = vec![0; SIZE];
    disk[..3 * CLUSTER + 512].fill(7);
    // A few bytes in a cluster of the backing file, in the one where it ends, and in one after it.
    for (offset, len, byte) in
        [(1000, 1, 1), (3 * CLUSTER - 10, 20, 2), (3 * CLUSTER + 502, 20, 3), (9 * CLUSTER + 5, 7, 4)]
    {
        write(&node, offset as u64, &vec![byte; len]);
        disk[offset..offset + len].fill(byte);
    }
    close(&node);
    assert!(vault.read_with("a", "one") == disk);
    assert!(vault.read_by_oracle("a", "one") == disk);
    vault.check_by_oracle("a");
}

#[test]
fn an_encrypted_backing_file_needs_its_own_secret() {
    let vault = Vault::new();
    vault.create("base", LUKS, "1M").expect("created");
    let node = vault.open_rw("base");
    write(&node, 0, &[5; 1000]);
    close(&node);
    vault.create("a", "backing_file=base,backing_fmt=qcow2", "1M").expect("created");
    let text = vault.refusal("a", "", OpenFlags::empty());
    assert!(text.ends_with("Parameter 'encrypt.key-secret' is required for cipher"), "{text}");
    let node = vault.open("a", "backing.encrypt.key-secret=one", OpenFlags::empty()).expect("its own secret");
    assert_eq!(&block_on(node.read_bytes(998, 4)).expect("readable")[..], [5, 5, 0, 0]);
    close(&node);
}

#[test]
fn snapshots_keep_what_they_have() {
    let vault = Vault::new();
    vault.create("a", LUKS, "4M").expect("created");
    let node = vault.open_rw("a");
    let before = vec![1; 3 * CLUSTER];
    write(&node, 0, &before);
    close(&node);
    vault.run("snapshot", &["--image-opts", "-c", "initial", &super::vault::spec("a", "one")]);
    // All clusters are shared now, so a write copies what it does not cover.
    let node = vault.open_rw("a");
    write(&node, 70_000, &[2; 10]);
    close(&node);
    let mut disk = vec![0; SIZE];
    disk[..3 * CLUSTER].fill(1);
    disk[70_000..70_010].fill(2);
    assert!(vault.read_by_oracle("a", "one") == disk);
    vault.check_by_oracle("a");
    vault.run("snapshot", &["--image-opts", "-a", "initial", &super::vault::spec("a", "one")]);
    assert_eq!(vault.read_with("a", "one")[..3 * CLUSTER], before[..]);
}

#[test]
fn compressed_clusters_are_read_and_not_written() {
    let vault = Vault::new();
    vault.create_by_oracle("a", LUKS, "4M");
    // The reference does write some, in plain text.
    vault.io_by_oracle("a", &["write -c -P 5 64k 64k", "write -P 6 128k 64k"]);
    let node = vault.open_rw("a");
    let refused = block_on(node.compress(0, IoBuf::zeroed(CLUSTER).into())).expect_err("refused");
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    assert_eq!(refused.to_string(), "Compression and encryption not supported at the same time");
    assert_eq!(&block_on(node.read_bytes(131_070, 4)).expect("readable")[..], [5, 5, 6, 6]);
    // Once overwritten in part, the rest is encrypted as well.
    write(&node, 70_000, &[8; 4]);
    close(&node);
    let disk = vault.read_by_oracle("a", "one");
    assert_eq!(disk[69_998..70_006], [5, 5, 8, 8, 8, 8, 5, 5]);
    vault.check_by_oracle("a");
}

#[test]
fn data_is_never_shown_as_stored() {
    let vault = Vault::new();
    vault.create("a", LUKS, "4M").expect("created");
    vault.create("b", LUKS, "4M").expect("created");
    let node = vault.open_rw("a");
    write(&node, 0, &[1; CLUSTER]);
    close(&node);
    let node = vault.open("a", "encrypt.key-secret=one", OpenFlags::empty()).expect("unlocked");
    let status = block_on(node.block_status(0, 4096)).expect("known");
    assert_eq!(status, BlockStatus { len: 4096, flags: StatusFlags::DATA | StatusFlags::ALLOCATED, host_offset: None });
    let other = vault.open_rw("b");
    let copied = block_on(node.copy_range(0, &other, 0, 4096)).expect_err("refused");
    assert_eq!(copied.kind(), ErrorKind::Unsupported);
    std::fs::write(vault.path("raw"), [1; 8192]).expect("writable");
    let spec = qemu_block::registry::OpenSpec::file(vault.path("raw")).with_driver(Some("file"));
    let plain = block_on(vault.context.open(spec)).expect("opened");
    let copied = block_on(plain.copy_range(0, &other, 0, 4096)).expect_err("refused");
    assert_eq!(copied.kind(), ErrorKind::Unsupported);
    for node in [&node, &other, &plain] {
        close(node);
    }
}

#[test]
fn buffers_of_any_shape_are_filled() {
    let vault = Vault::new();
    vault.create("a", LUKS, "4M").expect("created");
    let node = vault.open_rw("a");
    let bytes: Vec<u8> = (0..1 << 20).map(|at| u8::try_from(at % 253).expect("small")).collect();
    let mut scattered = IoVec::default();
    for (start, end) in [(0, 1), (1, 700), (700, 5000), (5000, 512_100), (512_100, 1 << 20)] {
        scattered.append(IoBuf::copy_of(&bytes[start..end]).into());
    }
    block_on(node.write(512, scattered, WriteFlags::empty())).expect("written");
    let mut buf = IoVecMut::default();
    for len in [3, 509, 100, 1000, 400_000, (1 << 20) - 401_612] {
        buf.append(IoBuf::zeroed(len).into());
    }
    let read = block_on(node.read(512, buf)).expect("readable");
    assert!(read.to_vec() == bytes);
    close(&node);
    assert!(vault.read_by_oracle("a", "one")[512..512 + (1 << 20)] == bytes);
}

/// A sequence of numbers that is the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// Random requests against a vector of bytes.
fn random_requests(options: &str, seed: u64) {
    let context = format!("seed {seed:#x}, {options}");
    let mut random = Random(seed);
    let vault = Vault::new();
    vault.create("a", options, "4M").expect("created");
    let mut node = vault.open_rw("a");
    let mut disk = vec![0_u8; SIZE];
    for step in 0..150 {
        let offset = random.below(SIZE as u64);
        let len = 1 + random.below(if step % 3 == 0 { 300_000 } else { 5000 }).min(SIZE as u64 - offset - 1);
        let range = usize::try_from(offset).expect("small")..usize::try_from(offset + len).expect("small");
        match random.below(8) {
            0..4 => {
                let byte = u8::try_from(1 + random.below(255)).expect("small");
                write(&node, offset, &vec![byte; range.len()]);
                disk[range].fill(byte);
            }
            4 => {
                block_on(node.write_zeroes(offset, len, ZeroFlags::MAY_UNMAP)).expect("zeroed");
                disk[range].fill(0);
            }
            5 => {
                let start = offset / CLUSTER as u64 * CLUSTER as u64;
                block_on(node.write_zeroes(start, CLUSTER as u64, ZeroFlags::empty())).expect("zeroed");
                disk[usize::try_from(start).expect("small")..][..CLUSTER].fill(0);
            }
            6 => {
                let read = block_on(node.read_bytes(offset, range.len())).expect("readable");
                assert!(read[..] == disk[range], "{context}, step {step}");
            }
            _ => {
                close(&node);
                node = vault.open_rw("a");
            }
        }
    }
    close(&node);
    assert!(vault.read_with("a", "one") == disk, "{context}: we read something else");
    assert!(vault.read_by_oracle("a", "one") == disk, "{context}: the reference reads something else");
    vault.check_by_oracle("a");
    assert_eq!(vault.check("a"), (0, 0), "{context}");
}

#[test]
fn random_requests_on_luks() {
    random_requests(LUKS, 0x9e37_79b9_7f4a_7c15);
    random_requests(&format!("{LUKS},preallocation=metadata"), 0x1234_5678_9abc_def1);
}

#[test]
fn random_requests_on_subclusters() {
    random_requests(&format!("{LUKS},extended_l2=on"), 0x5bd1_e995_c6a4_a793);
    random_requests(&format!("{LUKS},extended_l2=on,preallocation=metadata"), 0x1357_9bdf_0246_8ace);
}

#[test]
fn random_requests_on_legacy_aes() {
    random_requests(AES, 0x0fed_cba9_8765_4321);
}
