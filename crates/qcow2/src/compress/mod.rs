//! Compressing and decompressing single clusters. Pure computation: callers run it on the worker threads.
//!
//! Each thread keeps its codec states, because making one costs more than a small cluster.
//!
//! QEMU: block/qcow2-threads.c.

mod level;
mod zlib;
mod zstd;

use crate::error::FormatError;
use crate::format::header::CompressionType;

pub(crate) use level::Level;

/// Compresses a cluster into the start of `scratch` and returns the length; none when the result would not be smaller
/// than the cluster, or than `scratch`.
pub(crate) fn compress(kind: CompressionType, level: Level, cluster: &[u8], scratch: &mut [u8]) -> Option<usize> {
    let room = cluster.len().checked_sub(1)?.min(scratch.len());
    let out = scratch.get_mut(..room)?;
    match kind {
        CompressionType::Zlib => zlib::compress(level, cluster, out),
        CompressionType::Zstd => zstd::compress(level, cluster, out),
    }
}

/// Decompresses what `input` begins with so that it fills `cluster`; `input` may go on after it, with padding or with
/// other clusters.
///
/// # Errors
/// When the data is damaged, or is not exactly one cluster. The contents of `cluster` are unspecified then.
pub(crate) fn decompress(kind: CompressionType, input: &[u8], cluster: &mut [u8]) -> Result<(), FormatError> {
    match kind {
        CompressionType::Zlib => zlib::decompress(input, cluster),
        CompressionType::Zstd => zstd::decompress(input, cluster),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KINDS: [CompressionType; 2] = [CompressionType::Zlib, CompressionType::Zstd];

    fn text(len: usize) -> Vec<u8> {
        (0..len).map(|at| b"what compresses well repeats itself "[at % 36] ^ u8::from(at % 1009 == 0)).collect()
    }

    #[test]
    fn clusters_come_back_whatever_follows_them() {
        for (kind, len) in KINDS.into_iter().flat_map(|kind| [(kind, 512), (kind, 65536), (kind, 2 << 20)]) {
            let cluster = text(len);
            let mut scratch = vec![0; len];
            let used = compress(kind, Level::default(), &cluster, &mut scratch).expect("it repeats itself");
            let mut padded = scratch[..used].to_vec();
            padded.extend_from_slice(&[0xa5; 700]);
            for input in [&scratch[..used], &padded] {
                let mut back = vec![0; len];
                assert_eq!(decompress(kind, input, &mut back), Ok(()));
                assert!(back == cluster, "{kind:?} {len}");
            }
        }
    }

    #[test]
    fn every_level_can_be_read_and_the_highest_is_not_the_largest() {
        for kind in KINDS {
            let lens: Vec<usize> = kind.levels().map(|level| compressed_len(kind, level)).collect();
            assert!(lens.last() < lens.first(), "{kind:?} {lens:?}");
        }
    }

    /// Compresses at one level and then at another, for the codecs of a thread are used again, and reads it back.
    fn compressed_len(kind: CompressionType, level: u64) -> usize {
        let mut options = qemu_block::options::Options::new();
        options.set("compression-level", level);
        let level = Level::take(&mut options, kind).expect("in range");
        let cluster: Vec<u8> = (0..65536_u32).map(|at| (at.wrapping_mul(at) >> 11).to_be_bytes()[3] & 15).collect();
        let (mut scratch, mut back) = (vec![0; cluster.len()], vec![0; cluster.len()]);
        let used = compress(kind, level, &cluster, &mut scratch).expect("four bits of eight are zero");
        decompress(kind, &scratch[..used], &mut back).expect("just compressed");
        assert!(back == cluster, "{kind:?} {level:?}");
        used
    }

    #[test]
    fn what_does_not_shrink_is_refused() {
        let mut state = 1u64;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_be_bytes()[0]
        };
        let cluster: Vec<u8> = (0..4096).map(|_| noise()).collect();
        for kind in KINDS {
            assert_eq!(compress(kind, Level::default(), &cluster, &mut vec![0; 8192]), None);
            assert_eq!(compress(kind, Level::default(), &[], &mut [0; 16]), None);
        }
    }

    #[test]
    fn a_wrong_size_is_damage() {
        for kind in KINDS {
            let mut scratch = vec![0; 4096];
            let used = compress(kind, Level::default(), &text(4096), &mut scratch).expect("it repeats itself");
            for len in [2048, 8192] {
                assert_eq!(decompress(kind, &scratch[..used], &mut vec![0; len]), Err(FormatError::Decompress));
            }
            assert_eq!(decompress(kind, &scratch[..used - 1], &mut vec![0; 4096]), Err(FormatError::Decompress));
            assert_eq!(decompress(kind, &[], &mut [0; 512]), Err(FormatError::Decompress));
        }
    }

    proptest! {
        #[test]
        fn damage_is_survived(at in 0usize..100, value: u8, zstd: bool) {
            let kind = KINDS[usize::from(zstd)];
            let mut scratch = vec![0; 4096];
            let used = compress(kind, Level::default(), &text(4096), &mut scratch).expect("it repeats itself");
            scratch[at % used] = value;
            drop(decompress(kind, &scratch[..used], &mut vec![0; 4096]));
        }

        #[test]
        fn noise_is_survived(noise in proptest::collection::vec(any::<u8>(), 0..600), zstd: bool) {
            drop(decompress(KINDS[usize::from(zstd)], &noise, &mut vec![0; 4096]));
        }
    }
}
