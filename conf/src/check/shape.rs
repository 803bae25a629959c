//! The shape of the file: keys, types, words and ranges, all by the schema.
//!
//! Every value is compared with its part of the schema. What is wrong is reported and taken out of the tree; the rest
//! can then be read without an error. Nothing here knows what a key means.

use std::ops::Range;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::{Check, listed, nearest};
use crate::schema::schema;

/// Checks a whole file and takes out what is wrong.
pub(super) fn check(check: &mut Check<'_>, tree: &mut Spanned<DeTable<'_>>) {
    let schema = schema();
    // The table of the whole file has no header; what is missing in it is missing at its beginning.
    let span = 0..0;
    Shape { check, root: &schema }.table(&schema, tree.get_mut(), &span, "");
}

struct Shape<'s, 'c, 'a> {
    check: &'c mut Check<'a>,
    root: &'s Value,
}

impl<'s> Shape<'s, '_, '_> {
    /// Checks one value; false if it has to go.
    fn value(&mut self, schema: &'s Value, value: &mut Spanned<DeValue<'_>>, key: &str) -> bool {
        let span = value.span();
        self.check.keys.insert(span.clone(), key.to_owned());
        let schema = self.resolve(schema);
        let Some(choice) = self.choice(schema, value.get_ref()) else {
            self.wrong_type(schema, value.get_ref(), &span, key);
            return false;
        };
        match value.get_mut() {
            DeValue::Table(table) => {
                self.table(choice, table, &span, key);
                true
            }
            DeValue::Array(items) => {
                let Some(item_schema) = choice.get("items") else { return true };
                let before = items.len();
                let mut good = DeArray::new();
                for (index, mut item) in std::mem::replace(items, DeArray::new()).into_iter().enumerate() {
                    if self.value(item_schema, &mut item, &format!("{key}[{index}]")) {
                        good.push(item);
                    }
                }
                *items = good;
                if items.len() < before {
                    self.check.damaged.insert(span);
                }
                true
            }
            DeValue::String(word) => self.word(schema, word, &span),
            DeValue::Integer(number) => {
                // The parser has taken out sign-less `_`; what does not fit 128 bits is certainly out of range.
                let number = i128::from_str_radix(number.as_str(), number.radix()).ok();
                self.number(choice, number, &span)
            }
            DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => true,
        }
    }

    fn table(&mut self, schema: &'s Value, table: &mut DeTable<'_>, span: &Range<usize>, path: &str) {
        let properties = schema.get("properties").and_then(Value::as_object);
        let any_name = schema.get("additionalProperties").filter(|schema| schema.is_object());
        for name in required(schema) {
            if !table.contains_key(name) {
                let property = properties.and_then(|properties| properties.get(name));
                self.missing_key(property, name, span, path);
            }
        }
        let mut good = DeTable::new();
        for (key, mut value) in std::mem::take(table) {
            let key_path = join(path, key.get_ref());
            self.check.keys.insert(key.span(), key_path.clone());
            let property = properties.and_then(|properties| properties.get(key.get_ref().as_ref()));
            let keep = match property.or(any_name) {
                Some(schema) => {
                    let keep = self.value(schema, &mut value, &key_path);
                    if !keep {
                        self.check.lost.insert(key_path);
                    }
                    keep
                }
                None => {
                    self.unknown_key(properties, key.get_ref(), &key.span(), key_path);
                    false
                }
            };
            if keep {
                good.insert(key, value);
            } else {
                self.check.damaged.insert(span.clone());
            }
        }
        *table = good;
    }

    /// The schema behind a `$ref`.
    fn resolve(&self, schema: &'s Value) -> &'s Value {
        let target = schema.get("$ref").and_then(Value::as_str).and_then(|target| target.strip_prefix('#'));
        target.and_then(|pointer| self.root.pointer(pointer)).unwrap_or(schema)
    }

    /// Where a value may have several forms, the one that has its type.
    fn choice(&self, schema: &'s Value, value: &DeValue<'_>) -> Option<&'s Value> {
        choices(schema).into_iter().map(|choice| self.resolve(choice)).find(|choice| {
            let name = choice.get("type").and_then(Value::as_str);
            name.is_none_or(|name| name == schema_type(value))
        })
    }

    fn wrong_type(&mut self, schema: &'s Value, value: &DeValue<'_>, span: &Range<usize>, key: &str) {
        let names: Vec<_> = choices(schema)
            .into_iter()
            .filter_map(|choice| self.resolve(choice).get("type").and_then(Value::as_str))
            .map(plain_type)
            .collect();
        let mut expected = names;
        expected.dedup();
        let expected = match schema.get("title").and_then(Value::as_str) {
            Some(title) => format!("a {title}"),
            None => expected.join(" or "),
        };
        let last = key.rsplit('.').next().unwrap_or(key);
        let hint = match (self.example(schema), words(schema)) {
            _ if matches!(value, DeValue::Table(_)) && names_lists(schema) => {
                format!("begin each one with [[{}]]", without_indices(key))
            }
            (Some(example), _) if last.ends_with(']') => format!("write for instance {example}"),
            (Some(example), _) => format!("write for instance {last} = {example}"),
            (None, words) if !words.is_empty() => format!("write one of {}", listed(words)),
            (None, _) => format!("write {expected}"),
        };
        self.check.report(span, format!("{expected} is expected, not {}", plain_value(value)), hint);
    }

    /// Checks text against the words that are possible, if there are only some.
    fn word(&mut self, schema: &'s Value, word: &str, span: &Range<usize>) -> bool {
        let words = words(schema);
        if words.is_empty() || words.contains(&word) {
            return true;
        }
        let hint = match nearest(word, words.iter().copied()) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("write one of {}", listed(words)),
        };
        self.check.report(span, format!("{word:?} is not known here"), hint);
        false
    }

    /// Checks a whole number against its range.
    fn number(&mut self, schema: &'s Value, number: Option<i128>, span: &Range<usize>) -> bool {
        let bound = |name: &str| schema.get(name).and_then(Value::as_i64).map(i128::from);
        let (least, most) = (bound("minimum"), bound("maximum"));
        let fits = |number: i128| {
            least.is_none_or(|least| number >= least) && most.is_none_or(|most| number <= most)
        };
        if number.is_some_and(fits) {
            return true;
        }
        let hint = match (least, most) {
            (Some(least), Some(most)) => format!("write a number from {least} to {most}"),
            (Some(least), None) => format!("write a number from {least}"),
            (None, Some(most)) => format!("write a number up to {most}"),
            (None, None) => "write a smaller number".to_owned(),
        };
        let shown = number.map_or_else(|| "the number".to_owned(), |number| number.to_string());
        self.check.report(span, format!("{shown} is out of range"), hint);
        false
    }

    fn unknown_key(
        &mut self,
        properties: Option<&'s serde_json::Map<String, Value>>,
        name: &str,
        span: &Range<usize>,
        path: String,
    ) {
        let known: Vec<&str> =
            properties.into_iter().flat_map(|map| map.keys()).map(String::as_str).collect();
        let hint = if let Some(near) = nearest(name, known.iter().copied()) {
            format!("did you mean {near}?")
        } else if let Some(home) = self.home_of(name) {
            format!("it belongs in {home}; the keys here are {}", listed(known))
        } else {
            format!("the keys here are {}", listed(known))
        };
        self.check.report_key(span, path, format!("there is no key {name:?} here"), hint);
    }

    fn missing_key(&mut self, property: Option<&'s Value>, name: &str, span: &Range<usize>, path: &str) {
        let first = property.and_then(|schema| schema.get("examples")?.get(0));
        let hint = match first {
            // A list of tables at the beginning of the file is written under headers of its own.
            Some(Value::Array(tables)) if path.is_empty() && tables.iter().any(Value::is_object) => {
                let inside = tables.iter().filter_map(Value::as_object).flatten();
                let inside: Vec<_> =
                    inside.map(|(key, value)| format!("{key} = {}", as_toml(value))).collect();
                format!("add [[{name}]] with {}", inside.join(" and "))
            }
            Some(example) => format!("add {name} = {}", as_toml(example)),
            None => format!("add {name}"),
        };
        self.check.report_key(span, join(path, name), "is missing", hint);
    }

    /// An example of a value as it would stand in the file: the schema's own, or the keys that a table must have.
    fn example(&self, schema: &'s Value) -> Option<String> {
        if let Some(first) = schema.get("examples").and_then(|examples| examples.get(0)) {
            return Some(as_toml(first));
        }
        let pairs: Option<Vec<_>> = required(schema)
            .map(|name| {
                let property = self.resolve(schema.get("properties")?.get(name)?);
                Some(format!("{name} = {}", self.example(property)?))
            })
            .collect();
        pairs.filter(|pairs| !pairs.is_empty()).map(|pairs| format!("{{ {} }}", pairs.join(", ")))
    }

    /// The one table that has a key of this name, if there is exactly one.
    fn home_of(&self, name: &str) -> Option<String> {
        let mut homes = Vec::new();
        self.find_homes(self.root, name, String::new(), &mut homes);
        match homes.as_slice() {
            [only] => Some(only.clone()),
            _ => None,
        }
    }

    fn find_homes(&self, schema: &'s Value, name: &str, path: String, homes: &mut Vec<String>) {
        // The file's tables do not contain themselves, so this ends.
        let schema = self.resolve(schema);
        for choice in choices(schema) {
            let choice = self.resolve(choice);
            if let Some(properties) = choice.get("properties").and_then(Value::as_object) {
                if properties.contains_key(name) {
                    homes.push(if path.is_empty() {
                        "the beginning of the file".to_owned()
                    } else {
                        format!("[{path}]")
                    });
                }
                for (key, property) in properties {
                    self.find_homes(property, name, join(&path, key), homes);
                }
            }
            if let Some(items) = choice.get("items") {
                self.find_homes(items, name, path.clone(), homes);
            }
            if let Some(any) = choice.get("additionalProperties").filter(|any| any.is_object()) {
                self.find_homes(any, name, format!("{path}.NAME"), homes);
            }
        }
    }
}

/// The keys that a table must have.
fn required(schema: &Value) -> impl Iterator<Item = &str> {
    schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// Whether a schema is that of a list of tables.
fn names_lists(schema: &Value) -> bool {
    schema.get("items").is_some_and(|items| items.get("$ref").is_some())
}

/// The forms that a value may have.
fn choices(schema: &Value) -> Vec<&Value> {
    for name in ["anyOf", "oneOf"] {
        if let Some(choices) = schema.get(name).and_then(Value::as_array) {
            return choices.iter().collect();
        }
    }
    vec![schema]
}

/// The words that are possible, where only some are.
fn words(schema: &Value) -> Vec<&str> {
    let mut words = Vec::new();
    for choice in choices(schema) {
        if let Some(word) = choice.get("const").and_then(Value::as_str) {
            words.push(word);
        }
        if let Some(list) = choice.get("enum").and_then(Value::as_array) {
            words.extend(list.iter().filter_map(Value::as_str));
        }
    }
    words
}

/// A JSON value as inline TOML.
fn as_toml(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(as_toml).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let pairs: Vec<_> =
                map.iter().map(|(key, value)| format!("{key} = {}", as_toml(value))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

/// A key as the header of a table names it: `site.route` for `site[0].route`.
fn without_indices(key: &str) -> String {
    let parts = key.split('[').enumerate().map(|(index, part)| match part.split_once(']') {
        Some((_, rest)) if index > 0 => rest,
        Some(_) | None => part,
    });
    parts.collect()
}

/// A key under its table. Names that need quotes in TOML get them, so that a key stays on one line.
pub(super) fn join(path: &str, name: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let name = if !name.is_empty() && name.bytes().all(bare) { name.to_owned() } else { format!("{name:?}") };
    if path.is_empty() { name } else { format!("{path}.{name}") }
}

fn schema_type(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "string",
        DeValue::Integer(_) => "integer",
        DeValue::Float(_) => "number",
        DeValue::Boolean(_) => "boolean",
        // JSON has no dates; no schema of ours asks for this.
        DeValue::Datetime(_) => "date",
        DeValue::Array(_) => "array",
        DeValue::Table(_) => "object",
    }
}

fn plain_type(schema_type: &str) -> &'static str {
    match schema_type {
        "string" => "text",
        "integer" => "a whole number",
        "boolean" => "true or false",
        "array" => "a list",
        "object" => "a table",
        _ => "another value",
    }
}

fn plain_value(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(_) => "text".to_owned(),
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}
