//! Who may purge: addresses on a list, or whoever knows the token.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};
use subtle::ConstantTimeEq;

use crate::{PurgeError, PurgeRequest};

/// Who may purge.
#[derive(Clone, Default)]
pub struct Settings {
    /// Addresses that may purge without a token. Empty: none.
    pub allow: Vec<IpNet>,
    /// The secret that `X-Invalidate-Token` must carry. None, or an empty one: no token is right.
    pub token: Option<Vec<u8>>,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = self.token.as_ref().map(|_| "..");
        f.debug_struct("Settings").field("allow", &self.allow).field("token", &token).finish()
    }
}

/// A purge whose sender was checked: [`Guard::admit`] makes it, [`apply`](crate::apply()) takes nothing else.
#[derive(Debug)]
pub struct Admitted(PurgeRequest);

impl Admitted {
    /// What is to be purged.
    pub fn request(&self) -> &PurgeRequest {
        &self.0
    }
}

/// Checks who sends purges.
#[derive(Debug)]
pub struct Guard {
    settings: Settings,
}

impl Guard {
    /// A guard by these settings.
    pub fn new(mut settings: Settings) -> Self {
        for network in &mut settings.allow {
            *network = canonical(*network);
        }
        settings.token = settings.token.filter(|token| !token.is_empty());
        Self { settings }
    }

    /// Whether a client may purge by its address alone; none is that of a local socket.
    pub fn allows(&self, sender: Option<IpAddr>) -> bool {
        let sender = sender.map(|address| address.to_canonical());
        sender.is_none_or(|address| self.settings.allow.iter().any(|net| net.contains(&address)))
    }

    /// Whether this is the token of the settings. The comparison takes the same time wherever the two differ; only whether
    /// their lengths do can be measured.
    pub fn knows(&self, token: &[u8]) -> bool {
        self.settings.token.as_ref().is_some_and(|expected| is_same(token, expected))
    }

    /// Lets a purge through whose sender showed the token that an application told us for its site; [`Guard::knows`] did not
    /// know it. An empty one is never right.
    ///
    /// # Errors
    ///
    /// As [`Guard::admit`].
    pub fn admit_by(
        &self,
        request: Result<PurgeRequest, PurgeError>,
        sender: Option<IpAddr>,
        token: &[u8],
        told: Option<&[u8]>,
    ) -> Result<Admitted, PurgeError> {
        if told.is_some_and(|told| is_same(token, told)) {
            return request.map(Admitted);
        }
        Err(PurgeError::Denied { sender: sender.map(|address| address.to_canonical()) })
    }

    /// Lets a purge through if its sender may purge.
    ///
    /// `sender` is the client's address, none for a local socket, whose file mode has decided already. `token` is
    /// what `X-Invalidate-Token` carried. If there is one, it alone decides, whoever the sender is (the rule of eZ
    /// Platform's VCL); a wrong one is refused even from an address on the list.
    ///
    /// The request is taken as [`Reader::read`](crate::Reader::read) returned it, so that the sender is checked before anything is
    /// said about it.
    ///
    /// # Errors
    ///
    /// [`PurgeError::Denied`], or else what was wrong with the request.
    pub fn admit(
        &self,
        request: Result<PurgeRequest, PurgeError>,
        sender: Option<IpAddr>,
        token: Option<&[u8]>,
    ) -> Result<Admitted, PurgeError> {
        let may = match token {
            Some(token) => self.knows(token),
            None => self.allows(sender),
        };
        let sender = sender.map(|address| address.to_canonical());
        if !may {
            return Err(PurgeError::Denied { sender });
        }
        request.map(Admitted)
    }
}

/// In constant time. No two are the same that are empty: whoever shows no secret knows none.
fn is_same(shown: &[u8], secret: &[u8]) -> bool {
    !secret.is_empty() && bool::from(shown.ct_eq(secret))
}

/// Networks of IPv4 addresses written as IPv6 (`::ffff:10.0.0.0/104`) are what they mean, like the senders.
fn canonical(network: IpNet) -> IpNet {
    const MAPPED_BITS: u8 = 96;
    let IpNet::V6(v6) = network else { return network };
    let mapped: Option<std::net::Ipv4Addr> = Ipv6Addr::to_ipv4_mapped(&v6.network());
    match (mapped, v6.prefix_len().checked_sub(MAPPED_BITS)) {
        (Some(address), Some(prefix)) => Ipv4Net::new(address, prefix).map_or(network, IpNet::V4),
        _ => network,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn request() -> PurgeRequest {
        PurgeRequest::Url { keys: Vec::new(), mode: clearcoat_cache::PurgeMode::Hard }
    }

    fn guard(allow: &[&str], token: Option<&str>) -> Guard {
        let allow = allow.iter().map(|net| net.parse().unwrap()).collect();
        Guard::new(Settings { allow, token: token.map(|token| token.as_bytes().to_vec()) })
    }

    #[track_caller]
    fn check(guard: &Guard, sender: &str, token: Option<&str>, expected: bool) {
        let address = (!sender.is_empty()).then(|| sender.parse::<IpAddr>().unwrap());
        let found = guard.admit(Ok(request()), address, token.map(str::as_bytes));
        match found {
            Ok(admitted) => {
                assert!(expected, "{sender} {token:?} was admitted");
                assert!(matches!(admitted.request(), PurgeRequest::Url { keys, .. } if keys.is_empty()));
            }
            Err(error) => {
                assert_eq!(
                    error,
                    PurgeError::Denied { sender: address.map(|address| address.to_canonical()) }
                );
                assert!(!expected, "{sender} {token:?} was refused");
                assert_eq!(error.status(), 405);
            }
        }
    }

    #[test]
    fn without_a_token_the_address_decides() {
        for token in [None, Some("secret")] {
            let guard = guard(&["127.0.0.1/32", "192.168.0.0/16", "fd00::/8"], token);
            for (sender, expected) in [
                ("127.0.0.1", true),
                ("127.0.0.2", false),
                ("192.168.255.1", true),
                ("192.169.0.1", false),
                ("::ffff:192.168.0.1", true),
                ("::ffff:10.0.0.1", false),
                ("fd12::1", true),
                ("::1", false),
                ("", true),
            ] {
                check(&guard, sender, None, expected);
            }
        }
    }

    #[test]
    fn a_token_decides_alone() {
        let guard = guard(&["127.0.0.1/32"], Some("secret"));
        for sender in ["127.0.0.1", "10.0.0.1", ""] {
            check(&guard, sender, Some("secret"), true);
            for wrong in ["", "Secret", "secre", "secret ", "secrets"] {
                check(&guard, sender, Some(wrong), false);
            }
        }
    }

    #[test]
    fn no_token_is_right_when_none_is_set() {
        for configured in [None, Some("")] {
            let guard = guard(&["0.0.0.0/0"], configured);
            check(&guard, "127.0.0.1", Some("secret"), false);
            check(&guard, "127.0.0.1", Some(""), false);
            check(&guard, "127.0.0.1", None, true);
        }
    }

    #[test]
    fn an_empty_list_admits_nobody_but_local_sockets() {
        let guard = guard(&[], None);
        check(&guard, "127.0.0.1", None, false);
        check(&guard, "", None, true);
    }

    #[test]
    fn mapped_networks_are_what_they_mean() {
        let guard = guard(&["::ffff:10.0.0.0/104"], None);
        check(&guard, "10.9.9.9", None, true);
        check(&guard, "::ffff:10.9.9.9", None, true);
        check(&guard, "11.0.0.1", None, false);
    }

    #[test]
    fn the_sender_is_checked_before_the_request() {
        let guard = guard(&["127.0.0.1/32"], None);
        let status = |sender: &str| {
            guard
                .admit(Err(PurgeError::NoKeys), Some(sender.parse().unwrap()), None)
                .map_err(|error| error.status())
                .err()
        };
        assert_eq!(status("10.0.0.1"), Some(405));
        assert_eq!(status("127.0.0.1"), Some(400));
    }

    #[test]
    fn the_token_is_not_shown() {
        assert!(!format!("{:?}", guard(&[], Some("secret"))).contains("secret"));
    }
}
