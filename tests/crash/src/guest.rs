//! What may be seen of a guest's disk after a power cut: what was flushed last, or something later; never anything else.
//!
//! Requests begin and end; between the two, what they do may be there or not, in whole or in part. A flush that ended
//! makes durable what had ended before the flush began. So a value can be ruled out once another request began after
//! the value's own had ended, and that other one is durable.

use std::collections::BTreeMap;

use crate::sector::{SECTOR, Tag};

/// What a request may change.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Nothing that the guest sees.
    Nothing,
    /// Sectors from the first to before the second number hold this.
    Sectors(u64, u64, Tag),
    /// Everything before is durable when it ends.
    Flush,
    /// The disk has so many sectors; those that are cut off are zeros should it grow again.
    Resize(u64),
    /// There is a snapshot of that name, with what the disk holds when the request begins.
    Snapshot(String),
    /// The disk becomes what the snapshot holds.
    Apply(String),
    /// There is no snapshot of that name.
    Delete(String),
}

/// A remark in the record of a session.
#[derive(Clone, Debug)]
pub enum Remark {
    /// Request `op` begins.
    Begin {
        /// Its number.
        op: usize,
        /// What it may change.
        effect: Effect,
    },
    /// Request `op` ended.
    End {
        /// Its number.
        op: usize,
        /// With success. What failed may have been done in part.
        ok: bool,
    },
}

/// A value and when it came to be.
#[derive(Clone, Debug)]
struct Version<T> {
    value: T,
    op: usize,
    begun: u64,
    ended: Option<u64>,
    ok: bool,
}

/// The values that something may have.
#[derive(Clone, Debug)]
struct History<T>(Vec<Version<T>>);

impl<T: Clone + PartialEq> History<T> {
    fn new(value: T) -> Self {
        Self(vec![Version { value, op: usize::MAX, begun: 0, ended: Some(0), ok: true }])
    }

    fn begin(&mut self, op: usize, now: u64, value: T) {
        self.0.push(Version { value, op, begun: now, ended: None, ok: false });
    }

    fn end(&mut self, op: usize, now: u64, ok: bool) {
        for version in self.0.iter_mut().filter(|version| version.op == op) {
            version.ended = Some(now);
            version.ok = ok;
        }
    }

    /// Whether `old` cannot be seen any more, given that all that ended before `durable` is there.
    fn is_outdated(&self, old: &Version<T>, durable: u64) -> bool {
        let Some(old_end) = old.ended else { return false };
        self.0.iter().any(|new| new.ok && new.begun > old_end && new.ended.is_some_and(|end| end < durable))
    }

    /// What was not made durable may be gone: it rules out nothing any more.
    fn doubt(&mut self) {
        self.0.iter_mut().for_each(|version| version.ok = false);
    }

    fn forget_before(&mut self, durable: u64) {
        if self.0.len() > 1 {
            let kept = self.0.iter().filter(|version| !self.is_outdated(version, durable)).cloned().collect();
            self.0 = kept;
        }
    }

    fn allows(&self, value: &T) -> bool {
        self.0.iter().any(|version| version.value == *value)
    }

    /// The values that somebody may see who looks now, without a power cut.
    fn visible(&self) -> Vec<T> {
        let seen = self.0.iter().filter(|version| !self.is_outdated(version, u64::MAX));
        seen.map(|version| version.value.clone()).collect()
    }
}

#[derive(Clone, Debug)]
struct SnapshotState {
    exists: History<bool>,
    n_sectors: Vec<u64>,
    content: Vec<Vec<Tag>>,
}

/// What an image shows: what there is to be judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// The size of the disk in sectors.
    pub n_sectors: u64,
    /// Who wrote the sectors, as far as anybody looked.
    pub tags: Vec<Tag>,
    /// The snapshots by their names, with what their disks hold, as far as the image's own disk reaches: those who show
    /// a snapshot leave the disk at its size.
    pub snapshots: BTreeMap<String, Vec<Tag>>,
}

/// The disk as it may be.
#[derive(Clone, Debug)]
pub struct Guest {
    sectors: Vec<History<Tag>>,
    size: History<u64>,
    snapshots: BTreeMap<String, SnapshotState>,
    running: BTreeMap<usize, (Effect, u64)>,
    now: u64,
}

impl Guest {
    /// A disk of `n_sectors`, of which the first `n_base` come from a backing file. No resize goes beyond `n_max`.
    #[must_use]
    pub fn new(n_sectors: u64, n_base: u64, n_max: u64) -> Self {
        let tag = |sector| if sector < n_base.min(n_sectors) { Tag::BASE } else { Tag::ZERO };
        Self {
            sectors: (0..n_max).map(|sector| History::new(tag(sector))).collect(),
            size: History::new(n_sectors),
            snapshots: BTreeMap::new(),
            running: BTreeMap::new(),
            now: 1,
        }
    }

    /// Takes note of a remark; tells whether fewer things may be seen from now on.
    pub fn note(&mut self, remark: &Remark) -> bool {
        self.now += 1;
        match remark {
            Remark::Begin { op, effect } => {
                self.begin(*op, effect);
                self.running.insert(*op, (effect.clone(), self.now));
                false
            }
            Remark::End { op, ok } => {
                let (effect, begun) = self.running.remove(op).expect("it began");
                if let (Effect::Flush, true) = (&effect, ok) {
                    self.flush(begun);
                    return true;
                }
                self.end(*op, &effect, *ok);
                false
            }
        }
    }

    fn begin(&mut self, op: usize, effect: &Effect) {
        let now = self.now;
        match effect {
            Effect::Nothing | Effect::Flush => {}
            Effect::Sectors(first, end, tag) => {
                self.range(*first, *end).iter_mut().for_each(|sector| sector.begin(op, now, *tag));
            }
            Effect::Resize(n_sectors) => {
                let old = self.size.visible().into_iter().max().unwrap_or(0);
                self.range(*n_sectors, old).iter_mut().for_each(|sector| sector.begin(op, now, Tag::ZERO));
                self.size.begin(op, now, *n_sectors);
            }
            Effect::Snapshot(name) => {
                let mut exists = History::new(false);
                exists.begin(op, now, true);
                let content = self.sectors.iter().map(History::visible).collect();
                let state = SnapshotState { exists, n_sectors: self.size.visible(), content };
                self.snapshots.insert(name.clone(), state);
            }
            Effect::Apply(name) => {
                let SnapshotState { n_sectors, content, .. } = self.snapshots.get(name).expect("it was made").clone();
                for (sector, tags) in self.sectors.iter_mut().zip(content) {
                    tags.into_iter().for_each(|tag| sector.begin(op, now, tag));
                }
                n_sectors.into_iter().for_each(|n| self.size.begin(op, now, n));
            }
            Effect::Delete(name) => {
                self.snapshots.get_mut(name).expect("it was made").exists.begin(op, now, false);
            }
        }
    }

    fn end(&mut self, op: usize, effect: &Effect, ok: bool) {
        let now = self.now;
        match effect {
            Effect::Nothing | Effect::Flush => {}
            Effect::Sectors(first, end, _) => {
                self.range(*first, *end).iter_mut().for_each(|sector| sector.end(op, now, ok));
            }
            Effect::Resize(_) | Effect::Apply(_) => {
                self.sectors.iter_mut().for_each(|sector| sector.end(op, now, ok));
                self.size.end(op, now, ok);
            }
            Effect::Snapshot(name) | Effect::Delete(name) => {
                self.snapshots.get_mut(name).expect("it was made").exists.end(op, now, ok);
            }
        }
    }

    fn flush(&mut self, begun: u64) {
        self.sectors.iter_mut().for_each(|sector| sector.forget_before(begun));
        self.size.forget_before(begun);
        self.snapshots.values_mut().for_each(|snapshot| snapshot.exists.forget_before(begun));
    }

    /// The image was given up: what was not flushed may be there or not, whatever is flushed later.
    pub fn give_up(&mut self) {
        self.sectors.iter_mut().for_each(History::doubt);
        self.size.doubt();
        self.snapshots.values_mut().for_each(|snapshot| snapshot.exists.doubt());
    }

    fn range(&mut self, first: u64, end: u64) -> &mut [History<Tag>] {
        let index = |sector| usize::try_from(sector).expect("a sector in memory").min(self.sectors.len());
        let (first, end) = (index(first), index(end));
        self.sectors.get_mut(first..end).unwrap_or_default()
    }

    /// Whether an image may show this after a power cut.
    ///
    /// # Errors
    /// What it shows that it must not.
    pub fn judge(&self, sight: &Sight) -> Result<(), String> {
        self.judge_disk(sight)?;
        self.judge_snapshots(sight)
    }

    fn judge_disk(&self, sight: &Sight) -> Result<(), String> {
        if !self.size.allows(&sight.n_sectors) {
            return Err(format!("the disk has {} sectors, not {:?}", sight.n_sectors, values(&self.size)));
        }
        for (sector, (tag, history)) in sight.tags.iter().zip(&self.sectors).enumerate() {
            if !history.allows(tag) {
                return Err(format!("sector {sector} holds {tag:?}, not one of {:?}", values(history)));
            }
        }
        Ok(())
    }

    fn judge_snapshots(&self, sight: &Sight) -> Result<(), String> {
        if let Some(name) = sight.snapshots.keys().find(|name| !self.snapshots.contains_key(*name)) {
            return Err(format!("there is a snapshot '{name}' that nobody made"));
        }
        for (name, state) in &self.snapshots {
            let found = sight.snapshots.get(name);
            if !state.exists.allows(&found.is_some()) {
                return Err(format!("whether there is a snapshot '{name}': {}", found.is_some()));
            }
            let Some(tags) = found else { continue };
            // What lies behind the snapshot's own end was never promised.
            let n_sectors = state.n_sectors.iter().min().copied().unwrap_or(0);
            let tags = tags.iter().take(usize::try_from(n_sectors).expect("a sector in memory"));
            for (sector, (tag, allowed)) in tags.zip(&state.content).enumerate() {
                if !allowed.contains(tag) {
                    return Err(format!("sector {sector} of snapshot '{name}' holds {tag:?}, not {allowed:?}"));
                }
            }
        }
        Ok(())
    }

    /// As [`Guest::judge`], for an image that was closed in peace.
    ///
    /// # Errors
    /// What it shows that it must not.
    pub fn judge_closed(&self, sight: &Sight) -> Result<(), String> {
        self.in_peace().judge(sight)
    }

    /// As [`Guest::judge`], for the disk of an image that is open.
    ///
    /// # Errors
    /// What it shows that it must not.
    pub fn judge_open(&self, sight: &Sight) -> Result<(), String> {
        self.in_peace().judge_disk(sight)
    }

    fn in_peace(&self) -> Self {
        let mut peaceful = self.clone();
        peaceful.flush(u64::MAX);
        peaceful
    }

    /// The size that the disk has, if no resize is under way.
    #[must_use]
    pub fn n_sectors(&self) -> u64 {
        self.size.visible().pop().unwrap_or(0)
    }

    /// How many bytes of the disk are looked at.
    #[must_use]
    pub fn tracked_bytes(&self) -> u64 {
        self.sectors.len() as u64 * SECTOR
    }
}

fn values<T: Clone>(history: &History<T>) -> Vec<T> {
    history.0.iter().map(|version| version.value.clone()).collect()
}
