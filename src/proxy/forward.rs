//! What of a request goes on to a shard?
//!
//! The fields are rendered once, before a shard is chosen. What concerns only the client's hop
//! stays here (RFC 9110, section 7.6.1), as does what only Ringway reads; the rest is copied line
//! by line, in order, spelled as it came.

use std::io::Write;
use std::net::IpAddr;

use super::client::Caller;
use super::problem::Problem;
use super::seam::Version;
use super::site::{ForwardedRule, Site};
use super::traces::Part;
use crate::key::canonical_path;
use crate::net::http1::head::{Field, FieldKind, Lines, values, write_address, write_field};
use crate::net::http1::request::{RequestHead, strip_scheme};
use crate::protocol::health::Class;
use crate::route::Fields;

/// Methods that change nothing (RFC 9110, section 9.2.1, and the registry): they may be answered
/// by whichever shard can. TRACE is refused before.
const SAFE: [&[u8]; 6] = [b"GET", b"HEAD", b"OPTIONS", b"PROPFIND", b"REPORT", b"SEARCH"];

/// Which health counts for a method.
#[must_use]
pub fn class_of(method: &[u8]) -> Class {
    if SAFE.contains(&method) { Class::Read } else { Class::Write }
}

/// Whether sending a request twice does what sending it once does. A condition makes a write
/// unrepeatable: its own first success may be what makes it false.
#[must_use]
pub fn is_repeatable(method: &[u8], whole: &[u8], fields: &[Field]) -> bool {
    if class_of(method) == Class::Read {
        return true;
    }
    let conditional = fields.iter().any(|field| {
        let name = field.name.of_bytes(whole);
        [&b"if-match"[..], b"if-none-match", b"if-unmodified-since", b"if"]
            .iter()
            .any(|condition| name.eq_ignore_ascii_case(condition))
    });
    matches!(method, b"PUT" | b"DELETE") && !conditional
}

/// A head's fields as routes look at them.
pub(super) struct HeadFields<'a> {
    pub(super) whole: &'a [u8],
    pub(super) fields: &'a [Field],
}

impl Fields for HeadFields<'_> {
    fn nth(&self, name: &str, nth: usize) -> Option<&[u8]> {
        values(self.whole, self.fields, name).nth(nth)
    }
}

/// Checks the fields that are Ringway's own; gives the level that is asked for.
///
/// # Errors
/// A [`Problem`] for a field that requests do not have, or for two levels.
pub(super) fn check_own_fields(
    head: &RequestHead,
    whole: &[u8],
) -> Result<Option<String>, Problem> {
    let mut level = None;
    for field in head.fields().iter().filter(|field| field.kind == FieldKind::Ringway) {
        let name = String::from_utf8_lossy(field.name.of_bytes(whole));
        let value = field.value.of_bytes(whole);
        if !name.eq_ignore_ascii_case("Ringway-Consistency") {
            return Err(Problem::reserved_field(&name));
        }
        let value = String::from_utf8_lossy(value).into_owned();
        if level.replace(value).is_some() {
            let detail = "`Ringway-Consistency` is given twice: name one level";
            return Err(Problem::kept_request("bad-level", detail));
        }
    }
    Ok(level)
}

/// How many hops an OPTIONS request may still go (RFC 9110, section 7.6.2); `None` for any number,
/// and for other methods, to which the field means nothing.
pub(super) fn hops_left(head: &RequestHead, whole: &[u8]) -> Option<u64> {
    if head.method(whole) != b"OPTIONS" {
        return None;
    }
    let field = head.fields().iter().find(|field| field.kind == FieldKind::MaxForwards)?;
    std::str::from_utf8(field.value.of_bytes(whole)).ok()?.parse().ok()
}

/// How a request came to this node.
pub(super) struct Hop<'a> {
    /// Who sent it.
    pub(super) caller: Caller,
    /// In which version.
    pub(super) version: Version,
    /// What is done with its trace; `None` if that is left alone.
    pub(super) part: Option<&'a Part>,
}

/// Which fields that name resources go on as they came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keep {
    /// `Destination`.
    pub(super) destination: bool,
    /// `If`.
    pub(super) condition: bool,
}

/// Renders the fields that go on, but for `Host` and the framing. `keep` says which fields of
/// WebDAV are not written anew for each shard. Gives the value of the `If` that was left out.
///
/// # Errors
/// [`Problem`] if `If` stands twice: it is no list (RFC 4918, section 10.4), and what two of them say
/// together each server decides for itself.
pub(super) fn render_fields<'w>(
    out: &mut Vec<u8>,
    head: &RequestHead,
    whole: &'w [u8],
    site: &Site,
    hop: &Hop<'_>,
    keep: Keep,
) -> Result<Option<&'w [u8]>, Problem> {
    let append = site.forwarded == ForwardedRule::Append;
    let (x_forwarded, forwarded) = (site.forwarded_fields.x(), site.forwarded_fields.standard());
    let caller = hop.caller;
    // What is there already, or is not wanted.
    let mut forwarded_for = !x_forwarded;
    let (mut proto, mut host) = (!x_forwarded, !x_forwarded);
    let mut element = !forwarded;
    let (mut condition, mut conditions) = (None, 0);
    let mut lines = Lines::of(whole);
    for field in head.fields().iter().filter(|field| !field.nominated) {
        match field.kind {
            FieldKind::Connection
            | FieldKind::HopByHop
            | FieldKind::Te
            | FieldKind::ContentLength
            | FieldKind::TransferEncoding
            | FieldKind::Host
            | FieldKind::Expect
            | FieldKind::Ringway
            | FieldKind::Lookalike => continue,
            FieldKind::ForwardedFor
            | FieldKind::ForwardedProto
            | FieldKind::ForwardedHost
            | FieldKind::Forwarded
                if !append =>
            {
                continue;
            }
            // Several lines are one list; ours ends it.
            FieldKind::ForwardedFor if x_forwarded => {
                if !forwarded_for {
                    lines.flush(out);
                    write_list(out, head, whole, (FieldKind::ForwardedFor, X_FORWARDED_FOR));
                    write_address(out, caller.address);
                    out.extend_from_slice(b"\r\n");
                }
                forwarded_for = true;
                continue;
            }
            FieldKind::Forwarded if forwarded => {
                if !element {
                    lines.flush(out);
                    write_list(out, head, whole, (FieldKind::Forwarded, FORWARDED));
                    write_element(out, caller, head.host(whole), &site.forwarded_by);
                }
                element = true;
                continue;
            }
            FieldKind::ForwardedProto => proto = true,
            FieldKind::ForwardedHost => host = true,
            FieldKind::MaxForwards if let Some(hops) = hops_left(head, whole) => {
                lines.flush(out);
                write!(out, "Max-Forwards: {}\r\n", hops.saturating_sub(1))
                    .expect("a vector takes all");
                continue;
            }
            FieldKind::Destination if !keep.destination => continue,
            FieldKind::If => {
                conditions += 1;
                if conditions > 1 {
                    return Err(Problem::two_conditions());
                }
                if !keep.condition {
                    condition = Some(field.value.of_bytes(whole));
                    continue;
                }
            }
            FieldKind::EndToEnd
                if hop.part.is_some_and(|part| part.replaces(field.name.of_bytes(whole))) =>
            {
                continue;
            }
            _ => {}
        }
        lines.push(out, field);
    }
    lines.flush(out);
    if !forwarded_for {
        write_name(out, X_FORWARDED_FOR);
        write_address(out, caller.address);
        out.extend_from_slice(b"\r\n");
    }
    if !proto {
        write_field(out, b"X-Forwarded-Proto", caller.scheme().as_bytes());
    }
    if !host && !head.host(whole).is_empty() {
        write_field(out, b"X-Forwarded-Host", head.host(whole));
    }
    if !element {
        write_name(out, FORWARDED);
        write_element(out, caller, head.host(whole), &site.forwarded_by);
    }
    write_via(out, hop.version, &site.via);
    Ok(condition)
}

const X_FORWARDED_FOR: &[u8] = b"X-Forwarded-For";
const FORWARDED: &[u8] = b"Forwarded";

fn write_name(out: &mut Vec<u8>, name: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
}

/// `Via` names the version in which the message was *received* (RFC 9110, section 7.6.3).
fn write_via(out: &mut Vec<u8>, version: Version, by: &[u8]) {
    out.extend_from_slice(b"Via: ");
    out.extend_from_slice(version.number().as_bytes());
    out.push(b' ');
    out.extend_from_slice(by);
}

/// Writes what the head's fields of one kind say, as the beginning of one line.
fn write_list(
    out: &mut Vec<u8>,
    head: &RequestHead,
    whole: &[u8],
    (kind, name): (FieldKind, &[u8]),
) {
    write_name(out, name);
    for field in head.fields().iter().filter(|field| field.kind == kind) {
        out.extend_from_slice(field.value.of_bytes(whole));
        out.extend_from_slice(b", ");
    }
}

/// Ends a line of `Forwarded` with what this node saw (RFC 7239, section 4). An IPv6 address has
/// brackets and therefore quotes (section 6); so has a host, in which `:` may stand. `by` is a
/// name of ours after an underscore, which names a node without giving its address away (section
/// 6.3).
fn write_element(out: &mut Vec<u8>, caller: Caller, host: &[u8], by: &[u8]) {
    let (before, behind) = match caller.address {
        IpAddr::V4(_) => (&b"for="[..], &b""[..]),
        IpAddr::V6(_) => (&b"for=\"["[..], &b"]\""[..]),
    };
    out.extend_from_slice(before);
    write_address(out, caller.address);
    out.extend_from_slice(behind);
    if !host.is_empty() {
        out.extend_from_slice(b";host=\"");
        for &byte in host {
            if matches!(byte, b'"' | b'\\') {
                out.push(b'\\');
            }
            out.push(byte);
        }
        out.push(b'"');
    }
    out.extend_from_slice(b";proto=");
    out.extend_from_slice(caller.scheme().as_bytes());
    out.extend_from_slice(by);
}

/// Who is counted as the client. Where all clients are proxies of the operator's own
/// (`forwarded: append`), that is who asked the last of them: the last address that such a proxy
/// has appended. Elsewhere it is the connection's address, whatever the fields say, since anybody
/// can write them.
pub(super) fn asking_client(
    head: &RequestHead,
    whole: &[u8],
    site: &Site,
    caller: Caller,
) -> IpAddr {
    if site.forwarded == ForwardedRule::Replace {
        return caller.address;
    }
    let value = |kind| {
        let field = head.fields().iter().rev().find(|field| field.kind == kind)?;
        std::str::from_utf8(field.value.of_bytes(whole)).ok()
    };
    // Only the field that the proxies are said to write: the other may be the client's own.
    let address = || match site.forwarded_fields.x() {
        true => address_of(value(FieldKind::ForwardedFor)?.rsplit(',').next()?.trim()),
        false => {
            let element = unquoted(value(FieldKind::Forwarded)?, ',').last()?;
            let mut pairs = unquoted(element, ';').filter_map(|pair| pair.split_once('='));
            let (_, node) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
            address_of(node.trim().trim_matches('"'))
        }
    };
    address().unwrap_or(caller.address)
}

/// The parts between separators that do not stand in a quoted string (RFC 9110, section 5.6.4).
fn unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c: char| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => return c == separator && !quoted,
        }
        false
    })
}

/// An address, with or without a port; one of IPv6 may have brackets.
fn address_of(text: &str) -> Option<IpAddr> {
    let bracketed = || text.strip_prefix('[')?.split(']').next()?.parse().ok();
    let with_port = || text.rsplit_once(':')?.0.parse().ok();
    text.parse().ok().or_else(bracketed).or_else(with_port)
}

/// The canonical path of WebDAV's `Destination` (RFC 4918, section 10.3): an absolute URL of the
/// host that was asked, or a path.
///
/// # Errors
/// A [`Problem`] when it is neither.
pub(super) fn destination_path(value: &[u8], host: &[u8]) -> Result<Vec<u8>, Problem> {
    let path = match value.first() {
        // `//host/path` is a reference to another host (RFC 3986, section 4.2).
        Some(b'/') if !value.starts_with(b"//") => value,
        _ => {
            let rest = strip_scheme(value).ok_or_else(Problem::bad_destination)?;
            let (authority, path) = rest.split_at(memchr::memchr(b'/', rest).unwrap_or(rest.len()));
            if !authority.eq_ignore_ascii_case(host) {
                return Err(Problem::bad_destination());
            }
            path
        }
    };
    if path.contains(&b'?') {
        return Err(Problem::bad_destination());
    }
    let path = canonical_path(path).map_err(|error| Problem::of_key(&error))?;
    Ok(path.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn via_has_the_version_of_the_client() {
        for (version, line) in [
            (Version::Http10, "Via: 1.0 n (ringway)\r\n"),
            (Version::Http11, "Via: 1.1 n (ringway)\r\n"),
            (Version::Http2, "Via: 2.0 n (ringway)\r\n"),
        ] {
            let mut out = Vec::new();
            write_via(&mut out, version, b"n (ringway)\r\n");
            assert_eq!(String::from_utf8(out).as_deref(), Ok(line));
        }
    }

    #[test]
    fn an_element_is_quoted_where_it_must_be() {
        let element = |address: &str, secure, host: &str| {
            let address = address.parse().expect("an address");
            let mut out = Vec::new();
            write_element(&mut out, Caller { address, secure }, host.as_bytes(), b";by=_n1\r\n");
            String::from_utf8(out).expect("text")
        };
        for (address, secure, host, expected) in [
            ("192.0.2.1", false, "a.example", "for=192.0.2.1;host=\"a.example\";proto=http"),
            ("192.0.2.1", true, "a:81", "for=192.0.2.1;host=\"a:81\";proto=https"),
            ("2001:db8::1", false, "[::1]:8", "for=\"[2001:db8::1]\";host=\"[::1]:8\";proto=http"),
            ("192.0.2.1", false, "", "for=192.0.2.1;proto=http"),
            ("192.0.2.1", false, "a\"b\\", "for=192.0.2.1;host=\"a\\\"b\\\\\";proto=http"),
        ] {
            assert_eq!(element(address, secure, host), format!("{expected};by=_n1\r\n"));
        }
    }

    #[test]
    fn addresses_may_have_ports() {
        for (text, expected) in [
            ("192.0.2.1", Some("192.0.2.1")),
            ("192.0.2.1:80", Some("192.0.2.1")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("[2001:db8::1]:80", Some("2001:db8::1")),
            ("unknown", None),
            ("_hidden", None),
            ("", None),
        ] {
            let expected = expected.map(|text| text.parse().expect("an address"));
            assert_eq!(address_of(text), expected, "{text}");
        }
    }

    #[test]
    fn destinations_are_of_this_host() {
        let path = |value: &str| destination_path(value.as_bytes(), b"h:81").ok();
        for (value, expected) in [
            ("/a", Some("/a")),
            ("/%61", Some("/a")),
            ("http://h:81/a", Some("/a")),
            ("HTTP://H:81/a", Some("/a")),
            ("//h:81/a", None),
            ("http://other/a", None),
            ("http://h:81", None),
            ("/a?b", None),
            ("/a/../b", None),
            ("ftp://h:81/a", None),
            ("", None),
        ] {
            assert_eq!(path(value), expected.map(|path| path.as_bytes().to_vec()), "{value}");
        }
    }
}
