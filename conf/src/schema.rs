//! The JSON Schema of the file, generated from the types in `file`.
//!
//! Editors use it for completion; `check` uses it to find unknown keys and wrong types.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::file::File;

/// The JSON Schema (draft 2020-12) of a configuration file.
///
/// A file that the schema accepts may still be wrong: rules between two keys are only known to [`crate::parse`].
#[must_use]
pub fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.meta_schema = Some("https://json-schema.org/draft/2020-12/schema".into());
    });
    let mut schema = settings.into_generator().into_root_schema_for::<File>().to_value();
    if let Some(root) = schema.as_object_mut() {
        root.insert("title".to_owned(), "Clearcoat".into());
    }
    drop_null(&mut schema);
    schema
}

/// Takes `null` out of every type: an optional key may be missing, but TOML has no null to write there.
fn drop_null(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_mut_slice() {
                    let only = only.take();
                    object.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(words)) = object.get_mut("enum") {
                words.retain(|word| !word.is_null());
            }
            if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
                choices.retain(|choice| choice.get("type").is_none_or(|name| name != "null"));
                if let [Value::Object(only)] = choices.as_mut_slice() {
                    let only = std::mem::take(only);
                    object.remove("anyOf");
                    for (key, value) in only {
                        object.entry(key).or_insert(value);
                    }
                }
            }
            object.values_mut().for_each(drop_null);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_null),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_one_and_has_no_null() {
        let schema = schema();
        assert!(jsonschema::meta::is_valid(&schema));
        let text = schema.to_string();
        assert!(!text.contains("null"), "{text}");
    }
}
