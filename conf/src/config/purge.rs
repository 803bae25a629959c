//! Who may purge, and which headers carry tags.

use ipnet::IpNet;

use super::default;
use super::pattern::HeaderName;
use super::secret::Secret;
use crate::error::Invalid;

/// A way in which web nodes ask for purges.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PurgeDialect {
    /// `PURGE` of a URL.
    Purge,
    /// `PURGEKEYS` with `xkey-purge` and `xkey-softpurge`.
    PurgeKeys,
    /// `BAN` with expressions.
    Ban,
    /// `PURGE` with `key`.
    Key,
    /// `BAN` and `PURGE` with `X-Location-Id`.
    LocationId,
    /// `PURGE` with `Surrogate-Key`.
    SurrogateKey,
}

impl PurgeDialect {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Purge, Self::PurgeKeys, Self::Ban, Self::Key, Self::LocationId, Self::SurrogateKey];

    /// As it is written in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Purge => "purge",
            Self::PurgeKeys => "purgekeys",
            Self::Ban => "ban",
            Self::Key => "key",
            Self::LocationId => "location-id",
            Self::SurrogateKey => "surrogate-key",
        }
    }
}

/// Who may purge, how, and which headers carry tags.
#[derive(Clone, Debug, PartialEq)]
pub struct Purge {
    /// Networks that may purge (Varnish's `acl`). Default loopback; empty: nobody by address.
    pub allow: Vec<IpNet>,
    /// How. Default: the ways of the sites' presets ([`Preset::dialects`](super::Preset::dialects)). A method that none of them uses goes to the nodes.
    pub dialects: Vec<PurgeDialect>,
    /// Response headers that a `BAN` may name by a header of the same name, besides `X-Content-Type` and the tags. Default
    /// none.
    pub ban_headers: Vec<HeaderName>,
    /// Response headers that carry tags. Default `xkey`, `x-hashtwo`, `x-cache-tags`, `surrogate-key`, `cache-tag`; empty: no tags.
    pub tag_headers: Vec<HeaderName>,
    /// Whoever shows it may purge from anywhere. `None`, the default: only `allow` counts.
    pub token: Option<Secret>,
    /// Whether visitors see the tag headers. Default false: they are taken out.
    pub keep_tag_headers: bool,
}

impl Default for Purge {
    fn default() -> Self {
        // The constants are good; a test looks at the number that comes out.
        Self {
            allow: default::PURGE_ALLOW.iter().filter_map(|text| parse_net(text).ok()).collect(),
            dialects: PurgeDialect::ALL.into(),
            ban_headers: Vec::new(),
            tag_headers: default::PURGE_TAG_HEADERS.iter().filter_map(|text| text.parse().ok()).collect(),
            token: None,
            keep_tag_headers: false,
        }
    }
}

/// Reads a network (`192.168.0.0/16`) or a single address (`10.0.0.1`).
///
/// # Errors
///
/// [`Invalid`] if it is neither, or if bits beyond the prefix are set (`10.0.0.5/8`): Varnish's `acl` refuses that as
/// well, as one of the two parts must be a slip.
pub fn parse_net(text: &str) -> Result<IpNet, Invalid> {
    if let Ok(address) = text.parse::<std::net::IpAddr>() {
        return Ok(IpNet::from(address));
    }
    let net: IpNet = text.parse().map_err(|_| {
        Invalid::new(
            format!("{text:?} is not a network"),
            "write an address or a network, such as 10.0.0.1 or 192.168.0.0/16",
        )
    })?;
    if net.addr() != net.network() {
        return Err(Invalid::new(
            format!("{text:?} has bits set beyond its prefix"),
            format!("write {} for the network or {} for the address", net.trunc(), net.addr()),
        ));
    }
    Ok(net)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read() {
        check("127.0.0.1", Some("127.0.0.1/32"));
        check("::1", Some("::1/128"));
        check("192.168.0.0/16", Some("192.168.0.0/16"));
        check("fd00::/8", Some("fd00::/8"));
        check("0.0.0.0/0", Some("0.0.0.0/0"));
        check("10.0.0.5/8", None);
        check("10.0.0.0/33", None);
        check("10.0.0/8", None);
        check("localhost", None);
        check("", None);
    }

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(parse_net(text).ok().map(|net| net.to_string()).as_deref(), expected, "input: {text:?}");
    }

    #[test]
    fn the_defaults_are_all_readable() {
        let purge = Purge::default();
        assert_eq!(purge.allow.len(), default::PURGE_ALLOW.len());
        assert_eq!(purge.tag_headers.len(), default::PURGE_TAG_HEADERS.len());
    }
}
