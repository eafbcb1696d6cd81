//! Which requests does a route take?

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::names::{FieldName, Methods};
use super::pattern::Pattern;
use super::prefix::PathPrefix;
use super::request::RequestView;

/// The conditions under which a route takes a request; all of them must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteMatch {
    /// The host that the request names.
    pub host: HostPattern,
    /// How its path begins.
    pub path_prefix: PathPrefix,
    /// What its canonical path matches besides.
    pub path_regex: Option<Pattern>,
    /// The methods it may have.
    pub methods: Methods,
    /// The fields it must have.
    pub fields: Vec<FieldMatch>,
}

/// Takes every request.
impl Default for RouteMatch {
    fn default() -> Self {
        Self {
            host: HostPattern::Any,
            path_prefix: PathPrefix::root(),
            path_regex: None,
            methods: Methods::default(),
            fields: Vec::new(),
        }
    }
}

impl RouteMatch {
    /// Whether `request` meets every condition.
    #[must_use]
    pub fn matches(&self, request: &RequestView<'_>) -> bool {
        // Cheap conditions stand before dear ones.
        self.path_prefix.strip(request.path).is_some()
            && self.methods.contains(request.method)
            && self.host.matches(request.host)
            && self.fields.iter().all(|field| field.matches(request))
            && self.path_regex.as_ref().is_none_or(|pattern| pattern.is_match(request.path))
    }

    /// Whether every request that `other` takes is surely taken by this one too, so that a route
    /// with `other` after this one is never reached.
    ///
    /// `false` says nothing: whether one regular expression covers another is not looked into.
    #[must_use]
    pub fn covers(&self, other: &RouteMatch) -> bool {
        self.path_prefix.covers(&other.path_prefix)
            && self.methods.covers(&other.methods)
            && self.host.covers(&other.host)
            && self.fields.iter().all(|own| other.fields.iter().any(|field| own.covers(field)))
            && (self.path_regex.is_none() || self.path_regex == other.path_regex)
    }
}

/// In words that fit after "requests".
impl fmt::Display for RouteMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            HostPattern::Any => f.write_str("to any host")?,
            host => write!(f, "to host `{host}`")?,
        }
        if self.path_prefix != PathPrefix::root() {
            write!(f, ", path under `{}`", self.path_prefix)?;
        }
        if let Some(pattern) = &self.path_regex {
            write!(f, ", path like `{pattern}`")?;
        }
        if !self.methods.is_any() {
            write!(f, ", method {}", self.methods)?;
        }
        self.fields.iter().try_for_each(|field| write!(f, ", {field}"))
    }
}

/// A set of hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPattern {
    /// Every host, also none: `*`.
    Any,
    /// Every host below a name, at any depth, but not the name itself: `*.example.org`. Kept with
    /// its dot: `.example.org`.
    Below(Box<str>),
    /// One name or address.
    One(Box<str>),
}

/// Why a text is not a set of hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Routes look at the host's name alone.
    #[error("a host is written without its port")]
    Port,
    /// `*` stands for a whole beginning of a name.
    #[error("`*` stands alone or as the first label, as in `*.example.org`")]
    Star,
    /// No host can be called that.
    #[error(
        "a host is a name such as `cache.example.org`, an address such as `192.0.2.1` or `[2001:db8::1]`"
    )]
    NotAHost,
}

impl HostPattern {
    /// Reads `*`, `*.example.org`, `example.org`, `192.0.2.1` or `[2001:db8::1]`.
    ///
    /// # Errors
    /// [`HostError`] when `text` can match no request.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let text = text.to_ascii_lowercase();
        if let Some(address) = text.strip_prefix('[') {
            let (address, after) = address.split_once(']').ok_or(HostError::NotAHost)?;
            let address: Ipv6Addr = address.parse().map_err(|_| HostError::NotAHost)?;
            return match after {
                "" => Ok(Self::One(format!("[{address}]").into())),
                port if port.starts_with(':') => Err(HostError::Port),
                _ => Err(HostError::NotAHost),
            };
        }
        if let Some((host, port)) = text.rsplit_once(':')
            && !host.contains(':')
            && port.bytes().all(|byte| byte.is_ascii_digit())
        {
            return Err(HostError::Port);
        }
        let name = text.strip_suffix('.').unwrap_or(&text);
        if let Some(parent) = name.strip_prefix('*') {
            let below = parent.strip_prefix('.').ok_or(HostError::Star)?;
            return match check_name(below) {
                Ok(()) => Ok(Self::Below(parent.into())),
                Err(error) => Err(error),
            };
        }
        check_name(name)?;
        Ok(Self::One(name.into()))
    }

    /// Whether `host`, in lower case and without its port, is in the set. The dot that may end a
    /// full name is not looked at.
    #[must_use]
    pub fn matches(&self, host: &[u8]) -> bool {
        let bare = || host.strip_suffix(b".").unwrap_or(host);
        match self {
            Self::Any => true,
            Self::Below(parent) => {
                let name = bare();
                name.len() > parent.len() && name.ends_with(parent.as_bytes())
            }
            Self::One(name) => bare() == name.as_bytes(),
        }
    }

    /// Whether every host of `other` is in this set.
    #[must_use]
    pub fn covers(&self, other: &HostPattern) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (_, Self::Any) | (Self::One(_), Self::Below(_)) => false,
            (Self::Below(own), Self::Below(other)) => other.ends_with(&**own),
            (_, Self::One(name)) => self.matches(name.as_bytes()),
        }
    }
}

fn check_name(name: &str) -> Result<(), HostError> {
    if name.contains('*') {
        return Err(HostError::Star);
    }
    let label_is_plain = |label: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        !label.is_empty() && label.bytes().all(plain)
    };
    let is_name = name.len() <= 253 && name.split('.').all(label_is_plain);
    // A name of digits and dots can only be meant as an address.
    let like_address = name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if !is_name || (like_address && name.parse::<Ipv4Addr>().is_err()) {
        return Err(HostError::NotAHost);
    }
    Ok(())
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Below(parent) => write!(f, "*{parent}"),
            Self::One(name) => f.write_str(name),
        }
    }
}

/// A field that a request must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldMatch {
    /// The field's name.
    pub name: FieldName,
    /// What its value must be.
    pub value: FieldValue,
}

/// What the value of a field must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldValue {
    /// Whatever it is.
    Any,
    /// Exactly this; of several fields with the name one must have it.
    Exactly(Box<str>),
}

impl FieldMatch {
    fn matches(&self, request: &RequestView<'_>) -> bool {
        let mut values = (0..).map_while(|nth| request.fields.nth(self.name.as_str(), nth));
        match &self.value {
            FieldValue::Any => values.next().is_some(),
            FieldValue::Exactly(wanted) => values.any(|value| value == wanted.as_bytes()),
        }
    }

    fn covers(&self, other: &FieldMatch) -> bool {
        self.name == other.name && (self.value == FieldValue::Any || self.value == other.value)
    }
}

impl fmt::Display for FieldMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            FieldValue::Any => write!(f, "with a field `{}`", self.name),
            FieldValue::Exactly(value) => write!(f, "with `{}: {value}`", self.name),
        }
    }
}
