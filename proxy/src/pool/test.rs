//! Settings for the tests of this folder.
//!
//! Beside it, in `test/`: a certificate authority whose key is thrown away, and a certificate with its key signed by it
//! for `node.test` and 127.0.0.1, good for a hundred years. They guard nothing.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pingora_core::tls::{CertificateDer, PrivateKeyDer, ServerConfig, TlsAcceptor};
use x509_parser::pem::Pem;

use super::settings::{
    Balance, HealthSettings, NodeAddress, NodeSettings, PassiveSettings, PoolSettings, RetrySettings,
    Timeouts,
};

/// The address whose last part is `last`.
pub(super) fn ip(last: u8) -> NodeAddress {
    NodeAddress::Ip(SocketAddr::from(([10, 0, 0, last], 80)))
}

/// A node at `address` without limits.
pub(super) fn node(address: NodeAddress) -> NodeSettings {
    NodeSettings { address, weight: 1, backup: false, max_connections: None }
}

/// A pool called `web` of nodes at these addresses: round robin, no probes, ejection after three failures.
pub(super) fn settings(nodes: &[u8]) -> PoolSettings {
    PoolSettings {
        name: "web".to_owned(),
        nodes: nodes.iter().map(|last| node(ip(*last))).collect(),
        balance: Balance::RoundRobin,
        health: HealthSettings { timeout: Duration::from_secs(1), ..HealthSettings::OFF },
        passive: PassiveSettings {
            failures: 3,
            eject: Duration::from_secs(10),
            eject_max: Duration::from_secs(60),
            max_ejected_percent: 50,
        },
        slow_start: Duration::ZERO,
        refill_concurrency: 32,
        queue_length: 100,
        queue_timeout: Duration::from_secs(1),
        retry: RetrySettings { attempts: 2, budget_percent: 20, min_per_second: 0 },
        timeouts: Timeouts {
            connect: Duration::from_secs(1),
            first_byte: Duration::from_secs(1),
            between_bytes: Duration::from_secs(1),
            idle: Duration::from_secs(1),
        },
        tls: None,
        proxy_protocol: None,
        forwarded: false,
        dns_min_ttl: Duration::from_secs(1),
        dns_max_ttl: Duration::from_secs(60),
    }
}

/// TLS as a node speaks it; its certificate is for `node.test` and 127.0.0.1, signed by the test authority.
pub(super) fn tls_acceptor() -> TlsAcceptor {
    let pem = |text: &[u8]| Pem::iter_from_buffer(text).next().unwrap().unwrap().contents;
    let certificate = CertificateDer::from(pem(include_bytes!("test/node.pem")));
    let key = PrivateKeyDer::try_from(pem(include_bytes!("test/node.key"))).unwrap();
    pingora_core::tls::install_default_crypto_provider();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key);
    TlsAcceptor::from(Arc::new(config.unwrap()))
}
