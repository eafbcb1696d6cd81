//! What is the digest of a list of routes?
//!
//! BLAKE3 over one canonical encoding: texts and lists are preceded by their length (32 bits,
//! little-endian), choices by one byte. The encoding is pinned by a test; nodes of different
//! releases compare digests, so it changes only together with `ENCODING`.

use crate::ids::Digest;
use crate::key::HashTag;

use super::key_rule::{KeyRule, Otherwise};
use super::matcher::{FieldValue, RouteMatch};
use super::names::Methods;
use super::table::RouteSpec;

/// Names this encoding and its version; the first bytes of what is hashed.
const ENCODING: &[u8] = b"ringway routes 1";

pub(super) fn digest(routes: &[RouteSpec]) -> Digest {
    let mut encoder = Encoder(blake3::Hasher::new());
    encoder.text(ENCODING);
    encoder.length(routes.len());
    routes.iter().for_each(|route| encoder.route(route));
    Digest(*encoder.0.finalize().as_bytes())
}

struct Encoder(blake3::Hasher);

impl Encoder {
    fn choice(&mut self, number: u8) {
        self.0.update(&[number]);
    }

    fn length(&mut self, length: usize) {
        let length = u32::try_from(length).expect("a configuration is smaller than 4 GiB");
        self.0.update(&length.to_le_bytes());
    }

    fn text(&mut self, text: &[u8]) {
        self.length(text.len());
        self.0.update(text);
    }

    fn str(&mut self, text: &str) {
        self.text(text.as_bytes());
    }

    /// One text out of a choice of kinds.
    fn kind(&mut self, number: u8, text: &str) {
        self.choice(number);
        self.str(text);
    }

    fn route(&mut self, route: &RouteSpec) {
        self.str(route.name.as_str());
        self.matcher(&route.matcher);
        self.str(route.pool.as_str());
        self.key(&route.key);
        match route.hash_tag.map(HashTag::delimiters) {
            None => self.choice(0),
            Some((open, close)) => self.kind(1, &String::from_iter([open, close])),
        }
        self.methods(&route.allowed_methods);
    }

    fn matcher(&mut self, matcher: &RouteMatch) {
        self.str(&matcher.host.to_string());
        self.str(matcher.path_prefix.as_str());
        self.str(matcher.path_regex.as_ref().map_or("", |pattern| pattern.as_str()));
        self.methods(&matcher.methods);
        self.length(matcher.fields.len());
        for field in &matcher.fields {
            self.str(field.name.as_str());
            match &field.value {
                FieldValue::Any => self.choice(0),
                FieldValue::Exactly(value) => self.kind(1, value),
            }
        }
    }

    fn methods(&mut self, methods: &Methods) {
        self.length(methods.iter().count());
        methods.iter().for_each(|method| self.str(method));
    }

    fn key(&mut self, key: &KeyRule) {
        match key {
            KeyRule::Path => self.choice(0),
            KeyRule::PathAfter(prefix) => self.kind(1, prefix.as_str()),
            KeyRule::PathSegment(number) => self.kind(2, &number.to_string()),
            KeyRule::Header(name) => self.kind(3, name.as_str()),
            KeyRule::Query(name) => self.kind(4, name.as_str()),
            KeyRule::Cookie(name) => self.kind(5, name.as_str()),
            KeyRule::PathRegex(capture) => {
                self.kind(6, capture.pattern.as_str());
                self.str(capture.template.as_str());
                self.choice(match capture.otherwise {
                    Otherwise::Path => 0,
                    Otherwise::Refuse => 1,
                });
            }
        }
    }
}
