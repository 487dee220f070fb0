//! Making a snapshot.
//!
//! The snapshot keeps the L1 table and the L2 tables of the active state as they are. The active state gets a new L1
//! table, and new L2 tables where the old ones say that clusters are its alone; the others are shared until they change.

use qemu_block::error::{BlockError, Result};
use qemu_block::manage::NewSnapshot;
use qemu_block::types::SnapshotInfo;

use super::commit::Plan;
use super::{Snapshots, refuse_data_file, snapshot_info};
use crate::format::snapshot::SnapshotEntry;
use crate::limits::SNAPSHOTS_MAX;
use crate::meta::Meta;

impl Meta {
    /// Keeps the present state; see [`qemu_block::manage::SnapshotOps::create`].
    pub(super) async fn create_snapshot(&mut self, new: NewSnapshot) -> Result<SnapshotInfo> {
        refuse_data_file(self)?;
        if self.header.snapshots.count >= SNAPSHOTS_MAX {
            return Err(BlockError::from_errno(libc::EFBIG, "qcow2: the image has too many snapshots"));
        }
        let mut snapshots = Snapshots::read(self).await?;
        let id = next_id(&snapshots.entries);
        if snapshots.entries.iter().any(|entry| entry.id == id) {
            return Err(BlockError::from_errno(libc::EEXIST, "qcow2: there is no identifier left for a snapshot"));
        }
        let tables = self.active_tables().await?;
        let l1 = self.header.l1;
        let l1_clusters = self.geo.table_clusters(u64::from(l1.count)).get();
        let table_clusters = self.geo.size_to_clusters(snapshots.table_bytes_max()).get();
        self.begin_shadow(tables.len() as u64 + l1_clusters + table_clusters).await?;
        tables.keys().for_each(|table| self.regions.remove_table(*table));
        let inherited = self.inherit_tree(&tables).await?;
        let n_entries = self.l1.n_entries();
        let place = self.place_for_l1(n_entries).await?;
        let active = self.l1.moved_with(place, n_entries, |_, raw| inherited.entry_for(raw));
        let entry = SnapshotEntry {
            l1_offset: l1.offset,
            l1_entries: l1.count,
            id,
            name: new.name.into_bytes(),
            date_seconds: new.date_seconds,
            date_nanoseconds: new.date_nanoseconds,
            vm_clock_nanoseconds: 0,
            vm_state_bytes: 0,
            disk_size: Some(self.header.virtual_size),
            icount: new.icount,
            unknown_extra: Vec::new(),
        };
        let info = snapshot_info(&entry);
        snapshots.entries.push(entry);
        let virtual_size = self.header.virtual_size;
        let plan = Plan { virtual_size, l1: Some(active), l1_is_kept: true, snapshots, table_changes: true };
        self.commit_snapshots(plan).await?;
        Ok(info)
    }
}

/// The identifier of the next snapshot: the largest number that one begins with, and one more. The reference reads them
/// with `strtoul` and lets the sum wrap.
fn next_id(entries: &[SnapshotEntry]) -> Vec<u8> {
    let largest = entries.iter().map(|entry| leading_number(&entry.id)).max().unwrap_or(0);
    largest.wrapping_add(1).to_string().into_bytes()
}

fn leading_number(id: &[u8]) -> u64 {
    let id = id.trim_ascii_start();
    let (is_negative, digits) = match id {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, id),
    };
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    let number = digits
        .fold(0_u64, |number, digit| number.saturating_mul(10).saturating_add(u64::from(digit.saturating_sub(b'0'))));
    if is_negative && number < u64::MAX { number.wrapping_neg() } else { number }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_counted_as_the_reference_counts() {
        for (id, number) in [
            ("7", 7),
            (" 12x", 12),
            ("abc", 0),
            ("", 0),
            ("-1", u64::MAX),
            ("+3", 3),
            ("99999999999999999999999", u64::MAX),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(leading_number(id.as_bytes()), number, "{id}");
        }
        assert_eq!(next_id(&[]), b"1");
    }
}
