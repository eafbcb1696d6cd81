//! Files that are wrong with what is said of them, examples that must be right, and bounds on the
//! time that any text takes.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use proptest::prelude::{Strategy, any, prop, prop_oneof};
use proptest::sample::Index;
use proptest::{prop_assert, prop_assert_eq, proptest};

use crate::cluster::{ClusterState, changes};

use super::diagnostic::Findings;
use super::load::check;
use super::raw::{Kind, Node, Scalar, Shape};
use super::*;

pub(super) const EXAMPLES: [&str; 5] =
    ["minimal", "build-cache", "object-cache", "cluster", "full"];

pub(super) fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub(super) fn example_text(name: &str) -> String {
    let path = repository().join("config").join(name).with_extension("yaml");
    std::fs::read_to_string(path).expect("the example is there")
}

fn example(name: &str) -> Loaded {
    parse(&example_text(name), name)
        .unwrap_or_else(|diagnostics| panic!("{name} has errors:\n{diagnostics}"))
}

pub(super) fn node(text: &str) -> Node {
    Node::read(text, &Findings::default()).expect("the text is YAML")
}

/// Compares `answer` with the file `expected` below `tests/config`. With `RINGWAY_BLESS=1` the file
/// is written anew, to be read before it is committed. Returns what differs.
fn differs(expected: &std::path::Path, answer: &str) -> Option<String> {
    if std::env::var_os("RINGWAY_BLESS").is_some() {
        std::fs::write(expected, answer).expect("the answer can be written");
    }
    let same = std::fs::read_to_string(expected).is_ok_and(|text| text == answer);
    (!same).then(|| format!("{}:\n{answer}\n", expected.display()))
}

#[test]
fn the_examples_are_right_and_say_what_they_mean() {
    for name in EXAMPLES {
        let path = repository().join("config").join(name).with_extension("yaml");
        let loaded = load(&path).unwrap_or_else(|diagnostics| panic!("{diagnostics}"));
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
        let expected = repository().join("tests/config/described").join(name);
        let differs = differs(&expected.with_extension("expected"), &loaded.config.describe());
        assert_eq!(differs, None);
    }
}

#[test]
fn the_cluster_takes_what_the_examples_want() {
    for name in EXAMPLES {
        let mut state = ClusterState::default();
        for command in changes(&state, &example(name).config.desired()) {
            let command = state.planned(command);
            state.apply_command(&command).expect("a checked configuration is accepted");
        }
        assert!(!state.pools().is_empty());
    }
}

/// The build cache's rule finds the hash in the paths that real clients send.
#[test]
fn the_build_cache_has_one_key_for_each_object() {
    use crate::route::{RequestView, RouteTable};
    let table = RouteTable::compile(example("build-cache").config.routes).expect("good routes");
    let hash = "0123456789abcdef0123456789abcdef";
    for (path, expected) in [
        (format!("/ccache/{hash}"), hash.to_owned()),
        (format!("/ccache/0f/{hash}"), format!("0f{hash}")),
        (format!("/ac/{hash}{hash}"), format!("ac{hash}{hash}")),
        ("/.sccache_check".to_owned(), "/.sccache_check".to_owned()),
    ] {
        let path = path.as_bytes();
        let view = RequestView { method: b"PUT", host: b"", path, query: None, fields: &() };
        let ix = table.find(&view).expect("the route takes all");
        let mut scratch = Vec::new();
        let key = table.key_of(ix, &view, &mut scratch).expect("each path has a key");
        assert_eq!(String::from_utf8_lossy(key), expected);
    }
}

/// What `config/full.yaml` calls a default is one.
#[test]
fn the_full_example_equals_its_mandatory_parts() {
    let mandatory = "
listen:
  data:
    - 127.0.0.1:8080
    - address: 127.0.0.1:8443
      tls: { certificates: { cert: tls/site.pem, key: tls/site.key } }
tracing: { otlp: 'http://127.0.0.1:4318/v1/traces' }
cluster:
  tls: { ca: tls/ca.pem, cert: tls/n1.pem, key: tls/n1.key }
pools:
  - name: objects
    shards:
      - { id: s1, url: http://127.0.0.1:9001 }
      - { id: s2, url: http://127.0.0.1:9002 }
  - name: documents
    kind: replicated
    shards:
      - { id: d1, url: http://127.0.0.1:9011 }
      - { id: d2, url: http://127.0.0.1:9012 }
      - { id: d3, url: http://127.0.0.1:9013 }
routes:
  - name: tenants
    match:
      host: '*.example.org'
      path_prefix: /tenants
      path_regex: '/[0-9]+$'
      methods: [GET, HEAD]
      headers: { X-Env: canary }
    pool: objects
    key: { header: X-Tenant-Id }
  - { name: by-prefix, pool: objects, match: { path_prefix: /after }, key: { path_after: /after/ } }
  - { name: by-segment, pool: objects, match: { path_prefix: /users }, key: { path_segment: 2 } }
  - { name: by-query, pool: objects, match: { path_prefix: /search }, key: { query: user_id } }
  - { name: by-cookie, pool: objects, match: { path_prefix: /app }, key: { cookie: sid },
      rate_limit: { requests_per_second: 100, burst: 200 } }
  - name: by-regex
    match: { path_prefix: /img }
    pool: objects
    key: { path_regex: '^/img/([^/]+)/([^/]+)', use: '$1/$2' }
  - { name: documents, pool: documents, match: { path_prefix: /documents/ } }
  - { name: all, pool: objects }
";
    let mandatory = parse(mandatory, "mandatory").expect("the mandatory parts suffice");
    assert_eq!(example("full").config, mandatory.config);
}

/// One entry of a mapping: the key path with `[]` for the items of lists, the one with numbers,
/// and the way to it from the root.
pub(super) struct Written {
    pub(super) section: String,
    pub(super) key: String,
    pub(super) path: String,
    way: Vec<usize>,
}

impl Written {
    /// The value in the tree from which this was made.
    pub(super) fn value_in<'a>(&self, root: &'a mut Node) -> &'a mut Node {
        let mut at = root;
        for &step in &self.way {
            at = match &mut at.shape {
                Shape::List(items) => &mut items[step],
                Shape::Map(entries) => &mut entries[step].value,
                Shape::Scalar(_) => unreachable!("the way leads through lists and mappings"),
            };
        }
        at
    }
}

pub(super) fn written(root: &Node) -> Vec<Written> {
    fn visit(node: &Node, section: &str, path: &str, way: &[usize], out: &mut Vec<Written>) {
        let longer = |at: usize| [way, &[at]].concat();
        match &node.shape {
            Shape::Scalar(_) => {}
            Shape::List(items) => {
                for (at, item) in items.iter().enumerate() {
                    let path = format!("{path}[{at}]");
                    visit(item, &format!("{section}[]"), &path, &longer(at), out);
                }
            }
            Shape::Map(entries) => {
                for (at, entry) in entries.iter().enumerate() {
                    let (key, way) = (entry.key.clone(), longer(at));
                    let join = |to: &str| match to {
                        "" => key.clone(),
                        to => format!("{to}.{key}"),
                    };
                    let (inner, path) = (join(section), join(path));
                    visit(&entry.value, &inner, &path, &way, out);
                    out.push(Written { section: section.to_owned(), key, path, way });
                }
            }
        }
    }
    let mut out = Vec::new();
    visit(root, "", "", &[], &mut out);
    out
}

#[test]
fn the_full_example_names_every_key() {
    let text = example_text("full");
    let written: BTreeSet<_> =
        written(&node(&text)).into_iter().map(|one| (one.section, one.key)).collect();
    for keys in schema::ALL {
        for key in keys.known {
            let wanted = (keys.at.to_owned(), (*key).to_owned());
            assert!(written.contains(&wanted), "`{}` has no `{key}` in the example", keys.at);
        }
    }
}

/// No key is ignored: a value that makes no sense is an error, whichever key it stands at.
#[test]
fn every_key_is_read() {
    let root = node(&example_text("full"));
    for one in written(&root) {
        let mut root = root.clone();
        let at = one.value_in(&mut root);
        let place = at.place;
        let nonsense = Node { place, shape: Shape::Map(vec![]) };
        at.shape = Shape::List(vec![Node { place, shape: Shape::List(vec![nonsense]) }]);
        let findings = Findings::default();
        check(&root, &findings);
        let diagnostics = Diagnostics::new("full.yaml", "", findings);
        let told = diagnostics
            .list()
            .iter()
            .any(|found| found.severity == Severity::Error && found.key.starts_with(&one.path));
        assert!(told, "nobody reads `{}`", one.path);
    }
}

/// Every file of `tests/config/bad` is answered with the text beside it; its name says what it
/// shows.
#[test]
fn bad_files_are_explained() {
    let folder = repository().join("tests/config/bad");
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("its entries can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    assert!(files.len() >= 40, "only {} files were found", files.len());
    let differing: Vec<_> = files
        .iter()
        .filter_map(|path| {
            let text = std::fs::read_to_string(path).expect("the file can be read");
            let answer = parse(&text, "config.yaml").map_or_else(|all| all, |good| good.warnings);
            differs(&path.with_extension("expected"), &format!("{answer}\n"))
        })
        .collect();
    assert!(differing.is_empty(), "unexpected answers:\n{}", differing.concat());
}

#[test]
fn only_errors_make_a_file_unusable() {
    let path = "tests/config/bad/warnings_alone_let_a_file_pass.yaml";
    let loaded = load(&repository().join(path)).expect("warnings are no errors");
    assert_eq!(loaded.config.pools.len(), 2);
    assert!(!loaded.warnings.is_empty() && !loaded.warnings.has_errors());
}

#[test]
fn a_file_that_cannot_be_read_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ringway.yaml");
    let answer = |bytes: Option<&[u8]>| {
        if let Some(bytes) = bytes {
            std::fs::write(&path, bytes).expect("a file");
        }
        let answer = load(&path).expect_err("the file is bad").to_string();
        answer.replace(&path.display().to_string(), "FILE")
    };
    assert_eq!(
        answer(None),
        "FILE: error: cannot be read: No such file or directory (os error 2)\n\n1 error"
    );
    assert_eq!(
        answer(Some(b"node:\n  name: caf\xe9\n")),
        "FILE:2:12: error: this is not UTF-8\n   2 |   name: caf\u{fffd}\n     |            ^\n  \
         = help: save the file as UTF-8\n\n1 error"
    );
    let large = vec![b' '; usize::try_from(FILE_BYTES_MAX).expect("small") + 1];
    assert!(answer(Some(&large)).contains("larger than 1 MiB"));
    let mut marked = b"\xef\xbb\xbf".to_vec();
    marked.extend(example_text("minimal").bytes());
    std::fs::write(&path, marked).expect("a file");
    assert_eq!(load(&path).map(|loaded| loaded.config), Ok(example("minimal").config));
}

/// Lists of problems are bounded, too, and their number is still told.
#[test]
fn very_many_problems_are_counted() {
    let lines: String = (0..5000).map(|number| format!("key{number}: 1\n")).collect();
    let answer = parse(&lines, "config.yaml").expect_err("the file is bad").to_string();
    assert!(answer.ends_with("5002 errors; 4802 of them are not shown"), "{answer:.100}");
}

/// No number of warnings hides an error.
#[test]
fn errors_after_very_many_warnings_are_told() {
    let pool = |number| {
        let shards = "shards: [{ id: a, url: http://a, state: maint }]";
        format!("  - {{ name: p{number}, limits: {{ idle: 90s }}, {shards} }}\n")
    };
    let pools: String = (0..250).map(pool).collect();
    let text = format!("pools:\n{pools}routes: [{{ name: '*', pool: p1 }}]\n");
    let answer = parse(&text, "config.yaml").expect_err("a route has a bad name");
    assert_eq!(answer.list().iter().filter(|one| one.severity == Severity::Error).count(), 1);
    assert!(answer.to_string().ends_with("1 error, 749 warnings; 549 of them are not shown"));
}

/// Whatever a quarter of a mebibyte can hold is refused or read within moments: the bound is far above
/// what is needed (the slowest takes 0.1 s unoptimised), and far below what anything worse than
/// linear would take.
#[test]
fn hostile_files_take_bounded_time() {
    let length = usize::try_from(FILE_BYTES_MAX / 4).expect("small");
    let indented: String = (0..1400).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    let pieces = [
        "[",
        "{a: ",
        "- ",
        "? ",
        "[? ",
        "[[],",
        "{? a ",
        "a: b\n",
        "- &a x\n",
        "*a ",
        " ",
        "\t",
        "\n",
        "# c\n",
        "---\n",
        "!a ",
        "%TAG ! a\n",
        "\"a\": 'b'\n",
        ": ",
        "a\n",
        "''",
        "\u{e9}",
        "- - - -\n",
        "a: [b, c]\n",
        "-\n",
        "'\n\n'",
        "a:\n",
        "- 0123456789\n",
        "[0123456789], ",
    ];
    let starts = ["", "a: ", "a: \"", "a: '", "a: |\n  ", "a: >\n", "[", "- [a, ", "pools:\n"];
    let repeated = starts.iter().flat_map(|start| {
        pieces.iter().map(move |piece| {
            let count = (length - start.len()) / piece.len();
            format!("{start}{}", piece.repeat(count))
        })
    });
    let long = "x".repeat(length / 2);
    let repeated_text = format!("a: &a {long}\nb: [{}]\n", "*a, ".repeat(length / 8));
    let shards = "{ id: *a, url: *a },".repeat(length / 48);
    let repeated_errors = format!("node: &a {long}\npools: [{{ shards: [{shards}] }}]\n");
    for text in repeated.chain([indented, repeated_text, repeated_errors]) {
        let start = Instant::now();
        let answer = parse(&text, "config.yaml").map_or_else(|all| all, |good| good.warnings);
        let shown = answer.to_string();
        let taken = start.elapsed();
        assert!(taken < Duration::from_secs(60), "{taken:?} for {text:.40}");
        assert!(shown.len() < 1_000_000, "{} bytes for {:.40}", shown.len(), text);
    }
}

/// What an editor's slip, or a script gone wrong, does to a file.
#[derive(Debug, Clone)]
enum Slip {
    Remove(Index, usize),
    Repeat(Index, usize),
    Insert(Index, String),
    Indent(Index, usize),
}

fn some_slip() -> impl Strategy<Value = Slip> {
    let words = [
        ":",
        ": ",
        "-",
        "- ",
        "\n",
        "\t",
        "  ",
        "[",
        "]",
        "{",
        "}",
        "\"",
        "'",
        "#",
        "&a ",
        "*a",
        "!",
        "|",
        ">",
        "%",
        ",",
        "?",
        "0",
        "-1",
        "1e9",
        "null",
        "true",
        "off",
        "none",
        "9999999999999",
        "\u{0}",
        "\u{7f}",
        "\u{2028}",
        "é",
        "{}",
        "[]",
        "name",
        "id: s1",
        "\r\n",
        "---\n",
        "<<: ",
    ];
    let word = prop::sample::select(words.to_vec()).prop_map(str::to_owned);
    prop_oneof![
        (any::<Index>(), 1..40_usize).prop_map(|(at, length)| Slip::Remove(at, length)),
        (any::<Index>(), 1..200_usize).prop_map(|(at, length)| Slip::Repeat(at, length)),
        (any::<Index>(), word).prop_map(|(at, word)| Slip::Insert(at, word)),
        (any::<Index>(), 1..5_usize).prop_map(|(at, by)| Slip::Indent(at, by)),
    ]
}

fn slipped(text: &str, slips: &[Slip]) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for slip in slips {
        if chars.is_empty() {
            break;
        }
        match slip {
            Slip::Remove(at, length) => {
                let at = at.index(chars.len());
                chars.drain(at..(at + length).min(chars.len()));
            }
            Slip::Repeat(at, length) => {
                let at = at.index(chars.len());
                let part = chars[at..(at + length).min(chars.len())].to_vec();
                chars.splice(at..at, part);
            }
            Slip::Insert(at, word) => {
                let at = at.index(chars.len());
                chars.splice(at..at, word.chars());
            }
            Slip::Indent(at, by) => {
                let at = at.index(chars.len());
                let line = chars[..at].iter().rposition(|&c| c == '\n').map_or(0, |end| end + 1);
                chars.splice(line..line, std::iter::repeat_n(' ', *by));
            }
        }
    }
    chars.into_iter().collect()
}

proptest! {
    /// Whatever happens to a file: it is read or explained, the same way each time, at places that
    /// are there, without a panic; and what is accepted can be put into force.
    #[test]
    fn damaged_files_are_read_or_explained(
        name in prop::sample::select(EXAMPLES.to_vec()),
        slips in prop::collection::vec(some_slip(), 1..6),
    ) {
        let text = slipped(&example_text(name), &slips);
        let answer = parse(&text, "config.yaml");
        prop_assert_eq!(&parse(&text, "config.yaml"), &answer);
        let lines = text.lines().count();
        let diagnostics = match answer {
            Err(diagnostics) => {
                prop_assert!(diagnostics.has_errors());
                diagnostics
            }
            Ok(loaded) => {
                prop_assert!(!loaded.warnings.has_errors());
                prop_assert!(!loaded.config.describe().is_empty());
                let mut state = ClusterState::default();
                for command in changes(&state, &loaded.config.desired()) {
                    let command = state.planned(command);
                    prop_assert!(state.apply_command(&command).is_ok());
                }
                loaded.warnings
            }
        };
        for one in diagnostics.list() {
            let place = one.place.unwrap_or(Place { line: 1, column: 1, length: 1 });
            prop_assert!(place.line >= 1 && place.line <= lines + 1, "{:?}", one);
        }
        prop_assert!(diagnostics.list().is_empty() || !diagnostics.to_string().is_empty());
    }

    /// The two readers of YAML agree about every scalar that is written plainly or in quotes.
    #[test]
    fn scalars_mean_what_they_say(text in "[ -~]{0,12}") {
        let quoted = format!("a: '{}'\n", text.replace('\'', "''"));
        let Shape::Map(entries) = node(&quoted).shape else { panic!("a mapping") };
        let Shape::Scalar(Scalar { text: read, kind }) = &entries[0].value.shape else {
            panic!("a scalar")
        };
        prop_assert_eq!((read, *kind), (&text, Kind::Text));
    }
}
