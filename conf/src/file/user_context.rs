//! `user_context` of a site or route as it is written: a table, or `false`.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::value::At;

/// Groups of visitors that share pages, or none.
#[derive(Debug)]
pub(crate) enum UserContextEntry {
    /// `false`; `true` is a mistake.
    Switch(bool),
    /// How the group of a visitor is asked for.
    Table(Box<UserContextTable>),
}

/// How the group of a visitor is asked for.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UserContextTable {
    /// The header that carries the hash. Default X-User-Context-Hash.
    #[schemars(extend("examples" = ["X-User-Hash"]))]
    pub(crate) header: Option<At<String>>,
    /// The media type that asks for a hash. Default application/vnd.fos.user-context-hash.
    pub(crate) accept: Option<At<String>>,
    /// The path that answers with a hash. Default /_fos_user_context_hash.
    pub(crate) path: Option<At<String>>,
    /// Ends of URLs, query included, that need no hash. Default: none.
    #[schemars(extend("examples" = [["*.css", "*.js"]]))]
    pub(crate) except: Option<At<Vec<At<String>>>>,
    /// The hash of visitors without cookies and Authorization, without asking a node. Default: a node is asked.
    #[schemars(extend("examples" = ["38015b703d82206ebc01d17a39c727e5"]))]
    pub(crate) anonymous: Option<At<String>>,
    /// Whether requests with Authorization have a hash like all others; false: they go with all their cookies and without a
    /// hash. Default true.
    pub(crate) authorized: Option<At<bool>>,
    /// Whether visitors get a Cache-Control of their own where pages depend on the hash. Default false.
    pub(crate) rewrite_cache_control: Option<At<bool>>,
}

impl UserContextTable {
    /// The keys that are written, with the name of the table before them.
    pub(crate) fn written(&self) -> impl Iterator<Item = &'static str> {
        // By a pattern, so that no key can be left out.
        let Self { header, accept, path, except, anonymous, authorized, rewrite_cache_control } = self;
        let keys = [
            ("user_context.header", header.is_some()),
            ("user_context.accept", accept.is_some()),
            ("user_context.path", path.is_some()),
            ("user_context.except", except.is_some()),
            ("user_context.anonymous", anonymous.is_some()),
            ("user_context.authorized", authorized.is_some()),
            ("user_context.rewrite_cache_control", rewrite_cache_control.is_some()),
        ];
        keys.into_iter().filter(|(_, is)| *is).map(|(key, _)| key)
    }
}

impl<'de> Deserialize<'de> for UserContextEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntryVisitor;

        impl<'de> Visitor<'de> for EntryVisitor {
            type Value = UserContextEntry;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a table or false")
            }

            fn visit_bool<E>(self, switch: bool) -> Result<UserContextEntry, E> {
                Ok(UserContextEntry::Switch(switch))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<UserContextEntry, A::Error> {
                let table = UserContextTable::deserialize(MapAccessDeserializer::new(map))?;
                Ok(UserContextEntry::Table(Box::new(table)))
            }
        }

        deserializer.deserialize_any(EntryVisitor)
    }
}

impl JsonSchema for UserContextEntry {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "UserContext".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let table = generator.subschema_for::<UserContextTable>();
        json_schema!({
            "title": "table or false",
            "anyOf": [table, { "type": "boolean", "const": false }],
            "examples": [{}, false],
        })
    }
}
