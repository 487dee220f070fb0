//! The operands of `dd`: `if=`, `of=`, `bs=`, `count=`, `skip=`, and those that Proxmox has added, `isize=` and `osize=`.

use crate::cli::number::{COUNT_MAX, SIZE_MAX, parse_count, parse_number};
use crate::failure::Failure;

/// Bytes in a block unless `bs=` says otherwise.
const BLOCK: u64 = 512;

/// What the operands ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Operands {
    /// The image that is read; standard input if absent.
    pub(super) input: Option<String>,
    /// The image that is written; standard output if absent.
    pub(super) output: Option<String>,
    /// Bytes in a block, the unit of the next two.
    pub(super) block: u64,
    /// The block before which the input ends.
    pub(super) count: Option<u64>,
    /// The block at which it begins.
    pub(super) skip: u64,
    /// Bytes in the input; zero: it may end anywhere.
    pub(super) input_size: Option<u64>,
    /// Bytes in the output.
    pub(super) output_size: Option<u64>,
}

impl Operands {
    /// Parses `words`; of operands that are repeated the last one counts.
    ///
    /// # Errors
    /// The reference's complaints.
    pub(super) fn parse(words: Vec<String>) -> Result<Self, Failure> {
        let mut operands =
            Self { input: None, output: None, block: BLOCK, count: None, skip: 0, input_size: None, output_size: None };
        for word in words {
            let unknown = |name: &str| Failure::new(format!("unrecognized operand {name}"));
            let (name, value) = word.split_once('=').ok_or_else(|| unknown(&word))?;
            match name {
                "if" => operands.input = Some(value.to_owned()),
                "of" => operands.output = Some(value.to_owned()),
                "bs" => operands.block = parse_number("bs", value, 1..=COUNT_MAX)?,
                "count" => operands.count = Some(parse_count("count", value, 0..=SIZE_MAX)?),
                "skip" => operands.skip = parse_count("skip", value, 0..=SIZE_MAX)?,
                "isize" => operands.input_size = Some(parse_number("isize", value, 0..=SIZE_MAX)?),
                "osize" => operands.output_size = Some(parse_number("osize", value, 0..=SIZE_MAX)?),
                _ => return Err(unknown(name)),
            }
        }
        Ok(operands)
    }
}

/// Which bytes of the input are copied, and how large the output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// The first one.
    pub(super) start: u64,
    /// Where the copy ends; not known of a pipe that may end anywhere.
    pub(super) end: Option<u64>,
    /// Whether the input may end before.
    pub(super) may_end_early: bool,
    /// Bytes of the output, if they are known.
    pub(super) output_len: Option<u64>,
    /// The input ends before the block at which it was to begin.
    pub(super) skips_too_much: bool,
}

impl Plan {
    /// What to copy from an input of `input_len` bytes, or from a pipe.
    ///
    /// As in the reference `count=` counts the skipped blocks, too.
    pub(super) fn new(operands: &Operands, input_len: Option<u64>) -> Self {
        let counted = operands.count.and_then(|count| count.checked_mul(operands.block)).filter(|&end| end <= SIZE_MAX);
        let promised = operands.input_size.filter(|&size| size > 0);
        let input_end = [input_len, counted, promised].into_iter().flatten().min();
        let start = operands.skip.checked_mul(operands.block).filter(|&start| start <= SIZE_MAX);
        let skips_too_much = start.is_none_or(|start| input_end.is_some_and(|end| start > end));
        let start = if skips_too_much { input_end.unwrap_or(0) } else { start.unwrap_or(0) };
        let wanted_end = operands.output_size.and_then(|size| start.checked_add(size));
        let end = input_end.into_iter().chain(wanted_end).min();
        Self {
            start,
            end,
            may_end_early: operands.input_size == Some(0) || end.is_none(),
            output_len: operands.output_size.or_else(|| input_end.map(|end| end - start)),
            skips_too_much,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operands(line: &str) -> Operands {
        Operands::parse(line.split_whitespace().map(str::to_owned).collect()).expect(line)
    }

    fn complaint(word: &str) -> String {
        Operands::parse(vec![word.to_owned()]).expect_err(word).into_text()
    }

    fn plan(line: &str, input_len: Option<u64>) -> (u64, Option<u64>, Option<u64>) {
        let plan = Plan::new(&operands(line), input_len);
        (plan.start, plan.end, plan.output_len)
    }

    #[test]
    fn sizes_have_suffixes_and_counts_have_bases() {
        let parsed = operands("if=a=b of=c bs=1.5k count=010 skip=0x10 isize=1M osize=2M if=d");
        assert_eq!((parsed.input.as_deref(), parsed.output.as_deref()), (Some("d"), Some("c")));
        assert_eq!((parsed.block, parsed.count, parsed.skip), (1536, Some(8), 16));
        assert_eq!((parsed.input_size, parsed.output_size), (Some(1 << 20), Some(2 << 20)));
        assert_eq!(complaint("foo"), "qemu-img: unrecognized operand foo");
        assert_eq!(complaint("seek=1"), "qemu-img: unrecognized operand seek");
        assert_eq!(complaint("count=1k"), "qemu-img: Invalid count specified: '1k'.");
        assert_eq!(complaint("bs=0"), "qemu-img: Invalid bs specified. Must be between 1 and 2147483647.");
    }

    #[test]
    fn the_count_includes_what_is_skipped() {
        assert_eq!(plan("", Some(1000)), (0, Some(1000), Some(1000)));
        assert_eq!(plan("count=2 skip=1", Some(4096)), (512, Some(1024), Some(512)));
        assert_eq!(plan("count=9223372036854775807 bs=2", Some(1000)), (0, Some(1000), Some(1000)));
        assert_eq!(plan("skip=2", Some(1024)), (1024, Some(1024), Some(0)));
        for line in ["skip=3", "skip=3 count=2", "skip=9223372036854775807"] {
            let plan = Plan::new(&operands(line), Some(1024));
            assert!(plan.skips_too_much, "{line}");
            assert_eq!((plan.end, plan.output_len), (Some(plan.start), Some(0)), "{line}");
        }
    }

    #[test]
    fn pipes_have_the_size_that_is_promised() {
        assert_eq!(plan("", None), (0, None, None));
        assert_eq!(plan("osize=4096", None), (0, Some(4096), Some(4096)));
        assert_eq!(plan("isize=1024 osize=4096", None), (0, Some(1024), Some(4096)));
        assert_eq!(plan("count=4", None), (0, Some(2048), Some(2048)));
        assert_eq!(plan("isize=1024", None), (0, Some(1024), Some(1024)));
        assert!(Plan::new(&operands("isize=0 osize=4096"), None).may_end_early);
        assert!(!Plan::new(&operands("isize=1 osize=4096"), None).may_end_early);
        // A smaller image fits into a larger one, and of a larger one as much is copied as fits.
        assert_eq!(plan("osize=4096", Some(1024)), (0, Some(1024), Some(4096)));
        assert_eq!(plan("osize=512 skip=1", Some(4096)), (512, Some(1024), Some(512)));
    }
}
