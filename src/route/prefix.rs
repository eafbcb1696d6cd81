//! How does a path begin?

use std::fmt;

use crate::key::{self, canonical_path};

/// The beginning of a path, in canonical form.
///
/// One that ends with `/` is a plain beginning: `/img/` holds for `/img/a` but not for `/img`.
/// One that does not ends on the border of a segment: `/img` holds for `/img` and `/img/a`, but
/// not for `/images`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPrefix(Box<str>);

/// Why a text is not the beginning of any path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathPrefixError {
    /// The query is not part of a path.
    #[error("a path has no `?`; as data it is written `%3F`")]
    Query,
    /// Requests with such a path are refused.
    #[error(transparent)]
    Path(#[from] key::KeyError),
}

impl PathPrefix {
    /// Brings `text` to canonical form.
    ///
    /// # Errors
    /// [`PathPrefixError`] when no canonical path can begin with `text`.
    pub fn parse(text: &str) -> Result<Self, PathPrefixError> {
        if text.contains('?') {
            return Err(PathPrefixError::Query);
        }
        let canonical = canonical_path(text.as_bytes())?;
        let canonical = std::str::from_utf8(&canonical).expect("the canonical form is ASCII");
        Ok(Self(canonical.into()))
    }

    /// The prefix `/`, which every path has.
    #[must_use]
    pub fn root() -> Self {
        Self("/".into())
    }

    /// The canonical text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What follows this prefix in `path`, or `None` when `path` does not begin with it.
    #[must_use]
    pub fn strip<'a>(&self, path: &'a [u8]) -> Option<&'a [u8]> {
        let rest = path.strip_prefix(self.0.as_bytes())?;
        let on_border = self.0.ends_with('/') || rest.first().is_none_or(|&byte| byte == b'/');
        on_border.then_some(rest)
    }

    /// Whether every path that has the prefix `other` has this one too.
    #[must_use]
    pub fn covers(&self, other: &PathPrefix) -> bool {
        self.strip(other.0.as_bytes()).is_some()
    }
}

impl fmt::Display for PathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
