//! Which page is asked for next: few pages get most requests, as on every site.

/// Numbers in `0..pages`, the smaller the likelier: page `n` is asked for in proportion to `1 / (n + 1)` to the power
/// of the exponent.
#[derive(Debug)]
pub struct Zipf {
    random: fastrand::Rng,
    /// Up to and with each page: its share and that of all before it. The last is the sum of all.
    sums: Vec<f64>,
}

impl Zipf {
    /// A sequence over `pages` pages, at least one; the same for the same seed. The exponent is 1: a little steeper
    /// than what is measured at proxies (0.6 to 0.9) and about what is measured at the servers of one site.
    pub fn new(pages: u64, seed: u64) -> Self {
        Self::with_exponent(pages, 1.0, seed)
    }

    /// The same with another exponent; zero asks for all pages alike.
    pub fn with_exponent(pages: u64, exponent: f64, seed: u64) -> Self {
        let mut sum = 0.0;
        let sums = (1..=pages.max(1)).map(|rank| {
            sum += (rank as f64).powf(-exponent);
            sum
        });
        Self { sums: sums.collect(), random: fastrand::Rng::with_seed(seed) }
    }
}

impl Iterator for Zipf {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let at = self.random.f64() * self.sums.last().copied().unwrap_or_default();
        Some(self.sums.partition_point(|&sum| sum <= at).min(self.sums.len() - 1) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_pages_get_their_share() {
        let mut counts = [0u32; 1000];
        for page in Zipf::new(1000, 1).take(100_000) {
            counts[page as usize] += 1;
        }
        // The sum of 1/n up to 1000 is 7.485.
        assert!((12_800..14_000).contains(&counts[0]), "{}", counts[0]);
        assert!((6_300..7_100).contains(&counts[1]), "{}", counts[1]);
        assert!(counts.iter().filter(|&&count| count > 0).count() > 990);
    }

    #[test]
    fn the_exponent_says_how_steep_it_is() {
        let firsts =
            |exponent| Zipf::with_exponent(1000, exponent, 1).take(100_000).filter(|&page| page == 0).count();
        assert!((50..150).contains(&firsts(0.0)), "{}", firsts(0.0));
        // The sum of 1/n^0.9 up to 1000 is 10.52.
        assert!((9_200..9_800).contains(&firsts(0.9)), "{}", firsts(0.9));
    }

    #[test]
    fn the_seed_decides() {
        let take = |seed| Zipf::new(50, seed).take(20).collect::<Vec<_>>();
        assert_eq!(take(1), take(1));
        assert_ne!(take(1), take(2));
        assert!(Zipf::new(0, 1).take(10).all(|page| page == 0));
    }
}
