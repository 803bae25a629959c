//! Clearcoat: the edge tier of a PHP cluster.

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
mod memory;
mod pool;
mod respond;

fn main() -> std::process::ExitCode {
    cli::main(assemble::run)
}
