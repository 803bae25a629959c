//! The program: the library on its allocator. Why jemalloc, and how it is set, tells `memory.rs`.

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    clearcoat::main()
}
