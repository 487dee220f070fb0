//! Where our verdict differs from the reference's on purpose, and why.

/// A structure, a part of the names of its cases, an aspect or nothing for all of them; the reason.
type Rule = (&'static str, &'static str, &'static str, &'static str);

const TRUNCATED: &str =
    "a table or data past the end of the file is an error; the reference reads zeros there (rule R11)";
const TWICE: &str = "a table that is in two places at once is not used; the reference looks no further than the entry";
const RESERVED: &str = "an entry with reserved bits is not used; the reference ignores the bits of some tables";
const UNKNOWN: &str =
    "nothing is written over metadata; the reference looks only at tables that it has in memory (rule R15)";
const CHECKED: &str = "a damaged table is something to be reported by a check; the reference refuses to look";
const BITMAPS: &str = "bitmaps are not loaded when an image is opened, so that damage to them is found by a check";
/// The reference is not asked about these.
pub(crate) const NEVER_ENDS: &str = "the reference does not end, or needs very long or gigabytes";
const RELEASED: &str = "a cluster with more references than counted is corruption when the last count goes; \
                        the reference ignores that";
const SECTORS: &str = "a disk may end inside a sector; the reference rounds";
const STRICT: &str = "the specification forbids it";

const RULES: &[Rule] = &[
    ("l2", "a wide scatter", "", NEVER_ENDS),
    ("names", "a loop", "", NEVER_ENDS),
    ("names", "a name of the image itself", "", NEVER_ENDS),
    ("snapshots", "L1 tables of 32 MiB", "", NEVER_ENDS),
    ("snapshots", "the most snapshots in a hole", "", NEVER_ENDS),
    ("snapshots", "a thousand snapshots of one L1 table", "", NEVER_ENDS),
    ("bitmaps", "", "", BITMAPS),
    ("extensions", "bitmaps extension", "", BITMAPS),
    ("extensions", "more extensions than we keep", "", "a bound on what is kept in memory"),
    ("l1", "a million entries", "", TWICE),
    ("l1", "two entries for one table", "", TWICE),
    ("l1", "an entry over", "read", TWICE),
    ("l1", "entries for all clusters", "read", TWICE),
    ("l1", "entries that count up", "read", TWICE),
    ("l1", "reserved bit", "", RESERVED),
    ("l1", "past the end", "read", TRUNCATED),
    ("l1", "to the end of the file", "", TRUNCATED),
    ("l1", "to the last place", "", TRUNCATED),
    ("l1", "that is a flag alone", "write", "an entry without an offset names no table, and a new one is made"),
    ("l2", "a disk that ends inside a cluster", "read", SECTORS),
    ("l2", "a stream of more than a cluster", "", "a stream is one cluster; the reference stops when it has enough"),
    ("l2", "compressed data", "write", RELEASED),
    ("l2", "zeros past the end", "write", TRUNCATED),
    ("l2", "past the end", "read", TRUNCATED),
    ("l2", "at the end of the file", "", TRUNCATED),
    ("l2", "at the last place", "read", TRUNCATED),
    ("l2", "reserved bit", "", RESERVED),
    ("l2", "every entry the next cluster", "read", TRUNCATED),
    ("main_header", "L1 entries at the limit", "", TRUNCATED),
    ("main_header", "past the end of the file", "", TRUNCATED),
    ("main_header", "at the end of the file", "", TRUNCATED),
    ("main_header", "far past the end", "", TRUNCATED),
    ("main_header", "refcount table at the limit", "", TRUNCATED),
    ("main_header", "up to the end of the file", "read", TWICE),
    ("main_header", "size 1", "", SECTORS),
    ("main_header", "size 511", "", SECTORS),
    ("main_header", "table at zero", "", "no table is in the header"),
    ("main_header", "L1 table over", "read", TWICE),
    ("main_header", "L1 table at the last cluster", "write", UNKNOWN),
    ("main_header", "refcount table over", "read", TWICE),
    ("main_header", "snapshot table over data", "", CHECKED),
    ("main_header", "snapshot table over the L2 table", "read", TWICE),
    ("main_header", "snapshot table over", "write", UNKNOWN),
    ("main_header", "a raw data file that is not there", "", "an autoclear bit is cleared when the image is written"),
    ("main_header", "all autoclear bits", "", "autoclear bits are cleared when the image is written"),
    ("main_header", "bitmaps that are not there", "write", "an autoclear bit is cleared when the image is written"),
    ("main_header", "header length 1", "", STRICT),
    ("main_header", "no refcount table clusters", "check", "without a refcount table there is nothing to compare with"),
    ("names", "a base with damaged entries", "write", RESERVED),
    ("names", "a name in a file that ends before it", "", TRUNCATED),
    ("names", "a name inside the header", "", STRICT),
    ("names", "a device without end", "", "a backing file is a file or a block device (rule R6)"),
    ("refcounts", "reserved bit", "write", RESERVED),
    ("refcounts", "every entry is the same block", "write", TWICE),
    ("refcounts", "the second block is", "write", UNKNOWN),
    ("snapshots", "snapshots with a table of one", "check", CHECKED),
    ("snapshots", "extra data of", "", CHECKED),
    (
        "snapshots",
        "past the limit",
        "write",
        "a snapshot's L1 table that is too large is not protected, and not looked at",
    ),
    ("snapshots", "all ones entries", "write", "a snapshot's L1 table that is too large is not protected"),
    ("snapshots", "whose bytes overflow", "write", "a snapshot's L1 table that is too large is not protected"),
    ("snapshots", "its L1 table is at 2^63", "check", CHECKED),
    ("snapshots", "its L1 table is", "write", UNKNOWN),
    ("snapshots", "the table at the end of the file", "", TRUNCATED),
    ("snapshots", "the table inside the last cluster", "write", UNKNOWN),
    ("snapshots", "the table over the L2 table", "read", TWICE),
    ("truncation", "", "", TRUNCATED),
];

/// The reason why our verdict on an aspect of a case may differ.
pub(crate) fn reason(structure: &str, case: &str, aspect: &str) -> Option<&'static str> {
    let about = |rule: &Rule| rule.2.is_empty() || rule.2 == aspect;
    let fits = |rule: &&Rule| rule.0 == structure && case.contains(rule.1) && about(rule);
    RULES.iter().find(fits).map(|rule| rule.3)
}
