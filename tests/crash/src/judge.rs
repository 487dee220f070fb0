//! Judging states: what our check finds, what the guest sees, what the reference's check finds, what a life afterwards
//! makes of it.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use qemu_block::error::BlockError;
use qemu_block::mem::MemDisk;
use qemu_block::types::{CheckFixes, OpenFlags, WriteFlags};
use qemu_util::buf::IoBuf;
use tempfile::TempDir;
use test_support::programs::reference;

use crate::bench::{Bench, IMAGE};
use crate::executor::block_on;
use crate::guest::{Guest, Sight};
use crate::look::look;
use crate::rng::Rng;
use crate::sector::{SECTOR, Tag, bytes_of};
use crate::session::{Plan, Trace};
use crate::states::{Place, Visitor, for_each_state};

/// What was judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// States.
    pub states: u64,
    /// States with content that no other one of their session had.
    pub distinct: u64,
    /// States that the reference checked.
    pub references: u64,
    /// States that were written to afterwards.
    pub afterlives: u64,
}

impl std::ops::AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.states += other.states;
        self.distinct += other.distinct;
        self.references += other.references;
        self.afterlives += other.afterlives;
    }
}

/// A state that must not be, and how it came about.
#[derive(Debug)]
pub struct Violation {
    /// What was done.
    pub plan: Plan,
    /// When the power went.
    pub place: Place,
    /// What is wrong.
    pub complaint: String,
    /// The disks.
    pub disks: Vec<(&'static str, MemDisk)>,
}

impl Violation {
    /// All that somebody needs who wants to see it again; the disks are written to files.
    #[must_use]
    pub fn report(&self) -> String {
        let kept = tempfile::Builder::new().prefix("crash-state").tempdir().map(TempDir::keep);
        let saved = kept.and_then(|dir| {
            for (name, disk) in &self.disks {
                fs::write(dir.join(name), disk.to_vec())?;
            }
            Ok(dir)
        });
        let saved = saved.map_or_else(|error| error.to_string(), |dir| dir.display().to_string());
        let (shape, seed) = (self.plan.shape.name, self.plan.seed);
        format!(
            "{}\n{}\nThe disks are in {saved}. Again: cargo xtask crash --shape '{shape}' --seed {seed} --actions {}\n{}",
            self.complaint,
            self.place,
            self.plan.actions.len(),
            self.plan
        )
    }
}

/// How thoroughly states are judged beyond our own check. One in so many distinct states; none if zero.
#[derive(Clone, Copy, Debug)]
pub struct Depth {
    /// Is checked by the reference.
    pub reference: u64,
    /// Is opened, written to, closed, and looked at again.
    pub afterlife: u64,
}

/// Judges states of one session.
struct Judge<'t> {
    bench: Bench,
    trace: &'t Trace,
    depth: Depth,
    /// What the guest may see.
    guest: Guest,
    /// What is known about disks, by their digests.
    known: HashMap<Vec<u64>, Result<Sight, String>>,
    count: Count,
    rng: Rng,
    violation: Option<Box<Violation>>,
}

/// Judges every state that the session could leave.
///
/// # Errors
/// The first one that must not be.
pub fn judge_all(trace: &Trace, depth: Depth) -> Result<Count, Box<Violation>> {
    let mut judge = Judge {
        bench: Bench::new(),
        trace,
        depth,
        guest: trace.guest.clone(),
        known: HashMap::new(),
        count: Count::default(),
        rng: Rng::new(!trace.plan.seed),
        violation: None,
    };
    let start: Vec<MemDisk> = trace.start.iter().map(|(_, disk)| disk.clone()).collect();
    match for_each_state(&start, &trace.events, trace.plan.seed, &mut judge) {
        Ok(()) => Ok(judge.count),
        Err(complaint) => Err(judge.violation.expect(&complaint)),
    }
}

impl Visitor for Judge<'_> {
    fn remark(&mut self, note: usize) -> bool {
        self.guest.note(&self.trace.remarks[note])
    }

    fn visit(&mut self, disks: &[MemDisk], place: Place, _ended: bool) -> Result<(), String> {
        self.judge(disks).inspect_err(|complaint| {
            self.violation = Some(Box::new(Violation {
                plan: self.trace.plan.clone(),
                place,
                complaint: complaint.clone(),
                disks: self.trace.start.iter().zip(disks).map(|((name, _), disk)| (*name, disk.fork())).collect(),
            }));
        })
    }
}

impl Judge<'_> {
    fn judge(&mut self, disks: &[MemDisk]) -> Result<(), String> {
        self.count.states += 1;
        let key: Vec<u64> = disks.iter().map(MemDisk::digest).collect();
        let n_bytes = self.guest.tracked_bytes();
        if !self.known.contains_key(&key) {
            self.set(disks);
            let sight = block_on(look(&self.bench, n_bytes));
            self.known.insert(key.clone(), sight);
            self.count.distinct += 1;
        }
        let sight = self.known.get(&key).expect("just looked at").clone()?;
        self.guest.judge(&sight)?;
        if self.depth.reference > 0 && self.rng.one_in(self.depth.reference) {
            self.count.references += 1;
            self.ask_reference(disks)?;
        }
        if self.depth.afterlife > 0 && self.rng.one_in(self.depth.afterlife) {
            self.count.afterlives += 1;
            self.live_on(disks, sight, n_bytes)?;
        }
        Ok(())
    }

    /// Puts the disks of a state onto the bench.
    fn set(&self, disks: &[MemDisk]) {
        for ((name, _), disk) in self.trace.start.iter().zip(disks) {
            self.bench.insert(name, disk.fork());
        }
    }

    /// The reference may find leaks, and nothing else.
    fn ask_reference(&self, disks: &[MemDisk]) -> Result<(), String> {
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        for ((name, _), disk) in self.trace.start.iter().zip(disks) {
            fs::write(dir.path().join(name), disk.to_vec()).map_err(|error| error.to_string())?;
        }
        let is_dirty = disks.first().is_some_and(is_dirty);
        reference_check(dir.path(), self.trace.plan.shape.base.is_some(), is_dirty)
    }

    /// The image can be used on, and is clean when its leaks were repaired.
    fn live_on(&mut self, disks: &[MemDisk], before: Sight, n_bytes: u64) -> Result<(), String> {
        self.set(disks);
        let n_visible = before.n_sectors.min(n_bytes / SECTOR);
        let at = self.rng.below(n_visible);
        let n = (1 + self.rng.below(2 * self.trace.plan.shape.cluster / SECTOR)).min(n_visible - at);
        let tag = Tag::of(0x00ff_0000, false);
        let written = block_on(async {
            let node = self.bench.open("qcow2", IMAGE, OpenFlags::WRITE | OpenFlags::UNMAP).await?;
            let data = IoBuf::copy_of(&bytes_of(tag, at, n));
            node.write(at * SECTOR, data.into(), WriteFlags::empty()).await?;
            node.check(CheckFixes::Leaks).await?;
            node.close().await
        });
        written.map_err(|error| format!("afterwards, writing {n} sectors at {at}: {}", error.chain()))?;
        let after = block_on(look(&self.bench, n_bytes)).map_err(|text| format!("afterwards: {text}"))?;
        let mut expected = before;
        for sector in at..at + n {
            expected.tags[usize::try_from(sector).expect("a tracked sector")] = tag;
        }
        if after != expected {
            return Err(format!("afterwards it shows {after:?}\ninstead of {expected:?}"));
        }
        is_clean(&self.bench)
    }
}

/// Whether the image says that it was not closed cleanly: the first of the incompatible features.
fn is_dirty(image: &MemDisk) -> bool {
    let mut features = [0; 8];
    image.read_at(72, &mut features);
    u64::from_be_bytes(features) & 1 != 0
}

/// Whether our check finds nothing at all, and nothing of an unclean end is left.
fn is_clean(bench: &Bench) -> Result<(), String> {
    let checked = block_on(async {
        let node = bench.open("qcow2", IMAGE, OpenFlags::CHECK).await?;
        let (report, info) = (node.check(CheckFixes::Nothing).await?, node.info().await?);
        node.close().await?;
        Ok::<_, BlockError>((report, info))
    });
    let (report, info) = checked.map_err(|error| format!("afterwards: {}", error.chain()))?;
    let is_clean = (report.corruptions, report.leaks, report.check_errors) == (0, 0, 0) && info.dirty != Some(true);
    if is_clean { Ok(()) } else { Err(format!("afterwards it is not clean: {report:?}, dirty: {:?}", info.dirty)) }
}

/// Lets the reference check the image in a folder.
///
/// The counts of an image that was not closed cleanly are worth nothing; it is repaired, and must be clean then.
fn reference_check(dir: &Path, has_base: bool, is_dirty: bool) -> Result<(), String> {
    let backing = if has_base { ",backing.driver=qcow2,backing.file.filename=base" } else { "" };
    let repair = if is_dirty { "-r all " } else { "" };
    let line = format!("check {repair}--image-opts driver=qcow2,file.filename={IMAGE}{backing}");
    let run = reference().run(dir, &line);
    match run.code() {
        Some(0) => Ok(()),
        Some(3) if !is_dirty => Ok(()),
        _ => Err(format!("the reference says: {run}")),
    }
}
