//! Which pool does a request belong to, and which of its bytes are the key?
//!
//! A [`RouteTable`] holds the routes of the configuration in file order; the first whose
//! [`RouteMatch`] holds wins ([`RouteTable::find`]). The route's [`KeyRule`] then names the bytes
//! that are hashed ([`RouteTable::key_of`]): the whole path unless something else was asked for,
//! and of these only what stands in the hash tag if there is one.
//!
//! First match in file order, and not the most specific match as in some peers: the order is
//! visible in the file, needs no rule of precedence between hosts, prefixes, methods and fields,
//! and what can never be reached is found beforehand ([`RouteMatch::covers`]).
//!
//! Invariants:
//!
//! 1. Every part of a [`RouteSpec`] is valid from its construction on (names are tokens, regular
//!    expressions compile, templates name groups that exist), so that compiling a table can fail
//!    only for what concerns two routes.
//! 2. Paths arrive in the canonical form of [`crate::key`]. Prefixes are brought to that form when
//!    they are parsed, query parameters when they are compared, so that two spellings of one key
//!    are one key. Regular expressions see the canonical form and must be written for it: a brace
//!    or a letter beyond ASCII is `%` and two digits there.
//! 3. The key of a request depends on the request and its route alone: a key that is absent, empty
//!    or given twice is an error, never a guess, since a guess sends one object to two shards.
//! 4. The catch-all route allocates nothing and runs no regular expression.
//!
//! This room does not decide what is answered: `proxy` turns a [`KeyError`] into 400 and a method
//! that [`RouteSpec::allowed_methods`] leaves out into 405.

mod digest;
#[cfg(test)]
mod fuzz;
mod key_rule;
mod matcher;
mod names;
mod pattern;
mod prefix;
mod query;
mod request;
mod table;
#[cfg(test)]
mod tests;

pub use key_rule::{Capture, KeyError, KeyFault, KeyRule, Otherwise, SegmentNumber};
pub use matcher::{FieldMatch, FieldValue, HostError, HostPattern, RouteMatch};
pub use names::{
    CookieName, FieldName, Method, MethodError, Methods, NotAToken, ParameterName,
    ParameterNameError,
};
pub use pattern::{Pattern, PatternError, Template, TemplateError};
pub use prefix::{PathPrefix, PathPrefixError};
pub use request::{Fields, RequestView};
pub use table::{ROUTES_MAX, RouteIx, RouteSpec, RouteTable, RouteTableError};
