//! `[[listen]]`: where visitors come in, and how they speak there.

use std::path::PathBuf;

use super::address::ListenAddress;
use super::purge::PurgeDialect;

/// One address where visitors come in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listen {
    /// TCP address or Unix socket. TCP port 0 lets the kernel choose.
    pub address: ListenAddress,
    /// Whether HTTP/2 by prior knowledge is understood beside HTTP/1 (h2c, RFC 9113 §3.3). Default false; never true
    /// together with `tls`, which has an answer of its own.
    pub http2: bool,
    /// TLS towards visitors. `None`, the default: plain.
    pub tls: Option<ListenTls>,
    /// The ways to ask for purges that are understood here; others go to the nodes. Default: those of `purge.dialects`.
    pub purge_dialects: Vec<PurgeDialect>,
}

impl Listen {
    /// A plain HTTP/1 listener where purges are asked for in all ways.
    #[must_use]
    pub fn plain(address: ListenAddress) -> Self {
        Self { address, http2: false, tls: None, purge_dialects: PurgeDialect::ALL.into() }
    }
}

/// TLS towards visitors. The files are read when the listener starts, not before.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListenTls {
    /// At least one, no file of a certificate twice. A visitor gets the one whose names (the subject alternative names,
    /// exact before wildcard) fit the name that it asks for; the first is for all other names and for none.
    pub certificates: Vec<Certificate>,
    /// Whether HTTP/2 is offered by ALPN (RFC 9113 §3.2). Default true.
    pub http2: bool,
}

/// A certificate and its key, as PEM files.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Certificate {
    /// The certificate, followed by those that it was signed with.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}
