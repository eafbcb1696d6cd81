//! Routes and key rules, example by example, and against what must hold for any request.

use proptest::prelude::{Just, Strategy, any, prop, prop_oneof};
use proptest::{prop_assert, prop_assert_eq, proptest};

use crate::ids::{PoolName, RouteName};
use crate::key::{self, HashTag, canonical_component};

use super::*;

fn spec(name: &str, matcher: RouteMatch, key: KeyRule) -> RouteSpec {
    RouteSpec {
        name: RouteName::new(name).expect("a good name"),
        matcher,
        pool: PoolName::new("objects").expect("a good name"),
        key,
        hash_tag: None,
        allowed_methods: Methods::default(),
        rate_limit: None,
    }
}

fn table(routes: Vec<RouteSpec>) -> RouteTable {
    RouteTable::compile(routes).expect("a good table")
}

fn prefix(text: &str) -> PathPrefix {
    PathPrefix::parse(text).expect("a good prefix")
}

fn host(text: &str) -> HostPattern {
    HostPattern::parse(text).expect("a good host")
}

fn methods(list: &[&str]) -> Methods {
    Methods::new(list.iter().map(|one| Method::parse(one).expect("a method")).collect())
}

fn fields(list: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
    list.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect()
}

/// A request whose path and query are given as `path?query`.
fn request<'a>(target: &'a str, fields: &'a dyn Fields) -> RequestView<'a> {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query.as_bytes())),
        None => (target, None),
    };
    RequestView { method: b"GET", host: b"cache.example.org", path: path.as_bytes(), query, fields }
}

fn capture(pattern: &str, template: &str, otherwise: Otherwise) -> KeyRule {
    let pattern = Pattern::new(pattern).expect("a good pattern");
    let template = Template::parse(template, &pattern).expect("a good template");
    KeyRule::PathRegex(Capture { pattern, template, otherwise })
}

fn key_with(
    rule: KeyRule,
    tag: Option<&str>,
    target: &str,
    list: &[(&str, &str)],
) -> Result<String, KeyFault> {
    let mut route = spec("r", RouteMatch::default(), rule);
    route.hash_tag = tag.map(|tag| HashTag::new(tag).expect("a good tag"));
    let table = table(vec![route]);
    let fields = fields(list);
    let view = request(target, &fields);
    let mut scratch = Vec::new();
    let ix = table.find(&view).expect("the route takes all");
    match table.key_of(ix, &view, &mut scratch) {
        Ok(key) => Ok(String::from_utf8(key.to_vec()).expect("the tests' keys are text")),
        Err(error) => Err(error.fault),
    }
}

fn key(rule: KeyRule, target: &str) -> Result<String, KeyFault> {
    key_with(rule, None, target, &[])
}

fn ok(text: &str) -> Result<String, KeyFault> {
    Ok(text.to_owned())
}

#[test]
fn keys_come_from_the_path() {
    assert_eq!(key(KeyRule::Path, "/a/b?c"), ok("/a/b"));
    let after = || KeyRule::PathAfter(prefix("/img/"));
    assert_eq!(key(after(), "/img/a/b"), ok("a/b"));
    assert_eq!(key(after(), "/img/"), Err(KeyFault::Empty));
    assert_eq!(key(after(), "/img"), Err(KeyFault::Missing));
    assert_eq!(key(KeyRule::PathAfter(prefix("/img")), "/img/a"), ok("/a"));
    assert_eq!(key(KeyRule::PathAfter(prefix("/img")), "/images"), Err(KeyFault::Missing));
    let nth = |n| KeyRule::PathSegment(SegmentNumber::new(n).expect("not zero"));
    assert_eq!(key(nth(1), "/a/b%2Fc/d"), ok("a"));
    assert_eq!(key(nth(2), "/a/b%2Fc/d"), ok("b%2Fc"));
    assert_eq!(key(nth(2), "/a/"), Err(KeyFault::Empty));
    assert_eq!(key(nth(2), "/a"), Err(KeyFault::Missing));
    assert_eq!(key(nth(1), "/"), Err(KeyFault::Empty));
}

#[test]
fn keys_come_from_a_field_that_is_there_once() {
    let rule = || KeyRule::Header(FieldName::parse("X-Tenant-Id").expect("a name"));
    let get = |list: &[(&str, &str)]| key_with(rule(), None, "/", list);
    assert_eq!(get(&[("x-tenant-ID", "t1")]), ok("t1"));
    assert_eq!(get(&[("x-other", "t1")]), Err(KeyFault::Missing));
    assert_eq!(get(&[("X-Tenant-Id", "")]), Err(KeyFault::Empty));
    let twice = [("X-Tenant-Id", "t1"), ("x-tenant-id", "t1")];
    assert_eq!(get(&twice), Err(KeyFault::Ambiguous));
}

#[test]
fn keys_come_from_the_query_in_canonical_form() {
    let rule = || KeyRule::Query(ParameterName::parse("user_id").expect("a name"));
    for (target, expected) in [
        ("/?user_id=ab", ok("ab")),
        ("/?user_id=a%62", ok("ab")),
        ("/?user%5Fid=a%62", ok("ab")),
        ("/?user%5fid=%c3%a9", ok("%C3%A9")),
        ("/?x=1&user_id=a/b&y", ok("a/b")),
        ("/?user_id=a%2fb", ok("a%2Fb")),
        ("/?user_id=a+b", ok("a+b")),
        ("/?user_id=a=b", ok("a=b")),
        ("/?user_id=a&user_id=%61", ok("a")),
        ("/?user_id=a&user_id=b", Err(KeyFault::Ambiguous)),
        ("/?user_id=a&user_id", Err(KeyFault::Ambiguous)),
        ("/?user_id=", Err(KeyFault::Empty)),
        ("/?user_id", Err(KeyFault::Empty)),
        ("/?USER_ID=a", Err(KeyFault::Missing)),
        ("/?xuser_id=a", Err(KeyFault::Missing)),
        ("/?", Err(KeyFault::Missing)),
        ("/", Err(KeyFault::Missing)),
        ("/?user_id=%", Err(KeyFault::Malformed(key::KeyError::BadEscape { at: 0 }))),
        ("/?user_id=a%4", Err(KeyFault::Malformed(key::KeyError::BadEscape { at: 1 }))),
        ("/?user_id=%00", Err(KeyFault::Malformed(key::KeyError::Nul { at: 0 }))),
        ("/?user_id=a&user_id=%", Err(KeyFault::Malformed(key::KeyError::BadEscape { at: 0 }))),
        ("/?%=1&user_id=a", ok("a")),
    ] {
        assert_eq!(key(rule(), target), expected, "{target}");
    }
}

#[test]
fn keys_come_from_a_cookie() {
    let rule = || KeyRule::Cookie(CookieName::parse("sid").expect("a name"));
    let get = |list: &[(&str, &str)]| key_with(rule(), None, "/", list);
    assert_eq!(get(&[("Cookie", "a=b; sid=x%62=; c")]), ok("x%62="));
    assert_eq!(get(&[("Cookie", "sid=\"x\"")]), ok("\"x\""));
    assert_eq!(get(&[("Cookie", "a=b"), ("Cookie", "sid=x")]), ok("x"));
    assert_eq!(get(&[("Cookie", "sid=x; sid=x")]), ok("x"));
    assert_eq!(get(&[("Cookie", "sid=x"), ("Cookie", "sid=y")]), Err(KeyFault::Ambiguous));
    assert_eq!(get(&[("Cookie", "sid=; sid=x")]), Err(KeyFault::Ambiguous));
    assert_eq!(get(&[("Cookie", "SID=x; sid; xsid=1")]), Err(KeyFault::Missing));
    assert_eq!(get(&[("Cookie", "sid=")]), Err(KeyFault::Empty));
    assert_eq!(get(&[]), Err(KeyFault::Missing));
}

/// The paths that real build-cache clients were seen to send; one rule serves all of them.
#[test]
fn one_pattern_finds_the_hash_of_every_build_cache() {
    let pattern = "^/(?:[^/]+/)*?(?:([0-9a-v]{2})/)?([0-9a-z]{16,64})$";
    let hash = "0123456789abcdef0123456789abcdef";
    let rule = |otherwise| capture(pattern, "$1$2", otherwise);
    for (path, expected) in [
        (format!("/ccache/{hash}"), hash.to_owned()),
        // A folder of two letters reads like the first letters of a hash: still one key.
        (format!("/cc/{hash}"), format!("cc{hash}")),
        (format!("/cc/ab/{hash}"), format!("ab{hash}")),
        (format!("/gradle/{hash}"), hash.to_owned()),
        ("/v8/artifacts/0123456789abcdef".to_owned(), "0123456789abcdef".to_owned()),
        ("/.sccache_check".to_owned(), "/.sccache_check".to_owned()),
    ] {
        assert_eq!(key(rule(Otherwise::Path), &path), Ok(expected), "{path}");
    }
    assert_eq!(key(rule(Otherwise::Refuse), "/.sccache_check"), Err(KeyFault::Missing));
}

#[test]
fn templates_put_groups_together() {
    let rule = |template| capture("^/(?P<a>[a-z]*)(?:/([a-z]+))?$", template, Otherwise::Refuse);
    assert_eq!(key(rule("$1a"), "/x/y"), ok("xa"));
    assert_eq!(key(rule("${a}-$$-${2}"), "/x/y"), ok("x-$-y"));
    assert_eq!(key(rule("$2"), "/x"), Err(KeyFault::Missing));
    let pattern = Pattern::new("^/(a)$").expect("a good pattern");
    for (text, error) in [
        ("$", TemplateError::Dollar),
        ("a$b", TemplateError::Dollar),
        ("${1", TemplateError::Dollar),
        ("${}", TemplateError::Dollar),
        ("$2", TemplateError::NoSuchGroup("2".to_owned())),
        ("${b}", TemplateError::NoSuchGroup("b".to_owned())),
        ("$99999999999999999999", TemplateError::NoSuchGroup("9".repeat(20))),
        ("a$$", TemplateError::NoGroup),
        ("", TemplateError::NoGroup),
    ] {
        assert_eq!(Template::parse(text, &pattern), Err(error), "{text}");
    }
}

#[test]
fn patterns_are_bounded() {
    assert_eq!(Pattern::new(&"a".repeat(1025)), Err(PatternError::TooLarge));
    assert_eq!(Pattern::new("(?:a{1000}){1000}"), Err(PatternError::TooLarge));
    assert_eq!(Pattern::new("(a"), Err(PatternError::Syntax("unclosed group".to_owned())));
    assert!(Pattern::new(&"(".repeat(500)).is_err());
    assert!(Pattern::new(r"^/[\w.-]+/\d+$").is_ok());
}

#[test]
fn only_what_stands_in_the_hash_tag_is_hashed() {
    let path = |target| key_with(KeyRule::Path, Some("{}"), target, &[]);
    assert_eq!(path("/cart/%7Bu42%7D/items/7"), ok("u42"));
    assert_eq!(path("/cart/%7B%7D/items/7"), ok("/cart/%7B%7D/items/7"));
    let rule = KeyRule::Header(FieldName::parse("k").expect("a name"));
    assert_eq!(key_with(rule, Some("{}"), "/", &[("k", "a{b}c")]), ok("b"));
}

#[test]
fn an_error_names_the_route_and_what_is_missing() {
    let rule = KeyRule::Header(FieldName::parse("X-Tenant-Id").expect("a name"));
    let table = table(vec![spec("tenants", RouteMatch::default(), rule)]);
    let mut scratch = Vec::new();
    let error = table.key_of(RouteIx(0), &request("/", &()), &mut scratch);
    assert_eq!(
        error.map_err(|error| error.to_string()),
        Err("route `tenants` takes the key from the field `x-tenant-id`, which the request does \
             not have"
            .to_owned())
    );
}

#[test]
fn hosts_match_by_name_wildcard_and_address() {
    for (pattern, matching, other) in [
        ("*", vec!["a", "", "[::1]"], vec![]),
        (
            "Cache.Example.ORG",
            vec!["cache.example.org", "cache.example.org."],
            vec!["example.org", "acache.example.org", ""],
        ),
        (
            "*.example.org",
            vec!["a.example.org", "a.b.example.org", "a.example.org."],
            vec!["example.org", ".example.org", "aexample.org", ""],
        ),
        ("192.0.2.1", vec!["192.0.2.1"], vec!["192.0.2.10"]),
        ("[2001:DB8:0::1]", vec!["[2001:db8::1]"], vec!["2001:db8::1"]),
    ] {
        let pattern = host(pattern);
        for name in matching {
            assert!(pattern.matches(name.as_bytes()), "{pattern} and {name}");
        }
        for name in other {
            assert!(!pattern.matches(name.as_bytes()), "{pattern} and {name}");
        }
    }
    for (bad, error) in [
        ("", HostError::NotAHost),
        ("a b", HostError::NotAHost),
        ("a..b", HostError::NotAHost),
        ("http://a", HostError::NotAHost),
        ("1.2.3", HostError::NotAHost),
        ("[::1", HostError::NotAHost),
        ("[zz]", HostError::NotAHost),
        ("::1", HostError::NotAHost),
        ("a:80", HostError::Port),
        ("[::1]:80", HostError::Port),
        ("*a", HostError::Star),
        ("a.*", HostError::Star),
        ("*.", HostError::Star),
        ("**", HostError::Star),
        ("*.*.a", HostError::Star),
    ] {
        assert_eq!(HostPattern::parse(bad), Err(error), "{bad}");
    }
}

#[test]
fn prefixes_end_on_the_border_of_a_segment() {
    for (text, path, rest) in [
        ("/", "/a", Some("a")),
        ("/img", "/img", Some("")),
        ("/img", "/img/a", Some("/a")),
        ("/img", "/images", None),
        ("/img", "/img%2Fa", None),
        ("/img/", "/img/a", Some("a")),
        ("/img/", "/img", None),
        ("/%7euser/{a", "/~user/%7Ba/b", Some("/b")),
    ] {
        assert_eq!(prefix(text).strip(path.as_bytes()), rest.map(str::as_bytes), "{text} {path}");
    }
    for (bad, error) in [
        ("", key::KeyError::NotAbsolute.into()),
        ("img", key::KeyError::NotAbsolute.into()),
        ("/a?b", PathPrefixError::Query),
        ("/a/../b", key::KeyError::DotSegment.into()),
        ("/a/%2e", key::KeyError::DotSegment.into()),
        ("/a%2", key::KeyError::BadEscape { at: 2 }.into()),
    ] {
        assert_eq!(PathPrefix::parse(bad), Err(error), "{bad}");
    }
}

#[test]
fn names_are_checked() {
    assert_eq!(FieldName::parse("X-A").map(|name| name.to_string()), Ok("x-a".to_owned()));
    assert_eq!(FieldName::parse("x a"), Err(NotAToken));
    assert_eq!(CookieName::parse(""), Err(NotAToken));
    assert_eq!(ParameterName::parse(""), Err(ParameterNameError::Empty));
    assert_eq!(ParameterName::parse("a=b"), Err(ParameterNameError::Delimiter));
    let bad_escape = key::KeyError::BadEscape { at: 2 };
    assert_eq!(ParameterName::parse("50%"), Err(bad_escape.into()));
    assert_eq!(ParameterName::parse("a[b]").map(|name| name.to_string()), Ok("a%5Bb%5D".into()));
    assert_eq!(Method::parse("get"), Err(MethodError::LowerCase));
    assert_eq!(Method::parse("TRACE"), Err(MethodError::NeverRouted));
    assert_eq!(Method::parse("G T"), Err(MethodError::NotAToken(NotAToken)));
    assert!(Method::parse("VERSION-CONTROL").is_ok());
}

#[test]
fn the_first_match_in_file_order_wins() {
    let canary = FieldMatch {
        name: FieldName::parse("X-Env").expect("a name"),
        value: FieldValue::Exactly("canary".into()),
    };
    let all = RouteMatch::default;
    let table = table(vec![
        spec("canary", RouteMatch { fields: vec![canary], ..all() }, KeyRule::Path),
        spec("host", RouteMatch { host: host("*.img.example"), ..all() }, KeyRule::Path),
        spec("put", RouteMatch { methods: methods(&["PUT", "POST"]), ..all() }, KeyRule::Path),
        spec(
            "jpg",
            RouteMatch {
                path_prefix: prefix("/img"),
                path_regex: Some(Pattern::new(r"\.jpe?g$").expect("a good pattern")),
                ..all()
            },
            KeyRule::Path,
        ),
        spec("img", RouteMatch { path_prefix: prefix("/img"), ..all() }, KeyRule::Path),
    ]);
    let found = |view: &RequestView<'_>| {
        table.find(view).map(|ix| table.route(ix).name.as_str().to_owned())
    };
    let canary_fields = fields(&[("x-env", "prod"), ("X-ENV", "canary")]);
    let prod_fields = fields(&[("x-env", "prod")]);
    let on_img = |target| RequestView { host: b"a.img.example", ..request(target, &()) };
    let put = |target| RequestView { method: b"PUT", ..request(target, &()) };
    assert_eq!(found(&request("/img/a.jpg", &canary_fields)).as_deref(), Some("canary"));
    assert_eq!(found(&request("/img/a.jpg", &prod_fields)).as_deref(), Some("jpg"));
    assert_eq!(found(&on_img("/img/a.jpg")).as_deref(), Some("host"));
    assert_eq!(found(&put("/x")).as_deref(), Some("put"));
    assert_eq!(found(&request("/img/a.jpeg", &())).as_deref(), Some("jpg"));
    assert_eq!(found(&request("/img/a.png", &())).as_deref(), Some("img"));
    assert_eq!(found(&request("/other.jpg", &())), None);
}

#[test]
fn tables_refuse_twins_and_crowds() {
    let route = |name: &str| spec(name, RouteMatch::default(), KeyRule::Path);
    let twins = RouteTable::compile(vec![route("a"), route("b"), route("a")]);
    let name = RouteName::new("a").expect("a good name");
    assert_eq!(twins.err(), Some(RouteTableError::DuplicateName(name)));
    let crowd = (0..=ROUTES_MAX).map(|n| route(&format!("r{n}"))).collect();
    assert_eq!(RouteTable::compile(crowd).err(), Some(RouteTableError::TooMany(ROUTES_MAX + 1)));
    assert!(table(vec![]).find(&request("/", &())).is_none());
}

/// Every part of a route, so that the digest of this list changes with the encoding of any.
fn one_of_each() -> Vec<RouteSpec> {
    let field = |name, value| FieldMatch { name: FieldName::parse(name).expect("a name"), value };
    let mut first = spec(
        "first",
        RouteMatch {
            host: host("*.example.org"),
            path_prefix: prefix("/a"),
            path_regex: Some(Pattern::new("x$").expect("a good pattern")),
            methods: methods(&["PUT", "GET"]),
            fields: vec![
                field("X-A", FieldValue::Any),
                field("X-B", FieldValue::Exactly("b".into())),
            ],
        },
        capture("^/(.)", "$1", Otherwise::Refuse),
    );
    first.hash_tag = HashTag::new("{}").ok();
    first.allowed_methods = methods(&["GET"]);
    let rules = [
        KeyRule::Path,
        KeyRule::PathAfter(prefix("/a")),
        KeyRule::PathSegment(SegmentNumber::new(2).expect("not zero")),
        KeyRule::Header(FieldName::parse("a").expect("a name")),
        KeyRule::Query(ParameterName::parse("a").expect("a name")),
        KeyRule::Cookie(CookieName::parse("a").expect("a name")),
        capture("^/(.)", "$1", Otherwise::Path),
    ];
    let others = rules.into_iter().enumerate().map(|(n, rule)| {
        spec(&format!("r{n}"), RouteMatch { host: host("a"), ..RouteMatch::default() }, rule)
    });
    std::iter::once(first).chain(others).collect()
}

#[test]
fn the_digest_is_pinned() {
    let pinned = "5f6b8955bd89f41fb06f2ed6b8a36ea83332f8ff30c3f5475ccb73e47e787bdf";
    assert_eq!(table(one_of_each()).digest().to_string(), pinned);
}

#[test]
fn the_digest_tells_any_two_tables_apart() {
    let whole = one_of_each();
    let mut digests = vec![table(whole.clone()).digest()];
    for at in 0..whole.len() {
        let mut less = whole.clone();
        less.remove(at);
        digests.push(table(less).digest());
        let mut moved = whole.clone();
        moved.swap(at, (at + 1) % whole.len());
        digests.push(table(moved).digest());
        let mut tagged = whole.clone();
        tagged[at].hash_tag = HashTag::new("<>").ok();
        digests.push(table(tagged).digest());
    }
    let count = digests.len();
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), count);
}

fn some_host() -> impl Strategy<Value = HostPattern> {
    prop_oneof![
        Just("*"),
        Just("a.b"),
        Just("c.a.b"),
        Just("b"),
        Just("*.b"),
        Just("*.a.b"),
        Just("[::1]")
    ]
    .prop_map(host)
}

fn some_match() -> impl Strategy<Value = RouteMatch> {
    let field = || {
        let value = prop_oneof![Just(FieldValue::Any), Just(FieldValue::Exactly("1".into()))];
        (prop_oneof![Just("x"), Just("y")], value).prop_map(|(name, value)| FieldMatch {
            name: FieldName::parse(name).expect("a name"),
            value,
        })
    };
    (
        some_host(),
        prop_oneof![Just("/"), Just("/a"), Just("/a/"), Just("/a/b"), Just("/ab")],
        prop::option::of(prop_oneof![Just("b$"), Just("^/a")]),
        prop::sample::subsequence(vec!["GET", "PUT", "DELETE"], 0..=3),
        prop::collection::vec(field(), 0..=2),
    )
        .prop_map(|(host, path, regex, method, fields)| RouteMatch {
            host,
            path_prefix: prefix(path),
            path_regex: regex.map(|text| Pattern::new(text).expect("a good pattern")),
            methods: methods(&method),
            fields,
        })
}

proptest! {
    /// However a client escapes a value, it is the same key; another value is another key.
    #[test]
    fn one_query_value_is_one_key(
        left in "[a-zA-Z0-9é{}_~-]{1,6}",
        right in "[a-zA-Z0-9é{}_~-]{1,6}",
        escape in prop::collection::vec(any::<bool>(), 12),
    ) {
        let spell = |text: &str| -> String {
            let bytes = text.bytes().zip(&escape);
            bytes.map(|(byte, &escape)| match byte {
                _ if escape || !byte.is_ascii_graphic() => format!("%{byte:02x}"),
                _ => char::from(byte).to_string(),
            }).collect()
        };
        let rule = || KeyRule::Query(ParameterName::parse("id").expect("a name"));
        let key_of = |text: &str| key(rule(), &format!("/?x=y&id={text}"));
        let form = canonical_component(left.as_bytes()).expect("a good value");
        let form = String::from_utf8(form.into_owned()).expect("the canonical form is ASCII");
        prop_assert_eq!(key_of(&spell(&left)), Ok(form.clone()));
        prop_assert_eq!(key_of(&spell(&right)) == Ok(form), left == right);
    }

    /// A route that is said to be unreachable is.
    #[test]
    fn what_is_covered_is_never_reached(
        first in some_match(),
        second in some_match(),
        host in prop_oneof![Just("a.b"), Just("b"), Just("c.a.b"), Just("x.c.a.b"), Just("")],
        path in prop_oneof![Just("/"), Just("/a"), Just("/a/"), Just("/a/b"), Just("/ab"), Just("/b")],
        method in prop_oneof![Just("GET"), Just("PUT"), Just("PATCH")],
        list in prop::collection::vec((prop_oneof![Just("x"), Just("y")], prop_oneof![Just("1"), Just("2")]), 0..3),
    ) {
        let fields = fields(&list);
        let view = RequestView {
            method: method.as_bytes(),
            host: host.as_bytes(),
            path: path.as_bytes(),
            query: None,
            fields: &fields,
        };
        if first.covers(&second) && second.matches(&view) {
            prop_assert!(first.matches(&view));
        }
        prop_assert!(first.covers(&first));
        prop_assert!(RouteMatch::default().covers(&first));
    }

    /// Whatever a client sends, a rule answers with a key or an error, and never an empty key.
    #[test]
    fn no_request_breaks_a_rule(
        path in "/[a-z0-9/%{}._-]{0,24}",
        query in prop::option::of(prop::collection::vec(any::<u8>(), 0..24)),
        value in prop::collection::vec(any::<u8>(), 0..16),
        twice in any::<bool>(),
    ) {
        let mut list = vec![("a".to_owned(), value.clone()), ("cookie".to_owned(), value.clone())];
        if twice {
            list.push(("A".to_owned(), value));
        }
        let view = RequestView {
            method: b"GET",
            host: b"a",
            path: path.as_bytes(),
            query: query.as_deref(),
            fields: &list,
        };
        let table = table(one_of_each());
        let mut scratch = Vec::new();
        for ix in 0..table.routes().len() {
            let ix = RouteIx(u16::try_from(ix).expect("few routes"));
            if let Ok(key) = table.key_of(ix, &view, &mut scratch) {
                prop_assert!(!key.is_empty());
            }
        }
    }
}
