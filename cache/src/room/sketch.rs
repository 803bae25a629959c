//! How often something was asked for lately, roughly and in little memory.
//!
//! A count-min sketch (Cormode and Muthukrishnan, 2005) with counters of four bits, as TinyLFU uses it (Einziger,
//! Friedman and Manes, 2017). The four counters of a key lie in one line of the processor's cache. It knows keys that
//! are not stored as well: that is how a page that is asked for again gets in, and one that came once does not.
//!
//! Counts fade: a sweep goes round and halves them, one word for every few counts, so that nothing is ever stopped for
//! it.

/// Words in a block, a line of the processor's cache. A word is sixteen counters.
const BLOCK: usize = 8;

/// The smallest sketch, in words.
const LEAST_WORDS: usize = 64 * BLOCK;

/// Counts for which one word is halved. A round thus takes as many counts as eight to sixteen times the number of
/// entries, which is the sample that the authors of TinyLFU found good.
const COUNTS_PER_WORD: u32 = 3;

/// See the module's page.
pub(super) struct Sketch {
    words: Vec<u64>,
    /// Counts since the sweep took its last step.
    counts: u32,
    /// Where the sweep is.
    hand: usize,
}

impl Sketch {
    /// The most that it takes for an entry: a word, and it has just doubled.
    pub(super) const BYTES_PER_ENTRY: usize = 2 * size_of::<u64>();

    pub(super) fn new() -> Self {
        Self { words: vec![0; LEAST_WORDS], counts: 0, hand: 0 }
    }

    /// Makes it large enough for so many entries. It does not shrink: it knows keys beyond those.
    pub(super) fn fit(&mut self, entries: usize) {
        // Twice the blocks, each pair equal: every key still finds its counts, whichever of the two it now belongs to.
        while entries > self.words.len() {
            self.words.extend_from_within(..);
        }
    }

    /// Counts one more, up to 15.
    pub(super) fn count(&mut self, key: u64) {
        let mut added = false;
        for (word, shift) in self.counters(key) {
            let word = &mut self.words[word];
            if (*word >> shift) & 15 < 15 {
                *word += 1 << shift;
                added = true;
            }
        }
        if added {
            self.counts += 1;
            if self.counts >= COUNTS_PER_WORD {
                self.counts = 0;
                self.hand = (self.hand + 1) % self.words.len();
                let word = &mut self.words[self.hand];
                *word = (*word >> 1) & 0x7777_7777_7777_7777;
            }
        }
    }

    /// How often `key` was counted lately: hardly ever less than that, sometimes more.
    pub(super) fn estimate(&self, key: u64) -> u32 {
        let counts = self.counters(key).map(|(word, shift)| (self.words[word] >> shift) as u32 & 15);
        counts.into_iter().min().unwrap_or(0)
    }

    /// The key's counters: index of the word, and by how much to shift it. One lies in each quarter of the block.
    fn counters(&self, key: u64) -> [(usize, u32); 4] {
        // Keys are hashes, but tables of ours use their low half too; this makes the bits independent of each other.
        let mixed = (key ^ (key >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let blocks = self.words.len() / BLOCK;
        let block = (mixed >> 32) as usize & (blocks - 1);
        std::array::from_fn(|quarter| {
            let bits = (mixed >> (quarter * 8)) as usize;
            (block * BLOCK + quarter * 2 + (bits & 1), ((bits >> 1) as u32 & 15) * 4)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> u64 {
        number.wrapping_mul(0xd134_2543_de82_ef95).rotate_left(17)
    }

    #[test]
    fn it_counts_up_to_fifteen() {
        let mut sketch = Sketch::new();
        for times in 1..40 {
            sketch.count(key(1));
            assert_eq!(sketch.estimate(key(1)), times.min(15));
        }
        assert_eq!(sketch.estimate(key(2)), 0);
    }

    #[test]
    fn most_keys_are_told_apart() {
        let mut sketch = Sketch::new();
        sketch.fit(10_000);
        for number in 0..10_000 {
            sketch.count(key(number));
        }
        let wrong = (10_000..20_000).filter(|&number| sketch.estimate(key(number)) > 0).count();
        assert!(wrong < 400, "{wrong} of 10000 unknown keys are taken for known ones");
    }

    #[test]
    fn growing_forgets_nothing() {
        let mut sketch = Sketch::new();
        for number in 0..100 {
            (0..number % 5).for_each(|_| sketch.count(key(number)));
        }
        let before: Vec<_> = (0..100).map(|number| sketch.estimate(key(number))).collect();
        sketch.fit(100_000);
        let after: Vec<_> = (0..100).map(|number| sketch.estimate(key(number))).collect();
        assert_eq!(before, after);
        assert!(sketch.words.len() >= 100_000 && sketch.words.len() < 200_000 * 2);
    }

    #[test]
    fn what_is_no_longer_asked_for_fades() {
        let mut sketch = Sketch::new();
        (0..15).for_each(|_| sketch.count(key(1)));
        for number in 0..(LEAST_WORDS as u64) * u64::from(COUNTS_PER_WORD) * 5 {
            sketch.count(key(100 + number));
        }
        assert!(sketch.estimate(key(1)) < 8, "{}", sketch.estimate(key(1)));
    }
}
