//! Images with a few wrong fields, chosen at random: a repair makes none of them worse, ends in a state that it
//! leaves alone, and is worth as much as the reference's.

use qemu_block::mem::MemDisk;
use qemu_block::types::{CheckFixes, CheckReport, OpenFlags};

use crate::mem::MemBench;
use crate::power_cut::cut;
use crate::support::{Bench, block_on, oracle, qemu_io};

/// Cluster size and size of the disk in bytes.
const CLUSTER: u64 = 4096;
const DISK: u64 = 4 << 20;
const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;
const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;

/// A small generator (xorshift), so that a seed tells everything.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// An image with data, zeros, compressed clusters and a snapshot.
fn base(options: &str) -> Vec<u8> {
    let bench = Bench::new();
    let path = bench.path("image");
    oracle(&["create", "-q", "-f", "qcow2", "-o", options, &path, "4M"]);
    qemu_io(&path, &["write -P 1 0 300k", "write -c -P 2 1M 4k", "write -c -P 3 1028k 4k", "write -z 2M 100k"]);
    oracle(&["snapshot", "-c", "one", &path]);
    qemu_io(&path, &["write -P 4 100k 100k", "write -P 5 3M 200k"]);
    std::fs::read(path).expect("readable")
}

fn number_at(bytes: &[u8], at: u64) -> u64 {
    let at = usize::try_from(at).expect("small");
    bytes.get(at..at + 8).map_or(0, |field| u64::from_be_bytes(field.try_into().expect("eight bytes")))
}

/// Places of metadata: refcount table, blocks, L1 tables and L2 tables, as far as they can be found.
fn tables(bytes: &[u8]) -> Vec<u64> {
    let (l1, reftable) = (number_at(bytes, 40), number_at(bytes, 48));
    let mut tables = vec![l1, reftable, number_at(bytes, number_at(bytes, 64))];
    tables.extend((0..4).map(|i| number_at(bytes, reftable + 8 * i)));
    tables.extend((0..4).map(|i| number_at(bytes, l1 + 8 * i) & OFFSET_MASK));
    tables.retain(|table| *table != 0 && *table < u64::try_from(bytes.len()).expect("small"));
    tables
}

/// Changes one field of one table to something that is plausible, or to anything.
fn damage(bytes: &mut [u8], random: &mut Random) -> String {
    let tables = tables(bytes);
    let len = u64::try_from(bytes.len()).expect("small");
    let pick = |random: &mut Random| tables[usize::try_from(random.below(tables.len() as u64)).expect("small")];
    let n_entries = if random.below(2) == 0 { 8 } else { CLUSTER / 8 };
    let at = pick(random) + 8 * random.below(n_entries);
    let alias = match random.below(8) {
        0 => 0,
        1 => pick(random),
        2 => pick(random) + CLUSTER,
        3 => pick(random) + 512,
        4 => random.below(len) / CLUSTER * CLUSTER,
        5 => len + random.below(4) * CLUSTER,
        6 => 0x0001_0001_0001_0001 * random.below(4),
        _ => random.next(),
    };
    let flags = [0, COPIED, 1, COMPRESSED, COPIED | 1][usize::try_from(random.below(5)).expect("small")];
    let value = alias | flags;
    let place = usize::try_from(at).expect("small");
    if let Some(field) = bytes.get_mut(place..place + 8) {
        field.copy_from_slice(&value.to_be_bytes());
    }
    format!("{at:#x}: {value:#x}")
}

fn bench_with(bytes: &[u8]) -> MemBench {
    let bench = MemBench::new();
    bench.insert("a", MemDisk::from_bytes(bytes));
    bench
}

/// Every cluster of the disk that can be read.
fn readable(bench: &MemBench) -> Option<Vec<Option<Vec<u8>>>> {
    let node = bench.open("a", OpenFlags::empty()).ok()?;
    let len = usize::try_from(CLUSTER).expect("small");
    let read = |i: u64| block_on(node.read_bytes(i * CLUSTER, len)).ok().map(|bytes| bytes.to_vec());
    let clusters = (0..DISK / CLUSTER).map(read).collect();
    block_on(node.close()).ok()?;
    Some(clusters)
}

fn repair(bench: &MemBench) -> Option<CheckReport> {
    let node = bench.open("a", OpenFlags::CHECK | OpenFlags::WRITE).ok()?;
    let report = block_on(node.check(CheckFixes::All)).expect("the disk does not fail");
    block_on(node.close()).expect("closed");
    Some(report)
}

fn is_sound(report: &CheckReport) -> bool {
    report.corruptions == 0 && report.leaks == 0 && report.check_errors == 0
}

/// One damaged image; tells what is wrong with its repair.
fn check_one(whole: &[u8], seed: u64) -> Result<(), String> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut bytes = whole.to_vec();
    let n_changes = 1 + random.below(3);
    let changes: Vec<String> = (0..n_changes).map(|_| damage(&mut bytes, &mut random)).collect();
    let fail = |what: &str| Err(format!("seed {seed}, {}: {what}", changes.join(", ")));

    let bench = bench_with(&bytes);
    let before = readable(&bench);
    let Some(report) = repair(&bench) else { return Ok(()) };
    let after = bench.check();
    let repaired = bench.disk().to_vec();
    if repaired.len() > bytes.len() + (1 << 20) {
        return fail("the file grew");
    }
    if let (Some(before), Some(after)) = (&before, readable(&bench)) {
        let changed = before.iter().zip(&after).position(|(before, after)| before.is_some() && before != after);
        if let Some(cluster) = changed {
            return fail(&format!("guest cluster {cluster} could be read and was changed"));
        }
    }
    let again = repair(&bench).expect("opened before");
    if (again.corruptions_fixed, again.leaks_fixed) != (0, 0) || bench.disk().to_vec() != repaired {
        return fail(&format!("a second repair has something to do: {again:?} after {report:?}"));
    }
    let files = Bench::new();
    let path = files.path("image");
    if is_sound(&after) {
        std::fs::write(&path, &repaired).expect("written");
        let (code, text) = oracle(&["check", "-f", "qcow2", &path]);
        if code != 0 {
            return fail(&format!("the reference finds {text}"));
        }
        return Ok(());
    }
    std::fs::write(&path, &bytes).expect("written");
    let (code, _) = oracle(&["check", "-q", "-f", "qcow2", "-r", "all", &path]);
    if code == 0 { fail(&format!("the reference repairs it, we do not: {report:?}, {after:?}")) } else { Ok(()) }
}

#[test]
fn repairs_of_random_damage_are_sound() {
    let mut failures = Vec::new();
    for (options, first) in [("cluster_size=4k", 1), ("cluster_size=4k,refcount_bits=64,compat=1.1", 1000)] {
        let whole = base(options);
        failures.extend((first..first + 100).filter_map(|seed| check_one(&whole, seed).err()));
    }
    assert!(failures.is_empty(), "{} images\n{}", failures.len(), failures.join("\n"));
}

/// Cuts the power at every write of a repair; tells what is worse afterwards than it has to be.
fn check_cuts(whole: &[u8], seed: u64) -> Result<(), String> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut bytes = whole.to_vec();
    let n_changes = 1 + random.below(3);
    let changes: Vec<String> = (0..n_changes).map(|_| damage(&mut bytes, &mut random)).collect();
    let bench = bench_with(&bytes);
    let before = readable(&bench);
    bench.disk().start_log();
    if repair(&bench).is_none() {
        return Ok(());
    }
    let log = bench.disk().take_log();
    let is_cured = is_sound(&bench.check());
    for len in 0..log.len() {
        for keeps_all in [true, false] {
            let cut_off = bench_with(&[]);
            cut_off.insert("a", cut(&bytes, &log[..len], || keeps_all || random.below(2) == 0));
            let fail =
                |what: &str| Err(format!("seed {seed}, {}, cut at {len} of {}: {what}", changes.join(", "), log.len()));
            let now = readable(&cut_off);
            if let (Some(before), Some(now)) = (&before, &now) {
                let changed = before.iter().zip(now).position(|(before, now)| before.is_some() && before != now);
                if let Some(cluster) = changed {
                    return fail(&format!("guest cluster {cluster} has changed"));
                }
            }
            if is_cured {
                repair(&cut_off).expect("opened before");
                let report = cut_off.check();
                if !is_sound(&report) {
                    return fail(&format!("it cannot be repaired any more: {report:?}"));
                }
            }
        }
    }
    Ok(())
}

#[test]
fn repairs_that_are_cut_off_can_be_made_again() {
    let whole = base("cluster_size=4k");
    let failures: Vec<String> = (2000..2040).filter_map(|seed| check_cuts(&whole, seed).err()).collect();
    assert!(failures.is_empty(), "{} images\n{}", failures.len(), failures.join("\n"));
}
