//! Many bans tested at once: most of them can be told by the URL alone not to name a page.
//!
//! A thousand bans of one page each, as an application without tags sends them, would have to be tested on a million pages one by
//! one. But nearly every such condition needs some bytes in the URL ([`Condition::needs`](super::Condition::needs)); one pass over the URL finds which of all
//! these bytes are in it, and only those conditions are asked.

use std::sync::Arc;

use aho_corasick::AhoCorasick;

use super::{Ban, List, Pending};

/// Fewer are asked one by one.
const FEW: usize = 8;

/// Bans, arranged for one pass over each URL.
pub(crate) struct Sieve {
    /// Oldest first.
    bans: Pending,
    /// What those need that need something, and their places.
    needs: Option<(AhoCorasick, Vec<u32>)>,
    /// The places of all others.
    others: Vec<u32>,
}

impl Sieve {
    /// Takes bans, oldest first.
    pub(crate) fn new(bans: Pending) -> Self {
        let all = 0..bans.len() as u32;
        if bans.len() > FEW {
            let (needing, others): (Vec<u32>, Vec<u32>) =
                all.clone().partition(|&place| bans[place as usize].needs().is_some());
            let needles = needing.iter().filter_map(|&place| bans[place as usize].needs());
            // It fails with more needles than it can number; then all are asked.
            if let Ok(found) = AhoCorasick::new(needles) {
                return Self { bans, needs: Some((found, needing)), others };
            }
        }
        Self { bans, needs: None, others: all.collect() }
    }

    /// The bans after `mark` that may name a page of this URL, oldest first.
    pub(crate) fn may_name(&self, url: &str, mark: u16) -> Pending {
        let mut places = self.others.clone();
        if let Some((needs, needing)) = &self.needs {
            places.extend(needs.find_overlapping_iter(url).map(|found| needing[found.pattern().as_usize()]));
            places.sort_unstable();
            places.dedup();
        }
        let bans = places.into_iter().map(|place| &self.bans[place as usize]);
        bans.filter(|ban: &&Arc<Ban>| List::is_after(ban.number, mark)).cloned().collect()
    }
}
