//! What does a source file say, without its comments, strings and formatting?
//!
//! The rules ask for paths, words and items, so a file is cut into tokens once. That is far from a
//! parser and needs to be no more: what a rule looks for (`crate::net`, `async`, `mod x;`) is spelled
//! alike wherever it stands, and a false alarm is seen and mended at once. What it cannot see is a
//! path built by a macro, and a name shadowed in one function only.

use std::collections::BTreeMap;
use std::path::Path;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A keyword or a name.
    Word,
    /// A piece of punctuation; `::` is one piece, all others are single characters.
    Mark,
    /// A string, a character or a number; nothing looks into it.
    Literal,
    /// A comment or doc comment, with its slashes.
    Comment,
}

/// One token of a file.
#[derive(Debug)]
pub struct Token {
    pub kind: Kind,
    pub text: String,
    /// Counted from 1.
    pub line: usize,
    /// It stands in an item under `#[cfg(test)]`, or in a file of tests.
    pub in_test: bool,
    /// How many inline modules (`mod x { … }`) stand around it.
    pub modules: usize,
}

/// One path, with `use` groups spread out and imported names replaced by what they stand for.
#[derive(Debug, PartialEq, Eq)]
pub struct Reference {
    pub segments: Vec<String>,
    pub line: usize,
    pub in_test: bool,
    /// As in [`Token`].
    pub modules: usize,
}

impl Reference {
    /// Whether the path is `path` or leads through it.
    pub fn is_within(&self, path: &str) -> bool {
        let mut segments = self.segments.iter();
        path.split("::").all(|wanted| segments.next().is_some_and(|found| found == wanted))
    }
}

/// One file, cut into tokens.
#[derive(Debug)]
pub struct Source {
    /// From the crate's folder on, with `/` between folders.
    pub path: String,
    pub text: String,
    /// Without comments.
    pub code: Vec<Token>,
    pub comments: Vec<Token>,
}

impl Source {
    /// Cuts a text into tokens.
    pub fn new(path: &str, text: &str) -> Self {
        let (comments, mut code): (Vec<_>, Vec<_>) =
            tokens(text).into_iter().partition(|token| token.kind == Kind::Comment);
        mark_tests(&mut code);
        mark_modules(&mut code);
        Self { path: path.to_owned(), text: text.to_owned(), code, comments }
    }

    /// Reads every Rust file under the folders, in the order of their paths, and marks those that a
    /// `#[cfg(test)] mod x;` brings in.
    pub fn read_all(root: &Path, folders: &[&str]) -> Vec<Self> {
        let mut paths = Vec::new();
        for folder in folders {
            rust_files(&root.join(folder), &mut paths);
        }
        paths.sort();
        let mut sources: Vec<_> = paths
            .iter()
            .map(|path| {
                let text = std::fs::read_to_string(path).expect("a source file is UTF-8");
                let relative = path.strip_prefix(root).expect("it was found under the root");
                Self::new(relative.to_str().expect("source paths are UTF-8"), &text)
            })
            .collect();
        let of_tests: Vec<_> = sources.iter().flat_map(Self::test_modules).collect();
        for source in &mut sources {
            let is_within = |module: &String| {
                source
                    .path
                    .strip_prefix(module.as_str())
                    .is_some_and(|rest| rest.starts_with(['.', '/']))
            };
            if !source.path.starts_with("src/") || of_tests.iter().any(is_within) {
                source.code.iter_mut().for_each(|token| token.in_test = true);
            }
        }
        sources
    }

    /// The module that the file is, from the crate's root on: `net::http1::head`, say, as a list.
    pub fn module(&self) -> Vec<&str> {
        let stem = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        let module = stem.strip_suffix("/mod").unwrap_or(stem);
        if module == "lib" { Vec::new() } else { module.split('/').collect() }
    }

    /// Every path of the file.
    pub fn references(&self) -> Vec<Reference> {
        let mut imports = BTreeMap::new();
        let mut found = Vec::new();
        let mut at = 0;
        while at < self.code.len() {
            let imported = at > 0 && self.is(at - 1, "use");
            let continued = at > 1 && self.is(at - 1, "::") && self.code[at - 2].kind == Kind::Word;
            let begins = self.code[at].kind == Kind::Word && !continued;
            if begins && (imported || self.is(at + 1, "::")) {
                let in_test = self.code[at].in_test;
                // What `super` means depends on the module; such names stay as they are written.
                let kept = imported && !matches!(self.code[at].text.as_str(), "super" | "self");
                let end = self.spread(at, &[], &mut found, &mut |name, segments| {
                    if kept {
                        imports.insert((in_test, name), segments);
                    }
                });
                at = end;
            } else {
                at += 1;
            }
        }
        for Reference { segments, in_test, .. } in &mut found {
            // Tests see the names of the code around them, but not the other way round.
            let known = |in_test| imports.get(&(in_test, segments[0].clone()));
            let whole = known(*in_test).or_else(|| known(false)).cloned();
            if let Some(whole) = whole {
                segments.splice(..1, whole);
            }
        }
        found
    }

    /// Reads a path, or the tree of a `use`, from the token `at` on; gives the token behind it.
    fn spread(
        &self,
        mut at: usize,
        before: &[String],
        found: &mut Vec<Reference>,
        name: &mut impl FnMut(String, Vec<String>),
    ) -> usize {
        let Token { line, in_test, modules, .. } = self.code[at];
        let mut segments = before.to_vec();
        loop {
            if self.is(at, "{") {
                at += 1;
                while at < self.code.len() && !self.is(at, "}") {
                    at = self.spread(at, &segments, found, name);
                    at += usize::from(self.is(at, ","));
                }
                return at + 1;
            }
            match self.code[at].text.as_str() {
                // `use a::{self}` is `use a`.
                "self" if !segments.is_empty() => {}
                text => segments.push(text.to_owned()),
            }
            let goes_on = self.code.get(at + 2).is_some_and(|next| {
                next.kind == Kind::Word || next.text == "{" || next.text == "*"
            });
            if !(self.is(at + 1, "::") && goes_on) {
                break;
            }
            at += 2;
        }
        at += 1;
        let mut known_as = segments.last().cloned().unwrap_or_default();
        if self.is(at, "as") && at + 1 < self.code.len() {
            known_as.clone_from(&self.code[at + 1].text);
            at += 2;
        }
        name(known_as, segments.clone());
        found.push(Reference { segments, line, in_test, modules });
        at
    }

    /// The files (without `.rs`) or folders that this file declares as modules of tests.
    fn test_modules(&self) -> Vec<String> {
        let folder = match self.path.rsplit_once('/') {
            Some((folder, "mod.rs" | "lib.rs" | "main.rs")) => folder.to_owned(),
            _ => self.path.trim_end_matches(".rs").to_owned(),
        };
        let declares = |window: &&[Token]| {
            window[0].text == "mod" && window[0].in_test && window[2].text == ";"
        };
        let windows = self.code.windows(3).filter(declares);
        windows.map(|window| format!("{folder}/{}", window[1].text)).collect()
    }

    /// Whether the token `at` is there and is this one.
    pub fn is(&self, at: usize, text: &str) -> bool {
        is(&self.code, at, text)
    }
}

fn is(code: &[Token], at: usize, text: &str) -> bool {
    code.get(at).is_some_and(|token| token.kind != Kind::Literal && token.text == text)
}

fn rust_files(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("the folder can be read").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The token behind the bracket that closes the one at `open`.
pub fn behind_bracket(code: &[Token], open: usize) -> usize {
    let mut depth = 0;
    for (at, token) in code.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "(" | "[" | "{" if token.kind == Kind::Mark => depth += 1,
            ")" | "]" | "}" if token.kind == Kind::Mark => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    code.len()
}

/// The token behind the item that begins at `at`: behind its `;`, or behind its block.
pub fn behind_item(code: &[Token], mut at: usize) -> usize {
    while at < code.len() {
        match code[at].text.as_str() {
            ";" => return at + 1,
            "{" => return behind_bracket(code, at),
            "(" | "[" => at = behind_bracket(code, at),
            _ => at += 1,
        }
    }
    at
}

/// Marks what stands under `#[cfg(test)]`, or `#![cfg(test)]` for all the rest of the file.
fn mark_tests(code: &mut [Token]) {
    let mut at = 0;
    while at < code.len() {
        let inner = usize::from(is(code, at + 1, "!"));
        let (open, cfg) = (at + 1 + inner, at + 2 + inner);
        if !(is(code, at, "#") && is(code, open, "[") && is(code, cfg, "cfg")) {
            at += 1;
            continue;
        }
        let mut end = behind_bracket(code, open);
        let condition = &code[cfg..end];
        let names = |text: &str| condition.iter().any(|token| token.text == text);
        if names("test") && !names("not") {
            if inner == 1 {
                end = code.len();
            } else {
                while is(code, end, "#") {
                    end = behind_bracket(code, end + 1);
                }
                end = behind_item(code, end);
            }
            code[at..end].iter_mut().for_each(|token| token.in_test = true);
        }
        at = end;
    }
}

fn mark_modules(code: &mut [Token]) {
    for at in 0..code.len() {
        if is(code, at, "mod") && is(code, at + 2, "{") {
            let end = behind_bracket(code, at + 2);
            code[at + 2..end].iter_mut().for_each(|token| token.modules += 1);
        }
    }
}

/// Cuts a text into tokens.
fn tokens(text: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let (mut rest, mut line) = (text, 1);
    while let Some(first) = rest.chars().next() {
        let (kind, length) = match first {
            _ if first.is_whitespace() => (None, first.len_utf8()),
            '/' if rest.starts_with("//") => {
                (Some(Kind::Comment), rest.find('\n').unwrap_or(rest.len()))
            }
            '/' if rest.starts_with("/*") => (Some(Kind::Comment), block_comment(rest)),
            '"' => (Some(Kind::Literal), quoted(rest, 0)),
            '\'' => character_or_lifetime(rest),
            _ if is_wordy(first) => word_or_string(rest),
            ':' if rest.starts_with("::") => (Some(Kind::Mark), 2),
            _ => (Some(Kind::Mark), first.len_utf8()),
        };
        let (token, after) = rest.split_at(length);
        if let Some(kind) = kind {
            let text = token.to_owned();
            found.push(Token { kind, text, line, in_test: false, modules: 0 });
        }
        line += token.matches('\n').count();
        rest = after;
    }
    found
}

fn is_wordy(character: char) -> bool {
    character == '_' || character.is_alphanumeric()
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    loop {
        match text.as_bytes().get(at..at + 2) {
            Some(b"/*") => (depth, at) = (depth + 1, at + 2),
            Some(b"*/") => (depth, at) = (depth - 1, at + 2),
            Some(_) => at += 1,
            None => return text.len(),
        }
        if depth == 0 {
            return at;
        }
    }
}

/// The length of a string whose first quote stands at `open`, with its escapes.
fn quoted(text: &str, open: usize) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(open + 1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn character_or_lifetime(text: &str) -> (Option<Kind>, usize) {
    let inside = text[1..].chars().next().map_or(0, char::len_utf8);
    let closed = if text[1..].starts_with('\\') {
        // The escape may itself be a quote.
        text[3.min(text.len())..].find('\'').map(|end| end + 4)
    } else {
        text[1 + inside..].starts_with('\'').then_some(inside + 2)
    };
    let word = text[1..].find(|character| !is_wordy(character)).map_or(text.len(), |end| end + 1);
    (Some(Kind::Literal), closed.unwrap_or(word))
}

/// A word, a number, or a string with a prefix: `b"…"`, `r#"…"#`, `c"…"`, `b'…'`.
fn word_or_string(text: &str) -> (Option<Kind>, usize) {
    let length = text.find(|character| !is_wordy(character)).unwrap_or(text.len());
    let (word, after) = text.split_at(length);
    let hashes = after.len() - after.trim_start_matches('#').len();
    let quote = length + hashes;
    if text[quote..].starts_with('"') && matches!(word, "r" | "br" | "cr") {
        let close = format!("\"{}", "#".repeat(hashes));
        let end = text[quote + 1..].find(&close).map(|end| quote + 1 + end + close.len());
        return (Some(Kind::Literal), end.unwrap_or(text.len()));
    }
    if after.starts_with('"') && matches!(word, "b" | "c") {
        return (Some(Kind::Literal), quoted(text, length));
    }
    if after.starts_with('\'') && word == "b" {
        return (Some(Kind::Literal), 1 + character_or_lifetime(after).1);
    }
    let number = word.starts_with(|character: char| character.is_ascii_digit());
    (Some(if number { Kind::Literal } else { Kind::Word }), length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        let source = Source::new("src/ring/table.rs", text);
        source.references().iter().map(|reference| reference.segments.join("::")).collect()
    }

    #[test]
    fn code_is_found_and_prose_is_not() {
        let text = concat!(
            "// a::b\n/* c::d /* e */ */ \"f::g \\\" h::i\" r#\"j \" k::l\"# b\"m::n\" '\"' '\\'' b'\\\\'\n",
            "o::p 'q r 1.5_f64"
        );
        let source = Source::new("src/key.rs", text);
        let words: Vec<_> = source.code.iter().filter(|token| token.kind == Kind::Word).collect();
        let words: Vec<_> = words.iter().map(|token| (token.text.as_str(), token.line)).collect();
        assert_eq!(words, [("o", 3), ("p", 3), ("r", 3)]);
        assert_eq!(source.comments.len(), 2);
    }

    #[test]
    fn groups_are_spread_out_and_names_are_followed() {
        assert_eq!(
            paths("use a::{b, c::{self, d as e}, f::*};"),
            ["a::b", "a::c", "a::c::d", "a::f::*"]
        );
        assert_eq!(
            paths("use std::time; fn f() { time::Instant::now(); }")[1],
            "std::time::Instant::now"
        );
        assert_eq!(paths("use a::b as c; fn f() { c::d::<E>(g::h) }"), ["a::b", "a::b::d", "g::h"]);
        assert_eq!(paths("fn f() { ::std::fs::read() }"), ["std::fs::read"]);
        assert_eq!(paths("use tokio as t;"), ["tokio"]);
    }

    #[test]
    fn tests_are_told_from_code() {
        let text = "use a::b; #[cfg(test)] #[path = \"\"] mod tests { use c::d; } use e::f;
            #[cfg(not(test))] use g::h; #[cfg(test)] fn x(y: [u8; 2]) { i::j } fn z() { k::l }";
        let of_tests: Vec<_> = Source::new("src/key.rs", text)
            .references()
            .into_iter()
            .filter(|reference| reference.in_test)
            .map(|reference| reference.segments.concat())
            .collect();
        assert_eq!(of_tests, ["cd", "ij"]);
    }

    #[test]
    fn a_module_of_tests_is_a_file_or_a_folder() {
        let found = |path| Source::new(path, "#[cfg(test)] mod tests; mod other;").test_modules();
        assert_eq!(found("src/ring/mod.rs"), ["src/ring/tests"]);
        assert_eq!(found("src/key.rs"), ["src/key/tests"]);
    }
}
