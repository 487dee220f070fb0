//! Headers that the reference writes and refuses.

use qcow2::format::header::Header;

use crate::support::{Bench, oracle};

#[test]
fn headers_of_the_reference_come_back_byte_for_byte() {
    for options in ["compat=0.10", "compat=1.1", "compression_type=zstd,lazy_refcounts=on", "cluster_size=512"] {
        let bench = Bench::new();
        let path = bench.path("image");
        oracle(&["create", "-q", "-u", "-f", "qcow2", "-o", options, "-b", "base", "-F", "raw", &path, "1G"]);
        let bytes = std::fs::read(&path).expect("readable");
        let len = usize::try_from(Header::wanted_len(&bytes).expect("an image")).expect("short");
        let header = Header::parse(&bytes[..len], bytes.len() as u64).expect("valid");
        assert_eq!(header.backing_name_text(), Ok(Some("base")));
        assert_eq!(header.backing_format().as_deref(), Some("raw"));
        let written = header.serialize().expect("fits");
        assert_eq!(written, bytes[..written.len()], "{options}");
    }
}

#[test]
fn refusals_have_the_references_text() {
    let patches: &[(usize, &[u8])] = &[
        (0, b"X"),
        (4, &[0, 0, 0, 4]),
        (20, &[0, 0, 0, 22]),
        (100, &[0, 0, 0, 96]),
        (8, &[0, 0, 0, 0, 0, 1, 0, 1]),
        (96, &[0, 0, 0, 7]),
        (36, &[0, 0x40, 0, 1]),
        (56, &[0, 0, 0, 0]),
        (24, &[0x10, 0, 0, 0]),
        (72, &[0x80]),
        (79, &[8]),
        (104, &[2]),
        (0x74, &[0, 1, 0, 0]),
    ];
    for (offset, value) in patches {
        let bench = Bench::new();
        let path = bench.path("image");
        oracle(&["create", "-q", "-f", "qcow2", &path, "1G"]);
        let mut bytes = std::fs::read(&path).expect("readable");
        bytes[*offset..offset + value.len()].copy_from_slice(value);
        std::fs::write(&path, &bytes).expect("writable");
        let (_, theirs) = oracle(&["info", "-f", "qcow2", &path]);
        let ours = Header::parse(&bytes[..65536], bytes.len() as u64).expect_err("damaged").to_string();
        assert!(theirs.trim_end().ends_with(&format!("': {ours}")), "{ours} / {theirs}");
    }
}
