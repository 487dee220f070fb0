//! Every state in which a power cut, or the end of the process, can leave the disks.
//!
//! | state | how it comes about |
//! |---|---|
//! | a prefix of the changes | the process was killed, or the disk keeps the order |
//! | a prefix and a part of the next write | the power went while a write was under way: sectors are written wholly or not |
//! | some of the changes that no flush covers | the disk reorders what is not flushed |
//! | the same, and the last of them in part | both |
//!
//! A flush covers what took effect before it began; what came meanwhile may be there or not. Of the changes that no
//! flush covers all subsets are tried when there are few; when there are many, each single one is left out, or kept
//! alone, the metadata or the data is left out, and random subsets are drawn.

use std::collections::BTreeMap;
use std::fmt;

use qemu_block::mem::{Event, LogEntry, MemDisk};

use crate::rng::Rng;
use crate::sector::{SECTOR, is_guest_data};

/// Up to so many changes all subsets are tried.
const ALL_SUBSETS_MAX: usize = 8;
/// Parts of a write that is cut short at most.
const TORN_MAX: u64 = 8;
/// Parts of the last write of a subset.
const TORN_IN_SUBSETS_MAX: u64 = 1;
/// Of many changes so many single ones are left out, and as many are kept alone.
const SINGLES_MAX: usize = 24;
/// Random subsets of many changes.
const SAMPLES: usize = 40;

/// Which state it is.
#[derive(Clone, Debug)]
pub struct Place {
    /// So many events have happened.
    pub n_events: usize,
    /// Of the changes that no flush covers only these are there, by the numbers of their events; all if there is no
    /// list.
    pub kept: Option<Vec<usize>>,
    /// Only so many bytes of the last write are there.
    pub torn: Option<usize>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {} events", self.n_events)?;
        if let Some(kept) = &self.kept {
            write!(f, ", of the unflushed ones only {kept:?}")?;
        }
        match self.torn {
            Some(bytes) => write!(f, ", the last write cut after {bytes} bytes"),
            None => Ok(()),
        }
    }
}

/// Who looks at the states.
pub trait Visitor {
    /// A remark of whoever used the disks comes next; tells whether fewer things are right from now on, so that the
    /// state has to be looked at again.
    fn remark(&mut self, note: usize) -> bool;

    /// The disks may be left like this. `ended` says that whoever used them was done by then.
    ///
    /// # Errors
    /// What is wrong with them, which ends the enumeration.
    fn visit(&mut self, disks: &[MemDisk], place: Place, ended: bool) -> Result<(), String>;
}

/// A change that no flush covers yet.
#[derive(Clone, Copy)]
struct Pending<'t> {
    event: usize,
    disk: usize,
    change: &'t LogEntry,
}

impl Pending<'_> {
    fn is_data(&self) -> bool {
        match self.change {
            // Compressed clusters are packed, tables begin with sectors.
            LogEntry::Write { offset, data } => is_guest_data(data) || !offset.is_multiple_of(SECTOR),
            _ => false,
        }
    }
}

/// The walk through the events.
struct Walk<'t, 'v> {
    /// Everything that happened so far.
    current: Vec<MemDisk>,
    /// What is there whatever happens.
    durable: Vec<MemDisk>,
    pending: Vec<Pending<'t>>,
    /// When flushes began, by their names.
    flushes: BTreeMap<u64, usize>,
    /// Whether something changed since the subsets were tried.
    untried: bool,
    n_events: usize,
    ended: bool,
    rng: Rng,
    visitor: &'v mut dyn Visitor,
}

/// Visits every state in which disks can be left that were `start` before the events.
///
/// # Errors
/// The first complaint of the visitor.
pub fn for_each_state(start: &[MemDisk], events: &[Event], seed: u64, visitor: &mut dyn Visitor) -> Result<(), String> {
    let mut walk = Walk {
        current: start.iter().map(MemDisk::fork).collect(),
        durable: start.iter().map(MemDisk::fork).collect(),
        pending: Vec::new(),
        flushes: BTreeMap::new(),
        untried: false,
        n_events: 0,
        ended: false,
        rng: Rng::new(seed),
        visitor,
    };
    for (number, event) in events.iter().enumerate() {
        walk.step(number, event)?;
    }
    (walk.ended, walk.untried) = (true, true);
    walk.subsets()
}

impl<'t> Walk<'t, '_> {
    fn step(&mut self, number: usize, event: &'t Event) -> Result<(), String> {
        match event {
            Event::Note(note) => {
                if self.visitor.remark(*note) {
                    self.prefix(None)?;
                }
            }
            Event::Changed { disk, change } => {
                self.torn(*disk, change)?;
                self.current[*disk].apply(change);
                self.pending.push(Pending { event: number, disk: *disk, change });
                self.untried = true;
                self.n_events = number + 1;
                self.prefix(None)?;
            }
            Event::FlushStarted { flush, .. } => drop(self.flushes.insert(*flush, number)),
            Event::FlushDone { disk, flush } => {
                self.subsets()?;
                let begun = self.flushes.remove(flush).expect("it was started");
                let durable = &self.durable[*disk];
                let is_covered = |pending: &Pending<'_>| pending.disk == *disk && pending.event < begun;
                let covered = self.pending.iter().filter(|pending| is_covered(pending));
                covered.for_each(|pending| durable.apply(pending.change));
                self.pending.retain(|pending| !is_covered(pending));
            }
        }
        self.n_events = number + 1;
        Ok(())
    }

    fn prefix(&mut self, torn: Option<usize>) -> Result<(), String> {
        let place = Place { n_events: self.n_events, kept: None, torn };
        self.visitor.visit(&self.current, place, self.ended)
    }

    /// A write that is about to happen, cut short.
    fn torn(&mut self, disk: usize, change: &LogEntry) -> Result<(), String> {
        for len in cuts(change, TORN_MAX, &mut self.rng) {
            let whole = self.current[disk].fork();
            self.current[disk].apply(&cut(change, len));
            let visited = self.prefix(Some(len));
            self.current[disk] = whole;
            visited?;
        }
        Ok(())
    }

    /// What may be left of the changes that no flush covers.
    fn subsets(&mut self) -> Result<(), String> {
        if !std::mem::take(&mut self.untried) {
            return Ok(());
        }
        let n = self.pending.len();
        if n <= ALL_SUBSETS_MAX {
            return (0_u64..1 << n).try_for_each(|mask| self.subset(|i| mask >> i & 1 == 1));
        }
        let data: Vec<bool> = self.pending.iter().map(Pending::is_data).collect();
        self.subset(|_| false)?;
        self.subset(|i| data[i])?;
        self.subset(|i| !data[i])?;
        let stride = n.div_ceil(SINGLES_MAX);
        for one in (0..n).step_by(stride) {
            self.subset(|i| i != one)?;
            self.subset(|i| i == one)?;
            self.subset(|i| i >= one)?;
        }
        for _ in 0..SAMPLES {
            // Some lose much, some little.
            let keep = 1 + self.rng.below(15);
            let mask: Vec<bool> = (0..n).map(|_| self.rng.below(16) < keep).collect();
            self.subset(|i| mask[i])?;
        }
        Ok(())
    }

    /// Only the changes for which `keep` says so; and the same with the last of them in part.
    fn subset(&mut self, keep: impl Fn(usize) -> bool) -> Result<(), String> {
        let kept: Vec<Pending<'t>> =
            (0..).zip(&self.pending).filter(|(i, _)| keep(*i)).map(|(_, change)| *change).collect();
        let events: Vec<usize> = kept.iter().map(|pending| pending.event).collect();
        let place = |torn| Place { n_events: self.n_events, kept: Some(events.clone()), torn };
        let disks: Vec<MemDisk> = self.durable.iter().map(MemDisk::fork).collect();
        if let Some((last, rest)) = kept.split_last() {
            rest.iter().for_each(|pending| disks[pending.disk].apply(pending.change));
            for len in cuts(last.change, TORN_IN_SUBSETS_MAX, &mut self.rng) {
                let mut torn: Vec<MemDisk> = disks.clone();
                torn[last.disk] = disks[last.disk].fork();
                torn[last.disk].apply(&cut(last.change, len));
                self.visitor.visit(&torn, place(Some(len)), self.ended)?;
            }
            disks[last.disk].apply(last.change);
        }
        self.visitor.visit(&disks, place(None), self.ended)
    }
}

/// The lengths at which a write may be cut: where sectors of the disk end. All of them, or `n_max` of them.
fn cuts(change: &LogEntry, n_max: u64, rng: &mut Rng) -> Vec<usize> {
    let LogEntry::Write { offset, data } = change else { return Vec::new() };
    let first = SECTOR - offset % SECTOR;
    let n = (data.len() as u64).saturating_sub(first).div_ceil(SECTOR);
    let at = |i: u64| usize::try_from(first + i * SECTOR).expect("inside the data");
    if n <= n_max {
        return (0..n).map(at).collect();
    }
    (0..n_max).map(|_| at(rng.below(n))).collect()
}

fn cut(change: &LogEntry, len: usize) -> LogEntry {
    match change {
        LogEntry::Write { offset, data } => LogEntry::Write { offset: *offset, data: data[..len].to_vec() },
        other => other.clone(),
    }
}
