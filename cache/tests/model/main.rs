//! The store against a naive model: whatever is stored, asked for, purged and evicted in whatever order, a look-up
//! never returns what the model forbids, and all that can be counted is what the model counts.
//!
//! * `step` is what may happen, `naive` the model, `run` does each step to both and compares them after it.
//! * `threads` has several threads at one store, where the model is what must hold in every order.
//!
//! Each test takes seconds. With `MODEL_SECONDS=600` each goes on for so long, with longer stories in larger worlds;
//! `MODEL_SEED` begins with the seed that a failure has named, a number. In a hurry:
//!
//! ```sh
//! MODEL_SECONDS=600 cargo test --release -p clearcoat-cache --test model
//! ```

#![allow(clippy::unwrap_used)]
// The long form ends by the clock, and entries are freed by the policy's, which is the real one.
#![allow(clippy::disallowed_methods)]

mod naive;
mod run;
mod step;
mod threads;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Write;
use std::time::{Duration, Instant};

use clearcoat_cache::Settings;
use proptest::prelude::*;
use proptest::test_runner::{TestError, TestRng, TestRunner};

use run::Run;
use step::World;

/// Six URLs, so that everything happens to everything.
const SMALL: World = World { urls: 6, tags: 5, fills: 3, languages: 3, busy: 1 };

/// A few hundred variants, so that lists and tables grow and shrink.
const LARGE: World = World { urls: 40, tags: 30, fills: 12, languages: 12, busy: 1 };

/// Seldom a purge and few URLs, so that one gets more variants than are a list.
const CROWD: World = World { urls: 2, tags: 60, fills: 3, languages: 60, busy: 40 };

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn any_seed() -> u64 {
    number("MODEL_SEED").unwrap_or_else(|| RandomState::new().build_hasher().finish())
}

/// Says something even where the test's output is kept back.
fn say(words: &str) {
    let _ = writeln!(std::io::stderr(), "{words}");
}

/// Tells `cases` stories of up to `most_steps` steps; returns steps and evictions in all. After a failure it looks for
/// a shorter story that fails.
fn tell(settings: Settings, world: World, seed: u64, cases: u32, most_steps: usize) -> (u64, u64) {
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let random = TestRng::from_seed(proptest::test_runner::RngAlgorithm::ChaCha, &bytes);
    let (steps, evictions) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let stories = prop::collection::vec(step::step(world), 1..most_steps);
    let told = TestRunner::new_with_rng(config, random).run(&stories, |story| {
        let mut run = Run::new(settings, world);
        for step in &story {
            run.step(step)?;
        }
        steps.set(steps.get() + story.len() as u64);
        evictions.set(evictions.get() + run.evictions());
        run.end()
    });
    match told {
        Ok(()) => (steps.get(), evictions.get()),
        Err(TestError::Fail(reason, story)) => {
            panic!("MODEL_SEED={seed}, {settings:?}: {reason}\n{} steps: {story:#?}", story.len())
        }
        Err(TestError::Abort(reason)) => panic!("MODEL_SEED={seed}: {reason}"),
    }
}

/// The everyday form, or the long one if it is wanted. Returns evictions.
fn explore(name: &str, settings: Settings) -> u64 {
    let first = any_seed();
    let Some(seconds) = number("MODEL_SECONDS") else {
        return tell(settings, SMALL, first, 64, 150).1;
    };
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut steps, mut evictions, mut seed) = (0, 0, first);
    while Instant::now() < end {
        let (world, cases, most_steps) = match seed % 4 {
            0 | 1 => (SMALL, 200, 300),
            2 => (LARGE, 10, 3000),
            _ => (CROWD, 10, 3000),
        };
        let told = tell(settings, world, seed, cases, most_steps);
        (steps, evictions) = (steps + told.0, evictions + told.1);
        seed = seed.wrapping_add(1);
    }
    say(&format!(
        "{name}: {steps} steps, {evictions} evictions, seeds {first} and the {} after it",
        seed.wrapping_sub(first) - 1
    ));
    evictions
}

#[test]
fn with_room_for_all_it_is_the_model() {
    let settings = Settings { memory_bytes: 64 << 20, max_variants: 64, max_marks: 2048 };
    assert_eq!(explore("room for all", settings), 0, "there was room");
}

#[test]
fn with_few_variants_the_oldest_goes() {
    let settings = Settings { memory_bytes: 64 << 20, max_variants: 3, max_marks: 0 };
    assert_eq!(explore("three variants", settings), 0, "there was room");
}

#[test]
fn with_room_for_few_it_loses_nothing_but_what_was_evicted() {
    // A quarter of this is what is left beside tables that do not fit: room for three to thirty entries.
    let settings = Settings { memory_bytes: 64 << 10, max_variants: 10, max_marks: 2048 };
    assert!(explore("room for few", settings) > 0, "something had to go");
}

#[test]
fn with_many_variants_the_oldest_goes() {
    let settings = Settings { memory_bytes: 64 << 20, max_variants: 45, max_marks: 2048 };
    assert_eq!(tell(settings, CROWD, any_seed(), 6, 2500).1, 0, "there was room");
}

/// Room for a part of the large world.
#[test]
fn with_room_for_some_it_loses_nothing_but_what_was_evicted() {
    let settings = Settings { memory_bytes: 256 << 10, max_variants: 1, max_marks: 2048 };
    explore("room for some", settings);
}

#[test]
fn threads_agree_on_what_came_first() {
    let roomy = Settings { memory_bytes: 64 << 20, max_variants: 4, max_marks: 2048 };
    let tight = Settings { memory_bytes: 64 << 10, ..roomy };
    let first = any_seed();
    let end = number("MODEL_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let goes_on = |rounds: u64| end.map_or(rounds < 4, |end| Instant::now() < end);
    let (mut rounds, mut served) = (0, 0);
    let steps = if end.is_some() { 20_000 } else { 5_000 };
    while goes_on(rounds) {
        let settings = if rounds % 2 == 0 { roomy } else { tight };
        served += threads::round(settings, first.wrapping_add(rounds), steps);
        rounds += 1;
    }
    assert!(served > 0, "look-ups found something");
    if end.is_some() {
        say(&format!(
            "threads: {} steps in {rounds} rounds, {served} look-ups answered, first seed {first}",
            4 * steps * rounds
        ));
    }
}
