//! Which parts of a buffer are worth writing: the zero detection of `-S`.

use qemu_util::zero::is_zero;

/// How zeros inside the data of the source are treated. QEMU: `min_sparse` and `alignment` of `ImgConvertState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ZeroDetection {
    /// Runs of data begin and end at guest offsets that are multiples of this many bytes; a power of two.
    grain: u64,
    /// Zeros between data are left out only where there are at least this many bytes of them.
    run_min: u64,
}

impl ZeroDetection {
    /// Detection of runs of `sparse_size` bytes, for a target that wants requests aligned to `request_alignment` bytes
    /// (a power of two). `None` when zeros are to be written like any data, which is what a size of 0 asks for.
    pub(super) fn new(sparse_size: u64, request_alignment: u64) -> Option<Self> {
        let power_of_two = 1_u64.checked_shl(sparse_size.checked_ilog2()?).unwrap_or(1);
        Some(Self { grain: power_of_two.max(request_alignment), run_min: sparse_size })
    }

    /// Where the decisions for one buffer do not depend on its neighbours: at multiples of this many bytes. `None` when
    /// there is no such place, because the run that counts is not a multiple of the grain.
    pub(super) fn independent_at(self) -> Option<u64> {
        (self.run_min <= self.grain).then_some(self.grain)
    }

    /// The run at the start of `bytes`, which belong to guest offset `offset`: whether it is data, and its length.
    ///
    /// Data runs may contain zeros that are too few to be worth a hole. The length is zero only for an empty buffer.
    ///
    /// QEMU: `is_allocated_sectors_min` (qemu-img.c)
    pub(super) fn first_run(self, offset: u64, bytes: &[u8]) -> (bool, usize) {
        let (data, len) = self.uniform_run(offset, bytes);
        if !data {
            return (false, len);
        }
        let run_min = self.run_min.min(bytes.len() as u64);
        let mut end = len;
        let mut at = len;
        while at < bytes.len() {
            let (data, len) = self.uniform_run(offset + at as u64, &bytes[at..]);
            at += len;
            if data {
                end = at;
            } else if len as u64 >= run_min {
                break;
            }
        }
        (true, end)
    }

    /// The longest run of grains from the start that are all zero, or all not.
    fn uniform_run(self, offset: u64, bytes: &[u8]) -> (bool, usize) {
        let mut at = self.next_cut(offset, bytes.len());
        let data = !is_zero(&bytes[..at]);
        while at < bytes.len() {
            let next = at + self.next_cut(offset + at as u64, bytes.len() - at);
            if is_zero(&bytes[at..next]) == data {
                break;
            }
            at = next;
        }
        (data, at)
    }

    /// The distance from `offset` to the end of its grain, `len` at most.
    fn next_cut(self, offset: u64, len: usize) -> usize {
        let to_boundary = self.grain - (offset & (self.grain - 1));
        usize::try_from(to_boundary).map_or(len, |distance| distance.min(len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const K: usize = 1024;

    /// A buffer in which the named bytes are set.
    fn buffer(len: usize, set: &[usize]) -> Vec<u8> {
        let mut bytes = vec![0; len];
        set.iter().for_each(|&at| bytes[at] = 1);
        bytes
    }

    fn runs(detection: ZeroDetection, mut offset: u64, mut bytes: &[u8]) -> Vec<(bool, usize)> {
        let mut runs = Vec::new();
        while !bytes.is_empty() {
            let (data, len) = detection.first_run(offset, bytes);
            runs.push((data, len));
            offset += len as u64;
            bytes = &bytes[len..];
        }
        runs
    }

    #[test]
    fn cuts_lie_at_the_grain_of_the_device() {
        let detection = ZeroDetection::new(4096, 1).expect("detects");
        let bytes = buffer(16 * K, &[5 * K]);
        assert_eq!(runs(detection, 0, &bytes), [(false, 4 * K), (true, 4 * K), (false, 8 * K)]);
        // The same bytes one sector further: the grains end one sector earlier in the buffer.
        assert_eq!(runs(detection, 512, &bytes), [(false, 4 * K - 512), (true, 4 * K), (false, 8 * K + 512)]);
    }

    #[test]
    fn short_zero_runs_inside_data_are_data() {
        // 12 KiB is no power of two: cuts at 8 KiB, holes from 12 KiB on.
        let detection = ZeroDetection::new(12 << 10, 1).expect("detects");
        let bytes = buffer(64 * K, &[0, 16 * K, 40 * K]);
        assert_eq!(runs(detection, 0, &bytes), [(true, 24 * K), (false, 16 * K), (true, 8 * K), (false, 16 * K)]);
    }

    #[test]
    fn the_end_of_the_buffer_ends_a_grain() {
        let detection = ZeroDetection::new(1 << 20, 4096).expect("detects");
        assert_eq!(runs(detection, 0, &buffer(64 * K, &[])), [(false, 64 * K)]);
        assert_eq!(runs(detection, 0, &buffer(64 * K, &[64 * K - 1])), [(true, 64 * K)]);
    }

    #[test]
    fn the_grain_respects_the_target() {
        let fine = ZeroDetection::new(512, 4096).expect("detects");
        assert_eq!(runs(fine, 0, &buffer(8 * K, &[0])), [(true, 4 * K), (false, 4 * K)]);
        assert_eq!(fine.independent_at(), Some(4096));
        assert_eq!(ZeroDetection::new(12 << 10, 1).expect("detects").independent_at(), None);
    }

    #[test]
    fn size_zero_switches_it_off() {
        assert_eq!(ZeroDetection::new(0, 512), None);
    }
}
