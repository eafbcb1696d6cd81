//! Where in a request is the key?

use std::fmt;
use std::num::NonZeroU16;

use crate::ids::RouteName;
use crate::key::{self, HashTag};

use super::names::{CookieName, FieldName, ParameterName};
use super::pattern::{Pattern, Template};
use super::prefix::PathPrefix;
use super::query;
use super::request::RequestView;

/// Names the bytes of a request that are its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyRule {
    /// The whole path.
    Path,
    /// What follows a prefix of the path.
    PathAfter(PathPrefix),
    /// One segment of the path: 1 is what stands between the first `/` and the second.
    PathSegment(SegmentNumber),
    /// The value of a field that the request has once.
    Header(FieldName),
    /// The value of a query parameter, in canonical escaped form.
    Query(ParameterName),
    /// The value of a cookie, byte for byte.
    Cookie(CookieName),
    /// Groups of a regular expression over the path.
    PathRegex(Capture),
}

/// Which segment of a path, counted from 1.
pub type SegmentNumber = NonZeroU16;

/// A key put together from the groups of a regular expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capture {
    /// Matched against the canonical path.
    pub pattern: Pattern,
    /// What the key is made of; parsed with `pattern`.
    pub template: Template,
    /// What is done with a path that does not match, or whose key would be empty.
    pub otherwise: Otherwise,
}

/// What a path that does not match a [`Capture`] means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Otherwise {
    /// The whole path is the key.
    Path,
    /// The request is refused.
    Refuse,
}

/// A request whose key cannot be told; answered 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("route `{route}` takes the key from {part}, which {fault}")]
pub struct KeyError {
    /// The route whose rule could not be carried out.
    pub route: RouteName,
    /// The part of the request that should have had the key, in words.
    pub part: Box<str>,
    /// What is wrong with it.
    pub fault: KeyFault,
}

/// What is wrong with the part of a request that should have had the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// The request does not have it.
    #[error("the request does not have")]
    Missing,
    /// It is there, but empty.
    #[error("is empty")]
    Empty,
    /// It is there more than once; two servers could read the request differently.
    #[error("the request has more than once")]
    Ambiguous,
    /// It has no canonical form.
    #[error("cannot be a key: {0}")]
    Malformed(#[from] key::KeyError),
}

impl KeyRule {
    /// The bytes that the rule names in `request`, before any hash tag. They are borrowed from the
    /// request where they stand there as they are; otherwise they are put into `scratch`.
    ///
    /// # Errors
    /// [`KeyFault`] when the key is absent, empty, ambiguous or broken.
    pub(super) fn extract<'a>(
        &self,
        request: &RequestView<'a>,
        scratch: &'a mut Vec<u8>,
    ) -> Result<&'a [u8], KeyFault> {
        let key = match self {
            Self::Path => request.path,
            Self::PathAfter(prefix) => prefix.strip(request.path).ok_or(KeyFault::Missing)?,
            Self::PathSegment(number) => segment(request.path, *number)?,
            Self::Header(name) => only_field(request, name)?,
            Self::Query(name) => {
                query::parameter(request.query.ok_or(KeyFault::Missing)?, name, scratch)?
            }
            Self::Cookie(name) => query::cookie(request, name)?,
            Self::PathRegex(capture) => {
                let matched = capture.template.expand(&capture.pattern, request.path, scratch);
                match capture.otherwise {
                    _ if matched && !scratch.is_empty() => scratch.as_slice(),
                    Otherwise::Path => request.path,
                    Otherwise::Refuse => return Err(KeyFault::Missing),
                }
            }
        };
        if key.is_empty() { Err(KeyFault::Empty) } else { Ok(key) }
    }
}

fn segment(path: &[u8], number: SegmentNumber) -> Result<&[u8], KeyFault> {
    // The part before the first `/` is empty and has the number 0.
    let mut segments = path.split(|&byte| byte == b'/');
    segments.nth(usize::from(number.get())).ok_or(KeyFault::Missing)
}

fn only_field<'a>(request: &RequestView<'a>, name: &FieldName) -> Result<&'a [u8], KeyFault> {
    let fields = request.fields;
    let value = fields.nth(name.as_str(), 0).ok_or(KeyFault::Missing)?;
    match fields.nth(name.as_str(), 1) {
        Some(_) => Err(KeyFault::Ambiguous),
        None => Ok(value),
    }
}

/// In words that fit after "the key is" and "takes the key from".
impl KeyRule {
    /// The rule, with the route's hash tag, as one text: equal exactly for rules that find the same
    /// key in every request. It is part of what nodes agree on, and never changes.
    #[must_use]
    pub fn canonical(&self, hash_tag: Option<HashTag>) -> String {
        let mut text = match self {
            Self::Path => "path".to_owned(),
            Self::PathAfter(prefix) => format!("path_after {prefix}"),
            Self::PathSegment(number) => format!("path_segment {number}"),
            Self::Header(name) => format!("header {}", name.as_str()),
            Self::Query(name) => format!("query {}", name.as_str()),
            Self::Cookie(name) => format!("cookie {}", name.as_str()),
            Self::PathRegex(Capture { pattern, template, otherwise }) => {
                let otherwise = match otherwise {
                    Otherwise::Path => "path",
                    Otherwise::Refuse => "refuse",
                };
                format!("path_regex {pattern} use {} otherwise {otherwise}", template.as_str())
            }
        };
        if let Some((open, close)) = hash_tag.map(HashTag::delimiters) {
            text.push_str(" hash_tag ");
            text.extend([open, close]);
        }
        text
    }

    /// Whether the path alone decides: then one object cannot have two places.
    #[must_use]
    pub fn is_of_path(&self) -> bool {
        match self {
            Self::Path | Self::PathAfter(_) | Self::PathSegment(_) | Self::PathRegex(_) => true,
            Self::Header(_) | Self::Query(_) | Self::Cookie(_) => false,
        }
    }
}

impl fmt::Display for KeyRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path => f.write_str("the whole path"),
            Self::PathAfter(prefix) => write!(f, "the path after `{prefix}`"),
            Self::PathSegment(number) => write!(f, "segment {number} of the path"),
            Self::Header(name) => write!(f, "the field `{name}`"),
            Self::Query(name) => write!(f, "the query parameter `{name}`"),
            Self::Cookie(name) => write!(f, "the cookie `{name}`"),
            Self::PathRegex(Capture { pattern, template, otherwise }) => {
                write!(f, "`{}` of a path like `{pattern}`", template.as_str())?;
                match otherwise {
                    Otherwise::Path => f.write_str(" (the whole path if it does not match)"),
                    Otherwise::Refuse => Ok(()),
                }
            }
        }
    }
}
