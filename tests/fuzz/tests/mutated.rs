//! What was kept, with bytes changed, taken out, doubled and mixed: a little of what libFuzzer does, in every test run and
//! by any compiler. `RUNS` says how many inputs each target gets, `TARGET` names one.

#![allow(clippy::unwrap_used)]

use std::path::Path;

/// Bytes that matter to those who read protocols.
const TOKENS: [&[u8]; 12] =
    [b"\r\n", b"\r", b"\n", b"\0", b"0", b"f", b":", b";", b"\r\n\r\n", b"0\r\n\r\n", b" ", b"\xff"];

fn mutated(kept: &[Vec<u8>], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut input = random.choice(kept).cloned().unwrap_or_default();
    for _ in 0..random.usize(1..6) {
        let at = random.usize(0..=input.len());
        let to = (at + random.usize(0..8)).min(input.len());
        match random.u8(0..5) {
            0 => drop(input.splice(at..to, [random.u8(..)])),
            1 => drop(input.drain(at..to)),
            2 => drop(input.splice(at..at, random.choice(TOKENS).unwrap().iter().copied())),
            3 => input.extend_from_within(at..to),
            _ => {
                let other = random.choice(kept).unwrap();
                let from = random.usize(0..=other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
        }
    }
    input
}

#[test]
fn nothing_near_what_was_kept_breaks_a_promise() {
    let runs = std::env::var("RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(5_000);
    let chosen = std::env::var("TARGET").ok();
    for (name, target) in clearcoat_fuzz::TARGETS {
        if chosen.as_ref().is_some_and(|chosen| chosen != name) {
            continue;
        }
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let files = std::fs::read_dir(folder).unwrap();
        let mut kept: Vec<Vec<u8>> = files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
        // The order of a folder is anybody's guess.
        kept.sort();
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..runs {
            target(&mutated(&kept, &mut random));
        }
    }
}
