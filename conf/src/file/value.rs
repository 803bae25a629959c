//! Single values as they are written: with their place, and with the shape that the schema tells.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::ops::Range;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::units;

/// A value and where it stands. In the schema it is the value alone.
#[derive(Clone, Debug)]
pub(crate) struct At<T> {
    /// The bytes of the text.
    pub(crate) span: Range<usize>,
    /// The value.
    pub(crate) value: T,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = toml::Spanned::<T>::deserialize(deserializer)?;
        Ok(Self { span: spanned.span(), value: spanned.into_inner() })
    }
}

impl<T: JsonSchema> JsonSchema for At<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

// Keys of a map are compared by what they say, wherever they stand.
impl<T: PartialEq> PartialEq for At<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Eq> Eq for At<T> {}

impl<T: PartialOrd> PartialOrd for At<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.value.partial_cmp(&other.value)
    }
}

impl<T: Ord> Ord for At<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.value.cmp(&other.value)
    }
}

/// A duration as text, read by [`units::duration`].
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct DurationText(pub(crate) String);

impl JsonSchema for DurationText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "title": "duration",
            "type": "string",
            "pattern": units::DURATION_PATTERN,
            "examples": ["30s", "250ms", "1m30s"],
        })
    }
}

/// A size as text or as a number of bytes, read by [`units::size`].
#[derive(Debug)]
pub(crate) struct SizeText(pub(crate) String);

impl<'de> Deserialize<'de> for SizeText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOrNumber).map(Self)
    }
}

impl JsonSchema for SizeText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "title": "size",
            "anyOf": [{ "type": "string", "pattern": units::SIZE_PATTERN }, { "type": "integer", "minimum": 0 }],
            "examples": ["64KiB", "1GiB", 512],
        })
    }
}

/// A status code or a range of them, read by [`crate::StatusList::parse`].
#[derive(Debug)]
pub(crate) struct StatusText(pub(crate) String);

impl<'de> Deserialize<'de> for StatusText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOrNumber).map(Self)
    }
}

impl JsonSchema for StatusText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Status".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "title": "status code or range",
            "anyOf": [
                { "type": "string", "pattern": "^[1-5]([0-9]{2}(-[1-5][0-9]{2})?|xx)$" },
                { "type": "integer", "minimum": 100, "maximum": 599 },
            ],
            "examples": ["200-299", 301],
        })
    }
}

/// Reads text as it is and a whole number as its digits.
struct TextOrNumber;

impl Visitor<'_> for TextOrNumber {
    type Value = String;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("text or a whole number")
    }

    fn visit_str<E>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_i64<E>(self, number: i64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_u64<E>(self, number: u64) -> Result<String, E> {
        Ok(number.to_string())
    }
}

/// A secret: in the file itself, or where to find it.
pub(crate) enum SecretEntry {
    /// In the file itself.
    Text(String),
    /// Elsewhere.
    Source(SecretSource),
}

// The text itself must not reach a log by way of `{:?}`.
impl fmt::Debug for SecretEntry {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => out.write_str("Text(hidden)"),
            Self::Source(source) => source.fmt(out),
        }
    }
}

/// Where to find a secret; exactly one of the two.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub(crate) struct SecretSource {
    /// The name of an environment variable.
    #[schemars(extend("examples" = ["CLEARCOAT_TOKEN"]))]
    pub(crate) env: Option<At<String>>,
    /// A file, from the folder of this file; line breaks at its end do not count.
    #[schemars(extend("examples" = ["/run/secrets/token"]))]
    pub(crate) file: Option<At<String>>,
}

impl<'de> Deserialize<'de> for SecretEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SecretVisitor;

        impl<'de> Visitor<'de> for SecretVisitor {
            type Value = SecretEntry;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("text, { env = \"NAME\" } or { file = \"PATH\" }")
            }

            fn visit_str<E>(self, text: &str) -> Result<SecretEntry, E> {
                Ok(SecretEntry::Text(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SecretEntry, A::Error> {
                SecretSource::deserialize(MapAccessDeserializer::new(map)).map(SecretEntry::Source)
            }
        }

        deserializer.deserialize_any(SecretVisitor)
    }
}

impl JsonSchema for SecretEntry {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let source = generator.subschema_for::<SecretSource>();
        json_schema!({
            "title": "secret",
            "anyOf": [{ "type": "string", "minLength": 1 }, source],
            "examples": [{ "env": "CLEARCOAT_TOKEN" }, { "file": "/run/secrets/token" }],
        })
    }
}
