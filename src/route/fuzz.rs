//! Does the table choose the route that its words promise, whatever is asked?

use std::borrow::Cow;

use super::{
    FieldMatch, FieldName, FieldValue, HostPattern, KeyRule, Method, Methods, PathPrefix,
    RequestView, RouteMatch, RouteSpec, RouteTable,
};
use crate::ids::{PoolName, RouteName};
use crate::key::canonical_path;
use crate::key::mutants::{ORDINARY_RUN, Recipe, mutant};

const HOSTS: [&str; 6] = ["*", "a.example", "*.example", "*.b.example", "[::1]", "192.0.2.1"];
const PREFIXES: [&str; 7] = ["/", "/a", "/a/", "/a/b", "/%7Ba", "/a%2Fb", "/A"];
const METHODS: [&[&str]; 4] = [&[], &["GET"], &["GET", "PUT"], &["M-SEARCH"]];
const ASKED_HOSTS: [&str; 9] = [
    "",
    "a.example",
    "a.example.",
    "b.example",
    "x.b.example",
    "example",
    ".example",
    "[::1]",
    "192.0.2.1",
];
const ASKED_METHODS: [&str; 5] = ["GET", "PUT", "get", "M-SEARCH", "DELETE"];
const PATHS: [&[u8]; 6] = [b"/", b"/a", b"/a/b/c", b"/ab", b"/{a}/b", b"/a%2Fb/c"];
const WORDS: [&[u8]; 12] =
    [b"/", b"a", b"b", b"A", b"%2f", b"%61", b"%7b", b"{", b"//", b".", b"b/", b"/a"];

/// One route: which host, prefix, methods, and which value of `X`, if any.
type Choice = (u8, u8, u8, u8);

fn pick<T: Copy>(from: &[T], at: u8) -> T {
    from[usize::from(at) % from.len()]
}

fn route(number: usize, (host, prefix, methods, field): Choice) -> RouteSpec {
    let method = |name: &&str| Method::parse(name).expect("a method");
    let value = match field % 4 {
        0 | 1 => None,
        2 => Some(FieldValue::Any),
        _ => Some(FieldValue::Exactly("1".into())),
    };
    let name = FieldName::parse("x").expect("a name");
    RouteSpec {
        name: RouteName::new(&format!("r{number}")).expect("a name"),
        matcher: RouteMatch {
            host: HostPattern::parse(pick(&HOSTS, host)).expect("a host"),
            path_prefix: PathPrefix::parse(pick(&PREFIXES, prefix)).expect("a prefix"),
            methods: Methods::new(pick(&METHODS, methods).iter().map(method).collect()),
            fields: value.map(|value| FieldMatch { name, value }).into_iter().collect(),
            path_regex: None,
        },
        pool: PoolName::new("p").expect("a name"),
        key: KeyRule::Path,
        hash_tag: None,
        allowed_methods: Methods::default(),
        rate_limit: None,
    }
}

/// Whether a route takes a request, by the words of the configuration's reference.
fn takes(choice: Choice, host: &str, path: &str, method: &str, x: Option<&str>) -> bool {
    let (pattern, prefix) = (pick(&HOSTS, choice.0), pick(&PREFIXES, choice.1));
    let host = host.strip_suffix('.').unwrap_or(host);
    let host_fits = match pattern.strip_prefix('*') {
        Some("") => true,
        Some(parent) => host.strip_suffix(parent).is_some_and(|label| !label.is_empty()),
        None => host == pattern,
    };
    let segments = |text: &str| text.split('/').map(str::to_owned).collect::<Vec<_>>();
    let path_fits = match prefix.strip_suffix('/') {
        Some(folder) => segments(path).len() > segments(folder).len() && path.starts_with(prefix),
        None => segments(path).starts_with(&segments(prefix)),
    };
    let methods = pick(&METHODS, choice.2);
    let field_fits = match choice.3 % 4 {
        0 | 1 => true,
        2 => x.is_some(),
        _ => x == Some("1"),
    };
    host_fits && path_fits && field_fits && (methods.is_empty() || methods.contains(&method))
}

#[test]
fn fuzz_routes() {
    type Asked = (Recipe, u8, u8, u8);
    bolero::check!()
        .with_iterations(5 * ORDINARY_RUN)
        .with_type::<(Vec<Choice>, Asked)>()
        .for_each(|(choices, (recipe, host, method, x))| {
            let choices = &choices[..choices.len().min(8)];
            let routes = choices.iter().enumerate().map(|(n, choice)| route(n, *choice)).collect();
            let table = RouteTable::compile(routes).expect("names differ");
            let Ok(path) = canonical_path(&mutant(&PATHS, &WORDS, recipe)).map(Cow::into_owned)
            else {
                return;
            };
            let (host, method) = (pick(&ASKED_HOSTS, *host), pick(&ASKED_METHODS, *method));
            let x = [None, Some("1"), Some("2")][usize::from(*x) % 3];
            let fields: Vec<(String, Vec<u8>)> =
                x.iter().map(|value| ("X".to_owned(), value.as_bytes().to_vec())).collect();
            let view = RequestView {
                method: method.as_bytes(),
                host: host.as_bytes(),
                path: &path,
                query: None,
                fields: &fields,
            };
            let text = std::str::from_utf8(&path).expect("the canonical form is ASCII");
            let wanted = choices.iter().position(|choice| takes(*choice, host, text, method, x));
            let found = table.find(&view).map(|ix| usize::from(ix.0));
            assert_eq!(found, wanted, "{choices:?} for {method} {host} {text} {x:?}");
            // What one route covers never reaches the next.
            if let Some(found) = found {
                let taker = &table.routes()[found].matcher;
                let shadowed = |route: &RouteSpec| route.matcher.covers(taker);
                assert!(!table.routes()[..found].iter().any(shadowed), "{choices:?} {text}");
            }
            let mut scratch = Vec::new();
            if let Some(ix) = table.find(&view) {
                assert_eq!(table.key_of(ix, &view, &mut scratch).ok(), Some(&path[..]));
            }
        });
}
