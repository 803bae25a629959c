//! The edge tier of a PHP cluster.
fn main() {}
