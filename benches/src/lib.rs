//! Benches of Clearcoat: micro benches and the load driver.
