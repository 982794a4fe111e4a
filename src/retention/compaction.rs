//! Which small files become one.

use std::collections::BTreeMap;

/// A file that may be too small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crumb<G> {
    /// Files of different groups are never joined.
    pub group: G,
    /// Nothing is added to its partition any more, as far as its time tells.
    pub closed: bool,
    pub bytes: u64,
}

/// What compaction is after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The size of a file that is made. One of three quarters of it is large enough as it is.
    pub target_bytes: u64,
    /// Fewer files of a partition that is still written to are left to become more.
    pub least_files: usize,
    /// A pass joins no more, but for its first bin.
    pub most_bytes: u64,
}

/// Files that are joined, by their indices: each bin makes one file. They come in order, and so do the
/// files of a bin. The partitions with the most crumbs come first.
pub fn bins<G: Ord + Clone>(files: &[Crumb<G>], bounds: Bounds) -> Vec<Vec<usize>> {
    let is_small = |file: &Crumb<G>| file.bytes < bounds.target_bytes / 4 * 3;
    let mut groups: BTreeMap<&G, Vec<usize>> = BTreeMap::new();
    for (index, file) in files.iter().enumerate().filter(|(_, file)| is_small(file)) {
        groups.entry(&file.group).or_default().push(index);
    }
    let mut groups: Vec<Vec<usize>> = groups.into_values().collect();
    groups.sort_by_key(|of| std::cmp::Reverse(of.len()));
    let mut bins = Vec::new();
    for of in groups {
        let closed = of.iter().all(|index| files[*index].closed);
        let least = if closed { 2 } else { bounds.least_files.max(2) };
        for bin in filled(&of, files, bounds.target_bytes) {
            let bytes: u64 = bin.iter().map(|index| files[*index].bytes).sum();
            let is_full = bytes >= bounds.target_bytes / 4 * 3;
            if bin.len() < 2 || (bin.len() < least && !is_full) {
                continue;
            }
            bins.push(bin);
        }
    }
    bins
}

/// One after the other, as many as make the target.
fn filled<G>(of: &[usize], files: &[Crumb<G>], target: u64) -> Vec<Vec<usize>> {
    let mut bins: Vec<Vec<usize>> = Vec::new();
    let mut bytes = u64::MAX;
    for index in of {
        let size = files[*index].bytes;
        match bins.last_mut() {
            Some(bin) if bytes.saturating_add(size) <= target => {
                bin.push(*index);
                bytes += size;
            }
            _ => {
                bins.push(vec![*index]);
                bytes = size;
            }
        }
    }
    bins
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOUNDS: Bounds = Bounds { target_bytes: 100, least_files: 3, most_bytes: 1000 };

    fn crumbs(of: &[(&'static str, bool, u64)]) -> Vec<Crumb<&'static str>> {
        of.iter()
            .map(|(group, closed, bytes)| Crumb { group: *group, closed: *closed, bytes: *bytes })
            .collect()
    }

    #[test]
    fn small_files_of_one_group_become_one() {
        let files = crumbs(&[
            ("b", true, 10),
            ("a", true, 10),
            ("b", true, 80),
            ("a", true, 20),
            ("a", true, 90),
        ]);
        assert_eq!(bins(&files, BOUNDS), [[1, 3]]);
    }

    #[test]
    fn where_is_written_still_few_are_left_alone() {
        let of = |closed| crumbs(&[("a", closed, 1), ("a", closed, 1)]);
        assert!(bins(&of(false), BOUNDS).is_empty());
        assert_eq!(bins(&of(true), BOUNDS), [[0, 1]]);
        let three = crumbs(&[("a", false, 1), ("a", false, 1), ("a", false, 1)]);
        assert_eq!(bins(&three, BOUNDS), [[0, 1, 2]]);
        // Enough for a whole file.
        assert_eq!(bins(&crumbs(&[("a", false, 40), ("a", false, 40)]), BOUNDS), [[0, 1]]);
    }

    #[test]
    fn a_thousand_crumbs_go_in_one_pass() {
        let files = crumbs(&[("a", true, 1); 1000]);
        let pass = bins(&files, BOUNDS);
        assert_eq!((pass.len(), pass.concat().len()), (10, 1000));
    }

    proptest! {
        #[test]
        fn bins_are_of_small_files_of_one_group_each_once(
            files in prop::collection::vec((0u8..3, any::<bool>(), 1u64..150), 0..60),
        ) {
            let files: Vec<Crumb<u8>> =
                files.into_iter().map(|(group, closed, bytes)| Crumb { group, closed, bytes }).collect();
            let bins = bins(&files, BOUNDS);
            let mut all = bins.concat();
            all.sort_unstable();
            let count = all.len();
            all.dedup();
            prop_assert_eq!(all.len(), count);
            for bin in &bins {
                prop_assert!(bin.len() > 1 && bin.is_sorted());
                prop_assert!(bin.iter().all(|it| files[*it].group == files[bin[0]].group));
                prop_assert!(bin.iter().map(|it| files[*it].bytes).sum::<u64>() <= 100);
            }
        }
    }
}
