//! Clearcoat: the edge tier of a PHP cluster.
//!
//! A library in form only, so that the benches reach what they time: `main.rs` is the program and calls [`main()`], and
//! [`measured`] is what the benches call. Nothing here is for anybody else to build on. The program's allocator is set in
//! `main.rs`, because the benches choose theirs.

mod access;
mod admin;
mod assemble;
mod cli;
mod clock;
mod encode;
mod esi;
mod fetch;
mod front;
mod listen;
pub mod measured;
mod memory;
mod pool;
mod process;
mod respond;
mod session;
mod workers;

/// Does what the command line says; the exit codes are those of `cli`. To be called first of all, on the allocator that the
/// server is meant to have.
pub fn main() -> std::process::ExitCode {
    cli::main(assemble::run)
}
