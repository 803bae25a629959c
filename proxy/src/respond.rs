//! Answers of our own, and the one place where it is decided which status an error becomes.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::fetch::FetchError;
use crate::front::cache_status::{CacheStatus, Forwarded};
use crate::listen::head::Refusal;
use crate::pool::Unavailable;

/// Where to ask instead.
const LOCATION: &str = "Location";

/// A small answer that no node gave.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Local {
    pub(crate) status: u16,
    reason: Option<String>,
    text: Arc<Text>,
    /// Seconds after which asking again makes sense.
    retry_after: Option<u32>,
    allow: Option<&'static str>,
    /// A header line of its own.
    line: Option<(&'static str, Box<str>)>,
    cache_status: CacheStatus,
}

/// What such an answer says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Text {
    pub(crate) body: Bytes,
    pub(crate) html: bool,
}

impl Text {
    /// A line.
    pub(crate) fn plain(line: &str) -> Self {
        Self { body: format!("{line}\n").into(), html: false }
    }
}

impl Local {
    /// Plain text under the given status; `reason` replaces the phrase of the status line.
    pub(crate) fn plain(status: u16, reason: Option<String>, text: String) -> Self {
        Self {
            status,
            reason,
            text: Arc::new(Text::plain(&text)),
            retry_after: None,
            allow: None,
            line: None,
            cache_status: CacheStatus::Own("generated"),
        }
    }

    /// The same as the answer to a purge.
    pub(crate) fn of_purge(self) -> Self {
        Self { cache_status: CacheStatus::Own("purge"), ..self }
    }

    /// The same as the answer to a request that is not served.
    pub(crate) fn refused(self) -> Self {
        Self { cache_status: CacheStatus::Own("refused"), ..self }
    }

    /// What a client hears that sent something we do not listen to.
    pub(crate) fn refusal(refusal: Refusal) -> Self {
        let status = match refusal {
            Refusal::Malformed(_) => 400,
            Refusal::HeadTooLarge | Refusal::TooManyLines => 431,
            Refusal::UrlTooLong => 414,
            Refusal::MethodNotAllowed => 405,
            Refusal::Version => 505,
            Refusal::Expectation => 417,
        };
        let mut local = Self::plain(status, None, refusal.to_string()).refused();
        if status == 405 {
            local.allow = Some("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
        }
        local
    }

    /// What a client hears that says what only nodes and we may say of a visitor.
    pub(crate) fn forged() -> Self {
        Self::plain(400, None, "the request says what only the application may say of its visitor".into())
            .refused()
    }

    /// What a client hears when a request did not come to its end in time (RFC 9110 section 15.5.9).
    pub(crate) fn too_slow() -> Self {
        Self::plain(408, None, "the request did not come in time".into()).refused()
    }

    /// What a visitor hears who is to ask elsewhere, by the same method if that has to stay (RFC 9110 sections 15.4.2 and 15.4.9).
    /// Browsers may remember it for an hour, so that a mistake of the operator's does not stay with them.
    pub(crate) fn moved(location: String, keeps_method: bool) -> Self {
        let status = if keeps_method { 308 } else { 301 };
        let local = Self::plain(status, None, format!("ask for {location}"));
        Self { line: Some((LOCATION, location.into())), cache_status: CacheStatus::Own("redirect"), ..local }
    }

    /// What a client hears whose address may not come.
    pub(crate) fn denied() -> Self {
        Self::plain(403, None, "your address may not come here".into()).refused()
    }

    /// What a client hears that has no good password (RFC 7617 section 2).
    pub(crate) fn password_wanted(realm: &str) -> Self {
        let local = Self::plain(401, None, "a name and a password are wanted".into()).refused();
        let scheme = format!("Basic realm=\"{realm}\", charset=\"UTF-8\"");
        Self { line: Some(("WWW-Authenticate", scheme.into())), ..local }
    }

    /// What a client hears while too many passwords are looked at.
    pub(crate) fn passwords_crowded() -> Self {
        let local = Self::plain(503, None, "too many passwords are being looked at".into()).refused();
        Self { retry_after: Some(1), ..local }
    }

    /// What a client hears that asks too often (RFC 6585 section 4).
    pub(crate) fn too_many(wait: Duration) -> Self {
        let local = Self::plain(429, None, "too many requests".into()).refused();
        // Rounded up: who comes a moment too early would be refused again.
        let seconds = wait.as_millis().div_ceil(1000).max(1);
        Self { retry_after: Some(u32::try_from(seconds).unwrap_or(u32::MAX)), ..local }
    }

    /// What a client hears when enough requests of its site are at nodes.
    pub(crate) fn crowded() -> Self {
        let local = Self::plain(503, None, "too many requests of this site are being worked on".into());
        Self { retry_after: Some(1), ..local.refused() }
    }

    /// What a client hears that sends more than may be (RFC 9110 section 15.5.14).
    pub(crate) fn body_too_large() -> Self {
        Self::plain(413, None, "the request body is too large".into()).refused()
    }

    /// What visitors see in place of a site.
    pub(crate) fn maintenance(text: Arc<Text>, retry_after: Duration) -> Self {
        let retry_after = Some(u32::try_from(retry_after.as_secs()).unwrap_or(u32::MAX).max(1));
        let local = Self::plain(503, None, String::new());
        Self { text, retry_after, cache_status: CacheStatus::Own("maintenance"), ..local }
    }

    /// What a client hears when no site of ours is for the host.
    pub(crate) fn no_site() -> Self {
        let local = Self::plain(421, None, "no site here is for this host".into());
        Self { cache_status: CacheStatus::Own("no-site"), ..local }
    }

    /// What a client hears that wants what is stored or nothing, and nothing is (RFC 9111 section 5.2.1.7).
    pub(crate) fn nothing_stored() -> Self {
        let local = Self::plain(504, None, "nothing is stored that could answer this".into());
        Self { cache_status: CacheStatus::Own("only-if-cached"), ..local }
    }

    /// What a visitor hears when no node answered; `forwarded` is what is known of the attempt.
    pub(crate) fn failure(error: FetchError, forwarded: Forwarded) -> Self {
        let status = match error {
            FetchError::Unavailable(
                Unavailable::QueueFull | Unavailable::QueueTimeout | Unavailable::NoNode,
            ) => 503,
            FetchError::Crowded | FetchError::Context | FetchError::Token => 503,
            FetchError::ConnectFailed | FetchError::Broken | FetchError::GivenUp => 502,
            FetchError::TimedOut => 504,
        };
        let mut local = Self::plain(status, None, error.to_string());
        if status == 503 {
            // What a crowd waits for is there soon; a pool without room takes longer.
            local.retry_after = Some(if error == FetchError::Crowded { 1 } else { 5 });
        }
        local.cache_status = CacheStatus::Forwarded(Forwarded { detail: Some(error.as_str()), ..forwarded });
        local
    }

    /// The header lines, without what frames the connection.
    pub(crate) fn header_lines(&self, date: &str) -> Vec<(&'static str, String)> {
        let mut lines = vec![
            (
                "Content-Type",
                if self.text.html { "text/html; charset=utf-8" } else { "text/plain; charset=utf-8" }.into(),
            ),
            ("Content-Length", self.text.body.len().to_string()),
            ("Date", date.to_owned()),
            ("Cache-Status", self.cache_status.value()),
        ];
        lines.extend(self.retry_after.map(|seconds| ("Retry-After", seconds.to_string())));
        lines.extend(self.allow.map(|methods| ("Allow", methods.to_owned())));
        lines.extend(self.line.as_ref().map(|(name, value)| (*name, value.to_string())));
        if self.line.as_ref().is_some_and(|(name, _)| *name == LOCATION) {
            lines.push(("Cache-Control", "max-age=3600".to_owned()));
        }
        lines
    }

    /// What its `Cache-Status` says.
    pub(crate) fn cache_status(&self) -> String {
        self.cache_status.value()
    }

    pub(crate) fn body(&self) -> &Bytes {
        &self.text.body
    }

    /// Appends the answer in HTTP/1; `head_only` leaves the body out.
    pub(crate) fn write_http1(&self, output: &mut Vec<u8>, date: &str, head_only: bool, close: bool) {
        let status = http::StatusCode::from_u16(self.status).ok();
        let reason = self.reason.as_deref().or(status.and_then(|status| status.canonical_reason()));
        let mut text = format!("HTTP/1.1 {} {}\r\n", self.status, reason.unwrap_or_default());
        for (name, value) in self.header_lines(date) {
            // Writing to a String cannot fail.
            let _ = write!(text, "{name}: {value}\r\n");
        }
        if close {
            text.push_str("Connection: close\r\n");
        }
        text.push_str("\r\n");
        output.extend_from_slice(text.as_bytes());
        if !head_only {
            output.extend_from_slice(self.body());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::Forward;

    #[test]
    fn an_answer_of_ours_is_framed() {
        let mut output = Vec::new();
        let error = FetchError::Unavailable(Unavailable::NoNode);
        let local = Local::failure(error, Forwarded::new(Forward::UriMiss));
        local.write_http1(&mut output, "DATE", false, true);
        assert_eq!(
            String::from_utf8_lossy(&output),
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 19\r\n\
             Date: DATE\r\nCache-Status: clearcoat; fwd=uri-miss; detail=no-node\r\nRetry-After: 5\r\nConnection: close\r\n\r\n\
             no node can be had\n"
        );
    }
}
