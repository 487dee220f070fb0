//! Which bytes of a read have arrived: all of them must, and none twice.
//!
//! A server that leaves out bytes would otherwise make us hand out whatever the buffer held before.

use std::collections::BTreeMap;
use std::ops::Range;

use super::Violation;

/// The parts that are there: start to end, neither touching nor overlapping.
#[derive(Debug, Default)]
pub(crate) struct Coverage {
    parts: BTreeMap<usize, usize>,
}

impl Coverage {
    /// Adds a part. Work and memory grow with the number of gaps, which the length of the read bounds.
    pub(crate) fn add(&mut self, part: Range<usize>) -> Result<(), Violation> {
        let mut part = part;
        let before = self.parts.range(..part.end).next_back().map(|(start, end)| (*start, *end));
        if let Some((start, end)) = before {
            if end > part.start {
                return Err(Violation::of("server sent the same bytes twice"));
            }
            if end == part.start {
                part.start = start;
            }
        }
        if let Some(end) = self.parts.remove(&part.end) {
            part.end = end;
        }
        self.parts.insert(part.start, part.end);
        Ok(())
    }

    /// Whether all of `len` bytes are there.
    pub(crate) fn is_complete(&self, len: usize) -> bool {
        len == 0 || self.parts.get(&0) == Some(&len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_in_any_order_make_the_whole() {
        let mut coverage = Coverage::default();
        for part in [6..10, 0..2, 4..6, 2..4] {
            assert!(!coverage.is_complete(10));
            coverage.add(part).expect("new");
        }
        assert!(coverage.is_complete(10) && coverage.parts.len() == 1);
    }

    #[test]
    fn nothing_may_come_twice() {
        for again in [0..1, 3..6, 7..8, 5..20, 9..10, 4..5] {
            let mut coverage = Coverage::default();
            coverage.add(0..2).expect("new");
            coverage.add(4..10).expect("new");
            assert!(coverage.add(again.clone()).is_err(), "{again:?}");
        }
    }

    #[test]
    fn a_gap_is_seen() {
        let mut coverage = Coverage::default();
        coverage.add(0..4).expect("new");
        coverage.add(5..8).expect("new");
        assert!(!coverage.is_complete(8));
        assert!(Coverage::default().is_complete(0));
    }
}
