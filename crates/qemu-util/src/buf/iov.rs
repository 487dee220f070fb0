//! Sequences of buffers: the memory side of a positional vectored request.

use std::ops::Range;

use smallvec::SmallVec;

use super::aligned::{IoBuf, IoBytes};

/// Memory to read into: unique ranges, filled in order. QEMU: `QEMUIOVector`.
///
/// ```
/// use qemu_util::buf::{IoBuf, IoVecMut};
///
/// let mut vec = IoVecMut::from(IoBuf::zeroed(4));
/// let tail = vec.split_off(2);
/// vec.copy_in(0, b"ab");
/// vec.append(tail);
/// assert_eq!(vec.freeze().slice(1..3).to_vec(), b"b\0");
/// ```
#[derive(Debug, Default)]
pub struct IoVecMut {
    parts: SmallVec<[IoBuf; 2]>,
    len: usize,
}

impl IoVecMut {
    /// Total length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no byte to fill.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The ranges, in order; none of them is empty.
    pub fn parts(&self) -> &[IoBuf] {
        &self.parts
    }

    /// The bytes of the ranges, in order and writable; the ranges themselves stay as they are.
    pub fn parts_mut(&mut self) -> impl ExactSizeIterator<Item = &mut [u8]> {
        self.parts.iter_mut().map(|part| &mut **part)
    }

    /// The bytes of the single range, if there is just one.
    pub fn single_mut(&mut self) -> Option<&mut [u8]> {
        match &mut *self.parts {
            [single] => Some(single),
            _ => None,
        }
    }

    /// Adds a range at the end; a neighbour of the last one is joined with it.
    pub fn push(&mut self, part: IoBuf) {
        if part.is_empty() {
            return;
        }
        self.len += part.len();
        match self.parts.pop() {
            None => self.parts.push(part),
            Some(last) => match last.try_join(part) {
                Ok(joined) => self.parts.push(joined),
                Err((last, part)) => self.parts.extend([last, part]),
            },
        }
    }

    /// Adds all ranges of `other` at the end.
    pub fn append(&mut self, other: Self) {
        other.parts.into_iter().for_each(|part| self.push(part));
    }

    /// Keeps the first `at` bytes and returns the rest.
    ///
    /// # Panics
    /// If `at` is past the end.
    #[must_use = "dropping the tail gives its ranges up"]
    pub fn split_off(&mut self, at: usize) -> Self {
        assert!(at <= self.len, "split inside the vector");
        let mut head = Self::default();
        let mut tail = Self::default();
        for mut part in std::mem::take(&mut self.parts) {
            let room = at - head.len;
            if room >= part.len() {
                head.push(part);
            } else {
                tail.push(part.split_off(room));
                head.push(part);
            }
        }
        *self = head;
        tail
    }

    /// Writes zeros over everything.
    pub fn fill_zero(&mut self) {
        self.parts.iter_mut().for_each(|part| part.fill(0));
    }

    /// Copies `from` into the bytes that start at `offset`.
    ///
    /// # Panics
    /// If `from` does not fit.
    pub fn copy_in(&mut self, offset: usize, from: &[u8]) {
        assert!(from.len() <= self.len && offset <= self.len - from.len(), "the copy fits");
        let mut skip = offset;
        let mut left = from;
        for part in &mut self.parts {
            if skip >= part.len() {
                skip -= part.len();
                continue;
            }
            let n = left.len().min(part.len() - skip);
            part[skip..skip + n].copy_from_slice(&left[..n]);
            left = &left[n..];
            skip = 0;
        }
    }

    /// The bytes as one vector; for small amounts and tests.
    pub fn to_vec(&self) -> Vec<u8> {
        self.parts.iter().flat_map(|part| part.iter().copied()).collect()
    }

    /// The single range, if there is just one.
    ///
    /// # Errors
    /// Gives the vector back when it has none or several.
    pub fn into_single(mut self) -> Result<IoBuf, Self> {
        if self.parts.len() != 1 {
            return Err(self);
        }
        self.parts.pop().ok_or_else(Self::default)
    }

    /// Gives up the right to write.
    pub fn freeze(self) -> IoVec {
        let mut frozen = IoVec::default();
        self.parts.into_iter().for_each(|part| frozen.push(part.freeze()));
        frozen
    }
}

impl From<IoBuf> for IoVecMut {
    fn from(buf: IoBuf) -> Self {
        let mut vec = Self::default();
        vec.push(buf);
        vec
    }
}

/// Memory to write from: shared ranges, in order. Cloning it copies no data.
#[derive(Clone, Debug, Default)]
pub struct IoVec {
    parts: SmallVec<[IoBytes; 2]>,
    len: usize,
}

impl IoVec {
    /// Total length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no byte to write.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The ranges, in order; none of them is empty.
    pub fn parts(&self) -> &[IoBytes] {
        &self.parts
    }

    /// Adds a range at the end; a neighbour of the last one is joined with it.
    pub fn push(&mut self, part: IoBytes) {
        if part.is_empty() {
            return;
        }
        self.len += part.len();
        match self.parts.pop() {
            None => self.parts.push(part),
            Some(last) => match last.try_join(part) {
                Ok(joined) => self.parts.push(joined),
                Err((last, part)) => self.parts.extend([last, part]),
            },
        }
    }

    /// Adds all ranges of `other` at the end.
    pub fn append(&mut self, other: Self) {
        other.parts.into_iter().for_each(|part| self.push(part));
    }

    /// The bytes of `range`, without copying.
    ///
    /// # Panics
    /// If `range` does not lie inside.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len, "slice inside the vector");
        let mut result = Self::default();
        let mut at = 0;
        for part in &self.parts {
            let start = range.start.clamp(at, at + part.len()) - at;
            let end = range.end.clamp(at, at + part.len()) - at;
            result.push(part.slice(start..end));
            at += part.len();
        }
        result
    }

    /// Copies the bytes that start at `offset` into `to`.
    ///
    /// # Panics
    /// If there are fewer than `to.len()` bytes from there on.
    pub fn copy_out(&self, offset: usize, to: &mut [u8]) {
        assert!(to.len() <= self.len && offset <= self.len - to.len(), "the copy fits");
        let mut done = 0;
        for part in self.slice(offset..offset + to.len()).parts() {
            to[done..done + part.len()].copy_from_slice(part);
            done += part.len();
        }
    }

    /// The bytes as one vector; for small amounts and tests.
    pub fn to_vec(&self) -> Vec<u8> {
        self.parts.iter().flat_map(|part| part.iter().copied()).collect()
    }
}

impl From<IoBytes> for IoVec {
    fn from(bytes: IoBytes) -> Self {
        let mut vec = Self::default();
        vec.push(bytes);
        vec
    }
}

impl From<IoBuf> for IoVec {
    fn from(buf: IoBuf) -> Self {
        buf.freeze().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(len: usize) -> IoBuf {
        let mut buf = IoBuf::zeroed(len);
        for (i, byte) in buf.iter_mut().enumerate() {
            *byte = u8::try_from(i % 251).expect("below 251");
        }
        buf
    }

    #[test]
    fn split_and_append_restore_one_part() {
        let mut vec = IoVecMut::from(numbered(1000));
        let before = vec.to_vec();
        let mut tail = vec.split_off(300);
        let last = tail.split_off(500);
        assert_eq!((vec.len(), tail.len(), last.len()), (300, 500, 200));
        vec.append(tail);
        vec.append(last);
        assert_eq!(vec.parts().len(), 1);
        assert_eq!(vec.to_vec(), before);
    }

    #[test]
    fn slices_and_copies_cross_parts() {
        let mut vec = IoVec::from(numbered(100));
        vec.append(IoVec::from(numbered(50)));
        let all = vec.to_vec();
        assert_eq!(vec.parts().len(), 2);
        assert_eq!(vec.slice(90..120).to_vec(), &all[90..120]);
        assert!(vec.slice(150..150).is_empty());
        let mut out = [0; 30];
        vec.copy_out(90, &mut out);
        assert_eq!(out, all[90..120]);
        let mut target = IoVecMut::from(IoBuf::zeroed(20));
        target.push(IoBuf::zeroed(20));
        target.copy_in(15, &all[..10]);
        assert_eq!(&target.to_vec()[15..25], &all[..10]);
    }

    #[test]
    fn writing_to_the_parts_leaves_the_length_alone() {
        let mut vec = IoVecMut::from(numbered(10));
        assert_eq!(vec.single_mut().map(|bytes| bytes.len()), Some(10));
        vec.push(IoBuf::zeroed(5));
        assert!(vec.single_mut().is_none());
        for part in vec.parts_mut() {
            part.fill(7);
        }
        assert_eq!((vec.len(), vec.to_vec()), (15, vec![7; 15]));
    }

    #[test]
    fn unfreezing_needs_the_last_handle() {
        let bytes = IoBytes::copy_of(b"abc");
        let other = bytes.clone();
        let bytes = bytes.try_unfreeze().expect_err("shared");
        drop(other);
        assert_eq!(&bytes.try_unfreeze().expect("unique")[..], b"abc");
    }
}
