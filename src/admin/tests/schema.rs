//! Is a document of the form that a schema describes?
//!
//! The part of JSON Schema 2020-12 that our OpenAPI document uses, and no more: a keyword that is
//! not known here is an error, so that none is believed to be checked and is not. Stricter in one
//! thing: a member that a schema does not name is an error, since what is answered must be
//! described.

use serde_json::{Map, Value};

/// What of a schema is for readers.
const FOR_READERS: [&str; 3] = ["description", "format", "minItems"];

/// Schemas by name.
pub struct Schemas<'a>(pub &'a Map<String, Value>);

impl Schemas<'_> {
    /// Says where `value` is not of the form `schema`; nothing if it is.
    pub fn wrong(&self, schema: &Value, value: &Value, at: &str) -> Vec<String> {
        let mut wrong = Vec::new();
        let schema = schema.as_object().expect("a schema is an object");
        for (keyword, rule) in schema {
            match keyword.as_str() {
                "$ref" => wrong.extend(self.wrong(self.named(rule), value, at)),
                "type" if !is_of_type(rule, value) => {
                    wrong.push(format!("{at}: {value} is no {rule}"));
                }
                "enum" if !rule.as_array().expect("a list").contains(value) => {
                    wrong.push(format!("{at}: {value} is none of {rule}"));
                }
                "minimum" if value.as_f64() < rule.as_f64() && value.is_number() => {
                    wrong.push(format!("{at}: {value} is below {rule}"));
                }
                "oneOf" => {
                    let choices = rule.as_array().expect("a list");
                    let tried: Vec<_> =
                        choices.iter().map(|choice| self.wrong(choice, value, at)).collect();
                    if tried.iter().filter(|wrong| wrong.is_empty()).count() != 1 {
                        wrong.push(format!("{at}: not one of them: {tried:?}"));
                    }
                }
                "properties" => {
                    for (name, member) in value.as_object().into_iter().flatten() {
                        match rule.get(name) {
                            Some(rule) => {
                                wrong.extend(self.wrong(rule, member, &format!("{at}.{name}")));
                            }
                            None => wrong.push(format!("{at}.{name} is not described")),
                        }
                    }
                }
                "required" => {
                    let missing = rule.as_array().expect("a list").iter().filter(|name| {
                        value.is_object() && value.get(name.as_str().expect("a name")).is_none()
                    });
                    wrong.extend(missing.map(|name| format!("{at}: {name} is missing")));
                }
                "items" => {
                    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                        wrong.extend(self.wrong(rule, item, &format!("{at}[{index}]")));
                    }
                }
                "prefixItems" => {
                    let rules = rule.as_array().expect("a list");
                    for (rule, item) in rules.iter().zip(value.as_array().into_iter().flatten()) {
                        wrong.extend(self.wrong(rule, item, at));
                    }
                }
                "maxItems" if value.as_array().map(Vec::len) > rule.as_u64().map(as_usize) => {
                    wrong.push(format!("{at}: more than {rule}"));
                }
                "type" | "enum" | "minimum" | "maxItems" | "additionalProperties" => {}
                other if FOR_READERS.contains(&other) => {}
                other => wrong.push(format!("{at}: the keyword `{other}` is not known here")),
            }
        }
        wrong
    }

    fn named(&self, reference: &Value) -> &Value {
        let reference = reference.as_str().expect("a reference is text");
        let name = reference.strip_prefix("#/components/schemas/").expect("ours are there");
        self.0.get(name).unwrap_or_else(|| panic!("no schema `{name}`"))
    }
}

fn as_usize(number: u64) -> usize {
    usize::try_from(number).expect("a small number")
}

fn is_of_type(rule: &Value, value: &Value) -> bool {
    let is = |name: &str| match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("the type `{other}` is not known here"),
    };
    match rule {
        Value::Array(names) => names.iter().filter_map(Value::as_str).any(is),
        one => is(one.as_str().expect("a type is text")),
    }
}

#[test]
fn what_is_wrong_is_found() {
    use serde_json::json;
    let schemas = json!({
        "Leaf": { "type": "object", "properties": { "a": { "type": ["integer", "null"], "minimum": 0 } }, "required": ["a"] },
        "Tree": { "type": "array", "items": { "oneOf": [{ "$ref": "#/components/schemas/Leaf" }, { "enum": ["x"] }] } },
    });
    let schemas = Schemas(schemas.as_object().expect("an object"));
    let tree = json!({ "$ref": "#/components/schemas/Tree" });
    let is_right = |value| schemas.wrong(&tree, &value, "t").is_empty();
    assert!(is_right(json!([])) && is_right(json!([{ "a": 1 }, "x", { "a": null }])));
    for bad in [
        json!({}),
        json!([{}]),
        json!(["y"]),
        json!([{ "a": "1" }]),
        json!([{ "a": -1 }]),
        json!([{ "a": 1, "b": 2 }]),
    ] {
        assert!(!is_right(bad.clone()), "{bad}");
    }
    let unknown = schemas.wrong(&json!({ "pattern": "x" }), &json!("x"), "t");
    assert_eq!(unknown, ["t: the keyword `pattern` is not known here"]);
}
