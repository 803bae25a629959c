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
    /// The ways to ask for purges that are understood here; [] for none. Default: as purge.dialects.
    #[schemars(extend("examples" = [[], ["purge", "purgekeys"]]))]
    pub(crate) purge_dialects: Option<At<Vec<At<DialectWord>>>>,
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
}
