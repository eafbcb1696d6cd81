//! What may be called a method, a field, a cookie, a query parameter?
//!
//! All but the parameter are tokens of RFC 9110, section 5.6.2. A name that no request can bear is
//! refused here, when the file is read, and not met as a route that silently never matches.

use std::fmt;

use crate::key::{self, canonical_component};

fn is_token(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(plain)
}

/// A text that is not a token of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a name in HTTP has only letters, digits and !#$%&'*+-.^_`|~")]
pub struct NotAToken;

/// The name of a field (header) in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldName(Box<str>);

impl FieldName {
    /// Checks `text` and brings it to lower case, since fields are named without regard to case.
    ///
    /// # Errors
    /// [`NotAToken`] when no field can have that name.
    pub fn parse(text: &str) -> Result<Self, NotAToken> {
        if is_token(text) { Ok(Self(text.to_ascii_lowercase().into())) } else { Err(NotAToken) }
    }

    /// The name in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of a cookie; its case matters (RFC 6265).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CookieName(Box<str>);

impl CookieName {
    /// Checks `text`.
    ///
    /// # Errors
    /// [`NotAToken`] when no cookie can have that name.
    pub fn parse(text: &str) -> Result<Self, NotAToken> {
        if is_token(text) { Ok(Self(text.into())) } else { Err(NotAToken) }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of a query parameter in canonical escaped form; its case matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterName(Box<str>);

/// Why a text is not the name of a query parameter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParameterNameError {
    /// Nothing was written.
    #[error("a query parameter has a name")]
    Empty,
    /// The name would end at such a character.
    #[error("the name of a query parameter ends at `=`, `&` and `#`; as data they are %-escaped")]
    Delimiter,
    /// No query may have it as it stands.
    #[error(transparent)]
    Key(#[from] key::KeyError),
}

impl ParameterName {
    /// Brings `text` to canonical form.
    ///
    /// # Errors
    /// [`ParameterNameError`] when no parameter can have that name.
    pub fn parse(text: &str) -> Result<Self, ParameterNameError> {
        if text.is_empty() {
            return Err(ParameterNameError::Empty);
        }
        if text.contains(['=', '&', '#']) {
            return Err(ParameterNameError::Delimiter);
        }
        let canonical = canonical_component(text.as_bytes())?;
        let canonical = std::str::from_utf8(&canonical).expect("the canonical form is ASCII");
        Ok(Self(canonical.into()))
    }

    /// The canonical name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A method of HTTP, such as `GET`; its case matters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Method(Box<str>);

/// Why a text is not a method that can be routed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MethodError {
    /// See [`NotAToken`].
    #[error(transparent)]
    NotAToken(#[from] NotAToken),
    /// `get` is another method than `GET`, and one that nobody sends.
    #[error("methods are written in upper case")]
    LowerCase,
    /// TRACE and CONNECT are answered 405 before any route is looked at.
    #[error("this method is refused by every route")]
    NeverRouted,
}

impl Method {
    /// Checks `text`.
    ///
    /// # Errors
    /// [`MethodError`] when no routed request has that method.
    pub fn parse(text: &str) -> Result<Self, MethodError> {
        if !is_token(text) {
            return Err(NotAToken.into());
        }
        if text.bytes().any(|byte| byte.is_ascii_lowercase()) {
            return Err(MethodError::LowerCase);
        }
        if matches!(text, "TRACE" | "CONNECT") {
            return Err(MethodError::NeverRouted);
        }
        Ok(Self(text.into()))
    }

    /// The method as it stands in a request.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A set of methods; the empty one, its default, holds every method.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Methods(Vec<Method>);

impl Methods {
    /// The set of `methods`, or of every method if there are none.
    #[must_use]
    pub fn new(mut methods: Vec<Method>) -> Self {
        methods.sort();
        methods.dedup();
        Self(methods)
    }

    /// Whether every method is in the set.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `method` is in the set.
    #[must_use]
    pub fn contains(&self, method: &[u8]) -> bool {
        self.0.is_empty() || self.0.iter().any(|one| one.0.as_bytes() == method)
    }

    /// Whether every method of `other` is in this set.
    #[must_use]
    pub fn covers(&self, other: &Methods) -> bool {
        self.is_any() || (!other.is_any() && other.0.iter().all(|one| self.0.contains(one)))
    }

    /// The methods by name; none when every method is in the set.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(Method::as_str)
    }
}

/// As an `Allow` field has it: `GET, HEAD`; `any method` for the set of all.
impl fmt::Display for Methods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_any() {
            return f.write_str("any method");
        }
        for (at, method) in self.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{method}")?;
        }
        Ok(())
    }
}

macro_rules! display_as_str {
    ($($type:ident),+) => { $(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    )+ };
}

display_as_str!(FieldName, CookieName, ParameterName, Method);
