//! How is a key cut out of a path by a regular expression?
//!
//! A [`Pattern`] is matched against the canonical path, a [`Template`] such as `$1$2` puts its
//! groups together. Both are bounded: the automata of `regex` run in linear time, and their size
//! is limited when they are compiled, so that neither the file nor a request can make them slow.

use std::fmt;

use regex::bytes::{Captures, Regex, RegexBuilder};

/// Bytes of a pattern's text. The longest that was needed for a build cache has 70.
const PATTERN_BYTES_MAX: usize = 1024;
/// Bytes of a compiled program; enough for a few hundred alternatives.
const PROGRAM_BYTES_MAX: usize = 256 * 1024;
/// Bytes of the lazily built automaton, for each thread that runs it.
const AUTOMATON_BYTES_MAX: usize = 1024 * 1024;
/// Groups inside groups.
const NESTING_MAX: u32 = 64;

/// A regular expression over the bytes of a canonical path (`/caf%C3%A9`, not `/café`).
///
/// It may match anywhere unless it is anchored with `^` and `$`. Equal texts are equal patterns.
#[derive(Clone)]
pub struct Pattern(Regex);

/// Why a text is not a usable regular expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// The text or what it compiles to is longer than allowed.
    #[error("the regular expression is too large")]
    TooLarge,
    /// It cannot be read.
    #[error("the regular expression cannot be read: {0}")]
    Syntax(String),
}

impl Pattern {
    /// Compiles `text`.
    ///
    /// # Errors
    /// [`PatternError`] when `text` is no regular expression, or one above the limits.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        if text.len() > PATTERN_BYTES_MAX {
            return Err(PatternError::TooLarge);
        }
        // Canonical paths are ASCII, so the tables of Unicode would be carried for nothing.
        RegexBuilder::new(text)
            .unicode(false)
            .size_limit(PROGRAM_BYTES_MAX)
            .dfa_size_limit(AUTOMATON_BYTES_MAX)
            .nest_limit(NESTING_MAX)
            .build()
            .map(Self)
            .map_err(|error| match error {
                regex::Error::CompiledTooBig(_) => PatternError::TooLarge,
                other => PatternError::Syntax(last_line(&other.to_string())),
            })
    }

    /// The text that was compiled.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether `path` matches.
    #[must_use]
    pub fn is_match(&self, path: &[u8]) -> bool {
        self.0.is_match(path)
    }
}

/// `regex` draws its syntax errors over several lines and says what is wrong in the last.
fn last_line(message: &str) -> String {
    let line = message.lines().last().unwrap_or(message).trim();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Pattern {}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Group(usize),
}

/// What to put together from a pattern's groups: `$1`, `${1}` or `${name}` is a group, `$$` a
/// dollar sign, everything else stands for itself.
///
/// Unlike in `regex`, the digits after `$` end at the first other character: `$1a` is group 1 and
/// an `a`, not a group named `1a`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: Box<str>,
    parts: Vec<Part>,
}

/// Why a template does not fit its pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A `$` without a group.
    #[error("`$` must be followed by a group's number, `{{name}}` or a second `$`")]
    Dollar,
    /// The group is not in the pattern.
    #[error("the regular expression has no group `{0}`")]
    NoSuchGroup(String),
    /// Every request would have the same key.
    #[error("it names no group, so that every request would have the same key")]
    NoGroup,
}

impl Template {
    /// Reads `text`, which refers to the groups of `pattern`.
    ///
    /// # Errors
    /// [`TemplateError`] when it names a group that `pattern` does not have, or none at all.
    pub fn parse(text: &str, pattern: &Pattern) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            if !before.is_empty() {
                parts.push(Part::Text(before.into()));
            }
            let (part, after) = after_dollar(after, pattern)?;
            parts.push(part);
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.into()));
        }
        if !parts.iter().any(|part| matches!(part, Part::Group(_))) {
            return Err(TemplateError::NoGroup);
        }
        Ok(Self { text: text.into(), parts })
    }

    /// The text that was read.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Matches `pattern`, with which the template was parsed, against `path` and writes the result
    /// to `out`. Returns whether `path` matched; a group that took no part is empty.
    pub(super) fn expand(&self, pattern: &Pattern, path: &[u8], out: &mut Vec<u8>) -> bool {
        out.clear();
        let Some(groups) = pattern.0.captures(path) else { return false };
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Group(number) => out.extend_from_slice(group(&groups, *number)),
            }
        }
        true
    }
}

fn group<'a>(groups: &Captures<'a>, number: usize) -> &'a [u8] {
    groups.get(number).map_or(&[], |found| found.as_bytes())
}

/// Reads the part of a template that stands after a `$`, and returns what follows it.
fn after_dollar<'a>(after: &'a str, pattern: &Pattern) -> Result<(Part, &'a str), TemplateError> {
    if let Some(rest) = after.strip_prefix('$') {
        return Ok((Part::Text("$".into()), rest));
    }
    let (name, rest) = match after.strip_prefix('{') {
        Some(inner) => inner.split_once('}').ok_or(TemplateError::Dollar)?,
        None => {
            let digits = after.bytes().take_while(u8::is_ascii_digit).count();
            after.split_at(digits)
        }
    };
    if name.is_empty() {
        return Err(TemplateError::Dollar);
    }
    let number = match name.parse::<usize>() {
        Ok(number) => Some(number).filter(|&number| number < pattern.0.captures_len()),
        Err(_) => pattern.0.capture_names().position(|one| one == Some(name)),
    };
    let number = number.ok_or_else(|| TemplateError::NoSuchGroup(name.to_owned()))?;
    Ok((Part::Group(number), rest))
}
