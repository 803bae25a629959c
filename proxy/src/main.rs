//! The edge tier of a PHP cluster.
#![allow(dead_code, unused_imports)]

mod admin;

fn main() {}
