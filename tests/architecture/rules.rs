//! What must hold of every source file, and why?
//!
//! A rule is a function from a file to what is wrong with it. What clippy can say is said in
//! `clippy.toml` and `Cargo.toml` instead, so that each rule has one place.

use crate::source::{Reference, Source, behind_bracket, behind_item};

/// One thing that is wrong: the line, and what stands there.
pub type Wrong = (usize, String);

/// One rule: what it asks, why, and how it is checked.
pub struct Rule {
    pub asks: &'static str,
    pub because: &'static str,
    pub check: fn(&Source) -> Vec<Wrong>,
}

/// Every rule about a single file.
pub const RULES: &[Rule] = &[
    Rule {
        asks: "a room uses only the floors below its own",
        because: "arrows that point down only let a room be read, tested and replaced without \
                  what stands on it",
        check: floors,
    },
    Rule {
        asks: "floors 0 to 3 have no async, socket, file, clock, thread or random source",
        because: "time and seeds that come in as arguments let one seed rebuild a run, and \
                  thousands of runs a minute be tried",
        check: purity,
    },
    Rule {
        asks: "openraft is named in `control` only",
        because: "the data plane must go on without the group, and another Raft must fit in",
        check: openraft,
    },
    Rule {
        asks: "a file begins with a `//!` paragraph that is a sentence",
        because: "who opens a file first asks which question it answers",
        check: module_doc,
    },
    Rule {
        asks: "mod.rs and lib.rs hold docs, declarations and re-exports only",
        because: "who looks for logic looks in files that are named after it",
        check: declarations_only,
    },
    Rule {
        asks: "a file has at most 700 lines",
        because: "past about 500 lines there is a noun that wants out, with its state",
        check: length,
    },
    Rule {
        asks: "nothing is left unfinished: no ignored test, no FIXME, TODO or XXX",
        because: "what is known to be missing belongs where its consequence is: in a sentence \
                  of the docs, or in an issue",
        check: finished,
    },
    Rule {
        asks: "no glob imports, but for `use super::*` in tests",
        because: "a name must be found where it comes from, by eye and by search",
        check: globs,
    },
    Rule {
        asks: "a `select!` is `biased;`",
        because: "a branch chosen at random cannot be repeated from a seed",
        check: biased,
    },
];

/// The rooms, floor by floor, as in the architecture chapter of README.md.
pub const FLOORS: [&[&str]; 10] = [
    &["ids", "key", "level", "limits", "metrics", "time", "trace"],
    &["ring", "route", "version"],
    &["cluster"],
    &["protocol"],
    &["disk", "drivers", "net"],
    &["control", "store"],
    &["background", "dispatch"],
    &["admin", "proxy"],
    &["app", "config"],
    &["cli", "main"],
];

/// Arrows between rooms of one floor: who may look at whom.
const SIDEWAYS: [(&str, &str); 3] = [("drivers", "net"), ("app", "config"), ("main", "cli")];

/// The floors that are pure, from 0 on.
const PURE_FLOORS: usize = 4;

/// What no pure room may name.
const IMPURE: [&str; 24] = [
    "fastrand",
    "hyper",
    "hyper_util",
    "rand",
    "redb",
    "rustix",
    "socket2",
    "std::collections::HashMap",
    "std::collections::HashSet",
    "std::collections::hash_map",
    "std::collections::hash_set",
    "std::env",
    "std::fs",
    "std::hash::RandomState",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::ToSocketAddrs",
    "std::net::UdpSocket",
    "std::os",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "tokio",
];

const LINES_MAX: usize = 700;

/// The room of a file under `src`, and its floor.
fn room(source: &Source) -> Option<(&str, Option<usize>)> {
    if !source.path.starts_with("src/") {
        return None;
    }
    let room = *source.module().first()?;
    Some((room, floor(room)))
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

fn is_pure(source: &Source) -> bool {
    room(source).and_then(|(_, floor)| floor).is_some_and(|floor| floor < PURE_FLOORS)
}

fn wrong_references(source: &Source, judge: impl Fn(&Reference) -> Option<String>) -> Vec<Wrong> {
    let references = source.references();
    references.iter().filter_map(|found| judge(found).map(|what| (found.line, what))).collect()
}

/// Tests are held to it as well: a test that needs an upper floor belongs there.
fn floors(source: &Source) -> Vec<Wrong> {
    let Some((room, own)) = room(source) else { return Vec::new() };
    let Some(own) = own else { return vec![(1, format!("`{room}` has no floor; give it one"))] };
    let depth = source.module().len();
    wrong_references(source, |reference| {
        let (path, segments) = (reference.segments.join("::"), &reference.segments);
        let climbs = segments.iter().take_while(|segment| *segment == "super").count();
        if climbs >= depth + reference.modules {
            return Some(format!("`{path}` leaves the room; write `crate::`"));
        }
        if !matches!(segments[0].as_str(), "crate" | "ringway") {
            return None;
        }
        let to = segments.get(1).map_or("", String::as_str);
        let below = floor(to).is_some_and(|floor| floor < own);
        let allowed = match (room, to) {
            _ if room == to || SIDEWAYS.contains(&(room, to)) => true,
            // The file names settings, and nothing that acts on them.
            ("config", _) => floor(to).is_some_and(|floor| floor < PURE_FLOORS),
            (_, "config") => false,
            _ => below,
        };
        (!allowed).then(|| format!("`{path}` in `{room}` on floor {own}"))
    })
}

fn purity(source: &Source) -> Vec<Wrong> {
    if !is_pure(source) {
        return Vec::new();
    }
    let mut wrong = wrong_references(source, |reference| {
        let impure = IMPURE.iter().any(|path| reference.is_within(path));
        (impure && !reference.in_test).then(|| format!("`{}`", reference.segments.join("::")))
    });
    let words = source.code.iter().filter(|token| {
        matches!(token.text.as_str(), "async" | "await" | "thread_local") && !token.in_test
    });
    wrong.extend(words.map(|token| (token.line, format!("`{}`", token.text))));
    wrong
}

fn openraft(source: &Source) -> Vec<Wrong> {
    if room(source).is_none_or(|(room, _)| room == "control") {
        return Vec::new();
    }
    wrong_references(source, |reference| {
        reference.is_within("openraft").then(|| format!("`{}`", reference.segments.join("::")))
    })
}

fn module_doc(source: &Source) -> Vec<Wrong> {
    let lines = source.text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim);
    let paragraph = lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    let begins =
        paragraph.starts_with(|first: char| first.is_alphanumeric() || "`[".contains(first));
    let ends = paragraph.ends_with(['.', '?', ':', '!']);
    if begins && ends && paragraph.split(' ').count() >= 3 {
        return Vec::new();
    }
    vec![(1, if paragraph.is_empty() { "no module doc".to_owned() } else { paragraph })]
}

fn declarations_only(source: &Source) -> Vec<Wrong> {
    let code = &source.code;
    if !(source.path.ends_with("/mod.rs") || source.path == "src/lib.rs") {
        return Vec::new();
    }
    let (mut wrong, mut at) = (Vec::new(), 0);
    while at < code.len() {
        if source.is(at, "#") {
            let inner = usize::from(source.is(at + 1, "!"));
            at = behind_bracket(code, at + 1 + inner);
            continue;
        }
        let is_public = source.is(at, "pub");
        let mut keyword = at + usize::from(is_public);
        if is_public && source.is(keyword, "(") {
            keyword = behind_bracket(code, keyword);
        }
        let is_declaration = source.is(keyword, "mod") && source.is(keyword + 2, ";");
        let is_export = source.is(keyword, "use") && is_public;
        let end = if source.is(keyword, "use") {
            // A `use` may have braces and goes on to its semicolon.
            code.iter()
                .skip(at)
                .position(|token| token.text == ";")
                .map_or(code.len(), |n| at + n + 1)
        } else {
            behind_item(code, at)
        };
        if !(is_declaration || is_export || code[at].in_test || source.is(at, ";")) {
            let words = code[at..end].iter().take(4).map(|token| token.text.as_str());
            wrong.push((code[at].line, words.collect::<Vec<_>>().join(" ")));
        }
        at = end;
    }
    wrong
}

fn length(source: &Source) -> Vec<Wrong> {
    let lines = source.text.lines().count();
    if lines > LINES_MAX { vec![(lines, format!("{lines} lines"))] } else { Vec::new() }
}

fn finished(source: &Source) -> Vec<Wrong> {
    let words = |text: &str| {
        let mut words = text.split(|character: char| !character.is_alphanumeric());
        words.find(|word| matches!(*word, "FIXME" | "TODO" | "XXX")).map(str::to_owned)
    };
    let comments =
        source.comments.iter().filter_map(|comment| Some((comment.line, words(&comment.text)?)));
    let ignored = source.code.windows(3).filter(|window| {
        window[0].text == "#" && window[1].text == "[" && window[2].text == "ignore"
    });
    comments.chain(ignored.map(|window| (window[2].line, "#[ignore]".to_owned()))).collect()
}

fn globs(source: &Source) -> Vec<Wrong> {
    wrong_references(source, |reference| {
        let path = reference.segments.join("::");
        let is_glob = path.ends_with("::*");
        (is_glob && !(path == "super::*" && reference.in_test)).then(|| format!("`{path}`"))
    })
}

fn biased(source: &Source) -> Vec<Wrong> {
    let is_wrong = |at: &usize| {
        source.is(*at, "select")
            && source.is(at + 1, "!")
            && !(source.is(at + 3, "biased") && source.is(at + 4, ";"))
    };
    let found = (0..source.code.len()).filter(is_wrong);
    found.map(|at| (source.code[at].line, "`select!` without `biased;`".to_owned())).collect()
}
