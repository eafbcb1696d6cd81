//! Which requests go where, and where is their key?

use std::num::NonZeroU16;

use crate::ids::{PoolName, RouteName};
use crate::key::HashTag;
use crate::limits::RateLimit;
use crate::route::{
    Capture, CookieName, FieldMatch, FieldName, FieldValue, HostPattern, KeyRule, Method, Methods,
    Otherwise, ParameterName, PathPrefix, Pattern, ROUTES_MAX, RouteMatch, RouteSpec, Template,
};

use super::schema;
use super::section::{Section, Unique};
use super::spot::Spot;

/// Methods of one list.
const METHODS_MAX: usize = 64;

/// Requests a second of one client, and at once: beyond this it is no limit.
const RATE_MAX: u64 = 100_000;

/// Fields that one route looks at.
const FIELDS_MAX: usize = 16;

/// A route, and where it is written.
pub(super) struct WrittenRoute<'a> {
    pub(super) spot: Spot<'a>,
    /// `None` if the route has errors.
    pub(super) spec: Option<RouteSpec>,
    /// The pool it leads to, if that is a name.
    pub(super) pool: Option<(PoolName, Spot<'a>)>,
    /// Where it says which bytes are the key, if it does.
    pub(super) rule: Option<Spot<'a>>,
}

pub(super) fn routes<'a>(file: &Section<'a>) -> Vec<WrittenRoute<'a>> {
    let Some(spot) = file.need("routes", "a list with at least one route") else { return vec![] };
    let Some(spots) = spot.items() else { return vec![] };
    if spots.is_empty() {
        spot.refuse::<()>(
            "found an empty list",
            "write at least one route, or every request is answered 404",
        );
    }
    if spots.len() > ROUTES_MAX {
        spot.refuse::<()>(
            format!("found {} routes", spots.len()),
            format!("write at most {ROUTES_MAX}"),
        );
        return vec![];
    }
    let mut names = Unique::new();
    let read = |spot: Spot<'a>| match spot.section(&schema::ROUTE) {
        Some(section) => route(&section, &mut names),
        None => WrittenRoute { spot, spec: None, pool: None, rule: None },
    };
    spots.into_iter().map(read).collect()
}

fn route<'a>(section: &Section<'a>, names: &mut Unique<'a, RouteName>) -> WrittenRoute<'a> {
    let errors = section.spot().errors();
    let name_spot = section.need("name", "a name for metrics and logs");
    let name = name_spot.and_then(|spot| {
        let name = spot.parsed("a name", RouteName::new)?;
        let message = format!("the route `{name}` is there twice");
        names.note(name.clone(), &spot, &message, "give each route its own name");
        Some(name)
    });
    let pool_spot = section.need("pool", "the name of the pool that the requests go to");
    let pool =
        pool_spot.and_then(|spot| Some((spot.parsed("a pool's name", PoolName::new)?, spot)));
    let matcher = section.sub("match", &schema::MATCH).map(|section| matcher(&section));
    let key = match section.get("key") {
        None => Some(KeyRule::Path),
        Some(spot) => key(&spot),
    };
    let mut hash_tag = None;
    section.set("hash_tag", &mut hash_tag, self::hash_tag);
    let rule = section.get("key").or_else(|| section.get("hash_tag"));
    let mut allowed_methods = Methods::default();
    section.set("allow_methods", &mut allowed_methods, methods);
    let mut limit = None;
    section.set("rate_limit", &mut limit, |spot| spot.or_word("none", rate_limit));
    let rate_limit = limit;
    let matcher = matcher.unwrap_or_default();
    if let (Some(KeyRule::PathAfter(after)), Some(spot)) = (&key, section.get("key"))
        && !after.covers(&matcher.path_prefix)
        && !matcher.path_prefix.covers(after)
    {
        let message = format!(
            "no request has a key: the route takes paths under `{}`, and the key follows `{after}`",
            matcher.path_prefix
        );
        spot.refuse::<()>(message, "begin both with the same path");
    }
    // Half a route takes part in no comparison with others.
    let faultless = section.spot().errors() == errors;
    let spec = match (name, &pool, key) {
        (Some(name), Some((pool, _)), Some(key)) if faultless => {
            let pool = pool.clone();
            Some(RouteSpec { name, matcher, pool, key, hash_tag, allowed_methods, rate_limit })
        }
        _ => None,
    };
    WrittenRoute { spot: section.spot().clone(), spec, pool, rule }
}

pub(super) fn hash_tag(spot: &Spot<'_>) -> Option<Option<HashTag>> {
    if spot.is_map() {
        let help = "put it in quotes: `hash_tag: \"{}\"`";
        return spot.refuse("found a mapping, which is what `{}` is in YAML", help);
    }
    spot.or_word("none", |spot| spot.parsed("two characters, such as `\"{}\"`", HashTag::new))
}

fn rate_limit(spot: &Spot<'_>) -> Option<RateLimit> {
    if !spot.is_map() {
        let help = "write `{ requests_per_second: 100, burst: 200 }`";
        return spot.refuse_kind("a limit", help);
    }
    let section = spot.section(&schema::RATE_LIMIT)?;
    let number = |key, what| section.need(key, what)?.number(1..=RATE_MAX);
    let rate = number("requests_per_second", "what one client may ask in the long run");
    let burst = number("burst", "what it may ask at once after a pause");
    Some(RateLimit { requests_per_second: rate?, burst: burst? })
}

fn matcher(section: &Section<'_>) -> RouteMatch {
    let mut matcher = RouteMatch::default();
    section.set("host", &mut matcher.host, |spot| {
        spot.parsed_as(
            "a host without port, `*.example.org`, or `\"*\"` for any",
            HostPattern::parse,
        )
    });
    section.set("path_prefix", &mut matcher.path_prefix, prefix);
    section.set("path_regex", &mut matcher.path_regex, |spot| spot.or_word("none", pattern));
    section.set("methods", &mut matcher.methods, methods);
    section.set("headers", &mut matcher.fields, |spot| {
        let entries = spot.free_map("`{ X-Env: canary }`", FieldName::parse)?;
        if entries.len() > FIELDS_MAX {
            return spot.refuse(
                format!("found {} fields", entries.len()),
                format!("write at most {FIELDS_MAX}"),
            );
        }
        let field = |(name, spot)| Some(FieldMatch { name, value: field_value(&spot)? });
        Some(entries.into_iter().filter_map(field).collect())
    });
    matcher
}

fn field_value(spot: &Spot<'_>) -> Option<FieldValue> {
    match spot.text("the field's value, or `\"*\"` for any")? {
        "*" => Some(FieldValue::Any),
        text if text.bytes().any(|byte| byte.is_ascii_control()) || text.trim() != text => {
            let help = "leave out line breaks and the blanks at both ends";
            spot.refuse("no field has this value", help)
        }
        text => Some(FieldValue::Exactly(text.into())),
    }
}

fn prefix(spot: &Spot<'_>) -> Option<PathPrefix> {
    spot.parsed_as("the beginning of a path, such as `/img/`", PathPrefix::parse)
}

fn pattern(spot: &Spot<'_>) -> Option<Pattern> {
    spot.parsed_as("a regular expression, such as `^/img/([^/]+)$`", Pattern::new)
}

fn methods(spot: &Spot<'_>) -> Option<Methods> {
    let Some(spots) = spot.or_word("any", Spot::items_or_one)? else {
        return Some(Methods::default());
    };
    if spots.len() > METHODS_MAX {
        return spot.refuse(
            format!("found {} methods", spots.len()),
            format!("write at most {METHODS_MAX}"),
        );
    }
    let method = |spot: &Spot<'_>| spot.parsed_as("a method such as `GET`", Method::parse);
    Some(Methods::new(spots.iter().filter_map(method).collect()))
}

/// The keys that say where a request's key is; exactly one of them is written.
const PLACES: [&str; 7] =
    ["path", "path_after", "path_segment", "header", "query", "cookie", "path_regex"];

pub(super) fn key(spot: &Spot<'_>) -> Option<KeyRule> {
    if !spot.is_map() {
        return spot.refuse(
            "the key's place is not told",
            "write `key: { path: whole }` or another place",
        );
    }
    let section = spot.section(&schema::KEY)?;
    let written: Vec<_> =
        PLACES.into_iter().filter_map(|place| Some((place, section.get(place)?))).collect();
    let (place, value) = match written.as_slice() {
        [one] => one,
        [] => {
            return spot.refuse(
                "the key's place is not told",
                format!("write one of {}", PLACES.join(", ")),
            );
        }
        [(first, first_spot), (_, second_spot), ..] => {
            let message = format!("a key has one place, but `{first}` is written too");
            second_spot.clash(
                message,
                (first_spot.place(), "the other place"),
                "keep one of the two",
            );
            return None;
        }
    };
    if *place != "path_regex" {
        for only in ["use", "otherwise"] {
            if let Some(spot) = section.get(only) {
                return spot.refuse("belongs to `path_regex` alone", "remove it");
            }
        }
    }
    match *place {
        "path" => value.one_of(&[("whole", ())], &[]).map(|()| KeyRule::Path),
        "path_after" => prefix(value).map(KeyRule::PathAfter),
        "path_segment" => {
            let number = NonZeroU16::new(value.number(1..=1000)?).expect("the range begins at 1");
            Some(KeyRule::PathSegment(number))
        }
        "header" => value.parsed_as("the name of a field", FieldName::parse).map(KeyRule::Header),
        "query" => value
            .parsed_as("the name of a query parameter", ParameterName::parse)
            .map(KeyRule::Query),
        "cookie" => value.parsed_as("the name of a cookie", CookieName::parse).map(KeyRule::Cookie),
        _ => capture(&section, value).map(KeyRule::PathRegex),
    }
}

fn capture(section: &Section<'_>, value: &Spot<'_>) -> Option<Capture> {
    let pattern = pattern(value);
    let template = section.need("use", "the groups that are the key, such as `\"$1\"`");
    let mut otherwise = Otherwise::Path;
    let choices = [("path", Otherwise::Path), ("refuse", Otherwise::Refuse)];
    section.set("otherwise", &mut otherwise, |spot| spot.one_of(&choices, &[]));
    let pattern = pattern?;
    let template = template?
        .parsed_as("the groups that are the key, such as `\"$1\"`", |text| {
            Template::parse(text, &pattern)
        })?;
    Some(Capture { pattern, template, otherwise })
}
