//! How are the keys written as JSON Schema?
//!
//! Each section is a definition of its own, named by its key path, so that what an editor shows of
//! a key is found at one place. A section may be empty: in YAML that is `null`, which is what is
//! left when each of its lines is commented out.

use serde_json::{Map, Value, json};

use super::keys::sections;
use super::takes::{Described, Key, Takes};
use crate::config::schema::{self, Keys};
use crate::config::units::show_size;

/// The JSON Schema of the configuration, as a text that ends with a line break.
///
/// # Panics
/// Never: what the table says is compared with the reader by tests.
#[must_use]
pub fn json_schema() -> String {
    let text = serde_json::to_string_pretty(&whole()).expect("values are written");
    text + "\n"
}

pub(super) fn whole() -> Value {
    let definitions: Map<_, _> =
        sections().map(|one| (name_of(one.section).to_owned(), section(one))).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Ringway",
        "description": "The configuration of ringway, a sharding HTTP proxy. \
                        `ringway check -c FILE` says more than a schema can.",
        "$ref": reference(&schema::FILE),
        "$defs": definitions,
    })
}

fn name_of(section: &Keys) -> &str {
    if section.at.is_empty() { "file" } else { section.at }
}

/// Where the section's definition stands; brackets are escaped in a URI's fragment (RFC 3986).
fn reference(section: &Keys) -> String {
    format!("#/$defs/{}", name_of(section).replace('[', "%5B").replace(']', "%5D"))
}

fn section(described: &Described) -> Value {
    let properties: Map<_, _> =
        described.keys.iter().map(|key| (key.name.to_owned(), property(key))).collect();
    let needed: Vec<_> =
        described.keys.iter().filter(|key| key.needed).map(|key| key.name).collect();
    let mut whole = json!({
        "description": described.says,
        "type": if needed.is_empty() { json!(["object", "null"]) } else { json!("object") },
        "properties": properties,
        "additionalProperties": false,
    });
    if !needed.is_empty() {
        whole["required"] = json!(needed);
    }
    if !described.rule.is_empty() {
        let rule: Map<_, _> = serde_json::from_str(described.rule).expect("the rule is JSON");
        whole.as_object_mut().expect("it was made as one").extend(rule);
    }
    whole
}

fn property(key: &Key) -> Value {
    let mut whole = value(&key.takes);
    whole["description"] = json!([key.says, &range_of(&key.takes)].concat());
    if !key.usual.is_empty() {
        let usual: Value = serde_yaml::from_str(key.usual).expect("the default is YAML");
        whole["default"] = usual;
    }
    whole
}

/// What is said of ranges that the schema cannot check.
fn range_of(takes: &Takes) -> String {
    match takes {
        Takes::Duration(least, most) => format!(" From {least} to {most}."),
        Takes::Size(least, u64::MAX) => format!(" From {} on.", show_size(*least)),
        Takes::Size(least, most) => format!(" From {} to {}.", show_size(*least), show_size(*most)),
        Takes::Either(all) => all.iter().map(range_of).collect(),
        _ => String::new(),
    }
}

pub(super) fn value(takes: &Takes) -> Value {
    match takes {
        Takes::Section(keys) => json!({ "$ref": reference(keys) }),
        Takes::Number(least, most) => {
            json!({ "type": "integer", "minimum": least, "maximum": most })
        }
        Takes::Truth => json!({ "type": "boolean" }),
        Takes::Duration(..) => json!({ "type": "string", "pattern": "^[0-9]+(ms|s|m|h)$" }),
        Takes::Size(least, most) => json!({
            "anyOf": [
                { "type": "integer", "minimum": least, "maximum": most },
                { "type": "string", "pattern": "^[0-9]+(B|KiB|MiB|GiB|kB|KB|MB|GB)?$" },
            ],
        }),
        Takes::Words(words) => json!({ "enum": words }),
        // Unless it is in quotes, YAML takes `id: 1` for a number; it is read as it is written.
        Takes::Text("") => json!({ "type": ["string", "number", "boolean"] }),
        Takes::Text(pattern) => {
            json!({ "type": ["string", "number", "boolean"], "pattern": pattern })
        }
        Takes::List(item, least, most) => {
            json!({ "type": "array", "items": value(item), "minItems": least, "maxItems": most })
        }
        Takes::OneOrList(item, least, most) => json!({
            "anyOf": [
                value(item),
                { "type": "array", "items": value(item), "minItems": least, "maxItems": most },
            ],
        }),
        Takes::Either(all) => json!({ "anyOf": all.iter().map(value).collect::<Vec<_>>() }),
        Takes::Entries(item, most) => {
            json!({ "type": "object", "additionalProperties": value(item), "maxProperties": most })
        }
    }
}
