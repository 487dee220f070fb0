//! Bitmaps in the state in which a program leaves them that died.

use std::path::Path;

use crate::fixture::{patch, read_u64};

/// Type and length of the header extension that names the bitmap directory.
const BITMAPS_EXTENSION: [u8; 8] = [0x23, 0x85, 0x28, 0x75, 0, 0, 0, 24];

/// Marks bitmaps as in use, as a program leaves them that died: `IMAGE BITMAP...`.
pub(crate) fn distrust(dir: &Path, words: &str) {
    let mut words = words.split_whitespace();
    let image = dir.join(words.next().expect("an image"));
    let bytes = std::fs::read(&image).expect("an image can be read");
    let extension = bytes[..4096].windows(8).position(|window| window == BITMAPS_EXTENSION).expect("it has bitmaps");
    let number = |at: usize| read_u64(&image, at as u64);
    let (len, directory) = (number(extension + 16), number(extension + 24));
    let start = usize::try_from(directory).expect("inside the file");
    let end = start + usize::try_from(len).expect("inside the file");
    for name in words {
        let at = bytes[start..end].windows(name.len()).position(|window| window == name.as_bytes());
        let entry = start + at.expect("it has this bitmap") - 24;
        patch(&image, entry as u64 + 15, &[bytes[entry + 15] | 1]);
    }
}
