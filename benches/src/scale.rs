//! How much input: all of it when measuring, a hundredth when only checking that the benches still run.

/// Whether the benches are measured (`cargo bench`) or run once (`cargo test`). The rule is divan's own.
pub fn is_measured() -> bool {
    measured_by(std::env::args())
}

/// `full`, or a hundredth of it, at least one, when nothing is measured. A name such as `purge_tag_10_of_100k`
/// speaks of the full size.
pub fn scaled(full: u64) -> u64 {
    if is_measured() { full } else { (full / 100).max(1) }
}

fn measured_by(arguments: impl Iterator<Item = String>) -> bool {
    let (mut bench, mut test) = (false, false);
    for argument in arguments {
        bench |= argument == "--bench";
        test |= argument == "--test";
    }
    bench && !test
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_says_what_is_wanted() {
        check("store --bench", true);
        check("store", false);
        check("store --bench --test", false);
        check("store lookup_miss", false);
    }

    #[track_caller]
    fn check(line: &str, measured: bool) {
        assert_eq!(measured_by(line.split(' ').map(str::to_owned)), measured, "{line}");
    }
}
