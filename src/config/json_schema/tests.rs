//! The schema against the table, the reader, the examples and the rules of JSON Schema.

use std::collections::BTreeSet;

use jsonschema::{Validator, draft202012};
use serde_json::{Value, json};

use super::keys::sections;
use super::render::{value, whole};
use super::takes::{Key, Takes};
use crate::config::diagnostic::Findings;
use crate::config::load::check;
use crate::config::raw::{Node, Shape};
use crate::config::tests::{EXAMPLES, Written, example_text, node, repository, written};
use crate::config::{Diagnostics, parse, schema};

fn validator(schema: &Value) -> Validator {
    draft202012::new(schema).expect("this is a JSON Schema")
}

fn json_of(yaml: &str) -> Value {
    serde_yaml::from_str(yaml).expect("YAML that JSON can say")
}

/// A key that was added to one table alone is added to the other where this says.
#[test]
fn every_key_is_described_and_no_other() {
    let mut wrong = Vec::new();
    for keys in schema::ALL {
        let Some(described) = sections().find(|one| one.section.at == keys.at) else {
            wrong.push(format!(
                "`{}` is a section of config/schema.rs: describe it in \
                 config/json_schema/keys.rs by a `Described` with one `key(…)` for each of {:?}, \
                 and make the key that leads to it `Section(&schema::…)`",
                keys.at, keys.known
            ));
            continue;
        };
        let names: Vec<_> = described.keys.iter().map(|key| key.name).collect();
        for key in keys.known.iter().filter(|key| !names.contains(key)) {
            wrong.push(format!(
                "config/schema.rs has `{key}` in `{at}`: describe it in \
                 config/json_schema/keys.rs, in the keys of `{at}`, by \
                 `key(\"{key}\", …, \"One sentence.\")` and `.usually(…)` with its default",
                at = keys.at
            ));
        }
        for name in names.iter().filter(|name| !keys.known.contains(name)) {
            wrong.push(format!(
                "config/json_schema/keys.rs has `{name}` in `{}`, but config/schema.rs does not",
                keys.at
            ));
        }
        let distinct: BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len(), "a key of `{}` is described twice", keys.at);
        for key in described.keys {
            let sentence = key.says.ends_with(['.', '?']) && !key.says.contains('\n');
            assert!(sentence, "`{}.{}` is described by a sentence", keys.at, key.name);
        }
    }
    assert_eq!(sections().count(), schema::ALL.len(), "no section is described twice");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn it_is_a_json_schema() {
    let schema = whole();
    let problem = jsonschema::meta::validate(&schema).err().map(|error| error.to_string());
    assert_eq!(problem, None);
    validator(&schema);
}

#[test]
fn the_examples_satisfy_it() {
    let schema = validator(&whole());
    for name in EXAMPLES {
        let problems: Vec<_> = schema
            .iter_errors(&json_of(&example_text(name)))
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(problems.is_empty(), "{name}: {problems:#?}");
    }
}

/// What is said of a file of which a schema can see that it is wrong.
const STRUCTURAL: [&str; 12] = [
    "unknown key",
    "unknown value",
    "does not belong here",
    "is not in this release",
    "is missing",
    "is not a list",
    "is not a mapping",
    "is not a number",
    "is not a truth value",
    "has no unit",
    "is not a duration",
    "is not a size",
];

/// The files of `tests/config/bad`, judged twice: what is structurally wrong is wrong for both,
/// and what the reader takes, perhaps with a warning, is right for both.
#[test]
fn bad_files_are_refused_and_good_ones_are_not() {
    let schema = validator(&whole());
    let (mut refused, mut taken) = (0, 0);
    let folder = repository().join("tests/config/bad");
    for entry in std::fs::read_dir(folder).expect("the folder").flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("the file can be read");
        // What is no YAML, or says a key twice, is not for a schema to judge.
        let Ok(json) = serde_yaml::from_str::<Value>(&text) else { continue };
        match parse(&text, "config.yaml") {
            Ok(_) => {
                let problem = schema.validate(&json).err().map(|error| error.to_string());
                assert_eq!(problem, None, "{}", path.display());
                taken += 1;
            }
            Err(diagnostics) => {
                let told = |one: &str| STRUCTURAL.iter().any(|part| one.contains(part));
                if diagnostics.list().iter().any(|one| told(&one.message)) {
                    assert!(!schema.is_valid(&json), "{} is taken", path.display());
                    refused += 1;
                }
            }
        }
    }
    assert!(refused >= 10 && taken >= 1, "{refused} refused, {taken} taken");
}

fn described(section: &str, name: &str) -> Option<&'static Key> {
    let section = sections().find(|one| one.section.at == section)?;
    section.keys.iter().find(|key| key.name == name)
}

/// Every key that `config/full.yaml` writes, at its first place.
fn each_key(mut look: impl FnMut(&Written, &'static Key, &Node)) {
    let root = node(&example_text("full"));
    let mut seen = BTreeSet::new();
    for one in written(&root) {
        if let Some(key) = described(&one.section, &one.key)
            && seen.insert((one.section.clone(), one.key.clone()))
        {
            look(&one, key, &root);
        }
    }
    let keys: usize = sections().map(|one| one.keys.len()).sum();
    assert_eq!(seen.len(), keys, "config/full.yaml has every key");
}

/// What the reader finds wrong at a key when `yaml` stands there in `config/full.yaml`.
fn complaints(one: &Written, root: &Node, yaml: &str) -> Vec<String> {
    let mut root = root.clone();
    let at = one.value_in(&mut root);
    let place = at.place;
    *at = Node { place, ..node(yaml) };
    let findings = Findings::default();
    check(&root, &findings);
    let all = Diagnostics::new("full.yaml", "", findings);
    let here = all.list().iter().filter(|found| found.key.starts_with(&one.path));
    here.filter(|found| found.severity == crate::config::Severity::Error)
        .map(|found| found.message.clone())
        .collect()
}

fn bounds(takes: &Takes, out: &mut Vec<String>) {
    match takes {
        Takes::Number(least, most) | Takes::Size(least, most) => {
            let around = [least.checked_sub(1), Some(*least), Some(*most), most.checked_add(1)];
            out.extend(around.into_iter().flatten().map(|number| number.to_string()));
        }
        Takes::Duration(least, most) => out.extend([(*least).to_owned(), (*most).to_owned()]),
        Takes::Words(words) => out.extend(words.iter().map(|word| (*word).to_owned())),
        Takes::Either(all) => all.iter().for_each(|one| bounds(one, out)),
        _ => {}
    }
}

/// Whether the schema says exactly what the reader takes, but for what other keys have to say.
fn is_exact(takes: &Takes) -> bool {
    match takes {
        Takes::Number(..) | Takes::Truth | Takes::Words(_) => true,
        Takes::Either(all) => all.iter().all(is_exact),
        _ => false,
    }
}

/// Complaints about one value alone, and not about what it means beside others.
const OF_ITSELF: [&str; 6] =
    ["out of range", "unknown value", " is not a", "is text", "has no unit", "no value is written"];

/// Many values at every key: what one of the two takes, the other does not refuse.
#[test]
fn the_schema_and_the_reader_agree_on_every_key() {
    const VALUES: [&str; 24] = [
        "0",
        "1",
        "7",
        "-1",
        "1.5",
        "200",
        "999999999999",
        "true",
        "off",
        "none",
        "any",
        "auto",
        "'5'",
        "5s",
        "8KiB",
        "name",
        "/a",
        "GET",
        "[]",
        "[GET]",
        "[[]]",
        "{}",
        "{ a: b }",
        "1s-2s",
    ];
    let schema = whole();
    each_key(|one, key, root| {
        let mut leaf = value(&key.takes);
        leaf["$defs"] = schema["$defs"].clone();
        let leaf = validator(&leaf);
        let mut values: Vec<_> = VALUES.iter().map(|&value| value.to_owned()).collect();
        bounds(&key.takes, &mut values);
        for yaml in values {
            let complaints = complaints(one, root, &yaml);
            let taken = leaf.is_valid(&json_of(&yaml));
            if complaints.is_empty() {
                assert!(taken, "`{}: {yaml}` is right, but the schema refuses it", one.path);
            }
            let of_itself = |text: &String| OF_ITSELF.iter().any(|part| text.contains(part));
            if taken && is_exact(&key.takes) {
                let wrong = complaints.iter().find(|text| of_itself(text));
                assert_eq!(wrong, None, "the schema takes `{}: {yaml}`", one.path);
            }
        }
    });
}

/// The bounds that a schema can only tell are those of the reader.
#[test]
fn bounds_of_durations_and_sizes_are_told_right() {
    fn check_bounds(one: &Written, root: &Node, takes: &Takes) {
        let out_of_range = |yaml: &str| {
            complaints(one, root, yaml).iter().any(|text| text.contains("out of range"))
        };
        match takes {
            Takes::Duration(least, most) => {
                assert!(!out_of_range(least) && !out_of_range(most), "{}", one.path);
                let read = |text| crate::config::units::duration(text).expect("a duration");
                let below = read(least).as_millis().checked_sub(1);
                assert!(below.is_none_or(|ms| out_of_range(&format!("{ms}ms"))), "{}", one.path);
                let above = read(most).as_millis() + 1;
                assert!(out_of_range(&format!("{above}ms")), "{} takes more", one.path);
            }
            Takes::Size(least, most) => {
                let text = |bytes: u64| format!("{bytes}B");
                assert!(
                    !out_of_range(&text(*least)) && !out_of_range(&text(*most)),
                    "{}",
                    one.path
                );
                let below = least.checked_sub(1);
                assert!(below.is_none_or(|bytes| out_of_range(&text(bytes))), "{}", one.path);
                let above = most.checked_add(1);
                assert!(above.is_none_or(|bytes| out_of_range(&text(bytes))), "{}", one.path);
            }
            Takes::Either(all) => all.iter().for_each(|takes| check_bounds(one, root, takes)),
            _ => {}
        }
    }
    each_key(|one, key, root| check_bounds(one, root, &key.takes));
}

/// As many items as the schema allows, and not one more.
#[test]
fn lists_are_as_long_as_is_told() {
    fn most(takes: &Takes) -> Option<u64> {
        match takes {
            Takes::List(_, _, most) | Takes::OneOrList(_, _, most) => Some(*most),
            Takes::Either(all) => all.iter().find_map(most),
            _ => None,
        }
    }
    each_key(|one, key, root| {
        let Some(most) = most(&key.takes).and_then(|most| usize::try_from(most).ok()) else {
            return;
        };
        let too_many = |count: usize| {
            let mut root = root.clone();
            let at = one.value_in(&mut root);
            let item = match &at.shape {
                Shape::List(items) => items.first().cloned(),
                _ => None,
            };
            let item = item.unwrap_or_else(|| at.clone());
            at.shape = Shape::List(vec![item; count]);
            let findings = Findings::default();
            check(&root, &findings);
            let all = Diagnostics::new("full.yaml", "", findings);
            let told = format!("found {count} ");
            all.list().iter().any(|found| found.key == one.path && found.message.contains(&told))
        };
        assert!(!too_many(most), "{} takes fewer than {most}", one.path);
        assert!(too_many(most + 1), "{} takes more than {most}", one.path);
    });
}

/// What the schema calls a default is what `config/full.yaml` has, of which another test proves
/// that it is the default. Where that file has an example instead, nothing can be compared.
#[test]
fn defaults_are_those_of_the_full_example() {
    const EXAMPLES_THERE: [&str; 3] = ["routes[].match", "routes[].key", "routes[]"];
    const EXAMPLES_HERE: [&str; 2] = ["listen.data", "listen.data[1].tls"];
    let full = json_of(&example_text("full"));
    let mut compared = 0;
    each_key(|one, key, _| {
        let example = EXAMPLES_THERE.contains(&one.section.as_str())
            || EXAMPLES_HERE.contains(&one.path.as_str());
        if key.usual.is_empty() || example {
            return;
        }
        let pointer = one.path.replace(['.', '['], "/").replace(']', "");
        let there = full.pointer(&format!("/{pointer}")).expect("the key is there");
        assert_eq!(there, &json_of(key.usual), "`{}` in config/full.yaml", one.path);
        compared += 1;
    });
    assert!(compared > 60, "{compared} defaults were compared");
    // A route that says nothing else has these.
    let last = full["routes"].as_array().and_then(|routes| routes.last()).expect("a route");
    for (section, name, there) in [
        ("routes[]", "hash_tag", &last["hash_tag"]),
        ("routes[]", "allow_methods", &last["allow_methods"]),
        ("routes[]", "rate_limit", &last["rate_limit"]),
        ("routes[].match", "host", &last["match"]["host"]),
        ("routes[].match", "path_prefix", &last["match"]["path_prefix"]),
        ("routes[].match", "path_regex", &last["match"]["path_regex"]),
        ("routes[].match", "methods", &last["match"]["methods"]),
        ("routes[].match", "headers", &last["match"]["headers"]),
    ] {
        let key = described(section, name).expect("the key is described");
        assert_eq!(json_of(key.usual), *there, "{section}.{name}");
    }
}

/// What a newcomer's editor finds: a slip in a key, a word of another key, a pool without shards.
#[test]
fn slips_are_found() {
    let schema = validator(&whole());
    let good = "pools: [{ name: a, shards: [{ id: 1, url: http://a }] }]\n\
                routes: [{ name: all, pool: a }]\n";
    let with = |more: &str| json_of(&format!("{good}{more}"));
    assert!(schema.is_valid(&with("")));
    assert!(schema.is_valid(&with("log:\n")), "a section of which every line is commented out");
    for bad in [
        "lgo: { level: info }",
        "log: { level: loud }",
        "log: [info]",
        "node: { workers: 0 }",
        "node: { workers: many }",
        "drain_delay: 5",
        "client: { limits: { head: 8 KiB } }",
        "cluster: { tls: { ca: a.pem } }",
    ] {
        assert!(!schema.is_valid(&with(bad)), "{bad}");
    }
    let routes = "routes: [{ name: all, pool: a }]";
    for bad in [
        json!({}),
        json_of(routes),
        json_of(&format!("{routes}\npools: [{{ name: a }}]")),
        json_of(&good.replace("pool: a", "pool: a, key: { path: whole, query: q }")),
        json_of(&good.replace("pool: a", "pool: a, key: { path_regex: a }")),
        json_of(&good.replace("pool: a", "pool: a, key: { query: q, use: $1 }")),
    ] {
        assert!(!schema.is_valid(&bad), "{bad}");
    }
    assert!(schema.is_valid(&json_of(&format!("{routes}\ncluster: {{}}\npools: [{{ name: a }}]"))));
}
