//! How often each host cluster is used: a sparse map whose size follows the number of uses.

use std::collections::BTreeMap;

use crate::units::HostCluster;

/// Clusters in a page. A page costs 4 KiB once it is dense.
const PAGE_BITS: u32 = 12;
const PAGE_CLUSTERS: usize = 1 << PAGE_BITS;
/// Used clusters up to which a page is a sorted list. A hostile image can scatter its references over a huge sparse
/// file; lists keep the memory for those proportional to the references.
const LIST_LEN_MAX: usize = 256;
/// The largest count in a page; larger ones are kept aside, as they are rare.
const COUNT_INLINE_MAX: u8 = u8::MAX - 1;
/// The mark of counts that are kept aside.
const ASIDE: u8 = u8::MAX;

/// A map from clusters to how often they are used.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pages: BTreeMap<u64, Page>,
    large: BTreeMap<u64, u64>,
}

#[derive(Debug)]
enum Page {
    /// Index in the page and count, sorted by index.
    List(Vec<(u16, u8)>),
    Dense(Box<[u8; PAGE_CLUSTERS]>),
}

impl Counts {
    /// How often `cluster` is used.
    pub(crate) fn get(&self, cluster: HostCluster) -> u64 {
        let Some(page) = self.pages.get(&page_of(cluster.get())) else { return 0 };
        self.resolve(cluster.get(), page.get(slot_of(cluster.get())))
    }

    /// Adds `by` uses of `cluster` and returns how many there are now; saturates.
    pub(crate) fn add(&mut self, cluster: HostCluster, by: u64) -> u64 {
        let cluster = cluster.get();
        let page = self.pages.entry(page_of(cluster)).or_insert_with(|| Page::List(Vec::new()));
        let slot = slot_of(cluster);
        let inline = page.get(slot);
        let old = if inline == ASIDE { self.large.get(&cluster).copied().unwrap_or(0) } else { u64::from(inline) };
        let new = old.saturating_add(by);
        match u8::try_from(new) {
            Ok(small) if small <= COUNT_INLINE_MAX => page.set(slot, small),
            _ => {
                page.set(slot, ASIDE);
                self.large.insert(cluster, new);
            }
        }
        new
    }

    /// The first used cluster at or after `from`.
    pub(crate) fn next_used(&self, from: HostCluster) -> Option<HostCluster> {
        let from = from.get();
        for (number, page) in self.pages.range(page_of(from)..) {
            let base = number << PAGE_BITS;
            let slot = if base < from { slot_of(from) } else { 0 };
            if let Some(found) = page.next_used(slot) {
                return Some(HostCluster::new(base + u64::from(found)));
            }
        }
        None
    }

    /// The used clusters from `first` to before `end`, in order, and their counts.
    pub(crate) fn range(&self, first: u64, end: u64) -> impl Iterator<Item = (HostCluster, u64)> + '_ {
        let pages = self.pages.range(page_of(first)..=page_of(end.max(first)));
        pages.flat_map(move |(number, page)| {
            let base = number << PAGE_BITS;
            let counts = page.used().map(move |(slot, count)| (base + u64::from(slot), count));
            counts
                .filter(move |(cluster, _)| (first..end).contains(cluster))
                .map(|(cluster, count)| (HostCluster::new(cluster), self.resolve(cluster, count)))
        })
    }

    fn resolve(&self, cluster: u64, inline: u8) -> u64 {
        if inline == ASIDE { self.large.get(&cluster).copied().unwrap_or(0) } else { u64::from(inline) }
    }
}

fn page_of(cluster: u64) -> u64 {
    cluster >> PAGE_BITS
}

fn slot_of(cluster: u64) -> u16 {
    u16::try_from(cluster & ((1 << PAGE_BITS) - 1)).expect("twelve bits")
}

impl Page {
    fn get(&self, slot: u16) -> u8 {
        match self {
            Self::List(list) => list.binary_search_by_key(&slot, |(at, _)| *at).map_or(0, |found| list[found].1),
            Self::Dense(counts) => counts[usize::from(slot)],
        }
    }

    fn set(&mut self, slot: u16, count: u8) {
        match self {
            Self::List(list) => match list.binary_search_by_key(&slot, |(at, _)| *at) {
                Ok(found) => list[found].1 = count,
                Err(place) if list.len() < LIST_LEN_MAX => list.insert(place, (slot, count)),
                Err(_) => {
                    let mut counts = Box::new([0; PAGE_CLUSTERS]);
                    list.iter().for_each(|(at, count)| counts[usize::from(*at)] = *count);
                    counts[usize::from(slot)] = count;
                    *self = Self::Dense(counts);
                }
            },
            Self::Dense(counts) => counts[usize::from(slot)] = count,
        }
    }

    /// The first used slot at or after `slot`.
    fn next_used(&self, slot: u16) -> Option<u16> {
        match self {
            Self::List(list) => list.get(list.partition_point(|(at, _)| *at < slot)).map(|(at, _)| *at),
            Self::Dense(counts) => {
                let rest = counts.iter().zip(0..).skip(usize::from(slot));
                rest.filter(|(count, _)| **count != 0).map(|(_, at)| at).next()
            }
        }
    }

    fn used(&self) -> Box<dyn Iterator<Item = (u16, u8)> + Send + '_> {
        match self {
            Self::List(list) => Box::new(list.iter().copied()),
            Self::Dense(counts) => Box::new((0..).zip(counts.iter().copied()).filter(|(_, count)| *count != 0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn behaves_like_a_map(adds in proptest::collection::vec((0u64..9000, 1u64..300), 1..2000)) {
            let mut counts = Counts::default();
            let mut model = BTreeMap::new();
            for (cluster, by) in adds {
                *model.entry(cluster).or_insert(0) += by;
                prop_assert_eq!(counts.add(HostCluster::new(cluster), by), model[&cluster]);
            }
            let all: Vec<_> = counts.range(0, u64::MAX).map(|(cluster, count)| (cluster.get(), count)).collect();
            prop_assert_eq!(all, model.iter().map(|(cluster, count)| (*cluster, *count)).collect::<Vec<_>>());
            let part: Vec<_> = counts.range(100, 5000).map(|(cluster, _)| cluster.get()).collect();
            prop_assert_eq!(part, model.range(100..5000).map(|(cluster, _)| *cluster).collect::<Vec<_>>());
            prop_assert_eq!(counts.get(HostCluster::new(1 << 60)), 0);
            for from in [0, 1, 99, 4095, 4096, 5000, 8999, 9000] {
                let next = counts.next_used(HostCluster::new(from)).map(HostCluster::get);
                prop_assert_eq!(next, model.range(from..).next().map(|(cluster, _)| *cluster));
            }
        }
    }
}
