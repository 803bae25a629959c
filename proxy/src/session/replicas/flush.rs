//! Forgetting everything.

use futures_util::future::join_all;

use super::{Failure, Replicas};

impl Replicas {
    /// Lets every server that is up forget all it has, after so many seconds.
    ///
    /// One that is away does not hear of it, and has what it had when it comes back.
    ///
    /// # Errors
    ///
    /// No server heard of it.
    pub(crate) async fn flush(&self, delay: i64) -> Result<(), Failure> {
        let done = join_all(self.servers.iter().map(|server| server.flush(delay))).await;
        if done.iter().any(Result::is_ok) { Ok(()) } else { Err(Failure::Away) }
    }
}
