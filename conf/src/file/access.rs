//! Who may come to a site or route, as it is written: networks, passwords, rates, maintenance.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::value::{At, DurationText};

/// Which addresses may come.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AccessTable {
    /// Nobody else may: addresses, networks, unix for whoever comes over a Unix socket, or file:/path of a list. Default:
    /// everybody may.
    #[schemars(extend("examples" = [["10.0.0.0/8", "file:/etc/clearcoat/office.txt"]]))]
    pub(crate) allow: Option<At<Vec<At<String>>>>,
    /// These may not, even if allow has them. Default: nobody.
    #[schemars(extend("examples" = [["192.0.2.0/24"]]))]
    pub(crate) deny: Option<At<Vec<At<String>>>>,
}

/// A password in front of a site or route, or none.
#[derive(Debug)]
pub(crate) enum BasicAuthEntry {
    /// `false`; `true` is a mistake.
    Switch(bool),
    /// Whose password.
    Table(BasicAuthTable),
}

/// A password in front (RFC 7617).
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BasicAuthTable {
    /// What browsers show when they ask for the password. Default restricted.
    pub(crate) realm: Option<At<String>>,
    /// Users as htpasswd writes them, NAME:HASH with bcrypt (htpasswd -nB NAME) or SHA-crypt ($5$, $6$). Default: none.
    #[schemars(extend("examples" = [["anna:$2y$10$Qm3yV5Lbd5S1WMMCVKzm0eFGmHWpE2Hs9jSVOGzBGuFdCRvdC2.Zu"]]))]
    pub(crate) users: Option<At<Vec<At<String>>>>,
    /// A file of such lines. Default: none.
    #[schemars(extend("examples" = ["/etc/clearcoat/htpasswd"]))]
    pub(crate) file: Option<At<String>>,
    /// Who needs no password, as in access.allow. Default: nobody.
    #[schemars(extend("examples" = [["10.0.0.0/8"]]))]
    pub(crate) except: Option<At<Vec<At<String>>>>,
}

impl<'de> Deserialize<'de> for BasicAuthEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntryVisitor;

        impl<'de> Visitor<'de> for EntryVisitor {
            type Value = BasicAuthEntry;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a table or false")
            }

            fn visit_bool<E>(self, switch: bool) -> Result<BasicAuthEntry, E> {
                Ok(BasicAuthEntry::Switch(switch))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<BasicAuthEntry, A::Error> {
                BasicAuthTable::deserialize(MapAccessDeserializer::new(map)).map(BasicAuthEntry::Table)
            }
        }

        deserializer.deserialize_any(EntryVisitor)
    }
}

impl JsonSchema for BasicAuthEntry {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "BasicAuth".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let table = generator.subschema_for::<BasicAuthTable>();
        json_schema!({
            "title": "table or false",
            "anyOf": [table, { "type": "boolean", "const": false }],
            "examples": [{ "file": "/etc/clearcoat/htpasswd" }, false],
        })
    }
}

/// How often somebody may ask.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RateLimitTable {
    /// A word for the log and for clearcoat why. Default: its place in the list, from one.
    #[schemars(extend("examples" = ["login"]))]
    pub(crate) name: Option<At<String>>,
    /// For which paths, as those of routes. Default: all.
    #[schemars(extend("examples" = [["/login", "/user/*"]]))]
    pub(crate) paths: Option<At<Vec<At<String>>>>,
    /// For which methods. Default: all.
    #[schemars(extend("examples" = [["POST"]]))]
    pub(crate) methods: Option<At<Vec<At<String>>>>,
    /// Whose requests are counted together: client (address; of IPv6 the /64), path, header:NAME or cookie:NAME; where that is
    /// missing, the client's. Default client.
    #[schemars(extend("examples" = ["client", "path", "header:X-Api-Key", "cookie:eZSESSID"]))]
    pub(crate) by: Option<At<String>>,
    /// Requests per time: 10/s, 600/m, 1000/h, or 5/10s.
    #[schemars(required, extend("examples" = ["10/s", "600/m", "5/10s"]))]
    pub(crate) rate: Option<At<String>>,
    /// Requests at once that are let through before the rate counts. Default: as many as the rate has.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) burst: Option<At<u64>>,
    /// Whose requests are not counted, as in access.allow. Default: nobody's.
    #[schemars(extend("examples" = [["10.0.0.0/8"]]))]
    pub(crate) except: Option<At<Vec<At<String>>>>,
}

/// A page in place of the site.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MaintenanceTable {
    /// As long as this file exists, visitors get the page; it is looked for once a second. Without it they always do. Default:
    /// always.
    #[schemars(extend("examples" = ["/run/clearcoat/maintenance"]))]
    pub(crate) flag: Option<At<String>>,
    /// A file with the page, HTML if it ends in .html; at most 256 KiB. Default: a line of text.
    #[schemars(extend("examples" = ["/etc/clearcoat/maintenance.html"]))]
    pub(crate) page: Option<At<String>>,
    /// When visitors are told to come again (Retry-After). Default 5m.
    pub(crate) retry_after: Option<At<DurationText>>,
    /// Who sees the site all the same, as in access.allow. Default: nobody.
    #[schemars(extend("examples" = [["10.0.0.0/8"]]))]
    pub(crate) except: Option<At<Vec<At<String>>>>,
}

/// What browsers are told of https (RFC 6797).
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HstsTable {
    /// How long they come by https only; 0 ends it. Default 365d.
    pub(crate) max_age: Option<At<DurationText>>,
    /// Whether that holds for all hosts below too. Default false.
    pub(crate) subdomains: Option<At<bool>>,
    /// Whether browsers may have it built in. Needs subdomains and a year. Default false.
    pub(crate) preload: Option<At<bool>>,
}
