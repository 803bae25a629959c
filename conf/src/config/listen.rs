//! `[[listen]]`: where visitors come in, and how they speak there.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::IpNet;

use super::address::ListenAddress;
use super::pattern::{HeaderName, HostPattern};
use super::process::SocketFile;
use super::purge::{PurgeDialect, parse_net};
use crate::error::Invalid;

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
    /// Who begins each connection with a PROXY header, and must. Default: nobody.
    pub proxy_protocol: Vec<Peer>,
    /// Who is believed about the client and its scheme. Default: nobody.
    pub trusted_proxies: Vec<Peer>,
    /// Where they say it. Default [`ClientHeader::XForwardedFor`].
    pub client_header: ClientHeader,
    /// Hosts that are served here. `None`, the default: those of all sites.
    pub hosts: Option<Vec<HostPattern>>,
    /// Of a Unix socket: who may use it. Default: its owner and its group.
    pub socket: SocketFile,
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Peer {
    /// An address, or one of a network.
    Net(IpNet),
    /// Whoever a Unix socket lets in.
    Unix,
}

impl FromStr for Peer {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        // With a colon in nginx's set_real_ip_from.
        if matches!(text, "unix" | "unix:") { Ok(Self::Unix) } else { parse_net(text).map(Self::Net) }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net(net) => net.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

/// The header by which proxies say for whom they ask.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ClientHeader {
    /// `X-Forwarded-For`, with `X-Forwarded-Proto` for the scheme.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

impl ClientHeader {
    /// As it is configured.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::Forwarded => "forwarded",
        }
    }
}

impl Listen {
    /// A plain HTTP/1 listener where purges are asked for in all ways.
    #[must_use]
    pub fn plain(address: ListenAddress) -> Self {
        Self {
            address,
            http2: false,
            tls: None,
            purge_dialects: PurgeDialect::ALL.into(),
            proxy_protocol: Vec::new(),
            trusted_proxies: Vec::new(),
            client_header: ClientHeader::default(),
            hosts: None,
            socket: SocketFile::FOR_GROUP,
        }
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
    /// Asks visitors for certificates of their own. `None`, the default: they are not asked.
    pub client_auth: Option<ClientAuth>,
}

/// Certificates of visitors (nginx's `ssl_client_certificate` and `ssl_verify_client`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientAuth {
    /// A PEM file with the certificate authorities that are believed. Read when the listener starts.
    pub ca: PathBuf,
    /// Whether who shows no certificate is turned away. Default true. One that is no good ends the handshake in any case.
    pub required: bool,
    /// The request header that tells nodes the name in the certificate. `None`, the default: they are not told. It begins with `x-` and is none
    /// that nodes never get.
    pub subject_header: Option<HeaderName>,
}

/// A certificate and its key, as PEM files.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Certificate {
    /// The certificate, followed by those that it was signed with.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// What the authority last said of it, in DER, to be stapled. Default: nothing.
    pub ocsp: Option<PathBuf>,
}
