//! What value has a parameter of the query, or a cookie?
//!
//! Both are lists of `name=value` in which a name may stand twice. Two different values leave it
//! to each server which one it takes, so they are refused; the same value twice is harmless.

use std::borrow::Cow;

use crate::key::canonical_component;

use super::key_rule::KeyFault;
use super::names::{CookieName, ParameterName};
use super::request::RequestView;

/// The canonical form of the value that the parameter `name` has in `query`. It is borrowed from
/// the query if it stands there in that form, and put into `scratch` otherwise.
///
/// Parameters are separated by `&`, and `+` is a plus sign as in RFC 3986: what a form means by it
/// is between client and shard, and a blank in two spellings only costs a cache a second copy.
pub(super) fn parameter<'a>(
    query: &'a [u8],
    name: &ParameterName,
    scratch: &'a mut Vec<u8>,
) -> Result<&'a [u8], KeyFault> {
    let mut found: Option<Cow<'a, [u8]>> = None;
    for pair in query.split(|&byte| byte == b'&') {
        let (own, value) = split_once(pair, b'=').unwrap_or((pair, &[]));
        // A name that has no canonical form is another name.
        if !canonical_component(own).is_ok_and(|own| *own == *name.as_str().as_bytes()) {
            continue;
        }
        let value = canonical_component(value)?;
        if found.as_ref().is_some_and(|first| *first != value) {
            return Err(KeyFault::Ambiguous);
        }
        found = Some(value);
    }
    match found.ok_or(KeyFault::Missing)? {
        Cow::Borrowed(value) => Ok(value),
        Cow::Owned(value) => {
            *scratch = value;
            Ok(scratch)
        }
    }
}

/// The value of the cookie `name`, byte for byte (RFC 6265, section 4.1.1: a value is opaque).
///
/// Several `Cookie` fields count as one, since HTTP/2 lets clients split it.
pub(super) fn cookie<'a>(
    request: &RequestView<'a>,
    name: &CookieName,
) -> Result<&'a [u8], KeyFault> {
    let fields = request.fields;
    let lines = (0..).map_while(|nth| fields.nth("cookie", nth));
    let mut found: Option<&[u8]> = None;
    for pair in lines.flat_map(|line| line.split(|&byte| byte == b';')) {
        let Some((own, value)) = split_once(pair, b'=') else { continue };
        if own.trim_ascii() != name.as_str().as_bytes() {
            continue;
        }
        let value = value.trim_ascii();
        if found.is_some_and(|first| first != value) {
            return Err(KeyFault::Ambiguous);
        }
        found = Some(value);
    }
    found.ok_or(KeyFault::Missing)
}

fn split_once(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(separator, text)?;
    Some((&text[..at], &text[at + 1..]))
}
