//! Clearcoat: the edge tier of a PHP cluster.

mod admin;
mod assemble;
mod cli;
mod clock;
mod encode;
mod fetch;
mod front;
mod listen;
mod pool;
mod respond;

/// Memory per small cached entry decides how much fits; mimalloc needs a third less than the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::main(assemble::run)
}
