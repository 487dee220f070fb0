use proptest::prelude::*;

use super::*;

type Scan = (&'static str, fn(&[u8]) -> bool);

/// Every build of the scan that this processor can run.
fn scans() -> Vec<Scan> {
    #[cfg_attr(not(target_arch = "x86_64"), expect(unused_mut, reason = "only x86 has optional widths"))]
    let mut scans: Vec<Scan> = vec![("portable", scan), ("short", scan_short)];
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the feature was detected.
            scans.push(("avx2", |bytes| unsafe { scan_avx2(bytes) }));
        }
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") {
            // SAFETY: the features were detected.
            scans.push(("avx512", |bytes| unsafe { scan_avx512(bytes) }));
        }
    }
    scans
}

fn run_length_naive(bytes: &[u8], granule: usize) -> (bool, usize) {
    let kind = |piece: &[u8]| piece.iter().all(|&b| b == 0);
    let Some(first) = bytes.chunks(granule).next() else { return (true, 0) };
    let mut len = 0;
    for piece in bytes.chunks(granule) {
        if kind(piece) != kind(first) {
            break;
        }
        len += piece.len();
    }
    (kind(first), len)
}

#[test]
fn an_empty_slice_is_zero() {
    assert!(is_zero(&[]));
    assert_eq!(run_length(&[], 512), (true, 0));
}

/// One set bit at every position, for every length around the block sizes and every alignment of the start.
#[test]
fn a_single_bit_is_found_anywhere() {
    let mut buffer = vec![0_u8; 64 + 2 * BLOCK + 80];
    for start in [0, 1, 7, 8, 31, 63] {
        for len in (1..=40).chain(BLOCK - 10..=BLOCK + 10).chain(2 * BLOCK - 3..=2 * BLOCK + 11) {
            for (name, scan) in scans() {
                assert!(scan(&buffer[start..start + len]), "{name}, start {start}, length {len}");
            }
            for at in start..start + len {
                buffer[at] = 1 << (at % 8);
                assert!(!is_zero(&buffer[start..start + len]), "start {start}, length {len}, byte {at}");
                for (name, scan) in scans() {
                    assert!(!scan(&buffer[start..start + len]), "{name}, start {start}, length {len}, byte {at}");
                }
                buffer[at] = 0;
            }
        }
    }
}

/// What lies around the slice must not matter.
#[test]
fn neighbours_are_not_read() {
    let mut buffer = vec![0xff_u8; 3 * BLOCK];
    for len in 1..2 * BLOCK {
        buffer[33..33 + len].fill(0);
        assert!(is_zero(&buffer[33..33 + len]), "length {len}");
        buffer[33..33 + len].fill(0xff);
    }
}

#[test]
fn runs_end_at_granules_or_at_the_end() {
    let mut buffer = vec![0_u8; 5000];
    assert_eq!(run_length(&buffer, 4096), (true, 5000));
    buffer[4999] = 1;
    assert_eq!(run_length(&buffer, 4096), (true, 4096));
    assert_eq!(run_length(&buffer[4096..], 4096), (false, 904));
    assert_eq!(run_length(&buffer, 8192), (false, 5000));
}

proptest! {
    #[test]
    fn is_zero_agrees_with_the_naive_version(
        len in 0_usize..5000,
        start in 0_usize..64,
        set in proptest::option::of((any::<proptest::sample::Index>(), 1_u8..)),
    ) {
        let mut buffer = vec![0_u8; start + len];
        if let Some((at, value)) = set && !buffer.is_empty() {
            let at = at.index(buffer.len());
            buffer[at] = value;
        }
        let bytes = &buffer[start..];
        prop_assert_eq!(is_zero(bytes), bytes.iter().all(|&b| b == 0));
    }

    #[test]
    fn run_length_agrees_with_the_naive_version(
        granule in prop_oneof![Just(1_usize), Just(3), Just(64), Just(512)],
        pieces in proptest::collection::vec(any::<bool>(), 0..20),
        tail in 0_usize..512,
    ) {
        let mut buffer = Vec::new();
        for set in pieces {
            let end = buffer.len() + granule;
            buffer.resize(end, 0);
            buffer[end - 1] = u8::from(set);
        }
        buffer.resize(buffer.len() + tail, 0);
        prop_assert_eq!(run_length(&buffer, granule), run_length_naive(&buffer, granule));
    }
}
