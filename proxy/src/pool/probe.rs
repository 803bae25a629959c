//! One probe: a fresh connection, a request, a look at the answer.
//!
//! Connections are never reused, so that a probe also proves that the node accepts new ones. The whole probe has one
//! deadline; what it failed of is told in words for logs and the status page.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, HOST, USER_AGENT};
use pingora_core::connectors::{ConnectorOptions, TransportConnector};
use pingora_core::protocols::http::v1::client::HttpSession;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{Error, ErrorType};
use pingora_http::RequestHeader;
use tokio::time::{Instant, timeout};

use super::announce::{Announcing, Behalf};
use super::peer::{self, Target};
use super::settings::{Check, HttpCheck, NodeAddress, PoolSettings};

/// Opens connections for probes; one serves all nodes.
pub(crate) struct Prober {
    connector: TransportConnector,
}

impl Prober {
    /// Reads the system's certificate authorities once.
    pub(crate) fn new() -> Self {
        // Nothing is ever given back for reuse.
        Self { connector: TransportConnector::new(Some(ConnectorOptions::new(1))) }
    }

    /// Probes one address of a node, as its pool's settings say. How long that took, or what it failed of.
    pub(crate) async fn probe(
        &self,
        target: &Target,
        address: &NodeAddress,
        settings: &PoolSettings,
    ) -> Result<Duration, String> {
        let start = Instant::now();
        let limit = settings.health.timeout;
        match timeout(limit, self.attempt(target, address, settings)).await {
            Ok(result) => result.map(|()| start.elapsed()),
            Err(_) => Err(format!("no answer within {limit:?}")),
        }
    }

    async fn attempt(
        &self,
        target: &Target,
        address: &NodeAddress,
        settings: &PoolSettings,
    ) -> Result<(), String> {
        let mut peer = peer::peer(target, address, settings.tls.as_ref(), &settings.timeouts)
            .map_err(|error| error.to_string())?;
        // The probe's own deadline rules.
        peer.options.connection_timeout = None;
        peer.options.total_connection_timeout = None;
        if let Some(version) = settings.proxy_protocol {
            peer.options.custom_l4 = Some(Arc::new(Announcing { header: version.header(Behalf::Own) }));
        }
        let stream = self.connector.new_stream(&peer).await.map_err(|error| reason(&error))?;
        match &settings.health.check {
            Check::Tcp => Ok(()),
            Check::Http(check) => {
                let mut session = HttpSession::new_with_options(stream, &peer);
                ask(&mut session, check, &host(check, &peer, address)).await
            }
        }
    }
}

/// The `Host` field of a probe.
fn host(check: &HttpCheck, peer: &HttpPeer, address: &NodeAddress) -> String {
    match (&check.host, address) {
        (Some(host), _) => host.clone(),
        (None, NodeAddress::Unix(_)) if peer.sni.is_empty() => "localhost".to_owned(),
        (None, NodeAddress::Unix(_)) => peer.sni.clone(),
        (None, NodeAddress::Ip(_) | NodeAddress::Name { .. }) => address.to_string(),
    }
}

/// Sends the request and judges the answer.
async fn ask(session: &mut HttpSession, check: &HttpCheck, host: &str) -> Result<(), String> {
    let request = request(check, host).map_err(|error| format!("bad probe: {error}"))?;
    session.write_request_header(Box::new(request)).await.map_err(|error| reason(&error))?;
    let status = loop {
        session.read_response().await.map_err(|error| reason(&error))?;
        match session.get_status().map(|status| status.as_u16()) {
            None => return Err("answer without a status".to_owned()),
            // Interim answers come before the real one (RFC 9110 section 15.2).
            Some(100..=199) => {}
            Some(status) => break status,
        }
    };
    if !check.expects(status) {
        return Err(format!("status {status}"));
    }
    let Some(pattern) = &check.body else { return Ok(()) };
    let mut body = Vec::new();
    while body.len() < HttpCheck::MAX_BODY_BYTES {
        match session.read_body_bytes().await.map_err(|error| reason(&error))? {
            Some(bytes) => {
                let room = HttpCheck::MAX_BODY_BYTES - body.len();
                body.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
            None => break,
        }
    }
    match pattern.0.is_match(&body) {
        true => Ok(()),
        false => Err("body does not match".to_owned()),
    }
}

fn request(check: &HttpCheck, host: &str) -> pingora_error::Result<RequestHeader> {
    let mut request = RequestHeader::build(check.method.clone(), check.path.as_bytes(), Some(3))?;
    request.insert_header(HOST, host)?;
    request.insert_header(USER_AGENT, "clearcoat-probe")?;
    request.insert_header(CONNECTION, "close")?;
    Ok(request)
}

/// What went wrong, in a few words.
fn reason(error: &Error) -> String {
    match error.etype() {
        ErrorType::ConnectRefused => "connection refused".to_owned(),
        ErrorType::ConnectTimedout => "connection timed out".to_owned(),
        ErrorType::ConnectNoRoute => "no route".to_owned(),
        ErrorType::TLSHandshakeFailure | ErrorType::TLSHandshakeTimedout | ErrorType::InvalidCert => {
            // What pingora nests innermost is the local address; the certificate's fault stands in between.
            let whole = error.to_string();
            let fault = whole.split(" cause: ").find(|part| part.contains("certificate"));
            format!("tls: {}", fault.map_or_else(|| detail(error), str::to_owned))
        }
        ErrorType::ConnectionClosed => "closed before a whole answer".to_owned(),
        ErrorType::ReadError => format!("reading the answer: {}", detail(error)),
        ErrorType::InvalidHTTPHeader => "the answer is not http".to_owned(),
        // Pingora's own words for what it alone distinguishes.
        other => format!("{}: {}", other.as_str(), detail(error)),
    }
}

/// The innermost cause, or pingora's remark on it.
fn detail(error: &Error) -> String {
    let mut innermost: Option<&(dyn std::error::Error + 'static)> =
        error.cause.as_ref().map(|cause| cause.as_ref() as &(dyn std::error::Error + 'static));
    while let Some(next) = innermost.and_then(std::error::Error::source) {
        innermost = Some(next);
    }
    match (innermost, &error.context) {
        (Some(cause), _) => cause.to_string(),
        (None, Some(context)) => context.as_str().to_owned(),
        (None, None) => "no details".to_owned(),
    }
}

#[cfg(test)]
mod tests;
