//! What the benches share: seeded input, and how much of it.
//!
//! The same pages come out of the same seed on every machine, so two runs differ by code and machine only. Nothing
//! here is timed and nothing is stored that could be made again: a page is a function of its number.
//!
//! `micro/` times one operation per name; `instructions/` counts the instructions of some of them; `memory/` compares what a store says it takes with what it takes.

pub mod operations;
pub mod process;
pub mod scale;
pub mod site;
pub mod visit;
pub mod zipf;

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[cfg(all(feature = "mimalloc", not(feature = "jemalloc")))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
