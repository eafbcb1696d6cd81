//! Where is a value, and how is it complained of?
//!
//! A [`Spot`] is a value with its key path. Its readers (`scalar`, `section`) yield a value that
//! needs no further check, or add to the findings what was found and what would be accepted, and
//! yield nothing; who asked goes on with the rest, so that one reading finds every problem.

use super::diagnostic::{Diagnostic, Findings, Place, Severity};
use super::raw::{Entry, Kind, Node, Shape};

/// Characters of a value that a message repeats.
const QUOTED_MAX: usize = 60;

/// A value of the file, and the path of its key.
#[derive(Clone)]
pub(super) struct Spot<'a> {
    findings: &'a Findings,
    node: &'a Node,
    path: String,
    /// What is accepted here besides what a reader knows of, such as `none`.
    besides: &'static str,
}

impl<'a> Spot<'a> {
    /// The whole file.
    pub(super) fn file(node: &'a Node, findings: &'a Findings) -> Self {
        Self { findings, node, path: String::new(), besides: "" }
    }

    /// The value of one of the mapping's entries.
    pub(super) fn value_of(&self, entry: &'a Entry) -> Self {
        let path = self.path_of(&entry.key);
        Self { findings: self.findings, node: &entry.value, path, besides: "" }
    }

    /// One of the list's items.
    pub(super) fn item(&self, number: usize, node: &'a Node) -> Self {
        let path = format!("{}[{number}]", self.path);
        Self { findings: self.findings, node, path, besides: "" }
    }

    /// The same value, of which another text is accepted too.
    pub(super) fn or(&self, besides: &'static str) -> Self {
        Self { besides, ..self.clone() }
    }

    pub(super) fn place(&self) -> Place {
        self.node.place
    }

    pub(super) fn shape(&self) -> &'a Shape {
        &self.node.shape
    }

    /// How many errors the file has so far.
    pub(super) fn errors(&self) -> usize {
        self.findings.errors()
    }

    /// The value as messages name it.
    pub(super) fn found(&self) -> String {
        match &self.node.shape {
            Shape::Scalar(scalar) => {
                let more = if scalar.text.chars().nth(QUOTED_MAX).is_some() { "…" } else { "" };
                let shown: String = scalar.text.chars().take(QUOTED_MAX).collect();
                format!("`{shown}{more}`")
            }
            Shape::List(_) => "a list".to_owned(),
            Shape::Map(_) => "a mapping".to_owned(),
        }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(&self.node.shape, Shape::Scalar(scalar) if scalar.kind == Kind::Null)
    }

    /// Whether the value is a mapping.
    pub(super) fn is_map(&self) -> bool {
        matches!(self.node.shape, Shape::Map(_))
    }

    /// Adds an error at this value, and yields nothing in its place.
    pub(super) fn refuse<T>(
        &self,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Option<T> {
        let help = match (self.besides, help.into()) {
            ("", help) => help,
            (word, help) if help.is_empty() => format!("`{word}` is possible too"),
            (word, help) => format!("{help}, or `{word}`"),
        };
        self.add(Severity::Error, message.into(), help, None);
        None
    }

    /// Adds an error that the value is not `what`, which its reader wants.
    pub(super) fn refuse_kind<T>(&self, what: &str, help: impl Into<String>) -> Option<T> {
        if self.is_null() {
            return self.refuse("no value is written", help);
        }
        self.refuse(format!("{} is not {what}", self.found()), help)
    }

    /// Adds an error at this value, which contradicts another.
    pub(super) fn clash(&self, message: impl Into<String>, other: (Place, &str), help: &str) {
        let other = (other.0, other.1.to_owned());
        self.add(Severity::Error, message.into(), help.to_owned(), Some(other));
    }

    /// Adds a warning at this value.
    pub(super) fn warn(&self, message: impl Into<String>, help: impl Into<String>) {
        self.add(Severity::Warning, message.into(), help.into(), None);
    }

    /// Adds a warning at this value that concerns another place too.
    pub(super) fn warn_of(&self, message: impl Into<String>, other: (Place, &str), help: &str) {
        let other = (other.0, other.1.to_owned());
        self.add(Severity::Warning, message.into(), help.to_owned(), Some(other));
    }

    /// Adds an error at one of the mapping's keys.
    pub(super) fn refuse_key(
        &self,
        entry: &Entry,
        message: String,
        help: String,
        other: Option<(Place, String)>,
    ) {
        self.findings.add(Diagnostic {
            severity: Severity::Error,
            place: Some(entry.place),
            key: self.path_of(&entry.key),
            message,
            help,
            other,
        });
    }

    fn add(
        &self,
        severity: Severity,
        message: String,
        help: String,
        other: Option<(Place, String)>,
    ) {
        let (place, key) = (Some(self.node.place), self.path.clone());
        self.findings.add(Diagnostic { severity, place, key, message, help, other });
    }

    fn path_of(&self, key: &str) -> String {
        let dot = if self.path.is_empty() { "" } else { "." };
        let shown: String = key.chars().take(QUOTED_MAX).collect();
        format!("{}{dot}{shown}", self.path)
    }
}
