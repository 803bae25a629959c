//! Names to addresses, by the system's configuration: hosts file first, then DNS.
//!
//! Every look-up reads the hosts file and `resolv.conf` anew, and none is cached here: nodes ask again by TTL, which is
//! seldom, and so a changed hosts file or name server is followed without a restart.

use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use tokio::time::{Instant, timeout};

/// A whole look-up, search list and both address families included, has failed after this.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

/// Wait after the first failure; each further one doubles it.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);

/// The addresses behind a name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Answer {
    /// IPv4 and IPv6, in no particular order.
    pub(crate) addresses: Vec<IpAddr>,
    /// How long that holds, as far as is known.
    pub(crate) ttl: Duration,
}

/// A way to resolve names.
#[async_trait]
pub(crate) trait Lookup: Send + Sync {
    /// The addresses of `host`, at least one; or the reason why not, in words.
    async fn lookup(&self, host: &str) -> Result<Answer, String>;
}

/// Resolves as the system is set up.
pub(crate) struct SystemLookup;

#[async_trait]
impl Lookup for SystemLookup {
    async fn lookup(&self, host: &str) -> Result<Answer, String> {
        let mut builder = TokioResolver::builder_tokio().unwrap_or_else(|_| {
            // Without a readable resolv.conf the hosts file still counts.
            let nobody = ResolverConfig::from_name_servers(Vec::new());
            TokioResolver::builder_with_config(nobody, TokioRuntimeProvider::default())
        });
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.use_hosts_file = ResolveHosts::Always;
        options.cache_size = 0;
        let resolver = builder.build().map_err(|error| error.to_string())?;
        let found = match timeout(LOOKUP_TIMEOUT, resolver.lookup_ip(host)).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) if error.is_nx_domain() => return Err("no such name".to_owned()),
            Ok(Err(error)) if error.is_no_records_found() => return Err("the name has no address".to_owned()),
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err(format!("no answer within {LOOKUP_TIMEOUT:?}")),
        };
        let ttl = found.valid_until().saturating_duration_since(Instant::now().into_std());
        let addresses: Vec<_> = found.iter().collect();
        match addresses.is_empty() {
            true => Err("the answer holds no address".to_owned()),
            false => Ok(Answer { addresses, ttl }),
        }
    }
}

/// How long to wait after so many failures in a row: doubling from a second, at most `most` and at least a second.
pub(crate) fn backoff(failures: u32, most: Duration) -> Duration {
    let factor = 1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    FIRST_BACKOFF.saturating_mul(factor).min(most.max(FIRST_BACKOFF))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn failures_are_retried_ever_later() {
        let minute = Duration::from_secs(60);
        for (failures, most, seconds) in [
            (1, minute, 1),
            (2, minute, 2),
            (4, minute, 8),
            (9, minute, 60),
            (99, minute, 60),
            (3, Duration::ZERO, 1),
        ] {
            assert_eq!(backoff(failures, most), Duration::from_secs(seconds), "{failures}");
        }
    }

    #[tokio::test]
    async fn addresses_are_their_own_answer() {
        for text in ["127.0.0.1", "::1"] {
            let answer = SystemLookup.lookup(text).await.unwrap();
            assert_eq!(answer.addresses, [text.parse::<IpAddr>().unwrap()]);
        }
    }

    #[tokio::test]
    async fn localhost_is_found_without_a_name_server() {
        let answer = SystemLookup.lookup("localhost").await.unwrap();
        assert!(answer.addresses.contains(&IpAddr::from([127, 0, 0, 1])), "{answer:?}");
    }
}
