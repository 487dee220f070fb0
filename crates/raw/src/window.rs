//! The part of the storage that is the image.

use std::ops::Range;

use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::options::Options;

/// Devices consist of whole sectors of this many bytes.
pub(crate) const SECTOR_LEN: u64 = 512;

/// Offset and length of the image in its storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// Where the image starts, in bytes.
    pub(crate) offset: u64,
    /// Its length in bytes, if it does not reach to the end of the storage.
    pub(crate) size: Option<u64>,
}

impl Window {
    /// Takes `offset` and `size` and checks them against the length of the storage.
    ///
    /// # Errors
    /// `InvalidArgument` for malformed values and for a window that is not inside the storage.
    pub(crate) fn take(options: &mut Options, storage_len: u64) -> Result<Self> {
        let offset = options.take_size("offset")?.unwrap_or(0);
        let size = options.take_size("size")?;
        if offset > storage_len {
            return Err(invalid(format!(
                "Offset ({offset}) cannot be greater than size of the containing file ({storage_len})"
            )));
        }
        if let Some(size) = size.filter(|size| *size > storage_len - offset) {
            return Err(invalid(format!(
                "The sum of offset ({offset}) and size ({size}) has to be smaller or equal to the  actual size of the \
                 containing file ({storage_len})"
            )));
        }
        if size.is_some_and(|size| !size.is_multiple_of(SECTOR_LEN)) {
            return Err(invalid(format!("Specified size is not multiple of {SECTOR_LEN}")));
        }
        Ok(Self { offset, size })
    }

    /// Whether the image is exactly its storage.
    pub(crate) fn is_whole(self) -> bool {
        self.offset == 0 && self.size.is_none()
    }

    /// The length of the device over a storage of `storage_len` bytes, in whole sectors.
    ///
    /// The storage may have shrunk since it was opened; what is gone does not belong to the device any more.
    pub(crate) fn device_len(self, storage_len: u64) -> u64 {
        let rest = storage_len.saturating_sub(self.offset).next_multiple_of(SECTOR_LEN);
        self.size.map_or(rest, |size| size.min(rest))
    }

    /// The range of the storage for a range of the device.
    ///
    /// # Errors
    /// `NoSpace` when the range leaves the window, which happens only to writes past the end.
    pub(crate) fn to_storage(self, offset: u64, len: u64) -> Result<Range<u64>> {
        let end = offset.checked_add(len).filter(|end| self.size.is_none_or(|size| *end <= size));
        let end = end.ok_or_else(|| BlockError::new(ErrorKind::NoSpace, "The request leaves the given size"))?;
        match end.checked_add(self.offset) {
            Some(end) if i64::try_from(end).is_ok() => Ok(end - len..end),
            _ => Err(invalid(format!("Offset {offset} is too large for the chosen offset"))),
        }
    }
}

fn invalid(message: String) -> BlockError {
    BlockError::new(ErrorKind::InvalidArgument, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(text: &str) -> Result<Window> {
        Window::take(&mut Options::parse_keyval(text, None)?, 1 << 20)
    }

    fn message(text: &str) -> String {
        take(text).expect_err("the window is wrong").chain()
    }

    /// Taken from `qemu-img info` 10.0 on an image of 1 MiB.
    #[test]
    fn messages_are_the_references() {
        assert_eq!(
            message("size=2000000"),
            "The sum of offset (0) and size (2000000) has to be smaller or equal to the  actual size of the containing \
             file (1048576)"
        );
        assert_eq!(
            message("offset=2M"),
            "Offset (2097152) cannot be greater than size of the containing file (1048576)"
        );
        assert_eq!(message("size=1000"), "Specified size is not multiple of 512");
        assert_eq!(message("offset=-1"), "Value '-1' is out of range for parameter 'offset'");
        assert_eq!(
            message("offset=18446744073709551615,size=1k"),
            "Offset (18446744073709551615) cannot be greater than size of the containing file (1048576)"
        );
    }

    #[test]
    fn devices_are_whole_sectors_inside_the_window() {
        let window = take("offset=100").expect("any offset will do");
        assert_eq!(window.device_len(1 << 20), 1 << 20);
        assert_eq!(window.device_len(1124), 1024);
        assert_eq!(window.device_len(50), 0);
        let window = take("offset=512,size=1k").expect("inside");
        assert_eq!(window.device_len(1 << 20), 1024);
        assert_eq!(window.device_len(1000), 512);
        assert_eq!(window.to_storage(512, 512).expect("inside"), 1024..1536);
        assert_eq!(window.to_storage(1024, 1).expect_err("outside").kind(), ErrorKind::NoSpace);
        let whole = take("").expect("nothing to check");
        assert!(whole.is_whole());
        assert!(whole.to_storage(u64::MAX, 1).is_err() && whole.to_storage(i64::MAX as u64, 1).is_err());
    }
}
