//! Comparing, measuring and copying image files.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// Bytes that the file occupies on its file system, once everything written has been given its place.
///
/// # Errors
/// If the file cannot be opened or synchronised.
pub fn allocated_bytes(path: &Path) -> io::Result<u64> {
    let file = File::open(path)?;
    file.sync_all()?;
    // `st_blocks` counts units of 512 bytes on every Linux file system.
    Ok(file.metadata()?.blocks() * 512)
}

/// The offset of the first byte in which two files differ; the end of the shorter one if it is a beginning of the other.
///
/// # Errors
/// If one of them cannot be read.
pub fn first_difference(a: &Path, b: &Path) -> io::Result<Option<u64>> {
    let (mut a, mut b) = (File::open(a)?, File::open(b)?);
    let (mut block_a, mut block_b) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let mut offset = 0;
    loop {
        let (len_a, len_b) = (fill(&mut a, &mut block_a)?, fill(&mut b, &mut block_b)?);
        if block_a[..len_a] != block_b[..len_b] {
            let same = block_a[..len_a].iter().zip(&block_b[..len_b]).take_while(|(a, b)| a == b).count();
            return Ok(Some(offset + same as u64));
        }
        if len_a == 0 {
            return Ok(None);
        }
        offset += len_a as u64;
    }
}

/// Reads until `buf` is full or the file ends.
fn fill(file: &mut File, buf: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < buf.len() {
        match file.read(&mut buf[len..])? {
            0 => break,
            n => len += n,
        }
    }
    Ok(len)
}

/// Copies the regular files of `from` into the existing folder `to`, leaving out blocks of zeros.
///
/// # Errors
/// If a file cannot be read or written.
pub fn copy_sparse_files(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            copy_sparse_file(&entry.path(), &to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Copies one file to the new file `to`, leaving out blocks of zeros.
///
/// # Errors
/// If a file cannot be read or written.
pub fn copy_sparse_file(from: &Path, to: &Path) -> io::Result<()> {
    let target = File::create(to)?;
    let len = copy_sparse(&mut File::open(from)?, &target, 0)?;
    target.set_len(len)
}

/// Copies `from` to `offset` in `to`, leaving out blocks of 4 KiB that are zero; returns the length of what was read.
///
/// # Errors
/// If reading or writing fails.
pub fn copy_sparse(from: &mut File, to: &File, offset: u64) -> io::Result<u64> {
    const BLOCK: usize = 4096;
    let mut buf = vec![0; 1 << 20];
    let mut done = 0;
    loop {
        let len = fill(from, &mut buf)?;
        if len == 0 {
            return Ok(done);
        }
        let mut at = 0;
        // Neighbouring blocks with data are written with one request.
        for run in buf[..len].chunks(BLOCK).collect::<Vec<_>>().chunk_by(|a, b| is_zero(a) == is_zero(b)) {
            let bytes = run.iter().map(|block| block.len()).sum::<usize>();
            if !is_zero(run[0]) {
                to.write_all_at(&buf[at..at + bytes], offset + done + at as u64)?;
            }
            at += bytes;
        }
        done += len as u64;
    }
}

fn is_zero(block: &[u8]) -> bool {
    block.iter().all(|byte| *byte == 0)
}
