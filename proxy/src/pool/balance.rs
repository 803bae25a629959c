//! Which of several equally good nodes: the four ways to balance.
//!
//! Pure: the candidates are given, randomness is an argument. Which nodes are candidates at all is decided in
//! `choice`; the only state, round robin's memory, is kept by the pool and handed in.

use std::cmp::Ordering;

use super::settings::{Balance, NodeId};

/// One node that may be chosen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    /// Its place in the pool's list.
    pub(crate) index: usize,
    /// Who it is.
    pub(crate) id: NodeId,
    /// Its share now, in hundredths of its configured weight's unit; above zero.
    pub(crate) weight: u64,
    /// Requests it is working on.
    pub(crate) in_flight: u32,
    /// Whether it is at its limit.
    pub(crate) full: bool,
}

impl Candidate {
    /// Compares the load for the weight: the smaller is the less busy.
    fn compare_load(&self, other: &Self) -> Ordering {
        // a/x < b/y as a*y < b*x, so that nothing is rounded.
        (u128::from(self.in_flight) * u128::from(other.weight))
            .cmp(&(u128::from(other.in_flight) * u128::from(self.weight)))
    }
}

/// Chooses one of `candidates`, never a full one; `None` if all are. `rotation` is round robin's memory, one number for
/// each of the pool's nodes.
pub(crate) fn choose(
    balance: Balance,
    hash: Option<u64>,
    candidates: &[Candidate],
    rotation: impl FnOnce(&[Candidate]) -> Option<usize>,
    random: &mut fastrand::Rng,
) -> Option<usize> {
    match (balance, hash) {
        (Balance::RoundRobin, _) => rotation(candidates),
        (Balance::LeastRequests, _) | (Balance::Hash { .. }, None) => least_requests(candidates, random),
        (Balance::RandomTwo, _) => random_two(candidates, random),
        (Balance::Hash { balance_factor }, Some(hash)) => by_hash(candidates, hash, balance_factor),
    }
}

/// Smooth weighted round robin, nginx's algorithm: every candidate gains its weight, the richest is chosen and pays what
/// all gained. Weights 5, 1, 1 give a a b a c a a, not a a a a a b c.
pub(crate) fn round_robin(candidates: &[Candidate], credit: &mut [i64]) -> Option<usize> {
    let mut total = 0i64;
    let mut best: Option<usize> = None;
    for candidate in candidates.iter().filter(|candidate| !candidate.full) {
        let weight = i64::try_from(candidate.weight).unwrap_or(i64::MAX);
        let Some(own) = credit.get_mut(candidate.index) else { continue };
        *own = own.saturating_add(weight);
        total = total.saturating_add(weight);
        let own = *own;
        if best.is_none_or(|best| own > credit[best]) {
            best = Some(candidate.index);
        }
    }
    let best = best?;
    credit[best] = credit[best].saturating_sub(total);
    Some(best)
}

/// The least busy for its weight; among equals one is drawn by weight, so that an idle pool spreads evenly too.
fn least_requests(candidates: &[Candidate], random: &mut fastrand::Rng) -> Option<usize> {
    let mut best: Option<&Candidate> = None;
    // Weight of all equals seen so far: each newcomer replaces the chosen one with its share of that.
    let mut tied = 0u64;
    for candidate in candidates.iter().filter(|candidate| !candidate.full) {
        match best.map_or(Ordering::Less, |best| candidate.compare_load(best)) {
            Ordering::Less => {
                best = Some(candidate);
                tied = candidate.weight;
            }
            Ordering::Equal => {
                tied = tied.saturating_add(candidate.weight);
                if random.u64(0..tied.max(1)) < candidate.weight {
                    best = Some(candidate);
                }
            }
            Ordering::Greater => {}
        }
    }
    best.map(|candidate| candidate.index)
}

/// Two different nodes drawn by weight, the less busy of them.
fn random_two(candidates: &[Candidate], random: &mut fastrand::Rng) -> Option<usize> {
    let first = draw(candidates, None, random)?;
    let Some(second) = draw(candidates, Some(first.index), random) else { return Some(first.index) };
    match first.compare_load(second) {
        Ordering::Less | Ordering::Equal => Some(first.index),
        Ordering::Greater => Some(second.index),
    }
}

/// One that is not full and not `except`, drawn by weight.
fn draw<'a>(
    candidates: &'a [Candidate],
    except: Option<usize>,
    random: &mut fastrand::Rng,
) -> Option<&'a Candidate> {
    let able = || candidates.iter().filter(|candidate| !candidate.full && Some(candidate.index) != except);
    let total: u64 = able().map(|candidate| candidate.weight).sum();
    if total == 0 {
        return None;
    }
    let mut left = random.u64(0..total);
    for candidate in able() {
        if left < candidate.weight {
            return Some(candidate);
        }
        left -= candidate.weight;
    }
    None
}

/// The node a hash points to, by weighted rendezvous hashing (Thaler and Ravishankar 1998): each node has a score for
/// each hash, the highest wins. A node that leaves gives its own keys away and moves no other; one whose weight grows
/// takes keys in proportion. The line of scores is also the order in which a busy node's requests go elsewhere.
///
/// With a factor above zero no node gets more than that many percent of its fair share of all requests in flight
/// (Mirrokni, Thorup and Zadimoghaddam 2016, as HAProxy's `hash-balance-factor`).
fn by_hash(candidates: &[Candidate], hash: u64, balance_factor: u16) -> Option<usize> {
    let load = candidates.iter().map(|candidate| u128::from(candidate.in_flight)).sum::<u128>() + 1;
    let weight = candidates.iter().map(|candidate| u128::from(candidate.weight)).sum::<u128>().max(1);
    let within_bound = |candidate: &&Candidate| {
        if balance_factor == 0 {
            return true;
        }
        // At least a request more than the floor, or a pool with little to do could not place any.
        let share = load * u128::from(candidate.weight) * u128::from(balance_factor.max(100));
        u128::from(candidate.in_flight) < share.div_ceil(weight * 100)
    };
    let able = || candidates.iter().filter(|candidate| !candidate.full);
    highest(able().filter(within_bound), hash).or_else(|| highest(able(), hash))
}

/// The candidate with the highest score for `hash`.
pub(crate) fn highest<'a>(candidates: impl Iterator<Item = &'a Candidate>, hash: u64) -> Option<usize> {
    candidates
        .map(|candidate| (score(candidate.id, candidate.weight, hash), candidate))
        .max_by(|(a, first), (b, second)| a.total_cmp(b).then_with(|| first.id.cmp(&second.id)))
        .map(|(_, candidate)| candidate.index)
}

/// `weight / -ln(u)` with `u` uniform in (0, 1), made from node and hash: the highest of such scores falls to each node
/// in proportion to its weight.
fn score(id: NodeId, weight: u64, hash: u64) -> f64 {
    let mixed = mix(id.0 ^ mix(hash));
    // 53 bits make every value exact; half a step keeps zero and one out.
    let uniform = ((mixed >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    weight as f64 / -uniform.ln()
}

/// SplitMix64's finaliser: every bit of the input touches every bit of the result.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Candidates with these weights and requests in flight.
    fn nodes(list: &[(u64, u32)]) -> Vec<Candidate> {
        list.iter()
            .enumerate()
            .map(|(index, &(weight, in_flight))| Candidate {
                index,
                id: NodeId(mix(index as u64)),
                weight: weight * 100,
                in_flight,
                full: false,
            })
            .collect()
    }

    fn letters(chosen: impl Iterator<Item = Option<usize>>) -> String {
        chosen.map(|index| index.map_or('-', |index| char::from(b'a' + index as u8))).collect()
    }

    #[test]
    fn round_robin_is_smooth() {
        for (weights, expected) in [
            (&[(5, 0), (1, 0), (1, 0)][..], "aabacaaaabacaa"),
            (&[(1, 0), (1, 0), (1, 0)], "abcabc"),
            (&[(2, 0), (1, 0)], "abaaba"),
            (&[(1, 9)], "aaa"),
        ] {
            let candidates = nodes(weights);
            let mut credit = vec![0; weights.len()];
            let got = letters((0..expected.len()).map(|_| round_robin(&candidates, &mut credit)));
            assert_eq!(got, expected, "{weights:?}");
        }
    }

    #[test]
    fn a_full_node_is_never_chosen() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut candidates = nodes(&[(100, 0), (1, 5)]);
        candidates[0].full = true;
        let mut credit = vec![0; 2];
        for balance in [
            Balance::RoundRobin,
            Balance::LeastRequests,
            Balance::RandomTwo,
            Balance::Hash { balance_factor: 0 },
            Balance::Hash { balance_factor: 125 },
        ] {
            for hash in 0..20 {
                let mut pick = |candidates: &[Candidate]| {
                    choose(balance, Some(hash), candidates, |c| round_robin(c, &mut credit), &mut random)
                };
                assert_eq!(pick(&candidates), Some(1), "{balance:?}");
                assert_eq!(pick(&candidates[..1]), None, "{balance:?}");
                assert_eq!(pick(&[]), None, "{balance:?}");
            }
        }
    }

    #[test]
    fn least_requests_counts_by_weight() {
        for (list, expected) in [
            (&[(1, 3), (1, 2), (1, 4)][..], 1),
            (&[(4, 7), (1, 2)], 0),
            (&[(4, 9), (1, 2)], 1),
            (&[(1, 1), (100, 0)], 1),
        ] {
            let got = least_requests(&nodes(list), &mut fastrand::Rng::with_seed(3));
            assert_eq!(got, Some(expected), "{list:?}");
        }
    }

    /// Of `tries` choices, how many fell on each node.
    fn counts(tries: usize, nodes: usize, mut choose: impl FnMut(usize) -> Option<usize>) -> Vec<usize> {
        let mut counts = vec![0; nodes];
        for index in 0..tries {
            counts[choose(index).unwrap()] += 1;
        }
        counts
    }

    /// Each count is within `percent` of its weight's share.
    #[track_caller]
    fn check_shares(counts: &[usize], list: &[(u64, u32)], percent: f64) {
        let total: usize = counts.iter().sum();
        let weights: u64 = list.iter().map(|(weight, _)| weight).sum();
        for (count, (weight, _)) in counts.iter().zip(list) {
            let expected = total as f64 * *weight as f64 / weights as f64;
            let off = (*count as f64 - expected).abs() / expected * 100.0;
            assert!(off < percent, "{counts:?} for {list:?}: {off:.1} % off");
        }
    }

    #[test]
    fn equals_are_drawn_by_weight() {
        let list = [(1, 0), (2, 0), (1, 0)];
        let mut random = fastrand::Rng::with_seed(5);
        check_shares(&counts(20_000, 3, |_| least_requests(&nodes(&list), &mut random)), &list, 5.0);
        let pair = [(3, 0), (1, 0)];
        check_shares(&counts(20_000, 2, |_| random_two(&nodes(&pair), &mut random)), &pair, 5.0);
    }

    #[test]
    fn random_two_avoids_the_busiest() {
        let mut random = fastrand::Rng::with_seed(5);
        let counts = counts(10_000, 3, |_| random_two(&nodes(&[(1, 9), (1, 1), (1, 2)]), &mut random));
        assert_eq!(counts[0], 0, "the busiest loses to whomever it is drawn with");
        assert!(counts[1] > counts[2] && counts[2] > 0, "{counts:?}");
    }

    #[test]
    fn hashing_honours_weights() {
        let list = [(1, 0), (2, 0), (3, 0), (1, 0)];
        let candidates = nodes(&list);
        check_shares(&counts(50_000, 4, |key| by_hash(&candidates, key as u64, 0)), &list, 4.0);
    }

    #[test]
    fn hashing_moves_only_the_keys_of_a_node_that_leaves() {
        let all = nodes(&[(1, 0), (1, 0), (2, 0), (1, 0)]);
        let fewer: Vec<_> = all.iter().copied().filter(|candidate| candidate.index != 2).collect();
        let mut moved_to = [0; 4];
        for key in 0..10_000 {
            let (before, after) = (by_hash(&all, key, 0).unwrap(), by_hash(&fewer, key, 0).unwrap());
            if before == 2 {
                moved_to[after] += 1;
            } else {
                assert_eq!(before, after, "key {key}");
            }
        }
        assert!(moved_to.iter().filter(|count| **count > 1000).count() == 3, "{moved_to:?}");
    }

    #[test]
    fn hashing_moves_keys_only_towards_a_node_whose_weight_grows() {
        let (small, large) = (nodes(&[(10, 0), (1, 0), (10, 0)]), nodes(&[(10, 0), (10, 0), (10, 0)]));
        for key in 0..10_000 {
            let (before, after) = (by_hash(&small, key, 0), by_hash(&large, key, 0));
            assert!(before == after || after == Some(1), "key {key}: {before:?} to {after:?}");
        }
    }

    #[test]
    fn one_hot_key_is_spread_within_the_bound() {
        for (factor, most) in [(100, 25), (125, 32), (200, 50), (0, 100)] {
            let mut candidates = nodes(&[(1, 0), (1, 0), (1, 0), (1, 0)]);
            for _ in 0..100 {
                let index = by_hash(&candidates, 42, factor).unwrap();
                candidates[index].in_flight += 1;
            }
            let highest = candidates.iter().map(|candidate| candidate.in_flight).max();
            assert_eq!(highest, Some(most), "factor {factor}");
        }
    }
}
