//! A small raw image that needs no tool to be made: text that compresses, noise that does not, and holes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

const MIB: usize = 1 << 20;

/// Writes a sparse raw image of `mib` MiB to `path`: of each 8 MiB two are text, one is noise, one is written zeros and
/// four are a hole. Equal arguments give equal bytes.
///
/// # Errors
/// If the file cannot be written.
pub fn write_raw(path: &Path, mib: u64) -> io::Result<()> {
    let file = File::create(path)?;
    file.set_len(mib << 20)?;
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    for n in 0..mib {
        let block = match n % 8 {
            0 | 1 => text(n),
            2 => noise.block(),
            3 => vec![0; MIB],
            _ => continue,
        };
        file.write_all_at(&block, n << 20)?;
    }
    Ok(())
}

/// One MiB of lines that resemble a log.
fn text(n: u64) -> Vec<u8> {
    let mut block = Vec::with_capacity(MIB + 128);
    let mut line = n << 20;
    while block.len() < MIB {
        let level = ["info", "note", "warning"][usize::try_from(line % 3).expect("below 3")];
        let words = format!("{line:012} {level}: unit {} changed its state to {}\n", line * 7919 % 1009, line % 5);
        block.extend_from_slice(words.as_bytes());
        line += 1;
    }
    block.truncate(MIB);
    block
}

/// A xorshift generator: good enough that no compressor finds anything, and the same on every machine.
#[derive(Debug)]
pub struct Noise(pub u64);

impl Noise {
    /// The next 64 bits.
    pub fn next_word(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn block(&mut self) -> Vec<u8> {
        (0..MIB / 8).flat_map(|_| self.next_word().to_be_bytes()).collect()
    }
}
