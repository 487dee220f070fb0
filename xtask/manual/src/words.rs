//! What may follow an option, as far as a shell can tell.

use qemu_img::manual::OptionDoc;

/// What completes the value of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Values {
    /// One of these words.
    Words(&'static [&'static str]),
    /// A file.
    File,
    /// Something only the user knows.
    Anything,
}

/// Formats that images are opened and created with.
const FORMATS: &[&str] = &["qcow2", "raw", "luks"];
const CACHE_MODES: &[&str] = &["none", "writeback", "writethrough", "directsync", "unsafe"];
const FORMS: &[&str] = &["human", "json"];
const REPAIRS: &[&str] = &["leaks", "all"];
const PREALLOCATION: &[&str] = &["off", "metadata", "falloc", "full"];
const CHECKSUMS: &[&str] = &["sha256", "blake3"];

/// What completes the value of `option`, found by the name that help texts give the value; none if it takes no value
/// in a word of its own.
pub(crate) fn values(option: &OptionDoc) -> Option<Values> {
    let value = option.value.filter(|value| !value.is_optional)?;
    Some(match value.name {
        "FMT" | "BACKING_FMT" => Values::Words(FORMATS),
        "CACHE" => Values::Words(CACHE_MODES),
        "FORM" => Values::Words(FORMS),
        "WHAT" => Values::Words(REPAIRS),
        "MODE" => Values::Words(PREALLOCATION),
        "ALGORITHM" => Values::Words(CHECKSUMS),
        "FILE" | "BACKING" | "NAME" | "BASE" => Values::File,
        _ => Values::Anything,
    })
}

/// The ways to write an option: `-f`, `--format`.
pub(crate) fn spellings(option: &OptionDoc) -> impl Iterator<Item = String> {
    let short = option.short.map(|letter| format!("-{letter}"));
    short.into_iter().chain(option.long.iter().map(|long| format!("--{long}")))
}
