//! Does the source keep to the rules of the house?
//!
//! Each rule is a function over a file cut into tokens (`architecture/rules.rs`), says why it is
//! there, and reports everything that breaks it at once. A rule that can no longer fail is worse
//! than none, so each is also shown a few lines that break it.

#[path = "architecture/rules.rs"]
mod rules;
#[path = "architecture/source.rs"]
mod source;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use rules::{FLOORS, RULES, Rule};
use source::Source;

/// Each integration test links the whole tree; more of them make every check slower.
const TEST_BINARIES_MAX: usize = 6;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_file_keeps_every_rule() {
    let sources = Source::read_all(root(), &["src", "tests", "benches"]);
    assert!(sources.len() > 100, "the source was found");
    let mut report = String::new();
    for Rule { asks, because, check } in RULES {
        let wrong: Vec<_> = sources
            .iter()
            .flat_map(|source| check(source).into_iter().map(|wrong| (&source.path, wrong)))
            .collect();
        if !wrong.is_empty() {
            writeln!(report, "\n{asks}, because {because}:").expect("a string takes all");
        }
        for (path, (line, what)) in wrong {
            writeln!(report, "  {path}:{line}: {what}").expect("a string takes all");
        }
    }
    assert!(report.is_empty(), "{report}");
}

#[test]
fn every_room_of_the_table_is_there() {
    for room in FLOORS.concat() {
        let is_there =
            ["", "/mod"].iter().any(|end| root().join(format!("src/{room}{end}.rs")).is_file());
        assert!(is_there, "`{room}` has a floor, but is not in src");
    }
}

/// With `autotests` and `autobenches` off, a file that Cargo.toml does not name is never built.
#[test]
fn every_test_and_benchmark_is_built() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("the manifest");
    for (folder, kind) in [("tests", "test"), ("benches", "bench")] {
        for entry in std::fs::read_dir(root().join(folder)).expect("the folder").flatten() {
            let file = entry.file_name().into_string().expect("source paths are UTF-8");
            let Some(name) = file.strip_suffix(".rs") else { continue };
            let named = manifest.contains(&format!("[[{kind}]]\nname = \"{name}\"\n"));
            assert!(named, "Cargo.toml does not name {folder}/{file}");
        }
    }
    let binaries = manifest.matches("[[test]]").count();
    assert!(binaries <= TEST_BINARIES_MAX, "{binaries} test binaries, {TEST_BINARIES_MAX} at most");
}

/// Every table of duties names, in its last column, the tests that show them. A test that was
/// renamed or taken away would leave a promise that nobody keeps. What a library keeps, its own
/// tests show.
#[test]
fn every_duty_has_its_test() {
    let sources = Source::read_all(root(), &["src", "tests"]);
    let tests: BTreeSet<&str> = sources
        .iter()
        .flat_map(|source| source.code.windows(2))
        .filter(|two| two[0].text == "fn" && two[0].in_test)
        .map(|two| two[1].text.as_str())
        .collect();
    let (mut duties, mut without) = (0, Vec::new());
    for source in &sources {
        for (row, named) in duty_rows(&source.text) {
            duties += 1;
            let is_ours = !row.ends_with("| the library's ");
            if (is_ours && named.is_empty()) || named.iter().any(|name| !tests.contains(name)) {
                without.push(format!("{}: {row}", source.path));
            }
        }
    }
    assert!(without.is_empty(), "a test that is named is not there: {without:#?}");
    assert!(duties >= 70, "{duties} duties");
}

/// The rows of the tables in a file's doc whose last column is `test`, and the names in it.
fn duty_rows(text: &str) -> Vec<(&str, Vec<&str>)> {
    let mut rows = Vec::new();
    let mut is_duties = false;
    for line in text.lines() {
        let Some(row) = line.strip_prefix("//! |").and_then(|row| row.trim_end().strip_suffix('|'))
        else {
            is_duties = false;
            continue;
        };
        let last = row.rsplit('|').next().unwrap_or("").trim();
        match (is_duties, last) {
            (false, "test") => is_duties = true,
            (true, "---") | (false, _) => {}
            (true, last) => rows.push((row, last.split('`').skip(1).step_by(2).collect())),
        }
    }
    rows
}

#[test]
fn tables_of_duties_are_read() {
    let text = "//! | RFC | duty | test |\n//! |---|---|---|\n//! | 2 | be good | `a`, `b` |\n\
                //! | 3 | be bad | |\n\n//! | no | duty |\n//! | `x` | `y` |\n";
    let rows = duty_rows(text);
    let names: Vec<_> = rows.iter().map(|(_, names)| names.as_slice()).collect();
    assert_eq!(names, [&["a", "b"][..], &[]]);
}

/// The lines at which the rule that asks for `part` finds something wrong.
fn lines(part: &str, path: &str, text: &str) -> Vec<usize> {
    let mut asked = RULES.iter().filter(|rule| rule.asks.contains(part));
    let (rule, none) = (asked.next().expect("a rule asks for it"), asked.next().is_none());
    assert!(none, "one rule asks for `{part}`");
    (rule.check)(&Source::new(path, text)).into_iter().map(|(line, _)| line).collect()
}

#[test]
fn floors_are_kept() {
    let check = |path, text| lines("the floors below", path, text);
    assert_eq!(check("src/ring/table.rs", "use crate::ids::Token;\nuse crate::ring::X;"), []);
    assert_eq!(check("src/ring/table.rs", "use crate::ids::Token;\nuse crate::cluster::X;"), [2]);
    assert_eq!(check("src/ring/table.rs", "fn f() {\n crate::{\nids::a,\nroute::b,\n}; }"), [4]);
    assert_eq!(check("src/key.rs", "#[cfg(test)]\nmod tests { use crate::net::X; }"), [2]);
    assert_eq!(check("src/drivers/http.rs", "use crate::net::Wire;"), []);
    assert_eq!(check("src/net/wire.rs", "use crate::drivers::http;"), [1]);
    assert_eq!(check("src/app/serve.rs", "use crate::config::Config;"), []);
    assert_eq!(check("src/cli/mod.rs", "use crate::config::Config;"), [1]);
    assert_eq!(check("src/config/load.rs", "use crate::{limits::X, net::Y};"), [1]);
    assert_eq!(check("src/main.rs", "fn main() { ringway::cli::main() }"), []);
    assert_eq!(check("src/main.rs", "fn main() { ringway::nowhere::main() }"), [1]);
    assert_eq!(check("src/upstairs/mod.rs", ""), [1]);
}

#[test]
fn no_room_is_left_by_climbing() {
    let check = |path, text| lines("the floors below", path, text);
    assert_eq!(check("src/net/http1/head.rs", "use super::super::wire::Wire;"), []);
    assert_eq!(check("src/net/http1/head.rs", "use super::super::super::ids::Token;"), [1]);
    assert_eq!(check("src/net/mod.rs", "use super::ids::Token;"), [1]);
    assert_eq!(check("src/key.rs", "mod tests { use super::Token; }\nfn f() { Token::new() }"), []);
}

#[test]
fn pure_floors_are_pure() {
    let check = |path, text| lines("floors 0 to 3", path, text);
    let impure = "use std::net::{IpAddr,\nTcpStream};\nuse std::time;\nasync fn f() {}
        fn g() { time::Instant::now(); }\nfn h() { fastrand::u64(..); }";
    assert_eq!(check("src/cluster/state.rs", impure), [2, 5, 6, 4]);
    assert_eq!(check("src/net/wire.rs", impure), []);
    assert_eq!(check("src/ring/order.rs", "use std::time::Duration;\n// tokio::spawn"), []);
    assert_eq!(check("src/ring/order.rs", "use std::collections::{BTreeMap,\nHashMap};"), [2]);
    assert_eq!(check("src/key.rs", "#[cfg(test)]\nmod tests { use std::fs; }\nuse std::fs;"), [3]);
}

#[test]
fn openraft_is_kept_in_control() {
    let text = "use openraft::Raft;";
    assert_eq!(lines("openraft", "src/control/group.rs", text), []);
    assert_eq!(lines("openraft", "src/store/engine.rs", text), [1]);
}

#[test]
fn files_say_what_they_answer() {
    let check = |text| lines("paragraph that is a sentence", "src/key.rs", text);
    assert_eq!(check("//! Which requests does a\n//! route take?\n\nuse a::b;"), []);
    assert_eq!(check("//! `ringway dev`: a proxy in one process.\n//!\n//! more"), []);
    assert_eq!(check("use a::b;\n//! Which requests?"), [1]);
    assert_eq!(check("//! (tests follow)"), [1]);
    assert_eq!(check("//! Key stuff"), [1]);
}

#[test]
fn indexes_hold_no_logic() {
    let check = |path, text| lines("re-exports only", path, text);
    let calm =
        "//! Doc.\n#![x]\nmod a;\n#[cfg(test)]\nmod tests;\npub(crate) mod b;\npub use a::{C, D};";
    assert_eq!(check("src/ring/mod.rs", calm), []);
    let busy = "pub mod a;\nuse a::{B};\nfn f() { a::g(); }\nmod c { fn h() {} }\nconst D: u8 = 1;";
    assert_eq!(check("src/ring/mod.rs", busy), [2, 3, 4, 5]);
    assert_eq!(check("src/lib.rs", busy), [2, 3, 4, 5]);
    assert_eq!(check("src/ring/table.rs", busy), []);
}

#[test]
fn files_are_of_bounded_length() {
    let check = |lines_of_code| lines("at most 700", "src/key.rs", &"\n".repeat(lines_of_code));
    assert_eq!(check(700), []);
    assert_eq!(check(701), [701]);
}

#[test]
fn nothing_is_left_unfinished() {
    let text = "// FIXME: later\n/* TODO(x) */ let s = \"XXX\";\n#[ignore]\n//! XXX\n// XXXL todo";
    assert_eq!(lines("unfinished", "src/key.rs", text), [1, 2, 4, 3]);
}

#[test]
fn names_are_imported_one_by_one() {
    let text = "use a::*;\nuse b::{c, d::*};\n#[cfg(test)]\nmod tests {\nuse super::*;\nuse e::*; }
        fn f() { 2 * g::h * 3; }\nuse super::*;";
    assert_eq!(lines("glob", "src/net/wire.rs", text), [1, 2, 6, 8]);
}

#[test]
fn branches_are_chosen_in_order() {
    let text = "tokio::select! { biased; a = b => c }\ntokio::select! { a = b => c }";
    assert_eq!(lines("biased", "src/net/wire.rs", text), [2]);
}
