//! The `[[listen]]` tables as they are written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::DialectWord;
use super::value::At;

/// An address where visitors come in.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListenTable {
    /// IP address and port, or unix:/path. An IPv6 address is IPv6 only, also the one for all interfaces.
    #[schemars(required, extend("examples" = ["0.0.0.0:80", "[::]:80", "unix:/run/clearcoat/http.sock"]))]
    pub(crate) address: Option<At<String>>,
    /// HTTP/2 without TLS, by prior knowledge; with TLS it is tls.http2. Default false.
    pub(crate) http2: Option<At<bool>>,
    /// TLS towards visitors. Default: plain HTTP.
    #[schemars(extend("examples" = [{ "certificates": [{ "cert": "/etc/clearcoat/www.pem", "key": "/etc/clearcoat/www.key" }] }]))]
    pub(crate) tls: Option<At<ListenTlsTable>>,
    /// Who has to begin each connection with a PROXY header, version 1 or 2: addresses, networks, or unix for whoever comes over a
    /// Unix socket. From others none is taken. Default: nobody.
    #[schemars(extend("examples" = [["10.0.0.0/8"], ["unix"]]))]
    pub(crate) proxy_protocol: Option<At<Vec<At<String>>>>,
    /// Proxies that are believed when they say for whom they ask and by which scheme: addresses, networks, or unix. What others
    /// say of it is dropped. Default: none.
    #[schemars(extend("examples" = [["10.0.0.0/8", "fd00::/8"], ["unix"]]))]
    pub(crate) trusted_proxies: Option<At<Vec<At<String>>>>,
    /// Where trusted proxies say it. Default x-forwarded-for.
    pub(crate) client_header: Option<At<ClientHeaderWord>>,
    /// Hosts that are served here, as those of sites. Default: those of all sites.
    #[schemars(extend("examples" = [["www.example.com", "*.example.com"]]))]
    pub(crate) hosts: Option<At<Vec<At<String>>>>,
    /// Of a Unix socket: bits as of chmod. Default 0660.
    pub(crate) socket_mode: Option<At<String>>,
    /// Of a Unix socket: whom it belongs to, by name or number. Default: who starts the process.
    #[schemars(extend("examples" = ["clearcoat"]))]
    pub(crate) socket_user: Option<At<String>>,
    /// Of a Unix socket: which group may use it, by name or number. Default: the group of who starts the process.
    #[schemars(extend("examples" = ["www-data"]))]
    pub(crate) socket_group: Option<At<String>>,
    /// The ways to ask for purges that are understood here; [] for none. Default: as purge.dialects.
    #[schemars(extend("examples" = [[], ["purge", "purgekeys"]]))]
    pub(crate) purge_dialects: Option<At<Vec<At<DialectWord>>>>,
}

/// The header by which proxies say for whom they ask.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub(crate) enum ClientHeaderWord {
    /// X-Forwarded-For, and X-Forwarded-Proto for the scheme.
    XForwardedFor,
    /// Forwarded (RFC 7239), with for and proto.
    Forwarded,
}

/// TLS towards visitors.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListenTlsTable {
    /// Certificates with their keys; at least one. Visitors get the one for the name that they ask for, by the names in
    /// the certificates; the first is for all other names.
    #[schemars(required, extend("examples" = [[{ "cert": "/etc/clearcoat/www.pem", "key": "/etc/clearcoat/www.key" }]]))]
    pub(crate) certificates: Option<At<Vec<At<CertificateTable>>>>,
    /// Whether HTTP/2 is offered (ALPN). Default true.
    pub(crate) http2: Option<At<bool>>,
    /// Asks visitors for certificates of their own. Default: they are not asked.
    #[schemars(extend("examples" = [{ "ca": "/etc/clearcoat/staff-ca.pem", "subject_header": "X-Client-Subject" }]))]
    pub(crate) client_auth: Option<At<ClientAuthTable>>,
}

/// Certificates of visitors.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClientAuthTable {
    /// A PEM file with the certificate authorities that are believed, from the folder of this file.
    #[schemars(required, extend("examples" = ["/etc/clearcoat/staff-ca.pem"]))]
    pub(crate) ca: Option<At<String>>,
    /// false lets in who shows none; a certificate that is no good ends the handshake all the same. Default true.
    pub(crate) required: Option<At<bool>>,
    /// A request header that tells nodes whose certificate it was (RFC 4514), and what comes with it is not cached. Visitors cannot say
    /// it themselves. Default: nodes are not told.
    #[schemars(extend("examples" = ["X-Client-Subject"]))]
    pub(crate) subject_header: Option<At<String>>,
}

/// A certificate and its key.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CertificateTable {
    /// A PEM file with the certificate and those that it was signed with, from the folder of this file.
    #[schemars(required, extend("examples" = ["/etc/clearcoat/www.pem"]))]
    pub(crate) cert: Option<At<String>>,
    /// A PEM file with the certificate's private key, from the folder of this file.
    #[schemars(required, extend("examples" = ["/etc/clearcoat/www.key"]))]
    pub(crate) key: Option<At<String>>,
    /// A file with what the authority last said of the certificate (OCSP, in DER), to be shown with it. Default: none.
    #[schemars(extend("examples" = ["/etc/clearcoat/www.ocsp"]))]
    pub(crate) ocsp: Option<At<String>>,
}
