//! How hard to compress: a setting of the open image, which stores nothing of it.

use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::options::Options;

use crate::format::header::CompressionType;

/// The option with which an image is opened. The reference has none.
const OPTION: &str = "compression-level";

/// A level within the range of the image's codec, or the level that the codec uses by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Level(Option<i32>);

impl Level {
    /// Takes the option out of those of an image that is compressed with `kind`.
    ///
    /// # Errors
    /// When it is no number, or one that the codec does not know.
    pub(crate) fn take(options: &mut Options, kind: CompressionType) -> Result<Self> {
        let Some(level) = options.take_number(OPTION)? else { return Ok(Self::default()) };
        let levels = kind.levels();
        match i32::try_from(level) {
            Ok(number) if levels.contains(&level) => Ok(Self(Some(number))),
            _ => {
                let (name, min, max) = (kind.name(), levels.start(), levels.end());
                let text = format!("{OPTION} must be between {min} and {max} for compression type {name}");
                Err(BlockError::new(ErrorKind::InvalidArgument, text))
            }
        }
    }

    /// The level, or else `default`.
    pub(super) fn or(self, default: i32) -> i32 {
        self.0.unwrap_or(default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(text: &str, kind: CompressionType) -> Result<Level> {
        Level::take(&mut Options::parse_keyval(text, None).expect("valid"), kind)
    }

    #[test]
    fn each_codec_has_its_range() {
        use CompressionType::{Zlib, Zstd};
        assert_eq!(take("lazy-refcounts=on", Zlib).expect("absent"), Level(None));
        for (kind, max) in [(Zlib, 12), (Zstd, 22)] {
            assert_eq!(take(&format!("compression-level={max}"), kind).expect("in range"), Level(Some(max)));
            for bad in ["0".to_owned(), (max + 1).to_string(), "-1".to_owned(), "fast".to_owned()] {
                take(&format!("compression-level={bad}"), kind).expect_err(&bad);
            }
        }
    }
}
