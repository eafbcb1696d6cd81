//! What does each key of a route take, and what does it mean?

use super::takes::Takes::{Either, Entries, Number, Section, Text, Words};
use super::takes::{Described, METHODS, NAME, PREFIX, TOKEN, key};
use crate::config::schema;

pub(super) const SECTIONS: &[Described] = &[
    Described {
        section: &schema::ROUTE,
        says: "Which requests go to which pool, and where is their key?",
        rule: "",
        keys: &[
            key("name", NAME, "For metrics and logs.").needed(),
            key("match", Section(&schema::MATCH), "Which requests; all unless set."),
            key("pool", NAME, "The pool that they go to.").needed(),
            key("key", Section(&schema::KEY), "Where their key is; the whole path unless set."),
            key(
                "hash_tag",
                Either(&[Words(&["none"]), Text("^[!-$&-.0-~]{2}$")]),
                "Two characters, as \"{}\": only what stands between the first pair in a key is \
                 hashed.",
            )
            .usually("none"),
            key("allow_methods", METHODS, "Other methods are answered 405.").usually("any"),
            key(
                "rate_limit",
                Either(&[Words(&["none"]), Section(&schema::RATE_LIMIT)]),
                "What one client may ask; more is answered 429.",
            )
            .usually("none"),
        ],
    },
    Described {
        section: &schema::RATE_LIMIT,
        says: "What one client, an IPv4 address or an IPv6 /64, may ask of one node.",
        rule: "",
        keys: &[
            key("requests_per_second", Number(1, 100_000), "In the long run.").needed(),
            key("burst", Number(1, 100_000), "At once, after a pause.").needed(),
        ],
    },
    Described {
        section: &schema::MATCH,
        says: "Which requests does the route take?",
        rule: "",
        keys: &[
            key("host", Text("^.+$"), "A name, *.NAME for all below it, \"*\" for any.")
                .usually("\"*\""),
            key("path_prefix", PREFIX, "A path and all below it; with a / at its end only below.")
                .usually("/"),
            key("path_regex", Text(""), "A regular expression for the path; none: any.")
                .usually("none"),
            key("methods", METHODS, "Other methods go on to the next route.").usually("any"),
            key("headers", Entries(&Text(""), 16), "Fields and their values; \"*\" for any value.")
                .usually("{}"),
        ],
    },
    Described {
        section: &schema::KEY,
        says: "Where is a request's key? Exactly one place.",
        rule: r#"{
            "oneOf": [
                { "required": ["path"] }, { "required": ["path_after"] },
                { "required": ["path_segment"] }, { "required": ["header"] },
                { "required": ["query"] }, { "required": ["cookie"] },
                { "required": ["path_regex", "use"] }
            ],
            "dependentRequired": { "use": ["path_regex"], "otherwise": ["path_regex"] }
        }"#,
        keys: &[
            key("path", Words(&["whole"]), "The whole path."),
            key("path_after", PREFIX, "What follows this prefix."),
            key("path_segment", Number(1, 1000), "A segment of the path, counted from 1."),
            key("header", Text(TOKEN), "A field that the request has once."),
            key("query", Text("^[^=&#]+$"), "A query parameter."),
            key("cookie", Text(TOKEN), "A cookie."),
            key(
                "path_regex",
                Text(""),
                "What a regular expression captures of the path; with `use`.",
            ),
            key("use", Text("\\$"), "The captured groups: $1, ${1} or ${name}."),
            key(
                "otherwise",
                Words(&["path", "refuse"]),
                "If the path does not match: the whole path is the key, or 400.",
            )
            .usually("path"),
        ],
    },
];
