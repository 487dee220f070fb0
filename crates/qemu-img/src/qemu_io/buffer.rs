//! What is written, and what was read: patterns, files, hexadecimal dumps.
//!
//! QEMU: `qemu_io_alloc`, `qemu_io_alloc_from_file`, `dump_buffer` (qemu-io-cmds.c)

use std::fmt::Write;
use std::fs::File;
use std::io::Read;

use qemu_block::error::errno_text;
use qemu_util::buf::{IoBuf, IoVec, IoVecMut};

/// How far a misaligned buffer (`-m`) is from an aligned one, in bytes.
const MISALIGNMENT: usize = 16;

/// What memory to read into is full of before.
const UNREAD: u8 = 0xab;

/// Where the memory of requests begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Placement {
    /// At addresses that suit direct I/O.
    #[default]
    Aligned,
    /// On purpose at others.
    Misaligned,
}

impl Placement {
    /// Zeros.
    fn zeros(self, len: usize) -> IoBuf {
        match self {
            Self::Aligned => IoBuf::zeroed(len),
            Self::Misaligned => IoBuf::zeroed(len + MISALIGNMENT).split_off(MISALIGNMENT),
        }
    }

    /// Memory to read into: one buffer for each of `lens`, neighbours in one piece of memory.
    pub(super) fn to_read(self, lens: &[usize]) -> IoVecMut {
        let mut rest = self.zeros(lens.iter().sum());
        // What a driver leaves alone shows as that.
        rest.fill(UNREAD);
        let mut vec = IoVecMut::default();
        for len in lens {
            let tail = rest.split_off(*len);
            vec.push(rest);
            rest = tail;
        }
        vec
    }

    /// Memory full of `pattern`, in pieces of `lens`.
    pub(super) fn filled(self, lens: &[usize], pattern: u8) -> IoVec {
        let mut whole = self.zeros(lens.iter().sum());
        whole.fill(pattern);
        let whole = whole.freeze();
        let mut vec = IoVec::default();
        let mut at = 0;
        for len in lens {
            vec.push(whole.slice(at..at + len));
            at += len;
        }
        vec
    }

    /// Memory with the beginning of the file `name`, again and again if it is shorter than `len`.
    ///
    /// # Errors
    /// What to print to standard error.
    pub(super) fn filled_from(self, name: &str, len: usize) -> Result<IoVec, String> {
        let complain = |error: std::io::Error| format!("{name}: {}", errno_text(error.raw_os_error().unwrap_or(0)));
        let file = File::open(name).map_err(complain)?;
        let mut bytes = Vec::new();
        let limit = u64::try_from(len).unwrap_or(u64::MAX);
        file.take(limit).read_to_end(&mut bytes).map_err(complain)?;
        if bytes.is_empty() {
            return Err(format!("{name}: file is empty"));
        }
        let mut whole = self.zeros(len);
        for part in whole.chunks_mut(bytes.len()) {
            part.copy_from_slice(&bytes[..part.len()]);
        }
        Ok(whole.into())
    }
}

/// The lines of `-v`: offset, sixteen bytes, and those of them that are letters or digits.
pub(super) fn dump(bytes: &[u8], offset: u64) -> String {
    let mut text = String::new();
    let mut at = offset;
    for row in bytes.chunks(16) {
        // Writing to a string cannot fail.
        let _ = write!(text, "{at:08x}:  ");
        for byte in row {
            let _ = write!(text, "{byte:02x} ");
        }
        text.push(' ');
        text.extend(row.iter().map(|byte| if byte.is_ascii_alphanumeric() { char::from(*byte) } else { '.' }));
        text.push('\n');
        at = at.saturating_add(16);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dumps_show_letters_and_digits() {
        let row = "000001f4:  41 00 7a 39 ff  A.z9.\n";
        assert_eq!(dump(b"A\0z9\xff", 500), row);
        let long = dump(&[0x20; 17], 0);
        assert_eq!(long.lines().nth(1), Some("00000010:  20  ."));
    }

    #[test]
    fn memory_is_where_it_is_asked_for() {
        for (placement, distance) in [(Placement::Aligned, 0), (Placement::Misaligned, MISALIGNMENT)] {
            let vec = placement.filled(&[512, 100], 7);
            assert_eq!(vec.to_vec(), vec![7; 612]);
            let first = vec.parts().first().expect("there is data");
            assert_eq!(first.as_ptr().addr() % 512, distance);
            assert_eq!(placement.to_read(&[3, 0, 4]).len(), 7);
        }
    }

    #[test]
    fn a_short_file_is_repeated() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), b"abc").expect("written");
        let name = file.path().to_str().expect("text");
        let read = |len| Placement::Misaligned.filled_from(name, len).map(|vec| vec.to_vec());
        assert_eq!(read(7), Ok(b"abcabca".to_vec()));
        assert_eq!(read(2), Ok(b"ab".to_vec()));
        std::fs::write(file.path(), b"").expect("written");
        assert_eq!(read(2), Err(format!("{name}: file is empty")));
    }
}
