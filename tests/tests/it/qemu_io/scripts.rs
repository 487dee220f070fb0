//! Longer scripts: data that one program wrote is read and checked by the other.

use std::path::Path;

use test_support::programs::{Program, our_qemu_io, qemu_io, reference};

use super::{converse, folder};

/// Lets `writer` run `writes` and `reader` run `reads`; all must succeed quietly.
#[track_caller]
fn hand_over(dir: &Path, [writer, reader]: [&Program; 2], image: &str, writes: &str, reads: &str) {
    let written = converse(writer, dir, image, writes).ok();
    for word in ["failed", "error"] {
        assert!(!written.stdout.contains(word), "{written}");
    }
    reference().run(dir, &format!("check -q {image}")).ok();
    let read = converse(reader, dir, image, reads).ok();
    assert!(!read.stdout.contains("failed"), "{read}");
}

/// Both directions.
#[track_caller]
fn both_ways(image: &str, writes: &str, reads: &str) {
    for programs in [[our_qemu_io(), qemu_io()], [qemu_io(), our_qemu_io()]] {
        hand_over(folder().path(), programs, image, writes, reads);
    }
}

#[test]
fn copy_on_write_keeps_what_is_around() {
    let mut writes = String::new();
    let mut reads = String::new();
    // In each cluster another part is written: the beginning, the end, the middle, two pieces, an odd byte.
    for (cluster, pieces) in
        [&[(0, 700)][..], &[(3000, 1096)], &[(1000, 2000)], &[(0, 1), (4095, 1)], &[(2049, 3)]].iter().enumerate()
    {
        let start = 1 + cluster * 4096;
        let base = 40960 + cluster * 4096;
        writes.push_str(&format!("write -q -P 17 {base} 4096\n"));
        let mut at = 0;
        for (offset, len) in *pieces {
            writes.push_str(
                &format!("write -q -P {start} {} {len}\n", base + offset).replace(&format!("-P {start}"), "-P 34"),
            );
            if at < *offset {
                reads.push_str(&format!("read -P 17 {} {}\n", base + at, offset - at));
            }
            reads.push_str(&format!("read -P 34 {} {len}\n", base + offset));
            at = offset + len;
        }
        if at < 4096 {
            reads.push_str(&format!("read -P 17 {} {}\n", base + at, 4096 - at));
        }
    }
    both_ways("small.qcow2", &writes, &reads);
}

#[test]
fn overlays_show_what_they_do_not_hold() {
    let writes = "write -P 1 1k 1k\nwrite -P 2 200k 10\nwrite -z 64k 32k\ndiscard 512k 64k\nwrite -P 3 640k 64k\n";
    let reads = "read -P 5 0 1k\nread -P 1 1k 1k\nread -P 5 2k 62k\nread -P 0 64k 32k\nread -P 5 96k 32k\n\
                 read -P 0 128k 72k\nread -P 2 200k 10\nread -P 0 512k 64k\nread -P 3 640k 64k\n";
    both_ways("over.qcow2", writes, reads);
    // The backing file is as it was.
    let dir = folder();
    converse(our_qemu_io(), dir.path(), "over.qcow2", writes).ok();
    converse(qemu_io(), dir.path(), "-f raw base.raw", "read -P 5 0 128k\nread -P 0 128k 896k\n").ok();
}

#[test]
fn discarded_space_is_used_again() {
    let writes = "write -P 1 0 1M\nflush\ndiscard 256k 256k\nflush\nwrite -P 2 256k 128k\naio_write -P 3 384k 64k\n\
                  aio_write -P 4 448k 64k\naio_flush\n";
    let reads = "read -P 1 0 256k\nread -P 2 256k 128k\nread -P 3 384k 64k\nread -P 4 448k 64k\nread -P 1 512k 512k\n";
    both_ways("disk.qcow2", writes, reads);
}

#[test]
fn compressed_clusters_are_read_and_replaced() {
    let writes = "write -c -P 1 0 512k\nwrite -P 2 1k 1k\nwrite -P 3 64k 64k\ndiscard 128k 64k\nwrite -z 192k 64k\n";
    let reads = "read -P 1 0 1k\nread -P 2 1k 1k\nread -P 1 2k 62k\nread -P 3 64k 64k\nread -P 0 128k 128k\n\
                 read -P 1 256k 256k\n";
    both_ways("disk.qcow2", writes, reads);
}

#[test]
fn many_requests_at_once_all_arrive() {
    let mut writes = String::new();
    let mut reads = String::new();
    for i in 0..64_u32 {
        writes.push_str(&format!("aio_write -q -P {} {} 12k\n", i + 1, i * 12 * 1024));
        reads.push_str(&format!("aio_read -q -P {} {} 12k\n", i + 1, i * 12 * 1024));
    }
    writes.push_str("aio_flush\n");
    reads.push_str("aio_flush\n");
    both_ways("small.qcow2", &writes, &reads);
}
