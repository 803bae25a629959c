//! What a pool is told: its nodes, how to choose among them, how to watch them.
//!
//! Values only; nothing here is read from a file. The one value that can be wrong, the certificates a node's own
//! certificate is checked against, has a checked constructor: [`TrustedCas::from_pem`].

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pingora_core::protocols::tls::CaType;
use pingora_core::utils::tls::WrappedX509;
use siphasher::sip::SipHasher13;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::announce::ProxyVersion;

/// One pool of web nodes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PoolSettings {
    /// What routes and metrics call it.
    pub(crate) name: String,
    /// The nodes, each address once; a repeated address is left out and logged.
    pub(crate) nodes: Vec<NodeSettings>,
    /// How one of several usable nodes is chosen.
    pub(crate) balance: Balance,
    /// Active probes.
    pub(crate) health: HealthSettings,
    /// Ejection by what requests meet.
    pub(crate) passive: PassiveSettings,
    /// How long a node that came back takes to get its full share, starting from a tenth. Zero: at once.
    pub(crate) slow_start: Duration,
    /// Requests that may wait for a place at a full node. Zero: none waits.
    pub(crate) queue_length: usize,
    /// How long one of them waits, and how long a request waits for the first probes at start-up.
    pub(crate) queue_timeout: Duration,
    /// Refreshes of stale pages that may be at the nodes at a time, over all nodes.
    pub(crate) refill_concurrency: u32,
    /// What may be tried again.
    pub(crate) retry: RetrySettings,
    /// Deadlines of one exchange with a node.
    pub(crate) timeouts: Timeouts,
    /// Speak TLS to the nodes. `None`: plain text.
    pub(crate) tls: Option<NodeTls>,
    /// Begin each connection to a node with a PROXY header. `None`: none.
    pub(crate) proxy_protocol: Option<ProxyVersion>,
    /// Tell nodes of the client in `Forwarded` too.
    pub(crate) forwarded: bool,
    /// A name is not asked for again sooner than this, whatever its TTL says.
    pub(crate) dns_min_ttl: Duration,
    /// A name is asked for again after this at the latest.
    pub(crate) dns_max_ttl: Duration,
}

/// One node as configured.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NodeSettings {
    /// Where it listens; also its identity across configuration changes.
    pub(crate) address: NodeAddress,
    /// Its share beside the others. Zero: as if drained.
    pub(crate) weight: u32,
    /// Takes traffic only while no other kind of node is usable (HAProxy and nginx `backup`).
    pub(crate) backup: bool,
    /// Requests it works on at a time; more wait in the queue (HAProxy `maxconn`). `None`: no limit.
    pub(crate) max_connections: Option<u32>,
}

/// Where a node listens.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum NodeAddress {
    /// An address that never changes.
    Ip(SocketAddr),
    /// A name, resolved again by its TTL.
    Name {
        /// The name, without a port.
        host: String,
        /// The port of every address behind the name.
        port: u16,
    },
    /// A Unix stream socket.
    Unix(PathBuf),
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => write!(f, "{address}"),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A node's identity: a hash of its address, the same in every process and on every edge.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct NodeId(pub(crate) u64);

impl NodeId {
    /// The identity of the node at `address`.
    pub(crate) fn of(address: &NodeAddress) -> Self {
        let mut hasher = SipHasher13::new();
        // The text, not the derived `Hash`: that one may change between builds, and edges must agree.
        hasher.write(address.to_string().as_bytes());
        Self(hasher.finish())
    }
}

/// How one of several usable nodes is chosen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Balance {
    /// Smooth weighted round robin, as nginx does it.
    RoundRobin,
    /// The node with the fewest requests for its weight.
    LeastRequests,
    /// The less busy of two nodes drawn at random (Mitzenmacher 2001).
    RandomTwo,
    /// The node that the request's hash points to. A request without one goes to the least busy node.
    Hash {
        /// Most load a node may have, in percent of the average, before its requests go to the next one
        /// (HAProxy `hash-balance-factor`). Zero: no bound. Below 100 counts as 100.
        balance_factor: u16,
    },
}

/// When a node counts as up or down.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HealthSettings {
    /// What is asked.
    pub(crate) check: Check,
    /// From the end of one probe to the start of the next, give or take a tenth. Zero: no probes, always up.
    pub(crate) interval: Duration,
    /// A probe that has not wholly succeeded by then has failed.
    pub(crate) timeout: Duration,
    /// Failed probes in a row that take a node out. Zero counts as one.
    pub(crate) fall: u32,
    /// Good probes in a row that bring it back. Zero counts as one. The first probe of all decides alone.
    pub(crate) rise: u32,
}

impl HealthSettings {
    /// No probes: nodes count as up until requests prove otherwise.
    pub(crate) const OFF: Self =
        Self { check: Check::Tcp, interval: Duration::ZERO, timeout: Duration::ZERO, fall: 1, rise: 1 };

    /// Whether nodes are probed at all.
    pub(crate) fn is_on(&self) -> bool {
        !self.interval.is_zero()
    }
}

/// What a probe asks of a node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Check {
    /// That a connection opens (and the TLS handshake succeeds, if nodes speak TLS).
    Tcp,
    /// That a request is answered as expected.
    Http(HttpCheck),
}

/// A probe by HTTP request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HttpCheck {
    /// Request method, such as `GET` or `HEAD`.
    pub(crate) method: http::Method,
    /// Path and query.
    pub(crate) path: String,
    /// The `Host` field. `None`: the node's own address.
    pub(crate) host: Option<String>,
    /// Statuses that count as good. Empty: 200 to 399, as HAProxy's `option httpchk`.
    pub(crate) statuses: Vec<u16>,
    /// What must be found in the first [`HttpCheck::MAX_BODY_BYTES`] of the body.
    pub(crate) body: Option<BodyPattern>,
}

impl HttpCheck {
    /// How much of a probe's body is read, in bytes.
    pub(crate) const MAX_BODY_BYTES: usize = 64 * 1024;

    /// `GET path`, good with any status from 200 to 399.
    #[cfg(test)]
    pub(crate) fn get(path: &str) -> Self {
        Self {
            method: http::Method::GET,
            path: path.to_owned(),
            host: None,
            statuses: Vec::new(),
            body: None,
        }
    }

    /// Whether `status` counts as good.
    pub(crate) fn expects(&self, status: u16) -> bool {
        match self.statuses.as_slice() {
            [] => (200..400).contains(&status),
            statuses => statuses.contains(&status),
        }
    }
}

/// A regular expression for a probe's body; two are equal if they read the same.
#[derive(Clone, Debug)]
pub(crate) struct BodyPattern(pub(crate) regex::bytes::Regex);

impl PartialEq for BodyPattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

/// When requests alone take a node out ("outlier detection").
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct PassiveSettings {
    /// Failures in a row that eject: no connection, no answer in time, a broken answer, a status of 500 or more.
    /// Zero: never.
    pub(crate) failures: u32,
    /// How long the first ejection lasts; each further one twice as long.
    pub(crate) eject: Duration,
    /// The longest ejection. A good spell of this length takes one doubling back.
    pub(crate) eject_max: Duration,
    /// Most of the pool's nodes that may be ejected at a time, in percent, rounded down; one always stays.
    pub(crate) max_ejected_percent: u8,
}

/// How much may be tried again (as Finagle's and Linkerd's retry budgets).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct RetrySettings {
    /// Tries of one request, the first included. Zero counts as one.
    pub(crate) attempts: u32,
    /// Retries in percent of the requests of the last ten seconds.
    pub(crate) budget_percent: u8,
    /// Retries per second allowed beside those, so that a quiet pool may retry too.
    pub(crate) min_per_second: u32,
}

/// Deadlines of one exchange with a node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Timeouts {
    /// Connection and, with TLS, handshake.
    pub(crate) connect: Duration,
    /// From the request sent to the first byte of the answer.
    pub(crate) first_byte: Duration,
    /// Between two reads of the body, or for one write.
    pub(crate) between_bytes: Duration,
    /// How long an idle connection is kept for the next request.
    pub(crate) idle: Duration,
}

/// How TLS is spoken to the nodes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NodeTls {
    /// Whether the node must prove who it is. Off is for test systems.
    pub(crate) verify: bool,
    /// The name it must prove, and which is sent (RFC 6066 section 3). `None`: the host of its address.
    pub(crate) sni: Option<String>,
    /// Whom to trust. `None`: the system's certificate authorities.
    pub(crate) ca: Option<TrustedCas>,
}

/// Certificates of the authorities that nodes are checked against.
#[derive(Clone, Debug)]
pub(crate) struct TrustedCas(Arc<CaType>);

/// Why a text is no list of certificates.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadCas {
    /// Not PEM (RFC 7468).
    #[error("not readable as PEM: {0}")]
    Pem(String),
    /// A block that is no certificate (RFC 5280), counted from one.
    #[error("PEM block {0} is not an X.509 certificate")]
    Certificate(usize),
    /// PEM without any certificate.
    #[error("no certificate found")]
    Empty,
}

impl TrustedCas {
    /// Reads one certificate or several, PEM one after the other.
    ///
    /// # Errors
    ///
    /// [`BadCas`] if a block cannot be read or none is there.
    pub(crate) fn from_pem(pem: &[u8]) -> Result<Self, BadCas> {
        let mut certificates = Vec::new();
        for (index, block) in Pem::iter_from_buffer(pem).enumerate() {
            let block = block.map_err(|error| BadCas::Pem(error.to_string()))?;
            if block.label != "CERTIFICATE" {
                return Err(BadCas::Certificate(index + 1));
            }
            // Pingora's own reader panics on a bad certificate, so it is given parsed ones only.
            let certificate = WrappedX509::try_new(block.contents, |der| {
                X509Certificate::from_der(der).map(|(_, certificate)| certificate)
            })
            .map_err(|_| BadCas::Certificate(index + 1))?;
            certificates.push(certificate);
        }
        match certificates.is_empty() {
            true => Err(BadCas::Empty),
            false => Ok(Self(certificates.into())),
        }
    }

    /// The form pingora takes.
    pub(crate) fn certificates(&self) -> Arc<CaType> {
        Arc::clone(&self.0)
    }

    /// Separates connections checked against different authorities.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = SipHasher13::new();
        for certificate in self.0.iter() {
            certificate.borrow_raw_cert().hash(&mut hasher);
        }
        hasher.finish()
    }
}

impl PartialEq for TrustedCas {
    fn eq(&self, other: &Self) -> bool {
        self.0.iter().map(WrappedX509::borrow_raw_cert).eq(other.0.iter().map(WrappedX509::borrow_raw_cert))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_as_they_are_written() {
        let ip = NodeAddress::Ip(([10, 0, 0, 1], 80).into());
        let name = NodeAddress::Name { host: "web-1".into(), port: 8080 };
        let unix = NodeAddress::Unix("/run/web.sock".into());
        assert_eq!(ip.to_string(), "10.0.0.1:80");
        assert_eq!(name.to_string(), "web-1:8080");
        assert_eq!(unix.to_string(), "unix:/run/web.sock");
    }

    #[test]
    fn a_node_has_the_same_identity_in_every_process() {
        let id = NodeId::of(&NodeAddress::Ip(([10, 0, 0, 1], 80).into()));
        assert_eq!(id, NodeId(0x4042_7a34_a8d8_4ce8), "{:#x}", id.0);
    }

    #[test]
    fn statuses_default_to_success_and_redirects() {
        let any = HttpCheck::get("/");
        let one = HttpCheck { statuses: vec![204], ..HttpCheck::get("/") };
        for (check, status, expected) in
            [(&any, 200, true), (&any, 399, true), (&any, 404, false), (&one, 204, true), (&one, 200, false)]
        {
            assert_eq!(check.expects(status), expected, "{status} in {:?}", check.statuses);
        }
    }

    #[test]
    fn bad_certificates_are_refused_not_panicked_on() {
        for (pem, expected) in [
            ("", "no certificate found"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "PEM block 1 is not"),
            ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "PEM block 1 is not"),
            ("-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n", "not readable as PEM"),
        ] {
            match TrustedCas::from_pem(pem.as_bytes()) {
                Ok(_) => panic!("{pem:?} was taken"),
                Err(error) => assert!(error.to_string().starts_with(expected), "{pem:?}: {error}"),
            }
        }
    }
}
