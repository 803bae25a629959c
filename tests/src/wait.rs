//! Waiting for a thing to become true, instead of sleeping and hoping.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// How long anything may take before a test calls it lost. Far above what a slow machine needs: only failures wait this long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Time between two looks.
const STEP: Duration = Duration::from_millis(10);

/// Looks until `probe` gives a value, at most `limit`.
///
/// # Panics
///
/// If `limit` passes first; the message says what was waited for.
pub async fn until_within<T>(limit: Duration, what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {limit:?} in vain for: {what}");
        sleep(STEP).await;
    }
}

/// As [`until_within`] with the usual [`PATIENCE`].
pub async fn until<T>(what: &str, probe: impl AsyncFnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, probe).await
}

/// Looks until `holds` is true.
pub async fn until_true(what: &str, mut holds: impl FnMut() -> bool) {
    until(what, async || holds().then_some(())).await;
}

/// Gives a future at most the usual [`PATIENCE`].
///
/// # Panics
///
/// If it does not finish in time.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {PATIENCE:?} in vain for: {what}"),
    }
}
