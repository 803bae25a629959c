//! Visitors who have shown a certificate, and the headers by which nodes hear whose it is.
//!
//! Nodes believe such a header, so it says what the connection has proved or it is not there: lines of that name, and of names that an
//! application could take for it, go from every request on every listener before anything looks at it. What is asked for
//! with an identity is none of the cache's business ([`Front::look`](super::Front::look)): a node may answer each in its own way, and no Vary
//! has to tell.

use std::sync::Arc;

use http::header::{self, HeaderName};

use super::context::forged::looks_like;
use super::gate::Left;
use crate::listen::head::{Head, Names};

/// Whose certificate it was, and where nodes are told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Identity {
    header: HeaderName,
    /// Printable ASCII; no spaces at its ends.
    subject: Box<str>,
}

impl Identity {
    pub(crate) fn new(header: HeaderName, subject: String) -> Self {
        Self { header, subject: subject.into() }
    }

    /// The header, in lower case.
    pub(crate) fn header(&self) -> &HeaderName {
        &self.header
    }

    /// What it says.
    pub(crate) fn subject(&self) -> &str {
        &self.subject
    }
}

/// The headers of all listeners.
#[derive(Clone, Debug, Default)]
pub(crate) struct Identities(Arc<[HeaderName]>);

impl Identities {
    pub(crate) fn new(headers: impl IntoIterator<Item = HeaderName>) -> Self {
        Self(headers.into_iter().collect())
    }

    /// Whether nodes could take a header of this name for one of these.
    pub(crate) fn claims(&self, name: &str) -> bool {
        self.0.iter().any(|own| looks_like(name.as_bytes(), own.as_str().as_bytes()))
    }

    /// The head as those behind see it: with the identity of its connection and without what it says of one itself. `None`: as it is.
    pub(crate) fn told<'b, 'h>(
        &self,
        head: &Head<'b, '_>,
        identity: Option<&'b Identity>,
        left: &'h mut Left<'b>,
    ) -> Option<Head<'b, 'h>> {
        let nothing_to_do = self.0.is_empty()
            || identity.is_none() && !head.headers.iter().any(|line| self.claims(line.name));
        if nothing_to_do {
            return None;
        }
        // A line that would have the identity taken off on the way. What else it lists was heeded when the head was read.
        let takes_it_off = |line: &httparse::Header<'_>| {
            line.name.eq_ignore_ascii_case(header::CONNECTION.as_str())
                && line
                    .value
                    .split(|byte| *byte == b',')
                    .any(|name| std::str::from_utf8(name.trim_ascii()).is_ok_and(|name| self.claims(name)))
        };
        left.extend(
            head.headers.iter().filter(|line| !self.claims(line.name) && !takes_it_off(line)).copied(),
        );
        if let Some(identity) = identity {
            let value = identity.subject.as_bytes();
            left.push(httparse::Header { name: identity.header.as_str(), value });
        }
        Some(Head { headers: left, names: Names::of(left), ..*head })
    }

    /// Whether a head, as [`told`](Self::told) has it, says whose certificate was shown.
    pub(crate) fn are_in(&self, head: &Head<'_, '_>) -> bool {
        self.0.iter().any(|own| head.values(own.as_str()).next().is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::head::{HeadLimits, Parsed, lines, parse};

    const LIMITS: HeadLimits = HeadLimits { bytes: 4096, count: 64, url_bytes: 2048 };

    /// The lines that are left of these, beside Host.
    fn told(sent: &str, identity: Option<&Identity>) -> Option<String> {
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{sent}\r\n");
        let mut room = lines();
        let Parsed::Complete(head) = parse(request.as_bytes(), &mut room, &LIMITS) else {
            panic!("no head: {request:?}");
        };
        let identities = Identities::new([HeaderName::from_static("x-client-subject")]);
        let mut left = Left::new();
        let told = identities.told(&head, identity, &mut left)?;
        assert_eq!(identities.are_in(&told), identity.is_some(), "{sent:?}");
        let line = |line: &httparse::Header<'_>| {
            format!("{}: {}\r\n", line.name, String::from_utf8_lossy(line.value))
        };
        Some(told.headers.iter().skip(1).map(line).collect())
    }

    #[test]
    fn nobody_says_it_but_the_connection() {
        let identity = Identity::new(HeaderName::from_static("x-client-subject"), "CN=a".into());
        const SAID: &str = "x-client-subject: CN=a\r\n";
        assert_eq!(told("Accept: b\r\n", None), None);
        for forged in [
            "X-Client-Subject",
            "x-client-subject",
            "X_Client_Subject",
            "X-Client_Subject",
            "X.Client.Subject",
        ] {
            let sent = format!("Accept: b\r\n{forged}: CN=root\r\n{forged}: CN=admin\r\n");
            assert_eq!(told(&sent, None).as_deref(), Some("Accept: b\r\n"), "{forged}");
            let both = format!("Accept: b\r\n{SAID}");
            assert_eq!(told(&sent, Some(&identity)), Some(both), "{forged}");
        }
        let off = "Connection: close, X-Client-Subject\r\nConnection: te\r\n";
        assert_eq!(told(off, Some(&identity)), Some(format!("Connection: te\r\n{SAID}")));
    }

    #[test]
    fn where_no_listener_tells_nothing_is_looked_at() {
        assert!(!Identities::default().claims("x-client-subject"));
    }
}
