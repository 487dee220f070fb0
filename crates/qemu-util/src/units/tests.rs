use proptest::prelude::*;

use super::SizeError::{Invalid, OutOfRange};
use super::*;

/// Observed: `qemu-img create -f raw FILE -- SIZE`, version 10.0.2, and its message for what it refuses.
const PARSED: &[(&str, Result<u64, SizeError>)] = &[
    ("0", Ok(0)),
    ("1", Ok(1)),
    ("1023", Ok(1023)),
    ("010", Ok(10)),
    (" 1K", Ok(1024)),
    ("+1K", Ok(1024)),
    ("1b", Ok(1)),
    ("1K", Ok(1024)),
    ("1k", Ok(1024)),
    ("1.", Ok(1)),
    ("1.0", Ok(1)),
    ("1.00", Ok(1)),
    ("1.0B", Ok(1)),
    ("0.0B", Ok(0)),
    ("1.K", Ok(1024)),
    (".5K", Ok(512)),
    ("0.5K", Ok(512)),
    (" +.5k", Ok(512)),
    ("1.5K", Ok(1536)),
    ("1.99999999999K", Ok(2048)),
    ("0.00001K", Ok(0)),
    ("0.0004882812K", Ok(0)),
    ("0.00048828125K", Ok(1)),
    ("0.00146484375K", Ok(2)),
    ("0.0014648437500000001K", Ok(2)),
    ("0.9999999999999999999999", Ok(1)),
    ("0.9999999999999999999999B", Ok(1)),
    ("0.9999999999999999999999999999K", Ok(1024)),
    ("1.0000000000000000001K", Ok(1024)),
    ("0.1M", Ok(104_858)),
    ("1.00001M", Ok(1_048_586)),
    ("0.3G", Ok(322_122_547)),
    ("12.000000001G", Ok(12_884_901_889)),
    ("0.3T", Ok(329_853_488_333)),
    ("0.7T", Ok(769_658_139_443)),
    ("1.1T", Ok(1_209_462_790_554)),
    ("2.7T", Ok(2_968_681_394_995)),
    ("3.14159265358979T", Ok(3_454_217_652_358)),
    ("0.333333333333333333T", Ok(366_503_875_925)),
    ("0.1p", Ok(112_589_990_684_262)),
    ("1.7p", Ok(1_914_029_841_632_461)),
    ("0x10", Ok(16)),
    ("0X10", Ok(16)),
    ("+0x10", Ok(16)),
    (" 0x10", Ok(16)),
    ("0xE", Ok(14)),
    ("0x1E", Ok(30)),
    ("0xfb", Ok(251)),
    ("0xfB", Ok(251)),
    ("0x1e3", Ok(483)),
    ("", Err(Invalid)),
    ("K", Err(Invalid)),
    (".", Err(Invalid)),
    (".K", Err(Invalid)),
    ("-", Err(Invalid)),
    ("+", Err(Invalid)),
    ("-K", Err(Invalid)),
    ("-.", Err(Invalid)),
    ("--1", Err(Invalid)),
    ("+-1", Err(Invalid)),
    ("+ 1", Err(Invalid)),
    ("inf", Err(Invalid)),
    ("nan", Err(Invalid)),
    ("inf.", Err(Invalid)),
    ("-inf.", Err(Invalid)),
    ("nan.", Err(Invalid)),
    (".5", Err(Invalid)),
    ("1.5", Err(Invalid)),
    ("1.1B", Err(Invalid)),
    ("1.5B", Err(Invalid)),
    ("0.5b", Err(Invalid)),
    ("0.000000000000000000001", Err(Invalid)),
    ("0.00000000000000000000000000000000001", Err(Invalid)),
    ("1e3", Err(Invalid)),
    ("1E3", Err(Invalid)),
    ("1e+", Err(Invalid)),
    ("1e3k", Err(Invalid)),
    ("1e-1K", Err(Invalid)),
    ("1.e2K", Err(Invalid)),
    ("1.5e1M", Err(Invalid)),
    ("1.5e1", Err(Invalid)),
    (".5E3", Err(Invalid)),
    (".e", Err(Invalid)),
    ("1KB", Err(Invalid)),
    ("1KiB", Err(Invalid)),
    ("1KK", Err(Invalid)),
    ("1K ", Err(Invalid)),
    ("1 K", Err(Invalid)),
    ("1.5 K", Err(Invalid)),
    ("1,5K", Err(Invalid)),
    ("1_000", Err(Invalid)),
    ("1..5K", Err(Invalid)),
    ("1.5.5K", Err(Invalid)),
    ("0x", Err(Invalid)),
    ("0xg", Err(Invalid)),
    ("00x10", Err(Invalid)),
    ("-0x10", Err(Invalid)),
    ("0x10k", Err(Invalid)),
    ("0x1P", Err(Invalid)),
    ("0x1p4", Err(Invalid)),
    ("0x1.8", Err(Invalid)),
    ("0x1.8K", Err(Invalid)),
    ("0x.8K", Err(Invalid)),
    ("-0K", Err(Invalid)),
    ("-1K", Err(Invalid)),
    ("-1.5", Err(Invalid)),
    ("-.5K", Err(Invalid)),
    ("-.5.", Err(Invalid)),
    ("-0.", Err(Invalid)),
    ("18446744073709551616K", Err(Invalid)),
    ("18446744073709551616.5", Err(Invalid)),
    ("18446744073709551615.99999999999999999999999K", Err(Invalid)),
    ("0xfffffffffffffffffK", Err(Invalid)),
    ("-0", Err(OutOfRange)),
    ("-1", Err(OutOfRange)),
    ("-.5", Err(OutOfRange)),
    ("-.0", Err(OutOfRange)),
    ("16E", Err(OutOfRange)),
    ("18446744073709551616", Err(OutOfRange)),
    ("18446744073709551615K", Err(OutOfRange)),
    ("18446744073709551615.99999999999999999999999", Err(OutOfRange)),
    ("0x10000000000000000", Err(OutOfRange)),
    ("0xfffffffffffffffff", Err(OutOfRange)),
];

/// Observed: `qemu-img info` on raw files and on null disks of these sizes, version 10.0.2.
const FORMATTED: &[(u64, &str)] = &[
    (0, "0 B"),
    (512, "512 B"),
    (1024, "1 KiB"),
    (1536, "1.5 KiB"),
    (10_240, "10 KiB"),
    (100_352, "98 KiB"),
    (102_400, "100 KiB"),
    (200_704, "196 KiB"),
    (1_022_976, "999 KiB"),
    (1_023_488, "1e+03 KiB"),
    (1_024_000, "0.977 MiB"),
    (1_024_512, "0.977 MiB"),
    (1_048_064, "1 MiB"),
    (1_048_576, "1 MiB"),
    (1_049_088, "1 MiB"),
    (1_536_000, "1.46 MiB"),
    (1_572_864, "1.5 MiB"),
    (2_097_152, "2 MiB"),
    (3_000_320, "2.86 MiB"),
    (25_165_824, "24 MiB"),
    (104_857_600, "100 MiB"),
    (1_046_478_848, "998 MiB"),
    (1_047_527_424, "999 MiB"),
    (1_048_051_712, "1e+03 MiB"),
    (1_048_576_000, "0.977 GiB"),
    (1_048_576_512, "0.977 GiB"),
    (1_072_693_248, "0.999 GiB"),
    (1_073_217_536, "1 GiB"),
    (1_073_741_824, "1 GiB"),
    (1_610_612_736, "1.5 GiB"),
    (10_737_418_240, "10 GiB"),
    (107_374_182_400, "100 GiB"),
    (1_099_511_627_776, "1 TiB"),
    (1_649_267_441_664, "1.5 TiB"),
    (12_345_678_901_248, "11.2 TiB"),
    (15_393_162_788_864, "14 TiB"),
    (112_589_990_684_672, "102 TiB"),
    (1_124_774_006_936_064, "0.999 PiB"),
    (1_125_336_956_889_600, "1 PiB"),
    (1_125_899_906_842_624, "1 PiB"),
    (1_125_899_906_843_136, "1 PiB"),
    (1_914_029_841_632_768, "1.7 PiB"),
    (3_752_999_689_438_208, "3.33 PiB"),
    (1_141_392_289_560_778_752, "0.99 EiB"),
    (1_151_795_604_700_004_352, "0.999 EiB"),
    (1_152_921_504_606_846_976, "1 EiB"),
    (4_611_686_018_427_387_904, "4 EiB"),
    (8_185_742_682_708_613_632, "7.1 EiB"),
];

#[test]
fn sizes_are_parsed_as_the_reference_parses_them() {
    for (text, expect) in PARSED {
        assert_eq!(parse_size(text), *expect, "{text:?}");
    }
}

#[test]
fn sizes_are_printed_as_the_reference_prints_them() {
    for (bytes, expect) in FORMATTED {
        assert_eq!(format_size(*bytes), *expect, "{bytes}");
    }
}

/// The reference command limits sizes to 2^63 - 1 before anybody sees them; the grammar itself reaches further.
#[test]
fn the_whole_range_of_64_bits_can_be_written() {
    assert_eq!(parse_size("18446744073709551615"), Ok(u64::MAX));
    assert_eq!(parse_size("0xffffffffffffffff"), Ok(u64::MAX));
    assert_eq!(parse_size("15.5E"), Ok(15 * EIB + EIB / 2));
    assert_eq!(format_size(u64::MAX), "16 EiB");
    assert_eq!(format_size(999), "999 B");
    assert_eq!(format_size(1000), "0.977 KiB");
}

proptest! {
    #[test]
    fn plain_numbers_stand_for_themselves(bytes: u64) {
        prop_assert_eq!(parse_size(&bytes.to_string()), Ok(bytes));
        prop_assert_eq!(parse_size(&format!("{bytes:#x}")), Ok(bytes));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,40}|[-+ 0-9.xXeEkKbB]{0,40}") {
        let _: Result<u64, SizeError> = parse_size(&text);
    }

    /// Three digits are kept: what is printed is within half a unit of the third digit.
    #[test]
    fn printed_sizes_are_close(bits in 0_u32..64, low: u64) {
        let bytes = (1_u64 << bits) | (low & ((1 << bits) - 1));
        let text = format_size(bytes);
        let (number, unit) = text.split_once(' ').expect("a number and a unit");
        let suffix = unit.trim_end_matches("iB").trim_end_matches('B');
        let printed: f64 = number.parse().expect("a number");
        let unit_bytes = parse_size(&format!("1{suffix}")).expect("a unit") as f64;
        let error = (printed * unit_bytes - bytes as f64).abs() / bytes as f64;
        prop_assert!(error <= 0.005_001, "{} printed as {}", bytes, text);
    }
}
