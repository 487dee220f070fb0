//! Sizes and alignments that a test wants the node to have.

use std::sync::Arc;

use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::node::Node;
use qemu_block::options::Options;
use qemu_block::types::BlockLimits;

/// The options that change limits; each in bytes, none where nothing is changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Overrides {
    align: Option<u32>,
    transfer_max: Option<u32>,
    zero_align: Option<u32>,
    zero_max: Option<u32>,
    discard_align: Option<u32>,
    discard_max: Option<u32>,
}

impl Overrides {
    /// Takes the options out of `options`.
    ///
    /// # Errors
    /// A value does not fit the others, or the node below.
    pub(super) fn take(options: &mut Options, child: &Arc<Node>) -> Result<Self> {
        let mut take = |name: &str, fits: &dyn Fn(u64) -> bool| -> Result<Option<u32>> {
            let Some(value) = options.take_size(name)?.filter(|value| *value != 0) else { return Ok(None) };
            let number = u32::try_from(value).ok().filter(|number| *number < i32::MAX.unsigned_abs() && fits(value));
            let unfit = || format!("Cannot meet constraints with {name} {value}");
            number.map(Some).ok_or_else(|| BlockError::new(ErrorKind::InvalidArgument, unfit()))
        };
        let align = take("align", &u64::is_power_of_two)?;
        let unit = u64::from(align.unwrap_or(1).max(child.limits().request_alignment.max(1)));
        let larger = |other: Option<u32>| unit.max(u64::from(other.unwrap_or(1)));
        let transfer_max = take("max-transfer", &|value| value.is_multiple_of(unit))?;
        let zero_align = take("opt-write-zero", &|value| value.is_multiple_of(unit))?;
        let zero_max = take("max-write-zero", &|value| value.is_multiple_of(larger(zero_align)))?;
        let discard_align = take("opt-discard", &|value| value.is_multiple_of(unit))?;
        let discard_max = take("max-discard", &|value| value.is_multiple_of(larger(discard_align)))?;
        Ok(Self { align, transfer_max, zero_align, zero_max, discard_align, discard_max })
    }

    /// The limits with these changes.
    pub(super) fn apply(&self, below: BlockLimits) -> BlockLimits {
        BlockLimits {
            request_alignment: self.align.unwrap_or(below.request_alignment),
            transfer_max: self.transfer_max.map_or(below.transfer_max, u64::from),
            zero_alignment: self.zero_align.unwrap_or(below.zero_alignment),
            discard_alignment: self.discard_align.unwrap_or(below.discard_alignment),
            ..below
        }
    }

    /// Whether zeros in this range are handed on as such; parts of units are written, so that this way is tested, too.
    pub(super) fn can_zero(&self, child: &Arc<Node>, offset: u64, len: u64) -> bool {
        let unit = u64::from(self.align.unwrap_or(1).max(self.zero_align.unwrap_or(1)));
        let reaches_end = offset.saturating_add(len) >= child.len();
        offset.is_multiple_of(unit) && (reaches_end || len.is_multiple_of(unit))
    }

    /// The requests for zeros in a range.
    pub(super) fn zero_parts(&self, offset: u64, len: u64) -> impl Iterator<Item = (u64, u64)> + Send + use<> {
        parts(offset, len, self.zero_max)
    }

    /// The requests for a discard of a range.
    pub(super) fn discard_parts(&self, offset: u64, len: u64) -> impl Iterator<Item = (u64, u64)> + Send + use<> {
        parts(offset, len, self.discard_max)
    }
}

/// Offsets and lengths of the parts of a range, each of which ends at a multiple of `max` or with the range.
fn parts(offset: u64, len: u64, max: Option<u32>) -> impl Iterator<Item = (u64, u64)> + Send + use<> {
    let end = offset.saturating_add(len);
    let max = max.map_or(u64::MAX, u64::from);
    let mut at = offset;
    std::iter::from_fn(move || {
        let next = (at / max + 1).saturating_mul(max).min(end);
        let part = (at < end).then_some((at, next - at));
        at = next;
        part
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_at_multiples() {
        let cut = |offset, len, max| parts(offset, len, max).collect::<Vec<_>>();
        assert_eq!(cut(500, 1000, Some(512)), [(500, 12), (512, 512), (1024, 476)]);
        assert_eq!(cut(500, 1000, None), [(500, 1000)]);
        assert_eq!(cut(512, 512, Some(512)), [(512, 512)]);
        assert_eq!(cut(512, 0, Some(512)), []);
    }
}
